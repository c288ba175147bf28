//! What users do with their own sessions: see them, end them, have as many as they may.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tests::browser::Browser;
use tests::oauth::{Client, LOOPBACK, Tokens};
use tests::session::NewSession;
use uuid::Uuid;

use crate::grants::{assert_good, assert_refused, count, session_of};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_52_limit_of_sessions_holds_under_parallel_sign_ins,
        checklist_52_oldest_session_makes_room,
        checklist_53_users_see_and_end_their_own_sessions_alone,
        a_session_says_of_itself_what_is_kept,
    ]
}

async fn checklist_52_limit_of_sessions_holds_under_parallel_sign_ins(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let limit = format!("ALTER DATABASE {} SET mcp.max_sessions_per_user = 5", database.name());
    database.superuser().await?.batch_execute(&limit).await?;
    // None of them sees the others' sessions before they are committed.
    let logins = try_join_all((0..20).map(|_| database.auth())).await?;
    try_join_all(logins.iter().map(|auth| async move {
        for _ in 0..5 {
            NewSession::of("alice").create(auth).await?;
        }
        Ok::<_, anyhow::Error>(())
    }))
    .await?;
    let live = "SELECT count(*) FROM mcp.sessions WHERE revoked_at IS NULL";
    assert_eq!(count(&database, live).await?, 5);
    let displaced = "SELECT count(*) FROM mcp.audit_log WHERE event = 'displace'";
    assert_eq!(count(&database, displaced).await?, 95);
    let keys = "SELECT count(DISTINCT session_id) FROM mcp.wrapped_keys";
    assert_eq!(count(&database, keys).await?, 5, "the others are shredded");
    Ok(())
}

async fn checklist_52_oldest_session_makes_room(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let limit = format!("ALTER DATABASE {} SET mcp.max_sessions_per_user = 3", database.name());
    database.superuser().await?.batch_execute(&limit).await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let client = Client::register(&frontend.url(), LOOPBACK).await?;
    let mut signed_in = Vec::new();
    for _ in 0..5 {
        signed_in.push(client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?);
    }
    let other = client.sign_in(&Browser::new(), "bob@example.com", "mcp").await?;
    for (number, tokens) in signed_in.iter().enumerate() {
        if number < 2 {
            assert_refused(&frontend.url(), &tokens.access, "revoked").await?;
        } else {
            assert_good(&frontend.url(), tokens, "alice@example.com").await?;
        }
    }
    assert_good(&frontend.url(), &other, "bob@example.com").await
}

async fn checklist_53_users_see_and_end_their_own_sessions_alone(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let url = frontend.url();
    let client = Client::register(&url, LOOPBACK).await?;
    let mut mine = Vec::new();
    for _ in 0..3 {
        mine.push(client.sign_in(&Browser::new(), "alice@example.com", "mcp").await?);
    }
    let bobs = client.sign_in(&Browser::new(), "bob@example.com", "mcp").await?;
    let http = reqwest::Client::new();
    let request = |method: Method, path: String, tokens: &Tokens| {
        http.request(method, format!("{url}{path}")).bearer_auth(&tokens.access).send()
    };

    // The one that asks is not the newest, and the newest was used last.
    let used =
        "UPDATE mcp.sessions SET updated_at = now() - $2::integer * interval '1 hour' WHERE session_id = $1";
    let superuser = database.superuser().await?;
    for (hours, tokens) in [(3, &mine[0]), (2, &mine[1]), (1, &mine[2])] {
        superuser.execute(used, &[&session_of(&tokens.access)?, &hours]).await?;
    }
    let list = request(Method::GET, "/auth/sessions".into(), &mine[0]).await?;
    assert_eq!(list.status(), StatusCode::OK);
    assert_eq!(list.headers()["cache-control"], "no-store");
    let text = list.text().await?;
    for secret in mine.iter().chain([&bobs]).flat_map(|tokens| [&tokens.access, &tokens.refresh]) {
        ensure!(!text.contains(secret.as_str()), "a secret in the list");
    }
    let list: Value = serde_json::from_str(&text)?;
    let ids: Vec<Uuid> = list["sessions"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|session| Ok(session["session_id"].as_str().context("an id")?.parse()?))
        .collect::<Result<_>>()?;
    assert_eq!(ids.len(), 3, "{list}");
    let expected = [&mine[0], &mine[2], &mine[1]].map(|tokens| session_of(&tokens.access));
    assert_eq!(ids, expected.into_iter().collect::<Result<Vec<_>>>()?, "this one first");
    ensure!(!ids.contains(&session_of(&bobs.access)?), "{list}");
    // An id is a name and no key.
    for id in &ids {
        let answer = http.get(format!("{url}/auth/session")).bearer_auth(id).send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }

    // Somebody else's, one that never was, and what is no id: one answer.
    let mut answers = Vec::new();
    for id in [session_of(&bobs.access)?.to_string(), Uuid::new_v4().to_string(), "x".into(), "%00".into()] {
        let answer = request(Method::DELETE, format!("/auth/sessions/{id}"), &mine[0]).await?;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{id}");
        let mut body: Value = answer.json().await?;
        body["request_id"].take();
        answers.push(body);
    }
    ensure!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_good(&url, &bobs, "bob@example.com").await?;
    for (method, path) in [(Method::GET, "/auth/sessions"), (Method::DELETE, "/auth/sessions")] {
        let answer = http.request(method, format!("{url}{path}")).send().await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }

    let one = session_of(&mine[1].access)?;
    let ended = request(Method::DELETE, format!("/auth/sessions/{one}"), &mine[0]).await?;
    assert_eq!(ended.status(), StatusCode::OK);
    assert_refused(&url, &mine[1].access, "revoked").await?;
    let again = request(Method::DELETE, format!("/auth/sessions/{one}"), &mine[0]).await?;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    let dead = request(Method::DELETE, "/auth/sessions/x".into(), &mine[1]).await?;
    assert_eq!(dead.status(), StatusCode::UNAUTHORIZED, "whoever is not signed in is told so first");
    let others: Value = request(Method::DELETE, "/auth/sessions".into(), &mine[0]).await?.json().await?;
    assert_eq!(others["ended"], 1);
    assert_refused(&url, &mine[2].access, "revoked").await?;
    assert_good(&url, &mine[0], "alice@example.com").await?;
    assert_good(&url, &bobs, "bob@example.com").await
}

async fn a_session_says_of_itself_what_is_kept(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let superuser = database.superuser().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).scoped(&["mcp", "notes:read"]);
    let session = session.create(&database.auth().await?).await?;
    let change = "UPDATE mcp.sessions
                     SET created_at = now() - interval '4 h', updated_at = now() - interval '3 h', claims = '{\"a\": 1}',
                         expires_at = now() + interval '2 h', absolute_expires_at = now() + interval '5 h', client_id = 'editor'";
    superuser.batch_execute(change).await?;
    let url = format!("{}/auth/session", frontend.url());
    let said: Value =
        reqwest::Client::new().get(url).bearer_auth(&session.token).send().await?.json().await?;
    let kept = "SELECT jsonb_build_object('session_id', session_id, 'user_id', user_id, 'issuer', issuer, 'subject', subject,
                           'client_id', client_id, 'resource', resource, 'scopes', scopes, 'claims', claims),
                       ARRAY[created_at, updated_at, expires_at, absolute_expires_at]
                         = ARRAY(SELECT v::timestamptz FROM unnest($1::text[]) WITH ORDINALITY AS t (v, n) ORDER BY n)
                  FROM mcp.sessions";
    let times = ["created_at", "last_used_at", "expires_at", "absolute_expires_at"];
    let times: Vec<_> = times.iter().map(|name| said[*name].as_str().unwrap_or_default()).collect();
    let kept = superuser.query_one(kept, &[&times]).await?;
    let expected: Value = kept.get(0);
    for (name, value) in expected.as_object().context("an object")? {
        assert_eq!(said[name], *value, "{name}");
    }
    ensure!(kept.get::<_, bool>(1), "{said}");
    Ok(())
}
