//! Connections to PostgreSQL: where to, over which TLS, from a pool, and never past a deadline.
//!
//! A query that is dropped before it ended, by its deadline or because nobody waits for it any more, has a
//! moment to end by itself. Then it is cancelled in PostgreSQL, and its connection is closed instead of going
//! back to the pool: the cancellation may come late, and would end the next query on it.

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures_util::StreamExt;
use tokio_postgres::{
    Client, Row, SimpleQueryMessage, Statement,
    error::SqlState,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use target::Target;

use crate::notices::{self, Connector, Heard, Messages, Notices};

mod target;
mod tls;

/// How long a request waits for a free connection before it is told that there is none.
const WAIT_FOR_CONNECTION: Duration = Duration::from_millis(800);
/// How long opening a connection may take, TLS and login included.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a query that nobody waits for may take to end: to cancel it costs two connections, to wait for it none.
const MOMENT: Duration = Duration::from_millis(50);
/// How long a cancel request may take; it opens a connection of its own.
const CANCEL: Duration = Duration::from_secs(2);

/// The values of a query's parameters, in their order.
pub type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("no connection became free in time")]
    Exhausted,
    #[error("the deadline passed")]
    Deadline,
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the query failed: {}", said(.0))]
    Query(tokio_postgres::Error),
    #[error("the answer is not what the contract says")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl DatabaseError {
    /// Whether the server refused what it was given: a value too long, too large, or of the wrong shape.
    pub fn is_refusal(&self) -> bool {
        let state = match self {
            Self::Query(error) => error.code().map(SqlState::code),
            _ => None,
        };
        state.is_some_and(|state| state.starts_with("22") || state.starts_with("54"))
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error)
    }
}

/// What the server said, in one line. Not its DETAIL: that may quote a row, and may be a stack.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{} {}{hint}", said.code().code(), said.message())
        }
        None => chain(error),
    }
}

/// An error and what is behind it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// One login's pool.
pub struct Database {
    pool: Pool,
    tls: MakeRustlsConnect,
    deadline: Duration,
    prepared: bool,
    notices: Notices,
    config: tokio_postgres::Config,
}

/// How many connections there are, how many of them are idle, and how many requests wait for one.
pub struct PoolStatus {
    pub size: usize,
    pub idle: usize,
    pub waiting: usize,
}

impl Database {
    /// A pool of at most `size` connections, none of them open yet; every query ends within `deadline`.
    ///
    /// `prepared` keeps statements on the server. Without it every call is parsed and planned anew, which is
    /// what a pooler needs that hands a connection to somebody else after each transaction and does not
    /// carry prepared statements over (PgBouncer before 1.21).
    ///
    /// # Errors
    ///
    /// Where the certificates to trust cannot be read.
    pub fn new(
        target: &Target,
        size: usize,
        deadline: Duration,
        prepared: bool,
    ) -> Result<Self, std::io::Error> {
        let tls = MakeRustlsConnect::new(tls::client_config(&target.trust)?);
        let notices = Notices::default();
        let manager = Manager::from_connect(
            target.config.clone(),
            Connector { tls: tls.clone(), notices: notices.clone() },
            // Whatever a query sets is local to its transaction, so nothing has to be reset between two of them.
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(WAIT_FOR_CONNECTION), create: Some(CONNECT), recycle: None })
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self { pool, tls, deadline, prepared, notices, config: target.config.clone() })
    }

    /// What the queries of this pool say while they run.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Opens a connection beside the pool, which listens to a channel as long as its messages are read.
    pub async fn listen(&self, command: &str) -> Result<(Client, Messages), DatabaseError> {
        let work = async {
            let (client, mut messages) = notices::connect(&self.config, self.tls.clone()).await?;
            {
                let listening = client.batch_execute(command);
                tokio::pin!(listening);
                loop {
                    tokio::select! {
                        done = &mut listening => break done?,
                        message = messages.next() => match message {
                            Some(message) => drop(message?),
                            None => return Err(DatabaseError::Answer("the connection ended".into())),
                        },
                    }
                }
            }
            Ok((client, messages))
        };
        tokio::time::timeout(self.deadline, work).await.unwrap_or(Err(DatabaseError::Deadline))
    }

    /// Runs one statement that returns exactly one row, in one round trip once it is prepared.
    pub async fn row(
        &self,
        sql: &str,
        types: &[Type],
        values: &Parameters<'_>,
    ) -> Result<Row, DatabaseError> {
        self.row_heard(sql, types, values, None).await
    }

    /// The same, for a statement that somebody listens to until it ends.
    pub async fn row_heard(
        &self,
        sql: &str,
        types: &[Type],
        values: &Parameters<'_>,
        heard: Option<Heard>,
    ) -> Result<Row, DatabaseError> {
        let mut rows = self.run(sql, types, values, heard).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(DatabaseError::Answer("not exactly one row".into())),
        }
    }

    /// Runs one statement.
    pub async fn rows(
        &self,
        sql: &str,
        types: &[Type],
        values: &Parameters<'_>,
    ) -> Result<Vec<Row>, DatabaseError> {
        self.run(sql, types, values, None).await
    }

    async fn run(
        &self,
        sql: &str,
        types: &[Type],
        values: &Parameters<'_>,
        heard: Option<Heard>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let work = async {
            let mut lease = Lease::take(self).await?;
            lease.heard = heard;
            let rows = lease.query(sql, types, values).await;
            lease.settle();
            Ok(rows?)
        };
        tokio::time::timeout(self.deadline, work).await.unwrap_or(Err(DatabaseError::Deadline))
    }

    /// The first column of the first row of a command, sent as text: the console of a pooler takes nothing else.
    pub async fn console(&self, command: &str) -> Result<String, DatabaseError> {
        let work = async {
            let lease = Lease::take(self).await?;
            let messages = lease.client().simple_query(command).await;
            lease.settle();
            let value = messages?.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
                _ => None,
            });
            value.ok_or_else(|| DatabaseError::Answer("no row".into()))
        };
        tokio::time::timeout(self.deadline, work).await.unwrap_or(Err(DatabaseError::Deadline))
    }

    pub fn status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus { size: status.size, idle: status.available, waiting: status.waiting }
    }

    /// Closes idle connections and lets no request wait for one any more.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// A connection in use. Dropped before [`Lease::settle`], it cancels what does not end by itself, and closes.
struct Lease<'a> {
    client: Option<Object>,
    /// While it prepares a statement: the server would keep one that nobody here knows of.
    preparing: bool,
    /// Goes before the client does, or it would hear what the connection says to the next.
    heard: Option<Heard>,
    database: &'a Database,
}

impl<'a> Lease<'a> {
    async fn take(database: &'a Database) -> Result<Self, DatabaseError> {
        match database.pool.get().await {
            Ok(client) => Ok(Self { client: Some(client), preparing: false, heard: None, database }),
            Err(PoolError::Timeout(TimeoutType::Wait) | PoolError::Closed) => Err(DatabaseError::Exhausted),
            Err(error) => Err(DatabaseError::Connect(error.into())),
        }
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("it is taken out where the lease ends")
    }

    async fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<Statement, tokio_postgres::Error> {
        self.preparing = true;
        let statement = self.client().prepare_typed_cached(sql, types).await;
        self.preparing = false;
        statement
    }

    async fn query(
        &mut self,
        sql: &str,
        types: &[Type],
        values: &Parameters<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if self.database.prepared {
            let statement = self.prepare(sql, types).await?;
            match self.client().query(&statement, values).await {
                // It was refused before it ran, so that running it again runs it once. Without a name, because a
                // pooler that carries statements over takes one prepared anew for the one it has.
                Err(error) if is_stale(&error) => _ = self.client().statement_cache.remove(sql, types),
                answer => return answer,
            }
        }
        let typed: Vec<_> = values.iter().copied().zip(types.iter().cloned()).collect();
        self.client().query_typed(sql, &typed).await
    }

    /// The query has ended: the connection may serve another.
    fn settle(mut self) {
        drop(self.heard.take());
        drop(self.client.take());
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        drop(self.heard.take());
        let Some(client) = self.client.take() else { return };
        let (tls, preparing) = (self.database.tls.clone(), self.preparing);
        // At the end of the process there is nobody left to cancel it; the closed connection has to do.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Object::take(client));
            return;
        };
        runtime.spawn(async move {
            // It keeps its place in the pool meanwhile, or there would be more backends than the pool may have. Each
            // statement is sent with its own Sync, so that its transaction has ended with it.
            let ended = tokio::time::timeout(MOMENT, client.simple_query("")).await;
            if !preparing && matches!(ended, Ok(Ok(_))) {
                return;
            }
            match tokio::time::timeout(CANCEL, client.cancel_token().cancel_query(tls)).await {
                Ok(Ok(())) => tracing::debug!("cancelled a query that nobody waits for"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot cancel a query"),
                Err(_) => tracing::warn!("cannot cancel a query: the server does not answer"),
            }
            drop(Object::take(client));
        });
    }
}

/// A prepared statement that a pooler or an upgrade of the extension has outlived.
fn is_stale(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::INVALID_SQL_STATEMENT_NAME) | Some(&SqlState::FEATURE_NOT_SUPPORTED)
    )
}
