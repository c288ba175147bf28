//! Authorization codes: whoever they were made for redeems them, once; nobody else redeems, spends or ends anything.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use tests::browser::Browser;
use tests::database::Database;
use tests::idp::npm::OidcProvider;
use tests::oauth::{Client, Code, LOOPBACK, Tokens, WEB, challenge, parameter, resource};

use crate::grants::{
    assert_error, assert_good, assert_refused, call, events, live_refresh_tokens, session_of, sessions,
    state, whoami,
};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        client_signs_in_with_nothing_but_the_url,
        checklist_07_code_needs_its_verifier,
        checklist_07_challenge_is_s256_or_nothing,
        checklist_08_of_fifty_parallel_redemptions_one_succeeds,
        checklist_08_replayed_code_ends_what_it_was_redeemed_for,
        checklist_09_code_is_of_one_client,
        checklist_12_code_is_for_one_resource,
        code_is_redeemed_at_the_redirect_uri_it_was_sent_to,
        code_expires,
        second_device_leaves_the_first_alive,
    ]
}

/// A code for Alice.
async fn code(client: &Client) -> Result<Code> {
    client.authorize(&Browser::new(), "alice@example.com", "mcp").await
}

async fn note_provider_tokens(database: &Database<'_>, tokens: &Tokens) -> Result<()> {
    tests::session::note_provider_tokens(&database.auth().await?, &tokens.access).await?;
    Ok(())
}

async fn client_signs_in_with_nothing_but_the_url(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    // The walk of every MCP client: the 401 names the resource's metadata, that the server, that the endpoints.
    let challenged = frontend.mcp(tests::mcp::Era::Modern).call("whoami", serde_json::json!({})).await?;
    let challenge = challenged.header("www-authenticate").unwrap_or_default();
    let metadata = challenge.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next());
    let get = |url: String| async move { Ok::<Value, anyhow::Error>(reqwest::get(url).await?.json().await?) };
    let document = get(metadata.unwrap_or_default().to_owned()).await?;
    assert_eq!(document["resource"], resource(&frontend.url()));
    let server = document["authorization_servers"][0].as_str().unwrap_or_default().to_owned();
    let document = get(format!("{server}/.well-known/oauth-authorization-server")).await?;
    assert_eq!(document["issuer"], server.as_str());
    for (endpoint, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("registration_endpoint", "/register"),
        ("revocation_endpoint", "/revoke"),
    ] {
        assert_eq!(document[endpoint], format!("{server}{path}"));
    }
    let client = Client::register(&server, LOOPBACK).await?;
    // Through the pages of a provider that others wrote.
    let browser = Browser::new();
    let request = client.request("").set("resource", &resource(&server)).without("scope");
    let answer =
        browser.sign_in_until(&request.url(), "alice@example.com", |url| client.is_answer(url)).await?;
    let code = client.code(&request, answer)?;
    let mut fields = client.redemption(&code);
    fields.push(("resource", resource(&server)));
    let reply = client.token(&fields).await?;
    let tokens = reply.tokens()?;
    note_provider_tokens(&database, &tokens).await?;
    let answer = reply.json()?;
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["scope"], "mcp");
    ensure!((3590..=3600).contains(&answer["expires_in"].as_i64().unwrap_or(0)), "{}", answer["expires_in"]);
    let me = whoami(&server, &tokens.access).await?;
    assert_eq!(me["subject"], "alice@example.com");
    assert_eq!(me["issuer"], OidcProvider::issuer(world.oidc().await?));
    assert_eq!(me["client_id"], client.id.as_str());
    assert_eq!(me["scopes"], serde_json::json!(["mcp"]));
    assert_eq!(me["claims"]["email"], "alice@example.com");
    let begun = "SELECT metadata ->> 'ip' FROM mcp.sessions";
    let begun = database.superuser().await?.query_one(begun, &[]).await?;
    assert_eq!(begun.get::<_, Option<&str>>(0), Some("127.0.0.1"));
    let refreshed = client.refresh(&tokens.refresh).await?;
    note_provider_tokens(&database, &refreshed).await?;
    assert_good(&server, &refreshed, "alice@example.com").await?;
    let reply = client.revoke(&refreshed.access).await?;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    assert_refused(&server, &refreshed.access, "revoked").await
}

async fn checklist_07_code_needs_its_verifier(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let code = code(&client).await?;
    let before = state(&database).await?;
    let verifiers = [
        (None, "invalid_request"),
        (Some(String::new()), "invalid_request"),
        (Some(code.verifier[..42].to_owned()), "invalid_grant"),
        (Some(format!("{}x", code.verifier)), "invalid_grant"),
        (Some(code.verifier.to_uppercase()), "invalid_grant"),
        (Some(format!("{} ", code.verifier)), "invalid_grant"),
        (Some("x".repeat(64)), "invalid_grant"),
        // `plain`: the challenge, which whoever saw the request knows.
        (Some(challenge(&code.verifier)), "invalid_grant"),
        (Some("x".repeat(5000)), "invalid_request"),
    ];
    for (verifier, error) in verifiers {
        let mut fields = client.redemption(&code);
        fields.retain(|(name, _)| *name != "code_verifier");
        fields.extend(verifier.clone().map(|verifier| ("code_verifier", verifier)));
        let reply = client.token(&fields).await?;
        assert_error(&reply, error)?;
        ensure!(state(&database).await? == before, "{verifier:?} changed something");
    }
    // Nothing of that spent the code.
    assert_good(&frontend.url(), &client.redeem(&code).await?, "alice@example.com").await
}

async fn checklist_07_challenge_is_s256_or_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let good = client.request("mcp");
    let verifier = good.verifier.clone();
    for request in [
        good.clone().without("code_challenge"),
        good.clone().without("code_challenge_method"),
        good.clone().without("code_challenge").without("code_challenge_method"),
        good.clone().set("code_challenge_method", "plain"),
        good.clone().set("code_challenge_method", "plain").set("code_challenge", &verifier),
        good.clone().set("code_challenge_method", "s256"),
        good.clone().set("code_challenge_method", "S512"),
        good.clone().set("code_challenge_method", ""),
        good.clone().set("code_challenge", ""),
        good.clone().set("code_challenge", "short"),
        good.clone().set("code_challenge", &"=".repeat(43)),
        good.clone().set("code_challenge", &"a".repeat(44)),
        good.clone().and("code_challenge_method", "plain"),
    ] {
        let page = request.open(&Browser::new()).await?;
        let answer = page.location()?.unwrap_or_else(|| panic!("{request:?}: {}", page.text));
        ensure!(client.is_answer(&answer), "{answer}");
        assert_eq!(parameter(&answer, "error").as_deref(), Some("invalid_request"), "{request:?}");
        assert_eq!(parameter(&answer, "code"), None);
    }
    Ok(())
}

async fn checklist_08_of_fifty_parallel_redemptions_one_succeeds(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (site, _stub) = world.site(&database, 2).await?;
    let client = Client::register(site.url(), LOOPBACK).await?;
    let code = code(&client).await?;
    let replies = try_join_all((0..50).map(|_| {
        let (client, fields) = (client.clone(), client.redemption(&code));
        async move { client.token_patiently(&fields).await }
    }))
    .await?;
    let (granted, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(granted.len(), 1, "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    for reply in refused {
        assert_error(reply, "invalid_grant")?;
    }
    // The other forty-nine held the code and its verifier, and cannot all be the client: what was granted is gone.
    let tokens = granted[0].tokens()?;
    assert_eq!(sessions(&database).await?, 1);
    assert_refused(site.url(), &tokens.access, "revoked").await?;
    assert_error(&client.token(&client.refreshment(&tokens.refresh)).await?, "invalid_grant")?;
    let session = session_of(&tokens.access)?;
    assert_eq!(events(&database, session, "code_replay").await?, 49);
    assert_eq!(events(&database, session, "revoke").await?, 1);
    Ok(())
}

async fn checklist_08_replayed_code_ends_what_it_was_redeemed_for(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let (one, other) = (code(&client).await?, code(&client).await?);
    let (replayed, untouched) = (client.redeem(&one).await?, client.redeem(&other).await?);
    // Refreshed meanwhile: the whole grant goes, not the first tokens alone.
    let refreshed = client.refresh(&replayed.refresh).await?;
    let session = session_of(&refreshed.access)?;
    assert_eq!(live_refresh_tokens(&database, session).await?, 1);
    // Long after the code would have expired, too.
    let aged = "UPDATE mcp.authorization_codes SET expires_at = expires_at - interval '50 minutes',
                                                   redeemed_at = redeemed_at - interval '50 minutes'";
    database.superuser().await?.batch_execute(aged).await?;
    database.auth().await?.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    assert_error(&client.token(&client.redemption(&one)).await?, "invalid_grant")?;
    for access in [&replayed.access, &refreshed.access] {
        assert_refused(&frontend.url(), access, "revoked").await?;
    }
    assert_error(&client.token(&client.refreshment(&refreshed.refresh)).await?, "invalid_grant")?;
    assert_eq!(events(&database, session, "code_replay").await?, 1);
    assert_good(&frontend.url(), &untouched, "alice@example.com").await
}

async fn checklist_09_code_is_of_one_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let thief = Client::register(&frontend.url(), LOOPBACK).await?;
    let code = code(&client).await?;
    let before = state(&database).await?;
    // With everything right but who it is; then as a client that nobody knows.
    assert_error(&thief.token(&thief.redemption(&code)).await?, "invalid_grant")?;
    let nobody = Client::known(&frontend.url(), "nobody", LOOPBACK);
    assert_error(&nobody.token(&nobody.redemption(&code)).await?, "invalid_client")?;
    let by_document = Client::known(&frontend.url(), "https://thief.test/client.json", LOOPBACK);
    assert_error(&by_document.token(&by_document.redemption(&code)).await?, "invalid_grant")?;
    ensure!(state(&database).await? == before, "nothing was consumed");
    let tokens = client.redeem(&code).await?;
    // A redeemed one in the hands of another client ends nothing.
    assert_error(&thief.token(&thief.redemption(&code)).await?, "invalid_grant")?;
    assert_good(&frontend.url(), &tokens, "alice@example.com").await
}

async fn checklist_12_code_is_for_one_resource(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, LOOPBACK).await?;
    for foreign in ["https://other.test/mcp", &url, &format!("{url}/mcp/v2"), &format!("{url}/mcp/v1#x"), "x"]
    {
        let page = client.request("mcp").set("resource", foreign).open(&Browser::new()).await?;
        let answer = page.location()?.unwrap_or_else(|| panic!("{foreign}: {}", page.text));
        assert_eq!(parameter(&answer, "error").as_deref(), Some("invalid_target"), "{foreign}");
    }
    let code = code(&client).await?;
    let before = state(&database).await?;
    for foreign in ["https://other.test/mcp", &url, &format!("{url}/mcp/v1?x")] {
        let mut fields = client.redemption(&code);
        fields.push(("resource", foreign.to_owned()));
        assert_error(&client.token(&fields).await?, "invalid_target")?;
    }
    ensure!(state(&database).await? == before, "nothing was consumed");
    let mut fields = client.redemption(&code);
    fields.push(("resource", resource(&url)));
    let tokens = client.token(&fields).await?.tokens()?;
    // Bound to this resource also where the client named none: another server on the same database refuses it.
    let elsewhere =
        frontend.settings().replica()?.set("MCP_PUBLIC_URL", "http://127.0.0.1:1").start().await?;
    assert_refused(&elsewhere.url(), &tokens.access, "wrong_resource").await?;
    let there = client.at(&elsewhere.url());
    assert_error(&there.token(&there.refreshment(&tokens.refresh)).await?, "invalid_target")?;
    let unspent = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_error(&there.token(&there.redemption(&unspent)).await?, "invalid_target")?;
    client.redeem(&unspent).await?;
    // And what the provider issued is worth nothing here.
    let auth = database.auth().await?;
    let data = tests::session::note_provider_tokens(&auth, &tokens.access).await?;
    for name in ["access_token", "refresh_token", "id_token"] {
        assert_refused(&url, data[name].as_str().unwrap_or_default(), "unknown").await?;
    }
    assert_good(&url, &tokens, "alice@example.com").await
}

async fn code_is_redeemed_at_the_redirect_uri_it_was_sent_to(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), WEB).await?;
    let code = code(&client).await?;
    for uri in ["", "https://client.test/callback/", "https://client.test/CALLBACK", LOOPBACK] {
        let mut fields = client.redemption(&code);
        fields.retain(|(name, _)| *name != "redirect_uri");
        fields.push(("redirect_uri", uri.to_owned()));
        assert_error(&client.token(&fields).await?, "invalid_grant")?;
    }
    assert_good(&frontend.url(), &client.redeem(&code).await?, "alice@example.com").await
}

async fn code_expires(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let superuser = database.superuser().await?;
    for (left, granted) in [("30 seconds", true), ("-1 second", false)] {
        let code = code(&client).await?;
        let aged = "UPDATE mcp.authorization_codes SET expires_at = clock_timestamp() + $1::text::interval
                     WHERE redeemed_at IS NULL";
        superuser.execute(aged, &[&left]).await?;
        let reply = client.token(&client.redemption(&code)).await?;
        if granted {
            reply.tokens()?;
        } else {
            assert_error(&reply, "invalid_grant")?;
        }
    }
    let lifetime = "SELECT max(extract(epoch FROM expires_at - clock_timestamp()))::int8
                      FROM mcp.authorization_codes WHERE redeemed_at IS NULL";
    code(&client).await?;
    let seconds: i64 = superuser.query_one(lifetime, &[]).await?.get(0);
    ensure!((1..=60).contains(&seconds), "a minute at most: {seconds} s");
    Ok(())
}

async fn second_device_leaves_the_first_alive(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    // One client id on two devices, as clients that are known by a document or by an operator are.
    let query = "SELECT mcp.register_client('Shared', ARRAY[$1], 'shared')";
    database.superuser().await?.query_one(query, &[&LOOPBACK]).await?;
    let client = Client::known(&frontend.url(), "shared", LOOPBACK);
    let first = client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    let second = client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_ne!(session_of(&first.access)?, session_of(&second.access)?);
    for tokens in [&first, &second] {
        assert_good(&frontend.url(), tokens, "alice@example.com").await?;
    }
    client.revoke(&second.refresh).await?;
    assert_good(&frontend.url(), &first, "alice@example.com").await?;
    assert_eq!(call(&frontend.url(), &second.access).await?.status, 401);
    Ok(())
}
