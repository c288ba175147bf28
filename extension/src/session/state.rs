//! The state an application keeps with a session: written only by whoever saw the version it replaces.

use crate::error::Error;
use crate::identity;
use crate::ids::sql_uuid;
use crate::jsonb::Jsonb;
use crate::session::record::Column;
use crate::session::verdict::{Status, judge};
use crate::settings;
use crate::statement::{first, required, sql};
use pgrx::prelude::*;

/// Replaces the state of a live session. NULL where it has ended or somebody else won.
fn store(session: pgrx::Uuid, state: Option<Jsonb>, expected: Option<i64>) -> Result<Option<i64>, Error> {
    let state = state.ok_or(Error::Null("state"))?.within(
        "state",
        settings::max_state_bytes(),
        "mcp.max_state_bytes",
    )?;
    first(
        sql!(
            "UPDATE mcp.sessions SET state = $2, state_version = state_version + 1
              WHERE session_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
                AND state_version = coalesce($3, state_version)
             RETURNING state_version"
        ),
        &[session.into(), state.into(), expected.into()],
        |row| required::<i64>(&row, 1),
    )
}

/// Replaces the session's state. NULL when `expected_version` is not the current one, or
/// the token is not active.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn set_session_state(
    token: Option<&str>,
    state: Option<Jsonb>,
    expected_version: default!(Option<i64>, "NULL"),
) -> Result<Option<i64>, pg_sys::panic::ErrorReport> {
    let verdict = judge(token, None)?;
    match verdict.record.and_then(|record| record.uuid(Column::SessionId)) {
        Some(session) if verdict.status == Status::Active => {
            Ok(store(sql_uuid(session), state, expected_version)?)
        }
        _ => Ok(None),
    }
}

/// The state of the armed session. Raises 42501 where nobody is armed.
#[pg_extern(schema = "mcp", name = "state", security_definer, stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn armed_state() -> Result<Option<Jsonb>, pg_sys::panic::ErrorReport> {
    let session = identity::armed_session()?;
    let state =
        first(sql!("SELECT state FROM mcp.sessions WHERE session_id = $1"), &[session.into()], |row| {
            Ok(row.get::<Jsonb>(1)?)
        })?;
    Ok(state.flatten())
}

/// Replaces the state of the armed session; NULL when `expected_version` is not the current one. Raises 42501 where
/// nobody is armed.
#[pg_extern(schema = "mcp", name = "set_state", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn set_armed_state(
    state: Option<Jsonb>,
    expected_version: default!(Option<i64>, "NULL"),
) -> Result<Option<i64>, pg_sys::panic::ErrorReport> {
    Ok(store(identity::armed_session()?, state, expected_version)?)
}
