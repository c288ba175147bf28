//! Dump and restore: what operators set up comes along, sessions and their secrets do not.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::session::{NewSession, call_tool, status};
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; restored_dump_has_the_tools_and_no_session]
}

/// Runs `text` in `database` as `pg_dump database | psql other` does.
fn restore(cluster: &Cluster, database: &str, text: &str) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    let mut psql = cluster.program("psql", database);
    psql.command().args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::from(file));
    psql.run()?;
    Ok(())
}

/// What `token` is offered, whole.
async fn listed(exec: &Client, list: &str, token: &str) -> Result<Vec<Value>> {
    let rows = exec.query(&format!("SELECT mcp.{list}($1)"), &[&token]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn restored_dump_has_the_tools_and_no_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    superuser
        .batch_execute(
            "CREATE FUNCTION app.greet(whom text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'hello ' || whom $$;
             SELECT mcp.expose_resource('app.whoami()', 'test://whoami', name => 'whoami'),
                    mcp.expose_prompt('app.greet(text)', name => 'greet'),
                    mcp.register_client('Editor', ARRAY['https://client.test/'], 'editor'),
                    mcp.register_dynamic_client('Passer-by', ARRAY['https://passer.test/'])",
        )
        .await?;
    let before = NewSession::of("alice").refreshable("editor").create(&auth).await?;

    let cluster = database.cluster();
    let name = format!("{}_restored", database.name());
    superuser.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    tokio::task::block_in_place(|| {
        let dump = cluster.program("pg_dump", database.name()).run()?;
        restore(cluster, &name, &dump)
    })?;

    let superuser = cluster.superuser(&name).await?;
    for table in ["sessions", "refresh_tokens", "sealed_tokens", "wrapped_keys", "audit_log"] {
        let row = superuser.query_one(&format!("SELECT count(*) FROM mcp.{table}"), &[]).await?;
        assert_eq!(row.get::<_, i64>(0), 0, "{table}");
    }
    let clients = superuser.query("SELECT client_name FROM mcp.clients", &[]).await?;
    let clients: Vec<String> = clients.iter().map(|row| row.get(0)).collect();
    assert_eq!(clients, ["Editor"], "the operator's client alone");

    let auth = cluster.login("mcp_frontend_auth", &name).await?;
    let exec = cluster.login("mcp_frontend_exec", &name).await?;
    assert_eq!(status(&auth, &before.token).await?, "unknown");
    let row = auth
        .query_one("SELECT status FROM mcp.refresh_session($1, 'editor')", &[&before.refresh_token])
        .await?;
    assert_eq!(row.get::<_, String>(0), "unknown");

    let after = NewSession::of("alice").create(&auth).await?;
    assert_eq!(after.user_id, before.user_id);
    let original = database.exec().await?;
    for (list, some) in
        [("list_tools", "list_notes"), ("list_resources", "whoami"), ("list_prompts", "greet")]
    {
        let restored = listed(&exec, list, &after.token).await?;
        assert_eq!(restored, listed(&original, list, &before.token).await?);
        ensure!(restored.iter().any(|listed| listed["name"] == some), "{restored:?}");
    }
    call_tool(&exec, &after.token, "add_note", json!({"body": "after the restore"})).await?;
    let notes = call_tool(&exec, &after.token, "list_notes", json!({})).await?;
    assert_eq!(notes["structuredContent"]["rows"][0]["body"], "after the restore", "{notes}");
    for statement in [
        "SELECT mcp.read_resource($1, 'test://whoami')",
        "SELECT mcp.get_prompt($1, 'greet', '{\"whom\": \"you\"}')",
    ] {
        let row = exec.query_one(statement, &[&after.token]).await.context(statement)?;
        let text = row.get::<_, Value>(0).to_string();
        ensure!(text.contains("alice") || text.contains("hello you"), "{text}");
    }
    // What was exposed with a time of its own keeps it.
    let slow = call_tool(&exec, &after.token, "short_sleep", json!({"seconds": 9})).await?;
    assert_eq!(slow["isError"], true, "{slow}");
    Ok(())
}
