//! A call's arguments as values of the types the function takes.

use super::callable::{Callable, nulls};
use super::catalog::Argument;
use super::raised::Raised;
use super::sandbox::Sealed;
use super::types::Kind;
use super::{Failure, raw};
use crate::jsonb::Jsonb;
use pgrx::pg_sys::jbvType;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CString;
use std::ptr;

type Value = Option<pg_sys::Datum>;

/// The values to call the function with, in its order. The arguments have passed [`super::arguments::check`].
pub(super) fn bind(sealed: &Sealed, callable: &Callable, arguments: Jsonb) -> Result<Vec<Value>, Failure> {
    let datum = arguments.into_datum().expect("not null");
    // SAFETY: the datum is a jsonb object; the copy lives until the call's memory goes.
    let root = unsafe {
        let jsonb = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
        &raw mut (*jsonb).root
    };
    let all = callable.function.arguments.iter().enumerate();
    all.map(|(at, argument)| {
        // SAFETY: as above; the name's length is given.
        let value = unsafe {
            let (name, length) = (argument.name.as_ptr().cast(), argument.name.len() as i32);
            pg_sys::getKeyJsonValueFromContainer(root, name, length, ptr::null_mut())
        };
        // SAFETY: a value of the container, or none.
        unsafe { convert(sealed, callable, at, argument, value) }
    })
    .collect()
}

/// # Safety
/// The value is null or one that a container has given.
unsafe fn convert(
    sealed: &Sealed,
    callable: &Callable,
    at: usize,
    argument: &Argument,
    value: *mut pg_sys::JsonbValue,
) -> Result<Value, Failure> {
    let named = |raised| Failure::Argument(argument.name.clone(), raised);
    let ty = pg_sys::Oid::from(argument.ty.oid);
    // SAFETY: the caller promises a value that fits the argument's type, which was checked.
    unsafe {
        match (value.as_ref(), &argument.ty.kind) {
            (None, _) => match argument.default {
                Some(position) => default(sealed, callable, position),
                // An empty array of whatever is variadic.
                None => input(sealed, ty, Some(c"{}".to_owned())).map_err(named),
            },
            (Some(value), _)
                if value.type_ == jbvType::jbvNull && ty != pg_sys::JSONBOID && ty != pg_sys::JSONOID =>
            {
                input(sealed, ty, None).map_err(named)
            }
            (Some(_), Kind::Json) if ty == pg_sys::JSONBOID => {
                let jsonb = sealed.catch(|| raw::JsonbValueToJsonb(value)).map_err(named)?;
                Ok(Some(jsonb.into()))
            }
            (Some(_), Kind::Json | Kind::Array { .. } | Kind::Object(_)) => {
                let jsonb = sealed.catch(|| raw::JsonbValueToJsonb(value)).map_err(named)?;
                convert_by_server(sealed, callable, at, jsonb.into(), named)
            }
            (Some(value), kind) => {
                let text = text(sealed, value, matches!(kind, Kind::Integer { .. })).map_err(named)?;
                input(sealed, ty, Some(text)).map_err(named)
            }
        }
    }
}

/// The text of a scalar, as the type's input function reads it.
///
/// # Safety
/// The value is a scalar.
unsafe fn text(sealed: &Sealed, value: &pg_sys::JsonbValue, integer: bool) -> Result<CString, Raised> {
    // SAFETY: the tag says which member is set; neither function can return NULL.
    unsafe {
        let text = match value.type_ {
            jbvType::jbvBool => if value.val.boolean { "true" } else { "false" }.as_bytes().to_vec(),
            jbvType::jbvNumeric => {
                let numeric = pg_sys::Datum::from(value.val.numeric);
                let call = |function| {
                    sealed.catch(|| raw::DirectFunctionCall1Coll(Some(function), pg_sys::InvalidOid, numeric))
                };
                if integer {
                    // 5.0 and 5e0 are integers in JSON; to the input functions of ours they are not.
                    (call(raw::numeric_int8)?.value() as i64).to_string().into_bytes()
                } else {
                    let text = call(raw::numeric_out)?;
                    std::ffi::CStr::from_ptr(text.cast_mut_ptr()).to_bytes().to_vec()
                }
            }
            _ => {
                let string = value.val.string;
                std::slice::from_raw_parts(string.val.cast::<u8>(), string.len as usize).to_vec()
            }
        };
        // jsonb holds no NUL.
        Ok(CString::new(text).unwrap_or_default())
    }
}

/// The value that the type's input function reads in a text. Of none it makes NULL, or, where a domain forbids that, an
/// error.
fn input(sealed: &Sealed, ty: pg_sys::Oid, text: Option<CString>) -> Result<Value, Raised> {
    let text = text.map_or(ptr::null_mut(), CString::into_raw);
    // SAFETY: the input function of the type, with what the catalog says it takes. It does not write to the text.
    let result = unsafe {
        let result = sealed.catch(|| {
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            raw::getTypeInputInfo(ty, &mut function, &mut parameter);
            raw::OidInputFunctionCall(function, text, parameter, -1)
        });
        if !text.is_null() {
            drop(CString::from_raw(text));
        }
        result
    };
    result.map(|datum| (!text.is_null()).then_some(datum))
}

/// What PostgreSQL's own conversion from JSON makes of a value: arrays, composites, ranges, and domains over them.
fn convert_by_server(
    sealed: &Sealed,
    callable: &Callable,
    at: usize,
    value: pg_sys::Datum,
    named: impl Fn(Raised) -> Failure,
) -> Result<Value, Failure> {
    let plan = callable.conversion_plan(sealed, at)?;
    let (mut values, nulls) = ([value], nulls(&[Some(value)]));
    let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
    // SAFETY: the plan takes one jsonb and returns one row of one column. The row stays until the SPI connection closes.
    unsafe {
        sealed.catch(|| raw::SPI_execute_plan(plan, values, nulls, true, 0)).map_err(named)?;
        let row = *(*pg_sys::SPI_tuptable).vals;
        let mut is_null = false;
        let datum = pg_sys::SPI_getbinval(row, (*pg_sys::SPI_tuptable).tupdesc, 1, &mut is_null);
        Ok((!is_null).then_some(datum))
    }
}

/// The value of an argument's default: the expression the catalog keeps, evaluated as the server does when a call leaves
/// the argument out.
fn default(sealed: &Sealed, callable: &Callable, position: usize) -> Result<Value, Failure> {
    let expressions = callable.function.defaults.clone().unwrap_or_default();
    let expressions = CString::new(expressions).unwrap_or_default();
    let (expressions, position) = (expressions.as_ptr(), position as i32);
    // SAFETY: the text is a list of expressions without variables. Both the expression and its value live in memory that
    // goes with the SPI connection.
    unsafe {
        let mut is_null = false;
        let is_null_at = &raw mut is_null;
        let datum = sealed.catch(|| {
            let list = raw::stringToNode(expressions).cast::<pg_sys::List>();
            let cell = (*list).elements.add(position as usize);
            let state = raw::CreateExecutorState();
            let expression = raw::ExecPrepareExpr((*cell).ptr_value.cast(), state);
            raw::ExecEvalExpr(expression, raw::MakePerTupleExprContext(state), is_null_at)
        })?;
        Ok((!is_null).then_some(datum))
    }
}
