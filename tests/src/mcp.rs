//! An MCP client of both eras: JSON-RPC over HTTP, with nothing between the test and the wire.

use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

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
        Self { http: reqwest::Client::new(), url: url.to_owned(), era, headers: HeaderMap::new() }
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

    /// Sends one request of JSON-RPC.
    pub async fn request(&self, method: &str, params: Value) -> Result<Answer> {
        let mut params = params;
        let mut headers = self.headers.clone();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
            Ok::<_, anyhow::Error>(())
        };
        match self.era {
            Era::Modern => {
                set("mcp-protocol-version", MODERN)?;
                set("mcp-method", method)?;
                if let Some(name) = params.get("name").and_then(Value::as_str) {
                    set("mcp-name", name)?;
                }
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientInfo": {"name": "suite", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
            }
            Era::Legacy if method != "initialize" => set("mcp-protocol-version", LEGACY)?,
            Era::Legacy => (),
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        self.send(Method::POST, headers, body).await
    }

    /// Calls a tool.
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Answer> {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await
    }

    /// Sends `body` as it is, with this client's credential and no header of the protocol.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> Result<Answer> {
        self.send(Method::POST, self.headers.clone(), body).await
    }

    /// Sends a request without a body.
    pub async fn bare(&self, method: Method) -> Result<Answer> {
        self.send(method, self.headers.clone(), "").await
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, &self.url);
        for (name, value) in
            [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]
        {
            if !headers.contains_key(name) {
                request = request.header(name, value);
            }
        }
        let response = request.headers(headers).body(body).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }
}

impl Answer {
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
