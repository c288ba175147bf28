//! A call's arguments, as far as checking them needs.

use crate::jsonb::Jsonb;
use pgrx::fcinfo::{direct_function_call, direct_function_call_as_datum};
use pgrx::pg_sys::jbvType;
use pgrx::{IntoDatum, pg_sys};
use std::cmp::Ordering;
use std::ffi::CString;

/// Below this nothing is read: no type that is checked goes deeper.
const MAX_DEPTH: usize = super::types::MAX_DEPTH * 2;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    /// Names are unique, as in `jsonb`.
    Object(Vec<(String, Json)>),
    /// An array or object too deep to be read.
    Deep,
}

/// A number. The text of one may have a hundred thousand digits, so it is not made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    /// An integer that no integer type holds.
    Huge(Exact),
    Fraction(Exact),
}

/// A finite numeric, in the memory of the value it was read from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exact(pg_sys::Numeric);

#[cfg(any(test, feature = "pg_test"))]
impl Exact {
    /// One that nothing looks at.
    pub(super) const UNREAD: Self = Self(std::ptr::null_mut());
}

impl Number {
    /// How it stands to another number, in decimal.
    pub(super) fn compare(&self, other: &serde_json::Number) -> Ordering {
        if let (Number::Integer(number), Some(other)) = (self, other.as_i64()) {
            return number.cmp(&other);
        }
        let other = CString::new(other.to_string()).expect("digits");
        // SAFETY: strict functions of the server's with the arguments they take; numeric_in reads what JSON writes, as
        // large as a double gets.
        unsafe {
            let own = match self {
                Number::Integer(number) => {
                    direct_function_call_as_datum(pg_sys::int8_numeric, &[number.into_datum()])
                }
                Number::Huge(Exact(numeric)) | Number::Fraction(Exact(numeric)) => {
                    Some(pg_sys::Datum::from(*numeric))
                }
            };
            let (untyped, unlimited) = (pg_sys::InvalidOid.into_datum(), (-1_i32).into_datum());
            let other = Some(pg_sys::Datum::from(other.as_ptr()));
            let other = direct_function_call_as_datum(pg_sys::numeric_in, &[other, untyped, unlimited]);
            let order = direct_function_call::<i32>(pg_sys::numeric_cmp, &[own, other]);
            order.expect("strict").cmp(&0)
        }
    }
}

impl Json {
    /// What it is, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Boolean(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
            Json::Deep => "something nested that deep",
        }
    }
}

impl Json {
    /// Whether it is of a type of JSON Schema's.
    pub(super) fn is_a(&self, ty: &str) -> bool {
        match self {
            Json::Null => ty == "null",
            Json::Boolean(_) => ty == "boolean",
            Json::Number(_) => ty == "number",
            Json::String(_) => ty == "string",
            Json::Array(_) => ty == "array",
            Json::Object(_) => ty == "object",
            Json::Deep => matches!(ty, "array" | "object"),
        }
    }

    /// Whether a header says the same.
    pub(super) fn is_header(&self, value: &str) -> bool {
        match self {
            Json::String(text) => text == value,
            Json::Boolean(flag) => value == if *flag { "true" } else { "false" },
            // Numerically: clients write 7 as 7.0, too. But as JSON writes numbers, so that whoever reads the header
            // without converting +7 or 007 sees no other argument.
            Json::Number(Number::Integer(number)) => {
                let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
                whole == number.to_string()
                    && !fraction.is_empty()
                    && fraction.bytes().all(|digit| digit == b'0')
            }
            _ => false,
        }
    }
}

/// Reads a `jsonb` object.
pub(super) fn read(object: Jsonb) -> Json {
    use pg_sys::JsonbIteratorToken::*;
    let datum = object.into_datum().expect("not null");
    // SAFETY: the datum is a jsonb; the iterator walks its detoasted copy, which stays until the call's memory goes.
    unsafe {
        let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root);
        let mut value = std::mem::zeroed::<pg_sys::JsonbValue>();
        // The containers that are open, each with the name it goes by in the one around it.
        let mut open: Vec<(String, Json)> = Vec::new();
        let mut name = String::new();
        let mut skip = false;
        loop {
            let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, skip);
            skip = open.len() >= MAX_DEPTH;
            let complete = match token {
                WJB_BEGIN_OBJECT => {
                    open.push((std::mem::take(&mut name), Json::Object(Vec::new())));
                    continue;
                }
                WJB_BEGIN_ARRAY => {
                    open.push((std::mem::take(&mut name), Json::Array(Vec::new())));
                    continue;
                }
                WJB_KEY => {
                    name = string(&value);
                    continue;
                }
                WJB_VALUE | WJB_ELEM => (std::mem::take(&mut name), scalar(&value)),
                WJB_END_OBJECT | WJB_END_ARRAY => open.pop().expect("ends after it began"),
                _ => return Json::Null,
            };
            match open.last_mut() {
                Some((_, Json::Object(members))) => members.push(complete),
                Some((_, Json::Array(elements))) => elements.push(complete.1),
                _ => return complete.1,
            }
        }
    }
}

/// # Safety
/// The value is one that the iterator has just given.
unsafe fn scalar(value: &pg_sys::JsonbValue) -> Json {
    // SAFETY: the tag says which member is set.
    unsafe {
        match value.type_ {
            jbvType::jbvNull => Json::Null,
            jbvType::jbvBool => Json::Boolean(value.val.boolean),
            jbvType::jbvNumeric => Json::Number(number(value.val.numeric)),
            jbvType::jbvString => Json::String(string(value)),
            _ => Json::Deep,
        }
    }
}

/// # Safety
/// The value is a string.
unsafe fn string(value: &pg_sys::JsonbValue) -> String {
    // SAFETY: the caller promises that this member is set; databases with other encodings than UTF-8 are refused at
    // installation.
    unsafe {
        let string = value.val.string;
        let bytes = std::slice::from_raw_parts(string.val.cast::<u8>(), string.len as usize);
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// # Safety
/// The argument is a finite numeric.
unsafe fn number(numeric: pg_sys::Numeric) -> Number {
    let exact = Exact(numeric);
    let numeric = Some(pg_sys::Datum::from(numeric));
    // SAFETY: strict functions of numerics, given numerics.
    unsafe {
        let bound =
            |at: i64| Some(direct_function_call(pg_sys::int8_numeric, &[at.into_datum()]).expect("strict"));
        let whole: pg_sys::Datum =
            direct_function_call(pg_sys::numeric_trunc, &[numeric, 0_i32.into_datum()]).expect("strict");
        if !direct_function_call::<bool>(pg_sys::numeric_eq, &[numeric, Some(whole)]).expect("strict") {
            return Number::Fraction(exact);
        }
        let at_least = direct_function_call::<bool>(pg_sys::numeric_ge, &[numeric, bound(i64::MIN)]);
        let at_most = direct_function_call::<bool>(pg_sys::numeric_le, &[numeric, bound(i64::MAX)]);
        if at_least.expect("strict") && at_most.expect("strict") {
            Number::Integer(direct_function_call(pg_sys::numeric_int8, &[numeric]).expect("strict"))
        } else {
            Number::Huge(exact)
        }
    }
}
