//! Acting as `mcp_owner`, the role that owns the tables, where a function runs as its caller.

use crate::error::Error;
use crate::guc;
use pgrx::pg_sys;

/// Runs `work` as `mcp_owner` with a search path nobody else can fill, and then as the caller again.
///
/// This is what SECURITY DEFINER with SET search_path and row_security does. The functions on the path of every request
/// are not declared that way, because they read without it and only sometimes write; for them the switch costs only when
/// it is needed.
pub(crate) fn as_owner<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: backend-local state, read and written on the backend's only thread. An ERROR inside `work` does not come
    // back here: the abort of the (sub)transaction restores user, context and settings.
    unsafe {
        let owner = pg_sys::get_role_oid(c"mcp_owner".as_ptr(), true);
        if owner == pg_sys::InvalidOid {
            return Err(Error::Incomplete("role mcp_owner"));
        }
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let settings = pg_sys::NewGUCNestLevel();
        guc::pin(c"search_path", c"pg_catalog, pg_temp");
        // Off, policies raise instead of filtering, and ours hold for the owner too.
        if !pg_sys::row_security {
            guc::pin(c"row_security", c"on");
        }
        pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        let result = work();
        pg_sys::SetUserIdAndSecContext(user, context);
        pg_sys::AtEOXact_GUC(true, settings);
        result
    }
}

/// As [`as_owner`], for `work` that reads definitions in the catalogs: their texts are written alike, and statements of ours
/// with regular expressions read alike, whatever the caller has set.
///
/// The server is also kept from compiling such queries: that takes a hundred times as long as running them, and is done
/// because the planner cannot know how little they find.
pub(crate) fn reading_catalogs<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    as_owner(|| {
        // SAFETY: the nest level is the one of `as_owner`.
        unsafe {
            guc::pin(c"quote_all_identifiers", c"off");
            guc::pin(c"standard_conforming_strings", c"on");
            guc::pin(c"jit", c"off");
        }
        work()
    })
}
