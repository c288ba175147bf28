//! The frontend as the OAuth 2.1 authorization server that MCP clients expect.
//!
//! It keeps nothing. Clients, consents and codes are rows behind [`crate::sessions`]; a request under way is in the page
//! the browser shows, and then in the sign-in it began. So any replica can take any step.
//!
//! There is one issuer, the public URL, and its bytes are the same in every document and every answer.

pub mod address;
pub mod authorize;
pub mod client;
mod client_metadata;
pub mod consent;
pub mod document;
pub mod metadata;
pub mod redirect;
pub mod register;
pub mod revoke;
pub mod token;

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, header};

use crate::{
    authorization_server::document::Documents, config::AuthorizationServer as Settings, error::Fault,
    query::Query, rate_limit::RateLimit,
};

/// What the endpoints share. None of it is state that correctness needs.
pub struct AuthorizationServer {
    /// Whether clients may register themselves.
    registration: bool,
    /// The private schemes that redirect URIs of such clients may have.
    private_schemes: Vec<String>,
    documents: Documents,
    register_limit: RateLimit,
    token_limit: RateLimit,
    /// For everything that begins a sign-in.
    pub sign_in_limit: RateLimit,
}

impl AuthorizationServer {
    pub fn new(settings: &Settings) -> Self {
        Self {
            registration: settings.registration,
            private_schemes: settings.private_schemes.clone(),
            documents: Documents::new(settings.loopback_documents),
            register_limit: RateLimit::new(settings.register_limit),
            token_limit: RateLimit::new(settings.token_limit),
            sign_in_limit: RateLimit::new(settings.sign_in_limit),
        }
    }
}

/// Why a token is not issued for another resource than ours (RFC 8707 §2).
const OTHER_RESOURCE: &str = "This server issues tokens for its own MCP endpoint alone.";

/// Whether a request names a resource, with a slash behind it or without.
fn is_named(resource: &str, named: &str) -> bool {
    named == resource || named.strip_suffix('/') == Some(resource)
}

/// 401: no such client, or one that claims a secret; all of ours are public. Clients register anew on this.
fn invalid_client(public: impl Into<Cow<'static, str>>) -> Fault {
    Fault::client(StatusCode::UNAUTHORIZED, "invalid_client", public)
}

fn unknown_client() -> Fault {
    invalid_client("This client is not registered here, or not any more: register it again.")
}

/// The id of the client that sends a form. It proves nothing: clients are public, and their codes and tokens are bound to
/// their ids.
fn client_id<'a>(headers: &HeaderMap, form: &'a Query) -> Result<Cow<'a, str>, Fault> {
    let named = form.get("client_id")?;
    if form.get("client_secret")?.is_some() || form.get("client_assertion")?.is_some() {
        return Err(invalid_client("Clients have no secret here: send the client_id alone."));
    }
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = authorizations.next();
    if authorizations.next().is_some() {
        return Err(Fault::invalid_request("The Authorization header is repeated."));
    }
    let id = match authorization {
        None => named.map(Cow::Borrowed),
        Some(value) => {
            let id = value.to_str().ok().and_then(basic).ok_or_else(|| {
                invalid_client("Clients have no secret here: leave the Authorization header away.").basic()
            })?;
            if named.is_some_and(|named| named != id) {
                return Err(Fault::invalid_request("The request names two clients."));
            }
            Some(Cow::Owned(id))
        }
    };
    id.ok_or_else(|| Fault::invalid_request("client_id is missing."))
}

/// The client's id in HTTP Basic credentials with an empty password, as some clients without a secret send them.
fn basic(value: &str) -> Option<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    // RFC 6749 §2.3.1: both halves are encoded as a form before Basic encodes the pair.
    let id = pair.strip_suffix(':').filter(|id| !id.is_empty() && !id.contains(':'))?;
    let form = format!("id={id}");
    let (_, id) = url::form_urlencoded::parse(form.as_bytes()).into_owned().next()?;
    (!id.contains(char::is_control)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authorization: &[&str], form: &str) -> Result<String, (u16, &'static str)> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let form = Query::of_form(form.as_bytes()).unwrap();
        client_id(&headers, &form).map(Cow::into_owned).map_err(|fault| (fault.status.as_u16(), fault.code))
    }

    #[test]
    fn the_resource_may_be_named_with_a_slash_behind_it() {
        let resource = "https://mcp.example.com/mcp/v1";
        for (named, ours) in [
            (resource, true),
            ("https://mcp.example.com/mcp/v1/", true),
            ("https://mcp.example.com/mcp/v1//", false),
            ("https://mcp.example.com/mcp/v1/x", false),
            ("https://mcp.example.com/mcp/", false),
            ("https://MCP.example.com/mcp/v1", false),
            ("/", false),
        ] {
            assert_eq!(is_named(resource, named), ours, "{named}");
        }
    }

    #[test]
    fn clients_say_who_they_are_and_prove_nothing() {
        assert_eq!(read(&[], "client_id=a"), Ok("a".into()));
        assert_eq!(read(&["Basic YTo="], ""), Ok("a".into()));
        assert_eq!(read(&["basic YTo="], "client_id=a"), Ok("a".into()));
        assert_eq!(read(&["Basic  YTo="], ""), Ok("a".into()));
        assert_eq!(read(&["Basic aHR0cHMlM0ElMkYlMkZhOg=="], ""), Ok("https://a".into()));
        let invalid_client = Err((401, "invalid_client"));
        for (authorization, form) in [
            (&["Basic YTpi"][..], ""),
            (&["Basic YTpiOg=="], ""),
            (&["Basic Og=="], ""),
            (&["Basic"], "client_id=a"),
            (&["Basic !!!"], "client_id=a"),
            (&["Basic /w=="], "client_id=a"),
            (&["Basic YQA6"], ""),
            (&["Basic YSUwMDo="], ""),
            (&["Bearer x"], "client_id=a"),
            (&["Bearer YTo="], ""),
            (&[], "client_id=a&client_secret=b"),
            (&[], "client_id=a&client_assertion=b"),
        ] {
            assert_eq!(read(authorization, form), invalid_client, "{authorization:?} {form}");
        }
        let invalid_request = Err((400, "invalid_request"));
        for (authorization, form) in [
            (&[][..], ""),
            (&[], "client_id="),
            (&[], "client_id=a&client_id=a"),
            (&["Basic YTo="], "client_id=b"),
            (&["Basic YTo=", "Basic YTo="], ""),
            (&[], "client_id=a%00"),
        ] {
            assert_eq!(read(authorization, form), invalid_request, "{authorization:?} {form}");
        }
    }
}
