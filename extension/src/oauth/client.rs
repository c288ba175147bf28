//! OAuth clients: those that operators registered, and those that registered themselves (RFC 7591).
//!
//! All of them are public (RFC 6749 §2.1): there is no secret to keep, and PKCE binds each code to whoever asked for it.
//! Clients that are known by a metadata document have its URL as their id and no row here.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::ids::rust_uuid;
use crate::interval::microseconds;
use crate::session::end_session;
use crate::settings;
use crate::statement::{all, first, required, run, sql};
use crate::token::random;
use pgrx::prelude::*;
use uuid::Builder;

/// What browsers and proxies carry.
const MAX_URI: usize = 2048;
const MAX_NAME: usize = 1024;
const MAX_REDIRECT_URIS: usize = 32;
/// How long a client that was used is known after the last session it could have, so that its next refresh is told the
/// truth about the session rather than that nobody knows the client.
const KEEP_USED: &str = "30 days";
/// Schemes that are no way back to an application: they run in the browser, or read from it.
const NEVER: [&str; 15] = [
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "ftp",
    "http",
    "https",
    "javascript",
    "mailto",
    "tel",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// The prefix of ids that are the address of a metadata document.
const DOCUMENT: &str = "https://";

/// Whether a redirect URI may be registered: `https` anywhere, `http` on loopback (RFC 8252 §7.3), a private-use scheme
/// (§7.1). No fragment (RFC 6749 §3.1.2), no user name, nothing outside printable ASCII.
fn acceptable(uri: &str) -> bool {
    if uri.len() > MAX_URI
        || !uri.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
        || uri.contains(['#', '\\'])
    {
        return false;
    }
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let authority = |rest: &'_ str| {
        let rest = rest.strip_prefix("//")?;
        Some(rest[..rest.find(['/', '?']).unwrap_or(rest.len())].to_owned())
    };
    match scheme {
        "https" => authority(rest).is_some_and(|authority| !authority.is_empty() && !authority.contains('@')),
        "http" => authority(rest).is_some_and(|authority| {
            let (host, port) = match authority.strip_suffix(']') {
                Some(_) => (authority.as_str(), None),
                None => authority
                    .rsplit_once(':')
                    .map_or((authority.as_str(), None), |(host, port)| (host, Some(port))),
            };
            matches!(host, "localhost" | "127.0.0.1" | "[::1]")
                && port.is_none_or(|port| {
                    // Without a sign, which browsers do not read.
                    port.starts_with(|digit: char| digit.is_ascii_digit()) && port.parse::<u16>().is_ok()
                })
        }),
        scheme => {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
            scheme.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
                && scheme.bytes().all(plain)
                && !NEVER.contains(&scheme)
                && !rest.is_empty()
        }
    }
}

fn checked_redirect_uris(uris: Option<Vec<Option<String>>>) -> Result<Vec<String>, Error> {
    let uris = uris.ok_or(Error::Null("redirect_uris"))?;
    match uris.len() {
        0 => return Err(Error::Empty("redirect_uris")),
        1..=MAX_REDIRECT_URIS => {}
        got => return Err(Error::TooMany { what: "redirect_uris", got, limit: MAX_REDIRECT_URIS }),
    }
    uris.into_iter()
        .map(|uri| {
            let uri = uri.ok_or(Error::Null("a redirect URI"))?;
            if acceptable(&uri) { Ok(uri) } else { Err(Error::RedirectUri(uri.chars().take(256).collect())) }
        })
        .collect()
}

fn bounded<'a>(what: &'static str, value: Option<&'a str>, limit: usize) -> Result<Option<&'a str>, Error> {
    match value {
        Some(value) if value.len() > limit => Err(Error::TooLong { what, got: value.len(), limit }),
        value => Ok(value),
    }
}

/// Ids are printable ASCII (RFC 6749 §A.1) and not the address of a document.
fn checked_id(id: &str) -> Result<&str, Error> {
    bounded("client_id", Some(id), MAX_URI)?;
    if id.is_empty() {
        return Err(Error::Empty("client_id"));
    }
    if id.starts_with(DOCUMENT) || !id.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
        return Err(Error::ClientId(id.chars().take(256).collect()));
    }
    Ok(id)
}

fn new_id() -> Result<String, Error> {
    Ok(Builder::from_random_bytes(random()?).into_uuid().to_string())
}

/// Registers a client by hand, for good; or changes the one of that id. Returns its id, a new one where none is given.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn register_client(
    client_name: Option<&str>,
    redirect_uris: Option<Vec<Option<String>>>,
    client_id: default!(Option<&str>, "NULL"),
    client_uri: default!(Option<&str>, "NULL"),
) -> Result<String, pg_sys::panic::ErrorReport> {
    let id = client_id.map_or_else(new_id, |id| checked_id(id).map(str::to_owned))?;
    run(
        sql!(
            "INSERT INTO mcp.clients (client_id, client_name, client_uri, redirect_uris) VALUES ($1, $2, $3, $4)
             ON CONFLICT (client_id) DO UPDATE
                SET client_name = excluded.client_name, client_uri = excluded.client_uri,
                    redirect_uris = excluded.redirect_uris, expires_at = NULL"
        ),
        &[
            id.as_str().into(),
            bounded("client_name", client_name, MAX_NAME)?.into(),
            bounded("client_uri", client_uri, MAX_URI)?.into(),
            checked_redirect_uris(redirect_uris)?.into(),
        ],
    )?;
    Ok(id)
}

/// Forgets a client, and ends every session it has. Works for a client with a metadata document too, which has nothing
/// but its sessions here and may come back. Returns how many sessions it ended; NULL where there was nothing to forget.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn remove_client(client_id: Option<&str>) -> Result<Option<i64>, pg_sys::panic::ErrorReport> {
    let Some(id) = client_id else { return Ok(None) };
    let clients = run(sql!("DELETE FROM mcp.clients WHERE client_id = $1"), &[id.into()])?;
    let codes = run(sql!("DELETE FROM mcp.authorization_codes WHERE client_id = $1"), &[id.into()])?;
    let live = all(
        sql!(
            "SELECT session_id FROM mcp.sessions
              WHERE client_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
              ORDER BY session_id FOR NO KEY UPDATE"
        ),
        &[id.into()],
        |row| required::<pgrx::Uuid>(&row, 1).map(rust_uuid),
    )?;
    let mut ended = 0;
    for session in live {
        ended += i64::from(end_session(session, None, Event::AdminEnd, Some("client removed"))?);
    }
    // After the sessions, as whoever ends one locks the two.
    let consents = run(sql!("DELETE FROM mcp.consents WHERE client_id = $1"), &[id.into()])?;
    if [clients, codes, ended, consents] == [0; 4] {
        return Ok(None);
    }
    audit::record(Event::RemoveClient, None, None, Some(id), None)?;
    Ok(Some(ended))
}

/// Registers a client that asked for it itself. It is forgotten when nobody signs in with it within
/// `mcp.client_ttl`, and earlier when `mcp.max_unused_clients` newer ones were never used either.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn register_dynamic_client(
    client_name: Option<&str>,
    redirect_uris: Option<Vec<Option<String>>>,
    client_uri: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(client_id, String), name!(created_at, TimestampWithTimeZone))>,
    pg_sys::panic::ErrorReport,
> {
    let id = new_id()?;
    let created_at = first(
        sql!(
            "INSERT INTO mcp.clients (client_id, client_name, client_uri, redirect_uris, expires_at)
             VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 microsecond')
             RETURNING created_at"
        ),
        &[
            id.as_str().into(),
            bounded("client_name", client_name, MAX_NAME)?.into(),
            bounded("client_uri", client_uri, MAX_URI)?.into(),
            checked_redirect_uris(redirect_uris)?.into(),
            microseconds(settings::client_ttl()).into(),
        ],
        |row| required::<TimestampWithTimeZone>(&row, 1),
    )?;
    // Registrations cost their maker nothing, so the table forgets the oldest rather than grow, and rather than refuse
    // those who come next. Not one whose first use this waited for: of a row that has changed PostgreSQL asks the outer
    // conditions again, and them alone.
    run(
        sql!(
            "DELETE FROM mcp.clients
              WHERE used_at IS NULL AND expires_at IS NOT NULL
                AND client_id IN (SELECT client_id FROM mcp.clients
                                   WHERE used_at IS NULL AND expires_at IS NOT NULL
                                   ORDER BY created_at DESC OFFSET $1)"
        ),
        &[settings::max_unused_clients().into()],
    )?;
    Ok(TableIterator::new(created_at.map(|created_at| (id, created_at))))
}

/// What the authorization endpoint has to know, in one row: what is registered of the client, NULL where nothing is; which
/// scopes a user of this browser has let this client have at this host already; which there are to ask for, those of tools,
/// resources and prompts; and whether it is `dynamic`, having registered itself under an id that nobody else has. Writes
/// nothing.
#[pg_extern(schema = "mcp", security_definer, stable)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn find_client(
    client_id: Option<&str>,
    browser: default!(Option<&str>, "NULL"),
    redirect_host: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(client_name, Option<String>),
            name!(client_uri, Option<String>),
            name!(redirect_uris, Option<Vec<String>>),
            name!(consented_scopes, Option<Vec<String>>),
            name!(offered_scopes, Vec<String>),
            name!(dynamic, bool),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let id = client_id.ok_or(Error::Null("client_id"))?;
    let client = first(
        sql!(
            "SELECT client_name, client_uri, redirect_uris, expires_at IS NOT NULL FROM mcp.clients WHERE client_id = $1"
        ),
        &[id.into()],
        |row| {
            Ok((
                row.get::<String>(1)?,
                row.get::<String>(2)?,
                row.get::<Vec<String>>(3)?,
                required::<bool>(&row, 4)?,
            ))
        },
    )?;
    let consented = match (browser, redirect_host) {
        (Some(browser), Some(host)) => super::consent::remembered(browser, id, host)?,
        _ => None,
    };
    let (name, uri, redirect_uris, dynamic) = client.unwrap_or_default();
    Ok(TableIterator::once((name, uri, redirect_uris, consented, offered_scopes()?, dynamic)))
}

/// The scopes that tools, resources and prompts need.
fn offered_scopes() -> Result<Vec<String>, Error> {
    all(
        sql!(
            "SELECT unnest(string_to_array(scope, ' ')) FROM mcp.tools
              UNION SELECT unnest(string_to_array(scope, ' ')) FROM mcp.resources
              UNION SELECT unnest(string_to_array(scope, ' ')) FROM mcp.prompts
              ORDER BY 1"
        ),
        &[],
        |row| required::<String>(&row, 1),
    )
}

/// Whether a client may come to the token endpoint at all: it is registered, or has a metadata document, which was read
/// when its code was asked for.
pub(crate) fn known(id: &str) -> Result<bool, Error> {
    Ok(id.starts_with(DOCUMENT)
        || run(sql!("SELECT 1 FROM mcp.clients WHERE client_id = $1"), &[id.into()])? == 1)
}

/// As [`known`], and locks the row of a registered one, so that it is not swept away before it is noted as [`used`].
pub(crate) fn held(id: &str) -> Result<bool, Error> {
    Ok(id.starts_with(DOCUMENT)
        || run(sql!("SELECT 1 FROM mcp.clients WHERE client_id = $1 FOR KEY SHARE"), &[id.into()])? == 1)
}

/// Notes that a user signed in with the client; one that registered itself is known until its session can no longer be
/// alive, one that an operator registered for good.
pub(crate) fn used(id: &str, until: TimestampWithTimeZone) -> Result<(), Error> {
    run(
        sql!(
            "UPDATE mcp.clients
                SET used_at = clock_timestamp(),
                    expires_at = CASE WHEN expires_at IS NOT NULL THEN greatest(expires_at, $2 + $3::interval) END
              WHERE client_id = $1"
        ),
        &[id.into(), until.into(), KEEP_USED.into()],
    )?;
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn redirect_uris() {
        for uri in [
            "https://app.example.com/callback",
            "https://app.example.com",
            "https://app.example.com:8443/a?b=c",
            "http://localhost/callback",
            "http://localhost:3118/callback",
            "http://127.0.0.1:65535/",
            "http://127.0.0.1",
            "http://[::1]:7/x",
            "http://[::1]/x",
            "com.example.app:/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "a1+b-c.d:/callback",
            &format!("{:a<MAX_URI$}", "https://app.example.com/"),
        ] {
            assert!(acceptable(uri), "{uri}");
        }
        for uri in [
            "",
            "https",
            "https:",
            "https://",
            "https:///path",
            "https://user@app.example.com/",
            "https://app.example.com/#fragment",
            "https://app.example.com/a b",
            "https://app.example.com\\@evil.example",
            "https://äpp.example.com/",
            "HTTPS://app.example.com/",
            "http://app.example.com/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:x/",
            "http://127.0.0.2/",
            "http://[::1]x/",
            "http:localhost/",
            "http://localhost:+80/",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "javaScript:alert(1)",
            "jAVASCRIPT:alert(1)",
            "com.Example.app:/callback",
            "data:text/html,x",
            "file:///etc/passwd",
            "blob:https://app.example.com/x",
            "mailto:a@b",
            "tel:1",
            "wss://client.test/",
            "java\tscript:alert(1)",
            "com.example.app:",
            "://x",
            "1a://x",
            &format!("https://app.example.com/{}", "a".repeat(MAX_URI)),
        ] {
            assert!(!acceptable(uri), "{uri}");
        }
        for scheme in
            "about blob data file filesystem ftp javascript mailto tel vbscript view-source ws wss".split(' ')
        {
            for rest in ["//app.example.com/callback", "/callback", "callback"] {
                assert!(!acceptable(&format!("{scheme}:{rest}")), "{scheme}");
            }
        }
    }

    #[test]
    fn ids() {
        for id in ["my-client", "0190-1234", "x", &"a".repeat(MAX_URI)] {
            assert!(checked_id(id).is_ok(), "{id}");
        }
        for id in ["", "https://app.example.com/client.json", "a b", "ä", &"a".repeat(MAX_URI + 1)] {
            assert!(checked_id(id).is_err(), "{id}");
        }
    }
}
