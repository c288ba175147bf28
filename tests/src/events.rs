//! An answer that is read as it comes: a stream of server-sent events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

/// A part of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A message of JSON-RPC.
    Message(Value),
    /// A line that only keeps the stream alive.
    Comment,
}

/// An answer whose head has come. Dropping it closes the connection.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    unread: Vec<u8>,
}

impl Events {
    /// The events of an answer.
    pub fn of(response: reqwest::Response) -> Self {
        Self { response, unread: Vec::new() }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The HTTP headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Whether the answer is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.headers()
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
    }

    /// The next event within `deadline`; `None` where the stream ends first.
    pub async fn next(&mut self, deadline: Duration) -> Result<Option<Event>> {
        ensure!(self.is_stream(), "{} with no stream of events: {:?}", self.status(), self.headers());
        timeout(deadline, self.read()).await.with_context(|| format!("no event within {deadline:?}"))?
    }

    /// The next message within `deadline`, whatever comments come before it; `None` where the stream ends first.
    pub async fn message(&mut self, deadline: Duration) -> Result<Option<Value>> {
        loop {
            match self.next(deadline).await? {
                Some(Event::Comment) => {}
                Some(Event::Message(message)) => return Ok(Some(message)),
                None => return Ok(None),
            }
        }
    }

    /// All messages up to the stream's end, each within `deadline` of the one before.
    pub async fn messages(&mut self, deadline: Duration) -> Result<Vec<Value>> {
        let mut messages = Vec::new();
        while let Some(message) = self.message(deadline).await? {
            messages.push(message);
        }
        Ok(messages)
    }

    async fn read(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..end + 2).collect();
                return parse(std::str::from_utf8(&event)?).map(Some);
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => {
                    ensure!(self.unread.is_empty(), "the stream ends within an event: {:?}", self.unread);
                    return Ok(None);
                }
            }
        }
    }
}

/// One event. Each message is one line of data: clients that read line by line rely on it.
fn parse(event: &str) -> Result<Event> {
    let lines: Vec<_> = event.lines().filter(|line| !line.is_empty()).collect();
    let data: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("data:")).collect();
    if data.is_empty() {
        ensure!(lines.iter().all(|line| line.starts_with(':')), "neither data nor a comment: {event:?}");
        return Ok(Event::Comment);
    }
    ensure!(data.len() == 1, "a message of {} lines: {event:?}", data.len());
    ensure!(lines.iter().all(|line| !line.starts_with("id:")), "an event with an id: {event:?}");
    let message =
        serde_json::from_str(data[0]).with_context(|| format!("data that is no JSON: {event:?}"))?;
    Ok(Event::Message(message))
}
