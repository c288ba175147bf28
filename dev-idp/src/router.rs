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
    use std::collections::BTreeMap;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::grants::Grant;
    use crate::grants::fixture::grant;
    use crate::provider::fixture::{CHALLENGE, REDIRECT_URI, form, provider, redemption};

    /// What was answered: status, headers and body.
    type Said = (u16, BTreeMap<String, String>, String);

    async fn send<B>(provider: &Provider, request: http::request::Builder, body: B) -> Said
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.body(body).expect("a request");
        let (head, body) = route(provider, request).await.expect("never fails").into_parts();
        let body = body.collect().await.expect("it is there").to_bytes();
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
        (head.status.as_u16(), headers.collect(), String::from_utf8(body.to_vec()).expect("text"))
    }

    fn text(body: &str) -> Full<Bytes> {
        Full::new(Bytes::from(body.to_owned()))
    }

    fn local(method: &str, uri: &str) -> http::request::Builder {
        Request::builder().method(method).uri(uri).header(HOST, "127.0.0.1:8090")
    }

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What JSON always has, and `more`.
    fn json_headers(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let always = [("content-type", "application/json"), ("cache-control", "no-store")];
        headers(&[&always, more].concat())
    }

    fn json_said(status: u16, more: &[(&str, &str)], body: &Value) -> Said {
        (status, json_headers(more), body.to_string())
    }

    /// A body that breaks off with the error, or of which nothing ever comes.
    struct Unfinished(Option<io::Error>);

    impl http_body::Body for Unfinished {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
            self.0.take().map_or(Poll::Pending, |error| Poll::Ready(Some(Err(error))))
        }
    }

    const BASIC: (&str, &str) = ("www-authenticate", "Basic realm=\"token\"");

    fn sign_in(hint: &str) -> String {
        form(&[
            ("client_id", "client"),
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("scope", "openid profile"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("login_hint", hint),
        ])
    }

    #[tokio::test]
    async fn names_that_are_not_loopback_are_refused() {
        let provider = provider();
        let refused =
            json_said(403, &[], &json!({ "error": "this provider answers to loopback names alone" }));
        for host in ["evil.example", "127.0.0.1.evil.example:8090", "10.0.0.1", "", "local host"] {
            let request = Request::builder().uri(path::DISCOVERY).header(HOST, host);
            assert_eq!(send(&provider, request, text("")).await, refused, "{host:?}");
        }
        assert_eq!(send(&provider, Request::builder().uri(path::JWKS), text("")).await, refused);
        let metadata = json_said(200, &[], &provider.metadata());
        for host in ["127.0.0.1:8090", "127.9.9.9", "localhost", "[::1]:8090"] {
            let request = Request::builder().uri(path::DISCOVERY).header(HOST, host);
            assert_eq!(send(&provider, request, text("")).await, metadata, "{host}");
        }
    }

    #[tokio::test]
    async fn every_endpoint_that_discovery_names_is_there() {
        let provider = provider();
        let metadata = provider.metadata();
        for (name, method) in [
            ("authorization_endpoint", "GET"),
            ("token_endpoint", "POST"),
            ("userinfo_endpoint", "GET"),
            ("jwks_uri", "GET"),
        ] {
            let uri = metadata[name].as_str().expect(name);
            let (status, _, _) = send(&provider, local(method, uri), text("")).await;
            assert!(status != 404 && status != 405, "{name}");
        }
        let keys = json!(provider.key().public_set());
        assert_eq!(send(&provider, local("GET", "/jwks"), text("")).await, json_said(200, &[], &keys));
    }

    #[tokio::test]
    async fn requests_that_make_no_sense_get_the_answer_that_says_so() {
        let provider = provider();
        let nothing = json!({ "error": "there is nothing here" });
        let method = json!({ "error": "the method is not allowed here" });
        let too_large = json!({ "error": "the body is too large" });
        let client = Fault::InvalidClient.body();
        let twice = Fault::InvalidRequest("A parameter stands there twice.").body();
        let flood = |length| "a".repeat(length);
        for (request, body, expected) in [
            (("GET", "/"), "", json_said(404, &[], &nothing)),
            (("POST", "/token/"), "", json_said(404, &[], &nothing)),
            (("POST", "/.well-known/openid-configuration"), "", json_said(405, &[("allow", "GET")], &method)),
            (("POST", "/jwks"), "", json_said(405, &[("allow", "GET")], &method)),
            (("PUT", "/authorize"), "", json_said(405, &[("allow", "GET, POST")], &method)),
            (("DELETE", "/userinfo"), "", json_said(405, &[("allow", "GET, POST")], &method)),
            (("GET", "/token"), "", json_said(405, &[("allow", "POST")], &method)),
            (("POST", "/token"), "", json_said(401, &[BASIC], &client)),
            (("POST", "/token"), "a=1&a=2", json_said(400, &[], &twice)),
            (("POST", "/token"), &flood(16_384), json_said(401, &[BASIC], &client)),
            (("POST", "/token"), &flood(16_385), json_said(413, &[], &too_large)),
            (("POST", "/authorize"), &flood(16_385), json_said(413, &[], &too_large)),
        ] {
            let (verb, uri) = request;
            assert_eq!(send(&provider, local(verb, uri), text(body)).await, expected, "{verb} {uri}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_request() {
        let expected = json_said(400, &[], &json!({ "error": "the body broke off" }));
        for uri in ["/token", "/authorize"] {
            let body = Unfinished(Some(io::Error::from(io::ErrorKind::ConnectionReset)));
            assert_eq!(send(&provider(), local("POST", uri), body).await, expected, "{uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_waited_for_ten_seconds() {
        let start = tokio::time::Instant::now();
        let said = send(&provider(), local("POST", "/token"), Unfinished(None)).await;
        assert_eq!(said, json_said(408, &[], &json!({ "error": "the body took too long" })));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn pages_load_nothing_and_are_framed_by_nobody() {
        let provider = provider();
        let expected = headers(&[
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
        ]);
        for (query, status, says) in [
            ("", 400, "The parameter client_id is missing."),
            (&sign_in(""), 200, "Who are you?"),
            (&sign_in("nobody"), 200, "“nobody” is not an e-mail address."),
        ] {
            let got = send(&provider, local("GET", &format!("/authorize?{query}")), text("")).await;
            let posted = send(&provider, local("POST", "/authorize"), text(query)).await;
            assert_eq!(posted, got);
            assert_eq!((got.0, &got.1), (status, &expected), "{query}");
            assert!(got.2.contains(says), "{}", got.2);
        }
    }

    #[tokio::test]
    async fn a_sign_in_leads_to_who_it_was() {
        let provider = provider();
        let query = sign_in("alice@example.com");
        for (request, body) in
            [(local("GET", &format!("/authorize?{query}")), ""), (local("POST", "/authorize"), &query)]
        {
            let (status, answer, body) = send(&provider, request, text(body)).await;
            let location = answer["location"].clone();
            let expected = [
                ("location", location.as_str()),
                ("content-type", "text/plain; charset=utf-8"),
                ("cache-control", "no-store"),
            ];
            assert_eq!((status, answer, body.as_str()), (302, headers(&expected), ""));
            let code = location
                .strip_prefix("http://127.0.0.1:8080/auth/callback?code=")
                .and_then(|rest| rest.strip_suffix("&iss=http%3A%2F%2F127.0.0.1%3A8090"))
                .expect(&location);

            let (status, answer, tokens) =
                send(&provider, local("POST", "/token"), text(&form(&redemption(code)))).await;
            assert_eq!((status, answer), (200, json_headers(&[])), "{tokens}");
            let tokens: Value = serde_json::from_str(&tokens).expect("JSON");
            let token = tokens["access_token"].as_str().expect("a token");
            let alice = json!({ "sub": "dev_e3fd4cc8ed52bc87741b14bfc183f677", "name": "Alice" });
            for method in ["GET", "POST"] {
                let request = local(method, "/userinfo").header(AUTHORIZATION, format!("Bearer {token}"));
                assert_eq!(send(&provider, request, text("")).await, json_said(200, &[], &alice));
            }

            let again = send(&provider, local("POST", "/token"), text(&form(&redemption(code)))).await;
            let why = Fault::InvalidGrant("The code is unknown, too old, or was used before.");
            assert_eq!(again, json_said(400, &[], &why.body()));
        }
    }

    #[tokio::test]
    async fn only_the_bearer_of_a_live_token_is_told_whose_it_is() {
        let provider = provider();
        let token = provider.grants().issue_access_token("", &grant(), Instant::now()).expect("a token");
        let alice = json!({
            "sub": "dev_e3fd4cc8ed52bc87741b14bfc183f677",
            "email": "alice@example.com",
            "email_verified": true,
        });
        let told = json_said(200, &[], &alice);
        let challenged = |challenge| {
            json_said(401, &[("www-authenticate", challenge)], &json!({ "error": "invalid_token" }))
        };
        for (header, expected) in [
            (Some(format!("Bearer {token}")), told.clone()),
            (Some(format!("bEARER   {token} ")), told),
            (Some(format!("Basic {token}")), challenged("Bearer")),
            (Some(token), challenged("Bearer")),
            (None, challenged("Bearer")),
            (Some("Bearer unheard-of".to_owned()), challenged("Bearer error=\"invalid_token\"")),
        ] {
            let mut request = local("GET", "/userinfo");
            if let Some(header) = &header {
                request = request.header(AUTHORIZATION, header);
            }
            assert_eq!(send(&provider, request, text("")).await, expected, "{header:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_put_off_is_told_so() {
        let provider = provider();
        let grant = Grant { code_challenge: CHALLENGE.to_owned(), ..grant() };
        let code = provider.grants().issue_code(grant, Instant::now()).expect("a code");
        provider.grants().crowd(0, 100_000, Instant::now());
        let said = send(&provider, local("POST", "/token"), text(&form(&redemption(&code)))).await;
        assert_eq!(said, json_said(503, &[], &Fault::Busy.body()));
    }
}
