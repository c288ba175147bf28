//! Sessions made straight through SQL, as any language that speaks to PostgreSQL makes them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{hygiene, ledger};

/// What a session is made of; the arguments of `mcp.create_session`.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who vouches for the user.
    pub issuer: String,
    /// The user's name at the issuer.
    pub subject: String,
    /// The provider's token response, to be sealed.
    pub oauth_data: Value,
    /// The MCP client.
    pub client_id: Option<String>,
    /// The MCP endpoint the session holds at.
    pub resource: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Idle lifetime, as PostgreSQL reads an interval.
    pub ttl: Option<String>,
    /// Absolute lifetime.
    pub max_lifetime: Option<String>,
    /// Whether a refresh token comes with it.
    pub with_refresh: bool,
}

impl NewSession {
    /// A session of `subject` at the test issuer.
    pub fn of(subject: &str) -> Self {
        Self {
            issuer: "https://idp.test".to_owned(),
            subject: subject.to_owned(),
            oauth_data: json!({
                "access_token": format!("at_{}", Uuid::new_v4().simple()),
                "refresh_token": format!("rt_{}", Uuid::new_v4().simple()),
            }),
            client_id: None,
            resource: None,
            scopes: Vec::new(),
            ttl: None,
            max_lifetime: None,
            with_refresh: false,
        }
    }

    /// The same with a refresh token, for the client `client_id`.
    pub fn refreshable(mut self, client_id: &str) -> Self {
        self.with_refresh = true;
        self.client_id = Some(client_id.to_owned());
        self
    }

    /// The same, holding at `resource` alone.
    pub fn at(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// The same with these scopes.
    pub fn scoped(mut self, scopes: &[&str]) -> Self {
        self.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self
    }

    /// Makes it, and notes its secrets.
    pub async fn create(&self, auth: &Client) -> Result<Session> {
        ledger::record_fields("provider", &self.oauth_data, &["access_token", "refresh_token", "id_token"]);
        let row = auth
            .query_one(
                "SELECT session_id, user_id, access_token, refresh_token FROM mcp.create_session(
                     issuer => $1, subject => $2, oauth_data => $3, client_id => $4, resource => $5, scopes => $6,
                     ttl => $7::text::interval, max_lifetime => $8::text::interval, with_refresh => $9)",
                &[
                    &self.issuer,
                    &self.subject,
                    &self.oauth_data,
                    &self.client_id,
                    &self.resource,
                    &self.scopes,
                    &self.ttl,
                    &self.max_lifetime,
                    &self.with_refresh,
                ],
            )
            .await
            .context("mcp.create_session")?;
        let session =
            Session { id: row.get(0), user_id: row.get(1), token: row.get(2), refresh_token: row.get(3) };
        ledger::record("session token", &session.token);
        if let Some(refresh_token) = &session.refresh_token {
            ledger::record("refresh token", refresh_token);
        }
        Ok(session)
    }
}

/// A session that was made.
#[derive(Clone)]
pub struct Session {
    /// Its public id.
    pub id: Uuid,
    /// Its user.
    pub user_id: Uuid,
    /// The access token or handle.
    pub token: String,
    /// The refresh token, where one was asked for.
    pub refresh_token: Option<String>,
}

/// The verdict `mcp.lookup_session` gives on `token`.
pub async fn status(auth: &Client, token: &str) -> Result<String> {
    Ok(auth.query_one("SELECT status FROM mcp.lookup_session($1)", &[&token]).await?.get(0))
}

/// Opens the tokens that the provider issued, by the session that holds them, and notes them.
pub async fn note_provider_tokens(auth: &Client, token: &str) -> Result<Value> {
    let data: Value = auth.query_one("SELECT mcp.session_oauth_data($1)", &[&token]).await?.get(0);
    ledger::record_fields("provider", &data, &["access_token", "refresh_token", "id_token"]);
    Ok(data)
}

/// Calls a tool through `mcp.call_tool`, and panics where the call left something in its backend.
pub async fn call_tool(
    exec: &Client,
    token: &str,
    name: &str,
    arguments: Value,
) -> Result<Value, tokio_postgres::Error> {
    // What the test itself has set is there before. A connection that cannot be asked cannot be used again either.
    let before = hygiene::state_of(exec).await;
    let result = call_tool_unwatched(exec, token, name, arguments).await;
    if let (Ok(before), Ok(after)) = (before, hygiene::state_of(exec).await) {
        assert!(after == before, "a call of {name} left {}", hygiene::difference(&before, &after));
    }
    result
}

/// Calls a tool without a look at what it leaves, for those who call ten thousand times.
pub async fn call_tool_unwatched(
    exec: &Client,
    token: &str,
    name: &str,
    arguments: Value,
) -> Result<Value, tokio_postgres::Error> {
    Ok(exec.query_one("SELECT mcp.call_tool($1, $2, $3)", &[&token, &name, &arguments]).await?.get(0))
}

/// The SQLSTATE of the error a statement must end in.
pub fn sqlstate<T: std::fmt::Debug>(outcome: Result<T, tokio_postgres::Error>) -> Result<String> {
    let error = match outcome {
        Ok(value) => anyhow::bail!("expected an error, got {value:?}"),
        Err(error) => error,
    };
    match error.code() {
        Some(code) => Ok(code.code().to_owned()),
        None => Err(error).context("expected an error of PostgreSQL"),
    }
}
