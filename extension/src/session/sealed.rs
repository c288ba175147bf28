//! The OAuth tokens of a session, sealed; see [`crate::seal`] for what that means.

use crate::error::Error;
use crate::ids::sql_uuid;
use crate::jsonb::Jsonb;
use crate::seal::{self, Key, ServerKey};
use crate::session::record::Column;
use crate::session::verdict::{Status, judge};
use crate::settings;
use crate::statement::{first, required, run, sql};
use crate::token::{Kind, Token};
use pgrx::prelude::*;
use std::ffi::CString;
use uuid::Uuid;
use zeroize::Zeroizing;

const KIND: &str = "oauth data";

/// The server keys. Read once for all that one call wraps and unwraps.
pub(crate) fn keys() -> Result<Vec<ServerKey>, Error> {
    settings::key_file().map_or_else(|| Ok(Vec::new()), |path| seal::server_keys(&path))
}

/// Seals a new session's data, with a wrapped copy of its key for each of its tokens.
pub(crate) fn create(session: Uuid, data: Option<Jsonb>, tokens: &[Option<&Token>]) -> Result<(), Error> {
    let (key, keys) = (seal::data_key()?, keys()?);
    for token in tokens.iter().flatten() {
        wrap(session, token, &key, &keys)?;
    }
    data.map_or(Ok(()), |data| store(session, &key, data))
}

/// Seals new data under a new key, for new tokens: what the earlier ones could open is gone.
pub(crate) fn replace(session: Uuid, data: Option<Jsonb>, tokens: &[Option<&Token>]) -> Result<(), Error> {
    run(sql!("DELETE FROM mcp.wrapped_keys WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    if data.is_none() {
        run(sql!("DELETE FROM mcp.sealed_tokens WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    }
    create(session, data, tokens)
}

/// Stores a wrapped copy of the session's key for one of its tokens.
pub(crate) fn wrap(session: Uuid, token: &Token, key: &Key, keys: &[ServerKey]) -> Result<(), Error> {
    let server = keys.first();
    run(
        sql!(
            "INSERT INTO mcp.wrapped_keys (session_id, verifier, server_key, wrapped) VALUES ($1, $2, $3, $4)"
        ),
        &[
            sql_uuid(session).into(),
            token.verifier().as_slice().into(),
            server.map(|server| server.id.to_vec()).into(),
            seal::wrap(token, session, server, key)?.into(),
        ],
    )?;
    Ok(())
}

/// The session's key, unwrapped with one of its tokens.
pub(crate) fn unwrap(session: Uuid, token: &Token, keys: &[ServerKey]) -> Result<Key, Error> {
    let stored = first(
        sql!("SELECT server_key, wrapped FROM mcp.wrapped_keys WHERE session_id = $1 AND verifier = $2"),
        &[sql_uuid(session).into(), token.verifier().as_slice().into()],
        |row| Ok((row.get::<Vec<u8>>(1)?, required::<Vec<u8>>(&row, 2)?)),
    )?;
    let (server_key, wrapped) = stored.ok_or(Error::Unsealable(session))?;
    open(session, token, server_key.as_deref(), &wrapped, keys)
}

/// Opens a wrapped key of the session's.
fn open(
    session: Uuid,
    token: &Token,
    server_key: Option<&[u8]>,
    wrapped: &[u8],
    keys: &[ServerKey],
) -> Result<Key, Error> {
    let key = match server_key {
        None => seal::unwrap(token, session, None, wrapped),
        Some(id) => keys
            .iter()
            .find(|key| key.id == id)
            .and_then(|server| seal::unwrap(token, session, Some(server), wrapped)),
    };
    key.ok_or(Error::Unsealable(session))
}

/// Deletes the wrapped copies that none of these tokens can open.
pub(crate) fn forget_all_but(session: Uuid, verifiers: &[&[u8]]) -> Result<(), Error> {
    let verifiers: Vec<Vec<u8>> = verifiers.iter().map(|verifier| verifier.to_vec()).collect();
    run(
        sql!("DELETE FROM mcp.wrapped_keys WHERE session_id = $1 AND verifier <> ALL ($2)"),
        &[sql_uuid(session).into(), verifiers.into()],
    )?;
    Ok(())
}

/// Makes the session's tokens unreadable for good.
pub(crate) fn shred(session: Uuid) -> Result<(), Error> {
    run(sql!("DELETE FROM mcp.wrapped_keys WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    run(sql!("DELETE FROM mcp.sealed_tokens WHERE session_id = $1"), &[sql_uuid(session).into()])?;
    Ok(())
}

fn store(session: Uuid, key: &Key, data: Jsonb) -> Result<(), Error> {
    let generation = first(
        sql!("SELECT generation FROM mcp.sealed_tokens WHERE session_id = $1 FOR UPDATE"),
        &[sql_uuid(session).into()],
        |row| required::<i64>(&row, 1),
    )?
    .map_or(1, |generation| generation + 1);
    let plain = Zeroizing::new(data.to_text());
    let sealed = seal::seal(key, plain.as_bytes(), &seal::associated(KIND, session, generation))?;
    run(
        sql!(
            "INSERT INTO mcp.sealed_tokens (session_id, generation, ciphertext) VALUES ($1, $2, $3)
             ON CONFLICT (session_id) DO UPDATE SET generation = excluded.generation, ciphertext = excluded.ciphertext"
        ),
        &[sql_uuid(session).into(), generation.into(), sealed.into()],
    )?;
    Ok(())
}

/// The session and the token, when that is an active access token.
fn active(token: Option<&str>) -> Result<Option<(Uuid, Token)>, Error> {
    let verdict = judge(token, None)?;
    if verdict.status != Status::Active {
        return Ok(None);
    }
    let session = verdict.record.and_then(|record| record.uuid(Column::SessionId));
    Ok(session.zip(token.and_then(|text| Token::parse(Kind::Access, text))))
}

/// Opens the sealed tokens. NULL unless the token is active, or where nothing was sealed.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn session_oauth_data(token: Option<&str>) -> Result<Option<Jsonb>, pg_sys::panic::ErrorReport> {
    let text = token;
    let Some((session, token)) = active(text)? else { return Ok(None) };
    // In one statement, so that ciphertext and key are of one moment.
    let stored = first(
        sql!(
            "SELECT t.generation, t.ciphertext, k.server_key, k.wrapped
               FROM mcp.sealed_tokens AS t
               LEFT JOIN mcp.wrapped_keys AS k ON k.session_id = t.session_id AND k.verifier = $2
              WHERE t.session_id = $1"
        ),
        &[sql_uuid(session).into(), token.verifier().as_slice().into()],
        |row| {
            let key = row.get::<Vec<u8>>(4)?.map(|wrapped| Ok::<_, Error>((row.get::<Vec<u8>>(3)?, wrapped)));
            Ok((required::<i64>(&row, 1)?, required::<Vec<u8>>(&row, 2)?, key.transpose()?))
        },
    )?;
    let Some((generation, ciphertext, wrapped)) = stored else { return Ok(None) };
    let Some((server_key, wrapped)) = wrapped else {
        // The token may have been replaced since it was judged.
        return if active(text)?.is_some() { Err(Error::Unsealable(session).into()) } else { Ok(None) };
    };
    let keys = server_key.is_some().then(keys).transpose()?.unwrap_or_default();
    let key = open(session, &token, server_key.as_deref(), &wrapped, &keys)?;
    let plain = seal::open(&key, &ciphertext, &seal::associated(KIND, session, generation))
        .ok_or(Error::Unsealable(session))?;
    let text = CString::new(plain.to_vec()).map_err(|_| Error::Unsealable(session))?;
    Ok(Some(Jsonb::from_text(&text)))
}

/// Replaces the sealed tokens, as after a refresh at the identity provider. False unless the token is active.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn set_session_oauth_data(
    token: Option<&str>,
    oauth_data: Option<Jsonb>,
) -> Result<bool, pg_sys::panic::ErrorReport> {
    let text = token;
    let Some((session, token)) = active(text)? else { return Ok(false) };
    // Judged again behind the lock: the token may have been replaced meanwhile.
    run(
        sql!("SELECT 1 FROM mcp.sessions WHERE session_id = $1 FOR NO KEY UPDATE"),
        &[sql_uuid(session).into()],
    )?;
    if active(text)?.is_none() {
        return Ok(false);
    }
    match oauth_data {
        Some(data) => {
            let data =
                data.within("oauth_data", settings::max_oauth_data_bytes(), "mcp.max_oauth_data_bytes")?;
            store(session, &unwrap(session, &token, &keys()?)?, data)?;
        }
        None => {
            run(sql!("DELETE FROM mcp.sealed_tokens WHERE session_id = $1"), &[sql_uuid(session).into()])?;
        }
    }
    Ok(true)
}
