//! Token revocation (RFC 7009), by the client that holds the token.

use crate::audit::Event;
use crate::error::Error;
use crate::ids::sql_uuid;
use crate::oauth::client;
use crate::session::{end_session, session_of};
use crate::statement::{first, sql};
use pgrx::prelude::*;

/// Ends the session that an access or refresh token belongs to, if it was granted to this client: all its tokens die
/// together. `true` for that, `false` where nothing changed: the token does not hold, or is another client's. NULL: there
/// is no such client.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn revoke_token(
    token: Option<&str>,
    client_id: Option<&str>,
) -> Result<Option<bool>, pg_sys::panic::ErrorReport> {
    let client_id = client_id.ok_or(Error::Null("client_id"))?;
    if !client::known(client_id)? {
        return Ok(None);
    }
    let Some(session) = token.map_or(Ok(None), session_of)? else { return Ok(Some(false)) };
    let own = first(
        sql!("SELECT 1 FROM mcp.sessions WHERE session_id = $1 AND client_id = $2"),
        &[sql_uuid(session).into(), client_id.into()],
        |_| Ok(()),
    )?;
    match own {
        Some(()) => Ok(Some(end_session(session, None, Event::Revoke, None)?)),
        None => Ok(Some(false)),
    }
}
