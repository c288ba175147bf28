//! Refresh tokens: single use with a grace, of one client, never for more than was granted.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tests::browser::Browser;
use tests::database::Database;
use tests::oauth::{Client, LOOPBACK, Tokens};
use uuid::Uuid;

use crate::grants::{
    assert_error, assert_good, assert_refused, count, events, live_refresh_tokens, session_of, state, whoami,
};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_10_fifty_parallel_refreshes_leave_one_family,
        checklist_10_windows_that_refresh_at_once_all_stay_signed_in,
        checklist_11_reuse_after_the_grace_ends_the_session,
        checklist_11_reuse_after_two_rotations_ends_the_session,
        checklist_09_refresh_token_is_of_one_client,
        checklist_40_refresh_never_widens,
        narrowed_access_does_not_narrow_the_session,
    ]
}

async fn signed_in(server: &str, scope: &str) -> Result<(Client, Tokens)> {
    let client = Client::register(server, LOOPBACK).await?;
    let tokens = client.sign_in(&Browser::new(), "alice@example.com", scope).await?;
    Ok((client, tokens))
}

/// Makes every rotation of a session older than the grace.
async fn outlive_grace(database: &Database<'_>, session: Uuid) -> Result<()> {
    let aged = "UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '61 seconds'
                 WHERE session_id = $1 AND replaced_at IS NOT NULL";
    ensure!(database.superuser().await?.execute(aged, &[&session]).await? > 0, "nothing was rotated");
    Ok(())
}

/// Fifty requests at once with one refresh token; what each was granted.
async fn refresh_at_once(client: &Client, refresh_token: &str) -> Result<Vec<Tokens>> {
    try_join_all((0..50).map(|_| {
        let client = client.clone();
        let token = refresh_token.to_owned();
        async move { client.refresh(&token).await }
    }))
    .await
}

async fn checklist_10_fifty_parallel_refreshes_leave_one_family(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (site, _stub) = world.site(&database, 2).await?;
    let (client, tokens) = signed_in(site.url(), "mcp").await?;
    let session = session_of(&tokens.access)?;
    let granted = refresh_at_once(&client, &tokens.refresh).await?;
    assert_eq!(granted.len(), 50);
    // One rotation, and the same successor for everybody.
    for other in &granted {
        ensure!(other == &granted[0], "two families");
    }
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.refresh_tokens").await?, 2);
    assert_eq!(events(&database, session, "refresh").await?, 1);
    assert_good(site.url(), &granted[0], "alice@example.com").await?;
    let next = client.refresh(&granted[0].refresh).await?;
    assert_good(site.url(), &next, "alice@example.com").await?;
    assert_eq!(session_of(&next.access)?, session);
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    Ok(())
}

async fn checklist_10_windows_that_refresh_at_once_all_stay_signed_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (site, _stub) = world.site(&database, 2).await?;
    let (client, tokens) = signed_in(site.url(), "mcp").await?;
    let session = session_of(&tokens.access)?;
    // Ten windows that share the first token and then go their own way: each refreshes what it was given last, so
    // some come with tokens that are several rotations old.
    let windows = try_join_all((0..10).map(|_| {
        let (client, mut tokens) = (client.clone(), tokens.clone());
        async move {
            for _ in 0..5 {
                tokens = client.refresh(&tokens.refresh).await?;
            }
            Ok::<_, anyhow::Error>(tokens)
        }
    }))
    .await?;
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    assert_eq!(events(&database, session, "refresh_reuse").await?, 0);
    for tokens in windows {
        assert_good(site.url(), &client.refresh(&tokens.refresh).await?, "alice@example.com").await?;
    }
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    Ok(())
}

async fn checklist_11_reuse_after_the_grace_ends_the_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (site, _stub) = world.site(&database, 2).await?;
    let (client, stolen) = signed_in(site.url(), "mcp").await?;
    let (_, untouched) = signed_in(site.url(), "mcp").await?;
    let session = session_of(&stolen.access)?;
    let held = client.refresh(&stolen.refresh).await?;
    outlive_grace(&database, session).await?;
    assert_good(site.url(), &held, "alice@example.com").await?;
    // Thief and owner at once, on two replicas: nobody is left with anything.
    let replies = try_join_all((0..10).map(|_| {
        let (client, fields) = (client.clone(), client.refreshment(&stolen.refresh));
        async move { client.token(&fields).await }
    }))
    .await?;
    for reply in &replies {
        assert_error(reply, "invalid_grant")?;
    }
    assert_refused(site.url(), &held.access, "revoked").await?;
    assert_error(&client.token(&client.refreshment(&held.refresh)).await?, "invalid_grant")?;
    assert_eq!(events(&database, session, "refresh_reuse").await?, 1);
    assert_eq!(events(&database, session, "revoke").await?, 1);
    let reason = format!(
        "SELECT count(*) FROM mcp.sessions WHERE session_id = '{session}' AND revoked_reason ~ 'reused'"
    );
    assert_eq!(count(&database, &reason).await?, 1);
    let keys = format!("SELECT count(*) FROM mcp.wrapped_keys WHERE session_id = '{session}'");
    assert_eq!(count(&database, &keys).await?, 0, "shredded");
    assert_good(site.url(), &untouched, "alice@example.com").await
}

async fn checklist_11_reuse_after_two_rotations_ends_the_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (client, first) = signed_in(&frontend.url(), "mcp").await?;
    let second = client.refresh(&first.refresh).await?;
    outlive_grace(&database, session_of(&first.access)?).await?;
    let third = client.refresh(&second.refresh).await?;
    // The first outlived its grace, the second has not: the chain between them is broken for good.
    assert_error(&client.token(&client.refreshment(&first.refresh)).await?, "invalid_grant")?;
    assert_refused(&frontend.url(), &third.access, "revoked").await
}

async fn checklist_09_refresh_token_is_of_one_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (client, tokens) = signed_in(&frontend.url(), "mcp").await?;
    let thief = Client::register(&frontend.url(), LOOPBACK).await?;
    let session = session_of(&tokens.access)?;
    let before = state(&database).await?;
    assert_error(&thief.token(&thief.refreshment(&tokens.refresh)).await?, "invalid_grant")?;
    for nobody in ["nobody", "00000000-0000-0000-0000-000000000000", "'; --"] {
        let nobody = Client::known(&frontend.url(), nobody, LOOPBACK);
        assert_error(&nobody.token(&nobody.refreshment(&tokens.refresh)).await?, "invalid_client")?;
    }
    let anonymous = [("grant_type", "refresh_token".to_owned()), ("refresh_token", tokens.refresh.clone())];
    assert_error(&client.token(&anonymous).await?, "invalid_request")?;
    ensure!(state(&database).await? == before, "nothing was rotated");
    // Nor does a rotated one, in another client's hands, end the session after the grace.
    let next = client.refresh(&tokens.refresh).await?;
    outlive_grace(&database, session).await?;
    assert_error(&thief.token(&thief.refreshment(&tokens.refresh)).await?, "invalid_grant")?;
    assert_eq!(events(&database, session, "refresh_reuse").await?, 0);
    assert_good(&frontend.url(), &next, "alice@example.com").await
}

async fn checklist_40_refresh_never_widens(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (client, tokens) = signed_in(&frontend.url(), "mcp").await?;
    let before = state(&database).await?;
    for (name, value, error) in [
        ("scope", "mcp notes:admin", "invalid_scope"),
        ("scope", "notes:admin", "invalid_scope"),
        ("scope", "mcp *", "invalid_scope"),
        ("scope", "MCP", "invalid_scope"),
        ("scope", "mcp\u{0}", "invalid_scope"),
        ("resource", "https://other.test/mcp", "invalid_target"),
        ("resource", "x", "invalid_target"),
    ] {
        let mut fields = client.refreshment(&tokens.refresh);
        fields.push((name, value.to_owned()));
        assert_error(&client.token(&fields).await?, error)?;
        ensure!(state(&database).await? == before, "{name}={value:?} changed something");
    }
    let next = client.refresh(&tokens.refresh).await?;
    assert_eq!(next.scope, "mcp");
    // Nor on the replay that the grace allows.
    let mut fields = client.refreshment(&tokens.refresh);
    fields.push(("scope", "mcp notes:admin".to_owned()));
    assert_error(&client.token(&fields).await?, "invalid_scope")?;
    assert_good(&frontend.url(), &next, "alice@example.com").await
}

async fn narrowed_access_does_not_narrow_the_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let (client, tokens) = signed_in(&frontend.url(), "notes:admin").await?;
    assert_eq!(tokens.scope, "mcp notes:admin");
    let mut fields = client.refreshment(&tokens.refresh);
    fields.push(("scope", "mcp".to_owned()));
    let narrow = client.token(&fields).await?.tokens()?;
    assert_eq!(narrow.scope, "mcp");
    assert_eq!(whoami(&frontend.url(), &narrow.access).await?["scopes"], serde_json::json!(["mcp"]));
    let wide = client.refresh(&narrow.refresh).await?;
    assert_eq!(wide.scope, "mcp notes:admin");
    Ok(())
}
