//! The one HTTP client towards identity providers: no redirects, a total deadline, a cap on every body.

use std::{sync::OnceLock, time::Duration};

use http::StatusCode;
use reqwest::{Client, RequestBuilder, redirect};
use serde::de::DeserializeOwned;

use crate::{
    body::{self, Unread},
    idp::ProviderFault,
};

/// How long one request may take, from connecting to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// The largest discovery document that is read, in bytes.
pub const DISCOVERY_LIMIT: usize = 64 << 10;
/// The largest answer of any other kind that is read, in bytes.
pub const ANSWER_LIMIT: usize = 1 << 20;

/// The client, made at the first sign-in: loading the system's certificates takes longer than starting.
pub fn client() -> Result<&'static Client, ProviderFault> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(DEADLINE)
        .user_agent(concat!("mcp-frontend/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(ProviderFault::Unreachable)?;
    Ok(CLIENT.get_or_init(|| client))
}

/// The status and the whole body of an answer, no longer than `limit`.
pub async fn fetch(request: RequestBuilder, limit: usize) -> Result<(StatusCode, Vec<u8>), ProviderFault> {
    let mut response = request.send().await.map_err(transport)?;
    let body = body::answer(&mut response, limit).await.map_err(|unread| match unread {
        Unread::TooLong => ProviderFault::Garbage(format!("longer than {limit} bytes")),
        Unread::Broken(error) => transport(error),
    })?;
    Ok((response.status(), body))
}

/// The JSON of an answer that must be a 200.
pub async fn fetch_json<T: DeserializeOwned>(
    request: RequestBuilder,
    limit: usize,
) -> Result<T, ProviderFault> {
    let (status, body) = fetch(request, limit).await?;
    if status != StatusCode::OK {
        return Err(ProviderFault::Status(status));
    }
    json(&body)
}

/// Reads JSON; the fault names the place, never the content, which may be a token.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ProviderFault> {
    serde_json::from_slice(body).map_err(|error| {
        ProviderFault::Garbage(format!(
            "{:?} error in JSON, line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    })
}

fn transport(error: reqwest::Error) -> ProviderFault {
    // The URL may carry a code.
    let error = error.without_url();
    if error.is_timeout() {
        ProviderFault::Timeout
    } else if error.is_connect() || error.is_request() {
        ProviderFault::Unreachable(error)
    } else {
        ProviderFault::Garbage("the connection broke".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::chain;

    /// No time passes but the client's own: where everybody waits, the next deadline is there.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_connection_is_given_up_before_the_deadline() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts them, and once there are so many, the kernel takes no more.
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address)).await
        {
            waiting.push(stream);
            assert!(waiting.len() < 64, "the kernel takes any number");
        }
        let start = tokio::time::Instant::now();
        let fault =
            fetch(client().unwrap().get(format!("http://{address}/")), ANSWER_LIMIT).await.unwrap_err();
        assert!(matches!(fault, ProviderFault::Timeout), "{fault:?}");
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_told_from_one_that_breaks_off() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
        for (answer, unreachable) in [("", true), (broken, false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let peer = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let client = Client::new();
            let (fetched, ()) = tokio::join!(fetch(client.get(url), ANSWER_LIMIT), peer);
            let fault = fetched.unwrap_err();
            assert_eq!(matches!(fault, ProviderFault::Unreachable(_)), unreachable, "{fault:?}");
            assert_eq!(matches!(fault, ProviderFault::Garbage(_)), !unreachable, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn faults_tell_neither_addresses_nor_content() {
        // Nobody listens on port 1.
        let request = client().unwrap().get("http://127.0.0.1:1/?code=hush");
        let fault = fetch(request, ANSWER_LIMIT).await.unwrap_err();
        assert!(matches!(fault, ProviderFault::Unreachable(_)), "{fault:?}");
        let text = chain(&fault);
        assert!(!text.contains("hush") && !text.contains("127.0.0.1:1/"), "{text}");
        let fault = json::<u8>(br#""hush""#).unwrap_err();
        assert!(!chain(&fault).contains("hush"), "{fault}");
    }
}
