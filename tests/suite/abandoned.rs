//! What is begun and never ended: it leaves little, for a short time, and never more than a bound.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tests::browser::Browser;
use tests::database::Database;
use tests::oauth::{Client, WEB};

use crate::grants::count;
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_62_authorization_requests_leave_nothing,
        checklist_62_sign_ins_under_way_are_bounded,
        checklist_62_abandoned_sign_ins_are_swept_away,
    ]
}

/// How many rows there are in all tables that the authorization server writes to.
async fn rows(database: &Database<'_>) -> Result<i64> {
    count(
        database,
        "SELECT (SELECT count(*) FROM mcp.sign_ins) + (SELECT count(*) FROM mcp.clients)
              + (SELECT count(*) FROM mcp.consents) + (SELECT count(*) FROM mcp.authorization_codes)
              + (SELECT count(*) FROM mcp.sessions) + (SELECT count(*) FROM mcp.audit_log)",
    )
    .await
}

async fn checklist_62_authorization_requests_leave_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let before = rows(&database).await?;
    try_join_all((0..8).map(|_| {
        let client = client.clone();
        async move {
            for _ in 0..25 {
                client.request("mcp").open(&Browser::new()).await?;
                client.request("mcp").decide(&Browser::new(), "deny").await?;
                client.token(&client.refreshment("mcpr_x")).await?;
            }
            Ok::<_, anyhow::Error>(())
        }
    }))
    .await?;
    assert_eq!(rows(&database).await?, before, "before consent nothing is written for anybody");
    Ok(())
}

async fn checklist_62_sign_ins_under_way_are_bounded(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("SET mcp.max_sign_ins = 100; SET log_min_duration_statement = -1").await?;
    // Each with the lot that one in 256 draws; that no one of the last 6,000 draws it has a chance of one in 10^10.
    let begun = "SELECT count(mcp.begin_sign_in(repeat('s', 43) || n, repeat('b', 43), '{}'))
                   FROM generate_series(1, 12000) AS n";
    assert_eq!(superuser.query_one(begun, &[]).await?.get::<_, i64>(0), 12_000);
    let left = count(&database, "SELECT count(*) FROM mcp.sign_ins").await?;
    ensure!(left <= 100 + 6000, "{left} sign-ins are kept");
    // The newest are those that are kept.
    let newest = "SELECT status FROM mcp.finish_sign_in(repeat('s', 43) || 12000, repeat('b', 43))";
    assert_eq!(superuser.query_one(newest, &[]).await?.get::<_, String>(0), "ok");
    Ok(())
}

async fn checklist_62_abandoned_sign_ins_are_swept_away(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    for _ in 0..10 {
        client.request("mcp").decide(&Browser::new(), "allow").await?;
        Browser::new().step(&format!("{}/auth/init", frontend.url())).await?;
    }
    // Ended at the provider, and the code never redeemed.
    client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    let longest = "SELECT max(extract(epoch FROM expires_at - clock_timestamp()))::int8 FROM mcp.sign_ins";
    ensure!(count(&database, longest).await? <= 600, "ten minutes at most");
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "UPDATE mcp.sign_ins SET expires_at = expires_at - interval '10 minutes';
             UPDATE mcp.authorization_codes SET expires_at = expires_at - interval '10 minutes'",
        )
        .await?;
    database.auth().await?.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    for table in ["sign_ins", "authorization_codes"] {
        assert_eq!(count(&database, &format!("SELECT count(*) FROM mcp.{table}")).await?, 0, "{table}");
    }
    Ok(())
}
