//! Peers that stop answering without a word, and clients that go without one: nothing is held up for ever.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options, Stop};
use tests::database::Database;
use tests::frontend::{Frontend, Settings};
use tests::idp::stub::StubProvider;
use tests::mcp::{Door, Era, McpClient};
use tests::session::NewSession;
use tests::standstill::{Standstill, TLS};
use tests::wait::wait_until;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        a_cancellation_that_nobody_answers_is_given_up,
        a_connection_that_cannot_listen_is_made_anew,
        a_database_that_takes_connections_and_says_nothing_is_unavailable,
        doctor_gives_up_a_console_that_does_not_answer,
        a_subscription_ends_with_its_client,
        a_subscription_outlives_an_outage_of_postgresql,
    ]
}

/// For what is to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the time between two looks at the session of a subscription.
const OUTAGE: Duration = Duration::from_secs(20);

/// A client of `frontend` with a session of its own.
async fn client(frontend: &Frontend, database: &Database<'_>) -> Result<McpClient> {
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    Ok(frontend.mcp(Era::Modern).with(Door::Bearer, &session.token))
}

/// The same settings, with whatever runs tools behind a port of loopback.
fn exec_by(settings: Settings, database: &Database<'_>, port: u16) -> Settings {
    let url = database.cluster().url_at(port, "mcp_frontend_exec", database.name());
    settings.set("MCP_EXEC_DATABASE_URL", &url)
}

async fn a_cancellation_that_nobody_answers_is_given_up(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let endless =
        "CREATE FUNCTION app.endless() RETURNS text LANGUAGE sql AS $$ SELECT pg_sleep(600)::text $$;
                   SELECT mcp.expose_tool('app.endless()', name => 'endless', timeout => '10 min')";
    superuser.batch_execute(endless).await?;
    let standstill = Standstill::before(database.cluster().port(), TLS).await?;
    let settings =
        exec_by(world.settings(&database)?, &database, standstill.port()).set("MCP_POOL_SIZE", "1");
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let client = client(&frontend, &database).await?;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call("endless", json!({})).await }
    });
    let state = |condition: &str| {
        format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND {condition}", database.name())
    };
    let (sleeping, listening) = (state("wait_event = 'PgSleep'"), state("query LIKE 'LISTEN%'"));
    wait_until("the tool to sleep", PATIENCE, || async {
        Ok(superuser.query(&sleeping, &[]).await?.len() == 1
            && superuser.query(&listening, &[]).await?.len() == 1)
    })
    .await?;
    // A request to cancel a query comes by a connection of its own.
    standstill.stand_still();
    call.abort();
    wait_until("a cancellation", PATIENCE, || async { Ok(standstill.begun() == 1) }).await?;
    wait_until("it to be given up", PATIENCE, || async { Ok(standstill.given_up() == 1) }).await?;
    // The one place in the pool is free again: there is an attempt at another connection.
    client.call("whoami", json!({})).await?;
    wait_until("another connection", PATIENCE, || async { Ok(standstill.begun() > 1) }).await?;
    let end = sleeping.replace("SELECT pid", "SELECT pg_terminate_backend(pid)");
    superuser.query_one(&end, &[]).await?;
    Ok(())
}

async fn a_connection_that_cannot_listen_is_made_anew(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let standstill = Standstill::before(database.cluster().port(), b"LISTEN").await?;
    standstill.stand_still();
    let settings =
        exec_by(world.settings(&database)?, &database, standstill.port()).set("MCP_REQUEST_TIMEOUT", "1");
    let _frontend = world.oidc().await?.register(settings).await?.start().await?;
    wait_until("a connection to listen by", PATIENCE, || async { Ok(standstill.begun() == 1) }).await?;
    wait_until("it to be given up", PATIENCE, || async { Ok(standstill.given_up() >= 1) }).await?;
    wait_until("another", PATIENCE, || async { Ok(standstill.begun() >= 2) }).await
}

async fn a_database_that_takes_connections_and_says_nothing_is_unavailable(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let standstill = Standstill::before(database.cluster().port(), TLS).await?;
    standstill.stand_still();
    let settings = exec_by(world.settings(&database)?, &database, standstill.port());
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let answer = client(&frontend, &database).await?.call("whoami", json!({})).await?;
    // Not at the deadline of the request, which is ten times as long.
    ensure!(answer.text.contains("database_unavailable"), "{} {}", answer.status, answer.text);
    assert_eq!(answer.header("retry-after"), Some("2"));
    Ok(())
}

async fn doctor_gives_up_a_console_that_does_not_answer(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let bouncer = world::pgbouncer(database.cluster(), 2).await?;
    let standstill = Standstill::before(bouncer.port(), b"SHOW VERSION").await?;
    standstill.stand_still();
    let settings = exec_by(world.settings(&database)?, &database, standstill.port())
        .set("MCP_PREPARED_STATEMENTS", "off");
    let provider = StubProvider::start().await?;
    let settings = provider.oidc(settings);
    let output = tokio::task::spawn_blocking(move || settings.run(&["doctor", "--json"]));
    let output = tokio::time::timeout(PATIENCE, output).await.context("the doctor waits for ever")???;
    ensure!(standstill.begun() == 1, "it asked {} times", standstill.begun());
    let found: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let found: Vec<_> = found.iter().filter(|found| found["check_name"] == "pooler_version").collect();
    let [found] = found[..] else { anyhow::bail!("expected one finding, not {found:?}") };
    ensure!(found["severity"] == "info", "{found}");
    Ok(())
}

async fn a_subscription_ends_with_its_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let client = client(&frontend, &database).await?;
    ensure!(frontend.metric("mcp_frontend_subscriptions").await? == Some(0));
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = client.open("subscriptions/listen", filter).await?;
    stream.message(PATIENCE).await?.context("the stream ended at once")?;
    ensure!(frontend.metric("mcp_frontend_subscriptions").await? == Some(1));
    drop(stream);
    wait_until("the subscription to end", PATIENCE, || async {
        Ok(frontend.metric("mcp_frontend_subscriptions").await? == Some(0))
    })
    .await
}

async fn a_subscription_outlives_an_outage_of_postgresql(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let frontend = world.frontend(&database).await?;
    let client = client(&frontend, &database).await?;
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = client.open("subscriptions/listen", filter).await?;
    stream.message(PATIENCE).await?.context("the stream ended at once")?;
    cluster.stop(Stop::Fast)?;
    if let Ok(said) = tokio::time::timeout(OUTAGE, stream.message(PATIENCE)).await {
        anyhow::bail!("it was told something in the outage: {said:?}");
    }
    cluster.resume().await?;
    let told = stream.message(PATIENCE).await?.context("the stream ended after the outage")?;
    ensure!(told["method"] == "notifications/tools/list_changed", "{told}");
    drop((stream, frontend));
    world.keep_log(&cluster)?;
    Ok(())
}
