//! Load over HTTP: one request at a time on each of a few connections, as pgbench does it over the wire of PostgreSQL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::mcp::MODERN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// The calls to be made.
pub struct Requests {
    /// The MCP endpoint.
    pub url: String,
    /// The tool, called without arguments.
    pub tool: &'static str,
    /// The sessions that take turns; `None` calls without a credential.
    pub tokens: Vec<Option<String>>,
}

impl Requests {
    fn request(&self, number: usize) -> Result<Request<Full<Bytes>>> {
        let url = Url::parse(&self.url)?;
        let body = json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {
        "name": self.tool, "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }}});
        let mut request = Request::post(url.path())
            .header(
                "host",
                format!("{}:{}", url.host_str().context("a host")?, url.port().context("a port")?),
            )
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", "tools/call")
            .header("mcp-name", self.tool);
        if let Some(token) = &self.tokens[number % self.tokens.len()] {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Ok(request.body(Full::new(Bytes::from(body.to_string())))?)
    }
}

async fn connect(url: &str) -> Result<SendRequest<Full<Bytes>>> {
    let url = Url::parse(url)?;
    let stream =
        TcpStream::connect((url.host_str().context("a host")?, url.port().context("a port")?)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Calls a second, over `connections` connections for `time`, after a second to warm up. Every answer must be a result.
pub async fn throughput(requests: &Requests, connections: u32, time: Duration) -> Result<f64> {
    // Requests are made beforehand: what is measured is answering them.
    let prepared = requests.tokens.len().max(1);
    let prepared: Vec<_> = (0..prepared).map(|number| requests.request(number)).collect::<Result<_>>()?;
    let prepared = Arc::new(prepared);
    let warm = Instant::now() + Duration::from_secs(1);
    let end = warm + time;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..connections as usize {
        let mut sender = connect(&requests.url).await?;
        let prepared = prepared.clone();
        workers.spawn(async move {
            let (mut counted, mut number) = (0_u64, worker);
            loop {
                let now = Instant::now();
                if now >= end {
                    return Ok::<u64, anyhow::Error>(counted);
                }
                let request = prepared[number % prepared.len()].clone();
                let first = number == worker;
                number += 1;
                let response = sender.send_request(request).await?;
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
                if first {
                    check(&body)?;
                }
                if now >= warm {
                    counted += 1;
                }
            }
        });
    }
    let mut counted = 0;
    while let Some(done) = workers.join_next().await {
        counted += done??;
    }
    Ok(counted as f64 / time.as_secs_f64())
}

/// The body is a tool's result, plain or as the one event of a stream.
fn check(body: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(body);
    let json = text.lines().rev().find_map(|line| line.strip_prefix("data:")).unwrap_or(&text);
    let message: Value = serde_json::from_str(json).with_context(|| text.clone().into_owned())?;
    ensure!(
        message["result"]["content"].is_array() && message["result"]["isError"] != true,
        "no result: {text}"
    );
    Ok(())
}

/// Opens connections that have been answered once and are then kept alive, doing nothing.
pub async fn idle_connections(url: &str, count: usize) -> Result<Vec<TcpStream>> {
    let url = Url::parse(url)?;
    let (host, port) = (url.host_str().context("a host")?.to_owned(), url.port().context("a port")?);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n").as_bytes()).await?;
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await?;
        ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
        held.push(stream);
    }
    Ok(held)
}
