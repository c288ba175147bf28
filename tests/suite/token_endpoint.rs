//! `/token` and `/revoke`: what they tell whom, what is no request at all, and which token is good for what.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::mcp::{Door, Era};
use tests::oauth::{
    Client, LOOPBACK, Reply, Tokens, as_kind, register, resource, unheard_of, with_another_secret,
};

use crate::grants::{assert_error, assert_good, assert_refused, call, events, session_of, state};
use crate::world::{self, Shared, Trials};

/// The longest form that is read, in bytes.
const LONGEST: usize = 64 << 10;

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_19_token_endpoint_is_no_oracle,
        checklist_19_wrong_secrets_have_one_verdict,
        checklist_39_revoking_is_for_the_client_that_owns_the_token,
        checklist_41_tokens_of_one_kind_are_good_for_one_thing,
        checklist_46_answers_are_kept_by_nobody,
        checklist_60_repeated_fields_are_refused,
        checklist_61_malformed_requests_are_refused_in_json,
        token_limit_is_per_address,
    ]
}

async fn signed_in(client: &Client) -> Result<Tokens> {
    client.sign_in(&Browser::new(), "alice@example.com", "mcp").await
}

/// What a refusal says, without what differs in every answer.
fn verdict(reply: &Reply) -> Result<(u16, Value)> {
    let mut body = reply.json()?;
    ensure!(body["request_id"].take().is_string(), "{body}");
    Ok((reply.status.as_u16(), body))
}

async fn checklist_19_token_endpoint_is_no_oracle(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let other = Client::register(&frontend.url(), LOOPBACK).await?;
    let superuser = database.superuser().await?;
    let mut verdicts = Vec::new();

    let code = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    let with_code = |text: String| {
        let mut fields = client.redemption(&code);
        fields[1].1 = text;
        fields
    };
    for text in
        [unheard_of("mcpc"), with_another_secret(&code.code), "mcpc_x".into(), code.code.to_lowercase()]
    {
        verdicts.push(verdict(&client.token(&with_code(text)).await?)?);
    }
    verdicts.push(verdict(&other.token(&other.redemption(&code)).await?)?);
    for (field, value) in [(3, "http://127.0.0.1:9/other"), (4, &*"v".repeat(64))] {
        let mut fields = client.redemption(&code);
        fields[field].1 = value.to_owned();
        verdicts.push(verdict(&client.token(&fields).await?)?);
    }
    let aged = "UPDATE mcp.authorization_codes SET expires_at = expires_at - interval '1 hour'";
    superuser.batch_execute(aged).await?;
    verdicts.push(verdict(&client.token(&client.redemption(&code)).await?)?);
    let replayed = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    client.redeem(&replayed).await?;
    verdicts.push(verdict(&client.token(&client.redemption(&replayed)).await?)?);

    let (revoked, expired, reused) =
        (signed_in(&client).await?, signed_in(&client).await?, signed_in(&client).await?);
    client.revoke(&revoked.access).await?;
    client.refresh(&reused.refresh).await?;
    let aged = format!(
        "UPDATE mcp.sessions SET expires_at = expires_at - interval '2 days' WHERE session_id = '{}';
         UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '1 hour'",
        session_of(&expired.access)?
    );
    superuser.batch_execute(&aged).await?;
    for token in [
        &unheard_of("mcpr"),
        &with_another_secret(&revoked.refresh),
        "mcpr_x",
        &revoked.refresh,
        &expired.refresh,
        &reused.refresh,
    ] {
        verdicts.push(verdict(&client.token(&client.refreshment(token)).await?)?);
    }
    for seen in &verdicts {
        ensure!(seen == &verdicts[0], "two verdicts: {seen:?} and {:?}", verdicts[0]);
    }
    assert_eq!((verdicts[0].0, &verdicts[0].1["error"]), (400, &json!("invalid_grant")));
    Ok(())
}

async fn checklist_19_wrong_secrets_have_one_verdict(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let (live, revoked, expired) =
        (signed_in(&client).await?, signed_in(&client).await?, signed_in(&client).await?);
    client.revoke(&revoked.access).await?;
    let aged = "UPDATE mcp.sessions SET expires_at = expires_at - interval '2 days' WHERE session_id = $1";
    database.superuser().await?.execute(aged, &[&session_of(&expired.access)?]).await?;
    // Only who holds the secret is told how the session ended.
    assert_refused(&frontend.url(), &revoked.access, "revoked").await?;
    assert_refused(&frontend.url(), &expired.access, "expired").await?;
    let url = frontend.url();
    let mut bodies = BTreeSet::new();
    for token in [&live, &revoked, &expired]
        .map(|tokens| with_another_secret(&tokens.access))
        .into_iter()
        .chain((0..20).map(|_| unheard_of("mcps")))
    {
        let answer = call(&url, &token).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let mut body = answer.json()?.to_string();
        if let Some(id) = answer.header("x-request-id") {
            body = body.replace(id, "");
        }
        bodies.insert((body, answer.header("www-authenticate").map(str::to_owned)));
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    // Guessing in bulk finds nothing and spoils nothing.
    try_join_all((0..16).map(|_| {
        let url = url.clone();
        async move {
            for _ in 0..25 {
                let answer = call(&url, &unheard_of("mcps")).await?;
                ensure!(answer.status == StatusCode::UNAUTHORIZED, "{} {}", answer.status, answer.text);
            }
            Ok(())
        }
    }))
    .await?;
    assert_good(&url, &live, "alice@example.com").await
}

async fn checklist_39_revoking_is_for_the_client_that_owns_the_token(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, LOOPBACK).await?;
    let other = Client::register(&url, LOOPBACK).await?;
    let tokens = signed_in(&client).await?;
    let before = state(&database).await?;
    for token in [
        &tokens.access,
        &tokens.refresh,
        &with_another_secret(&tokens.access),
        &unheard_of("mcps"),
        &unheard_of("mcpr"),
        &session_of(&tokens.access)?.to_string(),
        "x",
        &"x".repeat(4096),
    ] {
        let reply = other.revoke(token).await?;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, ""), "{token}");
    }
    ensure!(state(&database).await? == before, "another client's token was touched");
    let nobody = Client::known(&url, "nobody", LOOPBACK);
    assert_error(&nobody.revoke(&tokens.refresh).await?, "invalid_client")?;
    assert_good(&url, &tokens, "alice@example.com").await?;

    // Its own: whichever of the two it gives back, all of that session goes, and no other one.
    let untouched = signed_in(&client).await?;
    let by_refresh = signed_in(&client).await?;
    for (gone, token) in [(&tokens, &tokens.access), (&by_refresh, &by_refresh.refresh)] {
        for _ in 0..2 {
            assert_eq!(client.revoke(token).await?.status, StatusCode::OK);
        }
        assert_refused(&url, &gone.access, "revoked").await?;
        assert_error(&client.token(&client.refreshment(&gone.refresh)).await?, "invalid_grant")?;
        assert_eq!(events(&database, session_of(&gone.access)?, "revoke").await?, 1);
    }
    assert_good(&url, &untouched, "alice@example.com").await?;
    // A rotated refresh token still names its session to its own client; a hint is not needed, and a wrong one harmless.
    let next = client.refresh(&untouched.refresh).await?;
    let fields =
        [("token", &*untouched.refresh), ("token_type_hint", "access_token"), ("client_id", &client.id)];
    assert_eq!(client.send(client.post("/revoke").form(&fields)).await?.status, StatusCode::OK);
    assert_refused(&url, &next.access, "revoked").await
}

async fn checklist_41_tokens_of_one_kind_are_good_for_one_thing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, LOOPBACK).await?;
    let tokens = signed_in(&client).await?;
    let code = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    let id = session_of(&tokens.access)?.to_string();
    let before = state(&database).await?;
    for token in [
        &code.code,
        &as_kind("mcps", &code.code),
        &tokens.refresh,
        &as_kind("mcps", &tokens.refresh),
        &id,
        &code.verifier,
    ] {
        assert_refused(&url, token, "unknown").await?;
    }
    for token in
        [&code.code, &as_kind("mcpr", &code.code), &tokens.access, &as_kind("mcpr", &tokens.access), &id]
    {
        assert_error(&client.token(&client.refreshment(token)).await?, "invalid_grant")?;
    }
    for token in [
        &tokens.refresh,
        &as_kind("mcpc", &tokens.refresh),
        &tokens.access,
        &as_kind("mcpc", &tokens.access),
        &id,
    ] {
        let mut fields = client.redemption(&code);
        fields[1].1 = token.clone();
        assert_error(&client.token(&fields).await?, "invalid_grant")?;
    }
    for token in [&code.code, &as_kind("mcpr", &code.code), &as_kind("mcpr", &tokens.access), &id] {
        assert_eq!(client.revoke(token).await?.status, StatusCode::OK);
    }
    ensure!(state(&database).await? == before, "a token passed for one of another kind");
    assert_good(&url, &client.redeem(&code).await?, "alice@example.com").await?;
    assert_good(&url, &client.refresh(&tokens.refresh).await?, "alice@example.com").await
}

async fn checklist_46_answers_are_kept_by_nobody(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let mut seen = Vec::new();
    let mut see = |what: &str, headers: &reqwest::header::HeaderMap| {
        let kept = headers.get("cache-control").and_then(|value| value.to_str().ok()).unwrap_or_default();
        ensure!(kept == "no-store", "{what}: Cache-Control {kept:?}");
        ensure!(headers["x-content-type-options"] == "nosniff", "{what}");
        seen.push(what.to_owned());
        Ok(())
    };
    see("/register", &register(&url, &json!({"redirect_uris": [LOOPBACK]})).await?.headers)?;
    let client = Client::register(&url, LOOPBACK).await?;
    let browser = Browser::new();
    let request = client.request("mcp").set("login_hint", "alice@example.com");
    let page = request.open(&browser).await?;
    see("the consent page", &page.headers)?;
    let mut form = page.form()?;
    form.set("decision", "allow");
    let page = browser.post(&form).await?;
    see("the redirect to the provider", &page.headers)?;
    let provider = page.location()?.context("to the provider")?;
    let callback = browser
        .sign_in_until(provider.as_str(), "alice@example.com", |url| url.path() == "/auth/callback")
        .await?;
    let page = browser.html_step(callback.as_str()).await?;
    see("the redirect with the code", &page.headers)?;
    ensure!(page.headers["referrer-policy"] == "no-referrer", "{:?}", page.headers);
    let code = client.code(&request, page.location()?.context("to the client")?)?;
    let reply = client.token(&client.redemption(&code)).await?;
    see("tokens", &reply.headers)?;
    assert_eq!(reply.headers["pragma"], "no-cache");
    let tokens = reply.tokens()?;
    let reply = client.token(&client.refreshment(&tokens.refresh)).await?;
    see("refreshed tokens", &reply.headers)?;
    let tokens = reply.tokens()?;
    see("a refusal", &client.token(&client.refreshment("x")).await?.headers)?;
    for era in [Era::Modern, Era::Legacy] {
        let mcp = frontend.mcp(era).with(Door::Bearer, &tokens.access);
        see("a tool call", &mcp.call("list_notes", json!({})).await?.headers)?;
        see("a tool list", &mcp.request("tools/list", json!({})).await?.headers)?;
        see("a 403", &mcp.call("privileged", json!({})).await?.headers)?;
        see("a 401", &frontend.mcp(era).call("list_notes", json!({})).await?.headers)?;
    }
    let http = reqwest::Client::new();
    for path in ["/auth/session", "/auth/sessions"] {
        see(path, http.get(format!("{url}{path}")).bearer_auth(&tokens.access).send().await?.headers())?;
    }
    see("/auth/init", &Browser::new().step(&format!("{url}/auth/init")).await?.headers)?;
    see("/auth/callback", &Browser::new().html_step(&format!("{url}/auth/callback")).await?.headers)?;
    see("/revoke", &client.revoke(&tokens.refresh).await?.headers)?;
    ensure!(seen.len() > 15);
    Ok(())
}

async fn checklist_60_repeated_fields_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let other = Client::register(&frontend.url(), LOOPBACK).await?;
    let code = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    let tokens = signed_in(&client).await?;
    let before = state(&database).await?;
    let mut redemption = client.redemption(&code);
    redemption.push(("resource", resource(&frontend.url())));
    let mut refreshment = client.refreshment(&tokens.refresh);
    refreshment.push(("resource", resource(&frontend.url())));
    refreshment.push(("scope", "mcp".to_owned()));
    for fields in [&redemption, &refreshment] {
        for (name, value) in fields {
            for second in [value.as_str(), "x", "", &other.id] {
                for position in [0, fields.len()] {
                    let mut twice = fields.clone();
                    twice.insert(position, (name, second.to_owned()));
                    assert_error(&client.token(&twice).await?, "invalid_request")
                        .with_context(|| format!("{name}={second}"))?;
                }
            }
        }
        // Parameters of the query are none of the form's (RFC 6749 §3.2).
        let query =
            client.post("/token").query(fields).header("content-type", "application/x-www-form-urlencoded");
        assert_error(&client.send(query).await?, "invalid_request")?;
    }
    for second in [client.id.as_str(), "x"] {
        let twice = [("token", &*tokens.refresh), ("client_id", &client.id), ("client_id", second)];
        assert_error(&client.send(client.post("/revoke").form(&twice)).await?, "invalid_request")?;
    }
    let credentials = client.post("/token").form(&refreshment).basic_auth(&other.id, Some(""));
    assert_error(&client.send(credentials).await?, "invalid_request")?;
    ensure!(state(&database).await? == before, "a request that can be read in two ways was read");
    // What nobody knows may be there as often as it likes (RFC 6749 §3.2).
    refreshment.extend([("audience", "x".to_owned()), ("audience", "y".to_owned())]);
    client.token(&refreshment).await?.tokens()?;
    Ok(())
}

async fn checklist_61_malformed_requests_are_refused_in_json(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let tokens = signed_in(&client).await?;
    let before = state(&database).await?;
    let good = format!("grant_type=refresh_token&refresh_token={}&client_id={}", tokens.refresh, client.id);
    let form = "application/x-www-form-urlencoded";
    for path in ["/token", "/revoke"] {
        for kind in [
            "",
            "text/plain",
            "application/json",
            "multipart/form-data; boundary=x",
            ";",
            "application/x-www-form-urlencodedx",
        ] {
            let request = client.post(path).header("content-type", kind).body(good.clone());
            assert_error(&client.send(request).await?, "invalid_request").with_context(|| kind.to_owned())?;
        }
        let twice = client.post(path).header("content-type", form).header("content-type", "application/json");
        assert_error(&client.send(twice.body(good.clone())).await?, "invalid_request")?;
        let none = client.post(path).body(good.clone());
        assert_error(&client.send(none).await?, "invalid_request")?;
        for body in [
            &b""[..],
            b"&",
            b"=",
            b"grant_type",
            b"grant_type=",
            b"%",
            b"grant_type=%zz",
            b"grant_type=%ff",
            b"\xff\xfe\x00",
            b"grant_type=refresh_token",
            b"grant_type=refresh_token&client_id=",
            b"client_id=x",
            b"client_id=%00&grant_type=refresh_token&refresh_token=x&token=x",
            b"{\"grant_type\": \"refresh_token\"}",
        ] {
            let request = client.post(path).header("content-type", form).body(body);
            let reply = client.send(request).await?;
            let what = String::from_utf8_lossy(body).into_owned();
            assert_error(&reply, "invalid_request").with_context(|| format!("{path} {what}"))?;
        }
        let padded = |length| {
            let body = format!("x={}", "y".repeat(length - 2));
            client.send(client.post(path).header("content-type", form).body(body))
        };
        assert_error(&padded(LONGEST).await?, "invalid_request")?;
        for length in [LONGEST + 1, 2 * LONGEST] {
            match padded(length).await {
                Ok(reply) => assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", reply.text),
                // The connection may be reset while the body is still on its way.
                Err(error) => ensure!(error.to_string().contains("sending request"), "{error:#}"),
            }
        }
    }
    for (name, value) in [
        ("client_id", "a\u{0}b"),
        ("refresh_token", "mcpr_\u{0}"),
        ("resource", "\u{0}"),
        ("grant_type", "refresh_token\u{0}"),
    ] {
        let mut fields = client.refreshment(&tokens.refresh);
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value.to_owned()));
        assert_error(&client.token(&fields).await?, "invalid_request").with_context(|| name.to_owned())?;
    }
    for (name, value) in [("refresh_token", "\u{1F600}"), ("refresh_token", "' OR true --")] {
        let mut fields = client.refreshment(&tokens.refresh);
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value.to_owned()));
        assert_error(&client.token(&fields).await?, "invalid_grant")?;
    }
    for grant in [
        "password",
        "client_credentials",
        "implicit",
        "REFRESH_TOKEN",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ] {
        let fields = [("grant_type", grant), ("client_id", &client.id), ("username", "a"), ("password", "b")];
        assert_error(&client.send(client.post("/token").form(&fields)).await?, "unsupported_grant_type")?;
    }
    // Credentials that public clients do not have, and such as are none.
    for authorization in [
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic Og==",
        "Basic YTpi",
        "Basic /w==",
        "Basic AAAAADo=",
        "Bearer x",
        "Digest x",
        "garbage",
    ] {
        let request = client.post("/token").header("authorization", authorization);
        let reply = client.send(request.form(&client.refreshment(&tokens.refresh))).await?;
        assert_error(&reply, "invalid_client").with_context(|| authorization.to_owned())?;
        let challenge = reply.headers.get("www-authenticate").context("a challenge")?.to_str()?;
        ensure!(challenge.starts_with("Basic "), "{authorization}: {challenge}");
    }
    let mut with_secret = client.refreshment(&tokens.refresh);
    with_secret.push(("client_secret", "guess".to_owned()));
    assert_error(&client.token(&with_secret).await?, "invalid_client")?;
    let not_text = reqwest::header::HeaderValue::from_bytes(b"Basic \xff\xfe")?;
    let request = client.post("/token").header("authorization", not_text);
    let reply = client.send(request.form(&client.refreshment(&tokens.refresh))).await?;
    ensure!(reply.status.is_client_error() && reply.error().is_ok(), "{} {}", reply.status, reply.text);
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        for path in ["/token", "/revoke", "/register"] {
            let request =
                reqwest::Client::new().request(method.clone(), format!("{}{path}?{good}", frontend.url()));
            assert_eq!(request.send().await?.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    ensure!(state(&database).await? == before, "a malformed request did something");
    // An id in Basic credentials with no password is how some clients say who they are.
    let mut fields = client.refreshment(&tokens.refresh);
    fields.retain(|(name, _)| *name != "client_id");
    let request = client.post("/token").basic_auth(&client.id, Some("")).form(&fields);
    client.send(request).await?.tokens()?;
    Ok(())
}

async fn token_limit_is_per_address(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let limited = frontend.settings().replica()?.set("MCP_LIMIT_TOKEN", "10").start().await?;
    let client = Client::register(&limited.url(), LOOPBACK).await?;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let reply = client.token(&client.refreshment(&unheard_of("mcpr"))).await?;
        if reply.status == StatusCode::TOO_MANY_REQUESTS {
            ensure!(reply.headers.contains_key("retry-after") && reply.error()? == "too_many_requests");
        }
        statuses.push(reply.status.as_u16());
    }
    assert_eq!(statuses[..10], [400; 10], "{statuses:?}");
    ensure!(statuses.contains(&429), "{statuses:?}");
    Ok(())
}
