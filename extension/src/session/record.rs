//! A row of `mcp.sessions`, read straight from the table by its primary key.
//!
//! Every request reads one, so this goes below SQL: no plan to look up, no executor to start, no role to switch. It sees
//! what is committed at the moment of the call, also in REPEATABLE READ, so a revoked session never authenticates on an
//! old snapshot. Privileges and row level security do not apply here; the token is the authorization.

use crate::error::Error;
use crate::ids::rust_uuid;
use crate::jsonb::Jsonb;
use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

/// The columns of `mcp.sessions` in the order of its definition.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "named for their order; one or the other is read by SQL alone")]
#[repr(usize)]
pub(crate) enum Column {
    SessionId,
    UserId,
    CreatedAt,
    UpdatedAt,
    ExpiresAt,
    AbsoluteExpiresAt,
    AccessExpiresAt,
    PreviousExpiresAt,
    RevokedAt,
    StateVersion,
    Ttl,
    AccessTtl,
    Verifier,
    PreviousVerifier,
    Issuer,
    Subject,
    ClientId,
    Resource,
    Scopes,
    AccessScopes,
    Claims,
    State,
}

const COLUMNS: usize = Column::State as usize + 1;

/// One session, in the memory context of the function call that read it.
pub(crate) struct Record {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Record {
    /// The session with this id, if there is one.
    pub(crate) fn find(session_id: &[u8; 16]) -> Result<Option<Self>, Error> {
        // SAFETY: relation, snapshot and scan are closed again in reverse order; an ERROR in between releases them with
        // the transaction. The tuple is copied before the scan ends.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"mcp".as_ptr(), true);
            let table = pg_sys::get_relname_relid(c"sessions".as_ptr(), schema);
            if table == pg_sys::InvalidOid {
                return Err(Error::Incomplete("table mcp.sessions"));
            }
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let relation = pg_sys::table_open(table, lock);
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                Column::SessionId as pg_sys::AttrNumber + 1,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::F_UUID_EQ.into(),
                session_id.as_ptr().into(),
            );
            #[cfg(not(feature = "pg18"))]
            let index = pg_sys::RelationGetPrimaryKeyIndex(relation);
            #[cfg(feature = "pg18")]
            let index = pg_sys::RelationGetPrimaryKeyIndex(relation, false);
            let scan = pg_sys::systable_beginscan(relation, index, true, snapshot, 1, &mut key);
            let tuple = pg_sys::systable_getnext(scan);
            let description = (*relation).rd_att;
            // A library newer than the SQL objects, before ALTER EXTENSION UPDATE.
            let complete = (*description).natts as usize >= COLUMNS;
            let record = (complete && !tuple.is_null()).then(|| Self::deform(tuple, description));
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            pg_sys::table_close(relation, lock);
            if complete { Ok(record) } else { Err(Error::Incomplete("a column of mcp.sessions")) }
        }
    }

    /// # Safety
    /// The tuple is one of the relation that `description` describes, which has at least our columns.
    unsafe fn deform(tuple: pg_sys::HeapTuple, description: pg_sys::TupleDesc) -> Self {
        // SAFETY: both arrays hold as many entries as the relation has columns.
        unsafe {
            let columns = (*description).natts as usize;
            let mut record =
                Record { values: vec![pg_sys::Datum::null(); columns], nulls: vec![true; columns] };
            let copy = pg_sys::heap_copytuple(tuple);
            pg_sys::heap_deform_tuple(
                copy,
                description,
                record.values.as_mut_ptr(),
                record.nulls.as_mut_ptr(),
            );
            record
        }
    }

    pub(crate) fn datum(&self, column: Column) -> Option<pg_sys::Datum> {
        (!self.nulls[column as usize]).then(|| self.values[column as usize])
    }

    fn read<T: FromDatum>(&self, column: Column) -> Option<T> {
        // SAFETY: each caller below asks for the type the column is defined with.
        self.datum(column).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    pub(crate) fn text(&self, column: Column) -> Option<String> {
        self.read(column)
    }

    pub(crate) fn jsonb(&self, column: Column) -> Option<Jsonb> {
        self.read(column)
    }

    pub(crate) fn uuid(&self, column: Column) -> Option<Uuid> {
        self.read::<pgrx::Uuid>(column).map(rust_uuid)
    }

    /// Microseconds since 2000.
    pub(crate) fn time(&self, column: Column) -> Option<pg_sys::TimestampTz> {
        self.datum(column).map(|datum| datum.value() as pg_sys::TimestampTz)
    }

    pub(crate) fn verifier(&self, column: Column) -> Option<&[u8]> {
        // SAFETY: a bytea of the copied tuple, which lives as long as the record's memory context.
        self.datum(column).and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) })
    }

    /// How long a use keeps the session alive, in microseconds. Stored without months and days.
    pub(crate) fn ttl(&self) -> i64 {
        // SAFETY: an interval of the copied tuple.
        self.datum(Column::Ttl).map_or(0, |datum| unsafe { (*datum.cast_mut_ptr::<pg_sys::Interval>()).time })
    }

    /// The scopes of the access token, where a refresh narrowed them; else those of the session.
    pub(crate) fn scopes_column(&self) -> Column {
        if self.nulls[Column::AccessScopes as usize] { Column::Scopes } else { Column::AccessScopes }
    }

    /// When the session ends, if nobody uses it.
    pub(crate) fn expires_at(&self) -> pg_sys::TimestampTz {
        self.time(Column::ExpiresAt).unwrap_or(0)
    }
}
