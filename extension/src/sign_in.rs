//! Sign-ins under way at an identity provider. Kept here rather than in the frontend, so that one begun on one replica
//! ends on another.
//!
//! `state` (RFC 6749 §10.12) and the browser's binding are secrets the frontend makes; only their hashes are stored. The
//! payload holds nonce and PKCE verifier: it is sealed under `state`, which only the browser and the provider hold.

use crate::error::Error;
use crate::interval::lifetime;
use crate::jsonb::Jsonb;
use crate::seal;
use crate::settings;
use crate::statement::{first, required, run, sql};
use crate::token::random;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use sha2::{Digest, Sha256};
use std::ffi::CString;
use uuid::Uuid;
use zeroize::Zeroizing;

/// 256 bits in base64url; a shorter one could be guessed.
const SHORTEST: usize = 43;
const LONGEST: usize = 1024;
const MAX_PAYLOAD: usize = 64 * 1024;
const KIND: &str = "sign-in";

/// The hash a secret of the frontend's is stored under, separated by purpose.
pub(crate) fn hash(purpose: &str, secret: &str) -> Vec<u8> {
    Sha256::new()
        .chain_update(b"mcp/v1/")
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(secret)
        .finalize()
        .to_vec()
}

/// A secret the frontend made: long enough not to be guessed.
pub(crate) fn secret<'a>(what: &'static str, value: Option<&'a str>) -> Result<&'a str, Error> {
    let value = value.ok_or(Error::Null(what))?;
    match value.len() {
        SHORTEST..=LONGEST => Ok(value),
        got if got > LONGEST => Err(Error::TooLong { what, got, limit: LONGEST }),
        got => Err(Error::TooShort { what, got, least: SHORTEST }),
    }
}

/// Keeps a sign-in until it is finished or `lifetime` (default `mcp.sign_in_ttl`) has passed. Returns when that is.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn begin_sign_in(
    state: Option<&str>,
    browser: Option<&str>,
    payload: Option<Jsonb>,
    lifetime: default!(Option<Interval>, "NULL"),
) -> Result<Option<TimestampWithTimeZone>, pg_sys::panic::ErrorReport> {
    let (state, browser) = (secret("state", state)?, secret("browser", browser)?);
    let payload = payload.ok_or(Error::Null("payload"))?.within("payload", MAX_PAYLOAD, "a sign-in")?;
    let length = self::lifetime("lifetime", lifetime, settings::sign_in_ttl())?;
    let hashed = hash("state", state);
    let key = seal::derive(state.as_bytes(), None, &hashed, KIND);
    let plain = Zeroizing::new(payload.to_text());
    let sealed = seal::seal(&key, plain.as_bytes(), &seal::associated(KIND, Uuid::nil(), 0))?;
    bound()?;
    Ok(first(
        sql!(
            "INSERT INTO mcp.sign_ins (state_hash, browser_hash, payload, expires_at)
             VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond') RETURNING expires_at"
        ),
        &[hashed.into(), hash("browser", browser).into(), sealed.into(), length.into()],
        |row| required::<TimestampWithTimeZone>(&row, 1),
    )?)
}

/// Keeps the table within `mcp.max_sign_ins`, or little above: anybody may begin a sign-in, and need not end it. The oldest
/// are forgotten, but for those that another transaction holds: two of these calls would wait for each other. Counting them
/// costs as much as there are, so one call in 256 does it.
fn bound() -> Result<(), Error> {
    let [lot] = random()?;
    if lot != 0 {
        return Ok(());
    }
    run(
        sql!(
            "DELETE FROM mcp.sign_ins
              WHERE state_hash IN (
                  SELECT state_hash FROM mcp.sign_ins
                   WHERE state_hash IN (SELECT state_hash FROM mcp.sign_ins ORDER BY expires_at DESC OFFSET $1)
                     FOR UPDATE SKIP LOCKED)"
        ),
        &[settings::max_sign_ins().into()],
    )?;
    Ok(())
}

/// Ends a sign-in and gives its payload back, once: `status` is `ok`, `unknown` (also for one that is finished),
/// `expired`, or `wrong_browser` (and then it stays, for the browser it belongs to).
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn finish_sign_in(
    state: Option<&str>,
    browser: Option<&str>,
) -> Result<
    TableIterator<'static, (name!(status, &'static str), name!(payload, Option<Jsonb>))>,
    pg_sys::panic::ErrorReport,
> {
    let answer = |status, payload| Ok(TableIterator::once((status, payload)));
    let Some(state) = state else { return answer("unknown", None) };
    let hashed = hash("state", state);
    let stored = first(
        sql!(
            "SELECT browser_hash, payload, expires_at <= clock_timestamp()
               FROM mcp.sign_ins WHERE state_hash = $1 FOR UPDATE"
        ),
        &[hashed.clone().into()],
        |row| Ok((required::<Vec<u8>>(&row, 1)?, required::<Vec<u8>>(&row, 2)?, required::<bool>(&row, 3)?)),
    )?;
    let Some((bound_to, sealed, expired)) = stored else { return answer("unknown", None) };
    if expired {
        return answer("expired", None);
    }
    let presented: [u8; 32] =
        hash("browser", browser.unwrap_or("")).try_into().expect("SHA-256 has 32 bytes");
    if !crate::token::matches(&bound_to, &presented) {
        return answer("wrong_browser", None);
    }
    run(sql!("DELETE FROM mcp.sign_ins WHERE state_hash = $1"), &[hashed.clone().into()])?;
    let key = seal::derive(state.as_bytes(), None, &hashed, KIND);
    let plain = seal::open(&key, &sealed, &seal::associated(KIND, Uuid::nil(), 0));
    let text = plain.and_then(|plain| CString::new(plain.to_vec()).ok());
    match text {
        Some(text) => answer("ok", Some(Jsonb::from_text(&text))),
        None => answer("unknown", None),
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pg_schema]
mod tests {
    use super::*;

    #[pg_test]
    fn a_sign_in_is_opened_with_its_state_and_not_with_what_is_stored() {
        let state = "s".repeat(SHORTEST);
        Spi::run_with_args("SELECT mcp.begin_sign_in($1, $1, '{}')", &[state.as_str().into()]).unwrap();
        let (stored, bound_to, payload) = Spi::get_three::<Vec<u8>, Vec<u8>, Vec<u8>>(
            "SELECT state_hash, browser_hash, payload FROM mcp.sign_ins",
        )
        .unwrap();
        let (stored, bound_to, payload) = (stored.unwrap(), bound_to.unwrap(), payload.unwrap());
        let opens = |secret: &[u8]| {
            let key = seal::derive(secret, None, &stored, KIND);
            seal::open(&key, &payload, &seal::associated(KIND, Uuid::nil(), 0)).is_some()
        };
        assert!(opens(state.as_bytes()));
        assert!(!opens(b"") && !opens(&stored) && !opens(&bound_to));
    }
}
