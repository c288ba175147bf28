//! An MCP client of both eras: JSON-RPC over HTTP, with nothing between the test and the wire.

use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::events::Events;

/// The newest revision, each request of which stands by itself.
pub const MODERN: &str = "2026-07-28";
/// The last revision that knows `initialize`.
pub const LEGACY: &str = "2025-11-25";

/// Which way the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: `_meta` and the `Mcp-*` headers on each request.
    Modern,
    /// 2025-11-25: plain requests.
    Legacy,
}

/// How the credential travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `Authorization: Bearer`.
    Bearer,
    /// `X-MCP-Session-ID`.
    Header,
    /// The cookie `mcp_session_id`.
    Cookie,
}

/// A client of one MCP endpoint.
#[derive(Debug, Clone)]
pub struct McpClient {
    http: reqwest::Client,
    url: String,
    era: Era,
    headers: HeaderMap,
    id: Value,
    meta: Map<String, Value>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
}

impl McpClient {
    /// A client of `url` without a credential.
    pub fn new(url: &str, era: Era) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
            era,
            headers: HeaderMap::new(),
            id: json!(1),
            meta: Map::new(),
        }
    }

    /// The same, presenting `token` at `door`.
    pub fn with(mut self, door: Door, token: &str) -> Self {
        let (name, value) = match door {
            Door::Bearer => ("authorization", format!("Bearer {token}")),
            Door::Header => ("x-mcp-session-id", token.to_owned()),
            Door::Cookie => ("cookie", format!("mcp_session_id={token}")),
        };
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(&value).expect("tokens are visible ASCII"),
        );
        self
    }

    /// The same with one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("a valid header value"),
        );
        self
    }

    /// The same at another URL: that of a replica.
    pub fn at(mut self, url: &str) -> Self {
        self.url = url.to_owned();
        self
    }

    /// The same, its requests having this id.
    pub fn id(mut self, id: impl Into<Value>) -> Self {
        self.id = id.into();
        self
    }

    /// The same with one more member of `_meta`, or another value of one that is there anyway.
    pub fn meta(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.meta.insert(name.to_owned(), value.into());
        self
    }

    /// The same, able to do what `capabilities` says (2026-07-28).
    pub fn capable(self, capabilities: Value) -> Self {
        self.meta("io.modelcontextprotocol/clientCapabilities", capabilities)
    }

    /// Sends one request of JSON-RPC.
    pub async fn request(&self, method: &str, params: Value) -> Result<Answer> {
        let (headers, body) = self.message(method, params)?;
        Answer::read(self.send(Method::POST, headers, body).await?).await
    }

    /// Sends one request of JSON-RPC and returns with the head of its answer. Dropping that closes the connection.
    pub async fn open(&self, method: &str, params: Value) -> Result<Events> {
        let (headers, body) = self.message(method, params)?;
        Ok(Events::of(self.send(Method::POST, headers, body).await?))
    }

    /// A request as it stands for this client's revision.
    fn message(&self, method: &str, mut params: Value) -> Result<(HeaderMap, String)> {
        let mut headers = self.headers.clone();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            Ok::<_, anyhow::Error>(())
        };
        let mut meta = Map::new();
        match self.era {
            Era::Modern => {
                set("mcp-protocol-version", MODERN)?;
                set("mcp-method", method)?;
                let name = if method == "resources/read" { "uri" } else { "name" };
                if let Some(name) = params.get(name).and_then(Value::as_str) {
                    set("mcp-name", name)?;
                }
                meta.insert("io.modelcontextprotocol/protocolVersion".into(), MODERN.into());
                let info = json!({"name": "suite", "version": "1"});
                meta.insert("io.modelcontextprotocol/clientInfo".into(), info);
                meta.insert("io.modelcontextprotocol/clientCapabilities".into(), json!({}));
            }
            Era::Legacy if method != "initialize" => set("mcp-protocol-version", LEGACY)?,
            Era::Legacy => (),
        }
        meta.extend(self.meta.clone());
        if !meta.is_empty() {
            params["_meta"] = meta.into();
        }
        let body = json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}).to_string();
        Ok((headers, body))
    }

    /// Calls a tool.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Answer> {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await
    }

    /// Sends `body` as it is, with this client's credential and no header of the protocol.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> Result<Answer> {
        Answer::read(self.send(Method::POST, self.headers.clone(), body).await?).await
    }

    /// Sends a request without a body.
    pub async fn bare(&self, method: Method) -> Result<Answer> {
        Answer::read(self.send(method, self.headers.clone(), "").await?).await
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Result<reqwest::Response> {
        let mut request = self.http.request(method, &self.url);
        for (name, value) in
            [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]
        {
            if !headers.contains_key(name) {
                request = request.header(name, value);
            }
        }
        Ok(request.headers(headers).body(body).send().await?)
    }
}

impl Answer {
    /// Reads an answer to its end.
    pub async fn read(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// The body as JSON: as it stands, or the last message of an event stream.
    pub fn json(&self) -> Result<Value> {
        let streamed = self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let text = if streamed {
            self.text.lines().rev().find_map(|line| line.strip_prefix("data:")).unwrap_or_default()
        } else {
            &self.text
        };
        serde_json::from_str(text)
            .with_context(|| format!("{} with a body that is no JSON: {:?}", self.status, self.text))
    }

    /// The `result` of a JSON-RPC response that is one.
    pub fn result(&self) -> Result<Value> {
        let mut message = self.json()?;
        anyhow::ensure!(
            self.status == StatusCode::OK && message["result"].is_object(),
            "expected a result, got {} {message}",
            self.status
        );
        Ok(message["result"].take())
    }

    /// The text of a tool's result, all blocks joined; fails where the call failed.
    pub fn tool_text(&self) -> Result<String> {
        let result = self.result()?;
        anyhow::ensure!(result["isError"] != true, "the tool failed: {result}");
        Ok(text_blocks(&result))
    }

    /// The text of a tool's result with `isError`.
    pub fn tool_error(&self) -> Result<String> {
        let result = self.result()?;
        anyhow::ensure!(result["isError"] == true, "expected the tool to fail: {result}");
        Ok(text_blocks(&result))
    }

    /// The code of a JSON-RPC error.
    pub fn error_code(&self) -> Result<i64> {
        let message = self.json()?;
        message["error"]["code"]
            .as_i64()
            .with_context(|| format!("expected an error, got {} {message}", self.status))
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The text blocks of a `CallToolResult`, joined.
pub fn text_blocks(result: &Value) -> String {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}
