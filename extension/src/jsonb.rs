//! `jsonb` values that pass through as they are: parsed by nobody, copied by nobody.

use crate::error::Error;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::fcinfo::{direct_function_call, direct_function_call_as_datum};
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// A `jsonb` argument, still in the server's own form.
#[derive(Clone, Copy)]
pub(crate) struct Jsonb(pg_sys::Datum);

impl_sql_translatable!(Jsonb, "jsonb");

// SAFETY: the argument is declared as jsonb, so its datum is one.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the wrapper that calls this has checked for NULL.
        Jsonb(unsafe { arg.unbox_arg_using_from_datum::<RawDatum>() }.expect("checked for NULL").0)
    }
}

struct RawDatum(pg_sys::Datum);

impl FromDatum for RawDatum {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(RawDatum(datum))
    }
}

// SAFETY: the result is declared as jsonb, and the datum is one.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the datum lives in the function's memory context.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then_some(Jsonb(datum))
    }

    unsafe fn from_datum_in_memory_context(
        mut context: PgMemoryContexts,
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // A row of SPI's is gone after the statement: take a flat copy along.
        // SAFETY: the datum is a jsonb of the row.
        (!is_null).then(|| unsafe {
            context.switch_to(|_| Jsonb(pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr()).into()))
        })
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

impl Jsonb {
    /// A value from JSON text that this library itself made or sealed.
    pub(crate) fn from_text(text: &CStr) -> Self {
        // SAFETY: jsonb_in is strict, takes one cstring and raises an ERROR on anything that is not JSON.
        unsafe {
            Jsonb(
                direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(text.as_ptr().into())])
                    .expect("strict"),
            )
        }
    }

    /// The JSON text.
    pub(crate) fn to_text(self) -> String {
        // SAFETY: jsonb_out is strict, takes one jsonb and returns a cstring in the database's encoding.
        let text = unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0)]) };
        text.expect("strict").to_string_lossy().into_owned()
    }

    /// Size in bytes, uncompressed.
    pub(crate) fn size(self) -> usize {
        // SAFETY: the datum is a varlena.
        unsafe { pg_sys::toast_raw_datum_size(self.0) }.saturating_sub(pg_sys::VARHDRSZ)
    }

    /// Whether it is an object, as claims and metadata must be.
    pub(crate) fn is_object(self) -> bool {
        const JB_FOBJECT: u32 = 0x2000_0000; // utils/jsonb.h
        // SAFETY: a detoasted jsonb begins with its container's header word, behind the length word.
        unsafe {
            let flat = pg_sys::pg_detoast_datum(self.0.cast_mut_ptr());
            let header = flat.cast::<u8>().add(pg_sys::VARHDRSZ).cast::<u32>().read_unaligned();
            header & JB_FOBJECT != 0
        }
    }

    /// Refuses what is larger than `limit` bytes.
    pub(crate) fn within(
        self,
        what: &'static str,
        limit: usize,
        setting: &'static str,
    ) -> Result<Self, Error> {
        let got = self.size();
        if got > limit { Err(Error::TooLarge { what, got, limit, setting }) } else { Ok(self) }
    }

    /// Refuses what is not an object.
    pub(crate) fn object(self, what: &'static str) -> Result<Self, Error> {
        if self.is_object() { Ok(self) } else { Err(Error::NotAnObject(what)) }
    }
}
