//! One `match` over method and path:
//!
//! | route | what it does |
//! |---|---|
//! | `GET /.well-known/openid-configuration` | discovery |
//! | `GET /jwks` | the public key |
//! | `GET /authorize`, `POST /authorize` | sign in, or a page to choose who |
//! | `POST /token` | a code for tokens |
//! | `GET /userinfo`, `POST /userinfo` | who the access token belongs to |

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};

use crate::authorize::{Answer, authorize};
use crate::pages::Refused;
use crate::provider::Provider;
use crate::token::{self, Fault};

pub mod path {
    pub const DISCOVERY: &str = "/.well-known/openid-configuration";
    pub const JWKS: &str = "/jwks";
    pub const AUTHORIZE: &str = "/authorize";
    pub const TOKEN: &str = "/token";
    pub const USERINFO: &str = "/userinfo";
}

const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Styles stand in the page; nothing else is loaded. No `form-action`: browsers apply it to the redirects
/// that follow a form as well, and those lead to the client.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

type Reply = Response<Full<Bytes>>;

pub async fn route<B>(provider: &Provider, request: Request<B>) -> Result<Reply, Infallible>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if !host_is_loopback(&head.headers) {
        return Ok(json_reply(
            StatusCode::FORBIDDEN,
            &error("this provider answers to loopback names alone"),
        ));
    }
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let reply = match (&head.method, head.uri.path()) {
        (&Method::GET, path::DISCOVERY) => json_reply(StatusCode::OK, &provider.metadata()),
        (&Method::GET, path::JWKS) => json_reply(StatusCode::OK, &json!(provider.key().public_set())),
        (&Method::GET, path::AUTHORIZE) => authorization(provider, query),
        (&Method::POST, path::AUTHORIZE) => match read(body).await {
            Ok(form) => authorization(provider, &form),
            Err(reply) => reply,
        },
        (&Method::POST, path::TOKEN) => match read(body).await {
            Ok(form) => tokens(provider, &head.headers, &form),
            Err(reply) => reply,
        },
        (&Method::GET | &Method::POST, path::USERINFO) => userinfo(provider, &head.headers),
        (_, path::DISCOVERY | path::JWKS) => not_allowed("GET"),
        (_, path::AUTHORIZE | path::USERINFO) => not_allowed("GET, POST"),
        (_, path::TOKEN) => not_allowed("POST"),
        _ => json_reply(StatusCode::NOT_FOUND, &error("there is nothing here")),
    };
    Ok(reply)
}

/// A page of another origin that has its own name resolve to 127.0.0.1 must not drive this provider.
fn host_is_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    matches!(authority.host(), "localhost" | "[::1]")
        || authority.host().parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

async fn read<B>(body: B) -> Result<Bytes, Reply>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(fault)) if fault.is::<http_body_util::LengthLimitError>() => {
            Err(json_reply(StatusCode::PAYLOAD_TOO_LARGE, &error("the body is too large")))
        }
        Ok(Err(_)) => Err(json_reply(StatusCode::BAD_REQUEST, &error("the body broke off"))),
        Err(_) => Err(json_reply(StatusCode::REQUEST_TIMEOUT, &error("the body took too long"))),
    }
}

fn authorization(provider: &Provider, query: &[u8]) -> Reply {
    match authorize(provider, query, Instant::now()) {
        Answer::Redirect(url) => {
            let mut reply = reply(StatusCode::FOUND, "text/plain; charset=utf-8", String::new());
            let location = HeaderValue::from_str(url.as_str()).expect("a URL is ASCII without controls");
            reply.headers_mut().insert(LOCATION, location);
            reply
        }
        Answer::Choose(choice) => page(StatusCode::OK, choice.to_html()),
        Answer::Refuse(reason) => page(StatusCode::BAD_REQUEST, Refused { reason }.to_html()),
    }
}

fn tokens(provider: &Provider, headers: &HeaderMap, form: &[u8]) -> Reply {
    let authorization = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    match token::exchange(provider, authorization, form, Instant::now()) {
        Ok(tokens) => json_reply(StatusCode::OK, &tokens),
        Err(fault @ Fault::InvalidClient) => {
            let mut reply = json_reply(StatusCode::UNAUTHORIZED, &fault.body());
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
            reply
        }
        Err(fault @ Fault::Busy) => json_reply(StatusCode::SERVICE_UNAVAILABLE, &fault.body()),
        Err(fault) => json_reply(StatusCode::BAD_REQUEST, &fault.body()),
    }
}

fn userinfo(provider: &Provider, headers: &HeaderMap) -> Reply {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let grants = provider.grants();
    if let Some((user, scopes)) = token.and_then(|token| grants.user_of(token, Instant::now())) {
        return json_reply(StatusCode::OK, &token::user_claims(user, scopes));
    }
    let challenge = if token.is_some() { "Bearer error=\"invalid_token\"" } else { "Bearer" };
    let mut reply = json_reply(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token" }));
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    reply
}

fn error(message: &str) -> Value {
    json!({ "error": message })
}

fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = json_reply(StatusCode::METHOD_NOT_ALLOWED, &error("the method is not allowed here"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    reply
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    reply(status, "application/json", body.to_string())
}

fn page(status: StatusCode, html: String) -> Reply {
    let mut reply = reply(status, "text/html; charset=utf-8", html);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // RFC 6749 section 5.1, and nothing else here is worth keeping either.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fixture::provider;

    async fn send(request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        let request = request.body(Full::new(body.into())).expect("a request");
        route(&provider(), request).await.expect("never fails")
    }

    fn local(method: &str, uri: &str) -> http::request::Builder {
        Request::builder().method(method).uri(uri).header(HOST, "127.0.0.1:8090")
    }

    #[tokio::test]
    async fn names_that_are_not_loopback_are_refused() {
        for host in ["evil.example", "127.0.0.1.evil.example:8090", "10.0.0.1", "", "local host"] {
            let request = Request::builder().uri(path::DISCOVERY).header(HOST, host);
            assert_eq!(send(request, "").await.status(), StatusCode::FORBIDDEN, "{host:?}");
        }
        assert_eq!(send(Request::builder().uri(path::JWKS), "").await.status(), StatusCode::FORBIDDEN);
        for host in ["127.0.0.1:8090", "localhost", "[::1]:8090"] {
            let request = Request::builder().uri(path::DISCOVERY).header(HOST, host);
            assert_eq!(send(request, "").await.status(), StatusCode::OK, "{host}");
        }
    }

    #[tokio::test]
    async fn every_endpoint_that_discovery_names_is_there() {
        let metadata = provider().metadata();
        for (name, method) in [
            ("authorization_endpoint", "GET"),
            ("token_endpoint", "POST"),
            ("userinfo_endpoint", "GET"),
            ("jwks_uri", "GET"),
        ] {
            let uri = metadata[name].as_str().expect(name);
            let status = send(local(method, uri), "").await.status();
            assert!(status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED, "{name}");
        }
    }

    #[tokio::test]
    async fn requests_that_make_no_sense_get_the_status_that_says_so() {
        assert_eq!(send(local("GET", "/"), "").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(send(local("GET", path::AUTHORIZE), "").await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(send(local("POST", path::TOKEN), "").await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(send(local("GET", path::USERINFO), "").await.status(), StatusCode::UNAUTHORIZED);
        let refused = send(local("DELETE", path::TOKEN), "").await;
        assert_eq!(
            (refused.status(), &refused.headers()[ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("POST"))
        );
        let flood = send(local("POST", path::TOKEN), vec![b'a'; MAX_BODY_BYTES + 1]).await;
        assert_eq!(flood.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
