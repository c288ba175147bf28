//! Bad input of every kind, at every door: the right status or SQLSTATE, no panic, no stack, nothing lost.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::mcp::{Answer, Door, Era, text_blocks};
use tests::session::{NewSession, Session, call_tool, sqlstate, status};
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        tokens_that_are_none_are_unknown_to_sql,
        checklist_19_tokens_that_are_none_are_a_401,
        stolen_halves_of_tokens_open_nothing,
        checklist_41_token_kinds_are_not_exchangeable,
        nulls_to_every_function,
        absurd_values_to_every_function,
        create_session_refuses_what_it_cannot_keep,
        state_is_compared_and_bounded,
        tool_arguments_of_the_wrong_type,
        tool_arguments_of_every_json_shape,
        checklist_47_tool_names_match_by_exact_text,
        arguments_never_become_sql,
        bodies_that_are_no_request,
        huge_bodies_are_refused,
        deep_and_wide_json,
        unknown_methods,
        headers_that_contradict_the_body,
        hostile_auth_parameters,
    ]
}

/// Strings that look less and less like `token`.
fn distorted(token: &str) -> Vec<String> {
    let mut strings = vec![
        String::new(),
        " ".to_owned(),
        "mcps_".to_owned(),
        token[..token.len() - 1].to_owned(),
        token[1..].to_owned(),
        format!("{token}A"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}{token}"),
        token.to_uppercase(),
        token.replace('_', "-"),
        token.replacen("mcps_", "MCPS_", 1),
        token.chars().rev().collect(),
        "mcps_".to_owned() + &"0".repeat(73),
        "mcps_".to_owned() + &"z".repeat(22) + "_" + &"z".repeat(50),
        "x".repeat(100_000),
        "' OR true --".to_owned(),
        "$1".to_owned(),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.".to_owned(),
        "00000000-0000-0000-0000-000000000000".to_owned(),
    ];
    // Every position of the token with another letter of its alphabet: selector, secret or checksum no longer fit.
    for position in 5..token.len() {
        if &token[position..=position] != "_" {
            let other = if &token[position..=position] == "k" { "q" } else { "k" };
            let mut changed = token.to_owned();
            changed.replace_range(position..=position, other);
            strings.push(changed);
        }
    }
    strings
}

async fn tokens_that_are_none_are_unknown_to_sql(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    for token in distorted(&session.token)
        .into_iter()
        .chain(["\u{1F600}\u{0301}".to_owned(), "mcps_\u{00E9}".to_owned()])
    {
        assert_eq!(status(&auth, &token).await?, "unknown", "{token:?}");
        let row = auth.query_one("SELECT status, user_id IS NULL FROM mcp.enter($1)", &[&token]).await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), ("unknown", true));
        assert_eq!(call_tool(&exec, &token, "whoami", json!({})).await?["status"], "unknown");
        let listed: Vec<Value> =
            exec.query("SELECT mcp.list_tools($1)", &[&token]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(listed, [json!({"status": "unknown"})]);
        let row = auth
            .query_one(
                "SELECT mcp.touch_session($1) IS NULL AND mcp.session_oauth_data($1) IS NULL
                    AND NOT mcp.revoke_session($1) AND mcp.set_session_state($1, '{}') IS NULL
                    AND NOT mcp.set_session_oauth_data($1, '{}')",
                &[&token],
            )
            .await?;
        ensure!(row.get::<_, bool>(0), "{token:?}");
    }
    assert_eq!(status(&auth, &session.token).await?, "active");
    Ok(())
}

async fn resource_session(database: &Database<'_>, frontend: &Frontend) -> Result<Session> {
    let auth = database.auth().await?;
    NewSession::of("alice").at(&frontend.resource()).create(&auth).await
}

async fn checklist_19_tokens_that_are_none_are_a_401(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    for token in
        distorted(&session.token).into_iter().filter(|token| token.len() < 1000 && !token.trim().is_empty())
    {
        let token = token.trim().to_owned();
        if token == session.token {
            continue;
        }
        for door in [Door::Bearer, Door::Header] {
            let answer = frontend.mcp(Era::Modern).with(door, &token).call("whoami", json!({})).await?;
            // A credential that is no token at all may be called a bad request; it is never let in.
            let right = answer.status == StatusCode::UNAUTHORIZED
                || (answer.status == StatusCode::BAD_REQUEST && token.contains(' '));
            ensure!(right, "{door:?} {token:?}: {} {}", answer.status, answer.text);
            ensure!(!answer.text.contains(&token), "{token:?} is repeated: {}", answer.text);
        }
    }
    let long =
        frontend.mcp(Era::Modern).with(Door::Bearer, &"x".repeat(100_000)).call("whoami", json!({})).await?;
    ensure!([400, 401, 413, 431].contains(&long.status.as_u16()), "{}", long.status);
    // Header values that are no ASCII.
    let answer = reqwest::Client::new()
        .post(frontend.resource())
        .header("authorization", reqwest::header::HeaderValue::from_bytes(b"Bearer \xff\xfe")?)
        .body("{}")
        .send()
        .await?;
    ensure!(answer.status().is_client_error(), "{}", answer.status());
    Ok(())
}

async fn stolen_halves_of_tokens_open_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let [alice, bob] =
        [NewSession::of("alice").create(&auth).await?, NewSession::of("bob").create(&auth).await?];
    // Alice's public half with Bob's secret, and the other way round, with each other's checksums.
    let half = "mcps_".len() + 22;
    for crossed in [
        format!("{}{}", &alice.token[..half], &bob.token[half..]),
        format!("{}{}", &bob.token[..half], &alice.token[half..]),
    ] {
        assert_eq!(status(&auth, &crossed).await?, "unknown");
    }
    // The public id, written as people write ids, opens nothing either.
    for id in [alice.id.to_string(), alice.id.simple().to_string(), format!("mcps_{}", alice.id.simple())] {
        assert_eq!(status(&auth, &id).await?, "unknown");
    }
    Ok(())
}

async fn checklist_41_token_kinds_are_not_exchangeable(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").refreshable("client").create(&auth).await?;
    let refresh = session.refresh_token.clone().context("a refresh token was asked for")?;
    assert_eq!(status(&auth, &refresh).await?, "unknown", "a refresh token authenticates nobody");
    assert_eq!(status(&auth, &refresh.replacen("mcpr_", "mcps_", 1)).await?, "unknown");
    for wrong in [session.token.clone(), session.token.replacen("mcps_", "mcpr_", 1)] {
        let row = auth
            .query_one("SELECT status, access_token FROM mcp.refresh_session($1, 'client')", &[&wrong])
            .await?;
        assert_eq!(row.get::<_, String>(0), "unknown");
        ensure!(row.get::<_, Option<String>>(1).is_none());
    }
    // Another client's refresh changes nothing for the right one.
    let row =
        auth.query_one("SELECT status FROM mcp.refresh_session($1, 'another client')", &[&refresh]).await?;
    assert_ne!(row.get::<_, String>(0), "active");
    let row = auth
        .query_one(
            "SELECT status, access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
            &[&refresh],
        )
        .await?;
    assert_eq!(row.get::<_, String>(0), "active");
    tests::ledger::record("session token", row.get(1));
    tests::ledger::record("refresh token", row.get(2));
    Ok(())
}

/// The functions of the extension that can be called from SQL: name, argument types, and a cast of each argument.
pub(crate) async fn functions(client: &Client) -> Result<Vec<(String, Vec<String>)>> {
    let rows = client
        .query(
            "SELECT p.oid::regproc::text, array(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
               FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
               JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
              WHERE e.extname = 'mcp_sessions' AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
                AND p.prorettype <> 'event_trigger'::regtype
              ORDER BY 1, 2",
            &[],
        )
        .await?;
    ensure!(rows.len() > 25, "only {} functions found", rows.len());
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// A statement ends in a value or in an error that says whose fault it is; never in a crash or an internal error.
async fn survives(client: &Client, statement: &str) -> Result<()> {
    match client.simple_query(statement).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let database_error = error.as_db_error().with_context(|| format!("{statement}: {error}"))?;
            let state = database_error.code().code();
            ensure!(
                !["XX", "57", "58", "08", "53"].contains(&&state[..2]),
                "{statement}: {state} {}",
                database_error.message()
            );
            ensure!(
                !database_error.message().contains("panicked"),
                "{statement}: {}",
                database_error.message()
            );
            Ok(())
        }
    }
}

async fn nulls_to_every_function(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    for (function, types) in functions(&superuser).await? {
        let nulls: Vec<_> = types.iter().map(|kind| format!("NULL::{kind}")).collect();
        survives(&superuser, &format!("SELECT * FROM {function}({})", nulls.join(", "))).await?;
        // Armed as well: what the signed-in may call meets NULL there.
        superuser.batch_execute("BEGIN").await?;
        superuser.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
        survives(&superuser, &format!("SELECT * FROM {function}({})", nulls.join(", "))).await?;
        superuser.batch_execute("ROLLBACK").await?;
    }
    assert_eq!(status(&auth, &session.token).await?, "active");
    Ok(())
}

async fn absurd_values_to_every_function(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let absurd = |kind: &str| -> Vec<String> {
        let values: &[&str] = match kind {
            "text" | "name" => {
                &["''", "'x'", "repeat('x', 300000)", "E'\\u0001\\n\\r'", "'\u{1F600}\u{202E}'"]
            }
            "interval" => &[
                "'0'",
                "'-1 second'",
                "'-178000000 years'",
                "'178000000 years'",
                "'1 microsecond'",
                "'1 month -30 days'",
                "'2147483647 days'",
            ],
            "jsonb" | "json" => {
                &["'null'", "'1'", "'\"x\"'", "'[]'", "'{}'", "jsonb_build_object('x', repeat('y', 1000000))"]
            }
            "uuid" => &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
            "integer" => &["0", "-1", "'-2147483648'", "2147483647"],
            "bigint" => &["0", "-1", "'-9223372036854775808'", "9223372036854775807"],
            "boolean" => &["true", "false"],
            "text[]" => &[
                "'{}'",
                "'{\"\"}'",
                "'{NULL}'",
                "'{\"a b\"}'",
                "'{{a,b},{c,d}}'",
                "array_fill('x'::text, ARRAY[10000])",
            ],
            "bytea" => &["''", "'\\x00'", "decode(repeat('ff', 100000), 'hex')"],
            "regprocedure" => &["'pg_catalog.now()'", "0"],
            _ => &["NULL"],
        };
        values.iter().map(|value| format!("({value})::{kind}")).collect()
    };
    for (function, types) in functions(&superuser).await? {
        // Each argument in turn takes each absurd value, the others staying harmless.
        for at in 0..types.len() {
            for value in absurd(&types[at]) {
                let arguments: Vec<_> = types
                    .iter()
                    .enumerate()
                    .map(|(position, kind)| match kind.as_str() {
                        _ if position == at => value.clone(),
                        "text" => "'x'::text".to_owned(),
                        "jsonb" => "'{}'::jsonb".to_owned(),
                        "text[]" => "'{}'::text[]".to_owned(),
                        _ => format!("NULL::{kind}"),
                    })
                    .collect();
                survives(&superuser, &format!("SELECT * FROM {function}({})", arguments.join(", "))).await?;
            }
        }
    }
    assert_eq!(status(&auth, &session.token).await?, "active");
    Ok(())
}

async fn create_session_refuses_what_it_cannot_keep(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let create = |arguments: &'static str| {
        let statement = format!("SELECT * FROM mcp.create_session({arguments})");
        let auth = &auth;
        async move { auth.simple_query(&statement).await }
    };
    for (arguments, states) in [
        ("NULL, 'alice', '{}'", ["22004", "22023"]),
        ("'https://idp.test', NULL, '{}'", ["22004", "22023"]),
        ("'', 'alice', '{}'", ["22023", "22023"]),
        ("'https://idp.test', '', '{}'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', ttl => '0'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', ttl => '-1 day'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', ttl => '1000 years'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', max_lifetime => '-178000000 years'", ["22023", "22008"]),
        ("'https://idp.test', 'alice', '{}', scopes => '{\"two words\"}'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', scopes => '{NULL}'", ["22004", "22023"]),
        ("'https://idp.test', 'alice', '{}', claims => '[]'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', '{}', metadata => '1'", ["22023", "22023"]),
        ("'https://idp.test', 'alice', jsonb_build_object('x', repeat('y', 10000000))", ["54000", "54000"]),
        ("'https://idp.test', repeat('a', 1000000), '{}'", ["22023", "54000"]),
    ] {
        let state = sqlstate(create(arguments).await).with_context(|| format!("{arguments:.80}"))?;
        ensure!(states.contains(&state.as_str()), "{arguments:.80}: {state}");
    }
    let rows: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0);
    assert_eq!(rows, 0);
    Ok(())
}

async fn state_is_compared_and_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let set = |state: Value, version: Option<i64>| {
        let (auth, token) = (&auth, &session.token);
        async move {
            let row = auth
                .query_one("SELECT mcp.set_session_state($1, $2, $3)", &[token, &state, &version])
                .await?;
            Ok::<Option<i64>, tokio_postgres::Error>(row.get(0))
        }
    };
    let first = set(json!({"n": 1}), None).await?.context("an active session")?;
    let second = set(json!({"n": 2}), Some(first)).await?.context("nobody else wrote")?;
    ensure!(second > first);
    assert_eq!(set(json!({"n": 3}), Some(first)).await?, None, "somebody else won");
    let too_large = json!({"x": "y".repeat(65 * 1024)});
    assert_eq!(sqlstate(set(too_large, None).await)?, "54000");
    let row =
        auth.query_one("SELECT state, state_version FROM mcp.lookup_session($1)", &[&session.token]).await?;
    assert_eq!((row.get::<_, Value>(0), row.get::<_, i64>(1)), (json!({"n": 2}), second));
    Ok(())
}

async fn tool_arguments_of_the_wrong_type(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    for arguments in [
        json!({"number": "seven", "word": "x"}),
        json!({"number": 1.5, "word": "x"}),
        json!({"number": 99999999999_i64, "word": "x"}),
        json!({"number": [1], "word": "x"}),
        json!({"number": {"a": 1}, "word": "x"}),
        json!({"number": true, "word": "x"}),
        json!({"number": 1}),
        json!({"word": "x"}),
        json!({}),
        json!({"number": 1, "word": "x", "surplus": 1}),
        json!({"Number": 1, "word": "x"}),
        json!({"number": 1, "word": {"not": "text"}}),
        json!([1, "x"]),
        json!("x"),
        json!(7),
        json!(null),
    ] {
        let result = call_tool(&exec, &session.token, "required", arguments.clone()).await?;
        ensure!(result["isError"] == true, "{arguments}: {result}");
        let text = text_blocks(&result);
        ensure!(
            !text.is_empty() && !text.contains("panicked") && !text.contains("SQL"),
            "{arguments}: {text}"
        );
    }
    for (arguments, name) in [
        (json!({"number": "seven", "word": "x"}), "number"),
        (json!({"number": 1}), "word"),
        (json!({"number": 1, "word": "x", "surplus": 1}), "surplus"),
    ] {
        let result = call_tool(&exec, &session.token, "required", arguments).await?;
        ensure!(text_blocks(&result).contains(name), "the error says which argument: {result}");
    }
    for (argument, value) in [
        ("id", json!("not-a-uuid")),
        ("at", json!("yesterday-ish")),
        ("at", json!(12)),
        ("flag", json!("perhaps")),
        ("big", json!(1e30)),
        ("amount", json!("NaN or so")),
        ("list", json!("a,b")),
        ("list", json!([["nested"], "mixed"])),
        ("word", json!("nul \u{0} byte")),
        ("document", json!({"nul": "\u{0}"})),
    ] {
        // A NUL cannot even be said in jsonb; PostgreSQL refuses the parameter, as a fault of the caller.
        match call_tool(&exec, &session.token, "echo", json!({argument: value.clone()})).await {
            Ok(result) => ensure!(result["isError"] == true, "{argument} = {value}: {result}"),
            Err(error) => ensure!(
                error.code().is_some_and(|code| code.code().starts_with("22")),
                "{argument} = {value}: {error}"
            ),
        }
    }
    let result = call_tool(&exec, &session.token, "required", json!({"number": 1, "word": "x"})).await?;
    assert_eq!(text_blocks(&result), "x1");
    Ok(())
}

async fn tool_arguments_of_every_json_shape(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    // JSON that `jsonb` has no room for.
    let legacy = frontend.mcp(Era::Legacy).with(Door::Header, &session.token);
    for text in ["1e200000", r#""\u0000""#, r#""\ud800""#] {
        let arguments = format!(r#"{{"name": "required", "arguments": {{"body": {text}}}}}"#);
        let call = format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {arguments}}}"#);
        let answer = legacy.post(call).await?;
        ensure!(answer.status.is_success(), "{text}: {} {}", answer.status, answer.text);
        assert_eq!(answer.json()?["result"]["isError"], true, "{text}: {}", answer.text);
    }
    let client = frontend.mcp(Era::Modern).with(Door::Header, &session.token);
    for arguments in [json!([]), json!("text"), json!(7), json!(true)] {
        let answer = client.call("required", arguments.clone()).await?;
        ensure!(
            answer.status.is_success() || answer.status == StatusCode::BAD_REQUEST,
            "{arguments}: {}",
            answer.status
        );
        let message = answer.json()?;
        ensure!(
            message["result"]["isError"] == true || message["error"]["code"] == -32602,
            "{arguments}: {message}"
        );
    }
    // `arguments` may be absent, which is `{}`.
    let answer = client.request("tools/call", json!({"name": "list_notes"})).await?;
    answer.tool_text()?;
    answer_has_no_inside(&client.call("required", json!({"number": "x"})).await?)
}

fn answer_has_no_inside(answer: &Answer) -> Result<()> {
    for inside in
        ["panicked", ".rs:", "SQLSTATE", "CONTEXT", "pg_catalog", "mcp.call_tool", "stack backtrace"]
    {
        ensure!(!answer.text.contains(inside), "{inside} in {}", answer.text);
    }
    Ok(())
}

async fn checklist_47_tool_names_match_by_exact_text(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let exec = database.exec().await?;
    let names = [
        "",
        " ",
        "nothing",
        "ADD_NOTE",
        "add_note ",
        "app.add_note",
        "\"add_note\"",
        "add_note(text)",
        "pg_sleep",
        "pg_catalog.version",
        "mcp.create_session",
        "add_note; DROP TABLE app.notes",
        "../add_note",
        "add\u{200B}_note",
        "аdd_note",
        "add_note\n",
        "$1",
        "%",
        "add_not_",
        "' OR name = 'add_note",
        "add_note'--",
        "E'add_note'",
        "U&\"add_note\"",
        "app.add_note(text)",
        "call_tool",
    ];
    for name in names {
        assert_eq!(
            call_tool(&exec, &session.token, name, json!({})).await?["status"],
            "unknown_tool",
            "{name:?}"
        );
    }
    let long = "x".repeat(1_000_000);
    assert_eq!(call_tool(&exec, &session.token, &long, json!({})).await?["status"], "unknown_tool");
    let none = exec.query_one("SELECT mcp.call_tool($1, NULL)", &[&session.token]).await;
    let state = sqlstate(none)?;
    ensure!(["22023", "22004"].contains(&state.as_str()), "{state}");
    for era in [Era::Legacy, Era::Modern] {
        let answer = frontend.mcp(era).with(Door::Bearer, &session.token).call("nothing", json!({})).await?;
        assert_eq!(answer.error_code()?, -32602);
        let unnamed =
            frontend.mcp(era).with(Door::Bearer, &session.token).request("tools/call", json!({})).await?;
        ensure!([-32602, -32600, -32020].contains(&unnamed.error_code()?), "{}", unnamed.text);
    }
    Ok(())
}

async fn arguments_never_become_sql(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    for body in [
        "'; DROP TABLE app.notes; --",
        "$1",
        "%s",
        "\\",
        "$$ x $$",
        "\" OR \"\"=\"",
        "E'\\x41'",
        "{{7*7}}",
        "'||pg_sleep(10)||'",
    ] {
        client.call("add_note", json!({"body": body})).await?.tool_text()?;
        let result = client.call("list_notes", json!({})).await?.result()?;
        let last = result["structuredContent"]["rows"].as_array().and_then(|rows| rows.last()).cloned();
        assert_eq!(last.context("a row")?["body"], body);
    }
    Ok(())
}

async fn bodies_that_are_no_request(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token);
    for body in [
        "",
        " ",
        "{",
        "}",
        "nonsense",
        "\"text\"",
        "7",
        "null",
        "true",
        "{}",
        "[]",
        "[1]",
        "[[]]",
        r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#,
        r#"{"id":1,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"} trailing"#,
        "\u{feff}{}",
    ] {
        let answer = client.post(body).await?;
        // A batch is answered message by message (JSON-RPC 2.0, section 6).
        let refused = |answer: &Value| match answer {
            Value::Array(answers) => answers.iter().all(|answer| answer["error"].is_object()),
            answer => answer["error"].is_object(),
        };
        ensure!(
            answer.status.is_client_error() || answer.json().is_ok_and(|message| refused(&message)),
            "{body:?}: {} {}",
            answer.status,
            answer.text
        );
        answer_has_no_inside(&answer)?;
    }
    let not_utf8 = client.post(vec![b'{', 0xff, 0xfe, b'}']).await?;
    assert_eq!(not_utf8.status, StatusCode::BAD_REQUEST);
    assert_eq!(client.post("{").await?.error_code()?, -32700);
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]
    {
        let answer = client
            .clone()
            .header("content-type", kind)
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .await?;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let answer = client
        .clone()
        .header("accept", "text/html")
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await?;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    client.call("whoami", json!({})).await?.tool_text()?;
    Ok(())
}

async fn huge_bodies_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    let huge = "x".repeat(64 << 20);
    // The answer may come while the body is still on its way; the connection may then be reset under the client.
    match client.call("add_note", json!({"body": huge})).await {
        Ok(answer) => assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE),
        Err(error) => ensure!(error.to_string().contains("sending request"), "{error:#}"),
    }
    let large = "x".repeat(1 << 19);
    client.call("add_note", json!({"body": large})).await?.tool_text()?;
    let before = frontend.mcp(Era::Modern).post("x".repeat(8 << 20)).await;
    if let Ok(answer) = before {
        ensure!([401, 413].contains(&answer.status.as_u16()), "{}", answer.status);
    }
    client.call("whoami", json!({})).await?.tool_text()?;
    Ok(())
}

async fn deep_and_wide_json(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token);
    for depth in [100, 1_000, 100_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"document":{deep}}}}}}}"#
        );
        let answer = client.post(body).await?;
        ensure!(
            answer.status.is_success() || answer.status.is_client_error(),
            "depth {depth}: {}",
            answer.status
        );
        answer_has_no_inside(&answer)?;
    }
    let wide: serde_json::Map<String, Value> =
        (0..20_000).map(|number| (format!("k{number}"), json!(number))).collect();
    let answer = client.call("echo", json!({"document": wide.clone()})).await?;
    let echoed = &answer.result()?["structuredContent"]["document"];
    ensure!(*echoed == json!(wide), "{} {:.300}", answer.status, answer.text);
    let answer = client.call("echo", Value::Object(wide)).await?;
    answer.tool_error()?;
    client.call("whoami", json!({})).await?.tool_text()?;
    Ok(())
}

async fn unknown_methods(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    for method in ["nothing", "tools/nothing", "TOOLS/LIST", "tools/list/", "rpc.discover", "$/cancelRequest"]
    {
        let modern =
            frontend.mcp(Era::Modern).with(Door::Bearer, &session.token).request(method, json!({})).await?;
        assert_eq!((modern.status, modern.error_code()?), (StatusCode::NOT_FOUND, -32601), "{method}");
        let legacy =
            frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token).request(method, json!({})).await?;
        assert_eq!(
            (legacy.status, legacy.error_code()?),
            (StatusCode::OK, -32601),
            "{method}: 404 means another thing there"
        );
    }
    let removed =
        frontend.mcp(Era::Modern).with(Door::Bearer, &session.token).request("initialize", json!({})).await?;
    assert_eq!((removed.status, removed.error_code()?), (StatusCode::NOT_FOUND, -32601));
    Ok(())
}

async fn headers_that_contradict_the_body(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = resource_session(&database, &frontend).await?;
    let body = |version: &str, method: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "whoami", "_meta": {
            "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}}})
        .to_string()
    };
    let client = || frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    for (version, method, name) in [
        (Some("2026-07-28"), Some("tools/list"), Some("whoami")),
        (Some("2026-07-28"), Some("tools/call"), Some("add_note")),
        (Some("2026-07-28"), Some("tools/call"), None),
        (Some("2026-07-28"), None, Some("whoami")),
        (None, Some("tools/call"), Some("whoami")),
        (Some("2026-07-28"), Some("TOOLS/CALL"), Some("whoami")),
        (Some("2026-07-28"), Some("tools/call"), Some("=?base64?not base64?=")),
    ] {
        let mut client = client();
        for (header, value) in [("mcp-protocol-version", version), ("mcp-method", method), ("mcp-name", name)]
        {
            if let Some(value) = value {
                client = client.header(header, value);
            }
        }
        let answer = client.post(body("2026-07-28", "tools/call")).await?;
        assert_eq!(
            (answer.status, answer.error_code()?),
            (StatusCode::BAD_REQUEST, -32020),
            "{version:?} {method:?} {name:?}: {}",
            answer.text
        );
    }
    let unknown = client()
        .header("mcp-protocol-version", "2099-01-01")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "whoami")
        .post(body("2099-01-01", "tools/call"))
        .await?;
    assert_eq!((unknown.status, unknown.error_code()?), (StatusCode::BAD_REQUEST, -32022));
    Ok(())
}

async fn hostile_auth_parameters(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let long = "x".repeat(20_000);
    for query in [
        "redirect_uri=https://evil.test/".to_owned(),
        "redirect_uri=//evil.test".to_owned(),
        "redirect_uri=javascript:alert(1)".to_owned(),
        "redirect_uri=http://127.0.0.1.evil.test/".to_owned(),
        "login_hint=%0d%0aLocation:%20https://evil.test".to_owned(),
        "login_hint=%ff%fe".to_owned(),
        "scope=%00".to_owned(),
        "login_hint=a&login_hint=b".to_owned(),
        format!("login_hint={long}"),
        "%".to_owned(),
        "&&&===".to_owned(),
    ] {
        let answer = http.get(format!("{}/auth/init?{query}", frontend.url())).send().await?;
        let status = answer.status();
        ensure!(status == StatusCode::FOUND || status.is_client_error(), "{query:.60}: {status}");
        if let Some(location) = answer.headers().get("location") {
            let location = url::Url::parse(location.to_str()?)?;
            ensure!(
                location.as_str().starts_with(world.oidc().await?.issuer()),
                "{query:.60} leads to {location}"
            );
            let redirect = location
                .query_pairs()
                .find(|(key, _)| key == "redirect_uri")
                .map(|(_, value)| value.into_owned());
            ensure!(
                redirect == Some(frontend.settings().callback()),
                "{query:.60}: the provider sends people to {redirect:?}"
            );
        }
    }
    for (method, path) in [
        ("POST", "/auth/init"),
        ("POST", "/auth/callback"),
        ("GET", "/auth/logout"),
        ("PUT", "/auth/session"),
    ] {
        let answer = http.request(method.parse()?, format!("{}{path}", frontend.url())).send().await?;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
    // A form on another site can send this request with the cookies of whoever looks at it.
    let forged = http
        .post(format!("{}/auth/logout", frontend.url()))
        .header("origin", "https://evil.test")
        .send()
        .await?;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    Ok(())
}
