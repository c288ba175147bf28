//! Calls that nobody waits for any more: what becomes of their query, as PostgreSQL itself shows it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::mcp::{Answer, Door, Era, LEGACY, McpClient};
use tests::session::NewSession;
use tests::wait::{wait_for, wait_until};
use tokio_postgres::{Client, Row};

use crate::world::{self, Shared, Trials};

/// Within this much of a cancellation the query is gone.
const FREED: Duration = Duration::from_secs(1);
/// On a machine that is busy with other tests, the first attempt may meet a pause that is not ours.
const ATTEMPTS: usize = 3;
/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        t06_modern_closed_connection_frees_the_backend_within_a_second,
        t06_modern_closed_stream_frees_the_backend_within_a_second,
        t06_modern_cancelled_notification_is_accepted_and_cancels_nothing,
        legacy_closed_connection_lets_the_tool_finish,
        legacy_cancelled_notification_frees_the_backend_within_a_second,
        legacy_cancelled_notification_reaches_every_replica,
        legacy_cancelled_notification_of_somebody_else_does_nothing,
        a_call_that_ends_soon_after_it_was_given_up_keeps_its_backend,
        a_call_given_up_while_its_statement_was_prepared_leaves_no_statement,
        a_list_that_nobody_waits_for_frees_its_backend,
        calls_of_a_server_that_is_told_to_stop,
    ]
}

/// One database with tools that take their time, and a frontend of it.
struct Stage<'w> {
    database: Database<'w>,
    frontend: Frontend,
    superuser: Client,
}

impl<'w> Stage<'w> {
    async fn set(world: &'w Shared) -> Result<Self> {
        let database = world.database().await?;
        let superuser = database.superuser().await?;
        superuser
            .batch_execute(
                "CREATE FUNCTION app.endless() RETURNS text LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM mcp.progress(1); PERFORM pg_sleep(600); RETURN 'never'; END $$;
                 CREATE FUNCTION app.late_note(body text, seconds double precision) RETURNS text LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM mcp.progress(1); PERFORM pg_sleep(seconds);
                        INSERT INTO app.notes (body) VALUES (body); RETURN 'written'; END $$;
                 SELECT mcp.expose_tool('app.endless()', name => 'endless', timeout => '10 min'),
                        mcp.expose_tool('app.late_note(text, double precision)', name => 'late_note');",
            )
            .await?;
        let frontend = world.frontend(&database).await?;
        Ok(Self { database, frontend, superuser })
    }

    async fn client(&self, era: Era, user: &str) -> Result<McpClient> {
        let auth = self.database.auth().await?;
        let resource = self.frontend.resource();
        let session = NewSession::of(user).at(&resource).create(&auth).await?;
        let client = self.frontend.mcp(era).with(Door::Bearer, &session.token);
        Ok(if era == Era::Legacy { initialized(client).await? } else { client })
    }

    /// The backends of tools in this database in a state that `condition` describes.
    async fn backends(&self, condition: &str) -> Result<Vec<i32>> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = 'mcp_frontend_exec' AND {condition}"
        );
        Ok(self.activity(&sql).await?.iter().map(|row| row.get(0)).collect())
    }

    /// What a query of the statistics says now: in a transaction, which some tests hold open, what was seen first would be
    /// seen to its end.
    async fn activity(&self, sql: &str) -> Result<Vec<Row>> {
        self.superuser.batch_execute("SELECT pg_stat_clear_snapshot()").await?;
        Ok(self.superuser.query(sql, &[&self.database.name()]).await?)
    }

    /// How many tools sleep in this database.
    async fn sleeping(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = $1 AND usename = 'mcp_frontend_exec' AND wait_event = 'PgSleep'";
        Ok(self.activity(sql).await?[0].get(0))
    }

    async fn await_sleeping(&self, count: i64) -> Result<()> {
        wait_until(&format!("{count} tools to sleep"), PATIENCE, || async {
            Ok(self.sleeping().await? == count)
        })
        .await
    }

    /// How long it takes until no tool sleeps.
    async fn freed_after(&self) -> Result<Duration> {
        let start = Instant::now();
        self.await_sleeping(0).await?;
        Ok(start.elapsed())
    }

    async fn notes(&self) -> Result<Vec<String>> {
        let rows = self.superuser.query("SELECT body FROM app.notes ORDER BY body", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Fails where none of the measured times is short enough.
fn ensure_freed(times: &[Duration]) -> Result<()> {
    ensure!(times.iter().any(|time| *time <= FREED), "the backend was freed only after {times:?}");
    Ok(())
}

/// The same client, carrying what it was answered at the beginning.
async fn initialized(client: McpClient) -> Result<McpClient> {
    let hello = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}});
    let answer = client.request("initialize", hello).await?;
    let id = answer.header("mcp-session-id").context("the answer names no client")?.to_owned();
    Ok(client.header("mcp-session-id", &id))
}

fn cancelled(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}).to_string()
}

/// Begins a call and lets it go on by itself.
fn spawn(
    client: &McpClient,
    name: &'static str,
    arguments: Value,
) -> tokio::task::JoinHandle<Result<Answer>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(name, arguments).await })
}

async fn t06_modern_closed_connection_frees_the_backend_within_a_second(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Modern, "alice").await?;
    let mut times = Vec::new();
    for _ in 0..ATTEMPTS {
        let call = spawn(&client, "endless", json!({}));
        stage.await_sleeping(1).await?;
        call.abort();
        times.push(stage.freed_after().await?);
    }
    ensure_freed(&times)
}

async fn t06_modern_closed_stream_frees_the_backend_within_a_second(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Modern, "alice").await?.meta("progressToken", "p");
    let (mut times, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..ATTEMPTS {
        let mut stream = client.open("tools/call", json!({"name": "endless"})).await?;
        let first = stream.message(PATIENCE).await?.unwrap_or_default();
        assert_eq!(first["method"], "notifications/progress", "{first}");
        stage.await_sleeping(1).await?;
        ended.extend(stage.backends("wait_event = 'PgSleep'").await?);
        drop(stream);
        times.push(stage.freed_after().await?);
    }
    ensure_freed(&times)?;
    // The connection that was cancelled is not one that serves again.
    assert_eq!(client.call("add_note", json!({"body": "after"})).await?.status, StatusCode::OK);
    wait_until("the connections that were cancelled to be closed", PATIENCE, || async {
        Ok(!stage.backends("true").await?.iter().any(|pid| ended.contains(pid)))
    })
    .await
}

async fn t06_modern_cancelled_notification_is_accepted_and_cancels_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Modern, "alice").await?.id(7);
    let call = spawn(&client, "late_note", json!({"body": "kept", "seconds": 3}));
    stage.await_sleeping(1).await?;
    let answer = client
        .clone()
        .header("mcp-protocol-version", tests::mcp::MODERN)
        .header("mcp-method", "notifications/cancelled")
        .post(cancelled(&json!(7)))
        .await?;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, ""));
    assert_eq!(call.await??.tool_text()?, "written");
    // Nor does one of the older revisions, though it names the client, and the call is told of its progress.
    let client = client.header("mcp-session-id", "0123456789abcdef");
    let followed = client.clone().meta("progressToken", "p");
    let call = spawn(&followed, "late_note", json!({"body": "kept as well", "seconds": 3}));
    stage.await_sleeping(1).await?;
    assert_eq!(client.post(cancelled(&json!(7))).await?.status, StatusCode::ACCEPTED);
    assert_eq!(call.await??.tool_text()?, "written");
    Ok(())
}

async fn legacy_closed_connection_lets_the_tool_finish(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Legacy, "alice").await?;
    // Before anything of the answer has come, whether it may be a stream or not.
    let json_alone = client.clone().header("accept", "application/json").id(2);
    let calls = [(&client, "unanswered"), (&json_alone, "json alone")]
        .map(|(client, body)| spawn(client, "late_note", json!({"body": body, "seconds": 2})));
    stage.await_sleeping(2).await?;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    // In the middle of its stream.
    let following = client.meta("progressToken", 1);
    let arguments = json!({"body": "half answered", "seconds": 2});
    let mut stream =
        following.open("tools/call", json!({"name": "late_note", "arguments": arguments})).await?;
    assert_eq!(stream.message(PATIENCE).await?.unwrap_or_default()["method"], "notifications/progress");
    drop(stream);
    wait_until("all notes to be committed", PATIENCE, || async {
        Ok(stage.notes().await? == ["half answered", "json alone", "unanswered"])
    })
    .await
}

async fn legacy_cancelled_notification_frees_the_backend_within_a_second(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Legacy, "alice").await?;
    let mut times = Vec::new();
    for (id, spelled) in [(json!(7), json!(7)), (json!("seven"), json!("seven")), (json!(8), json!(8))] {
        let call = spawn(&client.clone().id(id), "endless", json!({}));
        stage.await_sleeping(1).await?;
        let answer = client.post(cancelled(&spelled)).await?;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, ""));
        times.push(stage.freed_after().await?);
        let unanswered = call.await??;
        assert_eq!(unanswered.status, StatusCode::OK);
        assert_eq!(unanswered.header("content-type"), Some("text/event-stream"));
        assert_eq!(unanswered.text, "", "a cancelled request is not answered");
    }
    ensure_freed(&times)?;
    let mut stream =
        client.clone().id(9).meta("progressToken", 1).open("tools/call", json!({"name": "endless"})).await?;
    assert_eq!(stream.message(PATIENCE).await?.unwrap_or_default()["method"], "notifications/progress");
    client.post(cancelled(&json!(9))).await?;
    assert_eq!(stream.message(PATIENCE).await?, None, "a cancelled request is not answered");
    // One text has many spellings in JSON.
    let spelled =
        r#"{"jsonrpc": "2.0", "id": "\u0074en", "method": "tools/call", "params": {"name": "endless"}}"#;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.post(spelled).await }
    });
    stage.await_sleeping(1).await?;
    client.post(cancelled(&json!("ten"))).await?;
    assert_eq!(call.await??.text, "", "a cancelled request is not answered");
    // What is unknown, has ended or makes no sense is ignored.
    for id in [json!(7), json!(404), json!(null), json!([7]), json!({"id": 7})] {
        assert_eq!(client.post(cancelled(&id)).await?.status, StatusCode::ACCEPTED, "{id}");
    }
    Ok(())
}

async fn legacy_cancelled_notification_reaches_every_replica(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let second = stage.frontend.settings().replica()?.start().await?;
    let client = stage.client(Era::Legacy, "alice").await?;
    let elsewhere = client.clone().at(&second.resource());
    let mut times = Vec::new();
    for id in 0..ATTEMPTS {
        let call = spawn(&client.clone().id(id), "endless", json!({}));
        stage.await_sleeping(1).await?;
        elsewhere.post(cancelled(&json!(id))).await?;
        times.push(stage.freed_after().await?);
        assert_eq!(call.await??.text, "");
    }
    ensure_freed(&times)
}

async fn legacy_cancelled_notification_of_somebody_else_does_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (alice, bob) =
        (stage.client(Era::Legacy, "alice").await?.id(7), stage.client(Era::Legacy, "bob").await?);
    let call = spawn(&alice, "late_note", json!({"body": "of Alice", "seconds": 3}));
    stage.await_sleeping(1).await?;
    assert_eq!(bob.post(cancelled(&json!(7))).await?.status, StatusCode::ACCEPTED);
    assert_eq!(call.await??.tool_text()?, "written");
    // Two windows that share a token and count alike: each cancels its own.
    let other = initialized(alice.clone()).await?;
    let call = spawn(&alice, "late_note", json!({"body": "of one window", "seconds": 3}));
    stage.await_sleeping(1).await?;
    let elsewhere = stage.frontend.settings().replica()?.start().await?;
    for window in [other.clone(), other.clone().at(&elsewhere.resource())] {
        window.post(cancelled(&json!(7))).await?;
    }
    assert_eq!(call.await??.tool_text()?, "written");
    // Where they cannot be told apart, neither is cancelled; nor is the call of a client that does not say which it is.
    let resource = stage.frontend.resource();
    let session = NewSession::of("carol").at(&resource).create(&stage.database.auth().await?).await?;
    let nameless = stage.frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token).id(7);
    let calls = [(&alice, "one"), (&alice, "two"), (&nameless, "three")]
        .map(|(client, body)| spawn(client, "late_note", json!({"body": body, "seconds": 3})));
    stage.await_sleeping(3).await?;
    for client in [&alice, &nameless] {
        assert_eq!(client.post(cancelled(&json!(7))).await?.status, StatusCode::ACCEPTED);
    }
    for call in calls {
        assert_eq!(call.await??.tool_text()?, "written");
    }
    Ok(())
}

async fn a_call_that_ends_soon_after_it_was_given_up_keeps_its_backend(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let narrow = stage.frontend.settings().replica()?.set("MCP_POOL_SIZE", "1").start().await?;
    let client = stage.client(Era::Modern, "alice").await?.at(&format!("{}/mcp/v1", narrow.url()));
    let mut gone = Vec::new();
    for _ in 0..2 * ATTEMPTS {
        let given_up = || narrow.metric(r#"mcp_frontend_http_requests_total{route="mcp",status="499"}"#);
        let before = given_up().await?;
        stage.superuser.batch_execute("BEGIN; LOCK TABLE app.notes IN ACCESS EXCLUSIVE MODE").await?;
        let call = spawn(&client, "add_note", json!({"body": "nobody waits"}));
        let waiting = "wait_event_type = 'Lock'";
        // While the connection is still taken from the time before, the call is refused.
        wait_until("the tool to wait", PATIENCE, || async {
            Ok(call.is_finished() || stage.backends(waiting).await?.len() == 1)
        })
        .await?;
        let backend = stage.backends(waiting).await?;
        call.abort();
        stage.superuser.batch_execute("COMMIT").await?;
        // It serves the next call, which leaves it as calls leave it.
        wait_until("a call to be served", PATIENCE, || async {
            Ok(client.call("whoami", json!({})).await?.status == StatusCode::OK)
        })
        .await?;
        let idle = stage.backends("state = 'idle' AND query LIKE '%mcp.call_tool%'").await?;
        // One that was answered before its end was noticed says nothing.
        if backend.len() == 1 && idle == backend && given_up().await? != before {
            return Ok(());
        }
        gone.push((backend, idle));
    }
    anyhow::bail!("each call was served by a new backend: {gone:?}")
}

async fn a_call_given_up_while_its_statement_was_prepared_leaves_no_statement(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let superuser = &stage.superuser;
    superuser
        .batch_execute(
            "CREATE FUNCTION app.twice() RETURNS bigint LANGUAGE sql AS
                 'SELECT count(*) - count(DISTINCT statement) FROM pg_catalog.pg_prepared_statements';
             SELECT mcp.expose_tool('app.twice()', name => 'twice');",
        )
        .await?;
    let client = stage.client(Era::Modern, "alice").await?;
    let mut waited = 0;
    for _ in 0..2 * ATTEMPTS {
        // A connection looks the function up once. It is open before nothing can be looked up.
        let fresh = stage.frontend.settings().replica()?.set("MCP_POOL_SIZE", "1").start().await?;
        let client = client.clone().at(&fresh.resource());
        assert_eq!(client.request("tools/list", json!({})).await?.status, StatusCode::OK);
        superuser.batch_execute("BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE").await?;
        let call = spawn(&client, "twice", json!({}));
        // Not always told as this query: it may wait while it learns what other backends have changed.
        let waiting = "wait_event_type = 'Lock'";
        // On a machine that is busy with other tests, it may be refused for want of the connection.
        wait_until("the statement to wait", PATIENCE, || async {
            Ok(call.is_finished() || !stage.backends(waiting).await?.is_empty())
        })
        .await?;
        waited += usize::from(!call.is_finished());
        call.abort();
        superuser.batch_execute("COMMIT").await?;
        // Whatever connection serves the next call knows the statement once, and by the name the frontend knows.
        let twice = wait_for("a call to be served", PATIENCE, || async {
            let answer = client.call("twice", json!({})).await?;
            Ok(if answer.status == StatusCode::OK { Some(answer.tool_text()?) } else { None })
        })
        .await?;
        ensure!(twice == "0", "{twice} statements are prepared twice");
        if waited == ATTEMPTS {
            return Ok(());
        }
    }
    anyhow::bail!("the statement waited {waited} times")
}

async fn a_list_that_nobody_waits_for_frees_its_backend(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Modern, "alice").await?;
    stage.superuser.batch_execute("BEGIN; LOCK TABLE mcp.tools IN ACCESS EXCLUSIVE MODE").await?;
    let list = tokio::spawn(async move { client.request("tools/list", json!({})).await });
    let waiting = async |count: usize| {
        // Well before its own deadline would end it.
        wait_until(&format!("{count} lists to wait"), PATIENCE / 3, || async {
            Ok(stage.backends("wait_event_type = 'Lock'").await?.len() == count)
        })
        .await
    };
    waiting(1).await?;
    list.abort();
    waiting(0).await?;
    stage.superuser.batch_execute("COMMIT").await?;
    Ok(())
}

async fn calls_of_a_server_that_is_told_to_stop(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let client = stage.client(Era::Legacy, "alice").await?;
    let first = stage.frontend.settings().replica()?.set("MCP_SHUTDOWN_GRACE", "600").start().await?;
    let calls = [1, 2].map(|id| spawn(&client.clone().at(&first.resource()).id(id), "endless", json!({})));
    stage.await_sleeping(2).await?;
    let signal = |signal| kill(Pid::from_raw(first.pid()), signal);
    signal(Signal::SIGINT)?;
    first.logged("told to stop").await?;
    // Until its last call has ended, a call may be cancelled from elsewhere.
    client.post(cancelled(&json!(1))).await?;
    stage.await_sleeping(1).await?;
    // A second signal ends what still runs.
    signal(Signal::SIGTERM)?;
    let status = tokio::task::block_in_place(|| first.wait(PATIENCE))?;
    ensure!(status.success(), "ended with {status}");
    let [cancelled, cut] = calls;
    assert_eq!(cancelled.await??.text, "");
    ensure!(cut.await?.is_err(), "the other was answered");
    Ok(())
}
