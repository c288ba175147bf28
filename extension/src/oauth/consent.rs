//! Consents: which clients a user let in, in which browser (confused deputy, MCP security best practices).
//!
//! A user is asked before the identity provider is involved, when nobody knows yet who they are; so what is remembered is
//! found by a secret that the browser keeps in a cookie, and holds for the user who then signed in and nobody else.
//! Who ends the session a consent led to deletes the consent with it, and no code is redeemed without its consent.

use crate::error::Error;
use crate::ids::{rust_uuid, sql_uuid};
use crate::interval::microseconds;
use crate::settings;
use crate::sign_in::{hash, secret};
use crate::statement::{first, required, run, sql};
use pgrx::prelude::*;
use uuid::Uuid;

const PURPOSE: &str = "consent";

/// To whom a user said yes, and where.
pub(crate) struct Consent<'a> {
    pub(crate) user: Uuid,
    pub(crate) client: &'a str,
    pub(crate) redirect_host: &'a str,
    pub(crate) scopes: &'a [String],
}

/// The scopes that a user of this browser has let the client have at this host, for as long as that holds. Which user it
/// was, the sign-in decides: [`recall`] compares.
pub(crate) fn remembered(browser: &str, client: &str, host: &str) -> Result<Option<Vec<String>>, Error> {
    first(
        sql!(
            "SELECT c.scopes
               FROM mcp.consents AS c
              WHERE c.browser_hash = $1 AND c.client_id = $2 AND c.redirect_host = $3
                AND c.expires_at > clock_timestamp()
              ORDER BY c.given_at DESC LIMIT 1"
        ),
        &[hash(PURPOSE, browser).into(), client.into(), host.into()],
        |row| required::<Vec<String>>(&row, 1),
    )
}

/// Locks what was consented to in this browser: what is recalled from now on is not withdrawn meanwhile. In the order of the
/// sessions, as those who end several of them delete the consents.
pub(crate) fn hold(browser: &str) -> Result<(), Error> {
    run(
        sql!("SELECT 1 FROM mcp.consents WHERE browser_hash = $1 ORDER BY session_id FOR UPDATE"),
        &[hash(PURPOSE, browser).into()],
    )?;
    Ok(())
}

/// The consent that this user gave in this browser earlier, where it covers what is asked for now.
pub(crate) fn recall(browser: &str, consent: &Consent<'_>) -> Result<Option<Uuid>, Error> {
    first(
        sql!(
            "SELECT c.consent_id
               FROM mcp.consents AS c
              WHERE c.browser_hash = $1 AND c.client_id = $2 AND c.redirect_host = $3 AND c.user_id = $4
                AND c.scopes @> $5 AND c.expires_at > clock_timestamp()"
        ),
        &[
            hash(PURPOSE, browser).into(),
            consent.client.into(),
            consent.redirect_host.into(),
            sql_uuid(consent.user).into(),
            consent.scopes.to_vec().into(),
        ],
        |row| required::<pgrx::Uuid>(&row, 1).map(rust_uuid),
    )
}

/// Remembers a consent just given. One that the same user gave in the same browser for the same client and host before
/// stays, with its session, and gains the scopes.
pub(crate) fn give(browser: &str, consent: &Consent<'_>) -> Result<(Uuid, TimestampWithTimeZone), Error> {
    let given = first(
        sql!(
            "INSERT INTO mcp.consents AS c (consent_id, browser_hash, user_id, client_id, redirect_host, scopes, expires_at)
             VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 microsecond')
             ON CONFLICT (browser_hash, client_id, redirect_host, user_id) DO UPDATE
                SET scopes = ARRAY(SELECT unnest(c.scopes) UNION SELECT unnest(excluded.scopes)),
                    given_at = excluded.given_at, expires_at = excluded.expires_at
             RETURNING c.consent_id, c.expires_at"
        ),
        &[
            hash(PURPOSE, browser).into(),
            sql_uuid(consent.user).into(),
            consent.client.into(),
            consent.redirect_host.into(),
            consent.scopes.to_vec().into(),
            microseconds(settings::consent_ttl()).into(),
        ],
        |row| Ok((required::<pgrx::Uuid>(&row, 1).map(rust_uuid)?, required(&row, 2)?)),
    )?;
    Ok(given.expect("INSERT … ON CONFLICT DO UPDATE returns a row"))
}

/// Gives the browser a new secret, as every sign-in does: what it consented to moves along, and the old secret, which
/// somebody may have planted, finds nothing any more.
pub(crate) fn rebind(old: Option<&str>, new: &str) -> Result<(), Error> {
    let new = hash(PURPOSE, secret("new_browser", Some(new))?);
    if let Some(old) = old {
        run(
            sql!("UPDATE mcp.consents SET browser_hash = $2 WHERE browser_hash = $1"),
            &[hash(PURPOSE, old).into(), new.into()],
        )?;
    }
    Ok(())
}

/// The session that a consent led to, if any; `None` where the consent was withdrawn.
pub(crate) fn session(consent: Uuid) -> Result<Option<Option<Uuid>>, Error> {
    first(
        sql!("SELECT session_id FROM mcp.consents WHERE consent_id = $1"),
        &[sql_uuid(consent).into()],
        |row| Ok(row.get::<pgrx::Uuid>(1)?.map(rust_uuid)),
    )
}

/// Notes the session that a consent led to. False where the consent was withdrawn.
pub(crate) fn led_to(consent: Uuid, session: Uuid) -> Result<bool, Error> {
    let noted = run(
        sql!("UPDATE mcp.consents SET session_id = $2 WHERE consent_id = $1"),
        &[sql_uuid(consent).into(), sql_uuid(session).into()],
    )?;
    Ok(noted == 1)
}

/// Withdraws what a user consented to and no session is left of: codes that are under way are of no use any more.
pub(crate) fn withdraw_pending(user: Uuid) -> Result<(), Error> {
    run(
        sql!("DELETE FROM mcp.consents WHERE user_id = $1 AND session_id IS NULL"),
        &[sql_uuid(user).into()],
    )?;
    Ok(())
}
