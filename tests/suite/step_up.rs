//! Step-up: a tool that needs more than the session has says what, and the same session gets it.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;
use tests::browser::Browser;
use tests::mcp::{Door, Era};
use tests::oauth::{Client, LOOPBACK, WEB};

use crate::grants::{
    assert_error, assert_good, assert_refused, count, events, live_refresh_tokens, session_of, sessions,
    whoami,
};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_40_tool_names_the_whole_set_of_scopes_it_needs,
        checklist_40_authorizing_for_more_widens_the_same_session,
        redemption_that_widens_beside_fifty_refreshes_leaves_one_session,
        widening_is_of_one_browser_user_and_client,
    ]
}

async fn checklist_40_tool_names_the_whole_set_of_scopes_it_needs(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let expose = "CREATE FUNCTION app.both() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'both'::text $$;
                  SELECT mcp.expose_tool('app.both()', name => 'both', scope => 'notes:admin notes:write')";
    database.superuser().await?.batch_execute(expose).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let browser = Browser::new();
    let mut tokens = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    // What the client then asks for is what the challenge says, all at once: one step-up is enough.
    for era in [Era::Modern, Era::Legacy] {
        let answer = frontend.mcp(era).with(Door::Bearer, &tokens.access).call("both", json!({})).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
        let challenge = answer.header("www-authenticate").context("a challenge")?;
        ensure!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"insufficient_scope\""),
            "{challenge}"
        );
        ensure!(challenge.contains("resource_metadata=\""), "{challenge}");
        let scope = challenge.split("scope=\"").nth(1).and_then(|rest| rest.split('"').next());
        let needed: std::collections::BTreeSet<_> = scope.context("a scope")?.split(' ').collect();
        ensure!(needed.contains("notes:admin") && needed.contains("notes:write"), "{challenge}");
        tokens = client.sign_in(&browser, "alice@example.com", scope.unwrap_or_default()).await?;
        let answer = frontend.mcp(era).with(Door::Bearer, &tokens.access).call("both", json!({})).await?;
        assert_eq!(answer.tool_text()?, "both");
        // Back to less, for the other era.
        client.revoke(&tokens.refresh).await?;
        tokens = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    }
    Ok(())
}

async fn checklist_40_authorizing_for_more_widens_the_same_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, LOOPBACK).await?;
    let browser = Browser::new();
    let narrow = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    let session = session_of(&narrow.access)?;
    let auth = database.auth().await?;
    auth.query_one("SELECT mcp.set_session_state($1, '{\"draft\": 7}')", &[&narrow.access]).await?;
    let end = format!("SELECT absolute_expires_at::text FROM mcp.sessions WHERE session_id = '{session}'");
    let superuser = database.superuser().await?;
    let before: String = superuser.query_one(&end, &[]).await?.get(0);

    let page = client.request("mcp notes:admin").open(&browser).await?;
    ensure!(page.text.contains("notes:admin"), "the person is asked for it: {}", page.text);
    let wide = client.sign_in(&browser, "alice@example.com", "mcp notes:admin").await?;
    assert_eq!(session_of(&wide.access)?, session);
    assert_eq!(sessions(&database).await?, 1);
    assert_eq!(wide.scope, "mcp notes:admin");
    assert_eq!(whoami(&url, &wide.access).await?["scopes"], json!(["mcp", "notes:admin"]));
    let answer =
        frontend.mcp(Era::Modern).with(Door::Bearer, &wide.access).call("privileged", json!({})).await?;
    assert_eq!(answer.tool_text()?, "privileged");
    let row = auth.query_one("SELECT state->>'draft' FROM mcp.lookup_session($1)", &[&wide.access]).await?;
    assert_eq!(row.get::<_, &str>(0), "7", "what the session holds, it still holds");
    assert_eq!(superuser.query_one(&end, &[]).await?.get::<_, String>(0), before, "nor does it live longer");

    // The tokens from before are gone, and with them ends nothing: another window may still come with them.
    assert_refused(&url, &narrow.access, "unknown").await?;
    assert_error(&client.token(&client.refreshment(&narrow.refresh)).await?, "invalid_grant")?;
    let next = client.refresh(&wide.refresh).await?;
    assert_eq!(next.scope, "mcp notes:admin");
    assert_good(&url, &next, "alice@example.com").await?;
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    assert_eq!(events(&database, session, "widen").await?, 1);
    assert_eq!(events(&database, session, "refresh_reuse").await?, 0);

    // Asking for less afterwards is a sign-in of its own, and leaves this one as it is.
    let other = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    ensure!(session_of(&other.access)? != session);
    assert_good(&url, &next, "alice@example.com").await
}

async fn redemption_that_widens_beside_fifty_refreshes_leaves_one_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (site, _stub) = world.site(&database, 2).await?;
    let client = Client::register(site.url(), LOOPBACK).await?;
    let browser = Browser::new();
    let narrow = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    let session = session_of(&narrow.access)?;
    let code = client.authorize(&browser, "alice@example.com", "mcp notes:admin").await?;
    // Refreshes of the narrow session race with the redemption: whoever wins, one family is left.
    let refreshes = futures_util::future::join_all((0..50).map(|_| {
        let (client, fields) = (client.clone(), client.refreshment(&narrow.refresh));
        async move { client.token_patiently(&fields).await }
    }));
    let fields = client.redemption(&code);
    let (refreshed, wide) = tokio::join!(refreshes, client.token_patiently(&fields));
    let wide = wide?.tokens()?;
    for reply in refreshed {
        let reply = reply?;
        ensure!([200, 400].contains(&reply.status.as_u16()), "{} {}", reply.status, reply.text);
    }
    assert_eq!(session_of(&wide.access)?, session);
    assert_eq!(sessions(&database).await?, 1);
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    assert_eq!(events(&database, session, "refresh_reuse").await?, 0);
    assert_good(site.url(), &client.refresh(&wide.refresh).await?, "alice@example.com").await
}

async fn widening_is_of_one_browser_user_and_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let (client, other) = (Client::register(&url, WEB).await?, Client::register(&url, WEB).await?);
    let browser = Browser::new();
    let narrow = client.sign_in(&browser, "alice@example.com", "mcp").await?;
    let scope = "mcp notes:admin";
    client.sign_in(&Browser::new(), "alice@example.com", scope).await?;
    client.sign_in(&browser, "bob@example.com", scope).await?;
    other.sign_in(&browser, "alice@example.com", scope).await?;
    assert_eq!(whoami(&url, &narrow.access).await?["scopes"], json!(["mcp"]), "none of them widened it");
    assert_eq!(count(&database, "SELECT count(*) FROM mcp.audit_log WHERE event = 'widen'").await?, 0);
    // Nor does one that has ended come back.
    client.revoke(&narrow.refresh).await?;
    let anew = client.sign_in(&browser, "alice@example.com", scope).await?;
    ensure!(session_of(&anew.access)? != session_of(&narrow.access)?);
    assert_refused(&url, &narrow.access, "revoked").await
}
