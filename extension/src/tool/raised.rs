//! Errors that PostgreSQL raises, caught with what a tool's caller and the server each need to know of them.
//!
//! pgrx catches errors too, but knows only the SQLSTATEs of PostgreSQL itself: one that a tool made up would come out as
//! an internal error.

use cee_scape::call_with_sigsetjmp;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Longer messages are cut: some quote the whole value they complain about.
const MAX_MESSAGE: usize = 4096;

/// An error of PostgreSQL's, caught and not yet answered.
#[derive(Debug)]
pub(super) struct Raised {
    data: *mut pg_sys::ErrorData,
}

/// Runs `call`, and returns the error where it raises one. What it carries is kept in `memory`.
///
/// The transaction is in no state to go on after an error: the caller must roll back a subtransaction that it opened
/// before, or raise the error again.
///
/// # Safety
/// An error jumps over the frames of `call`: they must hold nothing that needs dropping. So it calls C functions as they
/// are declared in [`super::raw`], without pgrx's wrappers, and no Rust function that allocates. `memory` must outlive
/// the [`Raised`].
pub(super) unsafe fn catch<T>(memory: pg_sys::MemoryContext, call: impl FnOnce() -> T) -> Result<T, Raised> {
    // SAFETY: what PG_TRY does. The variables read after the jump are not written between sigsetjmp, which runs in a
    // frame of its own, and siglongjmp.
    unsafe {
        let (handler, context) = (pg_sys::PG_exception_stack, pg_sys::error_context_stack);
        let mut result = MaybeUninit::uninit();
        let jumped = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = (&raw const *buffer).cast_mut().cast();
            result.write(call());
            0
        });
        pg_sys::PG_exception_stack = handler;
        pg_sys::error_context_stack = context;
        if jumped == 0 {
            return Ok(result.assume_init());
        }
        pg_sys::CurrentMemoryContext = memory;
        let data = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        Err(Raised { data })
    }
}

impl Raised {
    fn data(&self) -> &pg_sys::ErrorData {
        // SAFETY: made by CopyErrorData in memory that outlives this value.
        unsafe { &*self.data }
    }

    /// The five characters of the SQLSTATE.
    pub(super) fn sql_state(&self) -> [u8; 5] {
        let packed = self.data().sqlerrcode.cast_unsigned();
        // Six bits a character, counted from '0' (utils/elog.h).
        std::array::from_fn(|at| (packed >> (6 * at) & 0x3f) as u8 + b'0')
    }

    /// Whether the fault is the server's or the request's as a whole, not the tool's: connection, serialization, lack of
    /// resources, intervention, system, configuration, internal.
    pub(super) fn is_fault(&self) -> bool {
        matches!(&self.sql_state()[..2], b"08" | b"40" | b"53" | b"57" | b"58" | b"F0" | b"XX")
    }

    /// Whether it is what a pending cancel raises, rather than statement_timeout, or a tool that uses the same SQLSTATE.
    pub(super) fn is_cancel(&self) -> bool {
        // SAFETY: a static string of the server's, before translation.
        let id = unsafe { self.data().message_id.as_ref().map(|id| CStr::from_ptr(id)) };
        &self.sql_state() == b"57014" && id == Some(c"canceling statement due to user request")
    }

    /// The message alone: no detail, no hint, no context.
    pub(super) fn message(&self) -> String {
        let message = self.data().message;
        if message.is_null() {
            return "missing error text".to_owned();
        }
        // SAFETY: a string of the copy.
        let mut message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push('…');
        }
        message
    }

    /// The constraint that was violated.
    pub(super) fn constraint(&self) -> Option<String> {
        // SAFETY: a string of the copy, or null.
        let name = unsafe { self.data().constraint_name.as_ref().map(|name| CStr::from_ptr(name)) };
        name.map(|name| name.to_string_lossy().into_owned())
    }

    /// Raises it again, as it was.
    pub(super) fn raise(self) -> ! {
        // SAFETY: the copy is complete; the function copies it once more and jumps.
        unsafe { pg_sys::ReThrowError(self.data) };
        // There it is not declared so.
        #[cfg(feature = "pg18")]
        unreachable!("ReThrowError does not return");
    }
}
