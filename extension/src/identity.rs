//! The armed identity: who the current transaction acts for.
//!
//! It lives in this backend's memory and nowhere else. No setting holds it, so none can forge it: the one way in is
//! [`arm`], called with a session whose token has just been verified. It holds for one local transaction, whose id every
//! read compares, and it cannot be exchanged within it. A ROLLBACK TO SAVEPOINT across the arming poisons it: reads
//! raise rather than fall back to "nobody", because policies may be written so that "nobody" sees more.
//!
//! The readers are what policies call for each row. They take no lock, allocate nothing and return pointers into memory
//! that stays as it is until the next arming, which is in another transaction.

use crate::error::Error;
use crate::session::record::{Column, Record};
use crate::supabase;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::UnsafeCell;
use std::ptr;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Nobody,
    Armed,
    Poisoned,
}

/// What the readers return: a datum by reference into [`Identity::memory`], or SQL NULL.
type Value = Option<pg_sys::Datum>;

struct Identity {
    phase: Phase,
    /// The local transaction it holds for. Ids are never reused in one backend before they wrap after 2^32.
    transaction: pg_sys::LocalTransactionId,
    /// The subtransaction in which it was armed.
    subtransaction: pg_sys::SubTransactionId,
    /// When the presented token stops working, however long its session lives, in microseconds since 2000.
    token_ends_at: pg_sys::TimestampTz,
    /// When session or token end, as of the arming or the last touch.
    expires_at: pg_sys::TimestampTz,
    /// Whether a tool is running sealed.
    sealed: bool,
    user_id: Value,
    session_id: Value,
    issuer: Value,
    subject: Value,
    client_id: Value,
    scopes: Value,
    claims: Value,
    /// Holds what the values point to; emptied at each arming.
    memory: pg_sys::MemoryContext,
}

/// A backend has one thread that runs PostgreSQL's code, so this needs no lock.
struct Backend(UnsafeCell<Identity>);

// SAFETY: only the backend's main thread calls into this library.
unsafe impl Sync for Backend {}

static IDENTITY: Backend = Backend(UnsafeCell::new(Identity {
    phase: Phase::Nobody,
    transaction: 0,
    subtransaction: 0,
    token_ends_at: 0,
    expires_at: 0,
    sealed: false,
    user_id: None,
    session_id: None,
    issuer: None,
    subject: None,
    client_id: None,
    scopes: None,
    claims: None,
    memory: ptr::null_mut(),
}));

// Declared here rather than taken from pgrx, whose declaration saves the signal stack at each call to catch an ERROR:
// this one returns a variable, cannot raise one, and is called for every row.
unsafe extern "C" {
    fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
fn current_transaction() -> pg_sys::LocalTransactionId {
    // SAFETY: set once when the backend starts.
    unsafe { (*pg_sys::MyProc).lxid }
}

#[cfg(any(feature = "pg17", feature = "pg18"))]
fn current_transaction() -> pg_sys::LocalTransactionId {
    // SAFETY: set once when the backend starts.
    unsafe { (*pg_sys::MyProc).vxid.lxid }
}

/// Registers the callbacks that end an identity with its transaction. Called once, while the library loads.
pub(crate) fn init() {
    // SAFETY: both callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction), ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), ptr::null_mut());
    }
}

fn identity() -> *mut Identity {
    IDENTITY.0.get()
}

fn phase() -> Phase {
    // SAFETY: one thread, and no reference into the cell is held across a call.
    unsafe {
        let identity = identity();
        if (*identity).phase == Phase::Nobody || (*identity).transaction != current_transaction() {
            return Phase::Nobody;
        }
        (*identity).phase
    }
}

/// Whether this transaction may still be given an identity.
pub(crate) fn check_unarmed() -> Result<(), Error> {
    if in_tool() {
        return Err(Error::InsideTool);
    }
    match phase() {
        Phase::Nobody => Ok(()),
        Phase::Armed => Err(Error::AlreadyArmed),
        Phase::Poisoned => Err(Error::Poisoned),
    }
}

/// Makes the rest of the transaction act for the session's user. The caller has verified the session's token, which
/// stops working at `token_ends_at` however long the session lives.
pub(crate) fn arm(record: &Record, token_ends_at: pg_sys::TimestampTz) -> Result<(), Error> {
    check_unarmed()?;
    // SAFETY: one thread; the datums are copied before the record's own memory goes.
    unsafe {
        let identity = identity();
        if (*identity).memory.is_null() {
            (*identity).memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"mcp_sessions identity".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
        }
        (*identity).phase = Phase::Nobody;
        pg_sys::MemoryContextReset((*identity).memory);
        let caller = pg_sys::MemoryContextSwitchTo((*identity).memory);
        let text = |column| record.datum(column).map(|datum| copy(datum));
        let uuid = |column| record.datum(column).map(|datum| copy_uuid(datum));
        (*identity).user_id = uuid(Column::UserId);
        (*identity).session_id = uuid(Column::SessionId);
        (*identity).issuer = text(Column::Issuer);
        (*identity).subject = text(Column::Subject);
        (*identity).client_id = text(Column::ClientId);
        (*identity).scopes = text(record.scopes_column());
        (*identity).claims = text(Column::Claims);
        pg_sys::MemoryContextSwitchTo(caller);
        (*identity).token_ends_at = token_ends_at;
        (*identity).expires_at = record.expires_at().min(token_ends_at);
        (*identity).subtransaction = pg_sys::GetCurrentSubTransactionId();
        (*identity).transaction = current_transaction();
        (*identity).sealed = false;
        (*identity).phase = Phase::Armed;
    }
    supabase::mirror(record)
}

/// Copies a varlena, uncompressed and in line, into the current memory context.
unsafe fn copy(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: the caller passes a varlena of the record.
    unsafe { pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr()).into() }
}

unsafe fn copy_uuid(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: the caller passes a uuid of the record: 16 bytes.
    unsafe {
        let to = pg_sys::palloc(16);
        ptr::copy_nonoverlapping(datum.cast_mut_ptr::<u8>(), to.cast(), 16);
        to.into()
    }
}

/// A later expiry of the armed session, after it was touched in this very transaction.
pub(crate) fn extend(expires_at: pg_sys::TimestampTz) {
    // SAFETY: as in `phase`.
    unsafe {
        let identity = identity();
        (*identity).expires_at = (*identity).expires_at.max(expires_at.min((*identity).token_ends_at));
    }
}

/// Marks the beginning and the end of a sealed tool: inside, nothing may sign in.
pub(crate) fn seal(sealed: bool) {
    // SAFETY: as in `phase`.
    unsafe { (*identity()).sealed = sealed }
}

/// Whether a tool is running sealed. Ends with the transaction, however the tool did.
pub(crate) fn in_tool() -> bool {
    // SAFETY: as in `phase`.
    unsafe { (*identity()).sealed && phase() != Phase::Nobody }
}

/// The armed session's id. Raises where nobody is armed.
pub(crate) fn armed_session() -> Result<pgrx::Uuid, Error> {
    required(|identity| identity.session_id)
}

/// The armed user's id. Raises where nobody is armed.
pub(crate) fn armed_user() -> Result<pgrx::Uuid, Error> {
    required(|identity| identity.user_id)
}

/// The armed session's client. None where nobody is armed, and where it has none.
pub(crate) fn armed_client() -> Result<Option<String>, Error> {
    // SAFETY: the field is a text datum.
    Ok(value(|identity| identity.client_id)?.and_then(|datum| unsafe { String::from_datum(datum, false) }))
}

fn required(field: fn(&Identity) -> Value) -> Result<pgrx::Uuid, Error> {
    match value(field)? {
        // SAFETY: both fields asked for are uuids.
        Some(datum) => Ok(unsafe { pgrx::Uuid::from_datum(datum, false) }.expect("not null")),
        None => Err(Error::NobodyArmed),
    }
}

/// What a reader returns: NULL where nobody is armed or the session has ended by the start of this statement.
fn value(field: fn(&Identity) -> Value) -> Result<Value, Error> {
    match phase() {
        Phase::Nobody => Ok(None),
        Phase::Poisoned => Err(Error::Poisoned),
        Phase::Armed => {
            // SAFETY: as in `phase`; see the declaration.
            unsafe {
                let identity = &*identity();
                Ok(if GetCurrentStatementStartTimestamp() < identity.expires_at {
                    field(identity)
                } else {
                    None
                })
            }
        }
    }
}

/// The scopes of the armed session. Empty where nobody is armed.
pub(crate) fn scopes() -> Result<Vec<String>, Error> {
    // SAFETY: the field is a text[] datum.
    Ok(value(|identity| identity.scopes)?
        .and_then(|datum| unsafe { Vec::<String>::from_datum(datum, false) })
        .unwrap_or_default())
}

#[pg_guard]
extern "C-unwind" fn raise(poisoned: bool) {
    if poisoned { Error::Poisoned.raise() } else { Error::NobodyArmed.raise() }
}

/// A reader callable from SQL: `extension/sql/identity.sql` declares it. Written without pgrx's wrapper, which costs
/// more than all the rest of it.
macro_rules! reader {
    ($field:ident, $function:ident, $info:ident) => {
        reader!($field, $function, $info, null);
    };
    ($field:ident, $function:ident, $info:ident, $absent:ident) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const INFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &INFO
        }

        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $function(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            match value(|identity| identity.$field) {
                Ok(Some(datum)) => datum,
                // SAFETY: the server passes a valid call frame.
                Ok(None) => unsafe { $absent(fcinfo) },
                Err(_) => {
                    raise(true);
                    pg_sys::Datum::null()
                }
            }
        }
    };
}

/// SQL NULL.
///
/// # Safety
/// The frame is that of a call.
unsafe extern "C-unwind" fn null(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as the caller says.
    unsafe { (*fcinfo).isnull = true };
    pg_sys::Datum::null()
}

/// An error.
unsafe extern "C-unwind" fn nobody(_: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    raise(false);
    pg_sys::Datum::null()
}

reader!(user_id, mcp_user_id, pg_finfo_mcp_user_id);
reader!(user_id, mcp_require_user, pg_finfo_mcp_require_user, nobody);
reader!(session_id, mcp_session_id, pg_finfo_mcp_session_id);
reader!(issuer, mcp_issuer, pg_finfo_mcp_issuer);
reader!(subject, mcp_subject, pg_finfo_mcp_subject);
reader!(client_id, mcp_client_id, pg_finfo_mcp_client_id);
reader!(scopes, mcp_scopes, pg_finfo_mcp_scopes);
reader!(claims, mcp_claims, pg_finfo_mcp_claims);

/// Whether the armed session has a scope. NULL where nobody is armed.
#[pg_extern(schema = "mcp", stable, parallel_restricted)]
fn has_scope(scope: &str) -> Result<Option<bool>, pg_sys::panic::ErrorReport> {
    // SAFETY: the field is a text[] datum.
    let held = value(|identity| identity.scopes)?
        .and_then(|datum| unsafe { pgrx::Array::<&str>::from_datum(datum, false) });
    Ok(held.map(|held| held.iter().flatten().any(|held| held == scope)))
}

/// Ends the identity with its transaction. Must not raise in COMMIT and ABORT, where an ERROR takes the server down.
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // Deferred triggers have run by PRE_COMMIT under the identity; it ends with the commit itself.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PARALLEL_PRE_COMMIT => {}
        XACT_EVENT_PRE_PREPARE => {
            if phase() != Phase::Nobody {
                raise_prepare();
            }
        }
        // SAFETY: as in `phase`.
        _ => unsafe { (*identity()).phase = Phase::Nobody },
    }
}

#[pg_guard]
extern "C-unwind" fn raise_prepare() {
    Error::Prepare.raise()
}

unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _: pg_sys::SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    // Ids grow: an aborting subtransaction with an id not above that of the arming contains it. Released, the arming belongs
    // to a parent, and whatever contains that is below as well. What is left of an earlier transaction may be poisoned too:
    // it is nobody in this one.
    // SAFETY: as in `phase`.
    unsafe {
        let identity = identity();
        if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB
            && subtransaction <= (*identity).subtransaction
        {
            (*identity).phase = Phase::Poisoned;
        }
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pg_schema]
mod tests {
    use super::*;

    fn sign_in() {
        Spi::run(
            "SELECT e.status FROM mcp.create_session('https://idp.example', 'alice', NULL, scopes => '{a}') AS c,
                    LATERAL mcp.enter(c.access_token) AS e",
        )
        .unwrap();
    }

    /// Bytes in the current memory context, after its free lists have been filled once.
    fn allocated() -> usize {
        // SAFETY: a valid context.
        unsafe { pg_sys::MemoryContextMemAllocated(pg_sys::CurrentMemoryContext, true) }
    }

    #[pg_test]
    fn readers_allocate_nothing() {
        sign_in();
        let before = allocated();
        for _ in 0..100_000 {
            for field in [
                |identity: &Identity| identity.user_id,
                |identity: &Identity| identity.claims,
                |identity: &Identity| identity.scopes,
            ] {
                assert!(value(field).unwrap().is_some());
            }
        }
        assert_eq!(allocated(), before);
    }

    #[pg_test]
    fn an_identity_ends_with_its_session() {
        sign_in();
        assert!(value(|identity| identity.user_id).unwrap().is_some());
        // SAFETY: one thread.
        unsafe { (*identity()).expires_at = pg_sys::GetCurrentStatementStartTimestamp() };
        assert!(value(|identity| identity.user_id).unwrap().is_none());
        assert!(matches!(armed_user(), Err(Error::NobodyArmed)));
    }

    #[pg_test]
    fn an_identity_goes_on_with_its_session_as_long_as_its_token() {
        sign_in();
        let signed_in = || value(|identity| identity.user_id).unwrap().is_some();
        // SAFETY: one thread.
        let now = unsafe { GetCurrentStatementStartTimestamp() };
        // SAFETY: as above.
        unsafe { ((*identity()).expires_at, (*identity()).token_ends_at) = (now, now) };
        extend(now + 1);
        assert!(!signed_in());
        // SAFETY: as above.
        unsafe { (*identity()).token_ends_at = now + 1 };
        extend(now + 1);
        assert!(signed_in());
        extend(now);
        assert!(signed_in());
    }

    #[pg_test]
    fn an_identity_of_another_transaction_is_nobody() {
        sign_in();
        // SAFETY: one thread.
        unsafe { (*identity()).transaction = (*identity()).transaction.wrapping_sub(1) };
        assert!(value(|identity| identity.user_id).unwrap().is_none());
        assert_eq!(scopes().unwrap(), Vec::<String>::new());
        check_unarmed().unwrap();
        seal(true);
        assert!(!in_tool());
    }

    #[pg_test(error = "a tool must not sign in or call tools")]
    fn a_sealed_tool_cannot_sign_in() {
        sign_in();
        seal(true);
        assert!(in_tool());
        sign_in();
    }
}
