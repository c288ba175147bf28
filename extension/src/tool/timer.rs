//! The time a tool has.
//!
//! A timer of the server's own, beside statement_timeout: it ends the tool by the same pending cancel, and when the tool
//! has ended, nothing of it is left pending. A cancel that somebody else sent passes through as what it is.

use super::raw::timeout::{RegisterTimeout, USER_TIMEOUT, disable_timeout, enable_timeout_every};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How long a tool that catches its cancel has until the next.
const INSISTENCE: Duration = Duration::from_secs(1);
/// How many cancels a tool may catch. After that its connection ends: it would not end otherwise.
const PATIENCE: u32 = 3;

/// Whether the timer has cancelled what runs now.
static FIRED: AtomicBool = AtomicBool::new(false);
/// How many cancels of the timer the tool has caught.
static CAUGHT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static REASON: Cell<Option<c_int>> = const { Cell::new(None) };
}

/// Runs in a signal handler: it may only set flags. The server's handler for SIGALRM sets the latch.
extern "C" fn on_timeout() {
    // SAFETY: variables of type sig_atomic_t, made to be written by signal handlers.
    unsafe {
        let cancelled = (&raw const pg_sys::QueryCancelPending).read_volatile() != 0;
        if cancelled {
            // Ours, on its way, or one that somebody else sent first, which then stays theirs.
            return;
        }
        if FIRED.load(Relaxed) && CAUGHT.fetch_add(1, Relaxed) + 1 >= PATIENCE {
            (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        }
        FIRED.store(true, Relaxed);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
    }
}

/// A running timer. Dropping it stops it and takes back the cancel it may have left pending.
pub(super) struct Timer {
    reason: Option<c_int>,
}

impl Timer {
    /// Starts the timer. `None`: no limit.
    pub(super) fn start(limit: Option<Duration>) -> Timer {
        FIRED.store(false, Relaxed);
        CAUGHT.store(0, Relaxed);
        let Some(limit) = limit else { return Timer { reason: None } };
        let microseconds = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        let reason = REASON.with(|cell| {
            cell.get().unwrap_or_else(|| {
                // SAFETY: registered once a backend, never in the postmaster, whose children would forget it: tools run
                // in backends alone.
                let reason = unsafe { RegisterTimeout(USER_TIMEOUT, on_timeout) };
                cell.set(Some(reason));
                reason
            })
        });
        // SAFETY: a registered reason that is not running: tools do not nest.
        unsafe {
            let first = pg_sys::GetCurrentTimestamp().saturating_add(microseconds);
            enable_timeout_every(reason, first, INSISTENCE.as_millis() as c_int);
        }
        Timer { reason: Some(reason) }
    }

    /// Whether the time is over.
    pub(super) fn fired(&self) -> bool {
        FIRED.load(Relaxed)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(reason) = self.reason else { return };
        // SAFETY: once the timer is disabled, its handler runs no more. The pending cancel is ours if the timer fired:
        // the handler fires only where none was pending. One that arrives after ours merges with it, as one that arrives
        // when a statement has ended does.
        unsafe {
            disable_timeout(reason, false);
            if FIRED.swap(false, Relaxed) {
                (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
            }
        }
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{Timer, on_timeout};
    use pgrx::prelude::*;
    use std::time::{Duration, Instant};

    /// A tool may end between the cancel and the next look for one. The statement after it is another one's.
    #[pg_test]
    fn a_cancel_that_came_too_late_ends_nothing_else() {
        let timer = Timer::start(Some(Duration::from_millis(1)));
        let deadline = Instant::now() + Duration::from_secs(30);
        // Waits without looking for interrupts, as no function of the server would.
        while !timer.fired() {
            assert!(Instant::now() < deadline, "the timer does not fire");
            std::thread::yield_now();
        }
        drop(timer);
        assert_eq!(Spi::get_one::<i32>("SELECT 1"), Ok(Some(1)));
    }

    #[pg_test]
    fn a_cancel_that_somebody_else_sent_stays_theirs() {
        let pending = &raw mut pg_sys::QueryCancelPending;
        let timer = Timer::start(Some(Duration::from_secs(3600)));
        // SAFETY: a flag that signal handlers set. Nothing looks at it before it is taken back.
        let (fired, left) = unsafe {
            pending.write_volatile(1);
            on_timeout();
            let fired = timer.fired();
            drop(timer);
            (fired, pending.read_volatile())
        };
        // SAFETY: as before.
        unsafe { pending.write_volatile(0) };
        assert_eq!((fired, left), (false, 1));
    }

    #[pg_test]
    fn a_timer_that_was_stopped_ends_nothing() {
        drop(Timer::start(Some(Duration::from_millis(200))));
        assert_eq!(Spi::get_one::<bool>("SELECT pg_sleep(0.5) IS NOT NULL"), Ok(Some(true)));
    }
}
