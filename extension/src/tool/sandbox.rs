//! The sealed call: what a tool may do, and that nothing of it stays but what it wrote.
//!
//! The tool runs in a subtransaction, as `mcp_user`, in the security context that SECURITY DEFINER functions have: no
//! SET ROLE, no SET SESSION AUTHORIZATION by any way. Unless its owner opted out, the context is also that of
//! maintenance commands: no temporary tables, no LISTEN, no prepared statements, no cursors that outlive it. Settings it
//! changes are set back, also those it changed for the session, advisory locks are released, and what sequences and
//! random() remember is forgotten. An error rolls back what it wrote and nothing else.
//!
//! The server cannot tell a tool's advisory locks from its caller's, so both are released; and what an unrestricted tool
//! deferred is checked together with what its caller did. A call wants a connection and a transaction of its own.

use super::raised::{Raised, catch};
use super::timer::Timer;
use super::{Failure, raw, temporary};
use crate::guc;
use crate::identity;
use pgrx::prelude::*;
use std::ffi::{CStr, CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::time::Duration;

/// How a tool is to run.
pub(super) struct Seal {
    /// The role that acts: `mcp_user`.
    pub(super) user: pg_sys::Oid,
    /// Where the tool finds what it names without a schema.
    pub(super) search_path: CString,
    /// Whether it may write.
    pub(super) read_only: bool,
    /// Whether it is also restricted as maintenance commands are.
    pub(super) restricted: bool,
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
    /// Which of its messages reach the client; `None`: those that the caller's settings let pass.
    pub(super) messages: Option<&'static CStr>,
}

/// Inside a sealed call.
pub(super) struct Sealed {
    /// The caller's memory: what is to outlive the call goes there.
    home: pg_sys::MemoryContext,
    pub(super) read_only: bool,
}

impl Sealed {
    /// Runs a function of the server's and catches the error it may raise.
    ///
    /// # Safety
    /// As [`catch`].
    pub(super) unsafe fn catch<T>(&self, call: impl FnOnce() -> T) -> Result<T, Raised> {
        // SAFETY: the caller's memory outlives the call, and the caller promises the rest.
        unsafe { catch(self.home, call) }
    }

    /// Makes `make` allocate in the caller's memory.
    ///
    /// # Safety
    /// As [`catch`].
    pub(super) unsafe fn catch_at_home<T>(&self, make: impl FnOnce() -> T) -> Result<T, Raised> {
        // SAFETY: switches back on both ways out; the caller promises the rest.
        unsafe {
            let here = pg_sys::MemoryContextSwitchTo(self.home);
            let made = catch(self.home, make);
            pg_sys::MemoryContextSwitchTo(here);
            made
        }
    }
}

/// Runs `tool` sealed. It finds an open SPI connection; memory it allocates goes when it returns.
pub(super) fn run<T>(seal: &Seal, tool: impl FnOnce(&Sealed) -> Result<T, Failure>) -> Result<T, Failure> {
    // SAFETY: backend-local state of the only thread. What BEGIN … EXCEPTION of PL/pgSQL does: the memory context and the
    // resource owner are ours to restore, everything else is the subtransaction's.
    unsafe {
        let (home, resources) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(ptr::null());
        pg_sys::MemoryContextSwitchTo(home);
        identity::seal(true);
        temporary::forget_use();
        // A panic is an error of the server's that one of pgrx's wrappers turned into one, or a fault of ours.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let timer = Timer::start(seal.timeout);
            let result = enter(seal, home, tool);
            match result {
                Err(failure) if timer.fired() && failure.is_cancel() => Err(Failure::TimedOut),
                result => result,
            }
        }));
        if matches!(outcome, Ok(Ok(_))) {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            // Restores the user, the security context, the settings and whether the transaction is read-only, closes
            // SPI connections and portals, and takes back every write.
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        forget();
        identity::seal(false);
        pg_sys::MemoryContextSwitchTo(home);
        pg_sys::CurrentResourceOwner = resources;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Takes from the backend what outlives commit and abort: whoever gets the connection next would hold the tool's locks,
/// be told the numbers it drew, and draw random ones from where it set them to begin.
///
/// # Safety
/// After the tool, outside of its subtransaction.
unsafe fn forget() {
    // SAFETY: backend-local state. The number is below 1, so that the last function does not raise.
    unsafe {
        pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID);
        raw::ResetSequenceCaches();
        let seed = pg_sys::pg_prng_double(&raw mut pg_sys::pg_global_prng_state);
        let seed = seed.into_datum().expect("not null");
        raw::DirectFunctionCall1Coll(Some(raw::setseed), pg_sys::InvalidOid, seed);
    }
}

/// Switches over, runs the tool, and switches back where that succeeds.
///
/// # Safety
/// In a subtransaction of ours, which the caller rolls back where this fails.
unsafe fn enter<T>(
    seal: &Seal,
    home: pg_sys::MemoryContext,
    tool: impl FnOnce(&Sealed) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: as in `run`.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let settings = pg_sys::NewGUCNestLevel();
        pin_settings(&seal.search_path, seal.messages);
        if seal.read_only {
            // The subtransaction sets it back. Inside it, SET TRANSACTION READ WRITE is refused.
            pg_sys::XactReadOnly = true;
        }
        let mut sealed_context = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as c_int;
        if seal.restricted {
            sealed_context |= pg_sys::SECURITY_RESTRICTED_OPERATION as c_int;
        }
        pg_sys::SetUserIdAndSecContext(seal.user, sealed_context);

        pg_sys::SPI_connect();
        let sealed = Sealed { home, read_only: seal.read_only };
        let result = tool(&sealed)?;
        if !seal.restricted {
            // What the tool deferred is checked as the tool's user, and fails as the tool; under restriction nothing can
            // be deferred.
            let text = c"SET CONSTRAINTS ALL IMMEDIATE".as_ptr();
            sealed.catch(|| raw::SPI_execute(text, false, 0))?;
            sealed.catch(|| close_held_cursors())?;
        }
        pg_sys::SPI_finish();

        pg_sys::AtEOXact_GUC(false, settings);
        pg_sys::SetUserIdAndSecContext(user, context);
        Ok(result)
    }
}

/// Closes the cursors WITH HOLD that were declared since the statement began. They would run to their end at the commit,
/// when nothing is sealed any more. Under restriction there are none.
///
/// # Safety
/// In a closure of [`Sealed::catch`], with SPI connected.
unsafe fn close_held_cursors() {
    let text = c"SELECT name FROM pg_catalog.pg_cursors
                  WHERE is_holdable AND creation_time OPERATOR(pg_catalog.>=) pg_catalog.statement_timestamp()";
    // SAFETY: the result is SPI's, until the next one; a portal found by name is closed at once.
    unsafe {
        raw::SPI_execute(text.as_ptr(), true, 0);
        let (rows, found) = (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
        for row in 0..found {
            let name = raw::SPI_getvalue(*(*rows).vals.add(row), (*rows).tupdesc, 1);
            let portal = raw::SPI_cursor_find(name);
            if !portal.is_null() {
                raw::SPI_cursor_close(portal);
            }
        }
    }
}

/// Gives the settings that decide what SQL and values mean the values that tools are written for, whatever the caller
/// has set. Those that have them already cost nothing.
///
/// # Safety
/// In a nest level of the settings that the caller closes.
unsafe fn pin_settings(search_path: &CStr, messages: Option<&CStr>) {
    // SAFETY: reads variables behind settings; the nest level is the caller's.
    unsafe {
        guc::pin(c"search_path", search_path);
        if let Some(level) = messages {
            guc::pin(c"client_min_messages", level);
        }
        // Off, policies raise instead of filtering.
        if !pg_sys::row_security {
            guc::pin(c"row_security", c"on");
        }
        // These two change how the body of a function is read when it first runs.
        if !pg_sys::standard_conforming_strings {
            guc::pin(c"standard_conforming_strings", c"on");
        }
        if pg_sys::Transform_null_equals {
            guc::pin(c"transform_null_equals", c"off");
        }
        // These change what JSON a value becomes; the schemas promise hexadecimal and ISO 8601, and numbers are told exactly.
        if raw::bytea_output != BYTEA_OUTPUT_HEX {
            guc::pin(c"bytea_output", c"hex");
        }
        if pg_sys::IntervalStyle != pg_sys::INTSTYLE_ISO_8601 as c_int {
            guc::pin(c"intervalstyle", c"iso_8601");
        }
        if pg_sys::extra_float_digits < 1 {
            guc::pin(c"extra_float_digits", c"1");
        }
    }
}

/// utils/bytea.h
const BYTEA_OUTPUT_HEX: c_int = 1;
