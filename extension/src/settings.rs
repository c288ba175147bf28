//! Every setting of the extension: its default and why, who may change it, and a typed accessor.
//!
//! What decides who is who (`mcp.supabase_claims`, lifetimes, limits) is for superusers alone; what the background
//! worker reads comes from the configuration file, because a session's `SET` cannot reach another process.

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

/// A working day and a night: what the client of a person who comes back tomorrow needs.
static SESSION_TTL: GucSetting<i32> = GucSetting::<i32>::new(24 * 3600);
/// NIST SP 800-63B bounds a session at 30 days without a new sign-in.
static MAX_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 3600);
/// RFC 9700 §2.2: short-lived access tokens where a refresh token stands behind them.
static ACCESS_TTL: GucSetting<i32> = GucSetting::<i32>::new(3600);
/// Two windows of one client that refresh at once are seconds apart; a stolen token is used later than that.
static REFRESH_GRACE: GucSetting<i32> = GucSetting::<i32>::new(60);
/// Ten minutes to find the password: the bound RFC 6749 §4.1.2 recommends for codes.
static SIGN_IN_TTL: GucSetting<i32> = GucSetting::<i32>::new(600);
/// As long as the longest session, so that a step-up late in its life still finds the session to widen.
static CONSENT_TTL: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 3600);
/// A client redeems its code within seconds; the bound is that of OWASP ASVS 10.4.3, level 3.
static CODE_TTL: GucSetting<i32> = GucSetting::<i32>::new(60);
/// People take their time to answer.
static REQUEST_STATE_TTL: GucSetting<i32> = GucSetting::<i32>::new(3600);
/// A client registers on the way to its first sign-in, and registers again when it is not known any more.
static CLIENT_TTL: GucSetting<i32> = GucSetting::<i32>::new(24 * 3600);
/// A hundred begun each second, by people who take the full ten minutes; a sign-in is less than a kilobyte.
static MAX_SIGN_INS: GucSetting<i32> = GucSetting::<i32>::new(60_000);
/// A few megabytes; clients that were used do not count.
static MAX_UNUSED_CLIENTS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
/// A workspace's context, not a document store: it is rewritten as a whole.
static MAX_STATE_BYTES: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);
/// Identity providers with many groups issue tokens of 8 KB; three of them fit many times over.
static MAX_OAUTH_DATA_BYTES: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);
/// Claims are copied into the backend at each request.
static MAX_CLAIMS_BYTES: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);
/// A person with every client on every device stays below it; a script that signs in at each call does not.
static MAX_SESSIONS_PER_USER: GucSetting<i32> = GucSetting::<i32>::new(100);
/// Longer than any interactive tool, short enough that a stuck one frees its connection.
static TOOL_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
/// What a model's context and a frontend's memory stand.
static MAX_RESULT_BYTES: GucSetting<i32> = GucSetting::<i32>::new(4 * 1024 * 1024);
/// Far more than a model writes; what it takes to check them is bounded by it.
static MAX_ARGUMENT_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static SUPABASE_CLAIMS: GucSetting<bool> = GucSetting::<bool>::new(false);
static KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// A minute keeps the backlog of a busy server at a few batches.
static CLEANUP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
/// A batch is one transaction that SIGTERM cannot interrupt: at this size it takes tens of milliseconds.
static CLEANUP_BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1000);
/// A client that comes back the next day is told "expired", not "unknown".
static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(24 * 3600);
/// A quarter, the usual span of an access review.
static AUDIT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * 24 * 3600);

const TEN_YEARS: i32 = 10 * 365 * 24 * 3600;

/// Declares the settings. `preloading` says whether the postmaster is loading the library: a setting that needs a
/// restart can only be declared then, anywhere else the server would end the connection.
pub(crate) fn declare(preloading: bool) {
    use GucContext::{Postmaster, Sighup, Suset};
    let seconds = |name, short, long, setting, min, max, context| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, context, GucFlags::UNIT_S);
    };
    seconds(
        c"mcp.session_ttl",
        c"How long a session lives after its last use.",
        c"The default for sessions created without a ttl of their own.",
        &SESSION_TTL,
        1,
        TEN_YEARS,
        Suset,
    );
    seconds(
        c"mcp.max_lifetime",
        c"How long a session lives at most, however much it is used.",
        c"The default for sessions created without a max_lifetime of their own.",
        &MAX_LIFETIME,
        1,
        TEN_YEARS,
        Suset,
    );
    seconds(
        c"mcp.access_ttl",
        c"How long an access token lives where a refresh token stands behind it.",
        c"The default for sessions created with a refresh token and without an access_ttl of their own.",
        &ACCESS_TTL,
        1,
        TEN_YEARS,
        Suset,
    );
    seconds(
        c"mcp.refresh_grace",
        c"How long a rotated refresh token still gives the same client its successor.",
        c"After it, presenting a rotated refresh token revokes the session. Zero: at once.",
        &REFRESH_GRACE,
        0,
        3600,
        Suset,
    );
    seconds(
        c"mcp.sign_in_ttl",
        c"How long a sign-in at the identity provider may take.",
        c"",
        &SIGN_IN_TTL,
        10,
        3600,
        Suset,
    );
    seconds(
        c"mcp.consent_ttl",
        c"How long a user's consent to a client is remembered in the browser where it was given.",
        c"Asking for more scopes within it widens the session it led to.",
        &CONSENT_TTL,
        1,
        TEN_YEARS,
        Suset,
    );
    seconds(
        c"mcp.code_ttl",
        c"How long an authorization code may be redeemed.",
        c"",
        &CODE_TTL,
        1,
        60,
        Suset,
    );
    seconds(
        c"mcp.request_state_ttl",
        c"How long a call that asked its client for input may be taken up again.",
        c"",
        &REQUEST_STATE_TTL,
        1,
        24 * 3600,
        Suset,
    );
    seconds(
        c"mcp.client_ttl",
        c"How long a client that registered itself is known before somebody signs in with it.",
        c"",
        &CLIENT_TTL,
        60,
        TEN_YEARS,
        Suset,
    );
    GucRegistry::define_int_guc(
        c"mcp.max_sign_ins",
        c"How many sign-ins may be under way.",
        c"The oldest is forgotten for a new one.",
        &MAX_SIGN_INS,
        1,
        10_000_000,
        Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"mcp.max_unused_clients",
        c"How many clients that registered themselves are known before somebody signs in with them.",
        c"The oldest is forgotten for a new one.",
        &MAX_UNUSED_CLIENTS,
        1,
        1_000_000,
        Suset,
        GucFlags::default(),
    );
    let bytes = |name, short, setting, max| {
        GucRegistry::define_int_guc(name, short, c"", setting, 0, max, Suset, GucFlags::UNIT_BYTE);
    };
    bytes(c"mcp.max_state_bytes", c"Size limit of a session's state.", &MAX_STATE_BYTES, 1 << 30);
    bytes(
        c"mcp.max_oauth_data_bytes",
        c"Size limit of a session's sealed OAuth tokens.",
        &MAX_OAUTH_DATA_BYTES,
        1 << 30,
    );
    bytes(
        c"mcp.max_claims_bytes",
        c"Size limit of a session's claims and of its metadata.",
        &MAX_CLAIMS_BYTES,
        1 << 30,
    );
    bytes(
        c"mcp.max_argument_bytes",
        c"Size limit of the arguments of a tool call.",
        &MAX_ARGUMENT_BYTES,
        1 << 30,
    );
    bytes(c"mcp.max_result_bytes", c"Size limit of what a tool may return.", &MAX_RESULT_BYTES, 1 << 30);
    GucRegistry::define_int_guc(
        c"mcp.max_sessions_per_user",
        c"How many live sessions one user may have; the one used longest ago ends for a new one.",
        c"Zero: no limit.",
        &MAX_SESSIONS_PER_USER,
        0,
        i32::MAX,
        Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"mcp.tool_timeout",
        c"How long a tool may run that has no timeout of its own.",
        c"Zero: no limit but statement_timeout.",
        &TOOL_TIMEOUT,
        0,
        i32::MAX,
        Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"mcp.supabase_claims",
        c"Whether an armed identity also sets request.jwt.claims for the transaction.",
        c"Keeps policies written with auth.uid() working. Unlike mcp.user_id(), whoever can run SQL can forge it.",
        &SUPABASE_CLAIMS,
        Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"mcp.key_file",
        c"File with the server keys that sealing needs beside the client's own secret.",
        c"One key a line, 64 hexadecimal digits; the first seals, all of them open.",
        &KEY_FILE,
        Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    if preloading {
        GucRegistry::define_string_guc(
            c"mcp.database",
            c"Database in which the background worker cleans up.",
            c"Empty: no worker.",
            &DATABASE,
            Postmaster,
            GucFlags::default(),
        );
    }
    seconds(
        c"mcp.cleanup_interval",
        c"How often the background worker cleans up.",
        c"",
        &CLEANUP_INTERVAL,
        1,
        24 * 3600,
        Sighup,
    );
    GucRegistry::define_int_guc(
        c"mcp.cleanup_batch_size",
        c"How many rows the background worker deletes in one transaction.",
        c"",
        &CLEANUP_BATCH_SIZE,
        1,
        1_000_000,
        Sighup,
        GucFlags::default(),
    );
    seconds(
        c"mcp.retention",
        c"How long the background worker leaves a session that has ended.",
        c"",
        &RETENTION,
        0,
        TEN_YEARS,
        Sighup,
    );
    seconds(
        c"mcp.audit_retention",
        c"How long the background worker leaves a row of the audit log.",
        c"",
        &AUDIT_RETENTION,
        3600,
        TEN_YEARS,
        Sighup,
    );
    // SAFETY: a static C string; called once, while the library loads.
    unsafe { reserve_prefix() };
}

/// Makes the server refuse `SET mcp.anything_else`, so that a misspelt setting is an error.
///
/// # Safety
/// Only while the library loads.
unsafe fn reserve_prefix() {
    // SAFETY: the argument is a static C string, which the server copies.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"mcp".as_ptr()) }
}

fn seconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_secs(setting.get().unsigned_abs().into())
}

fn bytes(setting: &GucSetting<i32>) -> usize {
    setting.get().unsigned_abs() as usize
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    let value = setting.get()?.into_string().ok()?;
    (!value.is_empty()).then_some(value)
}

pub(crate) fn session_ttl() -> Duration {
    seconds(&SESSION_TTL)
}

pub(crate) fn max_lifetime() -> Duration {
    seconds(&MAX_LIFETIME)
}

pub(crate) fn access_ttl() -> Duration {
    seconds(&ACCESS_TTL)
}

pub(crate) fn refresh_grace() -> Duration {
    seconds(&REFRESH_GRACE)
}

pub(crate) fn sign_in_ttl() -> Duration {
    seconds(&SIGN_IN_TTL)
}

pub(crate) fn consent_ttl() -> Duration {
    seconds(&CONSENT_TTL)
}

pub(crate) fn code_ttl() -> Duration {
    seconds(&CODE_TTL)
}

pub(crate) fn request_state_ttl() -> Duration {
    seconds(&REQUEST_STATE_TTL)
}

pub(crate) fn client_ttl() -> Duration {
    seconds(&CLIENT_TTL)
}

pub(crate) fn max_sign_ins() -> i64 {
    MAX_SIGN_INS.get().into()
}

pub(crate) fn max_unused_clients() -> i64 {
    MAX_UNUSED_CLIENTS.get().into()
}

pub(crate) fn max_state_bytes() -> usize {
    bytes(&MAX_STATE_BYTES)
}

pub(crate) fn max_oauth_data_bytes() -> usize {
    bytes(&MAX_OAUTH_DATA_BYTES)
}

pub(crate) fn max_claims_bytes() -> usize {
    bytes(&MAX_CLAIMS_BYTES)
}

pub(crate) fn max_argument_bytes() -> usize {
    bytes(&MAX_ARGUMENT_BYTES)
}

pub(crate) fn max_result_bytes() -> usize {
    bytes(&MAX_RESULT_BYTES)
}

/// `None`: no limit.
pub(crate) fn max_sessions_per_user() -> Option<i64> {
    let limit = MAX_SESSIONS_PER_USER.get();
    (limit > 0).then_some(limit.into())
}

/// `None`: no limit of ours.
pub(crate) fn tool_timeout() -> Option<Duration> {
    let milliseconds = TOOL_TIMEOUT.get().unsigned_abs();
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()))
}

pub(crate) fn supabase_claims() -> bool {
    SUPABASE_CLAIMS.get()
}

pub(crate) fn key_file() -> Option<PathBuf> {
    text(&KEY_FILE).map(PathBuf::from)
}

pub(crate) fn database() -> Option<String> {
    text(&DATABASE)
}

pub(crate) fn cleanup_interval() -> Duration {
    seconds(&CLEANUP_INTERVAL)
}

pub(crate) fn cleanup_batch_size() -> i32 {
    CLEANUP_BATCH_SIZE.get()
}

pub(crate) fn retention() -> Duration {
    seconds(&RETENTION)
}

pub(crate) fn audit_retention() -> Duration {
    seconds(&AUDIT_RETENTION)
}
