//! Connections to PostgreSQL: where to, over which TLS, from a pool, and never past a deadline.
//!
//! A query that is dropped before it ended, by its deadline or because nobody waits for it any more, has a
//! moment to end by itself. Then it is cancelled in PostgreSQL, and its connection is closed instead of going
//! back to the pool: the cancellation may come late, and would end the next query on it.

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType, Timeouts,
};
use futures_util::StreamExt;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::{
    Client, Row, SimpleQueryMessage, Statement,
    config::Host,
    error::SqlState,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded;

use crate::notices::{self, Connector, Heard, Messages, Notices};

/// How long a request waits for a free connection before it is told that there is none.
const WAIT_FOR_CONNECTION: Duration = Duration::from_millis(800);
/// How long opening a connection may take, TLS and login included.
const CONNECT: Duration = Duration::from_secs(3);
/// What a connection string leaves open. A network that drops idle connections silently is noticed within a minute, and
/// where a query meets it first, sooner than by the deadline of a request.
const TCP: &str = "keepalives_idle=30&keepalives_interval=10&keepalives_retries=3&tcp_user_timeout=15";
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

/// A database to connect to: a libpq URL or key-value string, with `sslmode` and `sslrootcert` as in libpq.
///
/// `prefer` (the default) and `require` encrypt without verifying the certificate; `verify-ca` and
/// `verify-full` verify it and the host name, against `sslrootcert` or the system's certificates.
#[derive(Debug, Clone)]
pub struct Target {
    config: tokio_postgres::Config,
    trust: Trust,
}

#[derive(Debug, Clone)]
enum Trust {
    Anybody,
    Roots(Option<String>),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may hold a password, so that no fault may quote it.
        let (text, modes) = take_tls_settings(text);
        let trust = match modes.mode.as_deref() {
            None | Some("disable" | "prefer" | "require") if modes.root.is_none() => Trust::Anybody,
            None | Some("require" | "verify-ca" | "verify-full") => Trust::Roots(modes.root),
            Some("disable" | "prefer") => return Err("has an sslrootcert that its sslmode ignores".into()),
            Some(_) => {
                return Err(
                    "has an unknown sslmode: disable, prefer, require, verify-ca or verify-full".into()
                );
            }
        };
        let mut config: tokio_postgres::Config = with_defaults(&text)
            .parse()
            .map_err(|_| "must be a PostgreSQL URL: postgresql://user:password@host:5432/database")?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host".into());
        }
        match (modes.mode.as_deref(), &trust) {
            (Some("disable"), _) => config.ssl_mode(tokio_postgres::config::SslMode::Disable),
            (_, Trust::Roots(_)) | (Some("require"), _) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require)
            }
            _ => config.ssl_mode(tokio_postgres::config::SslMode::Prefer),
        };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("mcp-frontend");
        }
        Ok(Self { config, trust })
    }
}

impl Target {
    /// The login's name.
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// The same server, another database.
    pub fn of_database(&self, name: &str) -> Self {
        let mut target = self.clone();
        target.config.dbname(name);
        target
    }

    /// Whether it goes to another machine without verifying which.
    pub fn trusts_the_network(&self) -> bool {
        let elsewhere = self.config.get_hosts().iter().any(|host| match host {
            Host::Tcp(name) => {
                name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Host::Unix(_) => false,
        });
        matches!(self.trust, Trust::Anybody) && elsewhere
    }
}

/// Puts [`TCP`] before the settings of a connection string, the last of which counts.
fn with_defaults(text: &str) -> String {
    match text.split_once('?') {
        _ if !text.contains("://") => format!("{} {text}", TCP.replace('&', " ")),
        Some((base, query)) => format!("{base}?{TCP}&{query}"),
        None => format!("{text}?{TCP}"),
    }
}

struct TlsSettings {
    mode: Option<String>,
    root: Option<String>,
}

/// Takes `sslmode` and `sslrootcert` out of a connection string; the driver knows neither in full.
fn take_tls_settings(text: &str) -> (String, TlsSettings) {
    let mut settings = TlsSettings { mode: None, root: None };
    let mut keep = |key: &str, value: &str| match key {
        "sslmode" => {
            settings.mode = Some(value.to_owned());
            false
        }
        "sslrootcert" => {
            settings.root = Some(value.to_owned()).filter(|root| root != "system");
            false
        }
        _ => true,
    };
    let text = match (text.contains("://"), text.split_once('?')) {
        (true, Some((base, query))) => {
            let kept: Vec<&str> = query
                .split('&')
                .filter(|pair| match form_urlencoded::parse(pair.as_bytes()).next() {
                    Some((key, value)) => keep(&key, &value),
                    None => false,
                })
                .collect();
            if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
        }
        (true, None) => text.to_owned(),
        // Values with spaces are quoted in this form; neither of ours ever is.
        (false, _) => {
            let kept = text.split(' ').filter(|pair| match pair.split_once('=') {
                Some((key, value)) => keep(key, value),
                None => true,
            });
            kept.collect::<Vec<_>>().join(" ")
        }
    };
    (text, settings)
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
        let tls = MakeRustlsConnect::new(client_config(&target.trust)?);
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
            .timeouts(Timeouts {
                wait: Some(WAIT_FOR_CONNECTION),
                create: Some(CONNECT),
                recycle: Some(CONNECT),
            })
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
        if !self.database.prepared {
            let typed: Vec<_> = values.iter().copied().zip(types.iter().cloned()).collect();
            return self.client().query_typed(sql, &typed).await;
        }
        let statement = self.prepare(sql, types).await?;
        match self.client().query(&statement, values).await {
            Err(error) if is_stale(&error) => {
                // It was refused before it ran, so that running it again runs it once.
                self.client().statement_cache.remove(sql, types);
                let statement = self.prepare(sql, types).await?;
                self.client().query(&statement, values).await
            }
            answer => answer,
        }
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

fn client_config(trust: &Trust) -> Result<ClientConfig, std::io::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    Ok(match trust {
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth(),
        Trust::Roots(file) => {
            let mut roots = RootCertStore::empty();
            let found = match file {
                Some(file) => CertificateDer::pem_file_iter(file)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| std::io::Error::other(format!("sslrootcert {file}: {error}")))?,
                None => rustls_native_certs::load_native_certs().certs,
            };
            roots.add_parsable_certificates(found);
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    })
}

/// What libpq does below `verify-ca`: encrypt, and believe whoever answers.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_means_what_it_means_in_libpq() {
        for (text, verified, root) in [
            ("postgresql://u@h/db", false, None),
            ("postgresql://u@h/db?sslmode=disable", false, None),
            ("postgresql://u@h/db?sslmode=require&application_name=x", false, None),
            ("postgresql://u@h/db?sslmode=require&sslrootcert=%2Fetc%2Fca.pem", true, Some("/etc/ca.pem")),
            ("postgresql://u@h/db?application_name=x&sslmode=verify-full", true, None),
            ("postgresql://u@h/db?sslmode=verify-full&sslrootcert=system", true, None),
            ("host=h user=u dbname=db sslmode=verify-ca sslrootcert=/ca.pem", true, Some("/ca.pem")),
            ("host=/run/postgresql user=u", false, None),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            match target.trust {
                Trust::Anybody => assert!(!verified, "{text}"),
                Trust::Roots(file) => {
                    assert!(verified, "{text}");
                    assert_eq!(file.as_deref(), root, "{text}");
                }
            }
        }
    }

    #[test]
    fn connections_that_a_network_dropped_are_noticed() {
        let seconds = Duration::from_secs;
        for (text, idle, interval, retries, timeout) in [
            ("postgresql://u@h/db", 30, 10, 3, 15),
            ("postgresql://u@h", 30, 10, 3, 15),
            ("postgresql://u@h/db?sslmode=disable&keepalives_idle=7200", 7200, 10, 3, 15),
            (
                "postgresql://u@h/db?keepalives_interval=1&keepalives_retries=9&tcp_user_timeout=60",
                30,
                1,
                9,
                60,
            ),
            ("host=h user=u dbname=db", 30, 10, 3, 15),
            ("host=h user=u keepalives_idle=60 tcp_user_timeout=5", 60, 10, 3, 5),
        ] {
            let config = text.parse::<Target>().unwrap_or_else(|error| panic!("{text}: {error}")).config;
            let found = (
                config.get_keepalives_idle(),
                config.get_keepalives_interval(),
                config.get_keepalives_retries(),
                config.get_tcp_user_timeout().copied(),
            );
            let expected = (seconds(idle), Some(seconds(interval)), Some(retries), Some(seconds(timeout)));
            assert_eq!(found, expected, "{text}");
            assert!(config.get_keepalives());
        }
    }

    #[test]
    fn a_target_that_cannot_be_meant_is_refused_without_quoting_it() {
        for text in [
            "",
            "localhost",
            "mysql://u:hush@h/db",
            "postgresql:///db",
            "postgresql://u:hush@h/db?sslmode=maybe",
            "postgresql://u:hush@h/db?port=hush",
            "postgresql://u:hush@h/db?sslmode=prefer&sslrootcert=/ca.pem",
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
