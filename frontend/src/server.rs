//! Listening: accept, bound, serve, drain.
//!
//! HTTP/1.1 alone. A proxy in front speaks it, and what is not parsed cannot be parsed wrongly.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::{app::Peer, metrics::Metrics, respond::Body};

/// How long a connection may stay idle, or take to send one request head. Longer than the minute that
/// proxies keep idle connections for, so that it is they who close them.
const HEAD: Duration = Duration::from_secs(75);
/// A request head that has not ended by then, in bytes, is refused; what was read last may lie beyond. Identity providers
/// fill headers with tokens of many kilobytes.
const LARGEST_HEAD: usize = 64 << 10;
/// How long a client may take to read anything of an answer that is under way. Nothing is under way of a subscription that
/// is silent.
const WRITE: Duration = Duration::from_secs(60);
/// A pause after a failed accept: out of file descriptors, trying again at once only burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
                          Content-Type: application/json\r\nContent-Length: 67\r\n\r\n\
                          {\"error\":\"overloaded\",\"error_description\":\"Too many connections.\"}\n";

/// Bounds of one listener.
pub struct Limits {
    pub max_connections: usize,
    /// How long requests in progress may take to end, once the listener drains.
    pub grace: Duration,
}

/// How a listener is told to end.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// No new connections; requests in progress may end.
    pub drain: CancellationToken,
    /// Nothing may go on.
    pub cut: CancellationToken,
}

/// Serves `listener` until it is to drain, then until the last request ended, the grace is over, or it is cut. Its
/// connections are counted in `metrics`.
pub async fn serve<H, F>(
    listener: TcpListener,
    limits: Limits,
    metrics: Option<&Metrics>,
    shutdown: Shutdown,
    handler: H,
) where
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = shutdown.drain.cancelled() => break,
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            if let Some(metrics) = metrics {
                metrics.turned_away.inc();
            }
            tokio::spawn(turn_away(stream));
            continue;
        };
        // Answers are small and written whole: waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let connection = graceful.watch(connection(stream, address, handler.clone()));
        let open = metrics.map(|metrics| metrics.connections.clone());
        if let Some(open) = &open {
            open.inc();
        }
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
            if let Some(open) = open {
                open.dec();
            }
            drop(permit);
        });
    }
    // Refuse new connections instead of leaving them to wait for nobody.
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = time::sleep(limits.grace) => tracing::warn!("the grace is over: requests were cut off"),
        () = shutdown.cut.cancelled() => {}
    }
}

fn connection<H, F>(
    stream: TcpStream,
    address: SocketAddr,
    handler: H,
) -> http1::Connection<
    TokioIo<Pin<Box<TimeoutStream<TcpStream>>>>,
    impl hyper::service::HttpService<Incoming, ResBody = Body, Error = std::convert::Infallible, Future: Send>,
>
where
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(Peer { address }, request);
        async move { Ok(answer.await) }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
}

/// Nobody is waited for: so short an answer fits into the socket's buffer.
async fn turn_away(mut stream: TcpStream) {
    // Whoever has gone does not read it.
    if stream.write_all(TOO_MANY).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_ends_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = tokio::spawn(async move {
            let (stream, address) = listener.accept().await.unwrap();
            let answer = |_, _| async { crate::respond::empty(http::StatusCode::OK) };
            let begun = time::Instant::now();
            let ended = connection(stream, address, answer).await;
            (ended.is_err(), begun.elapsed())
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a").await.unwrap();
        // The clock goes on by itself when nothing else can.
        let (refused, elapsed) = time::timeout(HEAD * 2, accepted).await.expect("it stays open").unwrap();
        assert!(refused && elapsed >= HEAD, "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = tokio::spawn(async move {
            let (stream, address) = listener.accept().await.unwrap();
            // More than the two ends of a connection keep of what is not read.
            let answer = |_, _| async {
                crate::respond::text(http::StatusCode::OK, bytes::Bytes::from(vec![b'a'; 64 << 20]))
            };
            let begun = time::Instant::now();
            let ended = connection(stream, address, answer).await;
            (ended.is_err(), begun.elapsed())
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (refused, elapsed) = time::timeout(WRITE * 2, accepted).await.expect("it stays open").unwrap();
        assert!(refused && elapsed >= WRITE, "{elapsed:?}");
    }

    #[tokio::test]
    async fn a_head_is_as_large_as_we_say_and_no_larger() {
        // What is read at once beyond the bound may pass.
        for (filling, expected) in [(60 << 10, "HTTP/1.1 200"), (200 << 10, "HTTP/1.1 431")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (stream, address) = listener.accept().await.unwrap();
                connection(stream, address, |_, _| async { crate::respond::empty(http::StatusCode::OK) })
                    .await
            });
            let mut client = TcpStream::connect(address).await.unwrap();
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(filling));
            // The server may refuse it before it has come.
            let _ = client.write_all(head.as_bytes()).await;
            let mut status = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut client, &mut status).await.unwrap();
            assert_eq!(std::str::from_utf8(&status), Ok(expected), "{filling}");
        }
    }

    /// A server with a request under way that does not end, which begins to drain and lets nobody in any more: how long it
    /// goes on.
    async fn drained(grace: Duration, cut: bool) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, begun) = (Shutdown::default(), Arc::new(tokio::sync::Notify::new()));
        let handler = {
            let begun = begun.clone();
            move |_, _| {
                begun.notify_one();
                std::future::pending()
            }
        };
        let limits = Limits { max_connections: 9, grace };
        let serving = tokio::spawn(serve(listener, limits, None, shutdown.clone(), handler));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        begun.notified().await;
        let since = time::Instant::now();
        shutdown.drain.cancel();
        let mut let_in = 0;
        while TcpStream::connect(address).await.is_ok() {
            let_in += 1;
            assert!(let_in < 100, "it lets others in");
            tokio::task::yield_now().await;
        }
        if cut {
            shutdown.cut.cancel();
        }
        time::timeout(grace + Duration::from_secs(5), serving).await.expect("it goes on").unwrap();
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_within_the_grace_is_cut_off() {
        let grace = Duration::from_secs(20);
        assert_eq!(drained(grace, false).await.as_secs(), grace.as_secs());
    }

    #[tokio::test]
    async fn whoever_is_told_twice_does_not_wait() {
        let ended = drained(Duration::from_secs(3600), true);
        time::timeout(Duration::from_secs(20), ended).await.expect("it waits all the same");
    }

    #[test]
    fn the_canned_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
