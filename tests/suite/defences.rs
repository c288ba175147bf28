//! Defences that no attack elsewhere in the suite would miss if they were gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::database::Database;
use tests::frontend::Frontend;
use tests::idp::stub::{Endpoint, Fault, StubProvider};
use tests::mcp::{Answer, Door, Era, LEGACY};
use tests::session::{NewSession, Session, call_tool, sqlstate};
use tests::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::attacks::Stage;
use crate::world::{self, Shared, Trials};

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(40);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        every_kind_of_message_needs_a_live_session,
        batches_are_bounded,
        connections_are_bounded,
        connections_to_the_admin_listener_are_bounded,
        authorization_request_is_bounded_as_a_whole,
        body_that_does_not_come_ends_its_request,
        query_past_the_deadline_is_cancelled,
        request_of_many_calls_has_one_deadline,
        a_call_that_failed_is_not_run_again,
        profile_of_somebody_else_signs_nobody_in,
        answer_of_the_provider_that_is_too_large_signs_nobody_in,
        error_of_a_tool_is_cut_where_it_is_too_long,
        errors_of_tools_are_themselves_whatever_else_is_said,
        fault_of_the_server_is_no_result_of_the_tool,
        tool_that_catches_its_end_loses_its_connection,
        tool_that_is_not_restricted_acts_as_nobody_else_either,
        detail_of_an_error_stays_in_the_server,
        savepoint_that_is_released_keeps_the_identity_lost_with_its_parent,
        database_of_another_encoding_is_refused,
    ]
}

async fn session_at(frontend: &Frontend, database: &Database<'_>) -> Result<Session> {
    let resource = frontend.resource();
    NewSession::of("alice").at(&resource).create(&database.auth().await?).await
}

/// One message of each kind that needs nothing of the database but the verdict on its token.
async fn messages(frontend: &Frontend, token: &str) -> Result<Vec<(&'static str, Answer)>> {
    let [modern, legacy] = [Era::Modern, Era::Legacy].map(|era| frontend.mcp(era).with(Door::Bearer, token));
    let initialize =
        json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let notice = |method: &str| json!({"jsonrpc": "2.0", "method": method}).to_string();
    Ok(vec![
        ("initialize", legacy.request("initialize", initialize).await?),
        ("ping", legacy.request("ping", json!({})).await?),
        ("server/discover", modern.request("server/discover", json!({})).await?),
        ("logging/setLevel", legacy.request("logging/setLevel", json!({"level": "info"})).await?),
        ("resources/subscribe", legacy.request("resources/subscribe", json!({"uri": "test://x"})).await?),
        ("resources/unsubscribe", legacy.request("resources/unsubscribe", json!({"uri": "test://x"})).await?),
        ("a notification", legacy.post(notice("notifications/initialized")).await?),
        ("tools/list", modern.request("tools/list", json!({})).await?),
        ("tools/call", modern.call("whoami", json!({})).await?),
    ])
}

async fn every_kind_of_message_needs_a_live_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = session_at(&frontend, &database).await?;
    for (what, answer) in messages(&frontend, &session.token).await? {
        ensure!(answer.status.is_success(), "{what} of a live session: {} {}", answer.status, answer.text);
    }
    let auth = database.auth().await?;
    auth.execute("SELECT mcp.revoke_session($1)", &[&session.token]).await?;
    for (what, answer) in messages(&frontend, &session.token).await? {
        ensure!(answer.status == StatusCode::UNAUTHORIZED, "{what}: {} {}", answer.status, answer.text);
        ensure!(answer.text.contains("revoked"), "{what}: {}", answer.text);
    }
    Ok(())
}

async fn batches_are_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = session_at(&frontend, &database).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token);
    let batch = |length: usize| {
        let messages = (0..length).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        Value::from_iter(messages).to_string()
    };
    let longest = client.post(batch(50)).await?;
    ensure!(longest.status == StatusCode::OK, "{} {}", longest.status, longest.text);
    for length in [0, 51] {
        let answer = client.post(batch(length)).await?;
        ensure!(answer.status == StatusCode::BAD_REQUEST, "{length}: {} {}", answer.status, answer.text);
    }
    Ok(())
}

/// Sends `head` on a connection of its own, and leaves it open.
async fn connect(frontend: &Frontend, head: &str) -> Result<TcpStream> {
    connect_to(&frontend.url(), head).await
}

/// The same, at a base URL.
pub async fn connect_to(url: &str, head: &str) -> Result<TcpStream> {
    let address = url.strip_prefix("http://").context("an http URL")?.to_owned();
    let mut stream = TcpStream::connect(&address).await?;
    stream.write_all(head.replace("HOST", &address).as_bytes()).await?;
    Ok(stream)
}

/// What comes first on a connection.
pub async fn first_line(stream: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    let read = async {
        while !text.contains(&b'\n') {
            if stream.read_buf(&mut text).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(DEADLINE, read).await.context("nothing came")??;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

/// Opens as many connections as there may be. One more is turned away.
async fn fill(url: &str, head: &str, most: usize) -> Result<Vec<TcpStream>> {
    // A connection that asked whether it serves may take a moment to go.
    let mut held = Vec::new();
    let start = Instant::now();
    while held.len() < most {
        ensure!(start.elapsed() < DEADLINE, "only {} connections were served", held.len());
        let mut stream = connect_to(url, head).await?;
        if first_line(&mut stream).await?.contains(" 200 ") {
            held.push(stream);
        }
    }
    let line = first_line(&mut connect_to(url, head).await?).await?;
    ensure!(line.contains(" 503 "), "{line:?} on connection {}", most + 1);
    Ok(held)
}

async fn connections_are_bounded(world: &Shared) -> Result<()> {
    const MOST: usize = 5;
    let database = world.database().await?;
    let frontend = world.settings(&database)?.set("MCP_MAX_CONNECTIONS", &MOST.to_string());
    let frontend = world.oidc().await?.register(frontend).await?.start().await?;
    let health = "GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n";
    let mut held = fill(&frontend.url(), health, MOST).await?;
    let turned_away = frontend.metric("mcp_frontend_http_connections_turned_away_total").await?;
    ensure!(turned_away.is_some_and(|count| count > 0), "{turned_away:?}");
    let served = || frontend.metric("mcp_frontend_http_connections");
    assert_eq!(served().await?, Some(MOST as u64));
    // Whoever leaves makes room.
    held.pop();
    wait_until("room for another connection", DEADLINE, || async {
        Ok(first_line(&mut connect(&frontend, health).await?).await?.contains(" 200 "))
    })
    .await?;
    drop(held);
    wait_until("all of them to be gone", DEADLINE, || async { Ok(served().await? == Some(0)) }).await
}

async fn connections_to_the_admin_listener_are_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let live = "GET /live HTTP/1.1\r\nHost: HOST\r\n\r\n";
    let _held = fill(&frontend.admin_url(), live, 64).await?;
    Ok(())
}

async fn authorization_request_is_bounded_as_a_whole(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    // Each parameter is short enough by itself.
    let ask = async |length: usize| {
        let rest = length - "none".len() - "https://app.test/cb".len();
        let long = "x".repeat(rest / 5);
        let url = format!(
            "{}/authorize?client_id=none&redirect_uri=https://app.test/cb&state={long}&scope={long}&resource={long}\
             &login_hint={long}&code_challenge={long}{}",
            frontend.url(),
            "x".repeat(rest % 5)
        );
        let answer = reqwest::get(url).await?;
        Ok::<_, anyhow::Error>((answer.status(), answer.text().await?))
    };
    for (length, too_long) in [(500, false), (16_384, false), (16_385, true), (20_000, true)] {
        let (status, text) = ask(length).await?;
        ensure!(status == StatusCode::BAD_REQUEST, "{length}: {status} {text}");
        ensure!(text.contains("too long") == too_long, "{length}: {text}");
    }
    Ok(())
}

async fn body_that_does_not_come_ends_its_request(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_REQUEST_TIMEOUT", "2");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let session = session_at(&frontend, &database).await?;
    let json = format!("Authorization: Bearer {}\r\nContent-Type: application/json", session.token);
    // All at once: what anybody may send has ten seconds, whatever a request may take.
    let slow = [
        ("/mcp/v1", json.as_str()),
        ("/token", "Content-Type: application/x-www-form-urlencoded"),
        ("/register", "Content-Type: application/json"),
    ]
    .map(async |(path, headers)| {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: HOST\r\n{headers}\r\nContent-Length: 100\r\n\r\n{{");
        let line = first_line(&mut connect(&frontend, &head).await?).await?;
        ensure!(line.contains(" 408 "), "{path}: {line:?}");
        anyhow::Ok(())
    });
    try_join_all(slow).await?;
    // What says that it is too long is not waited for, and what breaks off may have been of any length.
    for (body, status) in [
        ("Content-Length: 100000000\r\n\r\n{", " 413 "),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", " 400 "),
    ] {
        let head = "POST /register HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n";
        let line = first_line(&mut connect(&frontend, &format!("{head}{body}")).await?).await?;
        ensure!(line.contains(status), "{body:?}: {line:?}");
    }
    Ok(())
}

async fn query_past_the_deadline_is_cancelled(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_REQUEST_TIMEOUT", "2");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let session = session_at(&frontend, &database).await?;
    let (holder, watcher) = (database.superuser().await?, database.superuser().await?);
    holder.batch_execute("BEGIN; LOCK TABLE mcp.sessions IN ACCESS EXCLUSIVE MODE").await?;
    let start = Instant::now();
    let answer = reqwest::Client::new()
        .get(format!("{}/auth/session", frontend.url()))
        .bearer_auth(&session.token)
        .send();
    let answer = tokio::time::timeout(DEADLINE, answer).await.context("no answer")??;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "{status} {text} after {:?}", start.elapsed());
    ensure!(text.contains("deadline_exceeded"), "{text}");
    // The lock is still held, so the query can only have ended by being cancelled.
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND usename LIKE 'mcp_frontend_%' AND state = 'active'";
    wait_until("the query to end", DEADLINE, || async {
        Ok(watcher.query_one(waiting, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    holder.batch_execute("ROLLBACK").await?;
    Ok(())
}

async fn request_of_many_calls_has_one_deadline(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_REQUEST_TIMEOUT", "3");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let session = session_at(&frontend, &database).await?;
    // Each is short enough by itself.
    let calls = |count: usize| {
        Value::from_iter((0..count).map(|id| {
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                   "params": {"name": "sleep", "arguments": {"seconds": 1}}})
        }))
    };
    let note = |body: &str| json!({"name": "add_note", "arguments": {"body": body}});
    for count in [1, 20] {
        let mut calls = calls(count);
        if let Some(last) = calls.as_array_mut().filter(|_| count == 20).and_then(|calls| calls.last_mut()) {
            last["params"] = note("too late");
        }
        let answer = reqwest::Client::new()
            .post(frontend.resource())
            .bearer_auth(&session.token)
            .header("mcp-protocol-version", "2025-03-26")
            .header("accept", "application/json, text/event-stream")
            .json(&calls)
            .send();
        let answer = tokio::time::timeout(DEADLINE, answer).await.context("no answer")??;
        ensure!(answer.status() == StatusCode::OK, "{count} calls: {answer:?}");
        let answers: Vec<Value> = answer.json().await?;
        // What ran is answered, and so is the rest.
        ensure!(answers.len() == count && answers[0]["result"].is_object(), "{answers:?}");
        let late = |answer: &Value| answer["error"]["data"]["error"] == "deadline_exceeded";
        ensure!(answers.last().is_some_and(late) == (count == 20), "{answers:?}");
        // Twice as long as one of them may take, at a second each.
        let ran = answers.iter().filter(|answer| answer["result"].is_object()).count();
        ensure!(ran <= 6, "{ran} calls: {answers:?}");
    }
    // What came too late was not begun either: it would be there by the time of this one.
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    client.request("tools/call", note("in time")).await?.tool_text()?;
    let notes = database.superuser().await?.query("SELECT body FROM app.notes", &[]).await?;
    assert_eq!(notes.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["in time"]);
    Ok(())
}

async fn a_call_that_failed_is_not_run_again(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SEQUENCE app.runs; GRANT USAGE ON SEQUENCE app.runs TO mcp_user;
             CREATE FUNCTION app.conflict() RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM nextval('app.runs'); RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$;
             SELECT mcp.expose_tool('app.conflict()', name => 'conflict')",
        )
        .await?;
    let frontend = world.frontend(&database).await?;
    let session = session_at(&frontend, &database).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    for times in 1..=2_i64 {
        let answer = client.call("conflict", json!({})).await?;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
        let runs: i64 = superuser.query_one("SELECT last_value FROM app.runs", &[]).await?.get(0);
        assert_eq!(runs, times);
    }
    Ok(())
}

async fn profile_of_somebody_else_signs_nobody_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    // The other stub answers what it is told to, which is all that is asked of a userinfo endpoint.
    let userinfo = StubProvider::start().await?;
    let endpoint = format!("{}/jwks", userinfo.issuer());
    stub.forge_metadata(move |document| {
        document.insert("userinfo_endpoint".to_owned(), json!(endpoint));
    });
    stub.forge(|claims| {
        claims.remove("email");
    });
    let profile = |subject: Value| {
        let profile = json!({"sub": subject, "email": "mallory@example.com"}).to_string();
        userinfo.fail(Endpoint::Jwks, Fault::Body("application/json", profile));
    };
    for subject in [json!("mallory"), json!(""), json!(null), json!(["alice"])] {
        profile(subject.clone());
        let browser = Browser::new();
        let callback = browser.sign_in_to_callback(&frontend.url(), "alice").await?;
        let page = browser.step(callback.as_str()).await?;
        ensure!(page.status == StatusCode::SERVICE_UNAVAILABLE, "{subject}: {} {}", page.status, page.text);
    }
    let superuser = database.superuser().await?;
    let sessions: i64 = superuser.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0);
    ensure!(sessions == 0, "{sessions} sessions");
    profile(json!("alice"));
    let signed_in = Browser::new().sign_in(&frontend.url(), "alice").await?;
    ensure!(signed_in.answer["user"]["email"] == "mallory@example.com", "{}", signed_in.answer);
    Ok(())
}

/// Everything in it is right, so that nothing but its size can be what is refused.
async fn answer_of_the_provider_that_is_too_large_signs_nobody_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    for (padding, status) in [(2 << 20, StatusCode::SERVICE_UNAVAILABLE), (1 << 10, StatusCode::OK)] {
        stub.forge_response(move |answer| {
            answer.insert("padding".to_owned(), json!("x".repeat(padding)));
        });
        let browser = Browser::new();
        let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
        if status == StatusCode::OK {
            browser.finish(callback.as_str()).await?;
            continue;
        }
        let page = browser.step(callback.as_str()).await?;
        ensure!(page.status == status, "{padding}: {} {}", page.status, page.text);
    }
    Ok(())
}

async fn error_of_a_tool_is_cut_where_it_is_too_long(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let session = NewSession::of("alice").create(&database.auth().await?).await?;
    let exec = database.exec().await?;
    for (length, lengths) in [(100, 100..=100), (100_000, 4000..=4100)] {
        let message = "é".repeat(length / 2);
        let result = call_tool(&exec, &session.token, "fail", json!({"message": message})).await?;
        ensure!(result["isError"] == true, "{result}");
        let text = result["content"][0]["text"].as_str().context("a text")?;
        ensure!(lengths.contains(&text.len()) && text.starts_with("é"), "{} bytes", text.len());
    }
    Ok(())
}

/// What the server says of its own doings between a tool's error and its caller hides nothing of it.
async fn errors_of_tools_are_themselves_whatever_else_is_said(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage.exec.batch_execute("SET client_min_messages = debug5").await?;
    for message in ["first", "second"] {
        let message = message.repeat(100);
        let result = call_tool(&stage.exec, &stage.alice.token, "fail", json!({"message": message})).await?;
        assert_eq!(result, json!({"content": [{"type": "text", "text": message}], "isError": true}));
    }
    Ok(())
}

/// A conflict between transactions, a lack of room, a shutdown: whoever called is to try again, and no model to be told.
async fn fault_of_the_server_is_no_result_of_the_tool(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let raise = |state: &str| {
        let statement = format!("DO $$ BEGIN RAISE EXCEPTION 'as it were' USING ERRCODE = '{state}'; END $$");
        json!({"statement": statement})
    };
    for state in ["40001", "40P01", "53200", "57P01", "58030", "XX000", "08006", "F0000"] {
        let called = call_tool(&stage.exec, &stage.alice.token, "run", raise(state)).await;
        ensure!(sqlstate(called)? == state, "{state}");
    }
    let result = call_tool(&stage.exec, &stage.alice.token, "run", raise("P0001")).await?;
    ensure!(result["isError"] == true, "{result}");
    stage.clean(&stage.exec, "mcp_frontend_exec", "faults").await
}

async fn tool_that_catches_its_end_loses_its_connection(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let expose = "SELECT mcp.expose_tool('app.run(text)', name => 'short_run', timeout => '100 ms')";
    stage.superuser.batch_execute(expose).await?;
    // Three times it may, and go on. It would end by itself after the fourth.
    let catch = "BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END";
    let deaf = format!("DO $$ BEGIN FOR time IN 1..4 LOOP {catch}; END LOOP; END $$");
    let called = call_tool(&stage.exec, &stage.alice.token, "short_run", json!({"statement": deaf}));
    let called = tokio::time::timeout(DEADLINE, called).await.context("it goes on for ever")?;
    assert_eq!(sqlstate(called)?, "57P01");
    wait_until("the connection to end", DEADLINE, || async { Ok(stage.exec.is_closed()) }).await
}

/// Restriction refuses SET ROLE too, so that without it only the seal itself is left.
async fn tool_that_is_not_restricted_acts_as_nobody_else_either(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let expose = "SELECT mcp.expose_tool('app.try(text)', name => 'try_free', restricted => false)";
    stage.superuser.batch_execute(expose).await?;
    for statement in [
        "SET ROLE mcp_exec",
        "SET LOCAL ROLE mcp_exec",
        "SET ROLE mcp_frontend_exec",
        "SET ROLE NONE",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION mcp_frontend_exec",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SELECT set_config('role', 'mcp_exec', true)",
        "SELECT set_config('role', 'mcp_frontend_exec', false)",
        "DO $$ BEGIN SET LOCAL ROLE mcp_exec; END $$",
    ] {
        let after = stage.inject_by("try_free", statement).await?;
        ensure!(after["sqlstate"] == "42501", "{statement}: {after}");
        ensure!(after["role"] == "mcp_user", "{statement}: {after}");
        stage.clean(&stage.exec, "mcp_frontend_exec", statement).await?;
    }
    Ok(())
}

async fn savepoint_that_is_released_keeps_the_identity_lost_with_its_parent(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    auth.batch_execute("BEGIN; SAVEPOINT outer_one; SAVEPOINT inner_one").await?;
    auth.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
    auth.batch_execute("RELEASE inner_one; SAVEPOINT later; ROLLBACK TO later").await?;
    let user: Option<uuid::Uuid> = auth.query_one("SELECT mcp.user_id()", &[]).await?.get(0);
    ensure!(user == Some(session.user_id), "a later savepoint has nothing to do with it: {user:?}");
    auth.batch_execute("ROLLBACK TO outer_one").await?;
    let read = sqlstate(auth.query_one("SELECT mcp.user_id()", &[]).await)?;
    ensure!(read == "25000", "the arming was taken back: {read}");
    auth.batch_execute("ROLLBACK").await?;
    Ok(())
}

async fn database_of_another_encoding_is_refused(world: &Shared) -> Result<()> {
    let cluster = world.cluster().await?;
    let postgres = cluster.superuser("postgres").await?;
    let create = "CREATE DATABASE western ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    postgres.batch_execute(create).await?;
    let created = cluster.superuser("western").await?.batch_execute("CREATE EXTENSION mcp_sessions").await;
    let error = created.err().context("it was made")?;
    let said = error.as_db_error().context("an error of the server")?;
    ensure!(said.code().code() == "0A000" && said.message().contains("UTF8"), "{said:?}");
    ensure!(said.hint().is_some_and(|hint| hint.starts_with("CREATE DATABASE")), "{said:?}");
    postgres.batch_execute("DROP DATABASE western WITH (FORCE)").await?;
    Ok(())
}

async fn detail_of_an_error_stays_in_the_server(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let session = session_at(&frontend, &database).await?;
    // As PostgreSQL quotes a row in the detail of a violated constraint.
    database
        .superuser()
        .await?
        .batch_execute(
            "ALTER FUNCTION mcp.revoke_session(text) RENAME TO revoke_session_that_works;
             CREATE FUNCTION mcp.revoke_session(token text) RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
                 RAISE EXCEPTION 'out of order' USING ERRCODE = '23505', DETAIL = 'the row of somebody else';
             END $$;
             GRANT EXECUTE ON FUNCTION mcp.revoke_session(text) TO mcp_auth",
        )
        .await?;
    let http = reqwest::Client::new();
    let answer =
        http.post(format!("{}/auth/logout", frontend.url())).bearer_auth(&session.token).send().await?;
    ensure!(answer.status().is_server_error(), "{}", answer.status());
    let text = answer.text().await?;
    ensure!(!text.contains("somebody") && !text.contains("out of order"), "{text}");
    // The server's own log is the place for it, and that of the driver, which says all it hears at trace level.
    let log = frontend.logged("23505 out of order").await?;
    for line in log.lines().filter(|line| line.contains("23505")) {
        ensure!(!line.contains("the row of somebody else"), "{line}");
    }
    Ok(())
}
