//! Looking a session up, entering it, and keeping it alive by use.

use crate::audit;
use crate::changes::one_snapshot;
use crate::error::Error;
use crate::identity;
use crate::ids::sql_uuid;
use crate::owner::as_owner;
use crate::session::record::{Column, Record};
use crate::session::verdict::{Status, Verdict, judge};
use crate::statement::{first, required, sql};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::ptr;

/// A touch writes only when it gains more than this part of the TTL.
const WORTH_WRITING: i64 = 100;

/// Verifies the token and, when it is active, arms the identity for this transaction. Raises 55000 where one is armed
/// already. Writes nothing but the audit row of a refusal; what follows slides the expiry with [`touch_armed`].
pub(crate) fn authenticate(token: Option<&str>, resource: Option<&str>) -> Result<Status, Error> {
    Ok(authenticated(token, resource)?.status)
}

fn authenticated(token: Option<&str>, resource: Option<&str>) -> Result<Verdict, Error> {
    identity::check_unarmed()?;
    let verdict = judge(token, resource)?;
    match (&verdict.record, verdict.status) {
        (Some(record), Status::Active) => identity::arm(record, verdict.token_ends_at)?,
        (Some(record), status) => audit::refused(record, status, verdict.proven)?,
        // Nothing is written for a token that names nothing: anybody can make those up by the million.
        (None, _) => {}
    }
    Ok(verdict)
}

/// Slides the armed session's expiry, when that gains enough. For callers that authenticated at the beginning of a long
/// transaction and touch at its end, so that no row lock is held while a tool runs.
pub(crate) fn touch_armed() -> Result<(), Error> {
    let session_id = identity::armed_session()?;
    let Some(record) = Record::find(session_id.as_bytes())? else { return Ok(()) };
    identity::extend(slide(&record)?);
    Ok(())
}

/// The session's expiry after this use. Skips the write when it gains too little, on a standby and in a read-only
/// transaction, and when another transaction holds the row: it is sliding the expiry too, or ending the session. In
/// REPEATABLE READ and above also when one has changed the row since the snapshot.
fn slide(record: &Record) -> Result<pg_sys::TimestampTz, Error> {
    let expires_at = record.expires_at();
    let (ttl, absolute) = (record.ttl(), record.time(Column::AbsoluteExpiresAt).unwrap_or(0));
    // SAFETY: reads the clock and backend-local state.
    let (now, writable) = unsafe {
        (
            pg_sys::GetCurrentTimestamp(),
            !pg_sys::XactReadOnly && !pg_sys::RecoveryInProgress() && !pg_sys::IsInParallelMode(),
        )
    };
    if !writable || now.saturating_add(ttl).min(absolute) - expires_at <= ttl / WORTH_WRITING {
        return Ok(expires_at);
    }
    let session_id = record.uuid(Column::SessionId).map(sql_uuid);
    let write = || as_owner(|| write_slide(session_id));
    let slid = if one_snapshot() { unless_changed(write)? } else { write()? };
    Ok(slid.map_or(expires_at, pg_sys::TimestampTz::from))
}

/// Writes the later expiry, and returns it; `None` where the session is not live, or its row held by another transaction.
/// Runs as `mcp_owner`.
fn write_slide(session_id: Option<pgrx::Uuid>) -> Result<Option<TimestampWithTimeZone>, Error> {
    first(
        sql!(
            "UPDATE mcp.sessions AS s
                SET expires_at = least(clock_timestamp() + s.ttl, s.absolute_expires_at),
                    updated_at = clock_timestamp()
               FROM (SELECT session_id FROM mcp.sessions
                      WHERE session_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
                        FOR NO KEY UPDATE SKIP LOCKED) AS live
              WHERE s.session_id = live.session_id
             RETURNING s.expires_at"
        ),
        &[session_id.into()],
        |row| required::<TimestampWithTimeZone>(&row, 1),
    )
}

/// What `write` returns; `None` where it would change a row that has changed since the transaction's snapshot, which
/// SKIP LOCKED does not skip. Then nothing is written, and the transaction goes on.
fn unless_changed<T>(write: impl FnOnce() -> Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    // SAFETY: what BEGIN … EXCEPTION of PL/pgSQL does: the memory context and the resource owner are ours to restore,
    // everything else is the subtransaction's. Any other error ends it together with the transaction.
    unsafe {
        let (memory, resources) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let written = PgTryBuilder::new(AssertUnwindSafe(|| {
            let written = write();
            pg_sys::ReleaseCurrentSubTransaction();
            written
        }))
        .catch_when(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, |_| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            Ok(None)
        })
        .execute();
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = resources;
        written
    }
}

/// Slides the expiry of the session. Returns the new one; NULL unless the token is active.
#[pg_extern(schema = "mcp")]
fn touch_session(token: Option<&str>) -> Result<Option<TimestampWithTimeZone>, pg_sys::panic::ErrorReport> {
    let verdict = judge(token, None)?;
    match verdict.record {
        Some(record) if verdict.status == Status::Active => {
            let expires_at = slide(&record)?;
            Ok(TimestampWithTimeZone::try_from(expires_at).ok())
        }
        _ => Ok(None),
    }
}

/// The columns of the row that `lookup_session` and `enter` answer with, and their types.
const ANSWER: [(&std::ffi::CStr, pg_sys::Oid); 15] = [
    (c"status", pg_sys::TEXTOID),
    (c"session_id", pg_sys::UUIDOID),
    (c"user_id", pg_sys::UUIDOID),
    (c"issuer", pg_sys::TEXTOID),
    (c"subject", pg_sys::TEXTOID),
    (c"client_id", pg_sys::TEXTOID),
    (c"resource", pg_sys::TEXTOID),
    (c"scopes", pg_sys::TEXTARRAYOID),
    (c"claims", pg_sys::JSONBOID),
    (c"state", pg_sys::JSONBOID),
    (c"state_version", pg_sys::INT8OID),
    (c"created_at", pg_sys::TIMESTAMPTZOID),
    (c"updated_at", pg_sys::TIMESTAMPTZOID),
    (c"expires_at", pg_sys::TIMESTAMPTZOID),
    (c"absolute_expires_at", pg_sys::TIMESTAMPTZOID),
];

thread_local! {
    /// The row type of [`ANSWER`], made once a backend: looking it up in the catalog costs more than the session.
    static ANSWER_TYPE: Cell<pg_sys::TupleDesc> = const { Cell::new(ptr::null_mut()) };
}

fn answer_type() -> pg_sys::TupleDesc {
    ANSWER_TYPE.with(|cell| {
        if cell.get().is_null() {
            // SAFETY: made in the memory context that lives as long as the backend.
            unsafe {
                let caller = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
                let description = pg_sys::CreateTemplateTupleDesc(ANSWER.len() as i32);
                for (at, (name, oid)) in ANSWER.iter().enumerate() {
                    pg_sys::TupleDescInitEntry(description, at as i16 + 1, name.as_ptr(), *oid, -1, 0);
                }
                cell.set(pg_sys::BlessTupleDesc(description));
                pg_sys::MemoryContextSwitchTo(caller);
            }
        }
        cell.get()
    })
}

/// The row for a verdict. Who is behind a session is told only to whom it lets in; that it has ended, and when, also to
/// the holder of its secret.
fn answer(verdict: &Verdict, expires_at: Option<pg_sys::TimestampTz>) -> pg_sys::Datum {
    let mut values = [pg_sys::Datum::null(); ANSWER.len()];
    let mut nulls = [true; ANSWER.len()];
    let mut set = |at: usize, value: Option<pg_sys::Datum>| {
        if let Some(value) = value {
            (values[at], nulls[at]) = (value, false);
        }
    };
    set(0, verdict.status.as_str().into_datum());
    if let Some(record) = verdict.record.as_ref().filter(|_| verdict.proven) {
        use Column::*;
        set(1, record.datum(SessionId));
        set(13, expires_at.map(pg_sys::Datum::from).or(record.datum(ExpiresAt)));
        set(14, record.datum(AbsoluteExpiresAt));
        if verdict.status == Status::Active {
            let columns =
                [UserId, Issuer, Subject, ClientId, Resource, record.scopes_column(), Claims, State];
            let columns = columns.into_iter().chain([StateVersion, CreatedAt, UpdatedAt]);
            for (at, column) in columns.enumerate() {
                set(at + 2, record.datum(column));
            }
        }
    }
    // SAFETY: values and nulls match the description.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(answer_type(), values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

fn token_and_resource<'a>(fcinfo: pg_sys::FunctionCallInfo) -> (Option<&'a str>, Option<&'a str>) {
    // SAFETY: both functions are declared with two arguments of type text.
    unsafe { (pgrx::fcinfo::pg_getarg(fcinfo, 0), pgrx::fcinfo::pg_getarg(fcinfo, 1)) }
}

fn entered(fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum, Error> {
    let (token, resource) = token_and_resource(fcinfo);
    let verdict = authenticated(token, resource)?;
    let expires_at = match &verdict.record {
        Some(record) if verdict.status == Status::Active => {
            let expires_at = slide(record)?;
            identity::extend(expires_at);
            Some(expires_at)
        }
        _ => None,
    };
    Ok(answer(&verdict, expires_at))
}

fn looked_up(fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum, Error> {
    let (token, resource) = token_and_resource(fcinfo);
    Ok(answer(&judge(token, resource)?, None))
}

/// Functions declared in `extension/sql/sessions.sql`: each returns its one row without the protocol for many.
macro_rules! one_row {
    ($function:ident, $info:ident, $body:expr) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const INFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }

        #[doc(hidden)]
        #[pg_guard]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $function(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            $body(fcinfo).unwrap_or_else(|error: Error| error.raise())
        }
    };
}

one_row!(mcp_enter, pg_finfo_mcp_enter, entered);
one_row!(mcp_lookup_session, pg_finfo_mcp_lookup_session, looked_up);
