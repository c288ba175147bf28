//! `POST /token` (OAuth 2.1 §3.2): codes and refresh tokens become access tokens.

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    app::{App, Peer},
    authorization_server::{OTHER_RESOURCE, client_id, is_named, unknown_client},
    error::Fault,
    form,
    query::Query,
    respond::{self, Body},
    scope,
    sessions::oauth::{Denied, Redemption, Tokens},
};

/// `POST /token`.
pub async fn post(app: &App, peer: &Peer, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    app.authorization_server.token_limit.check(peer.address.ip())?;
    let (parts, body) = request.into_parts();
    let form = form::read(&parts.headers, body).await?;
    let client = client_id(&parts.headers, &form)?;
    check_resource(app, &form)?;
    let granted = match form.get("grant_type")? {
        Some("authorization_code") => {
            let redemption = Redemption {
                code: required(&form, "code")?,
                client_id: &client,
                redirect_uri: form.get("redirect_uri")?,
                code_verifier: required(&form, "code_verifier")?,
                ttl: app.session_ttl,
            };
            app.sessions.redeem_code(&redemption).await?
        }
        Some("refresh_token") => {
            let scopes = match form.get("scope")? {
                Some(text) => Some(scope::parse(text).ok_or_else(invalid_scope)?),
                None => None,
            };
            app.sessions.refresh(required(&form, "refresh_token")?, &client, scopes.as_deref()).await?
        }
        Some(_) => {
            return Err(Fault::client(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "grant_type must be authorization_code or refresh_token.",
            ));
        }
        None => return Err(Fault::invalid_request("grant_type is missing.")),
    };
    match granted {
        Ok(tokens) => Ok(answer(&tokens)),
        Err(denied) => Err(denied.into()),
    }
}

/// RFC 8707 §2.2: what a request names has to be what tokens are issued for.
fn check_resource(app: &App, form: &Query) -> Result<(), Fault> {
    if form.get("resource")?.is_some_and(|named| !is_named(app.sessions.resource(), named)) {
        return Err(invalid_target());
    }
    Ok(())
}

fn required<'a>(form: &'a Query, name: &'static str) -> Result<&'a str, Fault> {
    form.get(name)?.ok_or_else(|| Fault::invalid_request(format!("{name} is missing.")))
}

/// RFC 6749 §5.1.
fn answer(tokens: &Tokens) -> Response<Body> {
    tracing::info!(session = %tokens.session_id, "tokens issued");
    let mut response = respond::json(
        StatusCode::OK,
        &json!({
            "access_token": tokens.access.expose(),
            "token_type": "Bearer",
            "expires_in": tokens.expires_in.as_secs_f64().round() as u64,
            "refresh_token": tokens.refresh_token(),
            "scope": tokens.scopes.join(" "),
        }),
    );
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn invalid_scope() -> Fault {
    Fault::client(StatusCode::BAD_REQUEST, "invalid_scope", "The session does not have all of these scopes.")
}

fn invalid_target() -> Fault {
    Fault::client(StatusCode::BAD_REQUEST, "invalid_target", OTHER_RESOURCE)
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::UnknownClient => unknown_client(),
            Denied::InvalidScope => invalid_scope(),
            Denied::WrongResource => invalid_target(),
            // Which of them it was, only the log is told: to whoever guesses, all are one.
            Denied::Grant(reason) => Fault::client(
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                "The code or refresh token does not hold, or not for this client and redirect URI: authorize again.",
            )
            .because(reason),
        }
    }
}
