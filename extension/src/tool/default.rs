//! Arguments' defaults as JSON, where they are constants.

use super::constant::{self, Constant, is_builtin};
use crate::error::Error;
use crate::guc;
use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;
use pgrx::prelude::*;
use serde_json::Value;
use std::ffi::CString;

/// The defaults, in the order of the catalog's list; `None` for what only a call can tell.
///
/// In the settings of [`crate::owner::as_owner`], some of which it sets.
pub(super) fn constants(expressions: Option<&str>) -> Result<Vec<Option<Value>>, Error> {
    let Some(expressions) = expressions.and_then(|text| CString::new(text).ok()) else {
        return Ok(Vec::new());
    };
    // SAFETY: the catalog keeps the text of a list of expressions, in the server's own notation.
    unsafe {
        let list = pg_sys::stringToNode(expressions.as_ptr()).cast::<pg_sys::List>();
        (0..constant::length(list)).map(|at| json(constant::nth(list, at))).collect()
    }
}

/// # Safety
/// The node is a valid expression.
unsafe fn json(node: *mut pg_sys::Node) -> Result<Option<Value>, Error> {
    // SAFETY: as above; the tag is checked before the cast.
    unsafe {
        if let Some(constant) = Constant::read(node) {
            return match constant.value {
                None => Ok(Some(Value::Null)),
                Some(value) if is_known(constant.ty) => match plain(constant) {
                    Some(plain) => Ok(Some(plain)),
                    None => to_json(value, constant.ty),
                },
                Some(_) => Ok(None),
            };
        }
        let inner = constant::without_casts(node, true);
        if let Some(fitting) = fitted(inner) {
            return Ok(Some(fitting));
        }
        if (*inner).type_ != NodeTag::T_ArrayExpr || (*inner.cast::<pg_sys::ArrayExpr>()).multidims {
            return Ok(None);
        }
        let elements = (*inner.cast::<pg_sys::ArrayExpr>()).elements;
        let elements = (0..constant::length(elements)).map(|at| json(constant::nth(elements, at)));
        let elements: Vec<Option<Value>> = elements.collect::<Result<_, Error>>()?;
        Ok(elements.into_iter().collect::<Option<Vec<_>>>().map(Value::from))
    }
}

/// A constant that was made to fit its argument and did: an integer its size, a text its length.
///
/// # Safety
/// The node is a valid expression.
unsafe fn fitted(node: *mut pg_sys::Node) -> Option<Value> {
    // SAFETY: as above; the tag is checked before the cast.
    unsafe {
        if (*node).type_ != NodeTag::T_FuncExpr {
            return None;
        }
        let call = &*node.cast::<pg_sys::FuncExpr>();
        if call.funcformat == pg_sys::CoercionForm::COERCE_EXPLICIT_CALL || !is_builtin(call.funcid) {
            return None;
        }
        let arguments = constant::length(call.args);
        let constant = Constant::read(constant::nth(call.args, 0))?;
        match call.funcresulttype {
            pg_sys::INT2OID if arguments == 1 => plain(constant).filter(fits::<i16>),
            pg_sys::INT4OID if arguments == 1 => plain(constant).filter(fits::<i32>),
            pg_sys::VARCHAROID if arguments == 3 => {
                // The modifier counts the length word.
                let modifier: i32 = Constant::read(constant::nth(call.args, 1))?.text()?.parse().ok()?;
                let length = usize::try_from(modifier - pg_sys::VARHDRSZ as i32).ok()?;
                plain(constant)
                    .filter(|text| text.as_str().is_some_and(|text| text.chars().count() <= length))
            }
            _ => None,
        }
    }
}

fn fits<T: TryFrom<i64>>(value: &Value) -> bool {
    value.as_i64().is_some_and(|value| T::try_from(value).is_ok())
}

/// Whether only the server's own code makes JSON of its values: what runs here does not run as the user.
fn is_known(ty: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalog.
    let (element, kind) = unsafe { (pg_sys::get_element_type(ty), pg_sys::get_typtype(ty) as u8) };
    let element = if element == pg_sys::InvalidOid { ty } else { element };
    // SAFETY: as above.
    is_builtin(element) || kind == b'e' || unsafe { pg_sys::get_typtype(element) as u8 } == b'e'
}

/// The types most defaults are of, without a statement for each.
fn plain(constant: Constant) -> Option<Value> {
    match constant.ty {
        pg_sys::BOOLOID => constant.value.map(|value| Value::from(value.value() != 0)),
        pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => {
            constant.text()?.parse::<i64>().ok().map(Value::from)
        }
        pg_sys::TEXTOID | pg_sys::VARCHAROID => constant.text().map(Value::from),
        _ => None,
    }
}

fn to_json(value: pg_sys::Datum, ty: pg_sys::Oid) -> Result<Option<Value>, Error> {
    // Values are written as calls write them.
    for (name, setting) in [(c"intervalstyle", c"iso_8601"), (c"bytea_output", c"hex")] {
        // SAFETY: the nest level is that of `as_owner`.
        unsafe { guc::pin(name, setting) }
    }
    // SAFETY: the value is of the type.
    let value = unsafe { pgrx::datum::DatumWithOid::new(RawDatum(value), ty) };
    // Not the shorthand, which would begin a writing transaction.
    let text = Spi::connect(|client| {
        client
            .select("SELECT pg_catalog.to_jsonb($1)::pg_catalog.text", Some(1), &[value])?
            .first()
            .get_one::<String>()
    })?;
    // Numbers and depths that only PostgreSQL has room for are not told.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// A value whose type only the catalog knows.
struct RawDatum(pg_sys::Datum);

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}
