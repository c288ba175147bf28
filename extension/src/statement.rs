//! SQL statements with plans kept for the life of the backend.
//!
//! Values are always bound. Every caller runs as `mcp_owner` under a pinned search path: in a SECURITY DEFINER function,
//! or inside [`crate::owner::as_owner`].

use crate::error::Error;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiTupleTable};
use std::cell::OnceCell;
use std::thread::LocalKey;

/// A statement and, once it has run, its plan.
pub(crate) struct Statement {
    text: &'static str,
    plan: OnceCell<&'static OwnedPreparedStatement>,
}

impl Statement {
    pub(crate) const fn new(text: &'static str) -> Self {
        Statement { text, plan: OnceCell::new() }
    }

    fn plan(
        &self,
        client: &SpiClient<'_>,
        values: &[DatumWithOid<'_>],
    ) -> Result<&'static OwnedPreparedStatement, Error> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let types: Vec<pg_sys::PgOid> = values.iter().map(|value| value.oid().into()).collect();
        // `prepare_mut` takes a new snapshot at each run, so a statement sees what the one before it wrote. Leaked: a
        // destructor at backend exit would free the plan after its memory is gone.
        let plan = Box::leak(Box::new(client.prepare_mut(self.text, &types)?.keep()));
        Ok(self.plan.get_or_init(|| plan))
    }
}

/// The statement with this text, one for each place it is written at.
macro_rules! sql {
    ($text:expr) => {{
        thread_local! {
            static STATEMENT: $crate::statement::Statement = const { $crate::statement::Statement::new($text) };
        }
        &STATEMENT
    }};
}
pub(crate) use sql;

pub(crate) type Row<'a> = pgrx::spi::SpiHeapTupleData<'a>;

fn execute<T>(
    statement: &'static LocalKey<Statement>,
    values: &[DatumWithOid<'_>],
    read: impl FnOnce(SpiTupleTable<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    Spi::connect(|client| {
        let plan = statement.with(|statement| statement.plan(client, values))?;
        // `select`, not `update`: that one assigns a transaction id even where nothing is written in the end.
        read(client.select(plan, None, values)?)
    })
}

/// Runs a statement and returns how many rows it returned or changed.
pub(crate) fn run(
    statement: &'static LocalKey<Statement>,
    values: &[DatumWithOid<'_>],
) -> Result<i64, Error> {
    execute(statement, values, |_| {
        // SAFETY: set by the execution that has just ended, on this thread.
        Ok(i64::try_from(unsafe { pg_sys::SPI_processed }).unwrap_or(i64::MAX))
    })
}

/// Runs a statement and reads its first row, if there is one.
pub(crate) fn first<T>(
    statement: &'static LocalKey<Statement>,
    values: &[DatumWithOid<'_>],
    read: impl FnOnce(Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    execute(statement, values, |mut rows| rows.next().map(read).transpose())
}

/// Runs a statement and reads all its rows.
pub(crate) fn all<T>(
    statement: &'static LocalKey<Statement>,
    values: &[DatumWithOid<'_>],
    read: impl FnMut(Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    execute(statement, values, |rows| rows.map(read).collect())
}

/// A column that the statement and the table's definition promise is not null.
pub(crate) fn required<T: FromDatum + IntoDatum>(row: &Row<'_>, column: usize) -> Result<T, Error> {
    row.get(column)?.ok_or(Error::Column(column))
}
