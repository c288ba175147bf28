//! Where a request may carry its session token, and what is wrong with one that carries it badly.
//!
//! Three doors: `Authorization: Bearer`, `X-MCP-Session-ID`, and the cookie `mcp_session_id` where the
//! operator opened that one. Never the query string, never the body.

use http::{HeaderMap, HeaderName, header};

use crate::token::SessionToken;

/// The header that carries a session token for clients that cannot set `Authorization`.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-mcp-session-id");
/// The cookie that carries a session token where `MCP_COOKIE_DOOR=on`.
pub const SESSION_COOKIE: &str = "mcp_session_id";

/// What a request presented.
#[derive(Debug)]
pub enum Credential {
    /// A text that may be a session token.
    Token(SessionToken),
    /// A text that cannot be one: the answer is that of an unknown token, without a query.
    NotAToken,
}

/// A request whose credentials cannot be told apart: 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    #[error("the {0} header is repeated")]
    Repeated(HeaderName),
    #[error("the {0} header is malformed")]
    Malformed(HeaderName),
    #[error("the request carries two different session tokens")]
    Different,
}

/// The one credential of a request; `None` where it has none.
///
/// Another scheme than Bearer counts as none (RFC 6750 §3.1), and so does an empty value.
pub fn extract(headers: &HeaderMap, cookie_door: bool) -> Result<Option<Credential>, CredentialFault> {
    let mut texts = presented(headers)?;
    if cookie_door {
        texts.extend(cookies(headers, SESSION_COOKIE).map(|text| (header::COOKIE, text)));
    }
    let Some((door, first)) = texts.first() else { return Ok(None) };
    if texts.iter().any(|(_, text)| text != first) {
        return Err(CredentialFault::Different);
    }
    if first.contains([' ', '\t', ',']) {
        return Err(CredentialFault::Malformed(door.clone()));
    }
    Ok(Some(SessionToken::parse(first).map_or(Credential::NotAToken, Credential::Token)))
}

/// Whether a credential stands in a header of its own, where programs put theirs; browsers know cookies alone.
pub fn is_presented(headers: &HeaderMap) -> bool {
    presented(headers).is_ok_and(|texts| !texts.is_empty())
}

/// What stands in the headers that carry nothing but a credential, with the header's name.
fn presented(headers: &HeaderMap) -> Result<Vec<(HeaderName, &str)>, CredentialFault> {
    let bearer = single(headers, header::AUTHORIZATION)?.map(bearer).transpose()?.flatten();
    let named = single(headers, SESSION_HEADER)?.filter(|value| !value.is_empty());
    let bearer = bearer.map(|text| (header::AUTHORIZATION, text));
    Ok(bearer.into_iter().chain(named.map(|text| (SESSION_HEADER, text))).collect())
}

/// Every value of the cookie `name`, in the order sent (RFC 6265 §5.4).
pub fn cookies<'a, 'n>(headers: &'a HeaderMap, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(move |pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name && !value.is_empty()).then_some(value)
        })
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, CredentialFault> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CredentialFault::Repeated(name));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim())),
        Err(_) => Err(CredentialFault::Malformed(name)),
    }
}

fn bearer(value: &str) -> Result<Option<&str>, CredentialFault> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        // "Bearer\ttoken" and "Bearer,token" are slips, not other schemes.
        let slip =
            scheme.len() > 6 && scheme.is_char_boundary(6) && scheme[..6].eq_ignore_ascii_case("bearer");
        return if slip { Err(CredentialFault::Malformed(header::AUTHORIZATION)) } else { Ok(None) };
    }
    Ok(Some(rest.trim()).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(letter: &str) -> String {
        crate::token::tests::token(&letter.repeat(22))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    /// What a case expects: nobody, a token of that letter, a text that is no token, or a fault.
    #[derive(Debug, PartialEq)]
    enum Expect {
        Nobody,
        Token(&'static str),
        NotAToken,
        Fault(CredentialFault),
    }
    use Expect::*;

    #[test]
    fn each_door_and_each_misuse() {
        let (a, b) = (token("a"), token("b"));
        let bearer_a = format!("Bearer {a}");
        let cookie_a = format!("theme=dark; mcp_session_id={a}");
        type Headers<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Headers<'_>, bool, Expect)] = &[
            (&[], true, Nobody),
            (&[("authorization", &bearer_a)], false, Token("a")),
            (&[("authorization", &format!("bearer  {a} "))], false, Token("a")),
            (&[("authorization", &format!("BEARER {a}"))], false, Token("a")),
            (&[("x-mcp-session-id", &a)], false, Token("a")),
            (&[("x-mcp-session-id", "")], false, Nobody),
            (&[("x-mcp-session-id", "null")], false, NotAToken),
            (&[("authorization", "Bearer ")], false, Nobody),
            (&[("authorization", "Bearer")], false, Nobody),
            (&[("authorization", "Basic dXNlcjpwYXNz")], false, Nobody),
            (&[("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")], false, NotAToken),
            (&[("authorization", &format!("Bearer {a},{b}"))], false, malformed(header::AUTHORIZATION)),
            (&[("authorization", &format!("Bearer {a} {b}"))], false, malformed(header::AUTHORIZATION)),
            (&[("authorization", &format!("Bearer\t{a}"))], false, malformed(header::AUTHORIZATION)),
            (&[("authorization", "Bearer \u{e9}")], false, malformed(header::AUTHORIZATION)),
            (&[("x-mcp-session-id", "a,b")], true, malformed(SESSION_HEADER)),
            (&[("cookie", "mcp_session_id=a,b")], true, malformed(header::COOKIE)),
            (
                &[("authorization", &bearer_a), ("authorization", &bearer_a)],
                false,
                Fault(CredentialFault::Repeated(header::AUTHORIZATION)),
            ),
            (
                &[("x-mcp-session-id", &a), ("x-mcp-session-id", &a)],
                false,
                Fault(CredentialFault::Repeated(SESSION_HEADER)),
            ),
            (&[("authorization", &bearer_a), ("x-mcp-session-id", &a)], false, Token("a")),
            (
                &[("authorization", &bearer_a), ("x-mcp-session-id", &b)],
                false,
                Fault(CredentialFault::Different),
            ),
            (&[("cookie", &cookie_a)], false, Nobody),
            (&[("cookie", &cookie_a)], true, Token("a")),
            (&[("cookie", &cookie_a), ("x-mcp-session-id", &a)], true, Token("a")),
            (&[("cookie", &cookie_a), ("x-mcp-session-id", &b)], true, Fault(CredentialFault::Different)),
            (&[("cookie", &cookie_a), ("x-mcp-session-id", &b)], false, Token("b")),
            (
                &[("cookie", &format!("mcp_session_id={a}; mcp_session_id={b}"))],
                true,
                Fault(CredentialFault::Different),
            ),
            (&[("cookie", &format!("xmcp_session_id={a}; mcp_session_id="))], true, Nobody),
        ];
        for (pairs, door, expected) in cases {
            let found = match extract(&headers(pairs), *door) {
                Ok(None) => Nobody,
                Ok(Some(Credential::NotAToken)) => NotAToken,
                Ok(Some(Credential::Token(found))) => Token(if found.expose() == a { "a" } else { "b" }),
                Err(fault) => Fault(fault),
            };
            assert_eq!(&found, expected, "{pairs:?} with the cookie door {door}");
        }
    }

    fn malformed(door: HeaderName) -> Expect {
        Fault(CredentialFault::Malformed(door))
    }

    #[test]
    fn a_cookie_is_nothing_that_a_program_presents() {
        for (pairs, expected) in [
            (&[("authorization", "Bearer x")][..], true),
            (&[("x-mcp-session-id", "x")], true),
            (&[("authorization", "Basic dXNlcjpwYXNz")], false),
            (&[("cookie", "mcp_session_id=x")], false),
            (&[], false),
        ] {
            assert_eq!(is_presented(&headers(pairs)), expected, "{pairs:?}");
        }
    }
}

#[cfg(test)]
mod property {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(HeaderName, String)]) -> HeaderMap {
        let valid = |value: &String| HeaderValue::from_str(value).ok();
        fields.iter().filter_map(|(name, value)| Some((name.clone(), valid(value)?))).collect()
    }

    fn door() -> impl Strategy<Value = HeaderName> {
        prop::sample::select(vec![header::AUTHORIZATION, SESSION_HEADER, header::COOKIE, header::REFERER])
    }

    fn value() -> impl Strategy<Value = String> {
        let token = || "[a-b]{22}".prop_map(|selector| crate::token::tests::token(&selector));
        prop_oneof![
            Just(String::new()),
            "(Bearer|bearer|Basic|Bearer\t) {0,2}"
                .prop_flat_map(move |scheme| { token().prop_map(move |token| format!("{scheme}{token}")) }),
            token(),
            token().prop_map(|token| format!("a=b; {SESSION_COOKIE}={token}")),
            "[ -~]{0,40}",
        ]
    }

    proptest! {
        /// Whatever is sent: one token at most, and only one that stands in an open door.
        #[test]
        fn a_token_comes_through_an_open_door_alone(
            fields in prop::collection::vec((door(), value()), 0..5),
            open: bool,
        ) {
            let headers = headers(&fields);
            let doors = [header::AUTHORIZATION, SESSION_HEADER].into_iter().chain(open.then_some(header::COOKIE));
            let seen: Vec<&str> = doors
                .flat_map(|name| headers.get_all(name))
                .filter_map(|value| value.to_str().ok())
                .collect();
            if let Ok(Some(Credential::Token(token))) = extract(&headers, open) {
                prop_assert!(seen.iter().any(|value| value.contains(token.expose())));
                // Another token beside it would have made two readings of one request.
                let tokens = regex::Regex::new("mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}").unwrap();
                for name in [header::AUTHORIZATION, SESSION_HEADER] {
                    let value = headers.get(&name).map_or("", |value| value.to_str().unwrap());
                    let is_bearer = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"));
                    if name == SESSION_HEADER || is_bearer {
                        for found in tokens.find_iter(value) {
                            prop_assert_eq!(found.as_str(), token.expose());
                        }
                    }
                }
            }
        }
    }
}
