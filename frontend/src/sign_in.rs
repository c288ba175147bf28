//! `/auth/init` and `/auth/callback`: a person signs in, a session begins.
//!
//! Nothing of a sign-in under way is kept here. The browser holds the state in its URL and its own secret in
//! a cookie; the database holds the rest, sealed under the state. So a sign-in ends well on another replica,
//! and only in the browser that began it.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::{
    accept,
    account::page,
    app::{App, Peer},
    authorization_server::authorize,
    cookie,
    credentials::SESSION_COOKIE,
    database::DatabaseError,
    error::Fault,
    idp::{Incoming, Outgoing, Principal},
    mcp,
    pages::{self, SignedIn},
    query::Query,
    random,
    respond::{self, Body},
    scope,
    sessions::{CreatedSession, NewSession, SignIn},
};

/// How long the browser keeps the secret of a sign-in, in seconds; the database decides how long it is of use.
pub const COOKIE_MAX_AGE: u32 = 600;
/// The longest hint at who signs in that is passed on: as long as any address of mail.
pub const LONGEST_HINT: usize = 320;
const LONGEST_USER_AGENT: usize = 256;

/// What is kept of a sign-in between its two halves.
#[derive(Serialize, Deserialize)]
struct Pending {
    nonce: String,
    verifier: String,
    purpose: Purpose,
}

/// What somebody signs in for.
#[derive(Serialize, Deserialize)]
pub enum Purpose {
    /// A session token, to be carried to a client by hand.
    Token { scopes: Vec<String>, redirect_uri: Option<String> },
    /// An authorization code, for the client that asked.
    Code(Box<authorize::Request>),
    /// The page of one's own sessions.
    Sessions,
}

/// A sign-in under way.
pub struct Begun {
    /// Where the browser goes.
    pub url: Url,
    pub expires_at: DateTime<Utc>,
    cookie: String,
    browser: String,
}

impl Begun {
    /// Binds the sign-in to the browser that gets this response.
    pub fn remember(&self, app: &App, response: &mut Response<Body>) -> Result<(), Fault> {
        cookie::set(app, response, &self.cookie, &self.browser, COOKIE_MAX_AGE)
    }
}

/// Keeps what the callback will need, and says where the browser goes.
pub async fn begin(app: &App, purpose: Purpose, login_hint: Option<&str>) -> Result<Begun, Fault> {
    let pending = Pending { nonce: random::secret()?, verifier: random::secret()?, purpose };
    let (state, browser) = (random::secret()?, random::secret()?);
    let challenge = random::challenge(&pending.verifier);
    let outgoing = Outgoing { state: &state, nonce: &pending.nonce, challenge: &challenge, login_hint };
    let url = app.provider.authorization_url(&outgoing).await?;
    let payload = serde_json::to_value(&pending).map_err(Fault::internal)?;
    let expires_at = app.sessions.begin_sign_in(&state, &browser, &payload).await?;
    Ok(Begun { url, expires_at, cookie: cookie::of_sign_in(&state), browser })
}

/// `GET /auth/init`: begins a sign-in for a session token.
pub async fn init(app: &App, peer: &Peer, parts: &Parts) -> Result<Response<Body>, Fault> {
    app.authorization_server.sign_in_limit.check(peer.address.ip())?;
    let query = Query::of(&parts.uri);
    let login_hint = query.get("login_hint")?.filter(|hint| hint.len() <= LONGEST_HINT);
    let purpose = Purpose::Token {
        scopes: scopes(query.get("scope")?)?,
        redirect_uri: query.get("redirect_uri")?.map(|uri| redirect_target(app, uri)).transpose()?,
    };
    let begun = begin(app, purpose, login_hint).await?;
    let body = json!({"authorization_url": begun.url.as_str(), "expires_at": begun.expires_at});
    let mut response = redirect(StatusCode::FOUND, begun.url.as_str(), &body)?;
    begun.remember(app, &mut response)?;
    Ok(response)
}

/// `GET /auth/callback`: the browser is back; verifies everything, and gives what was signed in for.
pub async fn callback(app: &App, parts: &Parts, peer: &Peer) -> Result<Response<Body>, Fault> {
    let query = Query::of(&parts.uri);
    let (code, error, iss) = (query.get("code")?, query.get("error")?, query.get("iss")?);
    let state = query.get("state")?;
    let pending = resume(app, &parts.headers, state).await?;

    // From here on the sign-in is used up, whatever comes of it.
    let answered = match (code, error) {
        (Some(code), None) => {
            let incoming = Incoming { code, iss, nonce: &pending.nonce, verifier: &pending.verifier };
            app.provider.redeem(&incoming).await.map_err(Fault::from)
        }
        (None, Some(error)) => match app.provider.check_issuer(iss).await {
            Ok(()) => Err(provider_error(error)),
            Err(fault) => Err(fault.into()),
        },
        _ => Err(Fault::invalid_request("The provider sent neither a code nor an error.")),
    };
    let mut response = match (pending.purpose, answered) {
        (Purpose::Token { scopes, redirect_uri }, answered) => {
            begin_session(app, parts, peer, &answered?, &scopes, redirect_uri.as_deref()).await?
        }
        (Purpose::Sessions, answered) => page::open(app, parts, peer, &answered?).await?,
        (Purpose::Code(request), Ok(principal)) => {
            match request.grant(app, &parts.headers, peer, &principal).await {
                Ok(response) => response,
                Err(fault) => request.fail(app, fault)?,
            }
        }
        (Purpose::Code(request), Err(fault)) => request.fail(app, fault)?,
    };
    cookie::set(app, &mut response, &cookie::of_sign_in(state.unwrap_or_default()), "", 0)?;
    Ok(response)
}

async fn begin_session(
    app: &App,
    parts: &Parts,
    peer: &Peer,
    principal: &Principal,
    scopes: &[String],
    next: Option<&str>,
) -> Result<Response<Body>, Fault> {
    let session = app
        .sessions
        .create(&NewSession {
            issuer: &principal.issuer,
            subject: &principal.subject,
            oauth_data: Some(&principal.oauth_data),
            scopes,
            claims: &Value::Object(principal.claims.clone()),
            metadata: &origin_of(&parts.headers, peer),
            ttl: app.session_ttl,
            max_lifetime: None,
        })
        .await
        .map_err(|error| if error.is_refusal() { unkeepable(error) } else { error.into() })?;
    tracing::info!(session = %session.session_id, user = %session.user_id, "signed in");
    let mut response = welcome(app, &parts.headers, principal, &session, next)?;
    if app.cookie_door {
        let age = (session.absolute_expires_at - Utc::now()).num_seconds();
        let age = u32::try_from(age).unwrap_or(0);
        cookie::set(app, &mut response, SESSION_COOKIE, session.token.expose(), age)?;
    }
    Ok(response)
}

/// Takes the sign-in back that `state` names, if this browser began it.
async fn resume(app: &App, headers: &HeaderMap, state: Option<&str>) -> Result<Pending, Fault> {
    let bad = |code, public: &'static str| Fault::client(StatusCode::BAD_REQUEST, code, public);
    let unknown =
        || bad("unknown_sign_in", "This sign-in is unknown, or was finished before: start it again.");
    let foreign = || {
        bad(
            "wrong_browser",
            "This sign-in was begun in another browser, or was finished before: start it again here.",
        )
    };
    let state = state.filter(|state| random::is_secret(state)).ok_or_else(unknown)?;
    let browser = cookie::secret(app, headers, &cookie::of_sign_in(state)).ok_or_else(foreign)?;
    match app.sessions.finish_sign_in(state, browser).await? {
        SignIn::Ready(payload) => serde_json::from_value(payload).map_err(Fault::internal),
        SignIn::Unknown => Err(unknown()),
        SignIn::Expired => Err(bad("sign_in_expired", "This sign-in took too long: start it again.")),
        SignIn::WrongBrowser => Err(foreign()),
    }
}

/// The answer that carries the token: JSON to programs, a page to browsers, never a URL.
fn welcome(
    app: &App,
    headers: &HeaderMap,
    principal: &Principal,
    session: &CreatedSession,
    next: Option<&str>,
) -> Result<Response<Body>, Fault> {
    let mut body = json!({
        "success": true,
        "session_id": session.token.expose(),
        "token_type": "Bearer",
        "expires_at": session.expires_at,
        "absolute_expires_at": session.absolute_expires_at,
        "user": {
            "id": session.user_id,
            "issuer": principal.issuer,
            "subject": principal.subject,
            "email": principal.claim("email"),
            "name": principal.claim("name"),
        },
    });
    if let Some(next) = next {
        body["redirect_uri"] = next.into();
    }
    if !accept::prefers_html(headers) {
        return Ok(respond::json(StatusCode::OK, &body));
    }
    // With the cookie door open the browser is signed in already; otherwise it has to be given the token first.
    if let (Some(next), true) = (next, app.cookie_door) {
        return redirect(StatusCode::SEE_OTHER, next, &json!({"redirect_uri": next}));
    }
    let page = SignedIn {
        name: principal.claim("name").or(principal.claim("email")).unwrap_or_default(),
        token: session.token.expose(),
        endpoint: &app.public_url.join(mcp::PATH),
        expires_at: pages::instant(session.expires_at),
        next,
    };
    Ok(respond::html(StatusCode::OK, pages::render(&page)))
}

/// What a session tells its owner later: from where it was begun.
pub fn origin_of(headers: &HeaderMap, peer: &Peer) -> Value {
    let agent = headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let agent = agent.map(|agent| {
        agent.chars().filter(|letter| !letter.is_control()).take(LONGEST_USER_AGENT).collect::<String>()
    });
    json!({"ip": peer.address.ip().to_string(), "user_agent": agent})
}

/// The provider said no. Its own words are not shown: anybody can write them into the URL.
fn provider_error(error: &str) -> Fault {
    let fault = match error {
        "server_error" | "temporarily_unavailable" => Fault::provider(
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_unavailable",
            "The identity provider has a problem: try again in a moment.",
        ),
        "invalid_request" | "unauthorized_client" | "unsupported_response_type" | "invalid_scope" => {
            Fault::provider(
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_error",
                "The identity provider does not accept this server's requests: its operator has to look.",
            )
        }
        _ => Fault::provider(
            StatusCode::FORBIDDEN,
            "access_denied",
            "The identity provider did not sign you in.",
        ),
    };
    let word: String = error.chars().filter(|letter| letter.is_ascii_graphic()).take(64).collect();
    fault.because(format!("the provider answered {word:?}"))
}

/// The provider vouched for somebody of whom it says more, or other things, than can be kept.
pub fn unkeepable(error: DatabaseError) -> Fault {
    Fault::provider(
        StatusCode::SERVICE_UNAVAILABLE,
        "provider_error",
        "What the identity provider says of you cannot be kept: its operator has to send less.",
    )
    .because(error)
}

/// The scopes asked for, beside the one that every session has.
fn scopes(text: Option<&str>) -> Result<Vec<String>, Fault> {
    let invalid = || {
        let public = "scope must be names separated by single spaces.";
        Fault::client(StatusCode::BAD_REQUEST, "invalid_scope", public)
    };
    scope::parse(text.unwrap_or_default()).map(scope::with_base).ok_or_else(invalid)
}

/// Where a browser may be sent after the sign-in: a page of this server or of an allowed origin.
fn redirect_target(app: &App, text: &str) -> Result<String, Fault> {
    let refused = || {
        Fault::client(
            StatusCode::BAD_REQUEST,
            "invalid_redirect_uri",
            "redirect_uri must be a page of this server, or of an origin in MCP_ALLOWED_ORIGINS.",
        )
    };
    // Browsers read a backslash as a slash, and drop control characters: neither is in any honest URL.
    let odd = |byte: u8| byte == b'\\' || byte.is_ascii_control() || byte == b' ' || !byte.is_ascii();
    if text.bytes().any(odd) {
        return Err(refused());
    }
    if text.starts_with('/') && !text.starts_with("//") {
        return Ok(app.public_url.join(text));
    }
    let url = Url::parse(text).map_err(|_| refused())?;
    let origin = url.origin().ascii_serialization();
    let allowed = HeaderValue::from_str(&origin).is_ok_and(|origin| app.gate.allows_origin(&origin));
    // The text itself has to begin with the origin: no user name, no other spelling of it.
    let rest = text.strip_prefix(&origin).ok_or_else(refused)?;
    if !allowed || url.fragment().is_some() || !(rest.is_empty() || rest.starts_with(['/', '?'])) {
        return Err(refused());
    }
    Ok(text.to_owned())
}

/// Expires the session cookie of a browser that signed out, or whose session has ended.
pub fn forget_session(app: &App, response: &mut Response<Body>) -> Result<(), Fault> {
    cookie::set(app, response, SESSION_COOKIE, "", 0)
}

fn redirect(status: StatusCode, to: &str, body: &Value) -> Result<Response<Body>, Fault> {
    let mut response = respond::json(status, body);
    let location = HeaderValue::from_str(to).map_err(Fault::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::app;

    #[test]
    fn redirects_stay_with_this_server_and_its_friends() {
        let app = app(&[("MCP_ALLOWED_ORIGINS", "https://app.example.com,http://localhost:3000")]);
        for good in [
            "/",
            "/welcome?a=b",
            "http://127.0.0.1:8080/x",
            "https://app.example.com",
            "https://app.example.com/x?y=z",
            "http://localhost:3000/cb",
        ] {
            assert!(redirect_target(&app, good).is_ok(), "{good}");
        }
        assert_eq!(redirect_target(&app, "/x").unwrap(), "http://127.0.0.1:8080/x");
        for bad in [
            "",
            "x",
            "//evil.example.com",
            "/\\evil.example.com",
            "\\\\evil.example.com",
            "/\tevil",
            "/a b",
            "https://evil.example.com",
            "https://app.example.com.evil.example/x",
            "https://app.example.com@evil.example/x",
            "https://user@app.example.com/x",
            "https://app.example.com@app.example.com/x",
            "https://app.example.com:8443/x",
            "https://app.example.com:443/x",
            "http://app.example.com/x",
            "HTTPS://app.example.com/x",
            "https://app.example.com/x#y",
            "javascript:alert(1)",
            "data:text/html,x",
            "https:app.example.com",
            "https://app.example.com\u{2f}\u{2f}é",
        ] {
            assert!(redirect_target(&app, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_providers_words_are_not_shown() {
        for (error, status) in [
            ("access_denied", 403),
            ("user_not_found", 403),
            ("<script>", 403),
            ("server_error", 503),
            ("temporarily_unavailable", 503),
            ("invalid_scope", 503),
        ] {
            let fault = provider_error(error);
            assert_eq!(fault.status.as_u16(), status, "{error}");
            assert!(!fault.public.contains("<script>"));
        }
        let told = provider_error(&format!("a\u{202e} {}", "b".repeat(100))).internal.unwrap().to_string();
        assert_eq!(told, format!("the provider answered {:?}", format!("a{}", "b".repeat(63))));
    }

    #[test]
    fn of_a_browser_a_line_is_kept() {
        let agent = format!("a\tb\u{85}{}", "c".repeat(1000));
        let agent = HeaderValue::from_bytes(agent.as_bytes()).unwrap();
        let headers = [(header::USER_AGENT, agent)].into_iter().collect();
        let peer = Peer { address: "192.0.2.1:7".parse().unwrap() };
        let kept = format!("ab{}", "c".repeat(LONGEST_USER_AGENT - 2));
        assert_eq!(origin_of(&headers, &peer), json!({"ip": "192.0.2.1", "user_agent": kept}));
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;
    use crate::app::tests::app;

    proptest! {
        /// Wherever a browser is sent after signing in, the parser that browsers share puts it at an allowed origin.
        #[test]
        fn nobody_is_sent_elsewhere(
            start in "(|/|//|https?://|https://app\\.example\\.com|http://127\\.0\\.0\\.1:8080|javascript:|\\\\\\\\)",
            rest in "[ -~]{0,20}",
        ) {
            let app = app(&[("MCP_ALLOWED_ORIGINS", "https://app.example.com")]);
            if let Ok(target) = redirect_target(&app, &format!("{start}{rest}")) {
                let url = Url::parse(&target).unwrap();
                let origin = url.origin().ascii_serialization();
                prop_assert!(
                    ["https://app.example.com", app.public_url.origin()].contains(&origin.as_str()),
                    "{}", target
                );
                prop_assert!(url.username().is_empty() && url.password().is_none(), "{}", target);
            }
        }
    }
}
