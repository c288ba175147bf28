//! A read-only standby authenticates, and writes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options};
use tests::session::{NewSession, call_tool, status};
use tests::wait::wait_until;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

/// How long what was written may take to reach the standby.
const REPLAY: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; standby_authenticates_and_writes_nothing]
}

/// When a session ends, and how many rows the audit log has.
async fn written(superuser: &Client, session: Uuid) -> Result<(String, i64)> {
    let statement = "SELECT expires_at::text, (SELECT count(*) FROM mcp.audit_log) FROM mcp.sessions WHERE session_id = $1";
    let row = superuser.query_one(statement, &[&session]).await?;
    Ok((row.get(0), row.get(1)))
}

async fn standby_authenticates_and_writes_nothing(world: &Shared) -> Result<()> {
    let primary = Cluster::start(&Options::default().set("mcp.database", "test_0")).await?;
    let database = primary.database().await?;
    let (auth, exec, superuser) =
        (database.auth().await?, database.exec().await?, database.superuser().await?);
    let alice = NewSession::of("alice").create(&auth).await?;
    let revoked = NewSession::of("bob").create(&auth).await?;
    call_tool(&exec, &alice.token, "add_note", json!({"body": "on the primary"})).await?;
    // So that a touch would be worth a write.
    superuser.batch_execute("UPDATE mcp.sessions SET expires_at = expires_at - interval '12 hours'").await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;
    let before = written(&superuser, alice.id).await?;

    let standby = primary.standby().await?;
    let there = standby.superuser(database.name()).await?;
    wait_until("the standby to have what the primary has", REPLAY, || async {
        Ok(written(&there, alice.id).await.is_ok_and(|there| there == before))
    })
    .await?;
    let auth_there = standby.login("mcp_frontend_auth", database.name()).await?;
    let exec_there = standby.login("mcp_frontend_exec", database.name()).await?;
    assert_eq!(status(&auth_there, &alice.token).await?, "active");
    auth_there.batch_execute("BEGIN").await?;
    let row =
        auth_there.query_one("SELECT status, expires_at::text FROM mcp.enter($1)", &[&alice.token]).await?;
    assert_eq!((row.get(0), row.get::<_, String>(1)), ("active", before.0.clone()), "nothing slides");
    let armed = auth_there.query_one("SELECT mcp.user_id()", &[]).await?;
    assert_eq!(armed.get::<_, Option<Uuid>>(0), Some(alice.user_id));
    auth_there.batch_execute("COMMIT").await?;
    let opened: Option<Value> =
        auth_there.query_one("SELECT mcp.session_oauth_data($1)", &[&alice.token]).await?.get(0);
    ensure!(opened.is_some(), "the provider's tokens open");

    let listed = call_tool(&exec_there, &alice.token, "list_notes", json!({})).await?;
    assert_eq!(listed["structuredContent"]["rows"][0]["body"], "on the primary", "{listed}");
    let added = call_tool(&exec_there, &alice.token, "add_note", json!({"body": "on the standby"})).await?;
    assert_eq!(added["isError"], true, "{added}");

    let row = auth_there.query_one("SELECT status FROM mcp.enter($1)", &[&revoked.token]).await?;
    assert_eq!(row.get::<_, String>(0), "revoked");
    let refused = call_tool(&exec_there, &revoked.token, "list_notes", json!({})).await?;
    assert_eq!(refused["status"], "revoked", "{refused}");
    assert_eq!(written(&there, alice.id).await?, before, "the standby has written");
    // The look finds such a row where it is written.
    auth.query_one("SELECT status FROM mcp.enter($1)", &[&revoked.token]).await?;
    assert_eq!(written(&superuser, alice.id).await?.1, before.1 + 1);

    let row = there.query_one("SELECT running, pid, detail FROM mcp.worker_status()", &[]).await?;
    let (running, pid, detail): (bool, Option<i32>, String) = (row.get(0), row.get(1), row.get(2));
    ensure!(!running && pid.is_none() && detail.contains("standby"), "{detail}");
    ensure!(!detail.contains("log"), "nothing is wrong: {detail}");
    let found = there.query("SELECT check_name FROM mcp.doctor()", &[]).await?;
    ensure!(found.iter().all(|row| row.get::<_, &str>(0) != "worker"), "nothing is wrong with the worker");

    auth.query_one("SELECT mcp.revoke_session($1)", &[&alice.token]).await?;
    wait_until("the standby to hear of the revocation", REPLAY, || async {
        Ok(status(&auth_there, &alice.token).await? == "revoked")
    })
    .await?;
    let refused = call_tool(&exec_there, &alice.token, "list_notes", json!({})).await?;
    assert_eq!(refused["status"], "revoked", "{refused}");
    world.keep_log(&primary)?;
    world.keep_log(&standby)?;
    Ok(())
}
