//! `/auth/sessions` in a browser: a person sees who acts in their name, and ends it.
//!
//! A browser has no session token to show. It signs in as for anything else, and keeps a session of its own in a cookie that
//! this page alone reads: made for this page's address as its resource (RFC 8707), without a scope, for minutes. Whoever
//! got hold of the cookie could not call a tool with it.
//!
//! The cookie is `SameSite=Lax`, not `Strict`: the page is reached by a redirect from the identity provider, on which
//! browsers would leave a strict one out. What changes anything is a POST, on which they leave out both.

use std::{net::IpAddr, time::Duration};

use askama::Template;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    app::{App, Peer},
    authorization_server::client::shown,
    cookie,
    credentials::{self, Credential},
    csrf,
    error::Fault,
    form,
    idp::Principal,
    mcp, pages,
    query::Query,
    respond::{self, Body},
    scope,
    sessions::{MySessions, NewSession, Refusal, Sessions, Verdict},
    sign_in::{self, Purpose},
    token::SessionToken,
    user_agent,
};

/// The address of the page, and the resource of the sessions that it is shown with.
pub const PATH: &str = "/auth/sessions";
/// How long the page may lie unused, and how long it may be used, before its visitor signs in again.
const TTL: Duration = Duration::from_secs(15 * 60);
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The same for the cookie.
const COOKIE_MAX_AGE: u32 = 60 * 60;
/// As much of an address or a scope as is shown.
const LONGEST: usize = 100;

/// Whoever looks at the page.
struct Visitor<'a> {
    token: SessionToken,
    /// The sessions of the resource that the token is for.
    sessions: &'a Sessions,
}

/// What has just been done, or has not.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    /// The session of this name.
    Ended(String),
    EndedBefore,
    /// How many others.
    EndedOthers(i64),
    /// The form could not be told from somebody else's.
    AskedAnew,
}

/// A session as the database tells of it.
#[derive(Deserialize)]
struct Entry {
    session_id: Uuid,
    client_id: Option<String>,
    resource: Option<String>,
    scopes: Option<Vec<String>>,
    metadata: Value,
    created_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    absolute_expires_at: DateTime<Utc>,
    current: Option<bool>,
}

/// A session as the page shows it.
struct Shown {
    id: Uuid,
    /// What the client calls itself, or what the session is instead of a client's.
    name: String,
    /// The host that publishes the client's metadata.
    publisher: Option<String>,
    /// Whether its name is the client's own word.
    is_client: bool,
    /// Device and address, as far as they are known.
    from: Vec<String>,
    scopes: Vec<String>,
    created: Instant,
    used: Instant,
    ends: Instant,
    /// Whether use moves the end.
    slides: bool,
}

/// An instant as people and as programs read it.
struct Instant {
    text: String,
    machine: String,
}

/// A notice as the page shows it.
struct Told {
    text: String,
    /// Whether it asks for attention, rather than confirming what was asked for.
    is_alert: bool,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct Page<'a> {
    user: &'a str,
    this: Option<Shown>,
    others: Vec<Shown>,
    notice: Option<Told>,
    action: &'a str,
    endpoint: &'a str,
    token: String,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOut<'a> {
    page: &'a str,
}

/// `GET /auth/sessions` of a browser: the page, or the way to it.
pub async fn get(
    app: &App,
    peer: &Peer,
    parts: &Parts,
    credential: Option<Credential>,
) -> Result<Response<Body>, Fault> {
    if credentials::is_presented(&parts.headers) {
        // What a program presents is answered, not replaced.
        let visitor = Visitor::of(app, &parts.headers, credential)?.ok_or_else(Fault::no_credential)?;
        return visitor.show(app, &visitor.mine().await?, None);
    }
    let address = peer.address.ip();
    app.authorization_server.sign_in_limit.check(address)?;
    // A browser cannot help what it sends: a cookie that does not hold is as good as none.
    let stale = credential.is_some();
    if let Some(Credential::Token(token)) = credential {
        let visitor = Visitor { token, sessions: &app.sessions };
        if let Some(page) = visitor.look(app, address).await? {
            return Ok(page);
        }
    }
    let page = match Visitor::of(app, &parts.headers, None)? {
        Some(visitor) => visitor.look(app, address).await?,
        None => None,
    };
    let mut response = match page {
        Some(page) => page,
        None => {
            let begun = sign_in::begin(app, Purpose::Sessions, None).await?;
            let mut response = respond::redirect(StatusCode::SEE_OTHER, begun.url.as_str())?;
            begun.remember(app, &mut response)?;
            response
        }
    };
    if stale {
        sign_in::forget_session(app, &mut response)?;
    }
    Ok(response)
}

/// The end of the sign-in that [`get`] began: a session for this page alone, and the page.
pub async fn open(
    app: &App,
    parts: &Parts,
    peer: &Peer,
    principal: &Principal,
) -> Result<Response<Body>, Fault> {
    let session = app
        .page_sessions
        .create(&NewSession {
            issuer: &principal.issuer,
            subject: &principal.subject,
            oauth_data: None,
            scopes: &[],
            claims: &json!({"name": principal.claim("name"), "email": principal.claim("email")}),
            metadata: &sign_in::origin_of(&parts.headers, peer),
            ttl: TTL,
            max_lifetime: Some(LIFETIME),
        })
        .await
        .map_err(|error| if error.is_refusal() { sign_in::unkeepable(error) } else { error.into() })?;
    // Never the one that was there before, which somebody may have planted.
    if let Some(before) = cookie::token(app, &parts.headers, cookie::ACCOUNT) {
        app.page_sessions.revoke(&before).await?;
    }
    tracing::info!(session = %session.session_id, user = %session.user_id, "opened the page of sessions");
    let mut response = respond::redirect(StatusCode::SEE_OTHER, PATH)?;
    cookie::set(app, &mut response, cookie::ACCOUNT, session.token.expose(), COOKIE_MAX_AGE)?;
    Ok(response)
}

/// `POST /auth/sessions`: one of the page's buttons.
pub async fn post(
    app: &App,
    request: Request<Incoming>,
    credential: Option<Credential>,
) -> Result<Response<Body>, Fault> {
    let (parts, body) = request.into_parts();
    let visitor = Visitor::of(app, &parts.headers, credential)?.ok_or_else(signed_out)?;
    let form = form::read(&parts.headers, body).await?;
    if !visitor.sent(&parts.headers, &form) {
        let mine = visitor.mine().await?;
        return visitor.show(app, &mine, Some(Notice::AskedAnew));
    }
    let notice = match form.get("action")? {
        Some("end") => {
            let id = form.get("session")?.and_then(|id| id.parse::<Uuid>().ok());
            let id = id.ok_or_else(|| Fault::invalid_request("The form names no session."))?;
            let before = entries(&visitor.mine().await?)?;
            let named = before.iter().find(|entry| entry.session_id == id).map(|entry| entry.name(app));
            match (visitor.sessions.end_session(&visitor.token, id).await??, named) {
                (true, name) => Notice::Ended(name.unwrap_or_default()),
                (false, _) => Notice::EndedBefore,
            }
        }
        Some("end_others") => {
            Notice::EndedOthers(visitor.sessions.end_other_sessions(&visitor.token).await??)
        }
        Some("sign_out") => return visitor.sign_out(app).await,
        _ => return Err(Fault::invalid_request("The form does not say what to do.")),
    };
    let mine = visitor.mine().await?;
    visitor.show(app, &mine, Some(notice))
}

impl<'a> Visitor<'a> {
    /// By the credential of the request, where it presents one, or else by the page's own cookie.
    fn of(app: &'a App, headers: &HeaderMap, credential: Option<Credential>) -> Result<Option<Self>, Fault> {
        Ok(match credential {
            Some(Credential::NotAToken) => return Err(Refusal::Unknown.into()),
            Some(Credential::Token(token)) => Some(Self { token, sessions: &app.sessions }),
            None => cookie::token(app, headers, cookie::ACCOUNT)
                .map(|token| Self { token, sessions: &app.page_sessions }),
        })
    }

    /// The page; `None` where the token does not hold, which counts as a guess.
    async fn look(&self, app: &App, address: IpAddr) -> Result<Option<Response<Body>>, Fault> {
        match self.sessions.my_sessions(&self.token).await? {
            Ok(mine) => self.show(app, &mine, None).map(Some),
            Err(_) => {
                app.refused_limit.refused(address);
                Ok(None)
            }
        }
    }

    async fn mine(&self) -> Result<MySessions, Fault> {
        let mine: Verdict<MySessions> = self.sessions.my_sessions(&self.token).await?;
        Ok(mine?)
    }

    /// Whether a form came from the page that this visitor was shown.
    fn sent(&self, headers: &HeaderMap, form: &Query) -> bool {
        let token = form.get("token").ok().flatten().unwrap_or_default();
        csrf::is_of_this_server(headers)
            && csrf::holds(csrf::Purpose::Sessions, self.token.expose(), "", token)
    }

    fn show(&self, app: &App, mine: &MySessions, notice: Option<Notice>) -> Result<Response<Body>, Fault> {
        let status = if notice == Some(Notice::AskedAnew) { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let (this, others): (Vec<_>, Vec<_>) =
            entries(mine)?.into_iter().partition(|entry| entry.current == Some(true));
        let claim = |name: &str| mine.claims.get(name).and_then(Value::as_str).map(shown);
        let user = match (claim("name"), claim("email")) {
            (Some(name), Some(email)) if name != email => format!("{name} ({email})"),
            (name, email) => name.or(email).unwrap_or_default(),
        };
        let page = Page {
            user: &user,
            this: this.into_iter().next().map(|entry| entry.show(app)),
            others: others.into_iter().map(|entry| entry.show(app)).collect(),
            notice: notice.map(Told::from),
            action: PATH,
            endpoint: &app.public_url.join(mcp::PATH),
            token: csrf::token(csrf::Purpose::Sessions, self.token.expose(), ""),
        };
        let mut response = respond::html(status, pages::render(&page));
        // Under `no-referrer` browsers post the form with `Origin: null`, which could be anybody's.
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        Ok(response)
    }

    async fn sign_out(&self, app: &App) -> Result<Response<Body>, Fault> {
        self.sessions.revoke(&self.token).await?;
        let mut response = respond::html(StatusCode::OK, pages::render(&SignedOut { page: PATH }));
        cookie::set(app, &mut response, cookie::ACCOUNT, "", 0)?;
        if app.cookie_door {
            sign_in::forget_session(app, &mut response)?;
        }
        Ok(response)
    }
}

/// The page was left open for longer than its session lasted.
fn signed_out() -> Fault {
    Fault {
        public: "You are signed out here by now, and nothing was done: sign in again.".into(),
        ..Fault::no_credential()
    }
}

fn entries(mine: &MySessions) -> Result<Vec<Entry>, Fault> {
    Vec::deserialize(&mine.sessions).map_err(Fault::internal)
}

impl Entry {
    fn metadata(&self, key: &str) -> Option<String> {
        let text = shown(self.metadata.get(key)?.as_str()?);
        (!text.is_empty()).then_some(text)
    }

    /// Whether it is one of this page's own.
    fn is_of_page(&self, app: &App) -> bool {
        self.resource.as_deref() == Some(app.page_sessions.resource())
    }

    fn name(&self, app: &App) -> String {
        match &self.client_id {
            _ if self.is_of_page(app) => "This page in a browser".to_owned(),
            None => "Token copied by hand".to_owned(),
            Some(_) => {
                self.metadata("client_name").unwrap_or_else(|| "An application without a name".to_owned())
            }
        }
    }

    fn show(self, app: &App) -> Shown {
        let device = self.metadata.get("user_agent").and_then(Value::as_str).map(user_agent::in_words);
        let from = [device.map(|device| shown(&device)), self.metadata("ip")];
        Shown {
            id: self.session_id,
            name: self.name(app),
            publisher: self
                .client_id
                .as_deref()
                .and_then(|id| id.strip_prefix("https://")?.split(['/', '?']).next())
                .map(short),
            is_client: self.client_id.is_some(),
            from: from.into_iter().flatten().filter(|text| !text.is_empty()).collect(),
            scopes: self
                .scopes
                .iter()
                .flatten()
                .filter(|scope| *scope != scope::BASE)
                .map(|scope| short(scope))
                .collect(),
            created: self.created_at.into(),
            used: self.last_used_at.into(),
            ends: self.expires_at.into(),
            slides: self.expires_at < self.absolute_expires_at,
        }
    }
}

impl From<Notice> for Told {
    fn from(notice: Notice) -> Self {
        let text = match &notice {
            Notice::Ended(name) => format!("Session of “{name}” ended"),
            Notice::EndedBefore => "That session had ended already".to_owned(),
            Notice::EndedOthers(0) => "There was no other session to end".to_owned(),
            Notice::EndedOthers(1) => "One other session ended".to_owned(),
            Notice::EndedOthers(number) => format!("{number} other sessions ended"),
            Notice::AskedAnew => "Nothing was ended: that did not come from this page".to_owned(),
        };
        Self { text, is_alert: notice == Notice::AskedAnew }
    }
}

impl From<DateTime<Utc>> for Instant {
    fn from(instant: DateTime<Utc>) -> Self {
        Self {
            text: pages::short_instant(instant),
            machine: instant.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::app;

    fn mine(app: &App) -> MySessions {
        let at = "2026-11-24T10:00:00.123456+00:00";
        let entry = |client: Option<&str>, resource: String, metadata: Value, current: bool| {
            json!({
                "session_id": Uuid::nil(), "client_id": client, "resource": resource, "scopes": ["mcp", "<u>", "s".repeat(200)],
                "metadata": metadata, "created_at": at, "last_used_at": at, "expires_at": at,
                "absolute_expires_at": at, "current": current,
            })
        };
        let (page, endpoint) = (app.page_sessions.resource(), app.sessions.resource());
        MySessions {
            sessions: json!([
                entry(None, page.to_owned(), json!({"ip": "192.0.2.1"}), true),
                entry(
                    Some("https://app.example.com/client.json"),
                    endpoint.to_owned(),
                    json!({"client_name": "<script>\u{202e}", "user_agent": "<i>\u{202e}", "ip": "\"><b>"}),
                    false
                ),
                entry(
                    Some(&format!("https://<q>{}", "p".repeat(200))),
                    endpoint.to_owned(),
                    json!({}),
                    false
                ),
                entry(None, endpoint.to_owned(), json!({"client_name": 7}), false),
                entry(Some("c"), endpoint.to_owned(), json!({"client_name": "\u{200b}"}), false),
                entry(None, page.to_owned(), json!({"user_agent": "", "ip": "192.0.2.2"}), false),
            ]),
            claims: json!({"name": "<s>\u{202e}"}),
        }
    }

    fn page(app: &App, mine: &MySessions, notice: Option<Notice>) -> String {
        use http_body_util::BodyExt;
        let token = SessionToken::parse(&crate::token::tests::token(&"a".repeat(22))).unwrap();
        let visitor = Visitor { token, sessions: &app.page_sessions };
        let body = visitor.show(app, mine, notice).unwrap().into_body();
        let bytes = futures_util::FutureExt::now_or_never(body.collect()).unwrap().unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_kind_of_session_has_a_name_and_nothing_breaks_out() {
        let app = app(&[]);
        let html = page(&app, &mine(&app), Some(Notice::Ended("<em>".into())));
        let long = ["p", "s"].map(|letter| letter.repeat(LONGEST + 1));
        for tag in
            ["<script", "<i>", "<b>", "<u>", "<s>", "<q>", "<em>", "\u{202e}", "mcps_", &long[0], &long[1]]
        {
            assert!(!html.contains(tag), "{tag} in {html}");
        }
        // What others wrote turns nothing around it.
        for isolated in ["<bdi>&#60;s&#62;</bdi>", "<bdi>&#60;script&#62;</bdi>"] {
            assert!(html.contains(isolated), "{isolated} not in {html}");
        }
        for name in ["Token copied by hand", "This page in a browser", "app.example.com", "192.0.2.1"] {
            assert!(html.contains(name), "{name} not in {html}");
        }
        assert_eq!(html.matches("An application without a name").count(), 2, "{html}");
        assert!(html.contains("<p class=\"from\">192.0.2.2</p>"), "an empty device is none: {html}");
        assert!(!html.contains("<code>mcp</code>"), "a scope that every session has says nothing: {html}");
        // Each of the five others has its form; so have all of them, and signing out.
        assert_eq!(html.matches("<form").count(), 7);
    }

    #[test]
    fn use_keeps_no_session_beyond_its_limit() {
        let app = app(&[]);
        let html = page(&app, &mine(&app), None);
        assert!(html.contains("<dt>Ends</dt>") && !html.contains("Ends unless used"), "{html}");
    }

    #[test]
    fn only_what_was_not_asked_for_alerts() {
        let app = app(&[]);
        for (notice, role, other) in
            [(Notice::EndedBefore, "status", "alert"), (Notice::AskedAnew, "alert", "status")]
        {
            let html = page(&app, &mine(&app), Some(notice));
            assert!(html.contains(&format!("role=\"{role}\"")), "{html}");
            assert!(!html.contains(&format!("role=\"{other}\"")), "{html}");
        }
    }

    #[test]
    fn a_name_that_is_the_address_is_said_once() {
        let app = app(&[]);
        for (name, user) in [("a@example.com", "a@example.com"), ("Ann", "Ann (a@example.com)")] {
            let mine = MySessions { claims: json!({"name": name, "email": "a@example.com"}), ..mine(&app) };
            let html = page(&app, &mine, None);
            assert!(html.contains(&format!("<bdi>{user}</bdi>")), "{html}");
        }
    }

    #[test]
    fn nobody_else_is_said_to_be_signed_in_where_nobody_is() {
        let app = app(&[]);
        let mut mine = mine(&app);
        mine.sessions.as_array_mut().unwrap().truncate(1);
        let html = page(&app, &mine, None);
        assert!(html.contains(&app.public_url.join(mcp::PATH)), "{html}");
        assert_eq!(html.matches("<form").count(), 1);
    }

    #[test]
    fn the_pages_session_holds_for_the_page_alone() {
        let app = app(&[]);
        assert_eq!(app.page_sessions.resource(), "http://127.0.0.1:8080/auth/sessions");
        assert_ne!(app.page_sessions.resource(), app.sessions.resource());
        assert!(TTL < LIFETIME && u64::from(COOKIE_MAX_AGE) <= LIFETIME.as_secs());
    }
}
