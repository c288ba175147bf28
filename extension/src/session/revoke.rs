//! Ending sessions. What ended stays as a row until it would have ended anyway, so that its client is told "revoked";
//! its sealed tokens are gone at once, and so is the consent that led to it.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::identity;
use crate::ids::{rust_uuid, sql_uuid};
use crate::oauth::consent;
use crate::session::record::Column;
use crate::session::sealed;
use crate::session::verdict::judge;
use crate::statement::{all, first, required, run, sql};
use crate::token::{self, Kind, Token};
use pgrx::prelude::*;
use uuid::Uuid;

/// Ends one session, whoever's it is, or only if it is `owner`'s. False where it had ended already.
pub(crate) fn end(
    session: Uuid,
    owner: Option<Uuid>,
    event: Event,
    reason: Option<&str>,
) -> Result<bool, Error> {
    let ended = first(
        sql!(
            "UPDATE mcp.sessions SET revoked_at = clock_timestamp(), revoked_reason = $3
              WHERE session_id = $1 AND user_id = coalesce($2, user_id)
                AND revoked_at IS NULL AND expires_at > clock_timestamp()
             RETURNING user_id, client_id"
        ),
        &[sql_uuid(session).into(), owner.map(sql_uuid).into(), reason.into()],
        |row| Ok((required::<pgrx::Uuid>(&row, 1)?, row.get::<String>(2)?)),
    )?;
    let Some((user, client)) = ended else { return Ok(false) };
    sealed::shred(session)?;
    // Whoever signs in once more than the limit allows has withdrawn nothing.
    if !matches!(event, Event::Displace) {
        run(sql!("DELETE FROM mcp.consents WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    }
    audit::record(event, Some(session), Some(rust_uuid(user)), client.as_deref(), reason)?;
    Ok(true)
}

/// Ends all sessions of a user but `keep`, and those that codes under way would become.
fn end_all(user: Uuid, keep: Option<Uuid>, event: Event, reason: Option<&str>) -> Result<i64, Error> {
    let ended = end_live(user, keep, event, reason)?;
    // Waits for codes that are being redeemed, whose sessions are seen then.
    consent::withdraw_pending(user)?;
    Ok(ended + end_live(user, keep, event, reason)?)
}

/// Ends the sessions of a user that are there at this moment, but `keep`.
fn end_live(user: Uuid, keep: Option<Uuid>, event: Event, reason: Option<&str>) -> Result<i64, Error> {
    // Locked in the order of their ids, so that two of these never wait for each other.
    let live = all(
        sql!(
            "SELECT session_id FROM mcp.sessions
              WHERE user_id = $1 AND session_id IS DISTINCT FROM $2
                AND revoked_at IS NULL AND expires_at > clock_timestamp()
              ORDER BY session_id FOR NO KEY UPDATE"
        ),
        &[sql_uuid(user).into(), keep.map(sql_uuid).into()],
        |row| required::<pgrx::Uuid>(&row, 1),
    )?;
    let mut ended = 0;
    for session in live {
        ended += i64::from(end(rust_uuid(session), None, event, reason)?);
    }
    Ok(ended)
}

/// The session of a refresh token whose secret is right.
fn session_of_refresh(text: &str) -> Result<Option<Uuid>, Error> {
    let Some(token) = Token::parse(Kind::Refresh, text) else { return Ok(None) };
    let stored = first(
        sql!("SELECT session_id, verifier FROM mcp.refresh_tokens WHERE selector = $1"),
        &[pgrx::Uuid::from_bytes(token.selector).into()],
        |row| Ok((required::<pgrx::Uuid>(&row, 1)?, required::<Vec<u8>>(&row, 2)?)),
    )?;
    Ok(stored
        .filter(|(_, verifier)| token::matches(verifier, &token.verifier()))
        .map(|(session, _)| rust_uuid(session)))
}

/// The session that an access or refresh token belongs to, whether it is live or not.
pub(crate) fn session_of(token: &str) -> Result<Option<Uuid>, Error> {
    let verdict = judge(Some(token), None)?;
    match verdict.record {
        Some(record) if verdict.proven => Ok(record.uuid(Column::SessionId)),
        _ => session_of_refresh(token),
    }
}

/// Ends the session that an access or refresh token belongs to (RFC 7009 §2.1). True when it was live.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn revoke_session(token: Option<&str>) -> Result<bool, pg_sys::panic::ErrorReport> {
    let session = token.map_or(Ok(None), session_of)?;
    Ok(session.map_or(Ok(false), |session| end(session, None, Event::Revoke, None))?)
}

/// Ends any session by its public id. True when it was live.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn revoke_session_by_id(
    session_id: Option<pgrx::Uuid>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<bool, pg_sys::panic::ErrorReport> {
    Ok(session_id.map_or(Ok(false), |session| end(rust_uuid(session), None, Event::AdminEnd, reason))?)
}

/// Ends all sessions of a user, but `keep` where it is given, and the codes that would become another. Returns how many
/// sessions were live.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn revoke_user_sessions(
    user_id: Option<pgrx::Uuid>,
    keep: default!(Option<pgrx::Uuid>, "NULL"),
) -> Result<i64, pg_sys::panic::ErrorReport> {
    let user = user_id.map(rust_uuid);
    Ok(user.map_or(Ok(0), |user| {
        end_all(user, keep.map(rust_uuid), Event::AdminEnd, Some("all sessions ended"))
    })?)
}

/// Ends one of the armed user's own sessions. True when it was live and theirs.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn end_session(session_id: Option<pgrx::Uuid>) -> Result<bool, pg_sys::panic::ErrorReport> {
    let user = rust_uuid(identity::armed_user()?);
    Ok(session_id.map_or(Ok(false), |session| {
        end(rust_uuid(session), Some(user), Event::End, Some("ended by the user"))
    })?)
}

/// Ends all sessions of the armed user but the armed one. Returns how many were live.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn end_other_sessions() -> Result<i64, pg_sys::panic::ErrorReport> {
    let (user, current) = (rust_uuid(identity::armed_user()?), rust_uuid(identity::armed_session()?));
    Ok(end_all(user, Some(current), Event::End, Some("ended by the user"))?)
}
