//! Applications built on the official MCP clients, driven over loopback: `tests/clients/application.mjs`.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::ledger;
use crate::npm::{self, text};
use crate::process::Process;

/// Which official client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// `@modelcontextprotocol/sdk`.
    First,
    /// `@modelcontextprotocol/client`.
    Second,
}

/// Which protocol it is to speak; the first generation has no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// What the client does by default: `initialize`.
    Legacy,
    /// It asks the server.
    Auto,
    /// 2026-07-28 or nothing.
    Modern,
}

/// A running application.
#[derive(Debug)]
pub struct Application {
    url: String,
    http: reqwest::Client,
    _process: Process,
}

/// What came of something an application did.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It worked, and gave this.
    Value(Value),
    /// The client is unauthorized; the person is to open this URL.
    Unauthorized(String),
    /// It failed in another way.
    Error(String),
}

impl Application {
    /// Starts one that knows nothing but the URL of an MCP server, and where its own metadata document is, if it has
    /// one.
    pub fn start(generation: Generation, choice: Choice, mcp: &str, document: Option<&str>) -> Result<Self> {
        let generation = match generation {
            Generation::First => "v1",
            Generation::Second => "v2",
        };
        let choice = match choice {
            Choice::Legacy => "legacy",
            Choice::Auto => "auto",
            Choice::Modern => "modern",
        };
        let mut arguments = vec!["application.mjs", generation, mcp, choice];
        arguments.extend(document);
        let (process, hello) = npm::serve("clients", &arguments)?;
        Ok(Self { url: text(&hello, "url")?, http: reqwest::Client::new(), _process: process })
    }

    /// Connects the client, anew where it was connected.
    pub async fn connect(&self) -> Result<Outcome> {
        self.ask("/connect", json!({})).await
    }

    /// Lists the tools.
    pub async fn tools(&self) -> Result<Outcome> {
        self.ask("/tools", json!({})).await
    }

    /// Calls a tool.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Outcome> {
        Ok(match self.call_at_once(&[(name, arguments)]).await? {
            Outcome::Value(mut results) => Outcome::Value(results[0].take()),
            other => other,
        })
    }

    /// Calls these tools at the same time.
    pub async fn call_at_once(&self, tools: &[(&str, Value)]) -> Result<Outcome> {
        let tools: Vec<_> =
            tools.iter().map(|(name, arguments)| json!({"name": name, "arguments": arguments})).collect();
        self.ask("/call", json!({ "tools": tools })).await
    }

    /// What the provider of the application has kept: client, tokens, verifier.
    pub async fn kept(&self) -> Result<Value> {
        self.ask("/kept", json!({})).await?.value()
    }

    /// The requests since the last time this was asked, as `POST /mcp/v1 401`.
    pub async fn requests(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.ask("/requests", json!({})).await?.value()?)?)
    }

    async fn ask(&self, door: &str, question: Value) -> Result<Outcome> {
        let answer = self.post(door, question).await?;
        // Whatever was done may have got it something.
        let kept = self.post("/kept", json!({})).await?["value"].take();
        ledger::record_fields("token", &kept["tokens"], &["access_token", "refresh_token"]);
        ledger::record_fields("client's", &kept, &["verifier", "state"]);
        Ok(Outcome::of(answer))
    }

    async fn post(&self, door: &str, question: Value) -> Result<Value> {
        let answer = self.http.post(format!("{}{door}", self.url)).json(&question).send().await?;
        answer.json().await.context("the application answers in JSON")
    }
}

impl Outcome {
    /// Reads what the application answered; its callback answers browsers in the same way.
    pub fn of(mut answer: Value) -> Self {
        if let Some(error) = answer["error"].as_str() {
            return Self::Error(error.to_owned());
        }
        match answer["authorize"].as_str() {
            Some(url) => Self::Unauthorized(url.to_owned()),
            None => Self::Value(answer["value"].take()),
        }
    }

    /// What it gave.
    pub fn value(self) -> Result<Value> {
        match self {
            Self::Value(value) => Ok(value),
            other => bail!("expected it to work, got {other:?}"),
        }
    }

    /// Where the person is to be sent.
    pub fn unauthorized(self) -> Result<String> {
        match self {
            Self::Unauthorized(url) => Ok(url),
            other => bail!("expected the client to be unauthorized, got {other:?}"),
        }
    }
}
