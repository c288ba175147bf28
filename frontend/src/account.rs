//! What people do with their own sessions: look, sign out, end others.

pub mod page;

use http::{Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    credentials::Credential,
    error::Fault,
    respond::{self, Body},
    sessions::Refusal,
    sign_in,
    token::SessionToken,
};

/// `GET /auth/session`: who am I, until when. Looking does not slide the expiry.
pub async fn session(app: &App, credential: Option<Credential>) -> Result<Response<Body>, Fault> {
    let session = app.sessions.lookup(&token(credential)?).await??;
    Ok(respond::json(StatusCode::OK, &session))
}

/// `POST /auth/logout`: ends this session.
pub async fn logout(app: &App, credential: Option<Credential>) -> Result<Response<Body>, Fault> {
    let token = token(credential)?;
    if !app.sessions.revoke(&token).await? {
        // It did not hold before; say why, and fail as any other use of it would.
        app.sessions.lookup(&token).await??;
    }
    let mut response = respond::json(StatusCode::OK, &json!({"success": true}));
    if app.cookie_door {
        sign_in::forget_session(app, &mut response)?;
    }
    Ok(response)
}

/// `GET /auth/sessions` of a program: my live sessions, this one first.
pub async fn list(app: &App, credential: Option<Credential>) -> Result<Response<Body>, Fault> {
    let mine = app.sessions.my_sessions(&token(credential)?).await??;
    Ok(respond::json(StatusCode::OK, &json!({"sessions": mine.sessions})))
}

/// `DELETE /auth/sessions/{id}`: ends one of my sessions.
pub async fn end(app: &App, credential: Option<Credential>, id: &str) -> Result<Response<Body>, Fault> {
    let token = token(credential)?;
    let not_found = || {
        Fault::client(
            StatusCode::NOT_FOUND,
            "not_found",
            "You have no session of that id; it may have ended.",
        )
    };
    let ended = match id.parse::<Uuid>() {
        Ok(id) => app.sessions.end_session(&token, id).await??,
        Err(_) => {
            // The same answer as for a session of somebody else, to those who are signed in.
            app.sessions.lookup(&token).await??;
            false
        }
    };
    if !ended {
        return Err(not_found());
    }
    Ok(respond::json(StatusCode::OK, &json!({"success": true, "ended": 1})))
}

/// `DELETE /auth/sessions`: ends all of my sessions but this one.
pub async fn end_others(app: &App, credential: Option<Credential>) -> Result<Response<Body>, Fault> {
    let ended = app.sessions.end_other_sessions(&token(credential)?).await??;
    Ok(respond::json(StatusCode::OK, &json!({"success": true, "ended": ended})))
}

fn token(credential: Option<Credential>) -> Result<SessionToken, Fault> {
    match credential {
        None => Err(Fault::no_credential()),
        Some(Credential::NotAToken) => Err(Refusal::Unknown.into()),
        Some(Credential::Token(token)) => Ok(token),
    }
}
