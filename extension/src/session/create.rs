//! Creating a session.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::ids::{rust_uuid, sql_uuid};
use crate::interval::{lifetime, microseconds};
use crate::jsonb::Jsonb;
use crate::session::{refresh, revoke, sealed};
use crate::settings;
use crate::statement::{all, first, required, run, sql};
use crate::token::{Kind, Token};
use pgrx::datum::Interval;
use pgrx::prelude::*;
use uuid::Uuid;

/// Issuers, resources and client ids are URLs; this is what browsers and proxies carry.
const MAX_NAME: usize = 2048;
const MAX_SCOPES: usize = 100;
const MAX_SCOPE: usize = 256;

/// What a session is created from, checked.
pub(crate) struct NewSession<'a> {
    issuer: &'a str,
    subject: &'a str,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) resource: Option<&'a str>,
    pub(crate) scopes: Vec<String>,
    state: Jsonb,
    pub(crate) claims: Jsonb,
    pub(crate) metadata: Jsonb,
    pub(crate) oauth_data: Option<Jsonb>,
    /// In microseconds, as the two that follow.
    pub(crate) ttl: i64,
    pub(crate) max_lifetime: i64,
    pub(crate) access_ttl: Option<i64>,
    pub(crate) with_refresh: bool,
    pub(crate) user_id: Uuid,
}

impl<'a> NewSession<'a> {
    /// A session of this principal with the default lifetimes, no scopes and no refresh token.
    pub(crate) fn checked(
        issuer: &'a str,
        subject: &'a str,
        client_id: Option<&'a str>,
        resource: Option<&'a str>,
        oauth_data: Option<Jsonb>,
        claims: Option<Jsonb>,
        metadata: Option<Jsonb>,
    ) -> Result<Self, Error> {
        let empty = || Jsonb::from_text(c"{}");
        let limits = |what, value: Option<Jsonb>| {
            value.unwrap_or_else(empty).object(what)?.within(
                what,
                settings::max_claims_bytes(),
                "mcp.max_claims_bytes",
            )
        };
        Ok(NewSession {
            issuer: name("issuer", Some(issuer))?.ok_or(Error::Null("issuer"))?,
            subject: name("subject", Some(subject))?.ok_or(Error::Null("subject"))?,
            client_id: name("client_id", client_id)?,
            resource: name("resource", resource)?,
            scopes: Vec::new(),
            state: empty(),
            claims: limits("claims", claims)?,
            metadata: limits("metadata", metadata)?,
            oauth_data: oauth_data
                .map(|data| {
                    data.within("oauth_data", settings::max_oauth_data_bytes(), "mcp.max_oauth_data_bytes")
                })
                .transpose()?,
            ttl: microseconds(settings::session_ttl()),
            max_lifetime: microseconds(settings::max_lifetime()),
            access_ttl: None,
            with_refresh: false,
            user_id: user_id_of(issuer, subject),
        })
    }
}

/// A session as its creator gets it, with the only copies there are of its tokens.
pub(crate) struct Created {
    pub(crate) session_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) access: Token,
    pub(crate) refresh: Option<Token>,
    /// When the access token ends.
    pub(crate) expires_at: TimestampWithTimeZone,
    pub(crate) absolute_expires_at: TimestampWithTimeZone,
}

/// The user behind (issuer, subject) where the caller names none: UUIDv5 (RFC 9562 §5.5) of the subject in the namespace
/// of the issuer, so that no two issuers ever share a user.
pub(crate) fn user_id_of(issuer: &str, subject: &str) -> Uuid {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, issuer.as_bytes());
    Uuid::new_v5(&namespace, subject.as_bytes())
}

fn name<'a>(what: &'static str, value: Option<&'a str>) -> Result<Option<&'a str>, Error> {
    match value {
        Some("") => Err(Error::Empty(what)),
        Some(value) if value.len() > MAX_NAME => {
            Err(Error::TooLong { what, got: value.len(), limit: MAX_NAME })
        }
        value => Ok(value),
    }
}

/// Checks scopes against RFC 6749 §3.3 and removes duplicates.
pub(crate) fn checked_scopes(scopes: Option<Vec<Option<String>>>) -> Result<Vec<String>, Error> {
    let scopes = scopes.unwrap_or_default();
    if scopes.len() > MAX_SCOPES {
        return Err(Error::TooMany { what: "scopes", got: scopes.len(), limit: MAX_SCOPES });
    }
    let mut checked = Vec::with_capacity(scopes.len());
    for scope in scopes {
        let scope = scope.ok_or(Error::Null("a scope"))?;
        let valid = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.bytes().all(valid) {
            return Err(Error::Scope(scope.chars().take(64).collect()));
        }
        if !checked.contains(&scope) {
            checked.push(scope);
        }
    }
    Ok(checked)
}

#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments, reason = "the SQL signature")]
fn create_session(
    issuer: Option<&str>,
    subject: Option<&str>,
    oauth_data: Option<Jsonb>,
    client_id: default!(Option<&str>, "NULL"),
    resource: default!(Option<&str>, "NULL"),
    scopes: default!(Option<Vec<Option<String>>>, "'{}'"),
    state: default!(Option<Jsonb>, "'{}'"),
    claims: default!(Option<Jsonb>, "'{}'"),
    metadata: default!(Option<Jsonb>, "'{}'"),
    ttl: default!(Option<Interval>, "NULL"),
    max_lifetime: default!(Option<Interval>, "NULL"),
    access_ttl: default!(Option<Interval>, "NULL"),
    with_refresh: default!(Option<bool>, "false"),
    user_id: default!(Option<pgrx::Uuid>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(session_id, pgrx::Uuid),
            name!(user_id, pgrx::Uuid),
            name!(access_token, String),
            name!(refresh_token, Option<String>),
            name!(expires_at, TimestampWithTimeZone),
            name!(absolute_expires_at, TimestampWithTimeZone),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let issuer = issuer.ok_or(Error::Null("issuer"))?;
    let subject = subject.ok_or(Error::Null("subject"))?;
    let mut new = NewSession::checked(issuer, subject, client_id, resource, oauth_data, claims, metadata)?;
    if let Some(state) = state {
        new.state = state.within("state", settings::max_state_bytes(), "mcp.max_state_bytes")?;
    }
    new.scopes = checked_scopes(scopes)?;
    new.ttl = lifetime("ttl", ttl, settings::session_ttl())?;
    new.max_lifetime = lifetime("max_lifetime", max_lifetime, settings::max_lifetime())?;
    new.with_refresh = with_refresh.unwrap_or(false);
    new.access_ttl = (new.with_refresh || access_ttl.is_some())
        .then(|| lifetime("access_ttl", access_ttl, settings::access_ttl()))
        .transpose()?;
    if let Some(user_id) = user_id {
        new.user_id = rust_uuid(user_id);
    }
    let created = create(&new)?;
    Ok(TableIterator::once((
        sql_uuid(created.session_id),
        sql_uuid(created.user_id),
        created.access.encode().to_string(),
        created.refresh.map(|token| token.encode().to_string()),
        created.expires_at,
        created.absolute_expires_at,
    )))
}

/// Creates a session. Runs as `mcp_owner`.
pub(crate) fn create(new: &NewSession<'_>) -> Result<Created, Error> {
    // Version 7 grows with time, so that a million sessions fill the index from one side.
    let session_id = Uuid::now_v7();
    let access = Token::mint(Kind::Access, *session_id.as_bytes())?;
    let refresh = new
        .with_refresh
        .then(|| crate::token::random().and_then(|selector| Token::mint(Kind::Refresh, selector)))
        .transpose()?;
    make_room(new.user_id)?;
    let (expires_at, absolute_expires_at) = first(
        sql!(
            "INSERT INTO mcp.sessions
                (session_id, user_id, created_at, updated_at, expires_at, absolute_expires_at, access_expires_at,
                 ttl, access_ttl, verifier, issuer, subject, client_id, resource, scopes, claims, state, metadata)
             SELECT $1, $2, t.now, t.now, t.now + least(t.ttl, t.max_lifetime), t.now + t.max_lifetime,
                    t.now + t.access_ttl, t.ttl, t.access_ttl, $6, $7, $8, $9, $10, $11, $12, $13, $14
               FROM (SELECT clock_timestamp(), $3 * interval '1 microsecond', $4 * interval '1 microsecond',
                            $5 * interval '1 microsecond') AS t(now, ttl, max_lifetime, access_ttl)
             RETURNING least(expires_at, access_expires_at), absolute_expires_at"
        ),
        &[
            sql_uuid(session_id).into(),
            sql_uuid(new.user_id).into(),
            new.ttl.into(),
            new.max_lifetime.into(),
            new.access_ttl.into(),
            access.verifier().as_slice().into(),
            new.issuer.into(),
            new.subject.into(),
            new.client_id.into(),
            new.resource.into(),
            new.scopes.clone().into(),
            new.claims.into(),
            new.state.into(),
            new.metadata.into(),
        ],
        |row| Ok((required(&row, 1)?, required(&row, 2)?)),
    )?
    .expect("INSERT … RETURNING returns the row it inserted");
    if let Some(refresh) = &refresh {
        refresh::store(session_id, refresh)?;
    }
    sealed::create(session_id, new.oauth_data, &[Some(&access), refresh.as_ref()])?;
    audit::record(Event::Create, Some(session_id), Some(new.user_id), new.client_id, None)?;
    Ok(Created { session_id, user_id: new.user_id, access, refresh, expires_at, absolute_expires_at })
}

/// Ends the user's sessions that were used longest ago, until a new one fits below `mcp.max_sessions_per_user`.
fn make_room(user_id: Uuid) -> Result<(), Error> {
    let Some(limit) = settings::max_sessions_per_user() else { return Ok(()) };
    let user = sql_uuid(user_id);
    // One at a time per user until this commits, or a hundred parallel sign-ins would each see room for all of them.
    run(
        sql!("SELECT pg_advisory_xact_lock(hashtextextended('mcp.sessions ' || $1::text, 0))"),
        &[user.into()],
    )?;
    let mut displaced = all(
        sql!(
            "SELECT session_id FROM mcp.sessions
              WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
              ORDER BY updated_at DESC, session_id DESC OFFSET $2"
        ),
        &[user.into(), (limit - 1).into()],
        |row| required::<pgrx::Uuid>(&row, 1).map(rust_uuid),
    )?;
    // Locked in the order in which whoever ends all of them does.
    displaced.sort_unstable();
    for session_id in displaced {
        revoke::end(session_id, None, Event::Displace, Some("session limit"))?;
    }
    Ok(())
}
