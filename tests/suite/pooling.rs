//! Two users through one pooled connection, ten thousand calls: no row of the other. And the connection itself, where it
//! is encrypted.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::cluster::{Cluster, Options, give_to_postgres};
use tests::frontend::Settings;
use tests::hygiene;
use tests::idp::stub::StubProvider;
use tests::mcp::{Answer, Door, Era, McpClient};
use tests::session::{NewSession, call_tool_unwatched as call_tool};
use tests::wait::wait_for;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        two_users_through_one_pooled_connection,
        two_users_through_one_connection_of_an_application,
        ten_thousand_sealed_calls_leave_the_backend_as_it_was,
        connections_are_encrypted_as_far_as_they_are_told_to,
    ]
}

const CALLS: usize = 10_000;
/// So many wait for the one connection at any time.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls a tool, again where the server says that it is busy: with one connection for all, it may be.
async fn call(client: &McpClient, name: &str, arguments: Value) -> Result<Answer> {
    wait_for("a free connection", PATIENCE, || async {
        let answer = client.call(name, arguments.clone()).await?;
        Ok((answer.status != StatusCode::SERVICE_UNAVAILABLE).then_some(answer))
    })
    .await
}

/// What one client did, checked answer by answer.
async fn work(client: McpClient, name: &'static str, calls: usize) -> Result<usize> {
    let other = if name == "alice" { "bob" } else { "alice" };
    let mut added = 0;
    for number in 0..calls {
        let answer = match number % 50 {
            0 => call(&client, "add_note", json!({"body": format!("note of {name}")})).await?,
            25 => call(&client, "fail", json!({"message": format!("failure of {name}")})).await?,
            number if number % 2 == 0 => call(&client, "whoami", json!({})).await?,
            _ => call(&client, "list_notes", json!({})).await?,
        };
        ensure!(!answer.text.contains(other), "{name} was answered {}", answer.text);
        match number % 50 {
            0 => {
                answer.tool_text()?;
                added += 1;
            }
            25 => ensure!(answer.tool_error()?.contains(name), "{}", answer.text),
            number if number % 2 == 0 => {
                let me: Value = serde_json::from_str(&answer.tool_text()?)?;
                ensure!(me["subject"] == format!("{name}@example.com"), "{name} is {me}");
            }
            _ => {
                let rows = answer.result()?["structuredContent"]["rows"].as_array().map_or(0, Vec::len);
                ensure!(rows >= added, "{name} has {rows} notes after adding {added}");
            }
        }
    }
    Ok(added)
}

async fn two_users_through_one_pooled_connection(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = tests::idp::stub::StubProvider::start().await?;
    // At trace level ten thousand calls write a log that drowns the rest of the suite's.
    let settings = world.settings(&database)?.set("MCP_POOL_SIZE", "1").set("MCP_LOG", "info");
    let frontend = stub.oidc(settings).start().await?;
    let mut work_under_way = tokio::task::JoinSet::new();
    for name in ["alice", "bob"] {
        let token = Browser::new().sign_in(&frontend.url(), &format!("{name}@example.com")).await?.token;
        for worker in 0..AT_ONCE / 2 {
            let era = if worker % 2 == 0 { Era::Modern } else { Era::Legacy };
            let client = frontend.mcp(era).with(Door::Bearer, &token);
            work_under_way.spawn(work(client, name, CALLS / AT_ONCE));
        }
    }
    let mut added = 0;
    while let Some(done) = work_under_way.join_next().await {
        added += done??;
    }
    let superuser = database.superuser().await?;
    let row = superuser.query_one("SELECT count(*), count(DISTINCT owner) FROM app.notes", &[]).await?;
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (i64::try_from(added)?, 2),
        "no note lost or doubled"
    );
    let backends = superuser
        .query_one(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = $1 AND usename = 'mcp_frontend_exec' AND query NOT LIKE 'LISTEN%'",
            &[&database.name()],
        )
        .await?;
    assert_eq!(backends.get::<_, i64>(0), 1, "it was one connection");
    Ok(())
}

async fn two_users_through_one_connection_of_an_application(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, application) = (database.auth().await?, database.application().await?);
    let users = [NewSession::of("alice").create(&auth).await?, NewSession::of("bob").create(&auth).await?];
    let names = ["alice", "bob"];
    let enter = application.prepare("SELECT status FROM mcp.enter($1)").await?;
    let add = application.prepare("INSERT INTO app.notes (body) VALUES ($1)").await?;
    let list = application.prepare("SELECT body FROM app.notes").await?;
    for round in 0..1000 {
        let user = (round / 3) % 2;
        application.batch_execute("BEGIN").await?;
        // Every seventh transaction forgets to sign in; it must be nobody, not whoever was before.
        let nobody = round % 7 == 6;
        if !nobody {
            application.query_one(&enter, &[&users[user].token]).await?;
            if round % 50 < 2 {
                application.execute(&add, &[&names[user]]).await?;
            }
        }
        let rows = application.query(&list, &[]).await?;
        ensure!(rows.iter().all(|row| row.get::<_, &str>(0) == names[user]), "round {round}");
        ensure!(!nobody || rows.is_empty(), "round {round}: nobody sees rows");
        application.batch_execute(if round % 5 == 4 { "ROLLBACK" } else { "COMMIT" }).await?;
    }
    Ok(())
}

async fn ten_thousand_sealed_calls_leave_the_backend_as_it_was(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let superuser = database.superuser().await?;
    let users = [NewSession::of("alice").create(&auth).await?, NewSession::of("bob").create(&auth).await?];
    // What a backend's memory holds is told to privileged roles alone, so ask through one that it may become.
    let memory = || async {
        let row = exec.query_one("SELECT public.memory_of_backend()", &[]).await?;
        Ok::<i64, anyhow::Error>(row.get(0))
    };
    superuser
        .batch_execute(
            "CREATE FUNCTION public.memory_of_backend() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 AS 'SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts'",
        )
        .await?;
    let (mut at_first, mut half_way) = (0, 0);
    for round in 0..CALLS {
        let user = &users[round % 2];
        let result = match round % 4 {
            0 | 1 => call_tool(&exec, &user.token, "whoami", json!({})).await?,
            2 => call_tool(&exec, &user.token, "fail", json!({"message": "no"})).await?,
            _ => {
                call_tool(
                    &exec,
                    &user.token,
                    "echo",
                    json!({"list": ["a", "b"], "document": {"deep": [1, 2, 3]}}),
                )
                .await?
            }
        };
        ensure!((result["isError"] == true) == (round % 4 == 2), "{result}");
        if round == CALLS / 10 {
            at_first = memory().await?;
        }
        if round == CALLS / 2 {
            half_way = memory().await?;
        }
    }
    // Memory comes in blocks, each twice the one before, and other tests make this backend read catalogs anew: what
    // grows with the calls grows in both halves.
    let kept = (memory().await? - half_way).min(half_way - at_first);
    let left = hygiene::state_of(&exec).await?;
    ensure!(left == json!({}), "ten thousand calls left {left}");
    ensure!(kept < 128 * 1024, "four thousand calls took {kept} bytes and kept them");
    Ok(())
}

async fn connections_are_encrypted_as_far_as_they_are_told_to(world: &Shared) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("mcp-tls-").tempdir()?;
    give_to_postgres(directory.path())?;
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        give_to_postgres(&path)?;
        anyhow::Ok(path.display().to_string())
    };
    let certificate = |key: &KeyPair| {
        let named = CertificateParams::new(["127.0.0.1".to_owned()])?;
        anyhow::Ok(named.self_signed(key)?.pem())
    };
    let key = KeyPair::generate()?;
    let own = file("server.pem", certificate(&key)?)?;
    let other = file("other.pem", certificate(&KeyPair::generate()?)?)?;
    let options = Options::default()
        .set("ssl", "on")
        .set("ssl_cert_file", &own)
        .set("ssl_key_file", &file("server.key", key.serialize_pem())?);
    let encrypting = Cluster::start(&options).await?;
    let (with, without) = (encrypting.database().await?, world.database().await?);
    let stub = StubProvider::start().await?;
    let (ours, others) = (format!("&sslrootcert={own}"), format!("&sslrootcert={other}"));
    // The certificate names the address alone, and no system trusts it.
    for (database, host, mode, root, encrypted) in [
        (&with, "127.0.0.1", "", "", Some(true)),
        (&with, "127.0.0.1", "sslmode=disable", "", Some(false)),
        (&with, "127.0.0.1", "sslmode=require", "", Some(true)),
        (&with, "127.0.0.1", "sslmode=require", &ours, Some(true)),
        (&with, "127.0.0.1", "sslmode=require", &others, None),
        (&with, "127.0.0.1", "sslmode=verify-full", "", None),
        (&with, "127.0.0.1", "sslmode=verify-full", &ours, Some(true)),
        (&with, "127.0.0.1", "sslmode=verify-full", &others, None),
        (&with, "localhost", "sslmode=require", "", Some(true)),
        (&with, "localhost", "sslmode=verify-full", &ours, None),
        (&without, "127.0.0.1", "", "", Some(false)),
        (&without, "127.0.0.1", "sslmode=require", "", None),
        (&without, "127.0.0.1", "sslmode=verify-full", &ours, None),
    ] {
        let what = format!("{host} {mode}{root}, a server that encrypts: {}", std::ptr::eq(database, &with));
        let url = |login| {
            let url =
                database.cluster().url(login, database.name()).replace("@127.0.0.1:", &format!("@{host}:"));
            format!("{url}?{mode}{root}")
        };
        let settings = Settings::new(database, world.logs())?
            .set("DATABASE_URL", &url("mcp_frontend_auth"))
            .set("MCP_EXEC_DATABASE_URL", &url("mcp_frontend_exec"));
        let frontend = stub.oidc(settings).start().await?;
        let ready = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
        let (status, text) = (ready.status(), ready.text().await?);
        ensure!(status.is_success() == encrypted.is_some(), "{what}: {status} {text}");
        let superuser = database.superuser().await?;
        let seen = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE datname = current_database() AND usename LIKE 'mcp_frontend%'";
        let seen: Vec<bool> = superuser.query(seen, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, Vec::from_iter(encrypted), "{what}");
        drop(frontend);
        // Before the next one is looked at.
        wait_for("its connections to end", PATIENCE, || async {
            let left = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'mcp_frontend%'";
            Ok(superuser.query(left, &[]).await?.is_empty().then_some(()))
        })
        .await?;
    }
    world.keep_log(&encrypting)?;
    Ok(())
}
