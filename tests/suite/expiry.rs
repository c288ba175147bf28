//! When a session ends: by idleness, by its absolute limit, by revocation; and what use does to it. Time is
//! moved on the rows, by the superuser, never waited for.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::ledger;
use tests::mcp::{Answer, Door, Era};
use tests::session::{NewSession, Session, call_tool, status};
use tests::wait::wait_until;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        use_slides_the_expiry,
        use_soon_after_use_writes_nothing,
        checklist_42_idleness_ends_a_session,
        checklist_42_absolute_limit_ends_a_session_however_much_it_is_used,
        checklist_42_sliding_stops_at_the_absolute_limit,
        revoked_between_two_calls,
        checklist_53_revoked_by_the_user_between_two_calls,
        each_end_is_named_to_the_client,
        checklist_43_ended_sessions_never_come_back,
        touch_and_lookup_agree,
        identity_lasts_as_long_as_the_token_that_armed_it,
        touching_another_session_extends_no_identity,
        clean_up_deletes_what_has_ended_and_nothing_else,
        checklist_12_wrong_resource_is_told_apart,
        statistics_count_what_is_there,
    ]
}

/// Makes the whole session older by `interval`, as though that much time had passed without use.
async fn age(database: &Database<'_>, session: &Session, interval: &str) -> Result<()> {
    let superuser = database.superuser().await?;
    let changed = superuser
        .execute(
            "UPDATE mcp.sessions
                SET created_at = created_at - $2::text::interval, updated_at = updated_at - $2::text::interval,
                    expires_at = expires_at - $2::text::interval,
                    absolute_expires_at = absolute_expires_at - $2::text::interval,
                    access_expires_at = access_expires_at - $2::text::interval
              WHERE session_id = $1",
            &[&session.id, &interval],
        )
        .await?;
    ensure!(changed == 1, "there is no session {}", session.id);
    Ok(())
}

/// Seconds until the session ends by idleness.
async fn remaining(database: &Database<'_>, session: &Session) -> Result<f64> {
    let row = database
        .superuser()
        .await?
        .query_one(
            "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM mcp.sessions WHERE session_id = $1",
            &[&session.id],
        )
        .await?;
    Ok(row.get(0))
}

async fn whoami(frontend: &Frontend, session: &Session) -> Result<Answer> {
    frontend.mcp(Era::Modern).with(Door::Bearer, &session.token).call("whoami", json!({})).await
}

async fn use_slides_the_expiry(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    let hours = 3600.0;
    for _ in 0..3 {
        age(&database, &session, "23 hours").await?;
        ensure!(remaining(&database, &session).await? < 1.1 * hours);
        whoami(&frontend, &session).await?.tool_text()?;
        ensure!(remaining(&database, &session).await? > 23.9 * hours, "a call slides the expiry a day ahead");
    }
    // Three times 23 hours: idle expiry alone would have ended it twice over.
    Ok(())
}

async fn use_soon_after_use_writes_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, exec, superuser) =
        (database.auth().await?, database.exec().await?, database.superuser().await?);
    let session = NewSession::of("alice").create(&auth).await?;
    let version = || async {
        let row = superuser
            .query_one(
                "SELECT xmin::text, ctid::text FROM mcp.sessions WHERE session_id = $1",
                &[&session.id],
            )
            .await?;
        Ok::<(String, String), anyhow::Error>((row.get(0), row.get(1)))
    };
    let before = version().await?;
    for _ in 0..100 {
        call_tool(&exec, &session.token, "whoami", json!({})).await?;
        auth.query_one("SELECT mcp.touch_session($1)", &[&session.token]).await?;
    }
    assert_eq!(version().await?, before, "within 1 % of the TTL no use writes");
    age(&database, &session, "20 minutes").await?;
    let aged = version().await?;
    call_tool(&exec, &session.token, "whoami", json!({})).await?;
    assert_ne!(version().await?, aged, "past 1 % of the TTL use writes");
    Ok(())
}

async fn checklist_42_idleness_ends_a_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    age(&database, &session, "24 hours 1 second").await?;
    assert_ended(&whoami(&frontend, &session).await?, "expired")?;
    ensure!(remaining(&database, &session).await? < 0.0, "a refused call does not slide the expiry");
    assert_ended(&whoami(&frontend, &session).await?, "expired")
}

async fn checklist_42_absolute_limit_ends_a_session_however_much_it_is_used(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    for _ in 0..29 {
        age(&database, &session, "23 hours 59 minutes").await?;
        whoami(&frontend, &session).await?.tool_text()?;
    }
    age(&database, &session, "23 hours 59 minutes").await?;
    // 30 days less half an hour: the last use could not slide past the limit.
    whoami(&frontend, &session).await?.tool_text()?;
    ensure!(remaining(&database, &session).await? < 1801.0);
    age(&database, &session, "31 minutes").await?;
    assert_ended(&whoami(&frontend, &session).await?, "expired")
}

async fn checklist_42_sliding_stops_at_the_absolute_limit(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let new = NewSession {
        ttl: Some("1 hour".into()),
        max_lifetime: Some("90 minutes".into()),
        ..NewSession::of("alice")
    };
    let session = new.create(&auth).await?;
    age(&database, &session, "45 minutes").await?;
    auth.query_one("SELECT mcp.touch_session($1)", &[&session.token]).await?;
    let row = database
        .superuser()
        .await?
        .query_one(
            "SELECT expires_at = absolute_expires_at FROM mcp.sessions WHERE session_id = $1",
            &[&session.id],
        )
        .await?;
    ensure!(row.get::<_, bool>(0));
    Ok(())
}

async fn revoked_between_two_calls(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    type Revoke = (&'static str, fn(&Session) -> String);
    let ways: [Revoke; 3] = [
        ("its token", |session| format!("SELECT mcp.revoke_session_by_id('{}')", session.id)),
        ("its id", |session| format!("SELECT mcp.revoke_session_by_id('{}', 'seen elsewhere')", session.id)),
        ("its user", |session| format!("SELECT mcp.revoke_user_sessions('{}')", session.user_id)),
    ];
    for (way, statement) in ways {
        let session = NewSession::of(way).at(&frontend.resource()).create(&auth).await?;
        whoami(&frontend, &session).await?.tool_text()?;
        if way == "its token" {
            ensure!(
                auth.query_one("SELECT mcp.revoke_session($1)", &[&session.token]).await?.get::<_, bool>(0)
            );
            ensure!(
                !auth.query_one("SELECT mcp.revoke_session($1)", &[&session.token]).await?.get::<_, bool>(0),
                "a session ends once"
            );
        } else {
            auth.batch_execute(&statement(&session)).await?;
        }
        assert_ended(&whoami(&frontend, &session).await?, "revoked").with_context(|| format!("by {way}"))?;
    }
    // `keep` keeps exactly one.
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(NewSession::of("dave").at(&frontend.resource()).create(&auth).await?);
    }
    let ended = auth
        .query_one(
            "SELECT mcp.revoke_user_sessions($1, keep => $2)",
            &[&sessions[0].user_id, &sessions[1].id],
        )
        .await?;
    assert_eq!(ended.get::<_, i64>(0), 2);
    for (session, expected) in
        sessions.iter().zip([StatusCode::UNAUTHORIZED, StatusCode::OK, StatusCode::UNAUTHORIZED])
    {
        assert_eq!(whoami(&frontend, session).await?.status, expected);
    }
    Ok(())
}

async fn checklist_53_revoked_by_the_user_between_two_calls(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let mine = NewSession::of("alice").create(&auth).await?;
    let other = NewSession::of("alice").create(&auth).await?;
    let third = NewSession::of("alice").create(&auth).await?;
    let of_bob = NewSession::of("bob").create(&auth).await?;
    auth.batch_execute("BEGIN").await?;
    auth.query_one("SELECT mcp.enter($1)", &[&mine.token]).await?;
    let rows =
        auth.query("SELECT session_id, current FROM mcp.my_sessions ORDER BY current DESC", &[]).await?;
    assert_eq!(rows.len(), 3, "mine and nobody else's");
    assert_eq!((rows[0].get::<_, uuid::Uuid>(0), rows[0].get::<_, bool>(1)), (mine.id, true));
    ensure!(auth.query_one("SELECT mcp.end_session($1)", &[&other.id]).await?.get::<_, bool>(0));
    ensure!(
        !auth.query_one("SELECT mcp.end_session($1)", &[&of_bob.id]).await?.get::<_, bool>(0),
        "Bob's is not mine"
    );
    auth.batch_execute("COMMIT").await?;
    assert_eq!(status(&auth, &other.token).await?, "revoked");
    assert_eq!(status(&auth, &of_bob.token).await?, "active");

    auth.batch_execute("BEGIN").await?;
    auth.query_one("SELECT mcp.enter($1)", &[&mine.token]).await?;
    let ended = auth.query_one("SELECT mcp.end_other_sessions()", &[]).await?;
    assert_eq!(ended.get::<_, i64>(0), 1);
    auth.batch_execute("COMMIT").await?;
    for (session, expected) in [(&mine, "active"), (&third, "revoked"), (&of_bob, "active")] {
        assert_eq!(status(&auth, &session.token).await?, expected);
    }
    Ok(())
}

/// A 401 that names the reason, with the challenge clients need.
fn assert_ended(answer: &Answer, reason: &str) -> Result<()> {
    ensure!(answer.status == StatusCode::UNAUTHORIZED, "{} {}", answer.status, answer.text);
    ensure!(answer.text.contains(reason), "expected {reason} in {}", answer.text);
    let challenge = answer.header("www-authenticate").context("a 401 without a challenge")?;
    for part in [
        "Bearer ",
        "error=\"invalid_token\"",
        "resource_metadata=\"",
        "/.well-known/oauth-protected-resource",
    ] {
        ensure!(challenge.contains(part), "no {part} in {challenge}");
    }
    Ok(())
}

async fn each_end_is_named_to_the_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let at = frontend.resource();
    let expired = NewSession::of("alice").at(&at).create(&auth).await?;
    age(&database, &expired, "2 days").await?;
    let revoked = NewSession::of("alice").at(&at).create(&auth).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;
    let mut unknown = NewSession::of("alice").at(&at).create(&auth).await?;
    database
        .superuser()
        .await?
        .execute("DELETE FROM mcp.sessions WHERE session_id = $1", &[&unknown.id])
        .await?;
    for era in [Era::Modern, Era::Legacy] {
        for door in [Door::Bearer, Door::Header] {
            for (session, reason) in [(&expired, "expired"), (&revoked, "revoked"), (&unknown, "unknown")] {
                for (method, params) in [("tools/call", json!({"name": "whoami"})), ("tools/list", json!({}))]
                {
                    let answer = frontend.mcp(era).with(door, &session.token).request(method, params).await?;
                    assert_ended(&answer, reason).with_context(|| format!("{era:?} {door:?} {method}"))?;
                }
            }
        }
    }
    // Both before and after it has ended: one wrong secret, one verdict.
    unknown.token = revoked.token.clone();
    unknown.token.replace_range(40..42, if &unknown.token[40..42] == "aa" { "bb" } else { "aa" });
    assert_eq!(status(&auth, &unknown.token).await?, "unknown");
    Ok(())
}

async fn checklist_43_ended_sessions_never_come_back(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").refreshable("client").create(&auth).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&session.token]).await?;
    for statement in [
        "SELECT mcp.touch_session($1)::text",
        "SELECT mcp.session_oauth_data($1)::text",
        "SELECT mcp.set_session_state($1, '{}')::text",
    ] {
        let value: Option<String> = auth.query_one(statement, &[&session.token]).await?.get(0);
        ensure!(value.is_none(), "{statement} on a revoked session");
    }
    let kept: bool =
        auth.query_one("SELECT mcp.set_session_oauth_data($1, '{}')", &[&session.token]).await?.get(0);
    ensure!(!kept);
    let row = auth
        .query_one(
            "SELECT status, access_token FROM mcp.refresh_session($1, 'client')",
            &[&session.refresh_token],
        )
        .await?;
    assert_ne!(row.get::<_, String>(0), "active");
    ensure!(row.get::<_, Option<String>>(1).is_none(), "a revoked session gives no successor");
    assert_eq!(status(&auth, &session.token).await?, "revoked");
    Ok(())
}

async fn touch_and_lookup_agree(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    age(&database, &session, "12 hours").await?;
    let touched: String =
        auth.query_one("SELECT mcp.touch_session($1)::text", &[&session.token]).await?.get(0);
    let row = auth
        .query_one(
            "SELECT expires_at::text, updated_at > created_at FROM mcp.lookup_session($1)",
            &[&session.token],
        )
        .await?;
    assert_eq!(row.get::<_, String>(0), touched);
    ensure!(row.get::<_, bool>(1));
    Ok(())
}

/// How many milliseconds ahead an end is set, until there is time enough before it to enter.
const SPANS: [i32; 6] = [200, 400, 800, 1600, 3200, 6400];
const DEADLINE: Duration = Duration::from_secs(20);

/// Enters the session, in a transaction that stays open, shortly before it ends.
async fn enter_before_the_end(
    auth: &Client,
    session: &Session,
    end_in: impl AsyncFn(i32) -> Result<()>,
) -> Result<()> {
    for span in SPANS {
        end_in(span).await?;
        auth.batch_execute("BEGIN").await?;
        let row = auth.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
        if row.get::<_, &str>(0) == "active" && armed(auth).await? == Some(session.user_id) {
            return Ok(());
        }
        auth.batch_execute("ROLLBACK").await?;
    }
    bail!("not entered in time, however much of it there was")
}

async fn armed(auth: &Client) -> Result<Option<Uuid>> {
    Ok(auth.query_one("SELECT mcp.user_id()", &[]).await?.get(0))
}

async fn identity_lasts_as_long_as_the_token_that_armed_it(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (mut auth, superuser) = (database.auth().await?, database.superuser().await?);
    let session = NewSession::of("alice").refreshable("client").create(&auth).await?;
    let refreshed = auth
        .query_one(
            "SELECT access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
            &[&session.refresh_token],
        )
        .await?;
    ledger::record("access token", refreshed.get(0));
    ledger::record("refresh token", refreshed.get(1));
    let ends = async |column: &str, at: &str| {
        let statement =
            format!("UPDATE mcp.sessions SET {column} = clock_timestamp() {at} WHERE session_id = $1");
        superuser.execute(&statement, &[&session.id]).await
    };
    // The token before the last refresh still holds, though the one after it has ended already.
    ends("access_expires_at", "- interval '1 second'").await?;
    let transaction = auth.transaction().await?;
    let entered = transaction.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
    assert_eq!(entered.get::<_, &str>(0), "active");
    let user: Option<Uuid> = transaction.query_one("SELECT mcp.user_id()", &[]).await?.get(0);
    assert_eq!(user, Some(session.user_id));
    transaction.commit().await?;

    // And no longer than that, though the one after it lives on.
    ends("access_expires_at", "+ interval '1 hour'").await?;
    enter_before_the_end(&auth, &session, async |span| {
        ends("previous_expires_at", &format!("+ interval '{span} milliseconds'")).await?;
        Ok(())
    })
    .await?;
    wait_until("the token to end", DEADLINE, || async { Ok(armed(&auth).await?.is_none()) }).await
}

async fn touching_another_session_extends_no_identity(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let short = NewSession::of("alice").create(&auth).await?;
    let other = NewSession::of("bob").create(&auth).await?;
    age(&database, &other, "12 hours").await?;
    enter_before_the_end(&auth, &short, async |span| {
        let statement = "UPDATE mcp.sessions SET expires_at = now() + $2 * interval '1 millisecond',
                                absolute_expires_at = now() + $2 * interval '1 millisecond' WHERE session_id = $1";
        superuser.execute(statement, &[&short.id, &f64::from(span)]).await?;
        Ok(())
    })
    .await?;
    let touched: Option<String> =
        auth.query_one("SELECT mcp.touch_session($1)::text", &[&other.token]).await?.get(0);
    ensure!(touched.is_some(), "the other session is alive");
    wait_until("the session to end", DEADLINE, || async { Ok(armed(&auth).await?.is_none()) }).await
}

async fn clean_up_deletes_what_has_ended_and_nothing_else(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let living = NewSession::of("living").create(&auth).await?;
    let mut ended = Vec::new();
    for number in 0..25 {
        let session = NewSession::of(&format!("ended {number}")).create(&auth).await?;
        age(&database, &session, "2 days").await?;
        ended.push(session);
    }
    let revoked = NewSession::of("revoked").create(&auth).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;

    let older: i64 =
        auth.query_one("SELECT mcp.cleanup_expired_sessions(older_than => '3 days')", &[]).await?.get(0);
    assert_eq!(older, 0, "they ended a day ago");
    let mut deleted = 0;
    loop {
        let batch: i64 = auth.query_one("SELECT mcp.cleanup_expired_sessions(10)", &[]).await?.get(0);
        deleted += batch;
        if batch == 0 {
            break;
        }
    }
    assert_eq!(deleted, 25);
    for session in &ended {
        assert_eq!(status(&auth, &session.token).await?, "unknown");
    }
    assert_eq!(status(&auth, &living.token).await?, "active");
    assert_eq!(status(&auth, &revoked.token).await?, "revoked", "told so until it would have ended");
    let rows: i64 = database
        .superuser()
        .await?
        .query_one(
            "SELECT (SELECT count(*) FROM mcp.sealed_tokens) + (SELECT count(*) FROM mcp.wrapped_keys)",
            &[],
        )
        .await?
        .get(0);
    assert_eq!(rows, 2, "what was sealed goes with its session, or with its revocation");
    Ok(())
}

async fn checklist_12_wrong_resource_is_told_apart(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let elsewhere = NewSession::of("alice").at("https://other.test/mcp").create(&auth).await?;
    let answer = whoami(&frontend, &elsewhere).await?;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    ensure!(answer.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));
    let row = auth
        .query_one(
            "SELECT status, user_id FROM mcp.lookup_session($1, $2)",
            &[&elsewhere.token, &"https://third.test"],
        )
        .await?;
    assert_eq!(row.get::<_, String>(0), "wrong_resource");
    ensure!(row.get::<_, Option<uuid::Uuid>>(1).is_none(), "whose it is, is not told where it does not hold");
    assert_eq!(status(&auth, &elsewhere.token).await?, "active", "not compared where none is named");
    Ok(())
}

async fn statistics_count_what_is_there(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let mut sessions = Vec::new();
    for number in 0..6 {
        sessions.push(NewSession::of(&format!("user {number}")).create(&auth).await?);
    }
    age(&database, &sessions[0], "2 days").await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&sessions[1].token]).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&sessions[2].token]).await?;
    let row = auth.query_one("SELECT to_jsonb(s) FROM mcp.session_stats() s", &[]).await?;
    assert_eq!(
        row.get::<_, Value>(0),
        json!({"total_sessions": 6, "active_sessions": 3, "expired_sessions": 1, "revoked_sessions": 2})
    );
    Ok(())
}
