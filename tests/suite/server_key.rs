//! A server key file: the first key in it seals, all of them open, and without the right one nothing does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cluster::{Cluster, Options, give_to_postgres};
use tests::ledger;
use tests::session::{NewSession, Session, status};
use tests::wait::wait_until;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; first_server_key_seals_and_all_of_them_open]
}

fn new_key() -> String {
    let key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    ledger::record("server key", &key);
    key
}

fn write(path: &Path, keys: &[&str]) -> Result<()> {
    std::fs::write(path, keys.join("\n"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    give_to_postgres(path)
}

/// The ids of the server keys that a session is sealed with.
async fn sealed_with(superuser: &Client, session: &Session) -> Result<Vec<Option<Vec<u8>>>> {
    let statement = "SELECT DISTINCT server_key FROM mcp.wrapped_keys WHERE session_id = $1";
    Ok(superuser.query(statement, &[&session.id]).await?.iter().map(|row| row.get(0)).collect())
}

async fn opened(auth: &Client, token: &str) -> Result<Value, tokio_postgres::Error> {
    Ok(auth.query_one("SELECT mcp.session_oauth_data($1)", &[&token]).await?.get(0))
}

/// The provider's tokens stay shut with this code and an error in which `said` stands, and the session goes on.
async fn shut(auth: &Client, session: &Session, code: &str, said: &str) -> Result<()> {
    let error = opened(auth, &session.token).await.err().context("opened without its key")?;
    let error = error.as_db_error().context("no error of PostgreSQL")?;
    assert_eq!(error.code().code(), code, "{error:?}");
    let text = format!("{} {}", error.message(), error.hint().unwrap_or_default());
    ensure!(text.contains(said), "{text}");
    assert_eq!(status(auth, &session.token).await?, "active");
    Ok(())
}

async fn first_server_key_seals_and_all_of_them_open(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let keyless = NewSession::of("keyless").create(&auth).await?;
    assert_eq!(sealed_with(&superuser, &keyless).await?, [None]);

    let path = cluster.directory().join("server.key");
    let (first, second) = (new_key(), new_key());
    write(&path, &[&first])?;
    superuser.batch_execute(&format!("ALTER SYSTEM SET mcp.key_file = '{}'", path.display())).await?;
    superuser.batch_execute("SELECT pg_reload_conf()").await?;
    wait_until("the setting", Duration::from_secs(30), || async {
        let row = superuser.query_one("SELECT current_setting('mcp.key_file')", &[]).await?;
        Ok(row.get::<_, String>(0) == path.display().to_string())
    })
    .await?;
    let alice = NewSession::of("alice");
    let kept = alice.create(&auth).await?;
    let bob = NewSession::of("bob").refreshable("client");
    let refreshed = bob.create(&auth).await?;
    assert_eq!(opened(&auth, &kept.token).await?, alice.oauth_data);
    let by_first = sealed_with(&superuser, &kept).await?;
    ensure!(by_first.len() == 1 && by_first[0].is_some(), "{by_first:?}");

    write(&path, &[&second, &first])?;
    let carol = NewSession::of("carol");
    let new = carol.create(&auth).await?;
    let by_second = sealed_with(&superuser, &new).await?;
    ensure!(by_second.len() == 1 && by_second[0].is_some() && by_second != by_first, "{by_second:?}");
    assert_eq!(opened(&auth, &kept.token).await?, alice.oauth_data);
    assert_eq!(opened(&auth, &new.token).await?, carol.oauth_data);
    // A refresh wraps the session's key anew.
    let row = auth
        .query_one(
            "SELECT status, access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
            &[&refreshed.refresh_token],
        )
        .await?;
    assert_eq!(row.get::<_, String>(0), "active");
    let successor: String = row.get(1);
    ledger::record("session token", &successor);
    ledger::record("refresh token", row.get(2));

    write(&path, &[&second])?;
    shut(&auth, &kept, "XX001", "mcp.key_file").await?;
    assert_eq!(opened(&auth, &successor).await?, bob.oauth_data);
    assert_eq!(opened(&auth, &new.token).await?, carol.oauth_data);
    opened(&auth, &keyless.token).await.context("what was sealed without a server key needs none")?;

    std::fs::remove_file(&path)?;
    shut(&auth, &new, "F0000", "server.key").await?;
    let entered = auth.query_one("SELECT status FROM mcp.enter($1)", &[&new.token]).await?;
    assert_eq!(entered.get::<_, String>(0), "active");

    write(&path, &[&first, &second])?;
    assert_eq!(opened(&auth, &kept.token).await?, alice.oauth_data);
    assert_eq!(opened(&auth, &new.token).await?, carol.oauth_data);
    // The keys are looked for in the data directory and the logs, and may stand in their file alone.
    std::fs::remove_file(&path)?;
    world.keep_log(&cluster)?;
    Ok(())
}
