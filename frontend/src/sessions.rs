//! The extension, as the frontend uses it: the only file that names SQL functions of schema `mcp`.
//!
//! Every operation is one statement with bind parameters, so one round trip. Tokens and provider tokens go
//! in as parameters whose `Debug` is empty, because the driver logs parameters at its debug level.

pub mod oauth;

use std::{error::Error, fmt, time::Duration};

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use crate::{
    database::{Database, DatabaseError, PoolStatus},
    doctor::Finding,
    token::SessionToken,
};

const CREATE: &str = "SELECT session_id, user_id, access_token, expires_at, absolute_expires_at \
                      FROM mcp.create_session(issuer => $1, subject => $2, oauth_data => $3, resource => $4, \
                                              scopes => $5, claims => $6, metadata => $7, \
                                              ttl => pg_catalog.make_interval(secs => $8))";
const LOOKUP: &str = "SELECT status, session_id, user_id, issuer, subject, client_id, resource, scopes, claims, \
                             created_at, updated_at, expires_at, absolute_expires_at \
                      FROM mcp.lookup_session($1, $2)";
const ENTER: &str = "SELECT status, session_id FROM mcp.enter($1, $2)";
const REVOKE: &str = "SELECT mcp.revoke_session($1)";
// The list depends on the row of enter(), so that it is read after the identity is armed.
const MY_SESSIONS: &str = "SELECT e.status, (SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) \
                                                    ORDER BY s.current DESC, s.last_used_at DESC), '[]'::jsonb) \
                                             FROM mcp.my_sessions AS s WHERE e.status = 'active') \
                           FROM mcp.enter($1, $2) AS e";
const END_SESSION: &str = "SELECT status, CASE WHEN status = 'active' THEN mcp.end_session($3) END \
                           FROM mcp.enter($1, $2)";
const END_OTHERS: &str = "SELECT status, CASE WHEN status = 'active' THEN mcp.end_other_sessions() END \
                          FROM mcp.enter($1, $2)";
const BEGIN_SIGN_IN: &str = "SELECT mcp.begin_sign_in($1, $2, $3)";
const FINISH_SIGN_IN: &str = "SELECT status, payload FROM mcp.finish_sign_in($1, $2)";
const LIST_TOOLS: &str = "SELECT tool FROM mcp.list_tools($1, $2) AS tool";
const CALL_TOOL: &str = "SELECT mcp.call_tool($1, $2, $3, $4)";
const VERSION: &str = "SELECT mcp.version()";
const DOCTOR: &str = "SELECT pg_catalog.to_jsonb(d) FROM mcp.doctor() AS d";

/// Why a session token does not hold, or not for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Expired,
    Revoked,
    WrongResource,
    /// The scopes that are needed, all of them, separated by spaces.
    InsufficientScope(String),
}

/// What the database says of a token, and what it gives where the token holds.
pub type Verdict<T> = Result<T, Refusal>;

/// A sign-in that succeeded, to be kept.
pub struct NewSession<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
    /// The provider's tokens; sealed by the extension.
    pub oauth_data: &'a Value,
    pub scopes: &'a [String],
    pub claims: &'a Value,
    pub metadata: &'a Value,
    pub ttl: Duration,
}

/// A session just made. Its token exists nowhere else.
pub struct CreatedSession {
    pub session_id: Uuid,
    pub user_id: Uuid,
    pub token: SessionToken,
    pub expires_at: DateTime<Utc>,
    pub absolute_expires_at: DateTime<Utc>,
}

/// A session as its owner may see it.
#[derive(Debug, Serialize)]
pub struct Session {
    pub session_id: Uuid,
    pub user_id: Uuid,
    pub issuer: String,
    pub subject: String,
    pub client_id: Option<String>,
    pub resource: Option<String>,
    pub scopes: Vec<String>,
    pub claims: Value,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub absolute_expires_at: DateTime<Utc>,
}

/// How a sign-in under way stands when the browser comes back.
pub enum SignIn {
    /// It holds, and is used up; what was kept with it.
    Ready(Value),
    /// Never begun, or finished before.
    Unknown,
    Expired,
    /// Begun in another browser.
    WrongBrowser,
}

/// What became of a tool call.
pub enum ToolAnswer {
    /// A complete MCP `CallToolResult`, its own errors included.
    Result(Box<RawValue>),
    UnknownTool,
    /// The arguments are JSON that PostgreSQL cannot hold, which is the caller's to repair.
    UnusableArguments(String),
}

/// The versions of the extension that each login sees.
pub struct Versions {
    pub auth: String,
    pub exec: String,
}

/// Every operation on sessions, for one resource.
pub struct Sessions {
    auth: Database,
    exec: Database,
    resource: String,
}

impl Sessions {
    /// `auth` is a login in `mcp_auth`, `exec` one in `mcp_exec`; `resource` the URL of the MCP endpoint.
    pub fn new(auth: Database, exec: Database, resource: String) -> Self {
        Self { auth, exec, resource }
    }

    /// The URL that tokens are issued for (RFC 8707).
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Makes a session for this resource.
    pub async fn create(&self, new: &NewSession<'_>) -> Result<CreatedSession, DatabaseError> {
        let types = [
            Type::TEXT,
            Type::TEXT,
            Type::JSONB,
            Type::TEXT,
            Type::TEXT_ARRAY,
            Type::JSONB,
            Type::JSONB,
            Type::FLOAT8,
        ];
        let row = self
            .auth
            .row(
                CREATE,
                &types,
                &[
                    &new.issuer,
                    &new.subject,
                    &Hidden(new.oauth_data),
                    &self.resource,
                    &new.scopes,
                    &Hidden(new.claims),
                    &new.metadata,
                    &new.ttl.as_secs_f64(),
                ],
            )
            .await?;
        let token: String = get(&row, 2)?;
        Ok(CreatedSession {
            session_id: get(&row, 0)?,
            user_id: get(&row, 1)?,
            token: SessionToken::parse(&token).ok_or_else(|| answer("a token of an unknown shape"))?,
            expires_at: get(&row, 3)?,
            absolute_expires_at: get(&row, 4)?,
        })
    }

    /// Looks a session up without using it: its expiry stays where it is.
    pub async fn lookup(&self, token: &SessionToken) -> Result<Verdict<Session>, DatabaseError> {
        let row = self.token_row(LOOKUP, token).await?;
        if let Err(refusal) = status(&row)? {
            return Ok(Err(refusal));
        }
        Ok(Ok(Session {
            session_id: get(&row, 1)?,
            user_id: get(&row, 2)?,
            issuer: get(&row, 3)?,
            subject: get(&row, 4)?,
            client_id: get(&row, 5)?,
            resource: get(&row, 6)?,
            scopes: get::<Option<Vec<String>>>(&row, 7)?.unwrap_or_default(),
            claims: get(&row, 8)?,
            created_at: get(&row, 9)?,
            last_used_at: get(&row, 10)?,
            expires_at: get(&row, 11)?,
            absolute_expires_at: get(&row, 12)?,
        }))
    }

    /// Uses a session: verifies the token and slides the expiry.
    pub async fn enter(&self, token: &SessionToken) -> Result<Verdict<()>, DatabaseError> {
        status(&self.token_row(ENTER, token).await?)
    }

    /// Ends the session of this token; `false` where it did not hold any more.
    pub async fn revoke(&self, token: &SessionToken) -> Result<bool, DatabaseError> {
        let row = self.auth.row(REVOKE, &[Type::TEXT], &[&Secret(token)]).await?;
        Ok(get::<Option<bool>>(&row, 0)?.unwrap_or(false))
    }

    /// The live sessions of this token's user, as a JSON array; this one first.
    pub async fn my_sessions(&self, token: &SessionToken) -> Result<Verdict<Value>, DatabaseError> {
        let row = self.token_row(MY_SESSIONS, token).await?;
        status(&row)?.map_or_else(|refusal| Ok(Err(refusal)), |()| get(&row, 1).map(Ok))
    }

    /// Ends another session of this token's user; `false` where the user has none of that id.
    pub async fn end_session(&self, token: &SessionToken, id: Uuid) -> Result<Verdict<bool>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::UUID];
        let row = self.auth.row(END_SESSION, &types, &[&Secret(token), &self.resource, &id]).await?;
        match status(&row)? {
            Ok(()) => Ok(Ok(get::<Option<bool>>(&row, 1)?.unwrap_or(false))),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Ends every other session of this token's user; how many there were.
    pub async fn end_other_sessions(&self, token: &SessionToken) -> Result<Verdict<i64>, DatabaseError> {
        let row = self.token_row(END_OTHERS, token).await?;
        match status(&row)? {
            Ok(()) => Ok(Ok(get::<Option<i64>>(&row, 1)?.unwrap_or(0))),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Keeps a sign-in under way until the browser comes back; when it expires.
    ///
    /// The database stores hashes of `state` and `browser`, and `payload` sealed under `state`.
    pub async fn begin_sign_in(
        &self,
        state: &str,
        browser: &str,
        payload: &Value,
    ) -> Result<DateTime<Utc>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::JSONB];
        let row = self
            .auth
            .row(BEGIN_SIGN_IN, &types, &[&Hidden(state), &Hidden(browser), &Hidden(payload)])
            .await?;
        get(&row, 0)
    }

    /// Takes a sign-in under way back, once.
    pub async fn finish_sign_in(&self, state: &str, browser: &str) -> Result<SignIn, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT];
        let row = self.auth.row(FINISH_SIGN_IN, &types, &[&Hidden(state), &Hidden(browser)]).await?;
        match get::<String>(&row, 0)?.as_str() {
            "ok" => Ok(SignIn::Ready(get(&row, 1)?)),
            "unknown" => Ok(SignIn::Unknown),
            "expired" => Ok(SignIn::Expired),
            "wrong_browser" => Ok(SignIn::WrongBrowser),
            _ => Err(answer("an unknown status of a sign-in")),
        }
    }

    /// The tools, as MCP `Tool` objects in the order of their names.
    pub async fn list_tools(
        &self,
        token: &SessionToken,
    ) -> Result<Verdict<Vec<Box<RawValue>>>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT];
        let rows = self.exec.rows(LIST_TOOLS, &types, &[&Secret(token), &self.resource]).await?;
        let mut tools = Vec::with_capacity(rows.len());
        for row in &rows {
            let Json(tool) = get(row, 0)?;
            let probe: Probe = serde_json::from_str(tool.get()).map_err(answer)?;
            match (probe.name, probe.status) {
                (None, Some(status)) => return refusal(&status, probe.scope).map(Err),
                _ => tools.push(tool),
            }
        }
        Ok(Ok(tools))
    }

    /// Runs a tool as this token's user: verifies, slides, arms, runs and undoes, all in one call.
    ///
    /// `arguments` are the bytes the client sent, so that no number loses digits on the way.
    pub async fn call_tool(
        &self,
        token: &SessionToken,
        name: &str,
        arguments: &str,
    ) -> Result<Verdict<ToolAnswer>, DatabaseError> {
        let types = [Type::TEXT, Type::TEXT, Type::JSONB, Type::TEXT];
        let called = self
            .exec
            .row(CALL_TOOL, &types, &[&Secret(token), &name, &Hidden(JsonText(arguments)), &self.resource])
            .await;
        let row = match called {
            Err(DatabaseError::Query(error)) if is_unusable(&error) => {
                let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
                return Ok(Ok(ToolAnswer::UnusableArguments(message)));
            }
            called => called?,
        };
        let Json(result) = get(&row, 0)?;
        let probe: Probe = serde_json::from_str(result.get()).map_err(answer)?;
        match (probe.content.is_some(), probe.status.as_deref()) {
            (false, Some("unknown_tool")) => Ok(Ok(ToolAnswer::UnknownTool)),
            (false, Some(status)) => refusal(status, probe.scope).map(Err),
            _ => Ok(Ok(ToolAnswer::Result(result))),
        }
    }

    /// The extension's version, asked by both logins.
    pub async fn versions(&self) -> Result<Versions, DatabaseError> {
        let (auth, exec) =
            tokio::try_join!(self.auth.row(VERSION, &[], &[]), self.exec.row(VERSION, &[], &[]))?;
        Ok(Versions { auth: get(&auth, 0)?, exec: get(&exec, 0)? })
    }

    /// What the extension finds wrong with the database.
    pub async fn doctor(&self) -> Result<Vec<Finding>, DatabaseError> {
        let rows = self.auth.rows(DOCTOR, &[], &[]).await?;
        rows.iter().map(|row| serde_json::from_value(get(row, 0)?).map_err(answer)).collect()
    }

    /// The pools, by the name of their role.
    pub fn pools(&self) -> [(&'static str, PoolStatus); 2] {
        [("auth", self.auth.status()), ("exec", self.exec.status())]
    }

    pub fn close(&self) {
        self.auth.close();
        self.exec.close();
    }

    async fn token_row(&self, sql: &str, token: &SessionToken) -> Result<Row, DatabaseError> {
        self.auth.row(sql, &[Type::TEXT, Type::TEXT], &[&Secret(token), &self.resource]).await
    }
}

/// What tells a verdict from a tool or a result, read without building either.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    status: Option<String>,
    scope: Option<String>,
}

/// The first column of every statement that takes a token.
fn status(row: &Row) -> Result<Verdict<()>, DatabaseError> {
    let status: String = get(row, 0)?;
    if status == "active" { Ok(Ok(())) } else { refusal(&status, None).map(Err) }
}

fn refusal(status: &str, scope: Option<String>) -> Result<Refusal, DatabaseError> {
    match status {
        "unknown" => Ok(Refusal::Unknown),
        "expired" => Ok(Refusal::Expired),
        "revoked" => Ok(Refusal::Revoked),
        "wrong_resource" => Ok(Refusal::WrongResource),
        "insufficient_scope" => Ok(Refusal::InsufficientScope(scope.unwrap_or_default())),
        _ => Err(answer("an unknown status of a session")),
    }
}

/// JSON text that `jsonb` does not take: U+0000, lone surrogates, numbers beyond `numeric`.
fn is_unusable(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| matches!(state.code(), "22P02" | "22P05" | "22003" | "54001"))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, DatabaseError> {
    row.try_get(column).map_err(answer)
}

fn answer(source: impl Into<Box<dyn Error + Send + Sync>>) -> DatabaseError {
    DatabaseError::Answer(source.into())
}

/// A parameter that does not print.
struct Hidden<T>(T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T: ToSql> ToSql for Hidden<T> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        T::accepts(ty)
    }

    to_sql_checked!();
}

/// A token as a parameter; its `Debug` is the token's own, which shows the public part.
#[derive(Debug)]
struct Secret<'a>(&'a SessionToken);

impl ToSql for Secret<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.expose().to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// The version byte of jsonb's binary form.
const JSONB_VERSION: u8 = 1;

/// JSON as it came, for a jsonb parameter.
#[derive(Debug)]
struct JsonText<'a>(&'a str);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&[JSONB_VERSION]);
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

/// A jsonb column as it came.
struct Json(Box<RawValue>);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Self(serde_json::from_slice(text)?)),
            _ => Err("an unknown version of jsonb".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_told_from_an_answer() {
        for (status, expected) in [
            ("unknown", Some(Refusal::Unknown)),
            ("expired", Some(Refusal::Expired)),
            ("revoked", Some(Refusal::Revoked)),
            ("wrong_resource", Some(Refusal::WrongResource)),
            ("insufficient_scope", Some(Refusal::InsufficientScope("a b".into()))),
            ("active", None),
            ("", None),
        ] {
            assert_eq!(refusal(status, Some("a b".into())).ok(), expected, "{status}");
        }
    }

    #[test]
    fn parameters_that_are_secret_do_not_print() {
        let token = SessionToken::parse(&format!("mcps_{}_{}", "a".repeat(22), "s".repeat(50))).unwrap();
        let value = serde_json::json!({"access_token": "hush"});
        let shown = format!("{:?} {:?} {:?}", Secret(&token), Hidden(&value), Hidden("hush"));
        assert!(!shown.contains("ssss") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn json_goes_in_as_it_came() {
        let mut out = BytesMut::new();
        JsonText(r#"{"n":1.00000000000000000001}"#).to_sql(&Type::JSONB, &mut out).unwrap();
        assert_eq!(&out[..], b"\x01{\"n\":1.00000000000000000001}");
        let Json(back) = Json::from_sql(&Type::JSONB, &out).unwrap();
        assert_eq!(back.get(), r#"{"n":1.00000000000000000001}"#);
    }
}
