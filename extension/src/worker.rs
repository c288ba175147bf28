//! The background worker: clean-up at intervals, where the library is preloaded.

use crate::cleanup;
use crate::owner::as_owner;
use crate::settings;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{PgAtomic, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

const NAME: &str = "mcp_sessions cleanup";

/// Whether the shared memory below exists; inherited by every backend of a server that preloads the library.
static PRELOADED: AtomicBool = AtomicBool::new(false);
// SAFETY: the names are unique in the cluster, as they carry the library's.
static PID: PgAtomic<AtomicI32> = unsafe { PgAtomic::new(c"mcp_sessions worker pid") };
// SAFETY: as above.
static LAST_RUN: PgAtomic<AtomicI64> = unsafe { PgAtomic::new(c"mcp_sessions worker last run") };
// SAFETY: as above.
static DELETED: PgAtomic<AtomicI64> = unsafe { PgAtomic::new(c"mcp_sessions worker deleted") };

/// Registers the worker. Only while the postmaster preloads the library.
pub(crate) fn register() {
    pg_shmem_init!(PID = AtomicI32::new(0));
    pg_shmem_init!(LAST_RUN = AtomicI64::new(0));
    pg_shmem_init!(DELETED = AtomicI64::new(0));
    PRELOADED.store(true, Relaxed);
    if settings::database().is_none() {
        return;
    }
    BackgroundWorkerBuilder::new(NAME)
        .set_type(NAME)
        .set_library("mcp_sessions")
        .set_function("mcp_sessions_worker_main")
        .enable_spi_access()
        .set_restart_time(Some(Duration::from_secs(5)))
        .load();
}

#[doc(hidden)]
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn mcp_sessions_worker_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    let Some(database) = settings::database() else { return };
    BackgroundWorker::connect_worker_to_spi(Some(&database), None);
    PID.get().store(std::process::id().cast_signed(), Relaxed);
    let mut nap = Duration::from_millis(1);
    while BackgroundWorker::wait_latch(Some(nap)) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: what the main loop of every PostgreSQL process does on SIGHUP.
            unsafe {
                pg_sys::ConfigReloadPending = 0;
                pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            }
        }
        let more = BackgroundWorker::transaction(one_batch);
        // SAFETY: reads the clock; reports on this process. A worker has no main loop that would do it, and without the
        // report autovacuum never hears of the deletions.
        unsafe {
            LAST_RUN.get().store(pg_sys::GetCurrentTimestamp(), Relaxed);
            pg_sys::pgstat_report_stat(false);
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        }
        nap = if more { Duration::from_millis(1) } else { settings::cleanup_interval() };
    }
    PID.get().store(0, Relaxed);
    // The postmaster does not start a worker again that ended with 0, and SIGTERM is also what pg_terminate_backend()
    // sends. While the server shuts down, it starts none anyway.
    // SAFETY: ends the process, as returning from here would.
    unsafe { pg_sys::proc_exit(1) }
}

/// Deletes one batch. Returns whether there is more. An ERROR ends the worker, and the postmaster starts it again.
fn one_batch() -> bool {
    // SAFETY: catalog look-ups in a transaction; the text is static.
    let installed = unsafe {
        pg_sys::pgstat_report_activity(
            pg_sys::BackendState::STATE_RUNNING,
            c"cleaning up ended sessions".as_ptr(),
        );
        pg_sys::get_extension_oid(c"mcp_sessions".as_ptr(), true) != pg_sys::InvalidOid
    };
    if !installed {
        return false;
    }
    match as_owner(cleanup::batch) {
        Ok((deleted, more)) => {
            DELETED.get().fetch_add(deleted, Relaxed);
            more
        }
        Err(error) => error.raise(),
    }
}

/// Why the worker does not clean up in this database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Absence {
    #[error(
        "This server is a standby: what the primary deletes goes from here too. Ask again after a promotion."
    )]
    Standby,
    #[error(
        "The library is not preloaded: add mcp_sessions to shared_preload_libraries, set mcp.database and restart; until \
         then call mcp.cleanup_expired_sessions() from a scheduler."
    )]
    NotPreloaded,
    #[error("mcp.database is not set: set it and restart.")]
    NoDatabase,
    #[error("The worker cleans up in database {worker}, not in {here}.")]
    OtherDatabase { worker: String, here: String },
    #[error(
        "The worker is not running: see the server's log; it starts again within seconds once database {database} can be \
         reached."
    )]
    NotRunning { database: String },
}

/// The running worker's process id.
fn running() -> Option<i32> {
    let pid = PID.get().load(Relaxed);
    // SAFETY: looks the process up in shared memory.
    (pid != 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }).then_some(pid)
}

/// Why the worker does not clean up in this database; `None` where it does.
pub(crate) fn absence() -> Option<Absence> {
    // SAFETY: reads the server's state.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Some(Absence::Standby);
    }
    if !PRELOADED.load(Relaxed) {
        return Some(Absence::NotPreloaded);
    }
    let here = current_database();
    match settings::database() {
        None => Some(Absence::NoDatabase),
        Some(worker) if worker != here => Some(Absence::OtherDatabase { worker, here }),
        Some(database) => running().is_none().then_some(Absence::NotRunning { database }),
    }
}

/// Whether the background worker cleans up here, and what is missing where it does not.
#[pg_extern(schema = "mcp")]
fn worker_status() -> Result<
    TableIterator<
        'static,
        (
            name!(running, bool),
            name!(pid, Option<i32>),
            name!(database, Option<String>),
            name!(last_run, Option<TimestampWithTimeZone>),
            name!(deleted, Option<i64>),
            name!(detail, String),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let absence = absence();
    let detail = absence.as_ref().map_or_else(|| "The worker is running.".into(), ToString::to_string);
    if !PRELOADED.load(Relaxed) {
        return Ok(TableIterator::once((false, None, None, None, None, detail)));
    }
    let last_run = LAST_RUN.get().load(Relaxed);
    Ok(TableIterator::once((
        absence.is_none(),
        running(),
        settings::database(),
        (last_run != 0).then(|| TimestampWithTimeZone::try_from(last_run).ok()).flatten(),
        Some(DELETED.get().load(Relaxed)),
        detail,
    )))
}

pub(crate) fn current_database() -> String {
    // SAFETY: a palloc'd C string of the database this backend is connected to.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
