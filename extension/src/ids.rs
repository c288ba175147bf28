//! Ids as the uuid crate has them and as pgrx has them.

use uuid::Uuid;

/// For SQL.
pub(crate) fn sql_uuid(uuid: Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*uuid.as_bytes())
}

/// From SQL.
pub(crate) fn rust_uuid(uuid: pgrx::Uuid) -> Uuid {
    Uuid::from_bytes(*uuid.as_bytes())
}
