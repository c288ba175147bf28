//! What settings of the frontend do, and what its admin listener tells the platform.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::database::Database;
use tests::frontend::Frontend;
use tests::idp::stub::StubProvider;
use tests::ledger;
use tests::mcp::{Door, Era};
use tests::oauth::{Client, LOOPBACK};
use tests::session::note_provider_tokens;
use tests::wait::wait_until;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        sessions_live_as_long_as_the_setting_says,
        json_log_is_json_line_by_line,
        log_without_a_filter_has_a_line_for_each_request,
        metrics_count_calls_and_carry_no_secret,
        readiness_wants_an_extension_that_fits,
        init_carries_scopes_and_target_to_the_end,
        workos_issuer_is_accepted_where_it_is_named,
    ]
}

const ALICE: &str = "alice@example.com";
/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lifetimes of all sessions in minutes, as stored and as they end.
async fn lifetimes(database: &Database<'_>) -> Result<Vec<(f64, f64)>> {
    let statement = "SELECT (extract(epoch FROM ttl) / 60)::float8, (extract(epoch FROM expires_at - created_at) / 60)::float8
                       FROM mcp.sessions";
    let rows = database.superuser().await?.query(statement, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn sessions_live_as_long_as_the_setting_says(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).set("MCP_SESSION_TTL_HOURS", "0.5");
    let frontend = settings.start().await?;
    Browser::new().sign_in(&frontend.url(), ALICE).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    client.sign_in(&Browser::new(), ALICE, "mcp").await?;
    let lifetimes = lifetimes(&database).await?;
    assert_eq!(lifetimes.len(), 2, "one by hand, one by /token");
    for (ttl, lifetime) in lifetimes {
        assert_eq!(ttl, 30.0);
        ensure!((lifetime - 30.0).abs() < 0.5, "{lifetime} minutes");
    }
    Ok(())
}

async fn json_log_is_json_line_by_line(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).set("MCP_LOG_FORMAT", "json");
    let frontend = settings.start().await?;
    let token = Browser::new().sign_in(&frontend.url(), ALICE).await?.token;
    whoami(&frontend, &token).await?;
    frontend.terminate()?;
    tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(15)))?;
    let log = frontend.log_text();
    let ids = "SELECT session_id::text, user_id::text FROM mcp.lookup_session($1)";
    let row = database.auth().await?.query_one(ids, &[&token]).await?;
    let (session, user): (String, String) = (row.get(0), row.get(1));
    let mut messages = Vec::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for member in ["timestamp", "level", "target"] {
            ensure!(entry[member].is_string(), "no {member}: {line}");
        }
        let message = entry["message"].as_str().unwrap_or_default();
        let whose = (entry["session"].as_str(), entry["user"].as_str());
        ensure!(message != "signed in" || whose == (Some(&session), Some(&user)), "{line}");
        messages.push(message.to_owned());
    }
    ensure!(messages.iter().any(|message| message == "signed in"), "{log}");
    Ok(())
}

async fn whoami(frontend: &Frontend, token: &str) -> Result<Value> {
    let answer = frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?;
    Ok(serde_json::from_str(&answer.tool_text()?)?)
}

async fn log_without_a_filter_has_a_line_for_each_request(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).unset("MCP_LOG").set("MCP_LOG_FORMAT", "text");
    let frontend = settings.start().await?;
    let token = Browser::new().sign_in(&frontend.url(), ALICE).await?.token;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    client.request("tools/list", json!({})).await?.result()?;
    let id = "SELECT session_id::text FROM mcp.lookup_session($1)";
    let id: String = database.auth().await?.query_one(id, &[&token]).await?.get(0);
    // What rmcp calls an error: a method that it does not know, and a client that does not wait.
    ensure!(
        client.request("resources/subscribe", json!({"uri": "test://x"})).await?.status.is_client_error()
    );
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = client.open("subscriptions/listen", filter).await?;
    stream.message(PATIENCE).await?.context("the stream ended at once")?;
    drop(stream);
    let (holder, watcher) = (database.superuser().await?, database.superuser().await?);
    holder.batch_execute("BEGIN; LOCK TABLE mcp.tools IN ACCESS EXCLUSIVE MODE").await?;
    let list = tokio::spawn(async move { client.request("tools/list", json!({})).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async |count: i64| {
        wait_until("the list to wait, or not to", PATIENCE, || async {
            Ok(watcher.query_one(waiting, &[]).await?.get::<_, i64>(0) == count)
        })
        .await
    };
    waiting(1).await?;
    list.abort();
    waiting(0).await?;
    holder.batch_execute("COMMIT").await?;
    frontend.terminate()?;
    tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(15)))?;
    let log = frontend.log_text();
    let mut requests = Vec::new();
    for line in log.lines() {
        let target = line.split_whitespace().nth(2).unwrap_or_default();
        ensure!(target.starts_with("mcp_frontend") || target == "access:", "{line}");
        let named = line.contains(&format!(" session={id}"));
        ensure!(!line.contains("/mcp/v1\" status=") || named, "of which session? {line}");
        let request = line.split_once(" path=").and_then(|(_, rest)| rest.split_once(" ms="));
        requests.extend(request.map(|(request, _)| request));
    }
    requests.retain(|request| !request.contains("/healthz"));
    let expected = [
        r#""/auth/init" status=302"#,
        r#""/auth/callback" status=200"#,
        r#""/mcp/v1" status=200"#,
        r#""/mcp/v1" status=404"#,
        r#""/mcp/v1" status=200"#,
        r#""/mcp/v1" status=499"#,
    ];
    ensure!(requests == expected, "{log}");
    Ok(())
}

async fn metrics_count_calls_and_carry_no_secret(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = Browser::new().sign_in(&frontend.url(), ALICE).await?.token;
    whoami(&frontend, &token).await?;
    let refused = frontend.mcp(Era::Modern).with(Door::Bearer, &tests::oauth::unheard_of("mcps"));
    assert_eq!(refused.call("whoami", json!({})).await?.status, StatusCode::UNAUTHORIZED);
    // What fails is counted by its fault, in a batch as well.
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token).header("accept", "application/json");
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let unstreamed = client.request("subscriptions/listen", filter).await?;
    assert_eq!(unstreamed.status, StatusCode::NOT_ACCEPTABLE, "{}", unstreamed.text);
    let unreadable = json!({"jsonrpc": "2.0", "id": 1});
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let batch = client.post(json!([unreadable, ping]).to_string()).await?;
    assert_eq!(batch.status, StatusCode::OK, "{}", batch.text);
    let answer = reqwest::get(format!("{}/metrics", frontend.admin_url())).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    ensure!(answer.headers()["content-type"].to_str()?.starts_with("application/openmetrics-text"));
    let text = answer.text().await?;
    for line in [
        r#"mcp_frontend_http_requests_total{route="mcp",status="200"} 2"#,
        r#"mcp_frontend_http_requests_total{route="mcp",status="401"} 1"#,
        r#"mcp_frontend_http_request_duration_seconds_count{route="mcp"} 4"#,
        r#"mcp_frontend_faults_total{kind="session",code="invalid_token"} 1"#,
        r#"mcp_frontend_faults_total{kind="client",code="not_acceptable"} 1"#,
        r#"mcp_frontend_faults_total{kind="client",code="protocol_error"} 1"#,
        "# EOF",
    ] {
        ensure!(text.lines().any(|there| there == line), "no {line} in {text}");
    }
    // The check at the start may still hold a connection when the first request wants one.
    let open = r#"mcp_frontend_database_connections{role="auth",state="open"} "#;
    let open = text.lines().find_map(|line| line.strip_prefix(open)).context("no count of connections")?;
    ensure!((1..=16).contains(&open.parse::<u32>()?), "{open} connections");
    for secret in ["mcps_", ALICE, database.cluster().password()] {
        ensure!(!text.contains(secret), "{text}");
    }
    // Nobody reads them where everybody comes in.
    assert_eq!(reqwest::get(format!("{}/metrics", frontend.url())).await?.status(), StatusCode::NOT_FOUND);
    Ok(())
}

async fn readiness_wants_an_extension_that_fits(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let superuser = database.superuser().await?;
    let ready = async || {
        let answer = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
        Ok::<_, anyhow::Error>((answer.status(), answer.json::<Value>().await?))
    };
    let (status, body) = ready().await?;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("ready")), "{body}");
    // The log says at the start what it would take a request to find.
    frontend.logged("the database is ready").await?;
    superuser
        .batch_execute(
            "ALTER FUNCTION mcp.version() RENAME TO version_that_fits;
             CREATE FUNCTION mcp.version() RETURNS text LANGUAGE sql AS $$ SELECT '9.9.0'::text $$;
             GRANT EXECUTE ON FUNCTION mcp.version() TO mcp_auth, mcp_exec",
        )
        .await?;
    let (status, body) = ready().await?;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("not_ready")), "{body}");
    let reason = body["reason"].as_str().context("a reason")?;
    for said in ["9.9.0", "ALTER EXTENSION mcp_sessions UPDATE"] {
        ensure!(reason.contains(said), "{reason}");
    }
    // It serves all the same: it may be the database that is being upgraded.
    let live = reqwest::get(format!("{}/live", frontend.admin_url())).await?;
    assert_eq!(live.status(), StatusCode::OK);
    superuser
        .batch_execute(
            "DROP FUNCTION mcp.version(); ALTER FUNCTION mcp.version_that_fits() RENAME TO version",
        )
        .await?;
    wait_until("readiness", Duration::from_secs(30), || async { Ok(ready().await?.0 == StatusCode::OK) })
        .await
}

async fn init_carries_scopes_and_target_to_the_end(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let init = format!(
        "{}/auth/init?login_hint={ALICE}&scope=notes:write+notes:admin&redirect_uri=/welcome?a=b%26c=d",
        frontend.url()
    );
    let target = format!("{}/welcome?a=b&c=d", frontend.url());
    let at_callback = |url: &url::Url| url.path() == "/auth/callback";

    let browser = Browser::new();
    let callback = browser.sign_in_until(&init, ALICE, at_callback).await?;
    let session = browser.finish(callback.as_str()).await?;
    assert_eq!(session.answer["redirect_uri"], target, "{}", session.answer);
    let me = whoami(&frontend, &session.token).await?;
    assert_eq!(me["scopes"], json!(["mcp", "notes:write", "notes:admin"]));

    let browser = Browser::new();
    let callback = browser.sign_in_until(&init, ALICE, at_callback).await?;
    let page = browser.html_step(callback.as_str()).await?;
    assert_eq!(page.status, StatusCode::OK);
    let token = page.text.split(['"', '<', '>', ' ', '\n']).find(|word| word.starts_with("mcps_"));
    ledger::record("session token", token.context("the page shows the session token")?);
    let link = page.text.split("<a href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let links: Vec<_> = link.map(|link| html_escape::decode_html_entities(link).into_owned()).collect();
    ensure!(links.contains(&target), "{links:?}");
    Ok(())
}

async fn workos_issuer_is_accepted_where_it_is_named(world: &Shared) -> Result<()> {
    const OURS: &str = "https://auth.example.com/";
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    stub.forge(|claims| {
        claims.insert("iss".to_owned(), OURS.into());
    });
    for (named, accepted) in [(None, false), (Some("https://auth.example.net/"), false), (Some(OURS), true)] {
        let mut settings = stub.workos(world.settings(&database)?);
        if let Some(issuer) = named {
            settings = settings.set("WORKOS_ISSUER", issuer);
        }
        let frontend = settings.start().await?;
        let signed_in = Browser::new().sign_in(&frontend.url(), ALICE).await;
        ensure!(signed_in.is_ok() == accepted, "{named:?}: {:?}", signed_in.err());
        let Ok(session) = signed_in else { continue };
        note_provider_tokens(&database.auth().await?, &session.token).await?;
        assert_eq!(whoami(&frontend, &session.token).await?["issuer"], OURS);
    }
    Ok(())
}
