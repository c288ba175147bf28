//! The accept loop: a connection cap, a header timeout, and a drain at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::provider::Provider;
use crate::router::route;

const MAX_CONNECTIONS: usize = 512;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
}

/// # Errors
/// Those of binding: most often the port is in use.
pub async fn listen(address: SocketAddr) -> io::Result<Listener> {
    let tcp = TcpListener::bind(address).await?;
    Ok(Listener { address: tcp.local_addr()?, tcp })
}

impl Listener {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGINT or SIGTERM, then lets open requests finish.
    pub async fn serve(self, provider: Provider) {
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
        let provider = Arc::new(provider);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();

        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&connections).acquire_owned() => permit.expect("never closed"),
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            };
            let stream = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: wait for some to be given back.
                        eprintln!("mcp-dev-idp: cannot accept: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            };
            let provider = Arc::clone(&provider);
            let service = service_fn(move |request| {
                let provider = Arc::clone(&provider);
                async move { route(&provider, request).await }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // A client that goes away in the middle is no news.
                let _gone = connection.await;
                drop(permit);
            });
        }

        drop(self.tcp);
        let _late = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
    }
}
