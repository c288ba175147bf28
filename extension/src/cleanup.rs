//! Clean-up: deleting what has ended.

use crate::error::Error;
use crate::interval::{age, microseconds};
use crate::settings;
use crate::statement::{first, required, run, sql};
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// Deletes up to a number of rows that were over at a moment, and returns how many it deleted. Rows that another
/// transaction holds are left for the next time. Runs as `mcp_owner`.
type Delete = fn(i64, TimestampWithTimeZone) -> Result<i64, Error>;

/// A [`Delete`] of a table's rows that are over at `$2`, oldest first. That is a moment the caller has read: no index
/// helps against a clock that moves while the statement runs.
#[rustfmt::skip]
macro_rules! delete {
    ($table:literal, $key:literal, $since:literal, $condition:literal) => {
        |limit, moment| {
            run(
                sql!(concat!(
                    "DELETE FROM mcp.", $table, " AS t
                      USING (SELECT ", $key, " FROM mcp.", $table, " WHERE ", $since, " <= $2 AND ", $condition, "
                              ORDER BY ", $since, " LIMIT $1 FOR UPDATE SKIP LOCKED) AS ended
                      WHERE t.", $key, " = ended.", $key
                )),
                &[limit.into(), moment.into()],
            )
        }
    };
}

const SESSIONS: Delete = delete!("sessions", "session_id", "expires_at", "true");
const AUDIT_LOG: Delete = delete!("audit_log", "id", "at", "true");
const OTHERS: [Delete; 5] = [
    delete!("sign_ins", "state_hash", "expires_at", "true"),
    delete!("clients", "client_id", "expires_at", "true"),
    // Nobody recalls them any more, but a code that was issued on one may be redeemed.
    delete!("consents", "consent_id", "expires_at", "expires_at <= $2 - interval '1 hour'"),
    // Redeemed codes stay for another hour, so that a replay is known for what it is.
    delete!(
        "authorization_codes",
        "selector",
        "expires_at",
        "(redeemed_at IS NULL OR redeemed_at <= $2 - interval '1 hour')"
    ),
    delete!("used_request_states", "state_hash", "expires_at", "true"),
];

/// The moment so many microseconds ago.
fn ago(microseconds: i64) -> TimestampWithTimeZone {
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    (now - microseconds).try_into().expect("an age is a thousand years at most")
}

/// One batch of everything, for the background worker: how many rows it deleted, and whether there is more.
pub(crate) fn batch() -> Result<(i64, bool), Error> {
    let limit = i64::from(settings::cleanup_batch_size());
    let mut deleted = vec![
        SESSIONS(limit, ago(microseconds(settings::retention())))?,
        AUDIT_LOG(limit, ago(microseconds(settings::audit_retention())))?,
    ];
    for delete in OTHERS {
        deleted.push(delete(limit, ago(0))?);
    }
    Ok((deleted.iter().sum(), deleted.contains(&limit)))
}

/// Deletes the sessions that have ended, at once, and returns how many: at most `batch_size`, all of them when it is
/// NULL; only those that ended `older_than` ago. Sign-ins, codes, consents and clients that are over go too, at most
/// `batch_size` of each, uncounted.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn cleanup_expired_sessions(
    batch_size: default!(Option<i32>, "NULL"),
    older_than: default!(Option<Interval>, "'0'"),
) -> Result<i64, pg_sys::panic::ErrorReport> {
    if batch_size.is_some_and(|size| size < 0) {
        return Err(Error::Negative { what: "batch_size" }.into());
    }
    let ended = ago(age("older_than", older_than)?);
    for delete in OTHERS {
        delete(batch_size.map_or(i64::MAX, i64::from), ago(0))?;
    }
    if let Some(limit) = batch_size {
        return Ok(SESSIONS(limit.into(), ended)?);
    }
    // In batches, so that a million rows do not queue a million pending cascades.
    let batch = i64::from(settings::cleanup_batch_size());
    let mut deleted = 0;
    loop {
        let now = SESSIONS(batch, ended)?;
        deleted += now;
        if now < batch {
            return Ok(deleted);
        }
        pgrx::check_for_interrupts!();
    }
}

/// Counts the sessions there are rows for. Revoked ones count as revoked until they would have ended.
#[pg_extern(schema = "mcp", security_definer, stable)]
#[search_path(pg_catalog, pg_temp)]
fn session_stats() -> Result<
    TableIterator<
        'static,
        (
            name!(total_sessions, i64),
            name!(active_sessions, i64),
            name!(expired_sessions, i64),
            name!(revoked_sessions, i64),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let row = first(
        sql!(
            "SELECT count(*),
                    count(*) FILTER (WHERE revoked_at IS NULL AND expires_at > clock_timestamp()),
                    count(*) FILTER (WHERE expires_at <= clock_timestamp()),
                    count(*) FILTER (WHERE revoked_at IS NOT NULL AND expires_at > clock_timestamp())
               FROM mcp.sessions"
        ),
        &[],
        |row| Ok((required(&row, 1)?, required(&row, 2)?, required(&row, 3)?, required(&row, 4)?)),
    )?;
    Ok(TableIterator::new(row))
}
