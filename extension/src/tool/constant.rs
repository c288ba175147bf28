//! Constants in the expressions that the catalog keeps.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;
use std::ffi::CStr;

/// A constant of an expression, behind whatever changes its type but not its meaning.
#[derive(Clone, Copy)]
pub(super) struct Constant {
    pub(super) ty: pg_sys::Oid,
    /// `None` is NULL.
    pub(super) value: Option<pg_sys::Datum>,
}

impl Constant {
    /// # Safety
    /// The node is a valid expression.
    pub(super) unsafe fn read(node: *mut pg_sys::Node) -> Option<Constant> {
        // SAFETY: the caller promises the node; each tag is checked before the cast.
        unsafe {
            let node = without_casts(node, true);
            if node.is_null() || (*node).type_ != NodeTag::T_Const {
                return None;
            }
            let constant = &*node.cast::<pg_sys::Const>();
            let value = (!constant.constisnull).then_some(constant.constvalue);
            Some(Constant { ty: constant.consttype, value })
        }
    }

    /// Its text, as the type's output function writes it. Only of types whose function is the server's own: what runs here
    /// does not run as the user.
    pub(super) fn text(self) -> Option<String> {
        let value = self.value?;
        // SAFETY: the value is of the type, as the catalog has it.
        unsafe {
            let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(self.ty, &mut function, &mut is_varlena);
            if !is_builtin(function) {
                return None;
            }
            let text = pg_sys::OidOutputFunctionCall(function, value);
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// What is behind relabelings that change no comparison, behind casts to a wider type of numbers, and, of a constant,
/// behind casts to domains.
///
/// # Safety
/// The node is null or a valid expression.
pub(super) unsafe fn without_casts(mut node: *mut pg_sys::Node, constant: bool) -> *mut pg_sys::Node {
    // SAFETY: the tag is checked before each cast.
    unsafe {
        while !node.is_null() {
            let inner: *mut pg_sys::Expr = match (*node).type_ {
                NodeTag::T_RelabelType => {
                    let relabel = &*node.cast::<pg_sys::RelabelType>();
                    if !is_same_in_all_but_name(pg_sys::exprType(relabel.arg.cast()), relabel.resulttype) {
                        return node;
                    }
                    relabel.arg
                }
                NodeTag::T_CoerceToDomain if constant => (*node.cast::<pg_sys::CoerceToDomain>()).arg,
                NodeTag::T_FuncExpr => {
                    let call = &*node.cast::<pg_sys::FuncExpr>();
                    let from = if length(call.args) == 1 { nth(call.args, 0) } else { std::ptr::null_mut() };
                    let is_cast = call.funcformat != pg_sys::CoercionForm::COERCE_EXPLICIT_CALL
                        && is_builtin(call.funcid)
                        && !from.is_null()
                        && is_wider(pg_sys::exprType(from), call.funcresulttype, constant);
                    if !is_cast {
                        return node;
                    }
                    from.cast()
                }
                _ => return node,
            };
            node = inner.cast();
        }
        node
    }
}

/// Whether values of two types that share their bytes compare alike: not those of `integer` and `oid`, or `text` and
/// `char(n)`.
fn is_same_in_all_but_name(one: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    const TEXTS: [pg_sys::Oid; 2] = [pg_sys::TEXTOID, pg_sys::VARCHAROID];
    const ARRAYS: [pg_sys::Oid; 2] = [pg_sys::TEXTARRAYOID, pg_sys::VARCHARARRAYOID];
    // SAFETY: reads the catalog.
    let types = unsafe { [pg_sys::getBaseType(one), pg_sys::getBaseType(other)] };
    types[0] == types[1] || [TEXTS, ARRAYS].iter().any(|same| types.iter().all(|ty| same.contains(ty)))
}

/// Whether each value of a type of numbers is one of another's. A constant that is not is told by its digits, later.
fn is_wider(from: pg_sys::Oid, to: pg_sys::Oid, constant: bool) -> bool {
    use pg_sys::{FLOAT4OID, FLOAT8OID, INT2OID, INT4OID, INT8OID, NUMERICOID};
    match from {
        INT2OID => matches!(to, INT4OID | INT8OID | NUMERICOID | FLOAT4OID | FLOAT8OID),
        INT4OID => matches!(to, INT8OID | NUMERICOID | FLOAT8OID),
        INT8OID => to == NUMERICOID || constant && to == FLOAT8OID,
        FLOAT4OID => to == FLOAT8OID,
        NUMERICOID => constant && to == FLOAT8OID,
        _ => false,
    }
}

/// Whether the server came with it, so that its name says what it does.
pub(super) fn is_builtin(oid: pg_sys::Oid) -> bool {
    oid.to_u32() < pg_sys::FirstNormalObjectId
}

/// # Safety
/// The list is null or a valid list of pointers.
pub(super) unsafe fn length(list: *mut pg_sys::List) -> i32 {
    // SAFETY: the caller promises the list.
    if list.is_null() { 0 } else { unsafe { (*list).length } }
}

/// # Safety
/// The list is a valid list of nodes that has such an element.
pub(super) unsafe fn nth(list: *mut pg_sys::List, at: i32) -> *mut pg_sys::Node {
    // SAFETY: the caller promises the list.
    unsafe { pg_sys::list_nth(list, at).cast() }
}
