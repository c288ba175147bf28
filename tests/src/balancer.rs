//! One address in front of many frontends, as a load balancer is in front of replicas.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const NO_PANIC: &str = "nobody panics under this lock";

/// Passes each connection to the next frontend in turn. Ends when dropped.
#[derive(Debug)]
pub struct Balancer {
    url: String,
    ports: Arc<Mutex<Vec<u16>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Starts it on a port of its own, with nothing behind it yet.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
        let ports = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, ports.clone()));
        Ok(Self { url, ports, task })
    }

    /// Its base URL, the public one of what is behind it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on new connections go to these ports of loopback.
    pub fn lead_to(&self, ports: &[u16]) {
        *self.ports.lock().expect(NO_PANIC) = ports.to_vec();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, ports: Arc<Mutex<Vec<u16>>>) {
    let turn = AtomicUsize::new(0);
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let port = {
            let ports = ports.lock().expect(NO_PANIC);
            if ports.is_empty() { None } else { Some(ports[turn % ports.len()]) }
        };
        connections.spawn(async move {
            let Some(port) = port else { return };
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                // An error is an end of either side; both see it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
