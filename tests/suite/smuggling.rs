//! Requests that two parsers may read differently, on a bare socket: whatever a proxy made of them, the second request
//! that hides in the first is never served.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::browser::Browser;
use tests::frontend::Frontend;
use tests::idp::stub::StubProvider;
use tests::session::{NewSession, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_27_no_second_request_is_smuggled_in,
        checklist_27_heads_out_of_bounds_are_refused,
        bodies_are_bounded_however_they_come,
    ]
}

/// How long a server may be silent that waits for more than is sent. It is not waited for where it closes.
const SILENCE: Duration = Duration::from_secs(3);

/// Sends `bytes`, and reads what is answered until the server closes or falls silent. The sending side stays open: whoever
/// closed it would not be answered.
async fn exchange(frontend: &Frontend, bytes: &[u8]) -> Result<String> {
    let address = frontend.url();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
    // The server may refuse before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SILENCE, stream.read_to_end(&mut answer)).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status of each answer.
fn statuses(answer: &str) -> Vec<u16> {
    answer.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

async fn checklist_27_no_second_request_is_smuggled_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let auth = database.auth().await?;
    let host = frontend.url().trim_start_matches("http://").to_owned();
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    // What would show: the session has ended.
    let hidden = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    );
    // After it a request that is the last: with it the server closes, if it has not before.
    let last = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let length = hidden.len();
    let head = |lines: &str| {
        format!(
            "POST /mcp/v1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{lines}\r\n\r\n"
        )
    };
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let everything = length + 5;
    let mut cases = Vec::new();
    // Both lengths: one parser ends the body at the last chunk, the other takes the hidden request for a part of it.
    for lines in [
        format!("Content-Length: {everything}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {everything}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 0\r\nContent-Length: {everything}"),
    ] {
        cases.push((lines.clone(), format!("0\r\n\r\n{hidden}")));
        cases.push((lines, format!("{}{hidden}", chunked("{}"))));
    }
    // An encoding that only one of the two recognises.
    for encoding in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\x00",
        "Transfer-Encoding\t: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer_Encoding: chunked",
        "\x0bTransfer-Encoding: chunked",
    ] {
        cases.push((format!("{encoding}\r\nContent-Length: {everything}"), format!("0\r\n\r\n{hidden}")));
    }
    // Lengths that are read as one number or another.
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 2".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: 0, {length}"),
        format!("Content-Length: {length}, 0"),
        "Content-Length: +0".to_owned(),
        "Content-Length: -0".to_owned(),
        "Content-Length: -1".to_owned(),
        "Content-Length: 0x0".to_owned(),
        "Content-Length: 0 0".to_owned(),
        "Content-Length: 0;".to_owned(),
        "Content-Length: 18446744073709551616".to_owned(),
        "Content-Length : 0".to_owned(),
        "Content-Length:".to_owned(),
        "Content-Length: \u{661}".to_owned(),
    ] {
        cases.push((lengths, hidden.clone()));
    }
    // Chunks whose size is read as one number or another, or that end where they should not.
    for chunks in [
        "0x0\r\n\r\n",
        "-0\r\n\r\n",
        "+0\r\n\r\n",
        "0 0\r\n\r\n",
        "\r\n\r\n",
        "g\r\n\r\n",
        "10000000000000000\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}X\r\n0\r\n\r\n",
        "0;a\n\r\n\r\n",
    ] {
        cases.push(("Transfer-Encoding: chunked".to_owned(), format!("{chunks}{hidden}")));
    }
    for (lines, body) in &cases {
        let answer = exchange(&frontend, format!("{}{body}{last}", head(lines)).as_bytes()).await?;
        let said = statuses(&answer);
        // With both lengths the connection ends with the answer (RFC 9112, section 6.1).
        let most = if lines.contains("Content-Length") && lines.contains("Transfer-Encoding: chunked") {
            1
        } else {
            2
        };
        ensure!(said.len() <= most, "{lines:?}, {:?}: answered {said:?}", &body[..10]);
        ensure!(
            status(&auth, &token).await? == "active",
            "{lines:?}, {:?}: the hidden request was served",
            &body[..10]
        );
    }
    // Line ends inside of values, in the head of a request that would be complete without them.
    for value in ["a\r\n\r\n", "a\n\n", "a\r\r", "a\n\r\n", "a\0\r\n\r\n"] {
        let bytes = format!("GET /healthz?x={value}{hidden}{last}");
        exchange(&frontend, bytes.as_bytes()).await?;
        ensure!(status(&auth, &token).await? == "active", "{value:?} in the target");
    }
    // HTTP/2, which is not spoken here, and the way up to it.
    for bytes in [
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}"),
        format!("POST /mcp/v1 HTTP/2.0\r\nHost: {host}\r\n\r\n{hidden}"),
        format!("GET /healthz HTTP/0.9\r\n\r\n{hidden}"),
        format!("GET /healthz\r\n{hidden}"),
        format!(
            "POST /mcp/v1 HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
    ] {
        let answer = exchange(&frontend, bytes.as_bytes()).await?;
        ensure!(statuses(&answer).iter().all(|status| *status >= 400), "{:?}: {answer}", &bytes[..20]);
        ensure!(
            status(&auth, &token).await? == "active",
            "{:?}: the hidden request was served",
            &bytes[..20]
        );
    }
    let upgrade = format!(
        "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    );
    ensure!(
        statuses(&exchange(&frontend, upgrade.as_bytes()).await?) == [200],
        "an upgrade is no matter of ours"
    );
    // The hidden request was one: in the open, it is served.
    let open = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n{hidden}{last}");
    assert_eq!(statuses(&exchange(&frontend, open.as_bytes()).await?), [200, 200, 200]);
    assert_eq!(status(&auth, &token).await?, "revoked");
    Ok(())
}

async fn checklist_27_heads_out_of_bounds_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let host = frontend.url().trim_start_matches("http://").to_owned();
    let get = |target: &str, lines: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n")
    };
    let long = "a".repeat(1 << 20);
    let many: String = (0..1000).map(|number| format!("X-{number}: y\r\n")).collect();
    for (what, bytes, expected) in [
        ("a long value", get("/healthz", &format!("X: {long}\r\n")), &[400, 431][..]),
        ("a long name", get("/healthz", &format!("{long}: x\r\n")), &[400, 431]),
        ("a long target", get(&format!("/healthz?{long}"), ""), &[400, 414, 431]),
        ("many headers", get("/healthz", &many), &[400, 431]),
        ("no name", get("/healthz", ": x\r\n"), &[400]),
        ("a name with a space", get("/healthz", "X y: z\r\n"), &[400]),
        ("a zero in a value", get("/healthz", "X: a\0b\r\n"), &[400]),
        ("two hosts", get("/healthz", "Host: evil.test\r\n"), &[400]),
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        ("another's absolute target", get("http://evil.test/healthz", ""), &[403]),
        (
            "another's absolute target, of the right host by user",
            get(&format!("http://{host}@evil.test/healthz"), ""),
            &[403],
        ),
        ("another scheme", get(&format!("ftp://{host}/healthz"), ""), &[200, 400, 403]),
        ("a target without a slash", get("healthz", ""), &[400, 403, 404]),
        ("a fragment", get("/mcp/v1#/healthz", ""), &[400, 401]),
        (
            "a tunnel",
            format!("CONNECT evil.test:443 HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[400, 403, 404, 405],
        ),
        ("no method", format!(" /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]),
    ] {
        let answer = exchange(&frontend, bytes.as_bytes()).await?;
        let said = statuses(&answer);
        // A server that refuses a megabyte may close before the sender has ended, and the answer is lost on the way.
        let lost = said.is_empty() && bytes.len() > 1 << 16;
        ensure!(lost || said.len() == 1 && expected.contains(&said[0]), "{what}: {said:?}");
        ensure!(!answer.contains("evil.test"), "{what}: {answer}");
    }
    // Whatever was sent, the next one is served.
    let answer = exchange(&frontend, get("/healthz", "").as_bytes()).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.starts_with("HTTP/1.1 200") && body == "ok\n", "{answer}");
    Ok(())
}

async fn bodies_are_bounded_however_they_come(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_MAX_BODY_BYTES", "4096");
    let frontend = StubProvider::start().await?.oidc(settings).start().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
    for (length, expected) in [(4096, 200), (4097, 413)] {
        let body = format!("{ping:<length$}");
        let chunks: String = body
            .as_bytes()
            .chunks(1000)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        for (lines, body) in [
            (format!("Content-Length: {length}"), body.clone()),
            ("Transfer-Encoding: chunked".to_owned(), format!("{chunks}0\r\n\r\n")),
        ] {
            let request = format!(
                "POST /mcp/v1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/json\r\n{lines}\r\n\r\n{body}",
                frontend.url().trim_start_matches("http://"),
                session.token,
            );
            let answer = exchange(&frontend, request.as_bytes()).await?;
            assert_eq!(statuses(&answer), [expected], "{lines}: {answer}");
        }
    }
    Ok(())
}
