//! Clean-up: deleting what has ended.

use crate::error::Error;
use crate::interval::{age, microseconds};
use crate::oauth;
use crate::settings;
use crate::statement::{first, required, run, sql};
use crate::tool::clean_up_request_states;
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// Deletes up to `limit` sessions that ended at least `older_than` microseconds ago, oldest first. Rows that another
/// transaction holds are left for the next time. Runs as `mcp_owner`.
fn sessions(limit: i64, older_than: i64) -> Result<i64, Error> {
    run(
        sql!(
            "DELETE FROM mcp.sessions AS s
              USING (SELECT session_id FROM mcp.sessions
                      WHERE expires_at <= clock_timestamp() - $2 * interval '1 microsecond'
                      ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS ended
              WHERE s.session_id = ended.session_id"
        ),
        &[limit.into(), older_than.into()],
    )
}

fn sign_ins(limit: i64) -> Result<i64, Error> {
    run(
        sql!(
            "DELETE FROM mcp.sign_ins AS s
              USING (SELECT state_hash FROM mcp.sign_ins WHERE expires_at <= clock_timestamp()
                      LIMIT $1 FOR UPDATE SKIP LOCKED) AS ended
              WHERE s.state_hash = ended.state_hash"
        ),
        &[limit.into()],
    )
}

fn audit_log(limit: i64, older_than: i64) -> Result<i64, Error> {
    run(
        sql!(
            "DELETE FROM mcp.audit_log AS a
              USING (SELECT id FROM mcp.audit_log WHERE at <= clock_timestamp() - $2 * interval '1 microsecond'
                      ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED) AS old
              WHERE a.id = old.id"
        ),
        &[limit.into(), older_than.into()],
    )
}

/// One batch of everything, for the background worker: how many rows it deleted, and whether there is more.
pub(crate) fn batch() -> Result<(i64, bool), Error> {
    let limit = i64::from(settings::cleanup_batch_size());
    let deleted = [
        sessions(limit, microseconds(settings::retention()))?,
        sign_ins(limit)?,
        oauth::client::clean_up(limit)?,
        oauth::consent::clean_up(limit)?,
        oauth::code::clean_up(limit)?,
        clean_up_request_states(limit)?,
        audit_log(limit, microseconds(settings::audit_retention()))?,
    ];
    Ok((deleted.iter().sum(), deleted.contains(&limit)))
}

/// Deletes the sessions that have ended, at once, and returns how many: at most `batch_size`, all of them when it is
/// NULL; only those that ended `older_than` ago. Sign-ins, codes, consents and clients that are over go too, uncounted.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn cleanup_expired_sessions(
    batch_size: default!(Option<i32>, "NULL"),
    older_than: default!(Option<Interval>, "'0'"),
) -> Result<i64, pg_sys::panic::ErrorReport> {
    if batch_size.is_some_and(|size| size < 0) {
        return Err(Error::Negative { what: "batch_size" }.into());
    }
    let older_than = age("older_than", older_than)?;
    let others = [
        sign_ins,
        oauth::client::clean_up,
        oauth::consent::clean_up,
        oauth::code::clean_up,
        clean_up_request_states,
    ];
    for clean_up in others {
        clean_up(i64::MAX)?;
    }
    if let Some(limit) = batch_size {
        return Ok(sessions(limit.into(), older_than)?);
    }
    // In batches, so that a million rows do not queue a million pending cascades.
    let batch = i64::from(settings::cleanup_batch_size());
    let mut deleted = 0;
    loop {
        let now = sessions(batch, older_than)?;
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
