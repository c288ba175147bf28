//! The development identity provider as a process: how it starts, whom it serves how long, and how it ends.

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::idp::dev::{DevProvider, client_secret, program};
use tests::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::defences::{connect_to, first_line};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        wrong_settings_are_told_and_nothing_is_served,
        a_port_in_use_is_told,
        it_tells_its_issuer_and_nothing_else,
        a_head_that_does_not_end_is_waited_for_ten_seconds,
        there_are_512_connections_at_once_and_the_next_one_waits,
        an_end_waits_for_requests_that_end_and_for_no_others,
    ]
}

/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
const CALLBACK: &str = "http://127.0.0.1:8080/auth/callback";
const JWKS: &str = "GET /jwks HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// Runs it to its end: its exit status, and all that it wrote.
async fn run(settings: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let program = program(settings)?;
    let output = tokio::task::spawn_blocking(move || program.output());
    let output = tokio::time::timeout(PATIENCE, output).await.context("it does not end")???;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

async fn wrong_settings_are_told_and_nothing_is_served(_: &Shared) -> Result<()> {
    let ended = run(&[
        ("MCP_DEV_IDP_BIND", "0.0.0.0:0"),
        ("MCP_DEV_IDP_CLIENT_ID", ""),
        ("MCP_DEV_IDP_REDIRECT_URIS", "mailto:x"),
    ])
    .await?;
    let told = "\
mcp-dev-idp: MCP_DEV_IDP_BIND=0.0.0.0:0 is refused: this provider signs in anybody, so it listens on loopback alone
mcp-dev-idp: MCP_DEV_IDP_CLIENT_ID is empty
mcp-dev-idp: MCP_DEV_IDP_CLIENT_SECRET must be set, to 16 characters or more
mcp-dev-idp: MCP_DEV_IDP_REDIRECT_URIS: mailto:x is not an http URL without a fragment
";
    assert_eq!(ended, (Some(64), String::new(), told.to_owned()));
    Ok(())
}

async fn a_port_in_use_is_told(_: &Shared) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let bind = taken.local_addr()?.to_string();
    let ended = run(&[("MCP_DEV_IDP_BIND", &bind), ("MCP_DEV_IDP_CLIENT_SECRET", &client_secret())]).await?;
    let why = std::io::Error::from(Errno::EADDRINUSE);
    let told = format!("mcp-dev-idp: cannot listen on {bind}: {why}\n");
    assert_eq!(ended, (Some(1), String::new(), told));
    Ok(())
}

async fn it_tells_its_issuer_and_nothing_else(_: &Shared) -> Result<()> {
    let mut provider = DevProvider::start(CALLBACK).await?;
    let keys: Value = reqwest::get(format!("{}/jwks", provider.issuer())).await?.json().await?;
    ensure!(keys["keys"].as_array().is_some_and(|keys| keys.len() == 1), "{keys}");
    let mut stdout = provider.process().stdout().context("its output is piped")?;
    let status = tokio::task::block_in_place(|| {
        provider.process().signal(Signal::SIGTERM)?;
        provider.process().wait(PATIENCE)
    })?;
    ensure!(status.success(), "{status}");
    let mut told = String::new();
    stdout.read_to_string(&mut told)?;
    assert_eq!(told, format!("mcp-dev-idp: issuer {}\n", provider.issuer()));
    Ok(())
}

/// What comes on a connection until the other side closes it, or breaks it off.
async fn rest(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    // Whatever was read is kept.
    let _broken_off = tokio::time::timeout(PATIENCE, read).await.context("it is not closed")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn a_head_that_does_not_end_is_waited_for_ten_seconds(_: &Shared) -> Result<()> {
    let provider = DevProvider::start(CALLBACK).await?;
    let start = Instant::now();
    let mut stream = connect_to(provider.issuer(), "GET /jwks HTTP/1.1\r\nHost: HOST\r\n").await?;
    assert_eq!(rest(&mut stream).await?, "");
    let waited = start.elapsed();
    ensure!((9..30).contains(&waited.as_secs()), "{waited:?}");
    Ok(())
}

/// Asks something on each of the connections, and reads all of the answers.
async fn all_are_served(connections: &mut [TcpStream]) -> Result<()> {
    let asked = connections.iter_mut().map(async |stream| {
        // Its answer has no body.
        stream.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut answer).await? > 0, "a connection was closed");
        }
        Ok(())
    });
    tokio::time::timeout(PATIENCE, try_join_all(asked)).await.context("not all are served")??;
    Ok(())
}

async fn there_are_512_connections_at_once_and_the_next_one_waits(_: &Shared) -> Result<()> {
    let provider = DevProvider::start(CALLBACK).await?;
    let mut held = Vec::new();
    for _ in 0..512 {
        held.push(connect_to(provider.issuer(), "").await?);
    }
    all_are_served(&mut held).await?;
    let mut next = connect_to(provider.issuer(), JWKS).await?;
    // It is asked before the others are; even if it came last in one round, it would be served by the next.
    for _ in 0..3 {
        all_are_served(&mut held).await?;
    }
    let answered = tokio::time::timeout(Duration::ZERO, next.peek(&mut [0])).await;
    ensure!(answered.is_err(), "{answered:?}");
    held.pop();
    assert_eq!(first_line(&mut next).await?, "HTTP/1.1 200 OK");
    Ok(())
}

/// A request of which the half has come, and which waits for the other.
async fn under_way(provider: &DevProvider) -> Result<TcpStream> {
    let head = "POST /token HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\na";
    let mut stream = connect_to(provider.issuer(), head).await?;
    let line = first_line(&mut stream).await?;
    ensure!(line == "HTTP/1.1 100 Continue", "{line:?}");
    Ok(stream)
}

async fn an_end_waits_for_requests_that_end_and_for_no_others(_: &Shared) -> Result<()> {
    /// How long a request may take that is under way.
    const DRAIN: Duration = Duration::from_secs(3);
    let ends = [Signal::SIGINT, Signal::SIGTERM].map(async |signal| {
        let mut provider = DevProvider::start(CALLBACK).await?;
        let address = provider.issuer().trim_start_matches("http://").to_owned();
        let (mut finished, mut endless) = (under_way(&provider).await?, under_way(&provider).await?);
        let start = Instant::now();
        provider.process().signal(signal)?;
        wait_until("connections to be refused", PATIENCE, || async {
            Ok(TcpStream::connect(&address).await.is_err())
        })
        .await?;
        finished.write_all(b"=").await?;
        let line = rest(&mut finished).await?;
        ensure!(line.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{signal}: {line:?}");
        // No 408 either, which it would get in the end.
        assert_eq!(rest(&mut endless).await?, "", "{signal}");
        let status = tokio::task::block_in_place(|| provider.process().wait(PATIENCE))?;
        ensure!(status.success() && start.elapsed() >= DRAIN, "{signal}: {status} {:?}", start.elapsed());
        anyhow::Ok(())
    });
    try_join_all(ends).await?;
    Ok(())
}
