//! The admin listener, for the platform and not for clients: no secrets, but not for the internet either.
//!
//! | route | |
//! |---|---|
//! | `/live` | 200 while the process serves |
//! | `/ready` | 200 while the database answers and has an extension that fits, or is busy; 503 with the reason otherwise |
//! | `/metrics` | Prometheus' text format |

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tokio::time;

use crate::{
    app::App,
    database::{DatabaseError, chain},
    respond::{self, Body},
    sessions::Sessions,
};

/// A probe has to know soon.
const PROBE: Duration = Duration::from_secs(2);
const EXPOSITION: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The version that this frontend was made with.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// Answers one request of the admin listener.
pub async fn handle<B>(app: &App, request: Request<B>) -> Response<Body> {
    let mut response = match (request.method().as_str(), request.uri().path()) {
        ("GET" | "HEAD", "/live") => respond::text(StatusCode::OK, "ok\n"),
        ("GET" | "HEAD", "/ready") => readiness(app).await,
        ("GET" | "HEAD", "/metrics") => respond::content(
            StatusCode::OK,
            EXPOSITION,
            Bytes::from(app.metrics.render(&app.sessions.pools(), app.changes.subscribers())),
        ),
        (_, "/live" | "/ready" | "/metrics") => respond::text(StatusCode::METHOD_NOT_ALLOWED, "GET\n"),
        _ => respond::text(StatusCode::NOT_FOUND, "/live, /ready and /metrics are here\n"),
    };
    respond::harden(&mut response, false);
    response
}

async fn readiness(app: &App) -> Response<Body> {
    match check(&app.sessions).await {
        Ok(extension) => respond::json(
            StatusCode::OK,
            &json!({"status": "ready", "frontend": OURS, "extension": extension}),
        ),
        Err(reason) => {
            let body = json!({"status": "not_ready", "frontend": OURS, "reason": reason});
            respond::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// The extension's version where both logins reach one that fits; otherwise the reason, in a sentence. No version where every
/// connection is in use: to send the requests elsewhere would only make others as busy.
pub async fn check(sessions: &Sessions) -> Result<Option<String>, String> {
    let versions = match time::timeout(PROBE, sessions.versions()).await {
        Err(_) => return Err("the database does not answer".into()),
        Ok(Err(DatabaseError::Exhausted)) => return Ok(None),
        Ok(Err(error)) => return Err(chain(&error)),
        Ok(Ok(versions)) => versions,
    };
    if versions.auth != versions.exec {
        return Err(format!(
            "the two logins reach different databases: extension {} and {}",
            versions.auth, versions.exec
        ));
    }
    if fits(&versions.auth) {
        Ok(Some(versions.auth))
    } else {
        Err(format!(
            "the extension is {}, this frontend is {OURS}: ALTER EXTENSION mcp_sessions UPDATE, or upgrade",
            versions.auth
        ))
    }
}

/// Versions fit while the first two numbers are the same.
fn fits(extension: &str) -> bool {
    let release = |version: &str| {
        let mut parts = version.split('.').map(ToOwned::to_owned);
        (parts.next(), parts.next())
    };
    release(extension) == release(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::app;

    #[tokio::test]
    async fn the_platform_only_asks_and_without_tls() {
        let app = app(&[("MCP_PUBLIC_URL", "https://mcp.example.com")]);
        for (path, status) in [("/live", 405), ("/ready", 405), ("/metrics", 405), ("/nothing", 404)] {
            let response = handle(&app, Request::post(path).body(()).unwrap()).await;
            assert_eq!(response.status(), status, "{path}");
            assert!(!response.headers().contains_key("strict-transport-security"), "{path}");
        }
    }

    #[test]
    fn versions_fit_by_release() {
        let (release, _) = OURS.rsplit_once('.').unwrap();
        assert!(fits(OURS));
        assert!(fits(&format!("{release}.99")));
        assert!(!fits(&format!("9{release}.0")));
        assert!(!fits(""));
        assert!(!fits(release.split('.').next().unwrap()));
    }
}
