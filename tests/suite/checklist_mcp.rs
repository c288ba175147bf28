//! The rows of the security checklist that are about the MCP endpoint itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::mcp::{Door, Era, LEGACY, MODERN, McpClient};
use tests::session::{NewSession, Session};
use tests::wait::wait_until;
use tokio::task::JoinSet;

use crate::world::{self, Shared, Trials};

const HEADER_MISMATCH: i64 = -32020;
const PATIENCE: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_22_session_id_of_another_user_means_nothing,
        checklist_23_no_handle_stands_for_a_credential,
        checklist_24_answers_to_equal_ids_never_cross,
        checklist_26_the_body_decides_and_headers_agree,
        checklist_59_what_the_endpoint_does_not_take_does_nothing,
        tokens_that_do_not_hold_subscribe_to_nothing_and_cancel_nothing,
        a_notice_that_fails_in_a_batch_is_not_answered,
    ]
}

async fn session(database: &Database<'_>, frontend: &Frontend, user: &str) -> Result<Session> {
    let resource = frontend.resource();
    NewSession::of(user).at(&resource).create(&database.auth().await?).await
}

async fn token(database: &Database<'_>, frontend: &Frontend, user: &str) -> Result<String> {
    Ok(session(database, frontend, user).await?.token)
}

async fn notes(database: &Database<'_>) -> Result<i64> {
    Ok(database.superuser().await?.query_one("SELECT count(*) FROM app.notes", &[]).await?.get(0))
}

async fn checklist_22_session_id_of_another_user_means_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let (alice, bob) =
        (session(&database, &frontend, "alice").await?, token(&database, &frontend, "bob").await?);
    let superuser = database.superuser().await?;
    // The id that Alice's client would carry if another server had minted it; and that of her session here.
    let handle = alice.id.to_string();
    for session in ["5f0c0123456789abcdef", handle.as_str()] {
        let client = |token: &str| {
            frontend.mcp(Era::Legacy).with(Door::Bearer, token).header("mcp-session-id", session).id(7)
        };
        let waiting = client(&alice.token);
        let call = tokio::spawn(async move { waiting.call("sleep", json!({"seconds": 4})).await });
        wait_until("Alice's tool to sleep", PATIENCE, || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'";
            Ok(superuser.query_one(sql, &[&database.name()]).await?.get::<_, i64>(0) == 1)
        })
        .await?;
        let me: Value = serde_json::from_str(&client(&bob).call("whoami", json!({})).await?.tool_text()?)?;
        assert_eq!(me["subject"], "bob", "whose token it is decides");
        for message in [
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}),
            json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "of Bob"}]}}),
        ] {
            let answer =
                client(&bob).header("mcp-protocol-version", LEGACY).post(message.to_string()).await?;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{message}");
        }
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(client(&bob).bare(method).await?.status, StatusCode::METHOD_NOT_ALLOWED);
        }
        let answer = call.await??;
        assert_eq!(answer.tool_text()?, "awake", "nothing of Bob's reached Alice");
        assert_eq!(answer.json()?["id"], 7);
    }
    Ok(())
}

async fn checklist_23_no_handle_stands_for_a_credential(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let alice = session(&database, &frontend, "alice").await?;
    for era in [Era::Modern, Era::Legacy] {
        for handle in [alice.id.to_string().as_str(), &alice.token, "0123456789abcdef"] {
            let client = frontend.mcp(era).header("mcp-session-id", handle);
            for (method, params) in [
                ("tools/list", json!({})),
                ("tools/call", json!({"name": "add_note", "arguments": {"body": "of nobody"}})),
                (
                    "tools/call",
                    json!({"name": "add_note", "arguments": {"body": "x"}, "requestState": handle}),
                ),
                ("initialize", json!({"protocolVersion": LEGACY, "capabilities": {}})),
            ] {
                let answer = client.request(method, params).await?;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}: {}", answer.text);
                ensure!(
                    answer
                        .header("www-authenticate")
                        .is_some_and(|value| value.contains("resource_metadata="))
                );
            }
            for method in [Method::GET, Method::DELETE] {
                assert_eq!(client.bare(method).await?.status, StatusCode::UNAUTHORIZED);
            }
        }
    }
    assert_eq!(notes(&database).await?, 0);
    Ok(())
}

async fn checklist_24_answers_to_equal_ids_never_cross(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let second = frontend.settings().replica()?.start().await?;
    let mut work = JoinSet::new();
    for number in 0..8 {
        let user = if number % 2 == 0 { "alice" } else { "bob" };
        let era = if number % 4 < 2 { Era::Modern } else { Era::Legacy };
        let replica = if number < 4 { &frontend } else { &second };
        let token = token(&database, &frontend, user).await?;
        let client = McpClient::new(&replica.resource(), era).with(Door::Bearer, &token).id("same");
        work.spawn(async move {
            for call in 0..40 {
                let word = format!("{user} {number} {call}");
                let answer = client.call("echo", json!({"word": word})).await?;
                assert_eq!(answer.json()?["id"], "same");
                assert_eq!(answer.result()?["structuredContent"], json!({"word": word}));
                let me: Value = serde_json::from_str(&client.call("whoami", json!({})).await?.tool_text()?)?;
                ensure!(me["subject"] == user, "{user} was answered {me}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = work.join_next().await {
        done??;
    }
    Ok(())
}

async fn checklist_26_the_body_decides_and_headers_agree(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            r#"CREATE FUNCTION app.note_in(region text, body text) RETURNS bigint LANGUAGE sql AS
                   $$ INSERT INTO app.notes (body) VALUES (region || body) RETURNING id $$;
               SELECT mcp.expose_tool('app.note_in(text, text)', name => 'note_in', input_schema =>
                   '{"type": "object", "required": ["region", "body"], "properties":
                     {"region": {"type": "string", "x-mcp-header": "Region"}, "body": {"type": "string"}}}')"#,
        )
        .await?;
    let frontend = world.frontend(&database).await?;
    let alice = token(&database, &frontend, "alice").await?;
    let modern = |name: &str, arguments: Value| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": name, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}}});
        message.to_string()
    };
    let add = modern("add_note", json!({"body": "x"}));
    let note_in = modern("note_in", json!({"region": "eu", "body": "x"}));
    let (version, method, name) = ("mcp-protocol-version", "mcp-method", "mcp-name");
    let region = "mcp-param-region";
    let wrong: [(&str, &[(&'static str, &str)]); 11] = [
        (&add, &[(version, MODERN), (method, "tools/list"), (name, "add_note")]),
        (&add, &[(version, MODERN), (method, "tools/call"), (name, "list_notes")]),
        (&add, &[(version, MODERN), (method, "tools/call"), (name, "ADD_NOTE")]),
        (&add, &[(version, MODERN), (method, "tools/call"), (name, "=?base64?YWRkX25vdGU?=")]),
        (&add, &[(version, MODERN), (method, "tools/call"), (name, "=?base64?****?=")]),
        (&add, &[(version, MODERN), (method, "tools/call")]),
        (&add, &[(version, LEGACY), (method, "tools/call"), (name, "add_note")]),
        (&add, &[(method, "tools/call"), (name, "add_note")]),
        (&note_in, &[(version, MODERN), (method, "tools/call"), (name, "note_in"), (region, "us")]),
        (
            &note_in,
            &[(version, MODERN), (method, "tools/call"), (name, "note_in"), (region, "=?base64?ZXU?=")],
        ),
        (&note_in, &[(version, MODERN), (method, "tools/call"), (name, "note_in")]),
    ];
    for (body, headers) in wrong {
        let client = headers
            .iter()
            .fold(frontend.mcp(Era::Modern).with(Door::Bearer, &alice), |client, (name, value)| {
                client.header(name, value)
            });
        let answer = client.post(body.to_owned()).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}: {}", answer.text);
        assert_eq!(answer.error_code()?, HEADER_MISMATCH, "{headers:?}");
    }
    assert_eq!(notes(&database).await?, 0, "none of them ran");
    // A harmless name in the header lets nobody at what the body names.
    let modest = frontend
        .mcp(Era::Modern)
        .with(Door::Bearer, &alice)
        .header(version, MODERN)
        .header(method, "tools/call");
    let disguised = modest.clone().header(name, "whoami").post(modern("privileged", json!({}))).await?;
    assert_eq!(disguised.error_code()?, HEADER_MISMATCH);
    let honest = modest.header(name, "privileged").post(modern("privileged", json!({}))).await?;
    assert_eq!(honest.status, StatusCode::FORBIDDEN, "{}", honest.text);
    // The older revisions know no such headers; the body decides there too.
    let legacy = frontend.mcp(Era::Legacy).with(Door::Bearer, &alice).header(name, "whoami");
    assert_eq!(legacy.call("privileged", json!({})).await?.status, StatusCode::FORBIDDEN);
    let sent = legacy.header(method, "tools/list").call("add_note", json!({"body": "x"})).await?;
    sent.tool_text()?;
    assert_eq!(notes(&database).await?, 1);
    Ok(())
}

async fn checklist_59_what_the_endpoint_does_not_take_does_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let alice = token(&database, &frontend, "alice").await?;
    let url = frontend.resource();
    let http = reqwest::Client::new();
    let add = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                     "params": {"name": "add_note", "arguments": {"body": "unwanted"}}})
    .to_string();
    let send = |method: Method, kind: Option<&str>, body: &str, version: Option<&str>| {
        let mut request = http.request(method, &url).bearer_auth(&alice).body(body.to_owned());
        for (name, value) in [("content-type", kind), ("mcp-protocol-version", version)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        async move { anyhow::Ok(request.send().await?.status().as_u16()) }
    };
    let json_type = Some("application/json");
    for method in ["GET", "DELETE", "PUT", "PATCH", "HEAD", "TRACE", "CONNECT_", "post", "LINK"] {
        let method = Method::from_bytes(method.as_bytes())?;
        for version in [None, Some(MODERN), Some(LEGACY)] {
            let status = send(method.clone(), json_type, &add, version).await?;
            ensure!(status == 405, "{method} {version:?}: {status}");
        }
    }
    // What a page may send without a preflight is not taken.
    for kind in [
        None,
        Some("text/plain"),
        Some("text/plain; charset=application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/jsonp"),
        Some("text/json"),
        Some(""),
    ] {
        let status = send(Method::POST, kind, &add, None).await?;
        ensure!(status == 415, "{kind:?}: {status}");
    }
    let batch = format!("[{add},{add}]");
    for version in [MODERN, LEGACY, "2025-06-18"] {
        let status = send(Method::POST, json_type, &batch, Some(version)).await?;
        ensure!(status == 400, "a batch of {version}: {status}");
    }
    assert_eq!(notes(&database).await?, 0, "none of it had an effect");
    assert_eq!(send(Method::POST, Some("application/json; charset=utf-8"), &add, None).await?, 200);
    assert_eq!(notes(&database).await?, 1, "and what is taken has one");
    Ok(())
}

async fn tokens_that_do_not_hold_subscribe_to_nothing_and_cancel_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let revoked = token(&database, &frontend, "alice").await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked]).await?;
    let elsewhere = NewSession::of("alice").at("https://other.test/mcp").create(&auth).await?.token;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    for token in [revoked, elsewhere] {
        let [modern, legacy] =
            [Era::Modern, Era::Legacy].map(|era| frontend.mcp(era).with(Door::Bearer, &token));
        let lists = json!({"notifications": {"toolsListChanged": true}});
        assert_eq!(modern.open("subscriptions/listen", lists).await?.status(), StatusCode::UNAUTHORIZED);
        for (method, params) in [
            ("tools/list", json!({})),
            ("tools/call", json!({"name": "whoami", "arguments": {}})),
            ("resources/list", json!({})),
            ("resources/templates/list", json!({})),
            ("resources/read", json!({"uri": "notes://mine"})),
            ("prompts/list", json!({})),
            ("prompts/get", json!({"name": "greet"})),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": ""}}),
            ),
        ] {
            let answer = modern.request(method, params).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}");
        }
        assert_eq!(legacy.request("ping", json!({})).await?.status, StatusCode::UNAUTHORIZED);
        let legacy = legacy.header("mcp-session-id", "0123456789abcdef");
        assert_eq!(legacy.post(cancel.to_string()).await?.status, StatusCode::UNAUTHORIZED);
    }
    Ok(())
}

async fn a_notice_that_fails_in_a_batch_is_not_answered(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let (superuser, alice) = (database.superuser().await?, token(&database, &frontend, "alice").await?);
    superuser.batch_execute("BEGIN; LOCK TABLE app.notes IN ACCESS EXCLUSIVE MODE").await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &alice);
    let batch = tokio::spawn(async move {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                          "params": {"name": "add_note", "arguments": {"body": "x"}}});
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        client.post(json!([call, notice]).to_string()).await
    });
    let watcher = database.superuser().await?;
    wait_until("the call to wait", PATIENCE, || async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'";
        Ok(watcher.query_one(waits, &[&database.name()]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    database.auth().await?.query_one("SELECT mcp.revoke_session($1)", &[&alice]).await?;
    superuser.batch_execute("COMMIT").await?;
    let answer = batch.await??;
    let answers = answer.json()?;
    assert_eq!(answers.as_array().map(Vec::len), Some(1), "{}", answer.text);
    assert_eq!((&answers[0]["id"], answers[0]["result"].is_object()), (&json!(1), true), "{}", answer.text);
    // Who runs this server is told of it all the same.
    let counted = r#"mcp_frontend_faults_total{kind="session",code="invalid_token"}"#;
    wait_until("the fault to be counted", PATIENCE, || async {
        Ok(frontend.metric(counted).await? == Some(1))
    })
    .await?;
    frontend.logged("invalid_token").await?;
    Ok(())
}
