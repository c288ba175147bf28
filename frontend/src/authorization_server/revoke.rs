//! `POST /revoke` (RFC 7009): a client gives back what it was granted.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::{
    app::{App, Peer},
    authorization_server::{client_id, unknown_client},
    error::Fault,
    form,
    respond::{self, Body},
};

/// `POST /revoke`. The hint about the token's type is not needed: its prefix says what it is.
///
/// 200 also where nothing was revoked, for a token that does not hold or is another client's (§2.2): what the client wants
/// is that it be of no use to it, and that is so.
pub async fn post(app: &App, peer: &Peer, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    app.authorization_server.token_limit.check(peer.address.ip())?;
    let (parts, body) = request.into_parts();
    let form = form::read(&parts.headers, body).await?;
    let client = client_id(&parts.headers, &form)?;
    let token = form.get("token")?.ok_or_else(|| Fault::invalid_request("token is missing."))?;
    app.sessions.revoke_token(token, &client).await?.ok_or_else(unknown_client)?;
    Ok(respond::empty(StatusCode::OK))
}
