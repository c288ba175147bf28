//! A server that stops answering: a proxy before it that passes everything on, until a client sends certain bytes after
//! it was told to stand still. That connection stays open from then on, and nobody answers on it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// What a connection begins with, after a length, that wants to be encrypted if it can.
pub const TLS: &[u8] = &80_877_103_i32.to_be_bytes();

/// A running proxy, ended when dropped.
#[derive(Debug)]
pub struct Standstill {
    port: u16,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    told: AtomicBool,
    begun: AtomicUsize,
    given_up: AtomicUsize,
}

impl Standstill {
    /// In front of a port of loopback; once told so, a connection stands still when its client sends `words`.
    pub async fn before(server: u16, words: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move {
                    // An error is an end of either side; both see it.
                    let _ = relay(client, server, words, &state).await;
                });
            }
        });
        Ok(Self { port, state, accepting: accepting.abort_handle() })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub fn stand_still(&self) {
        self.state.told.store(true, Ordering::SeqCst);
    }

    /// How many connections have stood still so far.
    pub fn begun(&self) -> usize {
        self.state.begun.load(Ordering::SeqCst)
    }

    /// How many of them their clients have closed.
    pub fn given_up(&self) -> usize {
        self.state.given_up.load(Ordering::SeqCst)
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(mut client: TcpStream, server: u16, words: &[u8], state: &State) -> Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    let (mut asked, mut answered) = (Vec::new(), [0; 8192]);
    loop {
        // PgBouncer takes no start packet in parts.
        asked.reserve(answered.len());
        // What was passed on, less the part in which the words may have begun.
        asked.drain(..asked.len().saturating_sub(words.len() - 1));
        let passed = asked.len();
        tokio::select! {
            read = client.read_buf(&mut asked) => {
                if read? == 0 {
                    return Ok(());
                }
                let told = state.told.load(Ordering::SeqCst);
                if told && asked.windows(words.len()).any(|window| window == words) {
                    break;
                }
                server.write_all(&asked[passed..]).await?;
            }
            read = server.read(&mut answered) => match read? {
                0 => return Ok(()),
                length => client.write_all(&answered[..length]).await?,
            }
        }
    }
    state.begun.fetch_add(1, Ordering::SeqCst);
    let read = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    state.given_up.fetch_add(1, Ordering::SeqCst);
    read?;
    Ok(())
}
