//! Requirements of the threat model's checklist, by their numbers, that show over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::checkout;
use tests::cluster::{Cluster, Options, Stop};
use tests::idp::stub::{Endpoint, Fault, StubProvider};
use tests::ledger;
use tests::mcp::{Door, Era};
use tests::session::{NewSession, call_tool, status};
use tests::wait::wait_until;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_14_an_email_address_is_nobody,
        checklist_44_libraries_that_watch_statements_see_no_secret,
        checklist_45_faults_are_told_in_general_words,
        checklist_54_an_administrator_ends_all_sessions_at_once,
        answers_are_named_by_the_server_alone,
        the_admin_listener_is_guarded_as_the_other,
        logins_of_two_databases_are_not_ready,
        a_database_that_says_nothing_is_told_in_time,
        tokens_that_do_not_hold_see_and_end_no_session,
    ]
}

async fn checklist_14_an_email_address_is_nobody(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    // The provider vouches for one address, verified and all, whoever signs in.
    stub.forge(|claims| {
        claims.insert("email".to_owned(), json!("chief@example.com"));
        claims.insert("email_verified".to_owned(), json!(true));
        claims.insert("preferred_username".to_owned(), json!("chief"));
    });
    let mut users = Vec::new();
    for name in ["alice@example.com", "bob@example.com"] {
        let token = Browser::new().sign_in(&frontend.url(), name).await?.token;
        let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
        client.call("add_note", json!({"body": format!("of {name}")})).await?.tool_text()?;
        let me: Value = serde_json::from_str(&client.call("whoami", json!({})).await?.tool_text()?)?;
        assert_eq!(me["claims"]["email"], "chief@example.com");
        assert_eq!(me["subject"], name);
        let notes = client.call("list_notes", json!({})).await?.result()?;
        assert_eq!(notes["structuredContent"]["rows"].as_array().map(Vec::len), Some(1), "{notes}");
        users.push(me["user_id"].clone());
    }
    assert_ne!(users[0], users[1]);
    Ok(())
}

async fn checklist_44_libraries_that_watch_statements_see_no_secret(world: &Shared) -> Result<()> {
    let options = Options { backtraces: true, ..Options::default() }
        .set("shared_preload_libraries", "mcp_sessions,auto_explain,pg_stat_statements")
        .set("auto_explain.log_min_duration", "0")
        .set("auto_explain.log_nested_statements", "on")
        .set("auto_explain.log_analyze", "on")
        .set("auto_explain.log_verbose", "on")
        .set("auto_explain.log_triggers", "on")
        .set("pg_stat_statements.track", "all")
        .set("log_error_verbosity", "verbose");
    let cluster = Cluster::start(&options).await?;
    let database = cluster.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await?;
    // A library that is asked to show everything does; the doctor says so, and the logins are made so that it does not.
    let complaints = || async {
        let found = "SELECT count(*) FROM mcp.doctor() WHERE check_name = 'logged_parameters' AND finding ~ 'mcp_frontend'";
        anyhow::Ok(superuser.query_one(found, &[]).await?.get::<_, i64>(0))
    };
    ensure!(complaints().await? >= 2, "the doctor finds nothing");
    tokio::task::block_in_place(|| {
        let script = cluster.directory().join("logins.sql");
        std::fs::write(&script, std::fs::read_to_string(checkout::root().join("sql/logins.sql"))?)?;
        let mut psql = cluster.program("psql", database.name());
        psql.command()
            .env("MCP_AUTH_PASSWORD", cluster.password())
            .env("MCP_EXEC_PASSWORD", cluster.password())
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(&script);
        psql.run()
    })?;
    assert_eq!(complaints().await?, 0);
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    client.call("whoami", json!({})).await?.tool_text()?;
    client.call("fail", json!({"message": "no"})).await?.tool_error()?;
    // Through SQL as well, and into every error there is on the way.
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("bob").refreshable("client").create(&auth).await?;
    call_tool(&exec, &session.token, "list_notes", json!({})).await?;
    for statement in [
        "SELECT 1 / 0 FROM mcp.enter($1)",
        "SELECT status::int FROM mcp.lookup_session($1)",
        "SELECT mcp.create_session($1, '', NULL)",
        "SELECT mcp.set_session_state($1, NULL)",
    ] {
        ensure!(auth.query(statement, &[&session.token]).await.is_err(), "{statement} must fail");
    }
    let refreshed = auth
        .query_one(
            "SELECT access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
            &[&session.refresh_token],
        )
        .await?;
    ledger::record("session token", refreshed.get(0));
    ledger::record("refresh token", refreshed.get(1));
    auth.query_one("SELECT mcp.revoke_session($1)", &[&refreshed.get::<_, String>(0)]).await?;
    drop(frontend);
    let seen = superuser
        .query("SELECT query FROM pg_stat_statements UNION ALL SELECT query FROM pg_stat_activity", &[])
        .await?;
    let seen: Vec<String> = seen.iter().filter_map(|row| row.get(0)).collect();
    ensure!(seen.iter().any(|query| query.contains("mcp.call_tool")), "the library has seen the calls");
    std::fs::write(cluster.directory().join("seen.txt"), seen.join("\n"))?;
    tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?;
    let log = std::fs::read_to_string(cluster.log())?;
    ensure!(log.contains("Query Text") && log.contains("mcp.call_tool"), "the library has logged plans");
    let (leaks, read) = ledger::search(cluster.directory(), &|_| true)?;
    ensure!(read > 0 && leaks.is_empty(), "{leaks:?}");
    world.keep_log(&cluster)?;
    Ok(())
}

/// An answer to a fault: words that say what to do, an id to look for in the log, and nothing of the inside.
fn general(what: &str, headers: &HeaderMap, text: &str) -> Result<()> {
    for inside in [
        "planted",
        "SQLSTATE",
        "XX000",
        "DETAIL",
        "HINT",
        "CONTEXT",
        "relation",
        "mcp.",
        "pg_",
        "SELECT",
        "INSERT",
        "panicked",
        ".rs",
        checkout::root().to_string_lossy().as_ref(),
        "/home",
        "/usr",
        "tokio",
        "hyper",
        "postgres",
        "stack",
        "127.0.0.1:1",
    ] {
        ensure!(!text.contains(inside), "{what}: {inside} in {text}");
    }
    for header in ["server", "x-powered-by", "via"] {
        ensure!(!headers.contains_key(header), "{what}: {header}: {:?}", headers[header]);
    }
    ensure!(headers.contains_key("x-request-id"), "{what}: no id to look for in the log");
    assert_eq!(
        headers.get("cache-control").and_then(|value| value.to_str().ok()),
        Some("no-store"),
        "{what}"
    );
    Ok(())
}

async fn checklist_45_faults_are_told_in_general_words(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = tests::idp::stub::StubProvider::start().await?;
    let settings = world.settings(&database)?.set("MCP_POOL_SIZE", "1");
    let frontend = stub.oidc(settings).start().await?;
    let superuser = database.superuser().await?;
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let http = reqwest::Client::new();
    let client = || frontend.mcp(Era::Modern).with(Door::Bearer, &token);

    // Every connection busy.
    let sleeper = tokio::spawn({
        let client = client();
        async move { client.call("sleep", json!({"seconds": 4})).await }
    });
    wait_until("the tool to sleep", Duration::from_secs(20), || async {
        let asleep =
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        Ok(superuser.query_opt(asleep, &[]).await?.is_some())
    })
    .await?;
    let busy = client().call("whoami", json!({})).await?;
    assert_eq!(busy.status, StatusCode::SERVICE_UNAVAILABLE, "{}", busy.text);
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert_eq!(busy.json()?["error"]["data"]["error"], "overloaded", "{}", busy.text);
    general("a pool that is busy", &busy.headers, &busy.text)?;
    sleeper.await??.tool_text()?;

    // A database that is not set up.
    superuser.batch_execute("REVOKE EXECUTE ON FUNCTION mcp.call_tool FROM mcp_exec").await?;
    let refused = client().call("whoami", json!({})).await?;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
    general("a missing privilege", &refused.headers, &refused.text)?;
    superuser.batch_execute("GRANT EXECUTE ON FUNCTION mcp.call_tool TO mcp_exec").await?;

    // An internal error of the server, and one with everything in it that must not go out.
    superuser
        .batch_execute(
            "CREATE FUNCTION app.break() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 RAISE EXCEPTION 'planted message' USING ERRCODE = 'XX000', DETAIL = 'planted detail', HINT = 'planted hint';
             END $$;
             CREATE TRIGGER break BEFORE INSERT ON mcp.audit_log FOR EACH ROW EXECUTE FUNCTION app.break()",
        )
        .await?;
    let logout = http.post(format!("{}/auth/logout", frontend.url())).bearer_auth(&token).send().await?;
    assert_eq!(logout.status(), StatusCode::INTERNAL_SERVER_ERROR);
    general("an internal error", &logout.headers().clone(), &logout.text().await?)?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "bob@example.com").await?;
    let page = browser.html_step(callback.as_str()).await?;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    general("an internal error, on a page", &page.headers, &page.text)?;
    superuser.batch_execute("DROP TRIGGER break ON mcp.audit_log").await?;

    // A tool that says too much in its DETAIL says only its message.
    let failed = client().call("fail", json!({"message": "no such note"})).await?;
    general("a tool that fails", &failed.headers, &failed.text)?;
    ensure!(failed.text.contains("no such note") && !failed.text.contains("internal-"), "{}", failed.text);

    // A provider that answers with its own inside.
    for garbage in [
        Fault::Body("text/html", "<h1>planted stack trace at /srv/idp.py line 1</h1>".to_owned()),
        Fault::Body(
            "application/json",
            r#"{"error":"planted","error_description":"planted at /usr/lib"}"#.to_owned(),
        ),
        Fault::Body(
            "application/json",
            r#"{"access_token":"planted","id_token":"planted.planted.planted"}"#.to_owned(),
        ),
        Fault::Status(500),
    ] {
        let what = format!("{garbage:?}");
        let browser = Browser::new();
        let callback = browser.sign_in_to_callback(&frontend.url(), "bob@example.com").await?;
        stub.fail(Endpoint::Token, garbage);
        let page = browser.step(callback.as_str()).await?;
        ensure!(
            page.status.is_client_error() || page.status == StatusCode::SERVICE_UNAVAILABLE,
            "{what}: {}",
            page.status
        );
        general(&what, &page.headers, &page.text)?;
        stub.behave();
    }

    // What the client itself sent wrong, and what is not there.
    for (method, path) in [
        (reqwest::Method::GET, "/nothing/here"),
        (reqwest::Method::GET, "/auth/callback?code=x&state=y"),
        (reqwest::Method::POST, "/token"),
        (reqwest::Method::POST, "/register"),
        (reqwest::Method::PUT, "/mcp/v1"),
    ] {
        let answer = http.request(method, format!("{}{path}", frontend.url())).body("\0").send().await?;
        ensure!(answer.status().is_client_error(), "{path}: {}", answer.status());
        general(path, &answer.headers().clone(), &answer.text().await?)?;
    }
    client().call("whoami", json!({})).await?.tool_text()?;
    Ok(())
}

async fn checklist_54_an_administrator_ends_all_sessions_at_once(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (first, stub) = world.stubbed(&database).await?;
    let second = stub.oidc(first.settings().replica()?).start().await?;
    let superuser = database.superuser().await?;
    let mut tokens = Vec::new();
    for name in ["alice@example.com", "alice@example.com", "bob@example.com"] {
        tokens.push(Browser::new().sign_in(&first.url(), name).await?.token);
    }
    let me = second.mcp(Era::Modern).with(Door::Bearer, &tokens[0]).call("whoami", json!({})).await?;
    let me: Value = serde_json::from_str(&me.tool_text()?)?;
    let alice: uuid::Uuid = me["user_id"].as_str().context("a user")?.parse()?;
    let alive = || async {
        let mut alive = Vec::new();
        for token in &tokens {
            for frontend in [&second, &first] {
                let client = frontend.mcp(Era::Modern).with(Door::Bearer, token);
                alive.push(client.call("whoami", json!({})).await?.status == StatusCode::OK);
            }
        }
        anyhow::Ok(alive)
    };
    assert_eq!(alive().await?, [true; 6]);
    // Of one user, then of everybody: one statement each, and the very next requests know.
    let ended = superuser.query_one("SELECT mcp.revoke_user_sessions($1)", &[&alice]).await?;
    assert_eq!(ended.get::<_, i64>(0), 2);
    let since = Instant::now();
    assert_eq!(alive().await?, [false, false, false, false, true, true], "after {:?}", since.elapsed());
    let everybody =
        "SELECT count(*) FILTER (WHERE mcp.revoke_session_by_id(session_id, 'incident')) FROM mcp.sessions";
    assert_eq!(superuser.query_one(everybody, &[]).await?.get::<_, i64>(0), 1);
    assert_eq!(alive().await?, [false; 6]);
    let logged = superuser
        .query_one(
            "SELECT count(*) FROM mcp.audit_log WHERE event = 'admin_end' AND reason = 'incident'",
            &[],
        )
        .await?;
    assert_eq!(logged.get::<_, i64>(0), 1);
    Ok(())
}

async fn answers_are_named_by_the_server_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).set("MCP_LOG_FORMAT", "text");
    let frontends = [settings.start().await?, settings.replica()?.start().await?];
    let http = reqwest::Client::new();
    let mut names = Vec::new();
    for frontend in frontends.iter().chain(&frontends) {
        let request = http.get(format!("{}/auth/session", frontend.url())).header("x-request-id", "mine");
        // With the cookie's door shut, it is nobody's: a bad token is no reason to take it away.
        let answer = request.bearer_auth("x").header("cookie", "mcp_session_id=x").send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        ensure!(!answer.headers().contains_key("set-cookie"), "{:?}", answer.headers());
        let name = answer.headers()["x-request-id"].to_str()?;
        let (process, _) = name.split_once('-').with_context(|| format!("{name:?} is not ours"))?;
        names.push((process.to_owned(), name.to_owned()));
    }
    let [one, two, three, four] = &names[..] else { anyhow::bail!("{names:?}") };
    assert_eq!((&one.0, &two.0), (&three.0, &four.0));
    ensure!(one.0 != two.0 && one.1 != three.1 && two.1 != four.1, "{names:?}");
    let log = frontends[0].logged(&one.1).await?;
    ensure!(!log.contains("mine") && !log.contains('\x1b'), "{log}");
    Ok(())
}

async fn the_admin_listener_is_guarded_as_the_other(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    for path in ["/live", "/ready", "/metrics", "/nothing"] {
        let answer = reqwest::get(format!("{}{path}", frontend.admin_url())).await?;
        for (name, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
            assert_eq!(
                answer.headers().get(name).map(|value| value.as_bytes()),
                Some(value.as_bytes()),
                "{path}"
            );
        }
    }
    // Its connections are few.
    let address = frontend.admin_url().trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..65 {
        held.push(TcpStream::connect(&address).await?);
    }
    let mut answer = [0; 12];
    let last = held.last_mut().context("a connection")?;
    tokio::time::timeout(Duration::from_secs(20), last.read_exact(&mut answer))
        .await
        .context("it is served")??;
    assert_eq!(&answer, b"HTTP/1.1 503");
    Ok(())
}

/// Whether a frontend is ready, and what it says of that.
async fn ready(frontend: &tests::frontend::Frontend) -> Result<(StatusCode, String)> {
    let answer = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
    Ok((answer.status(), answer.text().await?))
}

async fn logins_of_two_databases_are_not_ready(world: &Shared) -> Result<()> {
    let (one, two) = (world.database().await?, world.database().await?);
    // Another patch of a release that fits.
    two.superuser()
        .await?
        .batch_execute(
            "ALTER FUNCTION mcp.version() RENAME TO version_here;
             CREATE FUNCTION mcp.version() RETURNS text LANGUAGE sql AS $$ SELECT mcp.version_here() || '9' $$;
             GRANT EXECUTE ON FUNCTION mcp.version() TO mcp_auth, mcp_exec",
        )
        .await?;
    let settings = world.settings(&one)?;
    let elsewhere = two.cluster().url("mcp_frontend_exec", two.name());
    let stub = StubProvider::start().await?;
    let frontend = stub.oidc(settings.set("MCP_EXEC_DATABASE_URL", &elsewhere)).start().await?;
    let (status, text) = ready(&frontend).await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && text.contains("different databases"),
        "{status} {text}"
    );
    Ok(())
}

async fn a_database_that_says_nothing_is_told_in_time(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    // The kernel takes connections before they are accepted.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("postgresql://nobody@{}/none", silent.local_addr()?);
    let settings = world.settings(&database)?.set("DATABASE_URL", &url).set("MCP_EXEC_DATABASE_URL", &url);
    // Longer than anybody waits.
    let settings = settings.set("MCP_REQUEST_TIMEOUT", "600");
    let frontend = StubProvider::start().await?.oidc(settings).start().await?;
    let session = NewSession::of("alice").create(&database.auth().await?).await?;
    let asked = reqwest::Client::new()
        .get(format!("{}/auth/session", frontend.url()))
        .bearer_auth(&session.token)
        .timeout(Duration::from_secs(60));
    let ((status, text), asked) = tokio::try_join!(ready(&frontend), async { Ok(asked.send().await?) })?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("does not answer"), "{status} {text}");
    assert_eq!(asked.status(), StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}

async fn tokens_that_do_not_hold_see_and_end_no_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let auth = database.auth().await?;
    let resource = frontend.resource();
    let alive = NewSession::of("alice").at(&resource).create(&auth).await?;
    let revoked = NewSession::of("alice").at(&resource).create(&auth).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;
    let elsewhere = NewSession::of("alice").at("https://other.test/mcp").create(&auth).await?;
    for token in [&revoked.token, &elsewhere.token] {
        for (method, path) in [
            (Method::DELETE, format!("/auth/sessions/{}", alive.id)),
            (Method::DELETE, "/auth/sessions".to_owned()),
            (Method::GET, "/auth/sessions".to_owned()),
            (Method::GET, "/auth/session".to_owned()),
        ] {
            let request = reqwest::Client::new().request(method.clone(), format!("{}{path}", frontend.url()));
            let answer = request.bearer_auth(token).send().await?;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    assert_eq!(status(&auth, &alive.token).await?, "active");
    Ok(())
}
