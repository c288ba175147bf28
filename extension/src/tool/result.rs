//! What a function returned, and what answers a call.

use super::catalog::Returns;
use super::sandbox::Sealed;
use super::{Failure, complete, raw};
use crate::jsonb::Jsonb;
use crate::settings;
use pgrx::prelude::*;
use pgrx::{pg_sys, varlena};
use std::ffi::{CString, c_long};

/// Rows of a set that are read at a time: what is in memory at once, beside the result itself.
const BATCH: c_long = 50;

/// What a function returned, as text.
pub(super) enum Output {
    /// Nothing, as `void` functions do.
    Nothing,
    /// One value; `None` is NULL, as in the others.
    Text(Option<String>),
    /// One `bytea`, in hexadecimal behind `\x`.
    Bytes(Option<String>),
    /// JSON of any shape.
    Json(Option<String>),
    /// A complete result.
    Complete {
        result: Option<String>,
        /// Its structured content, where it has that alone.
        structured: Option<String>,
    },
    /// One row, as an object.
    Row(Option<String>),
    /// Rows, as an array of objects.
    Rows(String),
}

/// Runs the plan that calls the function and reads what it returns.
pub(super) fn read(
    sealed: &Sealed,
    returns: &Returns,
    plan: pg_sys::SPIPlanPtr,
    values: &[Option<pg_sys::Datum>],
) -> Result<Output, Failure> {
    let nulls = super::callable::nulls(values);
    let mut values: Vec<_> = values.iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
    let (values, nulls, read_only) = (values.as_mut_ptr(), nulls.as_ptr(), sealed.read_only);
    // SAFETY: the plan takes these values, and returns rows with one or two columns of text.
    unsafe {
        if let Returns::Rows { .. } = returns {
            let portal =
                sealed.catch(|| raw::SPI_cursor_open(std::ptr::null(), plan, values, nulls, read_only))?;
            let rows = rows(sealed, portal)?;
            sealed.catch(|| raw::SPI_cursor_close(portal))?;
            return Ok(Output::Rows(rows));
        }
        sealed.catch(|| raw::SPI_execute_plan(plan, values, nulls, read_only, 0))?;
    }
    let (first, second) = (column(sealed, 0, 1)?, column(sealed, 0, 2)?);
    if let Some(text) = &first {
        check_size(text.len())?;
        if matches!(returns, Returns::Complete(domain) if domain == "tool_result") {
            complete::check(text).map_err(Failure::Malformed)?;
        }
    }
    Ok(match returns {
        Returns::Void | Returns::Unsupported(_) => Output::Nothing,
        Returns::Scalar => Output::Text(first),
        Returns::Bytes => Output::Bytes(first),
        Returns::Json => Output::Json(first),
        Returns::Complete(_) => Output::Complete { result: first, structured: second },
        Returns::Row(_) | Returns::Rows { .. } => Output::Row(first),
    })
}

/// JSON text as a value that outlives the sealed call.
pub(super) fn json(sealed: &Sealed, text: &str) -> Result<Jsonb, Failure> {
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

/// What a tool returned as an MCP `CallToolResult`.
pub(super) fn tool(output: Output) -> String {
    match output {
        Output::Nothing | Output::Complete { result: None, .. } => r#"{"content":[]}"#.to_owned(),
        Output::Complete { result: Some(complete), structured } => {
            match (structured, complete.strip_prefix('{')) {
                // Clients of the older revisions read `content` alone.
                (Some(structured), Some(rest)) => {
                    format!("{{\"content\":[{}],{rest}", text_block(&structured))
                }
                _ => complete,
            }
        }
        Output::Row(Some(row)) => structured(&row, &row),
        Output::Rows(rows) => structured(&rows, &format!("{{\"rows\":{rows}}}")),
        Output::Json(Some(json)) if json.trim_start().starts_with('{') => structured(&json, &json),
        Output::Text(text) | Output::Bytes(text) | Output::Json(text) | Output::Row(text) => {
            format!("{{\"content\":[{}]}}", text_block(text.as_deref().unwrap_or("null")))
        }
    }
}

fn structured(text: &str, content: &str) -> String {
    format!("{{\"content\":[{}],\"structuredContent\":{content}}}", text_block(text))
}

/// A content block of text.
pub(super) fn text_block(text: &str) -> String {
    let mut quoted = quote(text);
    quoted.insert_str(0, "{\"type\":\"text\",\"text\":");
    quoted.push('}');
    quoted
}

/// A text as JSON.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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

/// Any other verdict.
pub(super) fn object(value: &serde_json::Value) -> Jsonb {
    let text = CString::new(value.to_string()).expect("JSON text escapes NUL");
    Jsonb::from_text(&text)
}
