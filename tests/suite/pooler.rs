//! PgBouncer in transaction mode: two users on one connection of the server, and what tools leave in it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::cluster::SUPERUSER;
use tests::hygiene::{difference, state_of};
use tests::idp::stub::StubProvider;
use tests::mcp::{Door, Era, text_blocks};
use tests::session::{NewSession, Session};
use tests::wait::wait_until;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::attacks::Stage;
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        attack_a12_two_users_behind_pgbouncer,
        attack_a12_an_application_behind_pgbouncer,
        attack_a12_frontends_behind_pgbouncer,
        nothing_of_a_tool_reaches_the_next_client_of_a_pooler,
        statements_that_are_gone_are_prepared_anew,
    ]
}

const CALLS: usize = 10_000;
/// Clients of each user.
const CLIENTS: usize = 2;
/// The state of the shared connection is looked at once in so many calls of each client.
const LOOK: usize = 100;

/// A call in one round trip, with a statement that has no name: it may meet another connection each time.
async fn call(exec: &Client, token: &str, tool: &str, arguments: &Value) -> Result<Value> {
    let row = exec
        .query_typed(
            "SELECT mcp.call_tool($1, $2, $3)",
            &[(&token, Type::TEXT), (&tool, Type::TEXT), (arguments, Type::JSONB)],
        )
        .await?;
    ensure!(row.len() == 1, "not one row");
    Ok(row[0].get(0))
}

/// Tools that mean to leave something behind for the next user of the connection.
const LEAVE_BEHIND: [&str; 10] = [
    "SELECT set_config('search_path', 'evil', false)",
    "SELECT set_config('app.made_up', 'here', false)",
    "SET statement_timeout = 1",
    "SET row_security = on",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET default_transaction_read_only = on",
    "LISTEN a12",
    "PREPARE a12 AS SELECT 1",
    "DECLARE a12 CURSOR WITH HOLD FOR SELECT body FROM app.notes",
    "CREATE TEMP TABLE notes (owner uuid, body text)",
];

/// One client's part of the calls, each answer checked for whose it is.
async fn work(exec: Client, session: Session, name: &'static str) -> Result<()> {
    let before = state_of(&exec).await?;
    let own = json!(session.user_id);
    for number in 0..CALLS / (2 * CLIENTS) {
        match number % 5 {
            0 => {
                let statement = LEAVE_BEHIND[number / 5 % LEAVE_BEHIND.len()];
                let result = call(&exec, &session.token, "try", &json!({"statement": statement})).await?;
                let after: Value = serde_json::from_str(&text_blocks(&result))?;
                ensure!(
                    after["user_id"] == own && after["role"] == "mcp_user",
                    "{statement}: {name} is {after}"
                );
                ensure!(after["notes"] == json!([format!("of {name}")]), "{statement}: {name} sees {after}");
            }
            1 | 2 => {
                let result = call(&exec, &session.token, "list_notes", &json!({})).await?;
                let rows = result["structuredContent"]["rows"].as_array().map_or(&[][..], Vec::as_slice);
                ensure!(rows.len() == 1 && rows[0]["body"] == format!("of {name}"), "{name} sees {result}");
            }
            3 => {
                let result = call(&exec, &session.token, "whoami", &json!({})).await?;
                let me: Value = serde_json::from_str(&text_blocks(&result))?;
                ensure!(me["user_id"] == own, "{name} is {me}");
            }
            _ => {
                let result = call(&exec, &session.token, "fail", &json!({"message": name})).await?;
                ensure!(
                    result["isError"] == true && text_blocks(&result).contains(name),
                    "{name} failed as {result}"
                );
            }
        }
        if number % LOOK == LOOK - 1 {
            let after = state_of(&exec).await?;
            ensure!(after == before, "call {number} of {name} left a trace: {}", difference(&before, &after));
        }
    }
    Ok(())
}

async fn attack_a12_two_users_behind_pgbouncer(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let name = stage.database.name();
    let bouncer = world::pgbouncer(stage.database.cluster(), 1).await?;
    let mut work_under_way = JoinSet::new();
    for (session, owner) in [(&stage.alice, "Alice"), (&stage.bob, "Bob")] {
        for _ in 0..CLIENTS {
            let exec = bouncer.client("mcp_frontend_exec", name).await?;
            work_under_way.spawn(work(exec, session.clone(), owner));
        }
    }
    while let Some(done) = work_under_way.join_next().await {
        done??;
    }
    let backends = stage
        .superuser
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename = 'mcp_frontend_exec' AND pid <> $2",
            &[&name, &pid(&stage.exec).await?],
        )
        .await?;
    assert_eq!(backends.get::<_, i64>(0), 1, "all of it was one connection of the server");
    Ok(())
}

async fn pid(client: &Client) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

async fn attack_a12_an_application_behind_pgbouncer(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let bouncer = world::pgbouncer(stage.database.cluster(), 1).await?;
    let mut work_under_way = JoinSet::new();
    for (session, owner) in [(&stage.alice, "Alice"), (&stage.bob, "Bob")] {
        let application = bouncer.client("app_login", stage.database.name()).await?;
        work_under_way.spawn(enter_and_look(application, session.clone(), owner));
    }
    while let Some(done) = work_under_way.join_next().await {
        done??;
    }
    Ok(())
}

async fn enter_and_look(application: Client, session: Session, name: &'static str) -> Result<()> {
    for round in 0..1000 {
        application.batch_execute("BEGIN").await?;
        // Every fifth transaction forgets to sign in, and every seventh fails.
        let somebody = round % 5 != 4;
        if somebody {
            application.query_typed("SELECT mcp.enter($1)", &[(&session.token, Type::TEXT)]).await?;
        }
        let rows = application.query_typed("SELECT body, mcp.user_id() FROM app.notes", &[]).await?;
        ensure!(rows.len() == usize::from(somebody), "round {round}: {name} sees {} rows", rows.len());
        for row in rows {
            let (body, user): (String, Option<Uuid>) = (row.get(0), row.get(1));
            ensure!(body == format!("of {name}") && user == Some(session.user_id), "{name} sees {body:?}");
        }
        if round % 7 == 6 {
            ensure!(application.batch_execute("SELECT 1 / 0").await.is_err());
        }
        application.batch_execute("COMMIT").await?;
    }
    Ok(())
}

async fn attack_a12_frontends_behind_pgbouncer(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let bouncer = world::pgbouncer(database.cluster(), 1).await?;
    let stub = StubProvider::start().await?;
    let settings = world
        .settings(&database)?
        .set("DATABASE_URL", &bouncer.url("mcp_frontend_auth", database.name()))
        .set("MCP_EXEC_DATABASE_URL", &bouncer.url("mcp_frontend_exec", database.name()))
        .set("MCP_PREPARED_STATEMENTS", "off");
    let frontends = [stub.oidc(settings.replica()?).start().await?, stub.oidc(settings).start().await?];
    let mut work_under_way = JoinSet::new();
    for name in ["alice", "bob"] {
        let token = Browser::new().sign_in(&frontends[0].url(), &format!("{name}@example.com")).await?.token;
        for (number, frontend) in frontends.iter().enumerate() {
            let era = if number == 0 { Era::Modern } else { Era::Legacy };
            let client = frontend.mcp(era).with(Door::Bearer, &token);
            work_under_way.spawn(async move {
                for _ in 0..100 {
                    let me: Value =
                        serde_json::from_str(&client.call("whoami", json!({})).await?.tool_text()?)?;
                    ensure!(me["subject"] == format!("{name}@example.com"), "{name} is {me}");
                }
                anyhow::Ok(())
            });
        }
    }
    while let Some(done) = work_under_way.join_next().await {
        done??;
    }
    Ok(())
}

/// Each thing a tool can leave, and after each a look by another client that gets the same connection.
async fn nothing_of_a_tool_reaches_the_next_client_of_a_pooler(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let bouncer = world::pgbouncer(stage.database.cluster(), 1).await?;
    let (one, two) = (
        bouncer.client("mcp_frontend_exec", stage.database.name()).await?,
        bouncer.client("mcp_frontend_exec", stage.database.name()).await?,
    );
    ensure!(pid_typed(&one).await? == pid_typed(&two).await?, "two connections of the server");
    let carol = NewSession::of("carol").create(&stage.auth).await?;
    let before = state_of(&two).await?;
    let locks = [
        "SELECT pg_advisory_lock(12)",
        "SELECT pg_advisory_lock_shared(12)",
        "SELECT pg_try_advisory_lock(1, 2)",
    ];
    for statement in LEAVE_BEHIND.into_iter().chain(locks) {
        for tool in ["try", "run"] {
            call(&one, &stage.alice.token, tool, &json!({"statement": statement})).await?;
            let after = state_of(&two).await?;
            ensure!(after == before, "{statement} by {tool} left a trace: {}", difference(&before, &after));
            let seen = call(&two, &carol.token, "list_notes", &json!({})).await?;
            ensure!(seen["structuredContent"] == json!({"rows": []}), "after {statement}, Carol sees {seen}");
        }
    }
    Ok(())
}

async fn pid_typed(client: &Client) -> Result<i32> {
    Ok(client.query_typed("SELECT pg_backend_pid()", &[]).await?[0].get(0))
}

async fn statements_that_are_gone_are_prepared_anew(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let bouncer = world::pgbouncer(database.cluster(), 1).await?;
    let url = |login| bouncer.url(login, database.name());
    let settings = world
        .settings(&database)?
        .set("DATABASE_URL", &url("mcp_frontend_auth"))
        .set("MCP_EXEC_DATABASE_URL", &url("mcp_frontend_exec"))
        .set("MCP_POOL_SIZE", "1");
    let stub = StubProvider::start().await?;
    let frontend = stub.oidc(settings).start().await?;
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    let exec = bouncer.client("mcp_frontend_exec", database.name()).await?;
    let console = bouncer.client(SUPERUSER, "pgbouncer").await?;
    // The pooler goes on with another connection, which knows none of the statements.
    for _ in 0..3 {
        client.call("whoami", json!({})).await?.tool_text()?;
        let before = pid_typed(&exec).await?;
        console.simple_query("RECONNECT").await?;
        wait_until("another connection", Duration::from_secs(30), || async {
            Ok(pid_typed(&exec).await? != before)
        })
        .await?;
    }
    // An upgrade answers with another type.
    let ready = async || {
        let answer = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status} {text}");
        Ok(())
    };
    // Once where the statement of the connection before is gone, once to prepare it.
    ready().await?;
    ready().await?;
    let upgrade = "ALTER FUNCTION mcp.version() RENAME TO version_of_old;
                   CREATE FUNCTION mcp.version() RETURNS varchar LANGUAGE sql AS 'SELECT mcp.version_of_old()::varchar';
                   GRANT EXECUTE ON FUNCTION mcp.version() TO mcp_auth, mcp_exec";
    database.superuser().await?.batch_execute(upgrade).await?;
    ready().await
}
