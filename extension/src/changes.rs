//! Whether what was read from the catalogs may be kept for later transactions.

use crate::error::Error;
use pgrx::pg_sys;
use std::cell::Cell;

/// Counts what the server says has changed.
pub(crate) struct Changes(Cell<u64>);

impl Changes {
    pub(crate) const fn new() -> Self {
        Changes(Cell::new(0))
    }

    /// Called by the server whenever it learns of a change; what was kept is forgotten besides.
    pub(crate) fn note(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    /// What `read` finds in the catalogs, and whether it may be kept.
    ///
    /// Not where something changed meanwhile, after it was read perhaps. Nor where one snapshot serves the whole
    /// transaction: that may be older than changes which the server has told of long ago.
    pub(crate) fn during<T>(&self, read: impl FnOnce() -> Result<T, Error>) -> Result<(T, bool), Error> {
        let before = self.0.get();
        let found = read()?;
        Ok((found, self.0.get() == before && !one_snapshot()))
    }
}

/// Whether the transaction sees all along what was there when it began: REPEATABLE READ and above.
pub(crate) fn one_snapshot() -> bool {
    // SAFETY: reads a variable of the backend's.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
