//! The consent page: whom the visitor is about to let in, and whether the answer is the visitor's.
//!
//! This server is one client at the identity provider and stands for many, so it has to ask for each of them itself, before
//! the provider is involved (the confused deputy of MCP's security best practices). What makes an answer the visitor's own
//! is a token in the page, made with the secret in the browser's cookie over the very request that is consented to: a page
//! of somebody else's cannot know it, and one request's token is of no use for another.

use askama::Template;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    app::App,
    authorization_server::{
        authorize,
        client::{self, Client},
        redirect::RedirectUri,
    },
    csrf::{self, Purpose},
    pages,
    respond::{self, Body},
    scope,
};

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
    /// Where people end what they allow here.
    sessions: &'a str,
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
            sessions: app.page_sessions.resource(),
            action: authorize::PATH,
            parameters: self.parameters,
            token: csrf::token(Purpose::Consent, self.browser, self.request),
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

/// Whether the answer came from the page that this browser was shown for this request.
pub fn is_genuine(headers: &HeaderMap, browser: &str, request: &str, token: &str) -> bool {
    csrf::is_of_this_server(headers) && csrf::holds(Purpose::Consent, browser, request, token)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            sessions: "https://h/auth/sessions",
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
        // A name of another direction of writing turns nothing around it.
        assert_eq!(html.matches("<bdi>&#60;script&#62;alert(1)&#60;/script&#62;</bdi>").count(), 2, "{html}");
    }
}
