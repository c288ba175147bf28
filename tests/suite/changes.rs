//! Lists that change: every open subscription hears of it, at every replica, whatever lies between it and PostgreSQL.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options, Stop};
use tests::database::Database;
use tests::events::{Event, Events};
use tests::frontend::Frontend;
use tests::mcp::{Door, Era, McpClient};
use tests::pgbouncer::PgBouncer;
use tests::session::NewSession;
use tests::wait::wait_until;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Below the time between two polls of the frontend: what is heard this soon was heard by LISTEN.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Longer than the time between two polls.
const POLLED: Duration = Duration::from_secs(12);

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        t19_changes_of_functions_reach_every_replica_at_once,
        t19_changes_reach_every_replica_behind_a_pooler,
        t19_a_subscription_hears_of_what_it_asked_for_alone,
        t19_a_subscription_survives_restarts_of_postgresql,
        t19_a_subscription_ends_with_its_session,
        t19_a_subscription_ends_in_good_order_with_its_server,
        t19_an_idle_subscription_is_kept_alive,
        t19_changes_of_several_lists_at_once_are_all_heard,
        t19_who_subscribes_later_hides_no_change,
        t19_what_changed_while_nobody_subscribed_is_not_told,
        t19_who_subscribes_before_the_frontend_listens_is_told_of_no_change,
        t19_nobody_is_asked_of_changes_while_nobody_subscribes,
        t19_an_idle_subscription_asks_seldom,
        t19_a_database_that_is_away_is_tried_seldom,
    ]
}

/// What a client asks to hear of.
fn filter(lists: &[&str]) -> Value {
    let wanted = lists.iter().map(|list| (format!("{list}ListChanged"), json!(true)));
    json!({"notifications": wanted.collect::<serde_json::Map<_, _>>()})
}

/// An open subscription.
struct Subscription {
    events: Events,
    id: Value,
}

impl Subscription {
    /// Subscribes, and reads that it is so.
    async fn open(client: &McpClient, id: Value, lists: &[&str]) -> Result<Self> {
        let mut events = client.clone().id(id.clone()).open("subscriptions/listen", filter(lists)).await?;
        ensure!(events.is_stream(), "{} {:?}", events.status(), events.headers());
        let first = events.message(PATIENCE).await?.context("the stream ended at once")?;
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        assert_eq!(first["params"]["_meta"][SUBSCRIPTION], id, "{first}");
        assert_eq!(first["params"]["notifications"], filter(lists)["notifications"], "{first}");
        Ok(Self { events, id })
    }

    /// The list that the next message says has changed.
    async fn next(&mut self, deadline: Duration) -> Result<String> {
        let message = self.events.message(deadline).await?.context("the stream ended")?;
        assert_eq!(message["params"]["_meta"][SUBSCRIPTION], self.id, "{message}");
        let list = message["method"].as_str().and_then(|method| {
            method.strip_prefix("notifications/")?.strip_suffix("/list_changed").map(str::to_owned)
        });
        list.with_context(|| format!("not of a list: {message}"))
    }

    /// Waits until it has heard of this list.
    async fn hear(&mut self, list: &str, deadline: Duration) -> Result<()> {
        let heard = async {
            while self.next(deadline).await? != list {}
            Ok(())
        };
        tokio::time::timeout(deadline, heard)
            .await
            .with_context(|| format!("heard nothing of {list} within {deadline:?}"))?
    }

    /// Reads what has come so far, until nothing comes for `silence`.
    async fn drain(&mut self, silence: Duration) -> Result<usize> {
        let mut count = 0;
        while let Ok(next) = tokio::time::timeout(silence, self.next(PATIENCE)).await {
            next?;
            count += 1;
        }
        Ok(count)
    }

    /// What the stream ends with.
    async fn end(&mut self) -> Result<Value> {
        loop {
            let message = self.events.message(PATIENCE).await?.context("the stream ended without a word")?;
            if message.get("method").is_none() {
                assert_eq!(message["id"], self.id, "{message}");
                ensure!(self.events.message(PATIENCE).await?.is_none(), "the answer is the last message");
                return Ok(message);
            }
        }
    }
}

/// Two frontends of one database and a client of each.
struct Stage {
    replicas: [Frontend; 2],
    clients: [McpClient; 2],
    superuser: Client,
}

impl Stage {
    async fn set(world: &Shared, database: &Database<'_>, bouncer: Option<&PgBouncer>) -> Result<Self> {
        let mut settings = world.settings(database)?;
        if let Some(bouncer) = bouncer {
            settings = settings
                .set("DATABASE_URL", &bouncer.url("mcp_frontend_auth", database.name()))
                .set("MCP_EXEC_DATABASE_URL", &bouncer.url("mcp_frontend_exec", database.name()))
                .set("MCP_PREPARED_STATEMENTS", "off");
        }
        let first = world.oidc().await?.register(settings).await?.start().await?;
        let second = first.settings().replica()?.start().await?;
        let resource = first.resource();
        let session = NewSession::of("alice").at(&resource).create(&database.auth().await?).await?;
        let client = |frontend: &Frontend| frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
        Ok(Self {
            clients: [client(&first), client(&second)],
            replicas: [first, second],
            superuser: database.superuser().await?,
        })
    }

    /// Waits until both replicas listen to PostgreSQL.
    async fn await_listening(&self, database: &Database<'_>) -> Result<()> {
        wait_until("both replicas to listen", PATIENCE, || async {
            let row = self
                .superuser
                .query_one(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'LISTEN%'",
                    &[&database.name()],
                )
                .await?;
            Ok(row.get::<_, i64>(0) == 2)
        })
        .await
    }
}

/// What can be done to functions behind a list, and the list that each of it changes.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "tools",
        "CREATE FUNCTION app.greet() RETURNS text LANGUAGE sql AS $$ SELECT 'hello' $$; \
               SELECT mcp.expose_tool('app.greet()', name => 'greet')",
    ),
    (
        "tools",
        "CREATE OR REPLACE FUNCTION app.greet() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'good day' $$",
    ),
    ("tools", "COMMENT ON FUNCTION app.greet() IS 'Greets.'"),
    ("tools", "ALTER FUNCTION app.greet() RENAME TO greets"),
    ("tools", "ALTER FUNCTION app.greets() RENAME TO greet"),
    ("resources", "SELECT mcp.expose_resource('app.greet()', 'test://greeting', name => 'greeting')"),
    ("prompts", "SELECT mcp.expose_prompt('app.greet()', name => 'greeting')"),
    ("prompts", "SELECT mcp.withdraw_prompt('greeting')"),
    ("resources", "SELECT mcp.withdraw_resource('test://greeting')"),
    ("tools", "DROP FUNCTION app.greet()"),
    ("tools", "SELECT mcp.withdraw_tool('greet')"),
    // Not the list that it was at the beginning, which would hide a change from whoever compares with that.
    ("tools", "COMMENT ON FUNCTION app.whoami() IS 'Who is it?'"),
];

async fn t19_changes_of_functions_reach_every_replica_at_once(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    stage.await_listening(&database).await?;
    let lists = ["tools", "resources", "prompts"];
    let mut subscriptions = Vec::new();
    for (number, client) in stage.clients.iter().enumerate() {
        subscriptions.push(Subscription::open(client, json!(number), &lists).await?);
    }
    for (list, statement) in STATEMENTS {
        stage.superuser.batch_execute(statement).await.with_context(|| (*statement).to_owned())?;
        for (number, subscription) in subscriptions.iter_mut().enumerate() {
            subscription
                .hear(list, AT_ONCE)
                .await
                .with_context(|| format!("replica {number}: {statement}"))?;
        }
        for subscription in &mut subscriptions {
            subscription.drain(Duration::from_millis(200)).await?;
        }
    }
    // What was heard by LISTEN is not told once more by the next poll.
    for subscription in &mut subscriptions {
        assert_eq!(subscription.drain(Duration::from_secs(11)).await?, 0, "told twice");
    }
    Ok(())
}

async fn t19_changes_reach_every_replica_behind_a_pooler(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    // PgBouncer takes LISTEN and gives the connection, with what is heard on it, to whoever comes next.
    let bouncer = world::pgbouncer(database.cluster(), 2).await?;
    let stage = Stage::set(world, &database, Some(&bouncer)).await?;
    // And nobody says anything on the channel: it is the versions of the lists that tell.
    let (exposing, altering) = STATEMENTS.split_at(1);
    stage.superuser.batch_execute("ALTER EVENT TRIGGER mcp_changes DISABLE").await?;
    stage.superuser.batch_execute(exposing[0].1).await?;
    // The first change comes before the first poll: it has to be seen against what was there at the beginning.
    let mut subscriptions = Vec::new();
    for (number, client) in stage.clients.iter().enumerate() {
        subscriptions.push(Subscription::open(client, json!(format!("s{number}")), &["tools"]).await?);
    }
    for (_, statement) in &altering[..3] {
        stage.superuser.batch_execute(statement).await?;
        for subscription in &mut subscriptions {
            subscription.hear("tools", PATIENCE).await.with_context(|| (*statement).to_owned())?;
        }
    }
    for subscription in &mut subscriptions {
        assert_eq!(subscription.drain(Duration::from_secs(11)).await?, 0, "told twice");
    }
    Ok(())
}

async fn t19_a_subscription_hears_of_what_it_asked_for_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    stage.await_listening(&database).await?;
    let mut prompts = Subscription::open(&stage.clients[0], json!(1), &["prompts"]).await?;
    let mut nothing = Subscription::open(&stage.clients[0], json!(2), &[]).await?;
    for (_, statement) in STATEMENTS.iter().filter(|(list, _)| *list != "resources") {
        stage.superuser.batch_execute(statement).await?;
    }
    prompts.hear("prompts", AT_ONCE).await?;
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(1), prompts.next(PATIENCE)).await {
        assert_eq!(next?, "prompts");
    }
    assert_eq!(nothing.drain(Duration::from_millis(100)).await?, 0);
    // What the server does not have is not acknowledged.
    let params =
        json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["test://greeting"]}});
    let mut events = stage.clients[0].open("subscriptions/listen", params).await?;
    let first = events.message(PATIENCE).await?.unwrap_or_default();
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}), "{first}");
    Ok(())
}

async fn t19_a_subscription_survives_restarts_of_postgresql(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    stage.await_listening(&database).await?;
    let mut subscriptions = Vec::new();
    for (number, client) in stage.clients.iter().enumerate() {
        subscriptions.push(Subscription::open(client, json!(number), &["tools"]).await?);
    }
    for (number, how) in [Stop::Fast, Stop::Kill].into_iter().enumerate() {
        cluster.stop(how)?;
        cluster.resume().await?;
        // What changed while nobody listened is told, and so is what changes now.
        for subscription in &mut subscriptions {
            subscription.hear("tools", PATIENCE).await.with_context(|| format!("after {how:?}"))?;
        }
        let superuser = database.superuser().await?;
        superuser
            .batch_execute(&format!(
                "CREATE FUNCTION app.after_{number}() RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
                 SELECT mcp.expose_tool('app.after_{number}()', name => 'after_{number}')"
            ))
            .await?;
        for subscription in &mut subscriptions {
            subscription.hear("tools", PATIENCE).await.with_context(|| format!("long after {how:?}"))?;
        }
    }
    drop((subscriptions, stage));
    world.keep_log(&cluster)?;
    Ok(())
}

async fn t19_a_subscription_ends_with_its_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    let mut subscription = Subscription::open(&stage.clients[0], json!(1), &["tools"]).await?;
    stage
        .superuser
        .execute("SELECT mcp.revoke_session_by_id(session_id, 'test') FROM mcp.sessions", &[])
        .await?;
    assert_eq!(subscription.end().await?["result"]["resultType"], "complete");
    Ok(())
}

async fn t19_a_subscription_ends_in_good_order_with_its_server(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    let mut subscription = Subscription::open(&stage.clients[0], json!("mine"), &["tools"]).await?;
    stage.replicas[0].terminate()?;
    let last = subscription.end().await?;
    assert_eq!(last["result"]["resultType"], "complete", "{last}");
    assert_eq!(last["result"]["_meta"][SUBSCRIPTION], "mine", "{last}");
    // Nothing that it would have to wait for is left: it need not sit out its grace of ten seconds.
    ensure!(stage.replicas[0].wait(Duration::from_secs(8))?.success());
    // And the client goes on at the other.
    Subscription::open(&stage.clients[1], json!("mine"), &["tools"]).await?;
    Ok(())
}

async fn t19_an_idle_subscription_is_kept_alive(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    let mut subscription = Subscription::open(&stage.clients[0], json!(1), &["prompts"]).await?;
    let header = |name: &str| subscription.events.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("x-accel-buffering"), Some("no"));
    assert_eq!(header("content-type"), Some("text/event-stream"));
    ensure!(
        header("cache-control").is_some_and(|value| value.contains("no-")),
        "{:?}",
        header("cache-control")
    );
    // Proxies close what stays silent for a minute.
    match subscription.events.next(Duration::from_secs(50)).await? {
        Some(Event::Comment) => Ok(()),
        other => bail!("{other:?} instead of a comment"),
    }
}

async fn t19_changes_of_several_lists_at_once_are_all_heard(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    stage.await_listening(&database).await?;
    stage
        .superuser
        .batch_execute("CREATE FUNCTION app.greet() RETURNS text LANGUAGE sql AS $$ SELECT 'hello' $$")
        .await?;
    let lists = ["tools", "resources", "prompts"];
    let mut subscription = Subscription::open(&stage.clients[0], json!(1), &lists).await?;
    for number in 0..3 {
        subscription.drain(Duration::from_millis(200)).await?;
        stage
            .superuser
            .batch_execute(&format!(
                "SELECT mcp.expose_tool('app.greet()', name => 'greet_{number}'),
                        mcp.expose_resource('app.greet()', 'test://greet/{number}', name => 'greet_{number}'),
                        mcp.expose_prompt('app.greet()', name => 'greet_{number}')"
            ))
            .await?;
        let mut missing = HashSet::from(lists.map(str::to_owned));
        while !missing.is_empty() {
            let next =
                subscription.next(AT_ONCE).await.with_context(|| format!("still missing {missing:?}"))?;
            missing.remove(&next);
        }
    }
    subscription.drain(Duration::from_millis(200)).await?;
    // Where something else is said before it, the next poll does not tell of it once more.
    stage
        .superuser
        .batch_execute(
            "ALTER EVENT TRIGGER mcp_changes DISABLE; COMMENT ON FUNCTION app.greet() IS 'Greets.';
             SELECT pg_notify('mcp_cancellations', 'nobody'); SELECT pg_notify('mcp_changes', 'tools')",
        )
        .await?;
    subscription.hear("tools", AT_ONCE).await?;
    assert_eq!(subscription.drain(Duration::from_secs(11)).await?, 0, "told twice");
    Ok(())
}

/// A change of the tools that only those hear of who ask.
async fn change_in_silence(superuser: &Client, number: usize) -> Result<()> {
    let change = format!(
        "ALTER EVENT TRIGGER mcp_changes DISABLE; COMMENT ON FUNCTION app.whoami() IS 'Who is it? {number}'"
    );
    Ok(superuser.batch_execute(&change).await?)
}

async fn t19_who_subscribes_later_hides_no_change(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    let mut first = Subscription::open(&stage.clients[0], json!(1), &["tools"]).await?;
    change_in_silence(&stage.superuser, 1).await?;
    let mut second = Subscription::open(&stage.clients[0], json!(2), &["tools"]).await?;
    first.hear("tools", PATIENCE).await?;
    // To whom it was told before the later one came, or to both.
    second.drain(Duration::from_millis(200)).await?;
    Ok(())
}

async fn t19_what_changed_while_nobody_subscribed_is_not_told(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stage = Stage::set(world, &database, None).await?;
    // On a busy machine, the frontend may be late to forget.
    for number in 1..=3 {
        drop(Subscription::open(&stage.clients[0], json!(1), &["tools"]).await?);
        wait_until("the subscription to end", PATIENCE, || async {
            Ok(stage.replicas[0].metric("mcp_frontend_subscriptions").await? == Some(0))
        })
        .await?;
        tokio::time::sleep(POLLED).await;
        change_in_silence(&stage.superuser, number).await?;
        let mut subscription = Subscription::open(&stage.clients[0], json!(1), &["tools"]).await?;
        if subscription.drain(Duration::from_secs(11)).await? == 0 {
            return Ok(());
        }
    }
    bail!("it is always told of what was there when it came")
}

async fn t19_who_subscribes_before_the_frontend_listens_is_told_of_no_change(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let server = database.cluster().port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let exec = database.cluster().url_at(port, "mcp_frontend_exec", database.name());
    let settings = world.settings(&database)?.set("MCP_EXEC_DATABASE_URL", &exec);
    // For a connection, too, however busy the machine is.
    let settings = settings.set("MCP_REQUEST_TIMEOUT", "60");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    let lists = ["tools", "resources", "prompts"];
    let subscribing = tokio::spawn(async move { Subscription::open(&client, json!(1), &lists).await });
    wait_until("the subscription", PATIENCE, || async {
        Ok(frontend.metric("mcp_frontend_subscriptions").await? == Some(1))
    })
    .await?;
    // Only now the frontend comes through.
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let mut subscription = subscribing.await??;
    let superuser = database.superuser().await?;
    wait_until("the frontend to listen", PATIENCE, || async {
        let listening =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        Ok(superuser.query_one(listening, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    assert_eq!(subscription.drain(Duration::from_secs(3)).await?, 0, "nothing has changed");
    accepting.abort();
    Ok(())
}

/// How often a function of the extension has been called in a database that [`count_calls`].
async fn calls(superuser: &Client, function: &str) -> Result<i64> {
    let count = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_user_functions
                  WHERE schemaname = 'mcp' AND funcname = $1";
    Ok(superuser.query_one(count, &[&function]).await?.get(0))
}

async fn count_calls(database: &Database<'_>, superuser: &Client) -> Result<()> {
    let count = format!("ALTER DATABASE {} SET track_functions = 'all'", database.name());
    Ok(superuser.batch_execute(&count).await?)
}

/// Ends a frontend, and with it its connections: by then all their calls are counted.
async fn end_and_count(frontend: &Frontend, superuser: &Client) -> Result<()> {
    frontend.terminate()?;
    tokio::task::block_in_place(|| frontend.wait(PATIENCE))?;
    let open = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename LIKE 'mcp_frontend_%'";
    wait_until("its connections to end", PATIENCE, || async {
        Ok(superuser.query_one(open, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await
}

async fn t19_nobody_is_asked_of_changes_while_nobody_subscribes(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    count_calls(&database, &superuser).await?;
    let frontend = world.frontend(&database).await?;
    tokio::time::sleep(POLLED).await;
    end_and_count(&frontend, &superuser).await?;
    assert_eq!(calls(&superuser, "list_versions").await?, 0);
    // They are counted, where there are any.
    let frontend = frontend.settings().start().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    drop(Subscription::open(&client, json!(1), &["tools"]).await?);
    end_and_count(&frontend, &superuser).await?;
    ensure!(calls(&superuser, "list_versions").await? > 0, "not counted");
    Ok(())
}

async fn t19_an_idle_subscription_asks_seldom(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    count_calls(&database, &superuser).await?;
    let frontend = world.frontend(&database).await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token);
    let _subscription = Subscription::open(&client, json!(1), &["tools"]).await?;
    let start = Instant::now();
    tokio::time::sleep(POLLED).await;
    // At the beginning, and then every ten seconds.
    let (versions, sessions) =
        (calls(&superuser, "list_versions").await?, calls(&superuser, "lookup_session").await?);
    let most = i64::try_from(start.elapsed().as_secs())? / 10 + 3;
    ensure!(versions <= most, "asked for the lists' versions {versions} times");
    ensure!(sessions <= most, "looked its session up {sessions} times");
    Ok(())
}

async fn t19_a_database_that_is_away_is_tried_seldom(world: &Shared) -> Result<()> {
    const PAUSE: Duration = Duration::from_secs(2);
    let database = world.database().await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let closing = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let exec = database.cluster().url_at(port, "mcp_frontend_exec", database.name());
    let settings = world.settings(&database)?.set("MCP_EXEC_DATABASE_URL", &exec);
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let made = || attempts.load(Ordering::SeqCst);
    frontend.logged("the database is not ready").await?;
    let (before, start) = (made(), Instant::now());
    wait_until("more attempts", PATIENCE, || async { Ok(made() >= before + 4) }).await?;
    let (more, elapsed) = (made() - before, start.elapsed());
    ensure!(elapsed > PAUSE * (more / 2), "{more} attempts within {elapsed:?}");
    closing.abort();
    Ok(())
}
