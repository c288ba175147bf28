//! Lists in pages, by the key they are ordered by.

use super::catalog::{self, Function};
use crate::error::Error;
use crate::owner::as_owner;
use crate::statement::{Row, Statement, all, required};
use pgrx::datum::DatumWithOid;
use serde_json::{Map, Value, json};
use std::thread::LocalKey;

/// More than any client shows at once.
const LARGEST: i32 = 1000;

/// Which part of a list is asked for.
pub(super) struct Page<'a> {
    after: Option<&'a str>,
    size: Option<i32>,
}

impl<'a> Page<'a> {
    /// What follows `after`, at most `size` entries; all there is where both are NULL.
    pub(super) fn new(after: Option<&'a str>, size: Option<i32>) -> Result<Self, Error> {
        match size {
            Some(size) if !(1..=LARGEST).contains(&size) => Err(Error::PageSize { largest: LARGEST }),
            size => Ok(Page { after, size }),
        }
    }

    /// The entries that `statement` reads, as MCP has them. Those whose function is gone or has another owner are left out;
    /// where there are more than the page has, the last object says where the next one begins.
    ///
    /// The statement's first parameters are the key to begin after and how many rows to read, `values` the rest. Its first
    /// columns are the entry's key, which becomes the member named `key`, the function's signature, the role that owned it
    /// when it was exposed, title and description. `read` reads what follows; `complete` adds that to the object.
    pub(super) fn entries<'v, T>(
        &'v self,
        key: &str,
        statement: &'static LocalKey<Statement>,
        values: impl IntoIterator<Item = DatumWithOid<'v>>,
        read: impl Fn(&Row<'_>) -> Result<T, Error>,
        complete: impl Fn(&mut Map<String, Value>, T, &Function) -> Result<(), Error>,
    ) -> Result<Vec<Value>, Error> {
        // One row more than the page has tells whether there are more.
        let limit = self.size.map(|size| i64::from(size) + 1);
        let values: Vec<_> = [self.after.into(), limit.into()].into_iter().chain(values).collect();
        let mut entries = as_owner(|| all(statement, &values, |row| Entry::read(&row, &read)))?;
        let size = self.size.map_or(usize::MAX, |size| size.unsigned_abs() as usize);
        let more = entries.len() > size;
        entries.truncate(size);
        let cursor = entries.last().filter(|_| more).map(|last| json!({ "cursor": last.key }));
        let functions = catalog::by_signature(entries.iter().map(|entry| entry.function.as_str()))?;
        let mut described = Vec::with_capacity(entries.len() + 1);
        for entry in entries {
            let function = functions.get(&entry.function);
            if let Some(function) = function.filter(|function| function.owner == entry.owner) {
                let mut object = Map::new();
                object.insert(key.into(), entry.key.into());
                let description = entry.description.or_else(|| function.comment.clone());
                for (name, text) in [("title", entry.title), ("description", description)] {
                    object.extend(text.map(|text| (name.into(), text.into())));
                }
                complete(&mut object, entry.rest, function)?;
                described.push(object.into());
            }
        }
        described.extend(cursor);
        Ok(described)
    }
}

/// An entry of a list, as it is stored.
struct Entry<T> {
    key: String,
    function: String,
    owner: String,
    title: Option<String>,
    description: Option<String>,
    rest: T,
}

impl<T> Entry<T> {
    fn read(row: &Row<'_>, rest: impl Fn(&Row<'_>) -> Result<T, Error>) -> Result<Self, Error> {
        Ok(Entry {
            key: required(row, 1)?,
            function: required(row, 2)?,
            owner: required(row, 3)?,
            title: row.get(4)?,
            description: row.get(5)?,
            rest: rest(row)?,
        })
    }
}

/// The JSON in a column, which was checked when it was written.
pub(super) fn stored(row: &Row<'_>, column: usize) -> Result<Option<Value>, Error> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::Catalog)
}
