//! Lists that change: every open subscription hears of it, at every replica, whatever lies between it and PostgreSQL.

use std::time::Duration;

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
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Below the time between two polls of the frontend: what is heard this soon was heard by LISTEN.
const AT_ONCE: Duration = Duration::from_secs(8);

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
