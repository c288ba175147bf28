//! What the CHECK constraints of domains say, read from their parsed expressions.
//!
//! The expression, not its text: an operator in it is the server's own or it is not, whatever its name. What is not
//! understood is left to PostgreSQL, which checks everything anyway.

use super::constant::{self, Constant, is_builtin, length, nth};
use super::limits::{Bound, Limits, Pattern, Unsaid};
use super::pattern;
use super::types::Kind;
use pgrx::pg_sys;
use pgrx::pg_sys::{Node, NodeTag};
use serde::Deserialize;
use std::ffi::{CStr, CString};

/// A constraint as the catalog has it.
#[derive(Debug, Deserialize)]
pub(super) struct Check {
    pub(super) name: String,
    /// The parsed expression.
    expression: String,
    /// The same as SQL.
    definition: String,
    /// Whether values from before the constraint have been checked too.
    validated: bool,
}

/// What the checks of one domain are read into.
pub(super) struct Reading<'a> {
    pub(super) kind: &'a mut Kind,
    pub(super) limits: &'a mut Limits,
    pub(super) not_null: &'a mut bool,
    /// Whether a regular expression's digits are ASCII's alone in the database's own collation.
    pub(super) ascii_digits: bool,
}

impl Reading<'_> {
    /// Reads one check.
    pub(super) fn read(&mut self, check: &Check) {
        let complete = check.validated && {
            let text = CString::new(check.expression.as_str()).unwrap_or_default();
            // SAFETY: the catalog keeps the text of an expression, in the server's own notation.
            unsafe { self.conjunction(pg_sys::stringToNode(text.as_ptr()).cast()) }
        };
        if !complete {
            let definition = check.definition.trim_end_matches(" NOT VALID").to_owned();
            let unsaid = Unsaid { constraint: check.name.clone(), definition };
            self.limits.unsaid.push(unsaid);
        }
    }

    /// Whether everything in it was understood. What was, holds in any case.
    ///
    /// # Safety
    /// The node is null or a valid expression, as in the others.
    unsafe fn conjunction(&mut self, node: *mut Node) -> bool {
        // SAFETY: the tag is checked before each cast.
        unsafe {
            if node.is_null() {
                return false;
            }
            match (*node).type_ {
                NodeTag::T_BoolExpr => {
                    let expression = &*node.cast::<pg_sys::BoolExpr>();
                    let arguments = (0..length(expression.args)).map(|at| nth(expression.args, at));
                    match expression.boolop {
                        pg_sys::BoolExprType::AND_EXPR => {
                            // Each, not up to the first that is not understood.
                            let read: Vec<_> = arguments.map(|argument| self.conjunction(argument)).collect();
                            read.into_iter().all(|complete| complete)
                        }
                        pg_sys::BoolExprType::OR_EXPR => {
                            // NULL passes every check.
                            let mut others: Vec<_> =
                                arguments.filter(|argument| !is_null_test(*argument, true)).collect();
                            match (others.pop(), others.is_empty()) {
                                (Some(other), true) => self.conjunction(other),
                                _ => false,
                            }
                        }
                        _ => false,
                    }
                }
                NodeTag::T_NullTest => {
                    let tests = is_null_test(node, false);
                    *self.not_null |= tests;
                    tests
                }
                NodeTag::T_OpExpr => self.comparison(&*node.cast::<pg_sys::OpExpr>()),
                NodeTag::T_ScalarArrayOpExpr => self.membership(&*node.cast::<pg_sys::ScalarArrayOpExpr>()),
                _ => false,
            }
        }
    }

    unsafe fn comparison(&mut self, operation: &pg_sys::OpExpr) -> bool {
        // SAFETY: operators have one or two arguments, which are valid expressions.
        unsafe {
            let Some(name) = operator(operation.opno) else { return false };
            if length(operation.args) != 2 || !is_deterministic(operation.inputcollid) {
                return false;
            }
            let (left, right) = (nth(operation.args, 0), nth(operation.args, 1));
            if let Some(constant) = Constant::read(right) {
                return self.compared(left, name, constant, operation.inputcollid);
            }
            let mirrored = match name {
                b"<" => b">".as_slice(),
                b"<=" => b">=",
                b">" => b"<",
                b">=" => b"<=",
                b"=" => b"=",
                b"<>" => b"<>",
                _ => return false,
            };
            match Constant::read(left) {
                Some(constant) => self.compared(right, mirrored, constant, operation.inputcollid),
                None => false,
            }
        }
    }

    unsafe fn compared(
        &mut self,
        node: *mut Node,
        operator: &[u8],
        constant: Constant,
        collation: pg_sys::Oid,
    ) -> bool {
        let Some(text) = constant.text() else { return false };
        // SAFETY: valid expressions, of which the tag is checked before each cast.
        unsafe {
            let node = constant::without_casts(node, false);
            if is_value(node) {
                return match self.kind {
                    Kind::Integer { .. } | Kind::Number => {
                        self.bounded(operator, &text, constant.ty, pg_sys::exprType(node))
                    }
                    Kind::Text | Kind::Enum(_) => self.textual(node, operator, text, constant.ty, collation),
                    _ => false,
                };
            }
            let Some((function, argument)) = call(node) else { return false };
            let of_text = matches!(self.kind, Kind::Text | Kind::Enum(_)) && is_text(argument);
            match (function.to_bytes(), &*self.kind) {
                (b"length" | b"char_length" | b"character_length", _) if of_text => {
                    self.measured(operator, &text, true)
                }
                (b"cardinality", Kind::Array { dimensions: 1, .. }) => self.measured(operator, &text, true),
                // NULL of an empty array, which therefore passes.
                (b"array_length", Kind::Array { .. }) => self.measured(operator, &text, false),
                (b"jsonb_typeof" | b"json_typeof", Kind::Json) if operator == b"=" => {
                    let known = ["object", "array", "string", "number", "boolean"].contains(&text.as_str());
                    if known && self.limits.json_type.is_none() {
                        self.limits.json_type = Some(text);
                        return true;
                    }
                    false
                }
                _ => false,
            }
        }
    }

    /// `VALUE >= 0`.
    fn bounded(&mut self, operator: &[u8], text: &str, constant: pg_sys::Oid, value: pg_sys::Oid) -> bool {
        if !is_number(constant) {
            return false;
        }
        let Some(bound) = Bound::read(text, matches!(operator, b"<" | b">")) else { return false };
        // Values of single precision are rounded before they are compared.
        if value == pg_sys::FLOAT4OID && f64::from(bound.as_f64() as f32) != bound.as_f64() {
            return false;
        }
        match operator {
            b">" | b">=" => self.limits.raise_minimum(bound),
            b"<" | b"<=" => self.limits.lower_maximum(bound),
            b"=" => {
                self.limits.raise_minimum(bound.clone());
                self.limits.lower_maximum(bound);
            }
            _ => return false,
        }
        true
    }

    /// `VALUE <> ''`, `VALUE ~ '^[a-z]+$'`, `VALUE = 'a'`.
    unsafe fn textual(
        &mut self,
        node: *mut Node,
        operator: &[u8],
        text: String,
        ty: pg_sys::Oid,
        collation: pg_sys::Oid,
    ) -> bool {
        // SAFETY: a valid expression.
        let of_text = matches!(self.kind, Kind::Text) && unsafe { is_text(node) };
        let pattern = match operator {
            b"<>" if of_text && text.is_empty() => {
                self.limits.raise_min_length(1);
                return true;
            }
            b"=" => return self.one_of(vec![text], of_text || is_enum(ty)),
            b"~" if of_text => {
                let digits = collation == pg_sys::C_COLLATION_OID
                    || collation == pg_sys::DEFAULT_COLLATION_OID && self.ascii_digits;
                pattern::from_regex(&text, digits)
            }
            b"~~" if of_text => pattern::from_like(&text),
            _ => None,
        };
        let pattern = pattern.and_then(Pattern::new);
        let found = pattern.is_some();
        self.limits.patterns.extend(pattern);
        found
    }

    /// `length(VALUE) <= 10`.
    fn measured(&mut self, operator: &[u8], text: &str, of_empty: bool) -> bool {
        let Ok(length) = text.parse::<u32>() else { return false };
        match operator {
            b"<=" => self.limits.lower_max_length(length),
            b"<" if length > 0 => self.limits.lower_max_length(length - 1),
            b">=" if of_empty => self.limits.raise_min_length(length),
            b">" if of_empty => self.limits.raise_min_length(length.saturating_add(1)),
            b"=" if of_empty => {
                self.limits.raise_min_length(length);
                self.limits.lower_max_length(length);
            }
            _ => return false,
        }
        true
    }

    /// `VALUE IN ('a', 'b')`, which is `VALUE = ANY (ARRAY[…])`.
    unsafe fn membership(&mut self, operation: &pg_sys::ScalarArrayOpExpr) -> bool {
        // SAFETY: the operation has two arguments; the tag is checked before each cast.
        unsafe {
            if !operation.useOr
                || operator(operation.opno) != Some(b"=")
                || length(operation.args) != 2
                || !is_deterministic(operation.inputcollid)
            {
                return false;
            }
            let value = constant::without_casts(nth(operation.args, 0), false);
            if !is_value(value) {
                return false;
            }
            let mut list = constant::without_casts(nth(operation.args, 1), true);
            while !list.is_null() && (*list).type_ == NodeTag::T_ArrayCoerceExpr {
                list = constant::without_casts((*list.cast::<pg_sys::ArrayCoerceExpr>()).arg.cast(), true);
            }
            if list.is_null() || (*list).type_ != NodeTag::T_ArrayExpr {
                return false;
            }
            let elements = (*list.cast::<pg_sys::ArrayExpr>()).elements;
            let mut texts = Vec::new();
            let (mut numbers, mut enums) = (true, true);
            for at in 0..length(elements) {
                let Some(constant) = Constant::read(nth(elements, at)) else { return false };
                let Some(text) = constant.text() else { return false };
                numbers &= is_number(constant.ty);
                enums &= is_enum(constant.ty);
                texts.push(text);
            }
            match self.kind {
                Kind::Integer { .. } if numbers => {
                    let integers: Result<Vec<i64>, _> = texts.iter().map(|text| text.parse()).collect();
                    let (Ok(integers), None) = (integers, &self.limits.integers) else { return false };
                    self.limits.integers = Some(integers);
                    true
                }
                Kind::Text => self.one_of(texts, is_text(value)),
                Kind::Enum(_) => self.one_of(texts, enums || is_text(value)),
                _ => false,
            }
        }
    }

    fn one_of(&mut self, texts: Vec<String>, comparable: bool) -> bool {
        if !comparable {
            return false;
        }
        match self.kind {
            Kind::Text => *self.kind = Kind::Enum(texts),
            Kind::Enum(labels) => labels.retain(|label| texts.contains(label)),
            _ => return false,
        }
        true
    }
}

/// Whether it is `VALUE IS NULL`, or, negated, `VALUE IS NOT NULL`.
///
/// # Safety
/// As [`Reading::conjunction`].
unsafe fn is_null_test(node: *mut Node, null: bool) -> bool {
    // SAFETY: the tag is checked before the cast.
    unsafe {
        if (*node).type_ != NodeTag::T_NullTest {
            return false;
        }
        let test = &*node.cast::<pg_sys::NullTest>();
        let wanted = if null { pg_sys::NullTestType::IS_NULL } else { pg_sys::NullTestType::IS_NOT_NULL };
        test.nulltesttype == wanted && !test.argisrow && is_value(test.arg.cast())
    }
}

/// The name of an operator of the server's own.
///
/// # Safety
/// Reads the catalog.
unsafe fn operator(oid: pg_sys::Oid) -> Option<&'static [u8]> {
    if !is_builtin(oid) {
        return None;
    }
    // SAFETY: a palloc'ed copy, or null.
    let name = unsafe {
        let name = pg_sys::get_opname(oid);
        if name.is_null() { return None } else { CStr::from_ptr(name) }
    };
    [b"<".as_slice(), b"<=", b">", b">=", b"=", b"<>", b"~", b"~~"]
        .into_iter()
        .find(|known| *known == name.to_bytes())
}

/// A call of a function of the server's own, with its first argument; of `array_length`, for the first dimension.
///
/// # Safety
/// As [`Reading::conjunction`].
unsafe fn call(node: *mut Node) -> Option<(&'static CStr, *mut Node)> {
    // SAFETY: the tag is checked before the cast.
    unsafe {
        if node.is_null() || (*node).type_ != NodeTag::T_FuncExpr {
            return None;
        }
        let call = &*node.cast::<pg_sys::FuncExpr>();
        if !is_builtin(call.funcid) {
            return None;
        }
        let name = pg_sys::get_func_name(call.funcid);
        if name.is_null() {
            return None;
        }
        let name = CStr::from_ptr(name);
        let arguments = length(call.args);
        let fits = if name == c"array_length" {
            arguments == 2
                && Constant::read(nth(call.args, 1)).and_then(Constant::text).as_deref() == Some("1")
        } else {
            arguments == 1
        };
        if !fits {
            return None;
        }
        let argument = nth(call.args, 0);
        is_value(constant::without_casts(argument, false)).then_some((name, argument))
    }
}

/// # Safety
/// As [`Reading::conjunction`].
unsafe fn is_value(node: *mut Node) -> bool {
    // SAFETY: every node has a tag.
    !node.is_null()
        && unsafe { (*constant::without_casts(node, false)).type_ } == NodeTag::T_CoerceToDomainValue
}

/// Whether an expression is a text, or of a type that differs from it in name alone: those of `char(n)` and `name` compare
/// otherwise.
///
/// # Safety
/// As [`Reading::conjunction`].
unsafe fn is_text(node: *mut Node) -> bool {
    // SAFETY: the caller promises the expression.
    matches!(unsafe { pg_sys::exprType(node) }, pg_sys::TEXTOID | pg_sys::VARCHAROID)
}

fn is_number(ty: pg_sys::Oid) -> bool {
    use pg_sys::{FLOAT4OID, FLOAT8OID, INT2OID, INT4OID, INT8OID, NUMERICOID};
    matches!(ty, INT2OID | INT4OID | INT8OID | NUMERICOID | FLOAT4OID | FLOAT8OID)
}

fn is_enum(ty: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalog.
    unsafe { pg_sys::get_typtype(ty) as u8 == b'e' }
}

/// Whether texts that compare as equal are equal.
fn is_deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalog.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}
