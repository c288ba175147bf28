//! What tools may not leave in the temporary schema.
//!
//! A security-restricted operation refuses temporary tables alone. A function or a type made there would outlive the call,
//! and whatever the pooled connection runs next might find it.
//!
//! So a restricted tool may make nothing after it used the temporary schema, which making something there is. The server
//! notes that use for PREPARE TRANSACTION, which an armed identity rules out anyway.

use super::refusal::Refusal;
use crate::error::Error;
use crate::identity;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{c_int, c_void};

thread_local! {
    static NEXT: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

const USED: c_int = pg_sys::XACT_FLAGS_ACCESSEDTEMPNAMESPACE as c_int;

/// Looks at every object that is made. Called once, while the library loads.
pub(crate) fn init() {
    // SAFETY: the hook lives as long as the library, which is never unloaded, and calls the one before it.
    unsafe {
        NEXT.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(on_access);
    }
}

/// Takes the temporary schema for unused so far.
pub(super) fn forget_use() {
    // SAFETY: flags of the transaction, read and written on the backend's only thread.
    unsafe { pg_sys::MyXactFlags &= !USED }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    if let Some(next) = NEXT.get() {
        // SAFETY: passes on what the server passed.
        unsafe { next(access, class, object, part, argument) };
    }
    if access == pg_sys::ObjectAccessType::OAT_POST_CREATE
        && identity::in_tool()
        // SAFETY: as in `forget`.
        && unsafe { pg_sys::InSecurityRestrictedOperation() && pg_sys::MyXactFlags & USED != 0 }
    {
        // A tool that catches the error has made nothing, and may go on.
        forget_use();
        Error::from(Refusal::Temporary).raise();
    }
}
