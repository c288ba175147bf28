//! The audit log: one append-only row for each thing that happened to a session. No secrets.

use crate::error::Error;
use crate::identity;
use crate::ids::{rust_uuid, sql_uuid};
use crate::owner::as_owner;
use crate::session::Status;
use crate::session::record::{Column, Record};
use crate::statement::{run, sql};
use pgrx::pg_sys;
use uuid::Uuid;

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Create,
    EnterRefused,
    Refresh,
    RefreshReuse,
    Revoke,
    /// The user ended a session of theirs.
    End,
    /// An administrator ended it.
    AdminEnd,
    /// A new session of the user took its place.
    Displace,
    /// The user let the client do more.
    Widen,
    /// An authorization code came back that had been redeemed.
    CodeReplay,
    /// An operator forgot a client.
    RemoveClient,
    /// A tool was called whose function is not what was exposed any more.
    CallRefused,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Create => "create",
            Event::EnterRefused => "enter_refused",
            Event::Refresh => "refresh",
            Event::RefreshReuse => "refresh_reuse",
            Event::Revoke => "revoke",
            Event::End => "end",
            Event::AdminEnd => "admin_end",
            Event::Displace => "displace",
            Event::Widen => "widen",
            Event::CodeReplay => "code_replay",
            Event::RemoveClient => "remove_client",
            Event::CallRefused => "call_refused",
        }
    }
}

/// Appends a row. Runs as `mcp_owner` already. `session_user` is kept as the actor: the login that made the call.
pub(crate) fn record(
    event: Event,
    session_id: Option<Uuid>,
    user_id: Option<Uuid>,
    client_id: Option<&str>,
    reason: Option<&str>,
) -> Result<(), Error> {
    let uuid = |uuid: Option<Uuid>| uuid.map(sql_uuid);
    run(
        sql!(
            "INSERT INTO mcp.audit_log (event, session_id, user_id, client_id, actor, reason)
             VALUES ($1, $2, $3, $4, session_user, $5)"
        ),
        &[
            event.name().into(),
            uuid(session_id).into(),
            uuid(user_id).into(),
            client_id.into(),
            reason.into(),
        ],
    )?;
    Ok(())
}

/// Not on a standby and not in a read-only transaction, where the refusal is all that can be done.
fn can_write() -> bool {
    // SAFETY: reads backend-local state.
    unsafe { !(pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() || pg_sys::IsInParallelMode()) }
}

/// Appends the row of a call that was refused to the armed session.
pub(crate) fn call_refused(reason: &str) -> Result<(), Error> {
    if !can_write() {
        return Ok(());
    }
    let (session, user) = (rust_uuid(identity::armed_session()?), rust_uuid(identity::armed_user()?));
    let client = identity::armed_client()?;
    as_owner(|| record(Event::CallRefused, Some(session), Some(user), client.as_deref(), Some(reason)))
}

/// Appends the row of a refused token.
pub(crate) fn refused(session: &Record, status: Status, proven: bool) -> Result<(), Error> {
    if !can_write() {
        return Ok(());
    }
    let reason = if proven { status.as_str() } else { "wrong_secret" };
    as_owner(|| {
        record(
            Event::EnterRefused,
            session.uuid(Column::SessionId),
            session.uuid(Column::UserId),
            session.text(Column::ClientId).as_deref(),
            Some(reason),
        )
    })
}
