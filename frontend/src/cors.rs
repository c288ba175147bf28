//! Cross-origin answers for the configured origins: before authentication, never with credentials.
//!
//! Without `Access-Control-Allow-Credentials` no page can use a visitor's cookies here; a browser client
//! sends its token in a header, which preflight allows.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    gate::Gate,
    respond::{self, Body},
};

/// What MCP clients in a browser have to send, and must be let through by name.
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Accept, X-MCP-Session-ID, MCP-Protocol-Version, \
                               Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID";
/// What they have to read besides the body; without it they never see where to sign in.
const EXPOSED_HEADERS: &str = "WWW-Authenticate, Mcp-Session-Id, Retry-After, X-Request-Id";
/// How long a browser may keep a preflight answer, in seconds.
const MAX_AGE: &str = "600";
const PARAMETER_PREFIX: &str = "mcp-param-";

/// The answer to `OPTIONS` on a route with these `methods`.
pub fn preflight(gate: &Gate, headers: &HeaderMap, methods: &'static str) -> Response<Body> {
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    let answer = response.headers_mut();
    answer.insert(header::ALLOW, HeaderValue::from_static(methods));
    if headers.get(header::ORIGIN).is_some_and(|origin| gate.allows_origin(origin)) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, request_headers(headers));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    }
    response
}

/// Lets an allowed origin read `response`, whatever its status.
pub fn expose(gate: &Gate, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin.filter(|origin| gate.allows_origin(origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
}

/// The fixed list, and the `Mcp-Param-*` headers the browser asks for: their names come from tools.
fn request_headers(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    let mut allowed = REQUEST_HEADERS.to_owned();
    for name in asked.into_iter().flat_map(|asked| asked.split(',')).map(str::trim) {
        let parameter = name.get(..PARAMETER_PREFIX.len()).is_some_and(|start| {
            start.eq_ignore_ascii_case(PARAMETER_PREFIX) && name.parse::<http::HeaderName>().is_ok()
        });
        if parameter {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
    }
    HeaderValue::from_str(&allowed).unwrap_or(HeaderValue::from_static(REQUEST_HEADERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let origins = ["https://app.example.com".to_owned()];
        Gate::new(&"https://mcp.example.com".parse().unwrap(), "0.0.0.0:8080".parse().unwrap(), &[], &origins)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_configured_origin_is_told_what_it_may_send() {
        let asked = headers(&[
            ("origin", "https://app.example.com"),
            (
                "access-control-request-headers",
                "authorization, mcp-param-a b, mcp-param-region, x-evil-header-name",
            ),
        ]);
        let mut response = preflight(&gate(), &asked, "POST, OPTIONS");
        expose(&gate(), asked.get("origin"), &mut response);
        assert_eq!(response.status(), 204);
        let allowed = response.headers()["access-control-allow-headers"].to_str().unwrap();
        for name in ["Authorization", "Last-Event-ID", "mcp-param-region"] {
            assert!(allowed.split(", ").any(|entry| entry == name), "{name} in {allowed}");
        }
        assert!(!allowed.contains("x-evil") && !allowed.contains("a b"), "{allowed}");
        for (name, value) in [
            ("allow", "POST, OPTIONS"),
            ("access-control-allow-methods", "POST, OPTIONS"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(response.headers()[name], value, "{name}");
        }
        assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example.com");
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("WWW-Authenticate"));
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn any_other_origin_is_told_nothing() {
        for asked in [headers(&[("origin", "https://evil.example.com")]), headers(&[])] {
            let mut response = preflight(&gate(), &asked, "POST, OPTIONS");
            expose(&gate(), asked.get("origin"), &mut response);
            assert!(!response.headers().contains_key("access-control-allow-origin"));
            assert!(!response.headers().contains_key("access-control-allow-headers"));
            assert!(!response.headers().contains_key("access-control-allow-methods"));
            assert_eq!(response.headers()["allow"], "POST, OPTIONS");
        }
    }
}
