//! Functions of the server's as they are: an error raised in one jumps to the handler that was set last.
//!
//! pgrx's wrappers turn each error into a panic on the spot. These are for [`super::raised::catch`] alone, whose
//! closures an error jumps over.

use pgrx::pg_sys::{
    Datum, EState, Expr, ExprContext, ExprState, FunctionCallInfo, HeapTuple, Jsonb, JsonbValue, Oid,
    PGFunction, Portal, SPIPlanPtr, TimestampTz, TupleDesc, varlena,
};
use std::ffi::{c_char, c_int, c_long, c_void};

unsafe extern "C-unwind" {
    // executor/spi.h
    pub(super) fn SPI_prepare(text: *const c_char, count: c_int, types: *mut Oid) -> SPIPlanPtr;
    pub(super) fn SPI_execute(text: *const c_char, read_only: bool, limit: c_long) -> c_int;
    pub(super) fn SPI_execute_plan(
        plan: SPIPlanPtr,
        values: *mut Datum,
        nulls: *const c_char,
        read_only: bool,
        limit: c_long,
    ) -> c_int;
    pub(super) fn SPI_cursor_open(
        name: *const c_char,
        plan: SPIPlanPtr,
        values: *mut Datum,
        nulls: *const c_char,
        read_only: bool,
    ) -> Portal;
    pub(super) fn SPI_cursor_fetch(portal: Portal, forward: bool, count: c_long);
    pub(super) fn SPI_cursor_close(portal: Portal);
    pub(super) fn SPI_cursor_find(name: *const c_char) -> Portal;
    pub(super) fn SPI_getvalue(row: HeapTuple, description: TupleDesc, column: c_int) -> *mut c_char;

    // fmgr.h, utils/lsyscache.h
    pub(super) fn DirectFunctionCall1Coll(function: PGFunction, collation: Oid, argument: Datum) -> Datum;
    pub(super) fn OidInputFunctionCall(
        function: Oid,
        text: *mut c_char,
        parameter: Oid,
        modifier: i32,
    ) -> Datum;
    pub(super) fn getTypeInputInfo(of: Oid, function: *mut Oid, parameter: *mut Oid);
    pub(super) fn pg_detoast_datum_packed(datum: *mut varlena) -> *mut varlena;

    // utils/jsonb.h, utils/numeric.h
    pub(super) fn JsonbValueToJsonb(value: *mut JsonbValue) -> *mut Jsonb;
    pub(super) fn jsonb_in(call: FunctionCallInfo) -> Datum;
    pub(super) fn numeric_out(call: FunctionCallInfo) -> Datum;
    pub(super) fn numeric_int8(call: FunctionCallInfo) -> Datum;

    // commands/sequence.h, utils/fmgrprotos.h. Neither needs a handler: the first raises nothing, the second only on
    // what is no number between -1 and 1.
    pub(super) fn ResetSequenceCaches();
    pub(super) fn setseed(call: FunctionCallInfo) -> Datum;

    // nodes/read.h, executor/executor.h
    pub(super) fn stringToNode(text: *const c_char) -> *mut c_void;
    pub(super) fn CreateExecutorState() -> *mut EState;
    pub(super) fn MakePerTupleExprContext(state: *mut EState) -> *mut ExprContext;
    pub(super) fn ExecPrepareExpr(node: *mut Expr, state: *mut EState) -> *mut ExprState;
    #[link_name = "ExecEvalExpr__pgrx_cshim"]
    pub(super) fn ExecEvalExpr(state: *mut ExprState, context: *mut ExprContext, is_null: *mut bool)
    -> Datum;
}

/// What utils/timeout.h and utils/bytea.h declare, which pgrx does not bind.
pub(super) mod timeout {
    use super::{TimestampTz, c_int};

    /// A reason of ours; the server gives it the first free number.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    pub(in crate::tool) const USER_TIMEOUT: c_int = 12;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    pub(in crate::tool) const USER_TIMEOUT: c_int = 13;

    unsafe extern "C-unwind" {
        pub(in crate::tool) fn RegisterTimeout(id: c_int, handler: extern "C" fn()) -> c_int;
        pub(in crate::tool) fn enable_timeout_every(id: c_int, first: TimestampTz, milliseconds: c_int);
        pub(in crate::tool) fn disable_timeout(id: c_int, keep_indicator: bool);
    }
}

unsafe extern "C" {
    pub(super) static bytea_output: c_int;
}
