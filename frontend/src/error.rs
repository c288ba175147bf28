//! What can go wrong with a request: whose fault it is, which status it gets, what the client is told and
//! what only the log is told.
//!
//! | SQLSTATE | status | code |
//! |---|---|---|
//! | none: the connection failed or broke | 503 | `database_unavailable` |
//! | 08, 25 (a server that only reads), 53, 57P, 58 | 503 | `database_unavailable` |
//! | 40 (serialization, deadlock) | 503 | `database_busy` |
//! | 57014, 55P03 (cancelled, lock timeout) | 503 | `deadline_exceeded` |
//! | 28, 3D, 3F, 42, 55, F0 (login, database, schema, function, privilege, set-up) | 503 | `database_not_ready` |
//! | anything else | 500 | `internal_error` |
//!
//! A tool's own errors never come here: the extension answers them as results.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::{
    credentials::CredentialFault,
    database::DatabaseError,
    gate::Refused,
    pages::{self, WayOn},
    query::QueryFault,
    respond::{self, Body},
    scope::BASE as BASE_SCOPE,
    sessions::Refusal,
};

/// Whose fault it is: the label on metrics and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong.
    Client,
    /// The session does not hold, or not for this.
    Session,
    /// The identity provider failed.
    Provider,
    /// The database is down, slow or not set up.
    Database,
    /// This server has more to do than it can.
    Overload,
    /// This server is wrong.
    Server,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Session => "session",
            Self::Provider => "provider",
            Self::Database => "database",
            Self::Overload => "overload",
            Self::Server => "server",
        }
    }
}

/// What a 401 or 403 tells the client in `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// No credential was presented: no `error`, as RFC 6750 §3.1 has it.
    Missing,
    /// The credential does not hold.
    InvalidToken,
    /// The session lacks a scope; the text is the whole set that is needed.
    InsufficientScope(String),
    /// An OAuth client presented credentials that it does not have.
    Basic,
}

impl Challenge {
    /// The header value; `Bearer` comes first and every value is quoted, which is all that clients parse.
    pub fn header(&self, metadata_url: &str) -> HeaderValue {
        let metadata = format!("resource_metadata=\"{metadata_url}\"");
        let value = match self {
            Self::Missing => format!("Bearer {metadata}, scope=\"{BASE_SCOPE}\""),
            Self::InvalidToken => {
                format!("Bearer error=\"invalid_token\", {metadata}, scope=\"{BASE_SCOPE}\"")
            }
            Self::InsufficientScope(scope) => {
                format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\", {metadata}")
            }
            Self::Basic => "Basic realm=\"token\", charset=\"UTF-8\"".to_owned(),
        };
        // A scope comes from the database, whose owner can set its checks aside.
        HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    pub status: StatusCode,
    /// A word for programs: OAuth's where it has one.
    pub code: &'static str,
    /// A sentence for people, safe to show to anybody.
    pub public: Cow<'static, str>,
    /// For the log alone.
    pub internal: Option<Arc<dyn Error + Send + Sync>>,
    pub challenge: Option<Challenge>,
    /// Which verdict on a session token stands behind a 401.
    pub reason: Option<&'static str>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
}

/// The shape of every error body that is no JSON-RPC message.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    request_id: &'a str,
}

impl Fault {
    fn new(kind: Kind, status: StatusCode, code: &'static str, public: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            status,
            code,
            public: public.into(),
            internal: None,
            challenge: None,
            reason: None,
            retry_after: None,
        }
    }

    /// 400: the request cannot be meant as it was sent.
    pub fn invalid_request(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Client, StatusCode::BAD_REQUEST, "invalid_request", public)
    }

    /// A client's fault with a status of its own.
    pub fn client(status: StatusCode, code: &'static str, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Client, status, code, public)
    }

    /// 429: come back after this many seconds.
    pub fn too_many_requests(seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(
                Kind::Client,
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "There were too many requests of this kind from your address: wait a moment.",
            )
        }
    }

    /// Adds the challenge that goes with a client's failed Basic authentication (RFC 6749 §5.2).
    pub fn basic(self) -> Self {
        Self { challenge: Some(Challenge::Basic), ..self }
    }

    /// 401 without `error`: who are you?
    pub fn no_credential() -> Self {
        Self {
            challenge: Some(Challenge::Missing),
            ..Self::new(
                Kind::Session,
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Sign in first: the request carries no session token.",
            )
        }
    }

    /// An identity provider that failed us.
    pub fn provider(status: StatusCode, code: &'static str, public: impl Into<Cow<'static, str>>) -> Self {
        let retry_after = status == StatusCode::SERVICE_UNAVAILABLE;
        Self { retry_after: retry_after.then_some(5), ..Self::new(Kind::Provider, status, code, public) }
    }

    /// 503: the deadline of the request passed.
    pub fn deadline() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                Kind::Database,
                StatusCode::SERVICE_UNAVAILABLE,
                "deadline_exceeded",
                "The request took longer than it may and was cancelled.",
            )
        }
    }

    /// 500: a defect of this server.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            internal: Some(Arc::from(source.into())),
            ..Self::new(
                Kind::Server,
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "The server failed; its log tells more under the request id.",
            )
        }
    }

    /// Adds what only the log is told.
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { internal: Some(Arc::from(source.into())), ..self }
    }

    /// The answer to a program (JSON), or to a browser a page that says where to go on.
    pub fn to_response(&self, page: Option<WayOn>, request_id: &str, metadata_url: &str) -> Response<Body> {
        let mut response = if let Some(way_on) = page {
            respond::html(self.status, pages::error(self, way_on, request_id))
        } else {
            let body = ErrorBody {
                error: self.code,
                error_description: &self.public,
                reason: self.reason,
                request_id,
            };
            respond::json(self.status, &body)
        };
        self.decorate(&mut response, metadata_url);
        response
    }

    /// Adds the headers that go with the status, whatever the body is.
    pub fn decorate(&self, response: &mut Response<Body>, metadata_url: &str) {
        let headers = response.headers_mut();
        if let Some(challenge) = &self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.header(metadata_url));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.public)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.internal.as_deref().map(|source| source as _)
    }
}

impl From<CredentialFault> for Fault {
    fn from(fault: CredentialFault) -> Self {
        Self::invalid_request(format!("Send one session token, once: {fault}."))
    }
}

impl From<QueryFault> for Fault {
    fn from(fault: QueryFault) -> Self {
        Self::invalid_request(format!("The request cannot be read: {fault}."))
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoHost => Self::invalid_request("The request has no single, well-formed Host header."),
            Refused::Host => Self::client(
                StatusCode::FORBIDDEN,
                "host_not_allowed",
                "This server does not answer for that host; MCP_ALLOWED_HOSTS lists the ones it answers for.",
            ),
            Refused::Origin => Self::client(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "Pages of that origin may not call this server; MCP_ALLOWED_ORIGINS lists the ones that may.",
            ),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (reason, public) = match &refusal {
            Refusal::Unknown => ("unknown", "The session token is unknown: sign in."),
            Refusal::Expired => ("expired", "The session has expired: sign in again."),
            Refusal::Revoked => ("revoked", "The session was revoked: sign in again."),
            Refusal::WrongResource => {
                ("wrong_resource", "The session token was issued for another resource: sign in here.")
            }
            Refusal::InsufficientScope(scope) => {
                return Self {
                    challenge: Some(Challenge::InsufficientScope(scope.clone())),
                    ..Self::new(
                        Kind::Session,
                        StatusCode::FORBIDDEN,
                        "insufficient_scope",
                        format!("The session lacks a scope: this needs {scope:?}."),
                    )
                };
            }
        };
        Self {
            challenge: Some(Challenge::InvalidToken),
            reason: Some(reason),
            ..Self::new(Kind::Session, StatusCode::UNAUTHORIZED, "invalid_token", public)
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        let fault = |kind, status, code, public, retry_after| Self {
            retry_after,
            ..Self::new(kind, status, code, public)
        };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let this = match &error {
            DatabaseError::Exhausted => fault(
                Kind::Overload,
                unavailable,
                "overloaded",
                "Every database connection is busy: try again shortly.",
                Some(1),
            ),
            DatabaseError::Deadline => Self::deadline(),
            DatabaseError::Connect(_) => down(),
            DatabaseError::Query(source) => match source.code().map(|state| state.code()) {
                None => down(),
                Some(state) => by_sqlstate(state),
            },
            DatabaseError::Answer(_) => return Self::internal(error),
        };
        this.because(error)
    }
}

/// The published table, in code.
fn by_sqlstate(state: &str) -> Fault {
    let slow = |code, public| Fault {
        retry_after: Some(1),
        ..Fault::new(Kind::Database, StatusCode::SERVICE_UNAVAILABLE, code, public)
    };
    match (state, state.get(..2).unwrap_or_default()) {
        ("57014" | "55P03", _) => Fault::deadline(),
        (_, "08" | "25" | "53" | "57" | "58") => down(),
        (_, "40") => slow("database_busy", "The database could not finish: try again."),
        (_, "28" | "3D" | "3F" | "42" | "55" | "F0") => Fault {
            retry_after: Some(30),
            ..slow(
                "database_not_ready",
                "The database is not set up for this server; its operator finds the cause in the log.",
            )
        },
        _ => Fault::internal("an SQLSTATE without a meaning here"),
    }
}

fn down() -> Fault {
    Fault {
        retry_after: Some(2),
        ..Fault::new(
            Kind::Database,
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "The database cannot be reached: try again shortly.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "https://h/.well-known/oauth-protected-resource/mcp/v1";

    #[test]
    fn sqlstates_map_to_statuses() {
        for (state, status, code) in [
            ("08006", 503, "database_unavailable"),
            ("25006", 503, "database_unavailable"),
            ("53300", 503, "database_unavailable"),
            ("57P01", 503, "database_unavailable"),
            ("57P03", 503, "database_unavailable"),
            ("58030", 503, "database_unavailable"),
            ("57014", 503, "deadline_exceeded"),
            ("55P03", 503, "deadline_exceeded"),
            ("40001", 503, "database_busy"),
            ("40P01", 503, "database_busy"),
            ("28P01", 503, "database_not_ready"),
            ("3D000", 503, "database_not_ready"),
            ("42501", 503, "database_not_ready"),
            ("42883", 503, "database_not_ready"),
            ("55000", 503, "database_not_ready"),
            ("F0000", 503, "database_not_ready"),
            ("22023", 500, "internal_error"),
            ("XX000", 500, "internal_error"),
            ("", 500, "internal_error"),
        ] {
            let fault = by_sqlstate(state);
            assert_eq!((fault.status.as_u16(), fault.code), (status, code), "{state}");
            assert_eq!(fault.retry_after.is_some(), status == 503, "{state}");
        }
    }

    #[test]
    fn a_provider_is_asked_again_where_it_may_come_back() {
        for (status, comes_back) in [
            (StatusCode::SERVICE_UNAVAILABLE, true),
            (StatusCode::BAD_REQUEST, false),
            (StatusCode::FORBIDDEN, false),
        ] {
            let response = Fault::provider(status, "provider_error", "").to_response(None, "r1", METADATA);
            assert_eq!(response.headers().contains_key("retry-after"), comes_back, "{status}");
        }
    }

    #[test]
    fn whoever_is_to_come_back_is_told_when() {
        for (fault, seconds) in [
            (Fault::provider(StatusCode::SERVICE_UNAVAILABLE, "provider_error", ""), 5),
            (Fault::deadline(), 1),
            (DatabaseError::Exhausted.into(), 1),
            (by_sqlstate("57014"), 1),
            (by_sqlstate("40001"), 1),
            (by_sqlstate("42501"), 30),
            (by_sqlstate("57P01"), 2),
        ] {
            let response = fault.to_response(None, "r1", METADATA);
            assert_eq!(response.headers()["retry-after"], seconds.to_string(), "{}", fault.code);
        }
    }

    #[test]
    fn challenges_read_as_clients_parse_them() {
        for (challenge, expected) in [
            (Challenge::Missing, format!("Bearer resource_metadata=\"{METADATA}\", scope=\"mcp\"")),
            (
                Challenge::InvalidToken,
                format!("Bearer error=\"invalid_token\", resource_metadata=\"{METADATA}\", scope=\"mcp\""),
            ),
            (
                Challenge::InsufficientScope("mcp notes:write".into()),
                format!(
                    "Bearer error=\"insufficient_scope\", scope=\"mcp notes:write\", \
                     resource_metadata=\"{METADATA}\""
                ),
            ),
            (Challenge::InsufficientScope("a\r\nSet-Cookie: x".into()), "Bearer".to_owned()),
        ] {
            assert_eq!(challenge.header(METADATA), expected);
        }
    }

    #[test]
    fn each_verdict_says_which_it_is() {
        for (refusal, status, reason) in [
            (Refusal::Unknown, 401, Some("unknown")),
            (Refusal::Expired, 401, Some("expired")),
            (Refusal::Revoked, 401, Some("revoked")),
            (Refusal::WrongResource, 401, Some("wrong_resource")),
            (Refusal::InsufficientScope("a b".into()), 403, None),
        ] {
            let fault = Fault::from(refusal);
            assert_eq!((fault.status.as_u16(), fault.reason), (status, reason));
            let response = fault.to_response(None, "r1", METADATA);
            assert!(response.headers().contains_key("www-authenticate"));
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn nothing_internal_reaches_the_client() {
        let fault = Fault::internal("relation secret_table does not exist");
        assert!(!fault.to_string().contains("secret_table"));
        let page = pages::error(&fault, WayOn::SignIn, "r1");
        assert!(!page.contains("secret_table") && page.contains("r1"), "{page}");
    }
}
