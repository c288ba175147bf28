//! What clients discover: which resource this is, and who issues tokens for it (RFC 9728).

use http::{Response, StatusCode};
use serde_json::json;

use crate::{
    app::App,
    error::BASE_SCOPE,
    respond::{self, Body},
};

/// Where the metadata of the whole origin is.
pub const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource";
/// Where the metadata of the MCP endpoint is (RFC 9728 §3.1); challenges name this one.
pub const MCP_RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource/mcp/v1";

/// Protected resource metadata. There is one resource, so both paths answer alike.
pub fn protected_resource(app: &App) -> Response<Body> {
    let document = json!({
        "resource": app.sessions.resource(),
        "authorization_servers": [app.public_url.origin()],
        "scopes_supported": [BASE_SCOPE],
        "bearer_methods_supported": ["header"],
        "resource_name": "mcp-sessions",
    });
    respond::json(StatusCode::OK, &document)
}
