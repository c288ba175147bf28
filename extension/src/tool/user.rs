//! `mcp_user`, the role that tools act as.

use super::refusal::Refusal;
use crate::changes::Changes;
use crate::error::Error;
use crate::owner::as_owner;
use crate::statement::{first, required, sql};
use pgrx::prelude::*;
use pgrx::{pg_sys, pg_sys::SysCacheIdentifier};
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    /// The role, once it was found to be no danger; forgotten whenever a role or a membership changes.
    static CHECKED: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CHANGES: Changes = const { Changes::new() };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_role_change(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    CHECKED.set(None);
    CHANGES.with(Changes::note);
}

/// The role that tools act as. Refuses one that could do what tools must not: pass by policies, act for the extension,
/// change roles, read the server's files.
pub(super) fn checked() -> Result<pg_sys::Oid, Error> {
    if let Some(user) = CHECKED.get() {
        return Ok(user);
    }
    if !REGISTERED.replace(true) {
        for cache in [SysCacheIdentifier::AUTHOID, SysCacheIdentifier::AUTHMEMROLEMEM] {
            // SAFETY: the callback lives as long as the library, which is never unloaded.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(
                    cache as c_int,
                    Some(on_role_change),
                    pg_sys::Datum::null(),
                );
            }
        }
    }
    let (user, may_be_kept) = CHANGES.with(|changes| changes.during(harmless))?;
    if may_be_kept {
        CHECKED.set(Some(user));
    }
    Ok(user)
}

/// The role, read from the catalogs and judged.
fn harmless() -> Result<pg_sys::Oid, Error> {
    let user = oid()?;
    let too_much = as_owner(|| {
        first(
            sql!(
                "SELECT r.rolname::text FROM pg_roles AS r
                  WHERE pg_has_role($1, r.oid, 'MEMBER')
                    AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication
                         OR r.rolname IN ('mcp_owner', 'mcp_auth', 'mcp_exec', 'mcp_monitor')
                         OR starts_with(r.rolname::text, 'pg_'))
                  ORDER BY r.oid <> $1, r.rolname
                  LIMIT 1"
            ),
            &[user.into()],
            |row| required::<String>(&row, 1),
        )
    })?;
    match too_much {
        Some(role) => Err(Refusal::TooPowerful(role).into()),
        None => Ok(user),
    }
}

/// The role's OID.
pub(super) fn oid() -> Result<pg_sys::Oid, Error> {
    // SAFETY: looks a name up in the catalog.
    let user = unsafe { pg_sys::get_role_oid(c"mcp_user".as_ptr(), true) };
    if user == pg_sys::InvalidOid { Err(Error::Incomplete("role mcp_user")) } else { Ok(user) }
}
