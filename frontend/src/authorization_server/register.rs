//! `POST /register` (RFC 7591): a client makes itself known.
//!
//! Anybody may, so little is asked, little is kept and nothing is believed: all of these clients are public, whatever they
//! say they would rather be, and the answer says what they became. Metadata documents are the better way.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use crate::{
    app::{App, Peer},
    authorization_server::{
        client,
        client_metadata::{self, Unacceptable},
    },
    body,
    error::Fault,
    media_type,
    respond::{self, Body},
};

/// Larger than any registration that SDKs send.
const LIMIT: usize = 16 << 10;
const DEADLINE: Duration = Duration::from_secs(10);
const LONGEST_URI: usize = 2048;

/// What is read of a registration. Everything else (logos, contacts, scopes) is ignored, as RFC 7591 §2 wants of what a
/// server does not understand.
#[derive(Deserialize)]
struct Metadata {
    redirect_uris: Option<Vec<String>>,
    client_name: Option<String>,
    client_uri: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    application_type: Option<String>,
}

/// `POST /register`.
pub async fn post(app: &App, peer: &Peer, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    if !app.authorization_server.registration {
        return Err(Fault::client(
            StatusCode::FORBIDDEN,
            "access_denied",
            "Clients do not register themselves here: use a client metadata document, or ask the operator.",
        ));
    }
    app.authorization_server.register_limit.check(peer.address.ip())?;
    let (parts, body) = request.into_parts();
    if !media_type::is_json(&parts.headers) {
        return Err(Fault::invalid_request("The body must be application/json."));
    }
    let body = body::read(body, LIMIT, DEADLINE).await?;
    let metadata: Metadata = serde_json::from_slice(&body)
        .map_err(|_| invalid("The body is no JSON object with client metadata."))?;
    let redirect_uris = check(&metadata, &app.authorization_server.private_schemes)?;
    let name = metadata.client_name.as_deref().map(client::shown).filter(|name| !name.is_empty());
    let uri = metadata.client_uri.as_deref().filter(|uri| is_web_page(uri));
    let (id, at) = app.sessions.register_client(name.as_deref(), redirect_uris, uri).await?;
    tracing::info!(client = id, "a client registered itself");

    let mut answer = json!({
        "client_id": id,
        "client_id_issued_at": at.timestamp(),
        "redirect_uris": redirect_uris,
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    });
    for (member, value) in [
        ("client_name", name.as_deref()),
        ("client_uri", uri),
        (
            "application_type",
            metadata.application_type.as_deref().filter(|kind| matches!(*kind, "native" | "web")),
        ),
    ] {
        if let Some(value) = value {
            answer[member] = value.into();
        }
    }
    Ok(respond::json(StatusCode::CREATED, &answer))
}

/// The redirect URIs of metadata in order.
fn check<'a>(metadata: &'a Metadata, private_schemes: &[String]) -> Result<&'a [String], Fault> {
    let uris = metadata.redirect_uris.as_deref().unwrap_or_default();
    let (grants, responses) = (metadata.grant_types.as_deref(), metadata.response_types.as_deref());
    client_metadata::check(grants, responses, uris, private_schemes).map_err(refusal)?;
    Ok(uris)
}

fn refusal(unacceptable: Unacceptable) -> Fault {
    match unacceptable {
        Unacceptable::Grants => invalid("grant_types must contain authorization_code."),
        Unacceptable::Responses => invalid("response_types must contain code."),
        Unacceptable::Number => {
            invalid_redirect("redirect_uris must have one entry at least and 32 at most.")
        }
        Unacceptable::RedirectUri => {
            invalid_redirect("A redirect URI must be https://…, or http:// on localhost, 127.0.0.1 or [::1].")
        }
        Unacceptable::PrivateScheme => invalid_redirect(
            "This server does not send people to private schemes: MCP_REDIRECT_SCHEMES lists those it knows.",
        ),
    }
}

fn is_web_page(uri: &str) -> bool {
    uri.len() <= LONGEST_URI
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
        && url::Url::parse(uri).is_ok_and(|url| url.scheme() == "https")
}

fn invalid(public: &'static str) -> Fault {
    Fault::client(StatusCode::BAD_REQUEST, "invalid_client_metadata", public)
}

fn invalid_redirect(public: &'static str) -> Fault {
    Fault::client(StatusCode::BAD_REQUEST, "invalid_redirect_uri", public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registration_must_say() {
        let check = |text: &str| {
            let metadata: Metadata = serde_json::from_str(text).unwrap();
            check(&metadata, &["cursor".to_owned()]).map(<[String]>::len).map_err(|fault| fault.code)
        };
        assert_eq!(
            check(r#"{"redirect_uris": ["http://127.0.0.1/cb", "https://app.example.com/cb"]}"#),
            Ok(2)
        );
        assert_eq!(check(r#"{"redirect_uris": ["cursor://x/cb"], "logo_uri": "javascript:x"}"#), Ok(1));
        for uris in [
            "[]",
            r#"["javascript:alert(1)"]"#,
            r#"["JaVaScRiPt:alert(1)"]"#,
            r#"["data:text/html,x"]"#,
            r#"["file:///x"]"#,
            r#"["blob:https://x"]"#,
            r#"["http://app.example.com/cb"]"#,
            r#"["https://app.example.com/cb", "java\tscript:x"]"#,
            r#"["unknown:/cb"]"#,
        ] {
            assert_eq!(
                check(&format!(r#"{{"redirect_uris": {uris}}}"#)),
                Err("invalid_redirect_uri"),
                "{uris}"
            );
        }
        assert_eq!(check("{}"), Err("invalid_redirect_uri"));
        let uri = r#""redirect_uris": ["https://a.example/"]"#;
        assert_eq!(
            check(&format!(r#"{{{uri}, "grant_types": ["implicit"]}}"#)),
            Err("invalid_client_metadata")
        );
        assert_eq!(
            check(&format!(r#"{{{uri}, "response_types": ["token"]}}"#)),
            Err("invalid_client_metadata")
        );
    }

    #[test]
    fn only_web_pages_are_linked() {
        assert!(is_web_page("https://app.example.com"));
        let long = format!("https://a/{}", "a".repeat(LONGEST_URI));
        assert!(is_web_page(&long[..LONGEST_URI]));
        for bad in
            ["javascript:alert(1)", "http://app.example.com", "app.example.com", "", "https://a/\0", &long]
        {
            assert!(!is_web_page(bad), "{bad}");
        }
    }
}
