//! The extension, as the frontend uses it: the only file that names SQL functions of schema `mcp`.
//!
//! Every operation is one statement with bind parameters, so one round trip. Tokens and provider tokens go
//! in as parameters whose `Debug` is empty, because the driver logs parameters at its debug level.

pub mod oauth;

use std::{collections::HashMap, error::Error, fmt, sync::Arc, time::Duration};

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio_postgres::{
    Client, Row,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use crate::{
    database::{Database, DatabaseError, Parameters, PoolStatus},
    doctor::Finding,
    notices::{Heard, Listener, Messages},
    token::SessionToken,
};

const CREATE: &str = "SELECT session_id, user_id, access_token, expires_at, absolute_expires_at \
                      FROM mcp.create_session(issuer => $1, subject => $2, oauth_data => $3, resource => $4, \
                                              scopes => $5, claims => $6, metadata => $7, \
                                              ttl => pg_catalog.make_interval(secs => $8), \
                                              max_lifetime => pg_catalog.make_interval(secs => $9))";
const LOOKUP: &str = "SELECT status, session_id, user_id, issuer, subject, client_id, resource, scopes, claims, \
                             created_at, updated_at, expires_at, absolute_expires_at \
                      FROM mcp.lookup_session($1, $2)";
const ENTER: &str = "SELECT status, session_id FROM mcp.enter($1, $2)";
const REVOKE: &str = "SELECT mcp.revoke_session($1)";
// The list depends on the row of enter(), so that it is read after the identity is armed.
const MY_SESSIONS: &str = "SELECT e.status, (SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) \
                                                    ORDER BY s.current DESC, s.last_used_at DESC), '[]'::jsonb) \
                                             FROM mcp.my_sessions AS s WHERE e.status = 'active'), \
                                  e.claims \
                           FROM mcp.enter($1, $2) AS e";
const END_SESSION: &str = "SELECT status, CASE WHEN status = 'active' THEN mcp.end_session($3) END \
                           FROM mcp.enter($1, $2)";
const END_OTHERS: &str = "SELECT status, CASE WHEN status = 'active' THEN mcp.end_other_sessions() END \
                          FROM mcp.enter($1, $2)";
const BEGIN_SIGN_IN: &str = "SELECT mcp.begin_sign_in($1, $2, $3)";
const FINISH_SIGN_IN: &str = "SELECT status, payload FROM mcp.finish_sign_in($1, $2)";
const LIST_TOOLS: &str = "SELECT entry FROM mcp.list_tools($1, $2, $3, $4) AS entry";
const LIST_RESOURCES: &str = "SELECT entry FROM mcp.list_resources($1, $2, $3, $4) AS entry";
const LIST_RESOURCE_TEMPLATES: &str =
    "SELECT entry FROM mcp.list_resource_templates($1, $2, $3, $4) AS entry";
const LIST_PROMPTS: &str = "SELECT entry FROM mcp.list_prompts($1, $2, $3, $4) AS entry";
const CALL_TOOL: &str = "SELECT mcp.call_tool($1, $2, $3, $4, $5)";
const READ_RESOURCE: &str = "SELECT mcp.read_resource($1, $2, $3, $4)";
const GET_PROMPT: &str = "SELECT mcp.get_prompt($1, $2, $3, $4, $5)";
const COMPLETE: &str = "SELECT mcp.complete($1, $2, $3, $4, $5)";
/// The channels of [`Sessions::listen_to_others`].
pub const CHANGES: &str = "mcp_changes";
pub const CANCELLATIONS: &str = "mcp_cancellations";
const LISTEN: &str = "LISTEN mcp_changes; LISTEN mcp_cancellations";
const NOTIFY: &str = "SELECT pg_catalog.pg_notify($1, $2)";
const LIST_VERSIONS: &str = "SELECT list, version FROM mcp.list_versions()";
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
    /// The provider's tokens, where they are kept; sealed by the extension.
    pub oauth_data: Option<&'a Value>,
    pub scopes: &'a [String],
    pub claims: &'a Value,
    pub metadata: &'a Value,
    pub ttl: Duration,
    /// The extension's own, where none is named.
    pub max_lifetime: Option<Duration>,
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

/// The live sessions of somebody, this one first.
pub struct MySessions {
    /// A JSON array of objects.
    pub sessions: Value,
    /// What this session knows of its user.
    pub claims: Value,
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

/// A list that is read in pages.
#[derive(Debug, Clone, Copy)]
pub enum Listing {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

/// A part of a list, as MCP objects in the list's order.
pub struct Page {
    pub entries: Vec<Box<RawValue>>,
    /// What the next part comes after, where there is one.
    pub next: Option<String>,
}

/// What a call is told of the request behind it, beside its arguments.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// The id under which what the call says is listened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notices: Option<Uuid>,
    /// Whether the client wants to know how far the call is.
    pub progress: bool,
    /// The least level of log messages that it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<&'a str>,
    /// The `Mcp-Param-` headers, where the protocol has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<&'a HashMap<String, String>>,
    /// What the client can be asked for, where it can be asked at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_responses: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_state: Option<&'a RawValue>,
}

/// What is called.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A tool, with the bytes the client sent, so that no number loses digits on the way.
    Tool {
        name: &'a str,
        arguments: &'a RawValue,
    },
    Resource {
        uri: &'a str,
    },
    Prompt {
        name: &'a str,
        arguments: &'a RawValue,
    },
    /// The parameters of `completion/complete`.
    Completion {
        reference: &'a RawValue,
        argument: &'a RawValue,
        context: Option<&'a RawValue>,
    },
}

/// What became of a call.
#[derive(Debug)]
pub enum Answer {
    /// A complete MCP result, a tool's own errors included.
    Result(Box<RawValue>),
    /// There is no such tool, resource or prompt.
    Unknown,
    /// The client has to answer questions first: `inputRequests` and `requestState`.
    InputRequired(Box<RawValue>),
    /// The client would have to be able to more: its capabilities.
    MissingCapability(Box<RawValue>),
    /// A header does not say what the arguments say.
    HeaderMismatch(String),
    /// The parameters are wrong.
    Invalid(String),
    /// It failed.
    Failed(String),
    /// The arguments are JSON that PostgreSQL cannot hold, which is the caller's to repair.
    Unusable(String),
}

/// The versions of the extension that each login sees.
pub struct Versions {
    pub auth: String,
    pub exec: String,
}

/// Every operation on sessions, for one resource.
pub struct Sessions {
    auth: Arc<Database>,
    exec: Arc<Database>,
    resource: String,
}

impl Sessions {
    /// `auth` is a login in `mcp_auth`, `exec` one in `mcp_exec`; `resource` the URL of the MCP endpoint.
    pub fn new(auth: Database, exec: Database, resource: String) -> Self {
        Self { auth: Arc::new(auth), exec: Arc::new(exec), resource }
    }

    /// The same databases, for sessions that hold at another resource, and there alone.
    pub fn of_resource(&self, resource: String) -> Self {
        Self { auth: self.auth.clone(), exec: self.exec.clone(), resource }
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
                    &new.max_lifetime.map(|lifetime| lifetime.as_secs_f64()),
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

    /// The live sessions of this token's user.
    pub async fn my_sessions(&self, token: &SessionToken) -> Result<Verdict<MySessions>, DatabaseError> {
        let row = self.token_row(MY_SESSIONS, token).await?;
        match status(&row)? {
            Ok(()) => Ok(Ok(MySessions { sessions: get(&row, 1)?, claims: get(&row, 2)? })),
            Err(refusal) => Ok(Err(refusal)),
        }
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

    /// A part of a list, of at most `size` entries, after what `after` names.
    pub async fn list(
        &self,
        token: &SessionToken,
        listing: Listing,
        after: Option<&str>,
        size: i32,
    ) -> Result<Verdict<Page>, DatabaseError> {
        let sql = match listing {
            Listing::Tools => LIST_TOOLS,
            Listing::Resources => LIST_RESOURCES,
            Listing::ResourceTemplates => LIST_RESOURCE_TEMPLATES,
            Listing::Prompts => LIST_PROMPTS,
        };
        let types = [Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4];
        let rows = self.exec.rows(sql, &types, &[&Secret(token), &self.resource, &after, &size]).await?;
        let mut page = Page { entries: Vec::with_capacity(rows.len()), next: None };
        for row in &rows {
            let Json(entry) = get(row, 0)?;
            let probe: EntryProbe = serde_json::from_str(entry.get()).map_err(answer)?;
            match (probe.name, probe.status, probe.cursor) {
                (None, Some(status), _) => return refusal(&status, None).map(Err),
                (None, None, Some(cursor)) => page.next = Some(cursor),
                _ => page.entries.push(entry),
            }
        }
        Ok(Ok(page))
    }

    /// Listens to a call that is yet to begin.
    pub fn listen(&self) -> (Heard, Listener) {
        self.exec.notices().listen()
    }

    /// Calls something as this token's user: verifies, slides, arms, runs and undoes, all in one statement. What it says
    /// goes to whoever listens to `heard`.
    pub async fn call(
        &self,
        token: &SessionToken,
        target: Target<'_>,
        request: &Request<'_>,
        heard: Option<Heard>,
    ) -> Result<Verdict<Answer>, DatabaseError> {
        let request = Request { notices: heard.as_ref().map(Heard::id), ..*request };
        let request = serde_json::to_string(&request).map_err(answer)?;
        let (token, request) = (Secret(token), Hidden(JsonText(&request)));
        let called = match target {
            Target::Tool { name, arguments } | Target::Prompt { name, arguments } => {
                let types = [Type::TEXT, Type::TEXT, Type::JSONB, Type::TEXT, Type::JSONB];
                let sql = if matches!(target, Target::Tool { .. }) { CALL_TOOL } else { GET_PROMPT };
                let arguments = Hidden(JsonText(arguments.get()));
                let values: &Parameters<'_> = &[&token, &name, &arguments, &self.resource, &request];
                self.exec.row_heard(sql, &types, values, heard).await
            }
            Target::Resource { uri } => {
                let types = [Type::TEXT, Type::TEXT, Type::TEXT, Type::JSONB];
                let values: &Parameters<'_> = &[&token, &uri, &self.resource, &request];
                self.exec.row_heard(READ_RESOURCE, &types, values, heard).await
            }
            Target::Completion { reference, argument, context } => {
                let types = [Type::TEXT, Type::JSONB, Type::JSONB, Type::JSONB, Type::TEXT];
                let hidden = [reference, argument].map(|json| Hidden(JsonText(json.get())));
                let [reference, argument] = &hidden;
                let context = context.map(|json| Hidden(JsonText(json.get())));
                self.exec
                    .row(COMPLETE, &types, &[&token, reference, argument, &context, &self.resource])
                    .await
            }
        };
        let row = match called {
            Err(DatabaseError::Query(error)) if is_unusable(&error) => {
                let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
                return Ok(Ok(Answer::Unusable(message)));
            }
            called => called?,
        };
        let Json(result) = get(&row, 0)?;
        read_answer(result)
    }

    /// A connection that hears of changes of the lists and of cancelled calls, and what it hears.
    pub async fn listen_to_others(&self) -> Result<(Client, Messages), DatabaseError> {
        self.exec.listen(LISTEN).await
    }

    /// Tells all frontends that a call is cancelled.
    pub async fn tell_of_cancellation(&self, call: &str) -> Result<(), DatabaseError> {
        self.exec.row(NOTIFY, &[Type::TEXT, Type::TEXT], &[&CANCELLATIONS, &call]).await.map(drop)
    }

    /// A text for each list that changes when the list does.
    pub async fn list_versions(&self) -> Result<Vec<(String, String)>, DatabaseError> {
        let rows = self.exec.rows(LIST_VERSIONS, &[], &[]).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }

    /// The extension's version, asked by both logins.
    pub async fn versions(&self) -> Result<Versions, DatabaseError> {
        // Whichever fails: the other's query goes on to its end, for one that is dropped costs its connection.
        let (auth, exec) = tokio::join!(self.auth.row(VERSION, &[], &[]), self.exec.row(VERSION, &[], &[]));
        Ok(Versions { auth: get(&auth?, 0)?, exec: get(&exec?, 0)? })
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

/// What tells an entry of a list from a verdict, read without building it.
#[derive(Deserialize)]
struct EntryProbe<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    status: Option<String>,
    cursor: Option<String>,
}

/// What tells a verdict from a result, likewise. Results have one of the first four.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerProbe<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    required_capabilities: Option<&'a RawValue>,
}

fn read_answer(result: Box<RawValue>) -> Result<Verdict<Answer>, DatabaseError> {
    let probe: AnswerProbe = serde_json::from_str(result.get()).map_err(answer)?;
    let parts = [probe.content, probe.contents, probe.messages, probe.completion];
    if parts.iter().any(Option::is_some) {
        return Ok(Ok(Answer::Result(result)));
    }
    let text =
        |json: Option<&RawValue>| json.and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    let message = || text(probe.message).unwrap_or_default();
    Ok(Ok(match text(probe.status).unwrap_or_default().as_str() {
        "unknown_tool" | "unknown_resource" | "unknown_prompt" => Answer::Unknown,
        "input_required" => Answer::InputRequired(result),
        "missing_capability" => {
            let required =
                probe.required_capabilities.ok_or_else(|| answer("no capabilities that are missing"))?;
            Answer::MissingCapability(required.to_owned())
        }
        "header_mismatch" => Answer::HeaderMismatch(message()),
        "invalid_arguments" => Answer::Invalid(message()),
        "invalid_request_state" => Answer::Invalid(
            "requestState is not of this request, is too old, or was used before: ask again without it"
                .into(),
        ),
        "invalid_input_responses" => Answer::Invalid(
            "inputResponses must be an object, not nested too deep, its numbers in the range of a double"
                .into(),
        ),
        "failed" => Answer::Failed(message()),
        status => return refusal(status, text(probe.scope)).map(Err),
    }))
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
    fn a_result_says_nothing_of_its_session() {
        let result = r#"{"content":[],"status":"expired"}"#;
        let read = read_answer(RawValue::from_string(result.into()).unwrap()).unwrap();
        assert!(matches!(read, Ok(Answer::Result(read)) if read.get() == result));
    }

    #[test]
    fn parameters_that_are_secret_do_not_print() {
        let token = SessionToken::parse(&crate::token::tests::token(&"a".repeat(22))).unwrap();
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
