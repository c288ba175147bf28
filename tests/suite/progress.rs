//! What a call says while it runs: to the client that asked, in order, and nothing after its answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::database::Database;
use tests::events::Event;
use tests::frontend::Frontend;
use tests::mcp::{Door, Era, McpClient, text_blocks};
use tests::session::NewSession;
use tests::wait::wait_until;
use tokio::task::JoinSet;

use crate::world::{self, Shared, Trials};

const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Well below what the frontend leaves between two comments of a silent stream.
const SILENCE: Duration = Duration::from_secs(10);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        t18_progress_goes_to_clients_that_ask,
        t18_progress_strictly_increases_and_stops_at_the_answer,
        t18_messages_go_to_clients_that_ask_from_their_level_on,
        what_the_server_logs_of_a_call_stays_in_its_log,
        t18_progress_comes_from_every_replica_and_never_crosses,
        a_call_that_takes_too_long_ends_its_stream_with_a_clear_error,
        a_request_that_takes_too_long_ends_its_stream_with_a_clear_error,
        t05_a_silent_call_is_kept_alive,
        a_client_that_does_not_read_holds_no_connection,
        a_client_that_does_not_read_hears_nobody_else,
        a_client_that_takes_json_alone_gets_json,
        streams_are_kept_by_nobody,
    ]
}

/// A database with talkative tools, and a frontend of it.
async fn stage(world: &Shared) -> Result<(Database<'_>, Frontend)> {
    let database = world.database().await?;
    database
        .superuser()
        .await?
        .batch_execute(
            "CREATE FUNCTION app.talk() RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN
                     PERFORM mcp.progress(1, 4, 'one'); PERFORM mcp.progress(1, 4, 'one again');
                     PERFORM mcp.progress(0.5, 4, 'back'); PERFORM mcp.progress('NaN'); PERFORM mcp.progress('Infinity');
                     PERFORM mcp.progress(2); RAISE DEBUG 'a debug message'; RAISE INFO 'an info message';
                     RAISE NOTICE 'a notice message'; RAISE WARNING 'a warning message'; PERFORM mcp.progress(2.5, 4, 'last');
                     RETURN 'done';
                 END $$;
             CREATE FUNCTION app.count_slowly(word text) RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN
                     FOR step IN 1..5 LOOP PERFORM mcp.progress(step, 5, word); PERFORM pg_sleep(0.02); END LOOP;
                     RETURN word;
                 END $$;
             CREATE FUNCTION app.stall(seconds double precision) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM mcp.progress(1); PERFORM pg_sleep(seconds); RETURN 'awake'; END $$;
             SELECT mcp.expose_tool('app.talk()', name => 'talk'),
                    mcp.expose_tool('app.count_slowly(text)', name => 'count_slowly'),
                    mcp.expose_tool('app.stall(double precision)', name => 'stall', timeout => '60 s'),
                    mcp.expose_tool('app.stall(double precision)', name => 'stall_briefly', timeout => '500 ms'),
                    mcp.expose_prompt('app.talk()', name => 'talk'),
                    mcp.expose_resource('app.talk()', 'test://talk', name => 'talk')",
        )
        .await?;
    let frontend = world.frontend(&database).await?;
    Ok((database, frontend))
}

async fn client(database: &Database<'_>, frontend: &Frontend, era: Era, user: &str) -> Result<McpClient> {
    let resource = frontend.resource();
    let session = NewSession::of(user).at(&resource).create(&database.auth().await?).await?;
    Ok(frontend.mcp(era).with(Door::Bearer, &session.token))
}

/// All messages of a call of this tool: notifications, then the answer.
async fn call(client: &McpClient, name: &str, arguments: Value) -> Result<(Vec<Value>, Value)> {
    let mut stream = client.open("tools/call", json!({"name": name, "arguments": arguments})).await?;
    let mut messages = stream.messages(PATIENCE).await?;
    let answer = messages.pop().context("an empty stream")?;
    ensure!(answer.get("method").is_none() && answer["id"] == 1, "the last message is no answer: {answer}");
    ensure!(
        messages.iter().all(|message| message.get("id").is_none()),
        "a request from the server: {messages:?}"
    );
    Ok((messages, answer))
}

fn of_method<'m>(messages: &'m [Value], method: &str) -> Vec<&'m Value> {
    messages.iter().filter(|message| message["method"] == method).map(|message| &message["params"]).collect()
}

async fn t18_progress_goes_to_clients_that_ask(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let modern = client(&database, &frontend, Era::Modern, "alice").await?;
    // A client that asks for nothing gets one object.
    let answer = modern.call("talk", json!({})).await?;
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text);
    assert_eq!(answer.tool_text()?, "done");
    let legacy = client(&database, &frontend, Era::Legacy, "alice").await?;
    let (messages, _) = call(&legacy, "talk", json!({})).await?;
    assert_eq!(of_method(&messages, "notifications/progress"), Vec::<&Value>::new());
    // One that asks gets its token back as it was.
    for client in [modern, legacy] {
        for token in [json!("p"), json!(7), json!("7"), json!("")] {
            let (messages, _) =
                call(&client.clone().meta("progressToken", token.clone()), "talk", json!({})).await?;
            let progress = of_method(&messages, "notifications/progress");
            ensure!(
                progress.len() == 3 && progress.iter().all(|one| one["progressToken"] == token),
                "{messages:?}"
            );
        }
    }
    Ok(())
}

async fn t18_progress_strictly_increases_and_stops_at_the_answer(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = client(&database, &frontend, era, "alice").await?.meta("progressToken", "p");
        let (messages, answer) = call(&client, "talk", json!({})).await?;
        assert_eq!(text_blocks(&answer["result"]), "done");
        let progress = of_method(&messages, "notifications/progress");
        assert_eq!(
            progress,
            [
                &json!({"progressToken": "p", "progress": 1.0, "total": 4.0, "message": "one"}),
                &json!({"progressToken": "p", "progress": 2.0}),
                &json!({"progressToken": "p", "progress": 2.5, "total": 4.0, "message": "last"}),
            ]
        );
        // Prompts and resources say as much as tools.
        for (method, params) in
            [("prompts/get", json!({"name": "talk"})), ("resources/read", json!({"uri": "test://talk"}))]
        {
            let mut stream = client.open(method, params).await?;
            let messages = stream.messages(PATIENCE).await?;
            assert_eq!(of_method(&messages, "notifications/progress").len(), 3, "{messages:?}");
            ensure!(messages.last().is_some_and(|last| last["result"].is_object()), "{messages:?}");
        }
    }
    Ok(())
}

async fn t18_messages_go_to_clients_that_ask_from_their_level_on(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let modern = client(&database, &frontend, Era::Modern, "alice").await?;
    let all = ["debug", "info", "notice", "warning"];
    for (level, least) in [("debug", 0), ("info", 1), ("notice", 2), ("warning", 3)] {
        let (messages, _) = call(&modern.clone().meta(LOG_LEVEL, level), "talk", json!({})).await?;
        let told = of_method(&messages, "notifications/message");
        let levels: Vec<_> = told.iter().filter_map(|one| one["level"].as_str()).collect();
        assert_eq!(levels, all[least..], "from {level} on");
        ensure!(
            told.iter().all(|one| one["data"].as_str().is_some_and(|text| text.ends_with(" message"))),
            "{told:?}"
        );
        assert_eq!(of_method(&messages, "notifications/progress").len(), 0, "nobody asked for progress");
    }
    for level in ["error", "critical", "alert", "emergency"] {
        let answer = modern.clone().meta(LOG_LEVEL, level).call("talk", json!({})).await?;
        ensure!(!answer.text.contains("notifications/message"), "{level}: {}", answer.text);
        answer.tool_text()?;
    }
    for level in [json!("loud"), json!(7), json!("INFO"), json!(null)] {
        let answer = modern.clone().meta(LOG_LEVEL, level.clone()).call("talk", json!({})).await?;
        assert_eq!(
            (answer.status, answer.error_code()?),
            (StatusCode::BAD_REQUEST, INVALID_PARAMS),
            "{level}"
        );
    }
    // The older revisions have no level in a request: what a client gets is what people should read.
    let legacy = client(&database, &frontend, Era::Legacy, "alice").await?;
    let (messages, _) = call(&legacy, "talk", json!({})).await?;
    assert_eq!(of_method(&messages, "notifications/message").len(), 3, "{messages:?}");
    Ok(())
}

async fn what_the_server_logs_of_a_call_stays_in_its_log(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let text = format!(
        "CREATE FUNCTION app.spill() RETURNS text LANGUAGE plpgsql
             SET work_mem = '64kB' SET client_min_messages = debug5 AS $$
             BEGIN
                 RAISE LOG 'a log message'; RAISE DEBUG 'a debug message';
                 -- Of each subtransaction the server tells at level debug5.
                 BEGIN NULL; EXCEPTION WHEN others THEN NULL; END;
                 RETURN (SELECT max(n) FROM (SELECT n FROM generate_series(1, 100000) AS n ORDER BY -n OFFSET 1) AS s);
             END $$;
         SELECT mcp.expose_tool('app.spill()', name => 'spill');
         ALTER DATABASE {} SET log_temp_files = 0",
        database.name()
    );
    database.superuser().await?.batch_execute(&text).await?;
    // Its connections begin with the new setting.
    let replica = frontend.settings().replica()?.start().await?;
    for (level, expected) in
        [("debug", vec!["a log message", "a debug message"]), ("info", vec!["a log message"])]
    {
        let client = client(&database, &frontend, Era::Modern, "alice").await?;
        let client = client.at(&format!("{}/mcp/v1", replica.url())).meta(LOG_LEVEL, level);
        let (messages, answer) = call(&client, "spill", json!({})).await?;
        assert_eq!(text_blocks(&answer["result"]), "99999", "{answer}");
        let told = of_method(&messages, "notifications/message");
        let told: Vec<_> = told.iter().filter_map(|one| one["data"].as_str()).collect();
        assert_eq!(told, expected, "at level {level}");
    }
    Ok(())
}

async fn t18_progress_comes_from_every_replica_and_never_crosses(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let second = frontend.settings().replica()?.start().await?;
    let mut calls = JoinSet::new();
    for number in 0..16 {
        let era = if number % 4 < 2 { Era::Modern } else { Era::Legacy };
        let client = client(&database, &frontend, era, &format!("user{}", number % 3)).await?;
        let replica = if number % 2 == 0 { &frontend } else { &second };
        // The same token and the same id in each.
        let client = client.at(&replica.resource()).meta("progressToken", 1);
        calls.spawn(async move {
            let word = format!("word{number}");
            let (messages, answer) = call(&client, "count_slowly", json!({"word": word})).await?;
            assert_eq!(text_blocks(&answer["result"]), word);
            let progress = of_method(&messages, "notifications/progress");
            ensure!(progress.iter().all(|one| one["message"] == word), "{word} heard {progress:?}");
            let steps: Vec<_> = progress.iter().filter_map(|one| one["progress"].as_f64()).collect();
            assert_eq!(steps, [1.0, 2.0, 3.0, 4.0, 5.0]);
            anyhow::Ok(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(())
}

async fn a_call_that_takes_too_long_ends_its_stream_with_a_clear_error(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = client(&database, &frontend, era, "alice").await?.meta("progressToken", "p");
        let (messages, answer) = call(&client, "stall_briefly", json!({"seconds": 50})).await?;
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert_eq!(text_blocks(&answer["result"]), "the tool timed out after 500ms");
    }
    Ok(())
}

async fn a_request_that_takes_too_long_ends_its_stream_with_a_clear_error(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let hasty = frontend.settings().replica()?.set("MCP_REQUEST_TIMEOUT", "3").start().await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = client(&database, &frontend, era, "alice").await?.at(&hasty.resource());
        let following = client.clone().meta("progressToken", "p");
        let (messages, answer) = call(&following, "stall", json!({"seconds": 50})).await?;
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(answer["error"]["code"], INTERNAL_ERROR, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains("longer than it may"), "{message}");
        // Where no stream has begun, HTTP can say it.
        let answer = client.call("sleep", json!({"seconds": 9})).await?;
        assert_eq!((answer.status, answer.error_code()?), (StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR));
    }
    Ok(())
}

async fn t05_a_silent_call_is_kept_alive(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let client = client(&database, &frontend, Era::Modern, "alice").await?.meta("progressToken", "p");
    let params = json!({"name": "stall", "arguments": {"seconds": 20}});
    let mut stream = client.open("tools/call", params).await?;
    ensure!(matches!(stream.next(PATIENCE).await?, Some(Event::Message(_))));
    let (start, mut comments) = (Instant::now(), 0);
    let last = loop {
        match stream.next(PATIENCE).await?.context("no answer")? {
            Event::Message(last) => break last,
            // No more of them than it takes.
            Event::Comment => comments += 1,
        }
        ensure!(start.elapsed() > SILENCE * comments, "{comments} comments within {:?}", start.elapsed());
    };
    // Proxies close what stays silent for a minute.
    ensure!(comments > 0, "silent for {:?}", start.elapsed());
    assert_eq!(text_blocks(&last["result"]), "awake");
    assert_eq!(stream.next(PATIENCE).await?, None);
    Ok(())
}

/// A frontend with one connection for all calls, a tool that says more than fits on the way, and one that says what
/// its argument is.
async fn narrow(database: &Database<'_>, frontend: &Frontend) -> Result<Frontend> {
    database
        .superuser()
        .await?
        .batch_execute(
            "CREATE FUNCTION app.flood() RETURNS text LANGUAGE plpgsql AS $$
                 BEGIN
                     FOR step IN 1..2000 LOOP PERFORM mcp.progress(step, 2000, repeat('x', 20000)); END LOOP;
                     RETURN 'done';
                 END $$;
             CREATE FUNCTION app.warn(word text) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN RAISE WARNING '%', word; RETURN word; END $$;
             SELECT mcp.expose_tool('app.flood()', name => 'flood'), mcp.expose_tool('app.warn(text)', name => 'warn')",
        )
        .await?;
    // At trace level the messages would fill the log.
    frontend.settings().replica()?.set("MCP_POOL_SIZE", "1").set("MCP_LOG", "info").start().await
}

async fn a_client_that_does_not_read_holds_no_connection(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let narrow = narrow(&database, &frontend).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = client(&database, &frontend, era, "alice").await?.at(&narrow.resource());
        let unread = client.clone().meta("progressToken", "p");
        let mut unread = unread.open("tools/call", json!({"name": "flood"})).await?;
        // While it runs, and longer where it holds on to its connection, others are told that all are busy.
        wait_until("another call to be served", PATIENCE, || async {
            Ok(client.call("whoami", json!({})).await?.status == StatusCode::OK)
        })
        .await?;
        // Once it reads, it is told the rest, of which no more was kept than a bound and what the sockets hold.
        let messages = unread.messages(PATIENCE).await?;
        ensure!(messages.len() < 1500, "{} messages were kept", messages.len());
        ensure!(
            messages.last().is_some_and(|last| text_blocks(&last["result"]) == "done"),
            "no answer at the end"
        );
    }
    Ok(())
}

async fn a_client_that_does_not_read_hears_nobody_else(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let narrow = narrow(&database, &frontend).await?;
    let url = format!("{}/mcp/v1", narrow.url());
    let alice = client(&database, &frontend, Era::Legacy, "alice").await?.at(&url);
    let bob = client(&database, &frontend, Era::Modern, "bob").await?.at(&url);
    let mut unread = alice.meta("progressToken", "p").open("tools/call", json!({"name": "flood"})).await?;
    // On the connection that served Alice, once her call has ended, although she has not heard its end.
    wait_until("Bob's call to be served", PATIENCE, || async {
        Ok(bob.call("warn", json!({"word": "private"})).await?.status == StatusCode::OK)
    })
    .await?;
    let messages = unread.messages(PATIENCE).await?;
    ensure!(
        messages.last().is_some_and(|last| text_blocks(&last["result"]) == "done"),
        "no answer at the end"
    );
    let told = of_method(&messages, "notifications/message");
    ensure!(told.is_empty(), "Alice hears what is said to Bob: {told:?}");
    Ok(())
}

async fn a_client_that_takes_json_alone_gets_json(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = client(&database, &frontend, era, "alice").await?.meta("progressToken", "p");
        let client = if era == Era::Modern { client.meta(LOG_LEVEL, "debug") } else { client };
        for accepted in [
            "application/json",
            "application/*",
            "application/json, text/event-stream;q=0",
            "*/*, text/event-stream;q=0",
        ] {
            let answer = client.clone().header("accept", accepted).call("talk", json!({})).await?;
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{accepted}: {}",
                answer.text
            );
            assert_eq!(answer.tool_text()?, "done");
        }
        for accepted in ["*/*", "text/*, application/json", "text/event-stream, application/json;q=0.1"] {
            let answer = client.clone().header("accept", accepted).call("talk", json!({})).await?;
            assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{accepted}");
        }
    }
    // Changes come in a stream, or not at all.
    let client =
        client(&database, &frontend, Era::Modern, "alice").await?.header("accept", "application/json");
    let answer =
        client.request("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await?;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE, "{}", answer.text);
    assert_eq!(answer.json()?["id"], 1);
    Ok(())
}

async fn streams_are_kept_by_nobody(world: &Shared) -> Result<()> {
    let (database, frontend) = stage(world).await?;
    let client = client(&database, &frontend, Era::Modern, "alice").await?.meta("progressToken", "p");
    for (method, params) in [
        ("tools/call", json!({"name": "talk"})),
        ("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})),
    ] {
        let stream = client.open(method, params).await?;
        ensure!(stream.is_stream(), "{method}: {:?}", stream.headers());
        assert_eq!(stream.headers()["cache-control"], "no-store", "{method}");
    }
    Ok(())
}
