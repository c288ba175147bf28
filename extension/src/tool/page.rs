//! Lists in pages, by the key they are ordered by.

use super::catalog::{self, Function};
use crate::error::Error;
use serde_json::{Value, json};

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

    pub(super) fn after(&self) -> Option<&'a str> {
        self.after
    }

    /// How many entries to read: one more than the page has, to know whether there are more.
    pub(super) fn limit(&self) -> Option<i64> {
        self.size.map(|size| i64::from(size) + 1)
    }

    /// What was read, cut to the page and as MCP has it. Entries whose function is gone or has another owner are left out;
    /// where there are more than the page has, the last row says where the next one begins.
    pub(super) fn describe<E: Entry>(&self, mut entries: Vec<E>) -> Result<Vec<Value>, Error> {
        let size = self.size.map_or(usize::MAX, |size| size.unsigned_abs() as usize);
        let more = entries.len() > size;
        entries.truncate(size);
        let cursor = entries.last().filter(|_| more).map(|last| json!({ "cursor": last.key() }));
        let functions = catalog::by_signature(entries.iter().map(E::function))?;
        let mut described = Vec::with_capacity(entries.len() + 1);
        for entry in entries {
            let function = functions.get(entry.function());
            if let Some(function) = function.filter(|function| function.owner == entry.owner()) {
                described.push(entry.describe(function)?);
            }
        }
        described.extend(cursor);
        Ok(described)
    }
}

/// An entry of a list, as it is stored.
pub(super) trait Entry {
    /// What the list is ordered by.
    fn key(&self) -> &str;
    /// The signature of the function behind it.
    fn function(&self) -> &str;
    /// The role that owned the function when it was exposed.
    fn owner(&self) -> &str;
    /// As MCP has it.
    fn describe(self, function: &Function) -> Result<Value, Error>;
}
