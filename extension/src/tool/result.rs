//! What a function returned as an MCP `CallToolResult`.

use super::catalog::Returns;
use super::sandbox::Sealed;
use super::{Failure, raw};
use crate::jsonb::Jsonb;
use crate::settings;
use pgrx::prelude::*;
use pgrx::{pg_sys, varlena};
use std::ffi::{CString, c_long};

/// Rows of a set that are read at a time: what is in memory at once, beside the result itself.
const BATCH: c_long = 50;

/// Runs the plan that calls the function and makes its result.
pub(super) fn call(
    sealed: &Sealed,
    returns: &Returns,
    plan: pg_sys::SPIPlanPtr,
    values: &[Option<pg_sys::Datum>],
) -> Result<Jsonb, Failure> {
    let nulls = super::callable::nulls(values);
    let mut values: Vec<_> = values.iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
    let (values, nulls, read_only) = (values.as_mut_ptr(), nulls.as_ptr(), sealed.read_only);
    // SAFETY: the plan takes these values, and returns rows with one or two columns of text.
    let text = unsafe {
        if let Returns::Rows { .. } = returns {
            let portal =
                sealed.catch(|| raw::SPI_cursor_open(std::ptr::null(), plan, values, nulls, read_only))?;
            let rows = rows(sealed, portal)?;
            sealed.catch(|| raw::SPI_cursor_close(portal))?;
            structured(&rows, &format!("{{\"rows\":{rows}}}"))
        } else {
            sealed.catch(|| raw::SPI_execute_plan(plan, values, nulls, read_only, 0))?;
            let (first, second) = (column(sealed, 0, 1)?, column(sealed, 0, 2)?);
            if let Some(text) = &first {
                check_size(text.len())?;
            }
            one(returns, first, second)
        }
    };
    let text = CString::new(text).expect("JSON text escapes NUL");
    let text = pg_sys::Datum::from(text.as_ptr());
    // SAFETY: jsonb_in takes one cstring; its result is made in memory that outlives the call.
    let result = unsafe {
        sealed
            .catch_at_home(|| raw::DirectFunctionCall1Coll(Some(raw::jsonb_in), pg_sys::InvalidOid, text))?
    };
    // SAFETY: not null, as jsonb_in is strict.
    Ok(unsafe { Jsonb::from_datum(result, false) }.expect("strict"))
}

fn one(returns: &Returns, first: Option<String>, second: Option<String>) -> String {
    match (returns, first) {
        (Returns::Void, _) | (Returns::Complete, None) => r#"{"content":[]}"#.to_owned(),
        (Returns::Complete, Some(complete)) => match (second, complete.strip_prefix('{')) {
            // Clients of the older revisions read `content` alone.
            (Some(structured), Some(rest)) => format!("{{\"content\":[{}],{rest}", text_block(&structured)),
            _ => complete,
        },
        (Returns::Row(_), Some(row)) => structured(&row, &row),
        (Returns::Json, Some(json)) if json.trim_start().starts_with('{') => structured(&json, &json),
        (_, text) => format!("{{\"content\":[{}]}}", text_block(text.as_deref().unwrap_or("null"))),
    }
}

fn structured(text: &str, content: &str) -> String {
    format!("{{\"content\":[{}],\"structuredContent\":{content}}}", text_block(text))
}

fn text_block(text: &str) -> String {
    let mut quoted = serde_json::Value::from(text).to_string();
    quoted.insert_str(0, "{\"type\":\"text\",\"text\":");
    quoted.push('}');
    quoted
}

/// A result that says what went wrong, in words for the model.
pub(super) fn error(message: &str) -> Jsonb {
    let text = format!("{{\"content\":[{}],\"isError\":true}}", text_block(message));
    Jsonb::from_text(&CString::new(text).expect("JSON text escapes NUL"))
}

/// The rows of a set as the text of a JSON array.
///
/// # Safety
/// The portal is open, and its rows have one column of text.
unsafe fn rows(sealed: &Sealed, portal: pg_sys::Portal) -> Result<String, Failure> {
    let mut text = String::from("[");
    loop {
        // SAFETY: the caller promises the portal.
        unsafe { sealed.catch(|| raw::SPI_cursor_fetch(portal, true, BATCH))? };
        // SAFETY: set by the fetch.
        let (count, table) = unsafe { (pg_sys::SPI_processed as usize, pg_sys::SPI_tuptable) };
        for row in 0..count {
            if let Some(row) = column(sealed, row, 1)? {
                if text.len() > 1 {
                    text.push(',');
                }
                text.push_str(&row);
                check_size(text.len())?;
            }
        }
        // SAFETY: the rows have been copied.
        unsafe { pg_sys::SPI_freetuptable(table) };
        if count == 0 {
            text.push(']');
            return Ok(text);
        }
    }
}

fn check_size(bytes: usize) -> Result<(), Failure> {
    let limit = settings::max_result_bytes();
    if bytes > limit { Err(Failure::TooLarge { limit }) } else { Ok(()) }
}

/// A column of the last result, if it has it and it is not null.
fn column(sealed: &Sealed, row: usize, number: i32) -> Result<Option<String>, Failure> {
    // SAFETY: the table is the one of the last execution; the row is one of its rows, and its columns are text.
    unsafe {
        let table = &*pg_sys::SPI_tuptable;
        if number > (*table.tupdesc).natts || row >= table.numvals as usize {
            return Ok(None);
        }
        let mut is_null = false;
        let datum = pg_sys::SPI_getbinval(*table.vals.add(row), table.tupdesc, number, &mut is_null);
        if is_null {
            return Ok(None);
        }
        let text = sealed.catch(|| raw::pg_detoast_datum_packed(datum.cast_mut_ptr()))?;
        let (length, bytes) = (varlena::varsize_any_exhdr(text), varlena::vardata_any(text));
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// The verdict on a call that did not come to a tool.
pub(super) fn verdict(status: &str) -> Jsonb {
    object(&serde_json::json!({ "status": status }))
}

/// The verdict on a call that takes more than the session may: the whole set of scopes the tool needs.
pub(super) fn insufficient_scope(scope: &str) -> Jsonb {
    object(&serde_json::json!({ "status": "insufficient_scope", "scope": scope }))
}

fn object(value: &serde_json::Value) -> Jsonb {
    let text = CString::new(value.to_string()).expect("JSON text escapes NUL");
    Jsonb::from_text(&text)
}
