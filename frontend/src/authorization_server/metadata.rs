//! What clients discover: which resource this is, who issues tokens for it (RFC 9728), and how (RFC 8414).

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    app::App,
    authorization_server::authorize,
    respond::{self, Body},
    scope,
};

/// Where the metadata of the whole origin is.
pub const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource";
/// Where the metadata of the MCP endpoint is (RFC 9728 §3.1); challenges name this one.
pub const MCP_RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource/mcp/v1";
/// Where the authorization server's metadata is. The issuer has no path, so there is none behind it.
pub const SERVER_PATH: &str = "/.well-known/oauth-authorization-server";
/// Where clients look that take the MCP endpoint for the issuer. The document names the issuer there is.
pub const MCP_SERVER_PATH: &str = "/.well-known/oauth-authorization-server/mcp/v1";
/// The paths of the endpoints; the same as clients of revision 2025-03-26 fall back to.
pub const TOKEN_PATH: &str = "/token";
pub const REGISTER_PATH: &str = "/register";
pub const REVOKE_PATH: &str = "/revoke";

/// Protected resource metadata. There is one resource, so both paths answer alike.
pub fn protected_resource(app: &App) -> Response<Body> {
    let document = json!({
        "resource": app.sessions.resource(),
        "authorization_servers": [app.public_url.origin()],
        "scopes_supported": [scope::BASE],
        "bearer_methods_supported": ["header"],
        "resource_name": "mcp-sessions",
    });
    respond::json(StatusCode::OK, &document)
}

/// Authorization server metadata.
pub fn authorization_server(app: &App) -> Response<Body> {
    let mut document = json!({
        "issuer": app.public_url.origin(),
        "authorization_endpoint": app.public_url.join(authorize::PATH),
        "token_endpoint": app.public_url.join(TOKEN_PATH),
        "revocation_endpoint": app.public_url.join(REVOKE_PATH),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": [scope::BASE],
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": true,
    });
    if app.authorization_server.registration {
        document["registration_endpoint"] = Value::String(app.public_url.join(REGISTER_PATH));
    }
    respond::json(StatusCode::OK, &document)
}
