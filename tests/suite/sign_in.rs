//! Signing in through identity providers that others wrote, and what must not sign anybody in.

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::ledger;
use tests::mcp::{Door, Era};
use url::Url;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        oidc_signs_in_and_tools_run_as_the_user,
        workos_signs_in_and_tools_run_as_the_user,
        workos_organisation_role_and_permissions_become_claims,
        two_users_of_one_provider_are_two_users,
        checklist_14_one_subject_at_two_issuers_is_two_users,
        init_answers_programs_and_browsers,
        callback_shows_people_a_page,
        checklist_57_sign_in_leaves_the_browser_a_cookie_where_that_door_is_open,
        checklist_30_callback_without_code_or_state_is_refused,
        checklist_30_wrong_state_is_refused,
        checklist_31_callback_in_another_browser_is_refused,
        checklist_30_callback_works_once,
        code_works_once_even_with_the_cookies_of_the_first_time,
        code_of_another_sign_in_is_refused,
        provider_refusal_reaches_the_user,
        session_says_who_and_until_when,
        logout_ends_the_session,
        issued_tokens_can_be_opened_by_their_session_alone,
        sign_in_begun_on_one_replica_ends_on_another,
        each_sign_in_leaves_the_others_alive,
    ]
}

async fn sessions(database: &Database<'_>) -> Result<i64> {
    Ok(database.superuser().await?.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0))
}

/// A refused callback: a client error, and no session.
async fn assert_refused(database: &Database<'_>, page: &Page) -> Result<()> {
    assert!([400, 403].contains(&page.status.as_u16()), "{}: {}", page.status, page.text);
    assert!(!page.text.contains("mcps_"), "a refusal hands out nothing: {}", page.text);
    assert_eq!(sessions(database).await?, 0, "a refused callback leaves no session");
    Ok(())
}

/// What `whoami` says of the caller.
async fn whoami(frontend: &Frontend, token: &str) -> Result<Value> {
    let answer = frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?;
    Ok(serde_json::from_str(&answer.tool_text()?)?)
}

/// Notes the tokens the provider issued, as the session that holds them opens them.
async fn note_provider_tokens(database: &Database<'_>, token: &str) -> Result<Value> {
    tests::session::note_provider_tokens(&database.auth().await?, token).await
}

async fn oidc_signs_in_and_tools_run_as_the_user(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    note_provider_tokens(&database, &session.token).await?;

    assert_eq!(session.answer["success"], true);
    assert_eq!(session.answer["token_type"], "Bearer");
    assert!(session.answer["expires_at"].is_string(), "{}", session.answer);
    assert!(session.answer["user"].is_object(), "{}", session.answer);

    for era in [Era::Modern, Era::Legacy] {
        for door in [Door::Bearer, Door::Header] {
            let client = frontend.mcp(era).with(door, &session.token);
            let answer = client.call("whoami", json!({})).await?;
            let me: Value = serde_json::from_str(&answer.tool_text()?)?;
            assert_eq!(me["subject"], "alice@example.com", "{era:?} {door:?}");
            assert_eq!(me["issuer"], world.oidc().await?.issuer());
            assert_eq!(me["role"], "mcp_user");
            assert_eq!(me["claims"]["email"], "alice@example.com");
        }
    }
    Ok(())
}

async fn workos_signs_in_and_tools_run_as_the_user(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let workos = world.workos().await?;
    let frontend = workos.configure(world.settings(&database)?).start().await?;
    let alice = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    note_provider_tokens(&database, &alice.token).await?;

    let me = whoami(&frontend, &alice.token).await?;
    assert!(me["subject"].as_str().is_some_and(|subject| subject.starts_with("user_01")), "{me}");
    assert_eq!(me["claims"]["email"], "alice@example.com");
    // For this server alone, and known to its owner later by where it was begun.
    let kept = "SELECT resource, metadata, absolute_expires_at - $2::text::timestamptz > interval '1 day'
                  FROM mcp.sessions WHERE subject = $1";
    let said = (me["subject"].as_str(), alice.answer["expires_at"].as_str());
    let kept = database.superuser().await?.query_one(kept, &[&said.0, &said.1]).await?;
    assert_eq!(kept.get::<_, &str>(0), frontend.resource());
    assert_eq!(kept.get::<_, Value>(1)["ip"], "127.0.0.1");
    ensure!(kept.get::<_, bool>(2), "{}", alice.answer);
    assert_eq!(alice.answer["user"]["id"], me["user_id"]);

    let bob = Browser::new().sign_in(&frontend.url(), "bob@example.com").await?;
    note_provider_tokens(&database, &bob.token).await?;
    assert_ne!(whoami(&frontend, &bob.token).await?["user_id"], me["user_id"]);
    Ok(())
}

async fn workos_organisation_role_and_permissions_become_claims(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = tests::idp::stub::StubProvider::start().await?;
    let frontend = stub.workos(world.settings(&database)?).start().await?;
    let session = Browser::new().sign_in(&frontend.url(), "carol@example.com").await?;
    let claims = whoami(&frontend, &session.token).await?["claims"].take();
    assert_eq!(claims["org_id"], "org_01STUB", "{claims}");
    assert_eq!(claims["role"], "admin", "{claims}");
    assert_eq!(claims["permissions"], json!(["notes:read", "notes:write"]), "{claims}");
    Ok(())
}

async fn two_users_of_one_provider_are_two_users(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let mut clients = Vec::new();
    for user in ["alice@example.com", "bob@example.com"] {
        let session = Browser::new().sign_in(&frontend.url(), user).await?;
        note_provider_tokens(&database, &session.token).await?;
        clients.push(frontend.mcp(Era::Modern).with(Door::Header, &session.token));
    }
    clients[0].call("add_note", json!({"body": "hello of Alice"})).await?.tool_text()?;
    let [hers, his] =
        [clients[0].call("list_notes", json!({})).await?, clients[1].call("list_notes", json!({})).await?];
    assert!(hers.tool_text()?.contains("hello of Alice"));
    assert_eq!(hers.result()?["structuredContent"]["rows"][0]["body"], "hello of Alice");
    assert!(!his.text.contains("hello of Alice"), "{}", his.text);
    assert_eq!(his.result()?["structuredContent"]["rows"], json!([]));
    Ok(())
}

async fn checklist_14_one_subject_at_two_issuers_is_two_users(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let mut users = Vec::new();
    for _ in 0..2 {
        let (frontend, _stub) = world.stubbed(&database).await?;
        let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
        users.push(whoami(&frontend, &session.token).await?);
    }
    assert_eq!(users[0]["subject"], users[1]["subject"]);
    assert_ne!(users[0]["issuer"], users[1]["issuer"]);
    assert_ne!(users[0]["user_id"], users[1]["user_id"]);
    Ok(())
}

async fn init_answers_programs_and_browsers(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let page =
        Browser::new().step(&format!("{}/auth/init?login_hint=alice@example.com", frontend.url())).await?;
    assert_eq!(page.status, StatusCode::FOUND);
    let target = page.location()?.expect("a redirect has a target");
    assert_eq!(page.json()?["authorization_url"], target.as_str());
    assert!(page.json()?["expires_at"].is_string());

    let query: std::collections::HashMap<_, _> = target.query_pairs().into_owned().collect();
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["login_hint"], "alice@example.com");
    assert_eq!(query["redirect_uri"], frontend.settings().callback());
    for secret in ["state", "nonce", "code_challenge"] {
        assert!(query[secret].len() >= 22, "{secret} holds 128 bits or more: {}", query[secret]);
    }
    assert!(query["scope"].split(' ').any(|scope| scope == "openid"));
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(sessions(&database).await?, 0, "starting a sign-in makes no session");
    // No address is longer than 320.
    for (length, passed_on) in [(320, 320), (321, 0)] {
        let url = format!("{}/auth/init?login_hint={}", frontend.url(), "a".repeat(length));
        let target = Browser::new().step(&url).await?.location()?.expect("a redirect has a target");
        assert_eq!(parameter(&target, "login_hint").len(), passed_on, "{length}");
    }
    Ok(())
}

async fn callback_shows_people_a_page(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let page = browser.html_step(callback.as_str()).await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.headers["content-type"].to_str()?.starts_with("text/html"));
    assert_eq!(page.headers["cache-control"], "no-store");
    let token = page.text.split(['"', '<', '>', ' ', '\n']).find(|word| word.starts_with("mcps_"));
    let token = token.expect("the page shows the session token");
    ledger::record("session token", token);
    assert_eq!(whoami(&frontend, token).await?["subject"], "alice@example.com");
    assert_eq!(browser.cookie(&frontend.url(), "mcp_session_id")?, None, "the door for cookies is shut");
    Ok(())
}

async fn checklist_57_sign_in_leaves_the_browser_a_cookie_where_that_door_is_open(
    world: &Shared,
) -> Result<()> {
    let database = world.database().await?;
    let stub = tests::idp::stub::StubProvider::start().await?;
    let settings = stub.oidc(world.settings(&database)?).set("MCP_COOKIE_DOOR", "on");
    let frontend = settings.start().await?;
    let browser = Browser::new();
    let init = format!("{}/auth/init?login_hint=alice@example.com&redirect_uri=/welcome", frontend.url());
    let at_callback = |url: &Url| url.path() == "/auth/callback";
    let callback = browser.sign_in_until(&init, "alice@example.com", at_callback).await?;
    let page = browser.html_step(callback.as_str()).await?;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    assert_eq!(page.headers["location"].to_str()?, format!("{}/welcome", frontend.url()));
    ensure!(!page.text.contains("mcps_"), "the token is in the cookie alone: {}", page.text);

    let token = browser.cookie(&frontend.url(), "mcp_session_id")?.expect("the session's cookie");
    let cookies = page.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    let attributes: Vec<_> =
        cookies.filter_map(|cookie| cookie.strip_prefix(&format!("mcp_session_id={token}; "))).collect();
    let [attributes] = attributes[..] else { anyhow::bail!("{attributes:?}") };
    let age = attributes.strip_prefix("Path=/; Max-Age=").and_then(|rest| rest.split_once("; "));
    let (age, rest) = age.expect("a cookie with an end");
    assert_eq!(rest, "HttpOnly; SameSite=Lax");
    // As long as the session may last at most: 30 days.
    ensure!((29 * 86_400..=30 * 86_400).contains(&age.parse::<u32>()?), "{age} s");
    let answer = frontend.mcp(Era::Modern).with(Door::Cookie, &token).call("whoami", json!({})).await?;
    let me: Value = serde_json::from_str(&answer.tool_text()?)?;
    assert_eq!(me["subject"], "alice@example.com");
    Ok(())
}

async fn checklist_30_callback_without_code_or_state_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    for missing in ["code", "state"] {
        let mut url = callback.clone();
        let kept: Vec<_> = callback.query_pairs().into_owned().filter(|(key, _)| key != missing).collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        assert_refused(&database, &browser.clone().step(url.as_str()).await?).await?;
    }
    let bare = format!("{}/auth/callback", frontend.url());
    assert_refused(&database, &Browser::new().step(&bare).await?).await?;
    // What was never a state belongs to no other browser either.
    let malformed = Browser::new().step(&format!("{bare}?code=x&state=x")).await?;
    assert_eq!(malformed.json()?["error"], "unknown_sign_in");
    assert_eq!(stub.token_requests(), Vec::<String>::new(), "no code is redeemed before the state holds");
    Ok(())
}

async fn checklist_30_wrong_state_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    refuse_wrong_states(&database, &frontend).await?;
    assert_eq!(stub.token_requests(), Vec::<String>::new(), "no code is redeemed before the state holds");
    refuse_wrong_states(&database, &world.frontend(&database).await?).await?;
    let workos = world.workos().await?.configure(world.settings(&database)?).start().await?;
    refuse_wrong_states(&database, &workos).await
}

async fn refuse_wrong_states(database: &Database<'_>, frontend: &Frontend) -> Result<()> {
    let changes: [fn(&str) -> String; 5] = [
        |_| "wrong".to_owned(),
        |_| String::new(),
        |state| state[..state.len() - 1].to_owned(),
        |state| format!("{state}A"),
        |state| {
            let last = if state.ends_with('A') { 'B' } else { 'A' };
            format!("{}{last}", &state[..state.len() - 1])
        },
    ];
    for change in changes {
        let browser = Browser::new();
        let mut callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
        let pairs: Vec<_> = callback.query_pairs().into_owned().collect();
        callback.query_pairs_mut().clear();
        for (key, value) in pairs {
            let value = if key == "state" { change(&value) } else { value };
            callback.query_pairs_mut().append_pair(&key, &value);
        }
        assert_refused(database, &browser.step(callback.as_str()).await?).await?;
    }
    Ok(())
}

async fn checklist_31_callback_in_another_browser_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    let attacker = Browser::new();
    let callback = attacker.sign_in_to_callback(&frontend.url(), "mallory@example.com").await?;

    // A victim with no cookies, and a victim in the midst of a sign-in of their own.
    assert_refused(&database, &Browser::new().step(callback.as_str()).await?).await?;
    let victim = Browser::new();
    victim.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    assert_refused(&database, &victim.step(callback.as_str()).await?).await?;
    // Nor does a cookie help that is right but for its secret.
    let (state, secret) = (parameter(&callback, "state"), "A".repeat(43));
    victim.plant(&frontend.url(), &format!("mcp_signin_{}={secret}; Path=/", &state[..8]))?;
    let page = victim.step(callback.as_str()).await?;
    assert_refused(&database, &page).await?;
    assert_eq!(page.json()?["error"], "wrong_browser");
    assert_eq!(stub.token_requests(), Vec::<String>::new());

    // Refusing the victim does not spend the sign-in of the one who began it.
    attacker.finish(callback.as_str()).await?;
    Ok(())
}

async fn checklist_30_callback_works_once(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let session = browser.finish(callback.as_str()).await?;
    note_provider_tokens(&database, &session.token).await?;

    let again = browser.step(callback.as_str()).await?;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "{}", again.text);
    assert!(!again.text.contains("mcps_"));
    assert_eq!(sessions(&database).await?, 1);
    assert_eq!(whoami(&frontend, &session.token).await?["subject"], "alice@example.com");
    Ok(())
}

async fn code_works_once_even_with_the_cookies_of_the_first_time(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    for workos in [false, true] {
        let settings = world.settings(&database)?;
        let settings = if workos {
            world.workos().await?.configure(settings)
        } else {
            world.oidc().await?.register(settings).await?
        };
        let frontend = settings.start().await?;
        let before = sessions(&database).await?;

        // A thief who copied cookies and callback before the browser used them; both go at once.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let init =
            http.get(format!("{}/auth/init?login_hint=alice@example.com", frontend.url())).send().await?;
        let cookies: Vec<String> = init
            .cookies()
            .map(|cookie| {
                ledger::record("cookie", cookie.value());
                format!("{}={}", cookie.name(), cookie.value())
            })
            .collect();
        let cookies = cookies.join("; ");
        let provider = init.headers()["location"].to_str()?.to_owned();
        let callback = Browser::new()
            .sign_in_until(&provider, "alice@example.com", |url| url.path() == "/auth/callback")
            .await?;
        let attempts = (0..8).map(|_| {
            let request =
                http.get(callback.clone()).header("cookie", &cookies).header("accept", "application/json");
            tokio::spawn(request.send())
        });
        let mut statuses = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            let answer = attempt.await??;
            let status = answer.status();
            let text = answer.text().await?;
            if let Ok(json) = serde_json::from_str::<Value>(&text) {
                ledger::record_fields("session token", &json, &["session_id"]);
                if let Some(token) = json["session_id"].as_str() {
                    note_provider_tokens(&database, token).await?;
                }
            }
            statuses.push(status.as_u16());
        }
        let won = statuses.iter().filter(|&&status| status == 200).count();
        ensure!(won == 1, "workos {workos}: one code signed in {won} times: {statuses:?}");
        ensure!(
            statuses.iter().all(|&status| status == 200 || status == 400),
            "workos {workos}: {statuses:?}"
        );
        ensure!(sessions(&database).await? - before == i64::try_from(won)?, "workos {workos}");
    }
    Ok(())
}

async fn code_of_another_sign_in_is_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    // Code injection: Mallory's own state and cookies with the code of Alice's sign-in. PKCE catches it.
    let alice = Browser::new().sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let browser = Browser::new();
    let mallory = browser.sign_in_to_callback(&frontend.url(), "mallory@example.com").await?;
    let mut mixed = mallory.clone();
    let code = parameter(&alice, "code");
    let others: Vec<_> = mallory.query_pairs().into_owned().filter(|(key, _)| key != "code").collect();
    mixed.query_pairs_mut().clear().append_pair("code", &code).extend_pairs(others);
    assert_refused(&database, &browser.step(mixed.as_str()).await?).await
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn provider_refusal_reaches_the_user(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    let state = parameter(&callback, "state");
    let mut refused = Url::parse(&format!("{}/auth/callback", frontend.url()))?;
    refused
        .query_pairs_mut()
        .append_pair("error", "access_denied")
        .append_pair("error_description", "<script>alert(1)</script>")
        .append_pair("state", &state);
    let page = browser.html_step(refused.as_str()).await?;
    assert_refused(&database, &page).await?;
    assert!(
        !page.text.contains("<script>alert"),
        "what the provider says is escaped or left out: {}",
        page.text
    );
    // Yes and no at once is no answer.
    let browser = Browser::new();
    let both = browser.sign_in_to_callback(&frontend.url(), "alice@example.com").await?;
    assert_refused(&database, &browser.step(&format!("{both}&error=access_denied")).await?).await
}

async fn session_says_who_and_until_when(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    let url = format!("{}/auth/session", frontend.url());
    let http = reqwest::Client::new();

    let answer = http.get(&url).bearer_auth(&session.token).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text = answer.text().await?;
    assert!(text.contains("alice@example.com") && text.contains("expires_at"), "{text}");
    assert!(!text.contains(&session.token), "the answer does not repeat the secret");

    let anonymous = http.get(&url).send().await?;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert!(anonymous.headers().contains_key("www-authenticate"));
    Ok(())
}

async fn logout_ends_the_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    let url = format!("{}/auth/logout", frontend.url());
    let http = reqwest::Client::new();

    let anonymous = http.post(&url).send().await?;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    let answer = http.post(&url).header("x-mcp-session-id", &session.token).send().await?;
    assert!(answer.status().is_success(), "{}", answer.status());
    assert!(!answer.headers().contains_key("set-cookie"), "where that door is shut, no cookie is ours");

    let call = frontend.mcp(Era::Modern).with(Door::Bearer, &session.token).call("whoami", json!({})).await?;
    assert_eq!(call.status, StatusCode::UNAUTHORIZED);
    assert!(call.text.contains("revoked"), "{}", call.text);
    let challenge = call.header("www-authenticate").unwrap_or_default();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    Ok(())
}

async fn issued_tokens_can_be_opened_by_their_session_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    let data = note_provider_tokens(&database, &session.token).await?;
    assert!(
        data["access_token"].is_string() && data["id_token"].is_string(),
        "what the provider issued is kept"
    );

    let auth = database.auth().await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&session.token]).await?;
    let gone: Option<Value> =
        auth.query_one("SELECT mcp.session_oauth_data($1)", &[&session.token]).await?.get(0);
    assert_eq!(gone, None, "revocation shreds");
    Ok(())
}

async fn sign_in_begun_on_one_replica_ends_on_another(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let first = world.frontend(&database).await?;
    let second = first.settings().replica()?.start().await?;
    let browser = Browser::new();
    let callback = browser.sign_in_to_callback(&first.url(), "alice@example.com").await?;
    first.kill()?;
    // Behind one public URL the next request reaches whichever replica is left.
    let mut elsewhere = callback.clone();
    let port = Url::parse(&second.url())?.port();
    elsewhere.set_port(port).expect("an http URL has a port");
    let session = browser.finish(elsewhere.as_str()).await?;
    note_provider_tokens(&database, &session.token).await?;
    assert_eq!(whoami(&second, &session.token).await?["subject"], "alice@example.com");
    Ok(())
}

async fn each_sign_in_leaves_the_others_alive(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token);
    }
    for token in &tokens {
        assert_eq!(whoami(&frontend, token).await?["subject"], "alice@example.com");
    }
    // Ending one ends that one.
    let answer =
        reqwest::Client::new().post(format!("{}/auth/logout", frontend.url())).bearer_auth(&tokens[0]);
    assert!(answer.send().await?.status().is_success());
    for (token, status) in tokens.iter().zip([401, 200, 200]) {
        let call = frontend.mcp(Era::Legacy).with(Door::Bearer, token).call("whoami", json!({})).await?;
        assert_eq!(call.status.as_u16(), status);
    }
    Ok(())
}
