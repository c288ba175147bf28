//! Refresh tokens (RFC 6749 §6), by the client they were issued to.

use crate::error::Error;
use crate::ids::sql_uuid;
use crate::oauth::client;
use crate::session::checked_scopes;
use crate::session::refresh::{Outcome, Refreshed, refresh};
use pgrx::prelude::*;

/// Exchanges a refresh token, as `mcp.refresh_session` does, for a client that has to be known. `status` is `active` for
/// success; `unknown`, `expired`, `revoked`, `reused` (and the session has been revoked for it), `unknown_client`,
/// `wrong_client`, `wrong_resource` or `invalid_scope` (and nothing has changed). `scopes` are those of the access token.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn redeem_refresh_token(
    refresh_token: Option<&str>,
    client_id: Option<&str>,
    scopes: default!(Option<Vec<Option<String>>>, "NULL"),
    resource: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(status, &'static str),
            name!(session_id, Option<pgrx::Uuid>),
            name!(access_token, Option<String>),
            name!(refresh_token, Option<String>),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(scopes, Option<Vec<String>>),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let client_id = client_id.ok_or(Error::Null("client_id"))?;
    let scopes = scopes.map(|scopes| checked_scopes(Some(scopes))).transpose()?;
    if !client::known(client_id)? {
        return Ok(TableIterator::once(("unknown_client", None, None, None, None, None)));
    }
    let refreshed = match refresh_token {
        Some(text) => refresh(text, Some(client_id), scopes, resource)?,
        None => Refreshed::refused(Outcome::Unknown, None),
    };
    let (access, next) = refreshed.tokens.unzip();
    Ok(TableIterator::once((
        refreshed.outcome.as_str(),
        refreshed.session.map(sql_uuid),
        access.map(|token| token.encode().to_string()),
        next.map(|token| token.encode().to_string()),
        refreshed.expires_at,
        refreshed.scopes,
    )))
}
