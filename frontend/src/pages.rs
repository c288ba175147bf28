//! The few pages for people: templates that escape, one style sheet, one script for the copy button.

use askama::Template;
use chrono::{DateTime, Utc};
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    error::{Fault, Kind},
    respond::{self, Body},
};

/// Where pages load their style sheet from.
pub const STYLE_PATH: &str = "/assets/style.css";
/// Where the page with the token loads its script from.
pub const SCRIPT_PATH: &str = "/assets/copy.js";
/// Where browsers load the icon of every page from.
pub const ICON_PATH: &str = "/assets/icon.svg";

/// The page at the end of a sign-in: the only place where the token is ever shown.
#[derive(Template)]
#[template(path = "signed_in.html")]
pub struct SignedIn<'a> {
    pub name: &'a str,
    pub token: &'a str,
    pub endpoint: &'a str,
    pub expires_at: String,
    /// Where the visitor wanted to go on to.
    pub next: Option<&'a str>,
}

/// Where somebody goes on whose request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOn {
    /// Back to the application that sent them here.
    Application,
    /// The page of their sessions.
    Sessions,
    /// To whatever they signed in for, which nobody knows any more.
    SignIn,
    /// To the pages there are.
    Anywhere,
    Nowhere,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    request_id: &'a str,
    way_on: WayOn,
    /// Whether the same request may succeed later.
    passes: bool,
}

/// The page of a fault: what the client is told, and the id under which the log tells more.
pub fn error(fault: &Fault, way_on: WayOn, request_id: &str) -> String {
    // Whoever came by the wrong name, or from a page that may not, finds nothing under links of the same kind.
    let is_refused = fault.status == StatusCode::FORBIDDEN && fault.kind == Kind::Client;
    render(&ErrorPage {
        status: fault.status.as_u16(),
        title: title(fault.status),
        message: &fault.public,
        request_id,
        way_on: if is_refused { WayOn::Nowhere } else { way_on },
        passes: fault.retry_after.is_some(),
    })
}

/// A page as text.
pub fn render(page: &impl Template) -> String {
    // Writing to a text fails only out of memory.
    page.render().unwrap_or_default()
}

/// An instant as people read it.
pub fn instant(instant: DateTime<Utc>) -> String {
    instant.format("%-d %B %Y, %H:%M UTC").to_string()
}

/// The same in less room, for lists.
pub fn short_instant(instant: DateTime<Utc>) -> String {
    instant.format("%-d %b %Y, %H:%M UTC").to_string()
}

/// The style sheet.
pub fn style() -> Response<Body> {
    asset("text/css; charset=utf-8", include_str!("pages/style.css"))
}

/// The script of the copy button.
pub fn script() -> Response<Body> {
    asset("text/javascript; charset=utf-8", include_str!("pages/copy.js"))
}

/// The icon.
pub fn icon() -> Response<Body> {
    asset("image/svg+xml", include_str!("pages/icon.svg"))
}

fn asset(media_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = respond::content(StatusCode::OK, media_type, text);
    let keep = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    response
}

fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "You are not signed in",
        403 => "That is not allowed",
        404 => "There is nothing here",
        405 => "That does not work here",
        429 => "Too many requests",
        400..500 => "That did not work",
        503 => "Please try again",
        _ => "Something went wrong",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let page = SignedIn {
            name: "<script>alert(1)</script>",
            token: "mcps_x",
            endpoint: "https://h/mcp/v1",
            expires_at: String::new(),
            next: Some("https://app.example.com/?a=\"><b>"),
        };
        let html = render(&page);
        assert!(!html.contains("<script>alert") && !html.contains("\"><b>"), "{html}");
        assert!(html.contains("mcps_x"));
        let fault = Fault::client(StatusCode::BAD_REQUEST, "x", "<b>");
        let html = error(&fault, WayOn::Nowhere, "<i>");
        assert!(!html.contains("<b>") && !html.contains("<i>"), "{html}");
    }

    #[test]
    fn whoever_may_not_come_is_shown_no_way_on() {
        let links = |fault: Fault, way_on| {
            let html = error(&fault, way_on, "r");
            let links = html.split("<a href=\"").skip(1).filter_map(|rest| rest.split_once("</a>"));
            links.map(|(link, _)| link.replace("\">", " ")).collect::<Vec<_>>()
        };
        let refused = Fault::client(StatusCode::FORBIDDEN, "x", "x");
        assert_eq!(links(refused, WayOn::Anywhere), Vec::<String>::new());
        // Whom the provider turned away may be somebody else the next time.
        let denied = Fault::provider(StatusCode::FORBIDDEN, "access_denied", "x");
        let both = ["/auth/init sign in for a session token", "/auth/sessions see your sessions"];
        assert_eq!(links(denied, WayOn::SignIn), both);
        let sign_in = ["/auth/sessions Sign in to see your sessions"];
        assert_eq!(links(Fault::no_credential(), WayOn::Sessions), sign_in);
        assert_eq!(links(Fault::too_many_requests(1), WayOn::Sessions), ["/auth/sessions Try again"]);
    }

    #[test]
    fn instants_are_written_as_people_read_them() {
        let at: DateTime<Utc> = "2026-11-04T09:05:59Z".parse().unwrap();
        assert_eq!(instant(at), "4 November 2026, 09:05 UTC");
        assert_eq!(short_instant(at), "4 Nov 2026, 09:05 UTC");
    }

    #[test]
    fn what_pages_load_may_be_kept() {
        for mut asset in [style(), script(), icon()] {
            respond::harden(&mut asset, true);
            assert_eq!(asset.headers()["cache-control"], "public, max-age=3600");
        }
    }

    #[test]
    fn no_page_carries_script_or_style_in_line() {
        let page = SignedIn { name: "", token: "", endpoint: "", expires_at: String::new(), next: None };
        for html in [render(&page), error(&Fault::no_credential(), WayOn::SignIn, "r")] {
            for forbidden in ["<style", "style=", "onclick", "javascript:"] {
                assert!(!html.contains(forbidden), "{forbidden} in {html}");
            }
            assert!(!html.contains("<script>"), "{html}");
        }
    }
}
