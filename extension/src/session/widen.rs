//! Widening: the user lets a client do more than before, and its session goes on with more scopes and new tokens.

use crate::audit::{self, Event};
use crate::error::Error;
use crate::ids::sql_uuid;
use crate::session::create::{Created, NewSession};
use crate::session::sealed;
use crate::statement::{first, required, run, sql};
use crate::token::{self, Kind, Token};
use uuid::Uuid;

/// Widens a live session of the same user, client and resource that lacks one of the scopes now granted, and returns it
/// with all the scopes it then has. `None` for any other session, which stays as it is.
///
/// Whoever signs in anew gets new tokens and the old ones end (OWASP ASVS 7.2.4). Its id, its state and the moment at
/// which it ends for good stay.
pub(crate) fn widen(session: Uuid, new: &NewSession<'_>) -> Result<Option<(Created, Vec<String>)>, Error> {
    let held = first(
        sql!(
            "SELECT scopes FROM mcp.sessions
              WHERE session_id = $1 AND user_id = $2 AND client_id = $3 AND resource = $4
                AND revoked_at IS NULL AND expires_at > clock_timestamp() AND NOT scopes @> $5
                FOR NO KEY UPDATE"
        ),
        &[
            sql_uuid(session).into(),
            sql_uuid(new.user_id).into(),
            new.client_id.into(),
            new.resource.into(),
            new.scopes.clone().into(),
        ],
        |row| required::<Vec<String>>(&row, 1),
    )?;
    let Some(mut scopes) = held else { return Ok(None) };
    for scope in &new.scopes {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    let access = Token::mint(Kind::Access, *session.as_bytes())?;
    let refresh = Token::mint(Kind::Refresh, token::random()?)?;
    let (expires_at, absolute_expires_at) = first(
        sql!(
            "UPDATE mcp.sessions
                SET verifier = $2, previous_verifier = NULL, previous_expires_at = NULL, scopes = $3, access_scopes = NULL,
                    claims = $4, metadata = $5, access_ttl = $6 * interval '1 microsecond',
                    access_expires_at = clock_timestamp() + $6 * interval '1 microsecond',
                    expires_at = least(clock_timestamp() + ttl, absolute_expires_at), updated_at = clock_timestamp()
              WHERE session_id = $1
             RETURNING least(expires_at, access_expires_at), absolute_expires_at"
        ),
        &[
            sql_uuid(session).into(),
            access.verifier().as_slice().into(),
            scopes.clone().into(),
            new.claims.into(),
            new.metadata.into(),
            new.access_ttl.into(),
        ],
        |row| Ok((required(&row, 1)?, required(&row, 2)?)),
    )?
    .expect("the row is locked");
    // All of them, not the live one alone: an old one that comes back names nothing any more, so that a window of the
    // same client that had not heard of the change does not end the session.
    run(sql!("DELETE FROM mcp.refresh_tokens WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    super::refresh::store(session, &refresh)?;
    sealed::replace(session, new.oauth_data, &[Some(&access), Some(&refresh)])?;
    audit::record(Event::Widen, Some(session), Some(new.user_id), new.client_id, None)?;
    let created = Created {
        session_id: session,
        user_id: new.user_id,
        access,
        refresh: Some(refresh),
        expires_at,
        absolute_expires_at,
    };
    Ok(Some((created, scopes)))
}
