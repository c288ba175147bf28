//! The consent page: whom the visitor is about to let in, and whether the answer is the visitor's.
//!
//! This server is one client at the identity provider and stands for many, so it has to ask for each of them itself, before
//! the provider is involved (the confused deputy of MCP's security best practices). What makes an answer the visitor's own
//! is a token in the page, made with the secret in the browser's cookie over the very request that is consented to: a page
//! of somebody else's cannot know it, and one request's token is of no use for another.

use askama::Template;
use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    app::App,
    authorization_server::{
        authorize,
        client::{self, Client},
        redirect::RedirectUri,
    },
    pages,
    respond::{self, Body},
    scope,
};

/// Separates this use of the secret from any other.
const PURPOSE: &[u8] = b"mcp/v1/consent\0";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why the page is shown once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The answer could not be told from somebody else's.
    AskedAnew,
}

/// What the page asks.
pub struct Question<'a> {
    pub client: &'a Client,
    pub redirect: &'a RedirectUri<'a>,
    pub scopes: &'a [String],
    /// The request: its parameters, and all of them as one text.
    pub parameters: &'a [(&'static str, &'a str)],
    pub request: &'a str,
    pub browser: &'a str,
    pub notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct Page<'a> {
    name: &'a str,
    publisher: Option<&'a str>,
    redirect: &'a str,
    loopback: bool,
    private: bool,
    resource: &'a str,
    scopes: Vec<String>,
    action: &'a str,
    parameters: &'a [(&'static str, &'a str)],
    token: String,
    asked_anew: bool,
}

impl Question<'_> {
    /// The page.
    pub fn show(&self, app: &App) -> Response<Body> {
        let private = self.redirect.private_scheme();
        let page = Page {
            name: &self.client.name,
            publisher: self.client.publisher.as_deref(),
            redirect: self.redirect.host(),
            loopback: self.redirect.is_loopback(),
            private: private.is_some(),
            resource: app.sessions.resource(),
            scopes: self
                .scopes
                .iter()
                .filter(|scope| *scope != scope::BASE)
                .map(|scope| client::shown(scope))
                .collect(),
            action: authorize::PATH,
            parameters: self.parameters,
            token: token(self.browser, self.request),
            asked_anew: self.notice == Some(Notice::AskedAnew),
        };
        let status = if page.asked_anew { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let mut response = respond::html(status, pages::render(&page));
        let headers = response.headers_mut();
        // Browsers hold every redirect that follows the form to `form-action`: to the provider, to wherever that sends
        // people to sign in, and back to the client.
        let policy = respond::PAGE_POLICY.replace(
            "form-action 'self'",
            &format!(
                "form-action 'self' https: http:{}",
                private.map(|scheme| format!(" {scheme}:")).unwrap_or_default()
            ),
        );
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        // Under `no-referrer` browsers post the form with `Origin: null`, which could be anybody's.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }
}

/// What the page of this browser and this request carries.
fn token(browser: &str, request: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key(browser), &message(request)))
}

/// Whether `token` came from the page that this browser was shown for this request.
pub fn holds(browser: &str, request: &str, token: &str) -> bool {
    let Ok(token) = BASE64_URL_SAFE_NO_PAD.decode(token) else { return false };
    hmac::verify(&key(browser), &message(request), &token).is_ok()
}

/// Whether the browser, where it says so, posted from a page of this server's.
pub fn is_of_this_page(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin")
}

fn key(browser: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, browser.as_bytes())
}

fn message(request: &str) -> Vec<u8> {
    [PURPOSE, request.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn a_token_is_of_one_browser_and_one_request() {
        let (one, two) = (random::secret().unwrap(), random::secret().unwrap());
        let made = token(&one, "client_id=a");
        assert!(holds(&one, "client_id=a", &made));
        assert!(!holds(&two, "client_id=a", &made));
        assert!(!holds(&one, "client_id=b", &made));
        assert!(!holds(&one, "client_id=a&client_id=b", &made));
        for bad in ["", "x", &made[1..], &format!("{made}A"), &one] {
            assert!(!holds(&one, "client_id=a", bad), "{bad}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_not_ours() {
        for (site, expected) in [
            (None, true),
            (Some("same-origin"), true),
            (Some("same-site"), false),
            (Some("cross-site"), false),
            (Some("none"), false),
        ] {
            let headers = site.map(|site| (FETCH_SITE, HeaderValue::from_static(site))).into_iter().collect();
            assert_eq!(is_of_this_page(&headers), expected, "{site:?}");
        }
    }

    #[test]
    fn what_strangers_chose_is_escaped() {
        let page = Page {
            name: "<script>alert(1)</script>",
            publisher: Some("\"><b>"),
            redirect: "<i>",
            loopback: true,
            private: true,
            resource: "https://h/mcp/v1",
            scopes: vec!["<u>".into()],
            action: "/authorize",
            parameters: &[("state", "\"><form>")],
            token: String::new(),
            asked_anew: true,
        };
        let html = pages::render(&page);
        for tag in ["<script", "<b>", "<i>", "<u>", "\"><form>"] {
            assert!(!html.contains(tag), "{tag} in {html}");
        }
        assert_eq!(html.matches("<form").count(), 1);
    }
}
