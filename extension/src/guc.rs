//! Settings of the server's, changed for a while.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Sets a setting until its nest level ends.
///
/// # Safety
/// In a nest level of the settings that a caller closes.
pub(crate) unsafe fn pin(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Sets a setting until the transaction ends, as SET LOCAL does.
pub(crate) fn set_local(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_LOCAL);
}

fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    // SAFETY: both strings are copied by the server.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}
