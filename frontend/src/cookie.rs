//! The cookies that this server sets: names, attributes, nothing else.
//!
//! `HttpOnly`, `SameSite=Lax`, `Path=/` and no `Domain` on each of them. Over https also `Secure`, and, but for the session
//! cookie, a name with `__Host-` in front, so that no other host and no page without TLS can plant one.

use http::{HeaderMap, HeaderValue, Response, header};

use crate::{app::App, credentials::cookies, error::Fault, random, respond::Body, token::SessionToken};

/// The name under which a browser is remembered between authorizations; see [`crate::authorization_server::consent`].
pub const BROWSER: &str = "mcp_browser";
/// The name under which a browser keeps the session that its page of sessions is shown with; see [`crate::account::page`].
pub const ACCOUNT: &str = "mcp_account";
/// The beginning of the name under which a browser keeps its secret of one sign-in.
const SIGN_IN: &str = "mcp_signin";
/// How much of a state goes into the name of its cookie: enough that two tabs never share one.
const TAG: usize = 8;

/// The name of the cookie of the sign-in that `state` names. Each has its own, so that two tabs do not undo each other,
/// and none is ever one that was there before.
pub fn of_sign_in(state: &str) -> String {
    format!("{SIGN_IN}_{}", state.get(..TAG).unwrap_or_default())
}

/// The secret that the browser sent under `name`, if it could be one of ours.
pub fn secret<'a>(app: &App, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let name = full_name(app, name);
    cookies(headers, &name).find(|value| random::is_secret(value))
}

/// The session token that the browser sent under `name`, if it could be one.
pub fn token(app: &App, headers: &HeaderMap, name: &str) -> Option<SessionToken> {
    let name = full_name(app, name);
    cookies(headers, &name).find_map(SessionToken::parse)
}

/// Gives the browser a cookie for `max_age` seconds; takes it away where that is 0.
pub fn set(
    app: &App,
    response: &mut Response<Body>,
    name: &str,
    value: &str,
    max_age: u32,
) -> Result<(), Fault> {
    let name = full_name(app, name);
    let secure = if app.public_url.is_https() { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(Fault::internal)?;
    cookie.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(())
}

fn full_name(app: &App, name: &str) -> String {
    // The session cookie's name is part of the HTTP contract. So a sibling subdomain can plant one, and have the browser act
    // as somebody else; MCP_COOKIE_DOOR is shut unless the operator opens it.
    let prefix =
        if app.public_url.is_https() && name != crate::credentials::SESSION_COOKIE { "__Host-" } else { "" };
    format!("{prefix}{name}")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::{app::tests::app, respond};

    #[test]
    fn over_tls_no_other_host_can_plant_one() {
        let app = app(&[("MCP_PUBLIC_URL", "https://mcp.example.com")]);
        let mut response = respond::empty(StatusCode::OK);
        set(&app, &mut response, BROWSER, "x", 600).unwrap();
        assert_eq!(
            response.headers()["set-cookie"],
            "__Host-mcp_browser=x; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(response.headers()["set-cookie"].is_sensitive(), "it does not print");
        // Of the session's the contract has the name.
        let mut response = respond::empty(StatusCode::OK);
        set(&app, &mut response, crate::credentials::SESSION_COOKIE, "x", 600).unwrap();
        assert_eq!(
            response.headers()["set-cookie"],
            "mcp_session_id=x; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"
        );
        let value = "a".repeat(random::SECRET_LENGTH);
        for (cookie, found) in [
            (format!("__Host-mcp_browser={value}"), true),
            (format!("other=1; __Host-mcp_browser={value}"), true),
            (format!("mcp_browser={value}"), false),
            ("__Host-mcp_browser=short".to_owned(), false),
        ] {
            let headers = [(header::COOKIE, cookie.parse().unwrap())].into_iter().collect();
            assert_eq!(secret(&app, &headers, BROWSER).is_some(), found, "{cookie}");
        }
    }

    #[test]
    fn over_plain_http_it_is_kept_all_the_same() {
        // A browser takes neither `Secure` nor `__Host-` from there.
        let app = app(&[]);
        let mut response = respond::empty(StatusCode::OK);
        set(&app, &mut response, BROWSER, "x", 600).unwrap();
        set(&app, &mut response, crate::credentials::SESSION_COOKIE, "", 0).unwrap();
        let set: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(
            set,
            [
                "mcp_browser=x; Path=/; Max-Age=600; HttpOnly; SameSite=Lax",
                "mcp_session_id=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
            ]
        );
    }

    #[test]
    fn each_sign_in_has_a_cookie_of_its_own() {
        let (one, two) = (random::secret().unwrap(), random::secret().unwrap());
        assert_ne!(of_sign_in(&one), of_sign_in(&two));
        assert_eq!(of_sign_in(&one).len(), SIGN_IN.len() + 1 + TAG);
    }
}
