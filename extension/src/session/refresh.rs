//! Refreshing: a single-use refresh token for the next access token and the next refresh token (RFC 9700 §2.2.2, §4.14).
//!
//! The successors are computed from the presented secret and a seed that is kept for `mcp.refresh_grace`. So two windows
//! that refresh at once get the very same tokens, both stay signed in, and still only one refresh token is live. A token
//! that comes back later than that has been copied: the whole session ends.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::ids::{rust_uuid, sql_uuid};
use crate::interval::microseconds;
use crate::session::create::checked_scopes;
use crate::session::{revoke, sealed};
use crate::settings;
use crate::statement::{first, required, run, sql};
use crate::token::{self, Kind, Token};
use pgrx::prelude::*;
use uuid::Uuid;

/// What became of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Active,
    Unknown,
    Expired,
    Revoked,
    /// A token that had been rotated out longer ago than the grace allows. The session has just been revoked.
    Reused,
    /// The token belongs to another client. Nothing has changed.
    WrongClient,
    /// More scopes than the session has. Nothing has changed.
    InvalidScope,
    /// The session is for another resource. Nothing has changed.
    WrongResource,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Active => "active",
            Outcome::Unknown => "unknown",
            Outcome::Expired => "expired",
            Outcome::Revoked => "revoked",
            Outcome::Reused => "reused",
            Outcome::WrongClient => "wrong_client",
            Outcome::InvalidScope => "invalid_scope",
            Outcome::WrongResource => "wrong_resource",
        }
    }
}

pub(crate) struct Refreshed {
    pub(crate) outcome: Outcome,
    pub(crate) session: Option<Uuid>,
    pub(crate) tokens: Option<(Token, Token)>,
    pub(crate) expires_at: Option<TimestampWithTimeZone>,
    /// What the new access token is good for.
    pub(crate) scopes: Option<Vec<String>>,
}

impl Refreshed {
    pub(crate) fn refused(outcome: Outcome, session: Option<Uuid>) -> Self {
        Refreshed { outcome, session, tokens: None, expires_at: None, scopes: None }
    }
}

/// The session's side of a refresh, with its row locked.
struct Locked {
    user: Uuid,
    client: Option<String>,
    resource: Option<String>,
    scopes: Vec<String>,
    access_scopes: Option<Vec<String>>,
    revoked: bool,
    expired: bool,
    verifier: Vec<u8>,
    expires_at: TimestampWithTimeZone,
}

/// A refresh token's row.
struct Stored {
    session: Uuid,
    verifier: Vec<u8>,
    replaced: bool,
    /// Present while the grace lasts.
    seed: Option<Vec<u8>>,
}

fn stored(token: &Token) -> Result<Option<Stored>, Error> {
    let row = first(
        sql!(
            "SELECT session_id, verifier, replaced_at IS NOT NULL,
                    CASE WHEN replaced_at > clock_timestamp() - $2 * interval '1 microsecond' THEN seed END
               FROM mcp.refresh_tokens WHERE selector = $1"
        ),
        &[pgrx::Uuid::from_bytes(token.selector).into(), grace().into()],
        |row| {
            Ok(Stored {
                session: rust_uuid(required(&row, 1)?),
                verifier: required(&row, 2)?,
                replaced: required(&row, 3)?,
                seed: row.get(4)?,
            })
        },
    )?;
    Ok(row.filter(|row| token::matches(&row.verifier, &token.verifier())))
}

/// Keeps a new refresh token of the session, as a hash.
pub(crate) fn store(session: Uuid, token: &Token) -> Result<(), Error> {
    run(
        sql!("INSERT INTO mcp.refresh_tokens (selector, session_id, verifier) VALUES ($1, $2, $3)"),
        &[
            pgrx::Uuid::from_bytes(token.selector).into(),
            sql_uuid(session).into(),
            token.verifier().as_slice().into(),
        ],
    )?;
    Ok(())
}

fn grace() -> i64 {
    microseconds(settings::refresh_grace())
}

fn lock(session: Uuid) -> Result<Option<Locked>, Error> {
    first(
        sql!(
            "SELECT user_id, client_id, scopes, revoked_at IS NOT NULL, expires_at <= clock_timestamp(), verifier,
                    least(expires_at, access_expires_at), resource, access_scopes
               FROM mcp.sessions WHERE session_id = $1 FOR NO KEY UPDATE"
        ),
        &[sql_uuid(session).into()],
        |row| {
            Ok(Locked {
                user: rust_uuid(required(&row, 1)?),
                client: row.get(2)?,
                scopes: row.get::<Vec<String>>(3)?.unwrap_or_default(),
                revoked: required(&row, 4)?,
                expired: required(&row, 5)?,
                verifier: required(&row, 6)?,
                expires_at: required(&row, 7)?,
                resource: row.get(8)?,
                access_scopes: row.get(9)?,
            })
        },
    )
}

/// Runs as `mcp_owner`. `scopes`: what the new access token is to be good for; all the session has when empty. `resource`:
/// what the client believes it is for, where it says so.
pub(crate) fn refresh(
    text: &str,
    client: Option<&str>,
    scopes: Option<Vec<String>>,
    resource: Option<&str>,
) -> Result<Refreshed, Error> {
    let Some(presented) = Token::parse(Kind::Refresh, text) else {
        return Ok(Refreshed::refused(Outcome::Unknown, None));
    };
    let Some(Stored { session, .. }) = stored(&presented)? else {
        return Ok(Refreshed::refused(Outcome::Unknown, None));
    };
    let refused = |outcome| Ok(Refreshed::refused(outcome, Some(session)));
    // The session's row is the lock that all changes of a session take; the token's row is read again behind it.
    let Some(locked) = lock(session)? else { return refused(Outcome::Unknown) };
    let Some(row) = stored(&presented)? else { return refused(Outcome::Unknown) };
    if client.is_some() && client != locked.client.as_deref() {
        return refused(Outcome::WrongClient);
    }
    if locked.revoked {
        return refused(Outcome::Revoked);
    }
    if locked.expired {
        return refused(Outcome::Expired);
    }
    if resource.is_some() && resource != locked.resource.as_deref() {
        return refused(Outcome::WrongResource);
    }
    if scopes.iter().flatten().any(|scope| !locked.scopes.contains(scope)) {
        return refused(Outcome::InvalidScope);
    }
    if row.replaced {
        return replay(session, &locked, presented, row);
    }
    rotate(session, &locked, &presented, scopes)
}

/// A token that has been rotated out: its successors again within the grace, the end of the session after it.
fn replay(session: Uuid, locked: &Locked, presented: Token, row: Stored) -> Result<Refreshed, Error> {
    let (mut token, mut row) = (presented, row);
    while let Some(seed) = row.seed {
        let access = token.successor(Kind::Access, &seed, Some(*session.as_bytes()));
        let next = token.successor(Kind::Refresh, &seed, None);
        let Some(successor) = stored(&next)? else { break };
        if !successor.replaced {
            if !token::matches(&locked.verifier, &access.verifier()) {
                break;
            }
            return Ok(Refreshed {
                outcome: Outcome::Active,
                session: Some(session),
                tokens: Some((access, next)),
                expires_at: Some(locked.expires_at),
                scopes: Some(locked.access_scopes.clone().unwrap_or_else(|| locked.scopes.clone())),
            });
        }
        (token, row) = (next, successor);
    }
    audit::record(Event::RefreshReuse, Some(session), Some(locked.user), locked.client.as_deref(), None)?;
    revoke::end(session, None, Event::Revoke, Some("refresh token reused"))?;
    Ok(Refreshed::refused(Outcome::Reused, Some(session)))
}

fn rotate(
    session: Uuid,
    locked: &Locked,
    presented: &Token,
    scopes: Option<Vec<String>>,
) -> Result<Refreshed, Error> {
    let scopes = scopes.filter(|scopes| !scopes.is_empty());
    let seed: [u8; 32] = token::random()?;
    let access = presented.successor(Kind::Access, &seed, Some(*session.as_bytes()));
    let next = presented.successor(Kind::Refresh, &seed, None);
    run(
        sql!("UPDATE mcp.refresh_tokens SET replaced_at = clock_timestamp(), seed = $2 WHERE selector = $1"),
        &[pgrx::Uuid::from_bytes(presented.selector).into(), seed.as_slice().into()],
    )?;
    // A seed that has outlived its grace would let a dump and an old token compute the new one.
    run(
        sql!(
            "UPDATE mcp.refresh_tokens SET seed = NULL
              WHERE session_id = $1 AND seed IS NOT NULL
                AND replaced_at <= clock_timestamp() - $2 * interval '1 microsecond'"
        ),
        &[sql_uuid(session).into(), grace().into()],
    )?;
    store(session, &next)?;
    let expires_at = first(
        sql!(
            "UPDATE mcp.sessions
                SET verifier = $2, previous_verifier = verifier,
                    previous_expires_at = least(access_expires_at, expires_at,
                                                clock_timestamp() + $3 * interval '1 microsecond'),
                    access_expires_at = clock_timestamp() + access_ttl, access_scopes = $4,
                    expires_at = least(clock_timestamp() + ttl, absolute_expires_at), updated_at = clock_timestamp()
              WHERE session_id = $1
             RETURNING least(expires_at, access_expires_at)"
        ),
        &[
            sql_uuid(session).into(),
            access.verifier().as_slice().into(),
            grace().into(),
            scopes.clone().into(),
        ],
        |row| required::<TimestampWithTimeZone>(&row, 1),
    )?;
    let keys = sealed::keys()?;
    let key = sealed::unwrap(session, presented, &keys)?;
    sealed::wrap(session, &access, &key, &keys)?;
    sealed::wrap(session, &next, &key, &keys)?;
    sealed::forget_all_but(session, &[&access.verifier(), &next.verifier(), &locked.verifier])?;
    audit::record(Event::Refresh, Some(session), Some(locked.user), locked.client.as_deref(), None)?;
    Ok(Refreshed {
        outcome: Outcome::Active,
        session: Some(session),
        tokens: Some((access, next)),
        expires_at,
        scopes: Some(scopes.unwrap_or_else(|| locked.scopes.clone())),
    })
}

/// Exchanges a refresh token. `status` is `active` for success, else `unknown`, `expired`, `revoked`, `reused` (and the
/// session has been revoked for it), `wrong_client` or `invalid_scope` (and nothing has changed). `expires_at` is when
/// the new access token ends.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn refresh_session(
    refresh_token: Option<&str>,
    client_id: default!(Option<&str>, "NULL"),
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, &'static str),
            name!(session_id, Option<pgrx::Uuid>),
            name!(access_token, Option<String>),
            name!(refresh_token, Option<String>),
            name!(expires_at, Option<TimestampWithTimeZone>),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let scopes = scopes.map(|scopes| checked_scopes(Some(scopes))).transpose()?;
    let refreshed = match refresh_token {
        Some(text) => refresh(text, client_id, scopes, None)?,
        None => Refreshed::refused(Outcome::Unknown, None),
    };
    let (access, next) = refreshed.tokens.unzip();
    Ok(TableIterator::once((
        refreshed.outcome.as_str(),
        refreshed.session.map(sql_uuid),
        access.map(|token| token.encode().to_string()),
        next.map(|token| token.encode().to_string()),
        refreshed.expires_at,
    )))
}
