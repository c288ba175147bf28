//! What PostgreSQL says while a query runs, brought to whoever waits for that query.
//!
//! A connection is used by one query at a time, and the extension sends a notice with the call's id before a call that is
//! listened to begins. So what comes over a connection belongs to the call that last began on it, if that still has the
//! connection: it is heard no longer than that ([`Heard`]), and calls that nobody listens to do not say when they begin.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use deadpool_postgres::Connect;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client, error::DbError, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

/// The SQLSTATEs of the extension's own notices; see its module `notice`.
const BEGIN: &str = "MCP00";
const PROGRESS: &str = "MCP01";
/// What a call may say before anybody has read it. What comes beyond that is lost, never kept.
const UNREAD: usize = 256;

/// Something a call says while it runs.
#[derive(Debug)]
pub enum Notice {
    Progress(Progress),
    /// A log message.
    Message {
        level: Level,
        text: String,
    },
}

/// How far a call is.
#[derive(Debug, Deserialize)]
pub struct Progress {
    pub progress: f64,
    pub total: Option<f64>,
    pub message: Option<String>,
}

/// The levels of log messages that PostgreSQL tells apart, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
}

impl Level {
    /// The level of this name in MCP, if PostgreSQL has it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "notice" => Some(Level::Notice),
            "warning" => Some(Level::Warning),
            _ => None,
        }
    }
}

/// The calls that somebody listens to, by their ids.
#[derive(Clone, Default)]
pub struct Notices {
    listeners: Arc<Mutex<HashMap<Uuid, mpsc::Sender<Notice>>>>,
}

/// A call that is listened to, until dropped: which is to happen before its connection can serve anybody else.
pub struct Heard {
    id: Uuid,
    notices: Notices,
}

/// What such a call says.
pub struct Listener {
    receiver: mpsc::Receiver<Notice>,
}

impl Notices {
    /// Listens to a call that is yet to begin.
    pub fn listen(&self) -> (Heard, Listener) {
        let (sender, receiver) = mpsc::channel(UNREAD);
        let id = Uuid::new_v4();
        self.with(|listeners| listeners.insert(id, sender));
        (Heard { id, notices: self.clone() }, Listener { receiver })
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Uuid, mpsc::Sender<Notice>>) -> T) -> T {
        // A map is whole after any panic.
        work(&mut self.listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands on what a connection says; `current` is the call that last began on it.
    fn hand_on(&self, current: &mut Option<Uuid>, message: &DbError) {
        if message.code().code() == BEGIN {
            *current = message.message().parse().ok();
            return;
        }
        // Looked up each time: the call may have ended, and the connection be somebody else's.
        let Some(listener) = current.and_then(|id| self.with(|listeners| listeners.get(&id).cloned())) else {
            tracing::debug!(severity = message.severity(), message = message.message(), "the database says");
            return;
        };
        if let Some(notice) = read(message) {
            // Full: the client reads too slowly. Gone: nobody waits any more.
            let _ = listener.try_send(notice);
        }
    }
}

impl Heard {
    /// What the call is to be begun with.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.notices.with(|listeners| listeners.remove(&self.id));
    }
}

impl Listener {
    /// What the call says next; `None` once it is not heard any more and everything was read.
    pub async fn next(&mut self) -> Option<Notice> {
        self.receiver.recv().await
    }
}

fn read(message: &DbError) -> Option<Notice> {
    if message.code().code() == PROGRESS {
        return serde_json::from_str(message.message()).map(Notice::Progress).ok();
    }
    // Debug and log messages of the server itself tell plans, parameters and files; those of RAISE are the tool's.
    let raised = message.routine() == Some("exec_stmt_raise");
    // Not translated, other than the message.
    let level = match message.parsed_severity()? {
        tokio_postgres::error::Severity::Debug if raised => Level::Debug,
        tokio_postgres::error::Severity::Log if raised => Level::Info,
        tokio_postgres::error::Severity::Info => Level::Info,
        tokio_postgres::error::Severity::Notice => Level::Notice,
        tokio_postgres::error::Severity::Warning => Level::Warning,
        _ => return None,
    };
    Some(Notice::Message { level, text: message.message().to_owned() })
}

/// Opens connections whose notices are handed on.
pub struct Connector {
    pub tls: MakeRustlsConnect,
    pub notices: Notices,
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = config.clone();
        let (tls, notices) = (self.tls.clone(), self.notices.clone());
        async move {
            let (client, mut messages) = connect(&config, tls).await?;
            let task = tokio::spawn(async move {
                let mut current = None;
                while let Some(message) = messages.next().await {
                    match message {
                        Ok(AsyncMessage::Notice(message)) => notices.hand_on(&mut current, &message),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(%error, "a connection to the database broke");
                            break;
                        }
                    }
                }
            });
            Ok((client, task))
        }
        .boxed()
    }
}

/// What a connection says beside the answers to queries; it works as long as this is read.
pub type Messages = futures_util::stream::BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

/// Opens a connection.
pub async fn connect(
    config: &tokio_postgres::Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, Messages), tokio_postgres::Error>
where
    MakeRustlsConnect: MakeTlsConnect<tokio_postgres::Socket>,
{
    let (client, mut connection) = config.connect(tls).await?;
    Ok((client, stream::poll_fn(move |context| connection.poll_message(context)).boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_heard_until_it_ends_and_read_beyond() {
        let notices = Notices::default();
        let (heard, mut listener) = notices.listen();
        let sender = notices.with(|listeners| listeners.get(&heard.id()).cloned()).unwrap();
        sender.try_send(Notice::Message { level: Level::Info, text: "one".into() }).unwrap();
        drop((heard, sender));
        assert_eq!(notices.with(|listeners| listeners.len()), 0);
        assert!(matches!(listener.next().await, Some(Notice::Message { text, .. }) if text == "one"));
        assert!(listener.next().await.is_none());
    }

    #[test]
    fn levels_are_ordered() {
        assert!(Level::Debug < Level::Info && Level::Info < Level::Notice && Level::Notice < Level::Warning);
    }
}
