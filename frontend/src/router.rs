//! From a request to its answer, in one fixed order: OPTIONS → Host and Origin → the route.
//!
//! | route | methods | |
//! |---|---|---|
//! | `/mcp/v1`, `/mcp/v1/` | POST | the MCP endpoint |
//! | `/auth/init` | GET | begins a sign-in |
//! | `/auth/callback` | GET | ends it |
//! | `/auth/session` | GET | who am I, until when |
//! | `/auth/logout` | POST | ends this session |
//! | `/auth/sessions` | GET, POST, DELETE | my sessions; the buttons of their page; ends all others |
//! | `/auth/sessions/{id}` | DELETE | ends one |
//! | `/authorize` | GET, POST | sends a browser for a code; the consent page's answer |
//! | `/token` | POST | codes and refresh tokens become access tokens |
//! | `/register` | POST | a client registers itself |
//! | `/revoke` | POST | a client gives back what it was granted |
//! | `/.well-known/oauth-protected-resource`, `…/mcp/v1` | GET | protected resource metadata |
//! | `/.well-known/oauth-authorization-server`, `…/mcp/v1` | GET | authorization server metadata |
//! | `/healthz` | GET | 200 while the process serves |
//! | `/assets/style.css`, `/assets/copy.js`, `/assets/icon.svg` | GET | what the pages load |
//!
//! Paths are compared as they came: no decoding, no normalising, nothing to disagree about with a proxy.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::{
    accept, account,
    app::{App, Peer},
    authorization_server::{authorize, metadata, register, revoke, token},
    cookie, cors,
    credentials::{self, Credential},
    database,
    error::{Challenge, Fault, Kind},
    idp, mcp,
    pages::{self, WayOn},
    respond::{self, Body},
    sign_in,
};

/// The header under which an answer names its own log line.
const REQUEST_ID: &str = "x-request-id";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Mcp,
    Init,
    Callback,
    Session,
    Logout,
    Sessions,
    OneSession(&'a str),
    Authorize,
    Token,
    Register,
    Revoke,
    ResourceMetadata,
    ServerMetadata,
    Health,
    Style,
    Script,
    Icon,
    Nothing,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        match path {
            "/mcp/v1" | "/mcp/v1/" => Self::Mcp,
            "/auth/init" => Self::Init,
            idp::CALLBACK_PATH => Self::Callback,
            "/auth/session" => Self::Session,
            "/auth/logout" => Self::Logout,
            account::page::PATH => Self::Sessions,
            authorize::PATH => Self::Authorize,
            metadata::TOKEN_PATH => Self::Token,
            metadata::REGISTER_PATH => Self::Register,
            metadata::REVOKE_PATH => Self::Revoke,
            metadata::SERVER_PATH | metadata::MCP_SERVER_PATH => Self::ServerMetadata,
            metadata::RESOURCE_PATH | metadata::MCP_RESOURCE_PATH => Self::ResourceMetadata,
            "/healthz" => Self::Health,
            pages::STYLE_PATH => Self::Style,
            pages::SCRIPT_PATH => Self::Script,
            pages::ICON_PATH => Self::Icon,
            _ => match path.strip_prefix("/auth/sessions/") {
                Some(id) if !id.is_empty() && !id.contains('/') => Self::OneSession(id),
                _ => Self::Nothing,
            },
        }
    }

    /// Whether browsers come here with a person before them, who is answered with a page.
    fn is_for_people(self) -> bool {
        !matches!(self, Self::Mcp | Self::Token | Self::Register | Self::Revoke)
    }

    /// Where whoever was refused here goes on.
    fn way_on(self) -> WayOn {
        match self {
            Self::Authorize => WayOn::Application,
            Self::Sessions => WayOn::Sessions,
            Self::Nothing => WayOn::Anywhere,
            _ => WayOn::SignIn,
        }
    }

    /// The label on metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Init => "auth_init",
            Self::Callback => "auth_callback",
            Self::Session => "auth_session",
            Self::Logout => "auth_logout",
            Self::Sessions | Self::OneSession(_) => "auth_sessions",
            Self::Authorize => "authorize",
            Self::Token => "token",
            Self::Register => "register",
            Self::Revoke => "revoke",
            Self::ResourceMetadata => "resource_metadata",
            Self::ServerMetadata => "server_metadata",
            Self::Health => "health",
            Self::Style | Self::Script | Self::Icon => "assets",
            Self::Nothing => "none",
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Mcp | Self::Logout | Self::Token | Self::Register | Self::Revoke => "POST, OPTIONS",
            Self::Authorize => "GET, POST, OPTIONS",
            Self::Sessions => "GET, POST, DELETE, OPTIONS",
            Self::OneSession(_) => "DELETE, OPTIONS",
            _ => "GET, OPTIONS",
        }
    }
}

/// Answers a request, whatever happens, and logs one line about it.
pub async fn handle(app: &App, mut peer: Peer, request: Request<Incoming>) -> Response<Body> {
    peer.address.set_ip(app.proxies.client(peer.address, request.headers()));
    let path = request.uri().path().to_owned();
    let route = Route::of(&path);
    let credential = credentials::extract(request.headers(), app.cookie_door);
    let mut line = AccessLine {
        app,
        route: route.name(),
        method: request.method().clone(),
        path: &path,
        peer: &peer,
        id: request_id(),
        // The public part of the token, before anybody knows whether it holds.
        session: match &credential {
            Ok(Some(Credential::Token(token))) => token.session_id(),
            _ => None,
        },
        begun: Instant::now(),
        status: None,
        fault: None,
    };
    let presented = matches!(credential, Ok(Some(Credential::Token(_))))
        || (route == Route::Sessions && cookie::token(app, request.headers(), cookie::ACCOUNT).is_some());
    let has_cookie = app.cookie_door
        && credentials::cookies(request.headers(), credentials::SESSION_COOKIE).next().is_some();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let html = accept::prefers_html(request.headers()) && route.is_for_people();

    let answering = answer(app, &peer, route, request, credential, presented, &line.id);
    let answered = contained(answering).await;
    let mut response = answered.unwrap_or_else(|fault| refuse(app, route, fault, html, &line.id));
    line.fault = response.extensions_mut().remove::<Arc<Fault>>();
    line.status = Some(response.status());
    if line.fault.as_ref().is_some_and(|fault| fault.challenge == Some(Challenge::InvalidToken)) {
        if presented {
            app.refused_limit.refused(peer.address.ip());
        }
        // A session ends long before its cookie, and every request would be refused until then.
        if has_cookie && let Err(fault) = sign_in::forget_session(app, &mut response) {
            tracing::error!(%fault, "cannot take a cookie away");
        }
    }
    cors::expose(&app.gate, origin.as_ref(), &mut response);
    respond::harden(&mut response, app.public_url.is_https());
    if let Ok(id) = HeaderValue::from_str(&line.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A panic ends its request and nothing else. What it says may be anything, and goes nowhere.
async fn contained<T>(answering: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|_| Err(Fault::internal("the request panicked")))
}

async fn answer(
    app: &App,
    peer: &Peer,
    route: Route<'_>,
    request: Request<Incoming>,
    credential: Result<Option<Credential>, credentials::CredentialFault>,
    presented: bool,
    request_id: &str,
) -> Result<Response<Body>, Fault> {
    if request.method() == Method::OPTIONS && route != Route::Nothing {
        return Ok(cors::preflight(&app.gate, request.headers(), route.methods()));
    }
    app.gate.check(request.uri(), request.headers())?;
    if presented {
        app.refused_limit.admit(peer.address.ip())?;
    }
    let method = request.method().clone();
    // Each route's future is boxed: a connection keeps room for the largest of them while it is idle.
    match (route, method.as_str()) {
        (Route::Mcp, method) => {
            let credential = credential?.ok_or_else(Fault::no_credential)?;
            if method != "POST" {
                return Ok(not_allowed(app, route, request_id));
            }
            Ok(Box::pin(app.mcp.post(request, credential, request_id, &app.metadata_url)).await)
        }
        (Route::Init, "GET") => Box::pin(sign_in::init(app, peer, &request.into_parts().0)).await,
        (Route::Callback, "GET") => Box::pin(sign_in::callback(app, &request.into_parts().0, peer)).await,
        (Route::Session, "GET") => Box::pin(account::session(app, credential?)).await,
        (Route::Logout, "POST") => Box::pin(account::logout(app, credential?)).await,
        (Route::Sessions, "GET") if accept::prefers_html(request.headers()) => {
            Box::pin(account::page::get(app, peer, &request.into_parts().0, credential?)).await
        }
        (Route::Sessions, "GET") => Box::pin(account::list(app, credential?)).await,
        (Route::Sessions, "POST") => Box::pin(account::page::post(app, request, credential?)).await,
        (Route::Sessions, "DELETE") => Box::pin(account::end_others(app, credential?)).await,
        (Route::OneSession(id), "DELETE") => Box::pin(account::end(app, credential?, id)).await,
        (Route::Authorize, "GET") => Box::pin(authorize::get(app, peer, &request.into_parts().0)).await,
        (Route::Authorize, "POST") => Box::pin(authorize::post(app, peer, request)).await,
        (Route::Token, "POST") => Box::pin(token::post(app, peer, request)).await,
        (Route::Register, "POST") => Box::pin(register::post(app, peer, request)).await,
        (Route::Revoke, "POST") => Box::pin(revoke::post(app, peer, request)).await,
        (Route::ServerMetadata, "GET" | "HEAD") => Ok(metadata::authorization_server(app)),
        (Route::ResourceMetadata, "GET" | "HEAD") => Ok(metadata::protected_resource(app)),
        (Route::Health, "GET" | "HEAD") => Ok(respond::text(StatusCode::OK, "ok\n")),
        (Route::Style, "GET" | "HEAD") => Ok(pages::style()),
        (Route::Script, "GET" | "HEAD") => Ok(pages::script()),
        (Route::Icon, "GET" | "HEAD") => Ok(pages::icon()),
        (Route::Nothing, _) => {
            Err(Fault::client(StatusCode::NOT_FOUND, "not_found", "There is nothing at this address."))
        }
        _ => Ok(not_allowed(app, route, request_id)),
    }
}

fn not_allowed(app: &App, route: Route<'_>, request_id: &str) -> Response<Body> {
    let fault = Fault::client(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("This address takes {}.", route.methods()),
    );
    let mut response = refuse(app, route, fault, false, request_id);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.methods()));
    response
}

/// The answer to a fault: JSON-RPC on the MCP endpoint, a page for browsers, OAuth's JSON otherwise.
fn refuse(app: &App, route: Route<'_>, fault: Fault, html: bool, request_id: &str) -> Response<Body> {
    if route == Route::Mcp {
        return mcp::refuse(fault, request_id, &app.metadata_url);
    }
    let mut response = fault.to_response(html.then(|| route.way_on()), request_id, &app.metadata_url);
    response.extensions_mut().insert(Arc::new(fault));
    response
}

/// A name for this request, ours alone: one that a client chose could name another's.
///
/// Random for the process and counted within it: asking the system for a random number each time is a system
/// call a request.
fn request_id() -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().simple().to_string()[..16].to_owned());
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{}-{:x}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// One line of the access log, written when the answer is ready or nobody waits for it any more.
struct AccessLine<'a> {
    app: &'a App,
    route: &'static str,
    method: Method,
    path: &'a str,
    peer: &'a Peer,
    id: String,
    session: Option<Uuid>,
    begun: Instant,
    status: Option<StatusCode>,
    fault: Option<Arc<Fault>>,
}

impl Drop for AccessLine<'_> {
    fn drop(&mut self) {
        // nginx's number for a client that closed the connection first.
        let status = self.status.map_or(499, |status| status.as_u16());
        let elapsed = self.begun.elapsed();
        self.app.metrics.answered(self.route, status, elapsed);
        let fault = self.fault.as_deref();
        if let Some(fault) = fault {
            self.app.metrics.failed(fault.kind, fault.code);
            report(fault, &self.id);
        }
        tracing::info!(
            target: "access",
            request_id = self.id,
            peer = %self.peer.address,
            method = %self.method,
            path = self.path,
            status,
            ms = %format_args!("{:.3}", elapsed.as_secs_f64() * 1e3),
            session = self.session.map(tracing::field::display),
            error = fault.map(|fault| fault.code),
        );
    }
}

/// What only the log is told of a fault: loud where it is ours, quiet where it is the client's.
fn report(fault: &Fault, request_id: &str) {
    let cause = fault.internal.as_deref().map(|internal| database::chain(internal)).unwrap_or_default();
    match fault.kind {
        Kind::Server => tracing::error!(request_id, error = fault.code, cause, "{}", fault.public),
        Kind::Database | Kind::Provider | Kind::Overload => {
            tracing::warn!(request_id, error = fault.code, cause, "{}", fault.public);
        }
        Kind::Client | Kind::Session => {
            tracing::debug!(request_id, error = fault.code, cause, "{}", fault.public);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_request_alone() {
        let fault = contained::<()>(async { panic!("something secret") }).await.unwrap_err();
        assert_eq!(fault.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
    }

    #[test]
    fn programs_are_answered_as_programs() {
        for path in ["/mcp/v1", "/token", "/register", "/revoke"] {
            assert!(!Route::of(path).is_for_people(), "{path}");
        }
        assert!(Route::of("/authorize").is_for_people());
    }

    #[test]
    fn whoever_was_refused_goes_on_where_they_came_from() {
        for (path, way_on) in [
            ("/authorize", WayOn::Application),
            ("/auth/sessions", WayOn::Sessions),
            ("/nothing", WayOn::Anywhere),
            ("/auth/init", WayOn::SignIn),
            ("/auth/callback", WayOn::SignIn),
        ] {
            assert_eq!(Route::of(path).way_on(), way_on, "{path}");
        }
    }

    #[test]
    fn each_address_says_what_it_takes() {
        for (path, methods) in [
            ("/mcp/v1", "POST, OPTIONS"),
            ("/auth/sessions", "GET, POST, DELETE, OPTIONS"),
            ("/auth/sessions/x", "DELETE, OPTIONS"),
            ("/authorize", "GET, POST, OPTIONS"),
            ("/healthz", "GET, OPTIONS"),
        ] {
            assert_eq!(Route::of(path).methods(), methods, "{path}");
        }
    }

    #[test]
    fn each_request_has_a_name_of_its_own() {
        let (one, two) = (request_id(), request_id());
        assert_ne!(one, two);
        assert_eq!(one.split_once('-').map(|(process, _)| process.len()), Some(16), "{one}");
    }

    #[test]
    fn paths_are_compared_as_they_came() {
        for (path, route) in [
            ("/mcp/v1", Route::Mcp),
            ("/mcp/v1/", Route::Mcp),
            ("/auth/sessions", Route::Sessions),
            ("/auth/sessions/x", Route::OneSession("x")),
            ("/.well-known/oauth-protected-resource", Route::ResourceMetadata),
            ("/.well-known/oauth-protected-resource/mcp/v1", Route::ResourceMetadata),
            ("/authorize", Route::Authorize),
            ("/token", Route::Token),
            ("/.well-known/oauth-authorization-server", Route::ServerMetadata),
            ("/healthz", Route::Health),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
        for path in [
            "/",
            "//mcp/v1",
            "/mcp/v1//",
            "/mcp/v1;a",
            "/mcp/%761",
            "/MCP/v1",
            "/mcp/v1/../v1",
            "/healthz/",
            "/auth/sessions/",
            "/auth/sessions/x/y",
            "/auth/session/",
            "/token/",
            "/authorize;x",
            "/.well-known/oauth-authorization-server/",
        ] {
            assert_eq!(Route::of(path), Route::Nothing, "{path}");
        }
    }
}
