//! Lists in pages, by the key they are ordered by.

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

    /// Cuts what was read to the page. Where something is left out, the second part is a row that says where the next
    /// page begins.
    pub(super) fn cut<T>(&self, mut entries: Vec<T>, key: impl Fn(&T) -> &String) -> (Vec<T>, Option<Value>) {
        let Some(size) = self.size.map(|size| size.unsigned_abs() as usize) else { return (entries, None) };
        if entries.len() <= size {
            return (entries, None);
        }
        entries.truncate(size);
        let cursor = entries.last().map(|last| json!({ "cursor": key(last) }));
        (entries, cursor)
    }
}
