//! A call while it runs: what it says goes to the client that asked for it.
//!
//! Where it says nothing, the answer is one message of JSON. Otherwise the answer becomes a stream of events when the
//! first thing is said. In the modern era, a client that closes the stream ends the call; in the others the call goes on.
//!
//! rmcp has no part in calls: it would read their results into its own model and write them again, which costs a third
//! of the request and rounds every number beyond 64 bits.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{sync::mpsc, time};

use crate::{
    cancellations::{Cancellable, Cancellations, Key},
    error::Fault,
    mcp::{call::Call, envelope::INTERNAL_ERROR, era::Era, rpc_error},
    notices::{Level, Notice},
    respond::Body,
    sessions::Sessions,
    token::SessionToken,
};

/// Proxies close what stays silent for a minute; this is well below it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Messages that wait for the client to read them.
const UNREAD: usize = 16;
/// Where log messages come from, as clients are told.
const LOGGER: &str = "sql";

/// What a call that runs gives.
enum Said {
    /// A message on the way.
    Message(Bytes),
    /// The client has cancelled the call: there is no answer.
    Cancelled,
    Answer(Result<Response<Body>, Fault>),
}

/// Runs a call and answers it.
pub async fn answer(
    sessions: &Arc<Sessions>,
    cancellations: &Cancellations,
    token: &SessionToken,
    client: Option<&str>,
    call: Call<'_>,
) -> Result<Response<Body>, Fault> {
    if call.era == Era::Modern && !call.is_followed() {
        // A client that closes the connection drops this, which cancels the query.
        let answer = sessions.call(token, call.target(), &call.request(), None).await??;
        return call.respond(&answer);
    }
    let call = call.into_owned();
    let id = call.id.clone().map(Cow::into_owned);
    // In the modern era a closed connection says it all.
    let cancellable = id.as_deref().filter(|_| call.era == Era::Legacy).and_then(|id| {
        // As it is read where it is cancelled: texts can be written in many ways.
        let id: Value = serde_json::from_str(id.get()).ok()?;
        Some(cancellations.begin(Key::of(token, client?, &id.to_string())))
    });
    let (sender, mut receiver) = mpsc::channel(UNREAD);
    tokio::spawn(run(sessions.clone(), token.clone(), call, cancellable, sender));
    match receiver.recv().await {
        Some(Said::Answer(answer)) => answer,
        Some(Said::Message(first)) => Ok(Events::new(Some(first), Some(receiver), id).response()),
        // A stream that ends without a message is how no answer looks in HTTP.
        Some(Said::Cancelled) => Ok(Events::new(None, None, id).response()),
        None => Err(Fault::internal("the call panicked")),
    }
}

async fn run(
    sessions: Arc<Sessions>,
    token: SessionToken,
    call: Call<'static>,
    cancellable: Option<Cancellable>,
    sender: mpsc::Sender<Said>,
) {
    let (heard, mut listener) = call.is_followed().then(|| sessions.listen()).unzip();
    let request = call.request();
    let called = sessions.call(&token, call.target(), &request, heard);
    tokio::pin!(called);
    let cancelled = async {
        match &cancellable {
            Some(cancellable) => cancellable.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(cancelled);
    // The message that waits for room. While it does, the call goes on: a client that does not read may hold up its
    // own stream, and no connection to the database.
    let mut waiting = None;
    let answer = loop {
        let said = async {
            match &mut listener {
                Some(listener) => listener.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = &mut called => break answer,
            Some(notice) = said, if waiting.is_none() => waiting = message(&call, notice),
            // A client of the older revisions may have gone while its call goes on.
            room = sender.reserve(), if waiting.is_some() => {
                if let (Some(message), Ok(room)) = (waiting.take(), room) {
                    room.send(Said::Message(message));
                }
            }
            // Dropping the query cancels it.
            () = sender.closed(), if call.era == Era::Modern => return,
            () = &mut cancelled => {
                // Where there is no room, a stream has begun, and its end says as much.
                let _ = sender.try_send(Said::Cancelled);
                return;
            }
        }
    };
    // What it said last was handed on before its answer, and what anybody says now is not heard any more.
    loop {
        if let Some(message) = waiting.take() {
            let _ = sender.send(Said::Message(message)).await;
        }
        let Some(listener) = &mut listener else { break };
        let Some(notice) = listener.next().await else { break };
        waiting = message(&call, notice);
    }
    let answer = match answer {
        Ok(Ok(answer)) => call.respond(&answer),
        Ok(Err(refusal)) => Err(refusal.into()),
        Err(error) => Err(error.into()),
    };
    // Nobody may be waiting any more.
    let _ = sender.send(Said::Answer(answer)).await;
}

/// The notification, if the client wants to know.
fn message(call: &Call<'_>, notice: Notice) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Notification<P> {
        jsonrpc: &'static str,
        method: &'static str,
        params: P,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ProgressParams<'a> {
        progress_token: &'a Value,
        progress: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    }
    #[derive(Serialize)]
    struct MessageParams {
        level: Level,
        logger: &'static str,
        data: String,
    }
    let text = match notice {
        Notice::Progress(progress) => {
            let params = ProgressParams {
                progress_token: call.progress_token.as_ref()?,
                progress: progress.progress,
                total: progress.total,
                message: progress.message,
            };
            serde_json::to_vec(&Notification { jsonrpc: "2.0", method: "notifications/progress", params })
        }
        Notice::Message { level, text } => {
            if level < call.level()? {
                return None;
            }
            let params = MessageParams { level, logger: LOGGER, data: text };
            serde_json::to_vec(&Notification { jsonrpc: "2.0", method: "notifications/message", params })
        }
    };
    text.ok().map(Bytes::from)
}

/// A stream of events: what is said, then the answer, and comments where nothing is said for long.
struct Events {
    first: Option<Bytes>,
    /// `None` after the answer.
    said: Option<mpsc::Receiver<Said>>,
    silence: Pin<Box<time::Sleep>>,
    id: Option<Box<RawValue>>,
}

impl Events {
    fn new(first: Option<Bytes>, said: Option<mpsc::Receiver<Said>>, id: Option<Box<RawValue>>) -> Self {
        Self { first, said, silence: Box::pin(time::sleep(KEEP_ALIVE)), id }
    }

    fn response(self) -> Response<Body> {
        let mut response = Response::new(self.boxed());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        response
    }

    /// The answer's text. Once the stream has begun, a fault is a message like any other.
    fn text(&self, answer: Result<Response<Body>, Fault>) -> Bytes {
        let response = answer.unwrap_or_else(|fault| {
            let data = Some(json!({"error": fault.code}));
            rpc_error(StatusCode::OK, self.id.as_deref(), INTERNAL_ERROR, &fault.public, data)
        });
        // Its body is there as a whole.
        let body = response.into_body().collect().now_or_never();
        body.map_or_else(Bytes::new, |body| body.map_or_else(|never| match never {}, Collected::to_bytes))
    }
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match (self.first.take(), &mut self.said) {
            (Some(first), _) => Some(event(&first)),
            (None, None) => None,
            (None, Some(said)) => match said.poll_recv(context) {
                Poll::Ready(Some(Said::Message(message))) => Some(event(&message)),
                Poll::Ready(Some(Said::Answer(answer))) => {
                    self.said = None;
                    Some(event(&self.text(answer)))
                }
                Poll::Ready(Some(Said::Cancelled) | None) => {
                    self.said = None;
                    None
                }
                Poll::Pending => {
                    std::task::ready!(self.silence.as_mut().poll(context));
                    Some(Bytes::from_static(b":\n\n"))
                }
            },
        };
        self.silence.as_mut().reset(time::Instant::now() + KEEP_ALIVE);
        Poll::Ready(next.map(|event| Ok(Frame::data(event))))
    }
}

/// One event of one line: JSON has no line breaks but escaped ones.
fn event(message: &Bytes) -> Bytes {
    [b"event: message\ndata: ", message.as_ref(), b"\n\n"].concat().into()
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::mcp::envelope::Payload;

    /// The events of a stream, read as browsers read them: a line ends with CR, LF or both.
    fn events(stream: &str) -> Vec<Vec<(String, String)>> {
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        let mut events = vec![Vec::new()];
        for line in lines.split('\n') {
            match line.split_once(':') {
                _ if line.is_empty() => events.push(Vec::new()),
                Some((field, value)) => {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    events.last_mut().unwrap().push((field.to_owned(), value.to_owned()));
                }
                None => events.last_mut().unwrap().push((line.to_owned(), String::new())),
            }
        }
        events.retain(|event| !event.is_empty());
        events
    }

    fn odd() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[\r\n:a-z \u{2028}\u{85}]{0,20}", Just("x\n\ndata: {}\n\n".to_owned())]
    }

    proptest! {
        /// Whatever a tool says, and whatever its client chose to know it by, it is one event.
        #[test]
        fn one_message_is_one_event(text in odd(), token in odd(), progress in any::<f64>(), number: bool) {
            let token = if number { "7".into() } else { Value::from(token) };
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
                {"name": "x", "_meta": {"progressToken": token}}});
            // Spaced as a client may send it.
            let body = serde_json::to_string_pretty(&body).unwrap();
            let Ok(Payload::One(parsed)) = Payload::parse(body.as_bytes()) else { panic!() };
            let meta = crate::mcp::envelope::read(&parsed.params, "_meta").unwrap();
            let call = Call::of(&parsed, Era::Legacy, None, meta);
            let notices = [
                Notice::Progress(crate::notices::Progress { progress, total: None, message: Some(text.clone()) }),
                Notice::Message { level: Level::Warning, text: text.clone() },
            ];
            for (notice, at) in notices.into_iter().zip(["message", "data"]) {
                let stream = event(&message(&call, notice).unwrap());
                let found = events(std::str::from_utf8(&stream).unwrap());
                prop_assert_eq!(found.len(), 1);
                let [(first, kind), (second, data)] = &found[0][..] else { panic!("{found:?}") };
                prop_assert_eq!((first.as_str(), kind.as_str(), second.as_str()), ("event", "message", "data"));
                let read: Value = serde_json::from_str(data).unwrap();
                prop_assert_eq!(&read["params"][at], &text);
                if at == "message" {
                    prop_assert_eq!(&read["params"]["progressToken"], &token);
                }
            }
        }
    }
}
