//! What every request shares. None of it is state that correctness needs: any other process has the same.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    account::page,
    authorization_server::{AuthorizationServer, metadata},
    changes::Changes,
    config::{Config, PublicUrl},
    database::Database,
    gate::Gate,
    idp::IdentityProvider,
    mcp::{self, Mcp},
    metrics::Metrics,
    proxies::TrustedProxies,
    rate_limit::RefusalLimit,
    sessions::Sessions,
};

/// The other end: of the connection, or of the trusted proxies in between.
pub struct Peer {
    pub address: SocketAddr,
}

/// The application behind the listener.
pub struct App {
    pub public_url: PublicUrl,
    /// What challenges point to.
    pub metadata_url: String,
    pub gate: Gate,
    pub cookie_door: bool,
    pub session_ttl: Duration,
    pub sessions: Arc<Sessions>,
    /// The sessions that hold at the page of one's own sessions, and nowhere else.
    pub page_sessions: Sessions,
    /// What the subscriptions are told of.
    pub changes: Changes,
    pub provider: IdentityProvider,
    pub authorization_server: AuthorizationServer,
    pub proxies: TrustedProxies,
    /// For session tokens that do not hold.
    pub refused_limit: RefusalLimit,
    pub mcp: Mcp,
    pub metrics: Metrics,
}

impl App {
    /// `drain` ends subscriptions, which would never end by themselves.
    ///
    /// # Errors
    ///
    /// Where the certificates that a database login trusts cannot be read.
    pub fn new(config: Config, drain: CancellationToken) -> io::Result<Self> {
        let pool = |target| {
            Database::new(target, config.pool_size, config.request_timeout, config.prepared_statements)
        };
        let sessions = Arc::new(Sessions::new(
            pool(&config.auth_database)?,
            pool(&config.exec_database)?,
            config.public_url.join(mcp::PATH),
        ));
        let changes = Changes::new();
        Ok(Self {
            metadata_url: config.public_url.join(metadata::MCP_RESOURCE_PATH),
            gate: Gate::new(&config.public_url, config.bind, &config.allowed_hosts, &config.allowed_origins),
            cookie_door: config.cookie_door,
            session_ttl: config.session_ttl,
            authorization_server: AuthorizationServer::new(&config.authorization_server),
            proxies: TrustedProxies::new(config.trusted_proxies),
            refused_limit: RefusalLimit::new(config.refused_limit),
            provider: IdentityProvider::new(config.provider, &config.public_url),
            mcp: Mcp::new(
                sessions.clone(),
                changes.clone(),
                config.max_body_bytes,
                config.request_timeout,
                drain,
            ),
            changes,
            metrics: Metrics::new(),
            page_sessions: sessions.of_resource(config.public_url.join(page::PATH)),
            public_url: config.public_url,
            sessions,
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::tests::read;

    /// An application with default settings but for `changes`; its databases are never asked.
    pub fn app(changes: &[(&'static str, &'static str)]) -> App {
        App::new(read(changes).unwrap(), CancellationToken::new()).unwrap()
    }
}
