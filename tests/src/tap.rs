//! A tap between a program and PostgreSQL: it passes everything on, and when the program is done with a connection it
//! looks into the backend behind it, before that goes, for what the program's calls left there.
//!
//! A pool keeps its connections to itself, so that nobody else can look; and what a call leaves there no later call takes
//! away, so that one look at the end is a look after each of them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::AbortHandle;

use crate::cluster::Cluster;
use crate::hygiene::{IDENTITY, LOOK};
use crate::wait::wait_until;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(20);

const CANCEL: i32 = 80_877_102;
const TLS: i32 = 80_877_103;
const GSSAPI: i32 = 80_877_104;

const NO_PANIC: &str = "nobody panics under this lock";

/// Where a tap leads to.
#[derive(Debug, Clone)]
enum Server {
    /// The loopback port, where logins need their passwords.
    Loopback(u16),
    /// The socket, where nobody is asked for one.
    Socket(PathBuf),
}

/// A listening tap.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    journal: Arc<Journal>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Journal {
    open: AtomicUsize,
    looked: AtomicUsize,
    findings: Mutex<Vec<String>>,
}

impl Tap {
    /// Before the loopback port of `cluster`.
    pub fn loopback(cluster: &Cluster) -> Result<Self> {
        Self::listen(Server::Loopback(cluster.port()))
    }

    /// Before the socket of `cluster`.
    pub fn socket(cluster: &Cluster) -> Result<Self> {
        Self::listen(Server::Socket(cluster.directory().join(format!(".s.PGSQL.{}", cluster.port()))))
    }

    fn listen(server: Server) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = TcpListener::from_std(listener)?;
        let journal = Arc::new(Journal::default());
        let book = Arc::clone(&journal);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                book.open.fetch_add(1, Ordering::SeqCst);
                let (server, book) = (server.clone(), Arc::clone(&book));
                tokio::spawn(async move {
                    match serve(client, server).await {
                        Ok(None) => {}
                        Ok(Some(finding)) => {
                            book.looked.fetch_add(1, Ordering::SeqCst);
                            book.findings.lock().expect(NO_PANIC).extend(finding.left_behind);
                        }
                        // A connection that broke serves nobody after it.
                        Err(_) => {}
                    }
                    book.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { port, journal, accepting: accepting.abort_handle() })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the program has closed every connection, and says what was found in how many of them.
    pub async fn findings(&self) -> Result<(usize, Vec<String>)> {
        let journal = &self.journal;
        wait_until("every connection to be closed", PATIENCE, || async {
            Ok(journal.open.load(Ordering::SeqCst) == 0)
        })
        .await?;
        let findings = std::mem::take(&mut *journal.findings.lock().expect(NO_PANIC));
        Ok((journal.looked.load(Ordering::SeqCst), findings))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A look that was taken.
struct Look {
    left_behind: Option<String>,
}

async fn serve(client: TcpStream, server: Server) -> Result<Option<Look>> {
    client.set_nodelay(true)?;
    match server {
        Server::Loopback(port) => {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            server.set_nodelay(true)?;
            relay(client, server).await
        }
        Server::Socket(path) => relay(client, UnixStream::connect(path).await?).await,
    }
}

/// Passes on what both say until the client is done; then looks, if the server waits for a query.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: TcpStream,
    mut server: S,
) -> Result<Option<Look>> {
    let login = loop {
        let packet = start_packet(&mut client).await?;
        server.write_all(&packet).await?;
        match (&packet[4..8]).get_i32() {
            CANCEL => {
                copy_bidirectional(&mut client, &mut server).await?;
                return Ok(None);
            }
            TLS | GSSAPI => {
                let answer = server.read_u8().await?;
                client.write_u8(answer).await?;
                if answer != b'N' {
                    // From here on nothing can be read.
                    copy_bidirectional(&mut client, &mut server).await?;
                    return Ok(None);
                }
            }
            _ => break parameter(&packet[8..], "user"),
        }
    };
    // Answers ready for a query that the server owes; the first is the one after the login.
    let (mut owed, mut state) = (1_usize, b'I');
    let (mut said, mut answered) = (BytesMut::new(), BytesMut::new());
    let mut parting = false;
    while !parting {
        tokio::select! {
            read = client.read_buf(&mut said) => {
                // Gone without a word, as a killed program is.
                parting = read? == 0;
                let mut onward = BytesMut::new();
                while let Some(message) = next(&mut said) {
                    match message[0] {
                        b'Q' | b'S' | b'F' => owed += 1,
                        b'X' => { parting = true; break; }
                        _ => {}
                    }
                    onward.extend_from_slice(&message);
                }
                server.write_all(&onward).await?;
            }
            read = server.read_buf(&mut answered) => {
                if read? == 0 {
                    client.shutdown().await?;
                    return Ok(None);
                }
                let mut onward = BytesMut::new();
                while let Some(message) = next(&mut answered) {
                    if message[0] == b'Z' {
                        owed = owed.saturating_sub(1);
                        state = message[5];
                    }
                    onward.extend_from_slice(&message);
                }
                client.write_all(&onward).await?;
            }
        }
    }
    // Whoever closes a connection in the middle of something does not put it back into a pool.
    if owed > 0 {
        return Ok(None);
    }
    let look = tokio::time::timeout(PATIENCE, look(&mut server, state))
        .await
        .context("the look took too long")??;
    let left_behind = look.map(|found| format!("{login} left in its connection {found}"));
    Ok(Some(Look { left_behind }))
}

/// What the backend of this idle connection holds, if anything.
async fn look<S: AsyncRead + AsyncWrite + Unpin>(server: &mut S, state: u8) -> Result<Option<String>> {
    if state != b'I' {
        return Ok(Some("an open transaction".to_owned()));
    }
    let held = query(server, LOOK).await?.context("the look was refused")?.context("a look without a row")?;
    if held != "{}" {
        return Ok(Some(held));
    }
    // Refused where the extension is gone, and then nobody can be anybody.
    let identity = query(server, IDENTITY).await?.flatten();
    server.write_all(b"X\0\0\0\x04").await?;
    Ok(identity.map(|user| format!("the identity of {user}")))
}

/// The one value of a query by the simple protocol: none where it is NULL, and none at all where the server refused.
async fn query<S: AsyncRead + AsyncWrite + Unpin>(
    server: &mut S,
    text: &str,
) -> Result<Option<Option<String>>> {
    let mut message = BytesMut::new();
    message.put_u8(b'Q');
    message.put_i32(i32::try_from(text.len() + 5)?);
    message.put_slice(text.as_bytes());
    message.put_u8(0);
    server.write_all(&message).await?;
    let (mut buffer, mut value, mut refused) = (BytesMut::new(), None, false);
    loop {
        while let Some(message) = next(&mut buffer) {
            match message[0] {
                b'D' => {
                    let mut row = &message[5..];
                    ensure!(row.get_i16() == 1, "not one column");
                    let length = row.get_i32();
                    value = match usize::try_from(length) {
                        Ok(length) => Some(String::from_utf8_lossy(&row[..length]).into_owned()),
                        Err(_) => None,
                    };
                }
                b'E' => refused = true,
                b'Z' => return Ok((!refused).then_some(value)),
                _ => {}
            }
        }
        if server.read_buf(&mut buffer).await? == 0 {
            bail!("the server went away");
        }
    }
}

/// A packet of the time before messages have types: length and all.
async fn start_packet(client: &mut TcpStream) -> Result<Bytes> {
    let length = client.read_i32().await?;
    ensure!((8..=10_000).contains(&length), "a start packet of {length} bytes");
    let mut packet = BytesMut::new();
    packet.put_i32(length);
    packet.resize(usize::try_from(length)?, 0);
    client.read_exact(&mut packet[4..]).await?;
    Ok(packet.freeze())
}

/// A parameter of the start packet: names and values by turns, each ended by a zero.
fn parameter(text: &[u8], name: &str) -> String {
    let mut parts = text.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    while let (Some(known), Some(value)) = (parts.next(), parts.next()) {
        if known == name {
            return value.into_owned();
        }
    }
    String::new()
}

/// Takes the first whole message out of a buffer.
fn next(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = usize::try_from(buffer.get(1..5)?.get_i32()).ok()?;
    (buffer.len() > length).then(|| buffer.split_to(length + 1))
}
