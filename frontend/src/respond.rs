//! Building answers: JSON, pages, redirects, nothing; and the headers every answer carries.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use serde::Serialize;

use crate::error::Fault;

/// The body of every answer, streamed or not.
pub type Body = BoxBody<Bytes, Infallible>;

/// Pages load their one style sheet and one script from here, and nothing else from anywhere.
pub const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, Empty::new().boxed())
}

/// An answer whose JSON is `value`.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Only maps with keys that are no text fail to serialise, and no answer has one.
    let text = serde_json::to_vec(value).unwrap_or_default();
    content(status, "application/json", text)
}

/// A page, locked down by its content security policy.
pub fn html(status: StatusCode, page: String) -> Response<Body> {
    let mut response = content(status, "text/html; charset=utf-8", page);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// A redirect without a body.
pub fn redirect(status: StatusCode, to: &str) -> Result<Response<Body>, Fault> {
    let mut response = empty(status);
    let location = HeaderValue::from_str(to).map_err(Fault::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A short text, as probes and people at a terminal read it.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    content(status, "text/plain; charset=utf-8", text)
}

/// An answer with any content.
pub fn content(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = with_body(status, Full::new(body.into()).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// What no answer goes out without. Answers are private and fresh unless they said otherwise themselves.
pub fn harden(response: &mut Response<Body>, https: bool) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000"));
    }
}

fn with_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardened(mut response: Response<Body>, https: bool) -> Response<Body> {
        harden(&mut response, https);
        response
    }

    #[test]
    fn every_answer_is_private_and_what_it_says_it_is() {
        let response = hardened(json(StatusCode::OK, &1), false);
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        assert!(!response.headers().contains_key("strict-transport-security"), "only TLS can promise TLS");
        assert!(hardened(empty(StatusCode::OK), true).headers().contains_key("strict-transport-security"));
        let mut asset = text(StatusCode::OK, "x");
        asset.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        assert_eq!(hardened(asset, false).headers()["cache-control"], "public");
    }

    #[test]
    fn pages_load_nothing_from_elsewhere_and_are_framed_by_nobody() {
        let page = html(StatusCode::OK, String::new());
        assert_eq!(page.headers()["x-frame-options"], "DENY");
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{part} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
