//! A function ready to be called: what the catalog says of it, and the plans of the statements that call it.
//!
//! Kept for the life of the backend, or until something it was made from changes.

use super::catalog::{self, Argument, Function, Returns};
use super::sandbox::Sealed;
use super::{Failure, raw};
use crate::changes::Changes;
use crate::error::Error;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};
use std::fmt::Write;
use std::rc::Rc;

/// More tools than this in one backend's use at once are read anew.
const MAX_KEPT: usize = 1000;

pub(super) struct Callable {
    pub(super) function: Function,
    pub(super) search_path: CString,
    call: Plan,
    conversions: Vec<Plan>,
    /// What the server calls the catalog rows it was made from.
    hashes: Vec<(c_int, u32)>,
    stale: Cell<bool>,
}

/// A statement that is planned once. `None` until it runs.
#[derive(Default)]
struct Plan(Cell<Option<pg_sys::SPIPlanPtr>>);

impl Drop for Plan {
    fn drop(&mut self) {
        if let Some(plan) = self.0.take() {
            // SAFETY: a kept plan that nobody else has. Those of the cache are never dropped at backend exit: the cache
            // is leaked.
            unsafe { pg_sys::SPI_freeplan(plan) };
        }
    }
}

impl Plan {
    /// The plan of `text`, made anew where what it depends on has changed. `check` sees a new one before it is kept.
    fn prepared(
        &self,
        sealed: &Sealed,
        text: impl FnOnce() -> CString,
        types: &mut [pg_sys::Oid],
        check: impl FnOnce(pg_sys::SPIPlanPtr) -> bool,
    ) -> Result<pg_sys::SPIPlanPtr, Failure> {
        if let Some(plan) = self.0.get() {
            // SAFETY: a kept plan.
            if unsafe { pg_sys::SPI_plan_is_valid(plan) } {
                return Ok(plan);
            }
            self.0.set(None);
            // SAFETY: as above; nobody runs it: tools do not nest.
            unsafe { pg_sys::SPI_freeplan(plan) };
        }
        let text = text();
        let (text, count, types) = (text.as_ptr(), types.len() as c_int, types.as_mut_ptr());
        // SAFETY: the strings and the array outlive the call, which copies them.
        unsafe {
            let plan = sealed.catch(|| raw::SPI_prepare(text, count, types))?;
            if plan.is_null() || !check(plan) {
                return Err(Failure::Changed);
            }
            pg_sys::SPI_keepplan(plan);
            self.0.set(Some(plan));
            Ok(plan)
        }
    }
}

impl Callable {
    fn new(function: Function) -> Self {
        let search_path = CString::new(format!("{}, pg_temp", quote_identifier(&function.schema)));
        let hash = |cache: pg_sys::SysCacheIdentifier::Type, oid: u32| {
            // SAFETY: computes a hash of the key.
            let hash = unsafe {
                pg_sys::GetSysCacheHashValue(cache as c_int, pg_sys::Oid::from(oid).into(), ZERO, ZERO, ZERO)
            };
            (cache as c_int, hash)
        };
        let mut hashes = vec![hash(pg_sys::SysCacheIdentifier::PROCOID, function.oid)];
        hashes.extend(function.types.iter().map(|oid| hash(pg_sys::SysCacheIdentifier::TYPEOID, *oid)));
        Callable {
            search_path: search_path.expect("identifiers hold no NUL"),
            call: Plan::default(),
            conversions: function.arguments.iter().map(|_| Plan::default()).collect(),
            hashes,
            stale: Cell::new(false),
            function,
        }
    }

    /// The plan that calls the function with all its arguments as parameters.
    ///
    /// Its text names the function with its schema, and the parameters have exactly the types of its arguments, so no
    /// function of the same name comes closer, whatever is on the search path. That it is the one exposed is checked
    /// once more in the parsed statement.
    pub(super) fn call_plan(&self, sealed: &Sealed) -> Result<pg_sys::SPIPlanPtr, Failure> {
        let mut types: Vec<_> =
            self.function.arguments.iter().map(|argument| argument.ty.oid.into()).collect();
        // SAFETY: the plan has just been made, of a statement with the function as its only range.
        let is_ours = |plan| unsafe { called_function(plan) } == Some(self.function.oid.into());
        self.call.prepared(sealed, || call_text(&self.function), &mut types, is_ours)
    }

    /// The plan that converts a jsonb value, its one parameter, to the type of the argument.
    pub(super) fn conversion_plan(&self, sealed: &Sealed, at: usize) -> Result<pg_sys::SPIPlanPtr, Failure> {
        let argument: &Argument = &self.function.arguments[at];
        let text = || {
            let text = format!(
                "SELECT x.v FROM pg_catalog.jsonb_to_record(pg_catalog.jsonb_build_object('v', $1)) AS x (v {})",
                argument.ty.target
            );
            CString::new(text).expect("identifiers hold no NUL")
        };
        let is_ours = |plan| {
            // SAFETY: the plan has just been made, of a statement that returns one column.
            unsafe { result_type(plan) == Some(argument.ty.oid.into()) }
        };
        self.conversions[at].prepared(sealed, text, &mut [pg_sys::JSONBOID], is_ours)
    }
}

const ZERO: pg_sys::Datum = pg_sys::Datum::null();

fn quote_identifier(name: &str) -> String {
    let name = CString::new(name).expect("identifiers hold no NUL");
    // SAFETY: returns its argument or a palloc'ed copy.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) }.to_string_lossy().into_owned()
}

fn quote_literal(text: &str) -> String {
    let text = CString::new(text).expect("identifiers hold no NUL");
    // SAFETY: returns a palloc'ed copy.
    unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(text.as_ptr())) }.to_string_lossy().into_owned()
}

/// The statement that calls the function: one column of text for each row, and for a complete result a second with what
/// it lacks.
fn call_text(function: &Function) -> CString {
    let (values, alias) = match &function.returns {
        Returns::Void | Returns::Unsupported(_) => ("NULL::pg_catalog.text".to_owned(), "r"),
        // By way of JSON, whose text does not depend on settings.
        Returns::Scalar | Returns::Bytes => (
            "pg_catalog.to_json(r.v) OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[]".to_owned(),
            "r (v)",
        ),
        Returns::Json => ("r.v::pg_catalog.text".to_owned(), "r (v)"),
        Returns::Complete(_) => (
            "r.v::pg_catalog.jsonb::pg_catalog.text, CASE WHEN NOT pg_catalog.jsonb_exists(r.v::pg_catalog.jsonb, 'content') \
             THEN (r.v::pg_catalog.jsonb OPERATOR(pg_catalog.->) 'structuredContent')::pg_catalog.text END"
                .to_owned(),
            "r (v)",
        ),
        Returns::Row(_) | Returns::Rows { scalar: false, .. } => {
            ("pg_catalog.row_to_json(r.*)::pg_catalog.text".to_owned(), "r")
        }
        Returns::Rows { columns, scalar: true } => {
            let name = columns.first().map_or("value", |column| &column.name);
            let before = quote_literal(&format!("{{{}:", serde_json::Value::from(name)));
            let value = "COALESCE(pg_catalog.to_json(r.v)::pg_catalog.text, 'null')";
            let value = format!("pg_catalog.concat({before}, {value}, '}}')");
            (value, "r (v)")
        }
    };
    let mut arguments = String::new();
    for (at, argument) in function.arguments.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let variadic = if argument.variadic { "VARIADIC " } else { "" };
        let _ = write!(arguments, "{separator}{variadic}${}", at + 1);
    }
    let text = format!("SELECT {values} FROM {}({arguments}) AS {alias}", function.target);
    CString::new(text).expect("identifiers hold no NUL")
}

/// The parsed statement behind a plan of one.
///
/// # Safety
/// The plan is valid.
unsafe fn parsed(plan: pg_sys::SPIPlanPtr) -> Option<&'static pg_sys::Query> {
    // SAFETY: the list holds CachedPlanSource nodes, whose query_list holds Query nodes.
    unsafe {
        let sources = pg_sys::SPI_plan_get_plan_sources(plan);
        if sources.is_null() || (*sources).length != 1 {
            return None;
        }
        let source = pg_sys::list_nth(sources, 0).cast::<pg_sys::CachedPlanSource>();
        let queries = (*source).query_list;
        if queries.is_null() || (*queries).length != 1 {
            return None;
        }
        pg_sys::list_nth(queries, 0).cast::<pg_sys::Query>().as_ref()
    }
}

/// The function in FROM.
///
/// # Safety
/// The plan is valid.
unsafe fn called_function(plan: pg_sys::SPIPlanPtr) -> Option<pg_sys::Oid> {
    // SAFETY: the range table of the statement holds the function first; the tags are checked before each cast.
    unsafe {
        let ranges = parsed(plan)?.rtable;
        if ranges.is_null() {
            return None;
        }
        let range = pg_sys::list_nth(ranges, 0).cast::<pg_sys::RangeTblEntry>();
        if (*range).rtekind != pg_sys::RTEKind::RTE_FUNCTION || (*range).functions.is_null() {
            return None;
        }
        let function = pg_sys::list_nth((*range).functions, 0).cast::<pg_sys::RangeTblFunction>();
        let call = (*function).funcexpr;
        if call.is_null() || (*call).type_ != pg_sys::NodeTag::T_FuncExpr {
            return None;
        }
        Some((*call.cast::<pg_sys::FuncExpr>()).funcid)
    }
}

/// The type of the first column.
///
/// # Safety
/// The plan is valid.
unsafe fn result_type(plan: pg_sys::SPIPlanPtr) -> Option<pg_sys::Oid> {
    // SAFETY: the target list of a SELECT holds TargetEntry nodes, none of which has a null expression.
    unsafe {
        let columns = parsed(plan)?.targetList;
        if columns.is_null() {
            return None;
        }
        let column = pg_sys::list_nth(columns, 0).cast::<pg_sys::TargetEntry>();
        Some(pg_sys::exprType((*column).expr.cast()))
    }
}

/// The callables of this backend, by signature.
struct Kept {
    callables: RefCell<HashMap<String, Rc<Callable>>>,
    changes: Changes,
}

thread_local! {
    /// Leaked: at backend exit, the memory its plans are in goes before it does.
    static KEPT: &'static Kept = {
        // SAFETY: the callbacks live as long as the library, which is never unloaded; registered once a backend.
        unsafe {
            for cache in [
                pg_sys::SysCacheIdentifier::PROCOID,
                pg_sys::SysCacheIdentifier::TYPEOID,
                pg_sys::SysCacheIdentifier::ENUMOID,
                pg_sys::SysCacheIdentifier::NAMESPACEOID,
                pg_sys::SysCacheIdentifier::AUTHOID,
            ] {
                pg_sys::CacheRegisterSyscacheCallback(cache as c_int, Some(on_catalog_change), ZERO);
            }
            pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_change), ZERO);
        }
        Box::leak(Box::new(Kept { callables: RefCell::default(), changes: Changes::new() }))
    };
}

/// Marks what `concerned` picks as stale. Called by the server whenever it reads what other backends have changed; the
/// map is never borrowed then.
fn forget(concerned: impl Fn(&Callable) -> bool) {
    KEPT.with(|kept| {
        kept.changes.note();
        if let Ok(callables) = kept.callables.try_borrow() {
            callables
                .values()
                .filter(|callable| concerned(callable))
                .for_each(|callable| callable.stale.set(true));
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn on_catalog_change(_argument: pg_sys::Datum, cache: c_int, hash: u32) {
    let one_row = [pg_sys::SysCacheIdentifier::PROCOID, pg_sys::SysCacheIdentifier::TYPEOID];
    // Zero stands for all rows; schemas, roles and enum labels change too rarely to be told apart.
    let all = hash == 0 || !one_row.iter().any(|one| *one as c_int == cache);
    forget(|callable| all || callable.hashes.contains(&(cache, hash)));
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_change(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let all = relation == pg_sys::InvalidOid;
    forget(|callable| all || callable.function.relations.contains(&relation.to_u32()));
}

/// The function with this signature, ready to be called; `None` where there is no such function.
pub(super) fn find(signature: &str) -> Result<Option<Rc<Callable>>, Error> {
    let kept = KEPT.with(|kept| *kept);
    let found = kept.callables.borrow().get(signature).filter(|callable| !callable.stale.get()).cloned();
    if found.is_some() {
        return Ok(found);
    }
    let (callable, may_be_kept) = kept.changes.during(|| Ok(catalog::find(signature)?.map(Callable::new)))?;
    let Some(callable) = callable.map(Rc::new) else { return Ok(None) };
    if may_be_kept {
        // Dropped outside the borrow: freeing plans may read what has changed.
        let (mut replaced, mut all) = (None, HashMap::new());
        {
            let mut callables = kept.callables.borrow_mut();
            if callables.len() >= MAX_KEPT {
                std::mem::swap(&mut *callables, &mut all);
            }
            replaced = callables.insert(signature.to_owned(), Rc::clone(&callable)).or(replaced);
        }
        drop((replaced, all));
    }
    Ok(Some(callable))
}

/// A null-terminated list of the parameters that are NULL, as SPI wants it.
pub(super) fn nulls(values: &[Option<pg_sys::Datum>]) -> Vec<std::ffi::c_char> {
    values.iter().map(|value| if value.is_some() { b' ' } else { b'n' } as _).chain([0]).collect()
}
