//! Calls that ask their client for input: what it carries from one round to the next holds for that call, and once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::mcp::{Answer, Door, Era, MODERN, McpClient};
use tests::session::NewSession;
use tests::wait::wait_until;
use tokio::task::JoinSet;

use crate::world::{self, Shared, Trials};

const INVALID_PARAMS: i64 = -32602;
const MISSING_CAPABILITY: i64 = -32021;

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        t20_an_answer_in_the_next_round_completes_the_call,
        t20_answers_are_carried_over_several_rounds_and_replicas,
        t20_a_request_state_with_any_byte_changed_is_refused,
        t20_a_request_state_of_another_user_is_refused,
        t20_a_request_state_of_another_session_of_the_same_user_is_refused,
        t20_a_request_state_of_another_tool_is_refused,
        t20_a_request_state_with_changed_arguments_is_refused,
        t20_a_request_state_that_is_too_old_is_refused,
        t20_a_request_state_holds_once,
        t20_a_request_state_holds_once_in_parallel_and_on_every_replica,
        t20_a_client_is_asked_only_for_what_it_can,
        t20_a_client_of_an_older_revision_is_told_that_it_cannot_be_asked,
        what_no_question_is_answered_with_is_the_clients_fault,
    ]
}

struct Stage<'w> {
    database: Database<'w>,
    replicas: [Frontend; 2],
}

impl<'w> Stage<'w> {
    async fn set(world: &'w Shared) -> Result<Self> {
        let database = world.database().await?;
        database
            .superuser()
            .await?
            .batch_execute(
                "CREATE FUNCTION app.form(name text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
                     $$ SELECT jsonb_build_object('type', 'object', 'required', jsonb_build_array(name),
                            'properties', jsonb_build_object(name, jsonb_build_object('type', 'string'))) $$;
                 CREATE FUNCTION app.sign(body text) RETURNS text LANGUAGE plpgsql AS $$
                     DECLARE answer jsonb := mcp.elicit('name', 'Who signs?', app.form('name'));
                     BEGIN
                         INSERT INTO app.notes (body) VALUES (body || ', ' || (answer #>> '{content,name}'));
                         RETURN body || ', ' || (answer #>> '{content,name}');
                     END $$;
                 CREATE FUNCTION app.ask_twice() RETURNS text LANGUAGE plpgsql AS $$
                     DECLARE
                         name text := mcp.elicit('name', 'Who?', app.form('name')) #>> '{content,name}';
                         place text := mcp.elicit('place', 'Where?', app.form('place')) #>> '{content,place}';
                     BEGIN RETURN name || ' of ' || place; END $$;
                 CREATE FUNCTION app.ask_model() RETURNS text LANGUAGE sql AS $$
                     SELECT mcp.sample('m', '[]') #>> '{content,text}' $$;
                 CREATE FUNCTION app.ask_roots() RETURNS text LANGUAGE sql AS $$ SELECT mcp.roots('r')::text $$;
                 SELECT mcp.expose_tool('app.sign(text)', name => 'sign'),
                        mcp.expose_tool('app.sign(text)', name => 'sign_too'),
                        mcp.expose_tool('app.ask_twice()', name => 'ask_twice'),
                        mcp.expose_tool('app.ask_model()', name => 'ask_model'),
                        mcp.expose_tool('app.ask_roots()', name => 'ask_roots'),
                        mcp.expose_prompt('app.sign(text)', name => 'sign'),
                        mcp.expose_prompt('app.ask_twice()', name => 'ask_twice');",
            )
            .await?;
        let first = world.frontend(&database).await?;
        let second = first.settings().replica()?.start().await?;
        Ok(Self { database, replicas: [first, second] })
    }

    /// A client of the first replica whose user can fill in forms.
    async fn client(&self, user: &str) -> Result<McpClient> {
        let resource = self.replicas[0].resource();
        let session = NewSession::of(user).at(&resource).create(&self.database.auth().await?).await?;
        Ok(self.replicas[0]
            .mcp(Era::Modern)
            .with(Door::Bearer, &session.token)
            .capable(json!({"elicitation": {}})))
    }

    fn elsewhere(&self, client: &McpClient) -> McpClient {
        client.clone().at(&self.replicas[1].resource())
    }

    async fn notes(&self) -> Result<i64> {
        let row = self.database.superuser().await?.query_one("SELECT count(*) FROM app.notes", &[]).await?;
        Ok(row.get(0))
    }
}

fn sign(body: &str) -> Value {
    json!({"name": "sign", "arguments": {"body": body}})
}

fn accept(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

/// The next round of a call.
fn answered(mut call: Value, state: &str) -> Value {
    call["requestState"] = state.into();
    call["inputResponses"] = json!({"name": accept(json!({"name": "Alice"}))});
    call
}

/// The state of a call that asks for input.
async fn asked(client: &McpClient, call: &Value) -> Result<String> {
    let result = client.request("tools/call", call.clone()).await?.result()?;
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert_eq!(result["inputRequests"]["name"]["method"], "elicitation/create", "{result}");
    Ok(result["requestState"].as_str().context("no requestState")?.to_owned())
}

async fn round(client: &McpClient, call: &Value, state: &str) -> Result<Answer> {
    client.request("tools/call", answered(call.clone(), state)).await
}

fn ensure_refused(answer: &Answer) -> Result<()> {
    assert_eq!(answer.error_code()?, INVALID_PARAMS, "{}", answer.text);
    ensure!(answer.text.contains("requestState"), "{}", answer.text);
    Ok(())
}

async fn t20_an_answer_in_the_next_round_completes_the_call(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let state = asked(&client, &sign("Yours")).await?;
    assert_eq!(stage.notes().await?, 0, "what asks has written nothing");
    assert_eq!(round(&client, &sign("Yours"), &state).await?.tool_text()?, "Yours, Alice");
    assert_eq!(stage.notes().await?, 1);
    // An answer of the wrong shape is asked for again, one to a question that nobody put is ignored.
    for wrong in [
        json!({}),
        json!({"name": 7}),
        json!({"name": accept(json!({"name": 7}))}),
        json!({"other": accept(json!({}))}),
    ] {
        let mut call = sign("Yours");
        call["requestState"] = asked(&client, &call).await?.into();
        call["inputResponses"] = wrong.clone();
        let result = client.request("tools/call", call).await?.result()?;
        assert_eq!(result["resultType"], "input_required", "{wrong}: {result}");
    }
    // A person may decline.
    let mut call = sign("Yours");
    call["requestState"] = asked(&client, &call).await?.into();
    call["inputResponses"] = json!({"name": {"action": "decline"}});
    assert_eq!(client.request("tools/call", call).await?.result()?["resultType"], "complete");
    Ok(())
}

async fn t20_answers_are_carried_over_several_rounds_and_replicas(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let here = stage.client("alice").await?;
    let there = stage.elsewhere(&here);
    for method in ["tools/call", "prompts/get"] {
        let mut call = json!({"name": "ask_twice"});
        let first = here.request(method, call.clone()).await?.result()?;
        call["requestState"] = first["requestState"].clone();
        call["inputResponses"] = json!({"name": accept(json!({"name": "Alice"}))});
        let second = there.request(method, call.clone()).await?.result()?;
        assert_eq!(second["inputRequests"]["place"]["method"], "elicitation/create", "{second}");
        ensure!(second["inputRequests"].get("name").is_none(), "asked for what was answered: {second}");
        ensure!(second["requestState"] != first["requestState"], "the state has not moved on");
        call["requestState"] = second["requestState"].clone();
        call["inputResponses"] = json!({"place": accept(json!({"place": "Rome"}))});
        let third = here.request(method, call).await?.result()?;
        assert_eq!(third["resultType"], "complete", "{third}");
        ensure!(third.to_string().contains("Alice of Rome"), "{third}");
    }
    Ok(())
}

async fn t20_a_request_state_with_any_byte_changed_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let state = asked(&client, &sign("Yours")).await?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&state)?;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        ensure_refused(&round(&client, &sign("Yours"), &BASE64_URL_SAFE_NO_PAD.encode(&changed)).await?)
            .with_context(|| format!("byte {at}"))?;
    }
    let cut = &state[..state.len() - 1];
    for changed in [
        cut,
        &format!("{state}A"),
        &format!("{state}="),
        &format!(" {state}"),
        "",
        "null",
        &state.to_lowercase(),
    ] {
        ensure_refused(&round(&client, &sign("Yours"), changed).await?)
            .with_context(|| format!("{changed:?}"))?;
    }
    assert_eq!(stage.notes().await?, 0);
    // None of it has used up the state as it was.
    assert_eq!(round(&client, &sign("Yours"), &state).await?.tool_text()?, "Yours, Alice");
    Ok(())
}

async fn t20_a_request_state_of_another_user_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (alice, bob) = (stage.client("alice").await?, stage.client("bob").await?);
    let state = asked(&alice, &sign("Yours")).await?;
    ensure_refused(&round(&bob, &sign("Yours"), &state).await?)?;
    assert_eq!(round(&alice, &sign("Yours"), &state).await?.tool_text()?, "Yours, Alice", "it is still hers");
    Ok(())
}

async fn t20_a_request_state_of_another_session_of_the_same_user_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (first, second) = (stage.client("alice").await?, stage.client("alice").await?);
    let state = asked(&first, &sign("Yours")).await?;
    ensure_refused(&round(&second, &sign("Yours"), &state).await?)
}

async fn t20_a_request_state_of_another_tool_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let state = asked(&client, &sign("Yours")).await?;
    // The same function under another name, and the same name as a prompt.
    let mut other = sign("Yours");
    other["name"] = "sign_too".into();
    ensure_refused(&round(&client, &other, &state).await?)?;
    ensure_refused(&client.request("prompts/get", answered(sign("Yours"), &state)).await?)
}

async fn t20_a_request_state_with_changed_arguments_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let state = asked(&client, &sign("Yours")).await?;
    for body in ["Mine", "yours", "Yours ", ""] {
        ensure_refused(&round(&client, &sign(body), &state).await?).with_context(|| body.to_owned())?;
    }
    assert_eq!(stage.notes().await?, 0);
    Ok(())
}

async fn t20_a_request_state_that_is_too_old_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let superuser = stage.database.superuser().await?;
    let set = format!("ALTER DATABASE {} SET mcp.request_state_ttl = '2 s'", stage.database.name());
    superuser.batch_execute(&set).await?;
    // A frontend whose connections begin after that.
    let late = stage.replicas[0].settings().replica()?.start().await?;
    let client = stage.client("alice").await?.at(&late.resource());
    let state = asked(&client, &sign("Yours")).await?;
    let made: f64 = clock(&superuser).await?;
    wait_until("the state to be too old", Duration::from_secs(30), || async {
        Ok(clock(&superuser).await? > made + 2.0)
    })
    .await?;
    ensure_refused(&round(&client, &sign("Yours"), &state).await?)?;
    assert_eq!(stage.notes().await?, 0);
    Ok(())
}

async fn clock(superuser: &tokio_postgres::Client) -> Result<f64> {
    let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
    Ok(superuser.query_one(sql, &[]).await?.get(0))
}

async fn t20_a_request_state_holds_once(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let state = asked(&client, &sign("Yours")).await?;
    assert_eq!(round(&client, &sign("Yours"), &state).await?.tool_text()?, "Yours, Alice");
    for _ in 0..3 {
        ensure_refused(&round(&client, &sign("Yours"), &state).await?)?;
    }
    // One that was answered with another question is used too.
    let state = asked(&client, &sign("Yours")).await?;
    let mut empty = sign("Yours");
    empty["requestState"] = state.clone().into();
    assert_eq!(client.request("tools/call", empty).await?.result()?["resultType"], "input_required");
    ensure_refused(&round(&client, &sign("Yours"), &state).await?)?;
    assert_eq!(stage.notes().await?, 1);
    Ok(())
}

async fn t20_a_request_state_holds_once_in_parallel_and_on_every_replica(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let here = stage.client("alice").await?;
    let there = stage.elsewhere(&here);
    for attempt in 1..=3 {
        let state = asked(&here, &sign("Yours")).await?;
        let mut rounds = JoinSet::new();
        for number in 0..12 {
            let (client, state) = (if number % 2 == 0 { &here } else { &there }.clone(), state.clone());
            rounds.spawn(async move { round(&client, &sign("Yours"), &state).await });
        }
        let mut done = 0;
        while let Some(answer) = rounds.join_next().await {
            let answer = answer??;
            match answer.tool_text() {
                Ok(_) => done += 1,
                Err(_) => ensure_refused(&answer)?,
            }
        }
        assert_eq!(done, 1, "one of twelve rounds with the same state");
        assert_eq!(stage.notes().await?, attempt);
    }
    Ok(())
}

async fn t20_a_client_is_asked_only_for_what_it_can(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    for (tool, arguments, capability) in [
        ("sign", json!({"body": "x"}), "elicitation"),
        ("ask_model", json!({}), "sampling"),
        ("ask_roots", json!({}), "roots"),
    ] {
        for declared in [json!({}), json!({"experimental": {capability: {}}})] {
            let answer = client.clone().capable(declared).call(tool, arguments.clone()).await?;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
            assert_eq!(answer.error_code()?, MISSING_CAPABILITY, "{}", answer.text);
            assert_eq!(answer.json()?["error"]["data"]["requiredCapabilities"], json!({capability: {}}));
        }
        let result = client.clone().capable(json!({capability: {}})).call(tool, arguments).await?.result()?;
        assert_eq!(result["resultType"], "input_required", "{result}");
    }
    Ok(())
}

async fn t20_a_client_of_an_older_revision_is_told_that_it_cannot_be_asked(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let resource = stage.replicas[0].resource();
    let session = NewSession::of("alice").at(&resource).create(&stage.database.auth().await?).await?;
    let client = stage.replicas[0].mcp(Era::Legacy).with(Door::Bearer, &session.token);
    let error = client.call("sign", json!({"body": "x"})).await?.tool_error()?;
    ensure!(error.contains("cannot be asked"), "{error}");
    assert_eq!(stage.notes().await?, 0);
    Ok(())
}

async fn what_no_question_is_answered_with_is_the_clients_fault(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client("alice").await?;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (method, more) in [
        ("tools/call", r#""requestState": 7"#),
        ("tools/call", r#""requestState": {"a": 1e400}"#),
        ("prompts/get", r#""requestState": []"#),
        ("tools/call", r#""inputResponses": []"#),
        ("tools/call", r#""inputResponses": {"name": 1e400}"#),
        ("prompts/get", r#""inputResponses": {"name": {"action": "accept", "content": {"name": -1e400}}}"#),
        ("tools/call", &format!(r#""inputResponses": {{"name": {deep}}}"#)),
    ] {
        let body = format!(
            r#"{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {{"name": "sign",
                "arguments": {{"body": "x"}}, {more}, "_meta": {{
                "io.modelcontextprotocol/protocolVersion": "{MODERN}",
                "io.modelcontextprotocol/clientCapabilities": {{"elicitation": {{}}}}}}}}}}"#
        );
        let answer = client
            .clone()
            .header("mcp-protocol-version", MODERN)
            .header("mcp-method", method)
            .header("mcp-name", "sign")
            .post(body)
            .await?;
        ensure!(
            !answer.status.is_server_error() && answer.error_code()? == INVALID_PARAMS,
            "{more}: {} {}",
            answer.status,
            answer.text
        );
    }
    Ok(())
}
