//! Why the replaced system gave its sessions table up, cause by cause, and what was wrong with it unnoticed: each
//! must not be so here.

use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::checkout;
use tests::database::Database;
use tests::idp::stub::StubProvider;
use tests::mcp::{Door, Era};
use tests::session::{NewSession, call_tool, sqlstate, status};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        cause_1_set_up_runs_whole_and_twice,
        cause_1_queries_of_the_set_up_hold_word_for_word,
        cause_2_creating_a_session_returns_it_under_row_level_security,
        cause_3_the_lookup_that_finds_the_user_needs_no_user,
        cause_4_subjects_are_text,
        cause_5_one_verification_whatever_the_providers_token_family,
        cause_6_no_pending_authentication_token_is_taken_for_a_sign_in,
        unnoticed_1_nobody_makes_sessions_for_others,
        unnoticed_2_no_view_shows_what_is_not_yours,
        unnoticed_3_claims_settings_make_nobody_anybody,
        unnoticed_4_concurrent_requests_keep_their_identities,
        unnoticed_5_nothing_is_stored_in_clear,
        unnoticed_6_one_statement_a_request_and_no_write_when_used_often,
        unnoticed_7_refresh_rotates_and_reuse_revokes,
        unnoticed_8_time_is_the_databases,
        unnoticed_9_state_is_not_lost_between_writers,
        unnoticed_10_clean_up_is_not_everybodys,
        unnoticed_11_signatures_are_verified,
        unnoticed_12_a_user_without_a_subject_is_no_user,
    ]
}

const SCRIPTS: [&str; 5] = [
    "setup_all_mcp_sessions.sql",
    "check_mcp_sessions_table.sql",
    "create_mcp_sessions_table.sql",
    "create_session_rls_policies.sql",
    "test_session_operations.sql",
];

/// Runs a script with `psql -f`, and fails at its first error.
fn psql(database: &Database<'_>, script: &str) -> Result<String> {
    let mut psql = database.cluster().program("psql", database.name());
    // Copied: the checkout may be where the user postgres cannot read. Each database has its own copy, as another test
    // may be reading the same script.
    let copy = database.cluster().directory().join(format!("{}-{script}", database.name()));
    std::fs::copy(checkout::root().join("sql").join(script), &copy)?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644))?;
    psql.command().args(["-X", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&copy);
    psql.run()
}

async fn bare_database<'a>(world: &'a Shared) -> Result<Database<'a>> {
    // The set-up scripts begin with a database that has nothing in it.
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("DROP SCHEMA app CASCADE; DROP EXTENSION mcp_sessions CASCADE").await?;
    Ok(database)
}

async fn cause_1_set_up_runs_whole_and_twice(world: &Shared) -> Result<()> {
    let database = bare_database(world).await?;
    for _ in 0..2 {
        for script in SCRIPTS {
            let output = tokio::task::block_in_place(|| psql(&database, script)).context(script)?;
            if script == SCRIPTS[0] {
                let ticks = output.matches('✓').count();
                ensure!(ticks >= 5, "table, indexes, RLS, helper functions, clean-up each get a ✓: {output}");
                ensure!(!output.contains('✗'), "{output}");
            }
        }
    }
    // Pasted whole into a SQL editor: one simple query, no psql behind it, again twice.
    let pasted = bare_database(world).await?;
    let superuser = pasted.superuser().await?;
    for _ in 0..2 {
        for script in SCRIPTS {
            let text = std::fs::read_to_string(checkout::root().join("sql").join(script))?;
            superuser.simple_query(&text).await.with_context(|| script.to_owned())?;
        }
    }
    Ok(())
}

async fn cause_1_queries_of_the_set_up_hold_word_for_word(world: &Shared) -> Result<()> {
    let database = bare_database(world).await?;
    tokio::task::block_in_place(|| psql(&database, SCRIPTS[0]))?;
    let superuser = database.superuser().await?;
    let auth = superuser
        .query_one(
            "SELECT session_id::text, access_token FROM mcp.create_session('https://idp.test', 'alice', '{\"access_token\": \"x\"}')",
            &[],
        )
        .await?;
    let id: String = auth.get(0);
    tests::ledger::record("session token", auth.get(1));
    let ownership = format!("SELECT verify_session_ownership('{id}')");
    for statement in [
        "SELECT session_id, user_id, created_at, expires_at FROM mcp_sessions WHERE expires_at > NOW() ORDER BY created_at DESC",
        "SELECT cleanup_expired_mcp_sessions()",
        "SELECT COUNT(*) AS total_sessions, COUNT(*) FILTER (WHERE expires_at > NOW()) AS active_sessions,
                COUNT(*) FILTER (WHERE expires_at <= NOW()) AS expired_sessions FROM mcp_sessions",
        "SELECT * FROM active_mcp_sessions",
        ownership.as_str(),
    ] {
        let rows = superuser.simple_query(statement).await.with_context(|| statement.to_owned())?;
        ensure!(rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(_))), "{statement}: no row");
    }
    let row = superuser
        .query_one(
            "SELECT COUNT(*) AS total_sessions, COUNT(*) FILTER (WHERE expires_at > NOW()) AS active_sessions FROM mcp_sessions",
            &[],
        )
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
    Ok(())
}

async fn cause_2_creating_a_session_returns_it_under_row_level_security(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let row = superuser
        .query_one("SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'mcp.sessions'::regclass", &[])
        .await?;
    ensure!(row.get::<_, bool>(0), "row level security is on and forced");
    // The login that creates has no identity and no row of its own to see; it is given the session all the same.
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    assert_eq!(status(&auth, &session.token).await?, "active");
    Ok(())
}

async fn cause_3_the_lookup_that_finds_the_user_needs_no_user(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let row = auth
        .query_one(
            "SELECT mcp.user_id(), l.user_id, l.status FROM mcp.lookup_session($1) l",
            &[&session.token],
        )
        .await?;
    ensure!(row.get::<_, Option<uuid::Uuid>>(0).is_none(), "nobody is armed");
    assert_eq!(row.get::<_, uuid::Uuid>(1), session.user_id);
    // Possession of the secret is what finds it: the same login reads no row by itself.
    let direct = auth.query("SELECT * FROM mcp.sessions", &[]).await;
    assert_eq!(sqlstate(direct)?, "42501");
    Ok(())
}

async fn cause_4_subjects_are_text(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let mut users = std::collections::HashSet::new();
    let subjects = [
        "user_01K6BZ9W8Q4N5R7T2V3X",
        "auth0|507f1f77bcf86cd799439011",
        "alice@example.com",
        "Alice@example.com",
        "алиса",
        "爱丽丝",
        "😀",
        "a b",
        "a'b\"c\\d",
        "12345",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "x",
        "-",
        "NULL",
        "{}",
        "%",
    ];
    for subject in subjects {
        let session = NewSession::of(subject).create(&auth).await?;
        ensure!(users.insert(session.user_id), "{subject:?} is another user's");
        let again = NewSession::of(subject).create(&auth).await?;
        assert_eq!(again.user_id, session.user_id, "the same principal is the same user");
        call_tool(&exec, &session.token, "add_note", json!({"body": subject})).await?;
        let result = call_tool(&exec, &again.token, "list_notes", json!({})).await?;
        assert_eq!(result["structuredContent"]["rows"].as_array().map(Vec::len), Some(1), "{result}");
        assert_eq!(result["structuredContent"]["rows"][0]["body"], subject);
    }
    // Pairs, not concatenations: no issuer and subject run into one another.
    let mut pairs = std::collections::HashSet::new();
    for (issuer, subject) in [
        ("https://a.test", "b|c"),
        ("https://a.test|b", "c"),
        ("https://a.test/", "b|c"),
        ("https://a.testb", "|c"),
    ] {
        let session =
            NewSession { issuer: issuer.to_owned(), ..NewSession::of(subject) }.create(&auth).await?;
        ensure!(pairs.insert(session.user_id), "{issuer} {subject}");
    }
    Ok(())
}

async fn cause_5_one_verification_whatever_the_providers_token_family(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let frontend = stub.workos(world.settings(&database)?).start().await?;
    let session = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    // What the provider issued is a key at the provider, never here: neither its access token nor a forgery of it.
    let auth = database.auth().await?;
    let data: Value = auth.query_one("SELECT mcp.session_oauth_data($1)", &[&session.token]).await?.get(0);
    let foreign = data["access_token"].as_str().context("the provider's access token is kept")?.to_owned();
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyXzAxQUxJQ0UifQ.";
    for token in [foreign.as_str(), unsigned] {
        let answer = frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?;
        assert_eq!(answer.status.as_u16(), 401, "{}", answer.text);
    }
    // And of the hundred requests of a signed-in user, none goes to the provider.
    let before = stub.token_requests().len();
    for _ in 0..100 {
        frontend
            .mcp(Era::Modern)
            .with(Door::Bearer, &session.token)
            .call("whoami", json!({}))
            .await?
            .tool_text()?;
    }
    assert_eq!(stub.token_requests().len(), before);
    Ok(())
}

async fn cause_6_no_pending_authentication_token_is_taken_for_a_sign_in(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.workos().await?.configure(world.settings(&database)?).start().await?;
    let http = reqwest::Client::new();
    for query in [
        "pending_authentication_token=eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyXzAxIn0.",
        "external_auth_id=ext_01",
        "pending_authentication_token=x&state=y",
    ] {
        for path in ["/auth/callback", "/auth/complete"] {
            let answer = http.get(format!("{}{path}?{query}", frontend.url())).send().await?;
            ensure!(answer.status().is_client_error(), "{path}?{query}: {}", answer.status());
            ensure!(!answer.text().await?.contains("mcps_"));
        }
    }
    let sessions: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0);
    assert_eq!(sessions, 0);
    Ok(())
}

async fn unnoticed_1_nobody_makes_sessions_for_others(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let create = "SELECT * FROM mcp.create_session('https://idp.test', 'victim', '{}')";
    let insert =
        "INSERT INTO mcp.sessions (session_id, user_id) VALUES (gen_random_uuid(), gen_random_uuid())";
    for client in [database.exec().await?, database.application().await?] {
        for statement in [
            create,
            insert,
            "UPDATE mcp.sessions SET subject = 'victim'",
            "DELETE FROM mcp.sessions",
            "TRUNCATE mcp.sessions",
        ] {
            assert_eq!(sqlstate(client.simple_query(statement).await)?, "42501", "{statement}");
        }
    }
    // The login that may create does so through the function alone.
    let auth = database.auth().await?;
    for statement in [
        insert,
        "UPDATE mcp.sessions SET subject = 'victim'",
        "DELETE FROM mcp.sessions",
        "SELECT * FROM mcp.sealed_tokens",
    ] {
        assert_eq!(sqlstate(auth.simple_query(statement).await)?, "42501", "{statement}");
    }
    // Nor does membership lead further than it says: the logins cannot become one another.
    for (client, roles) in [
        (&database.exec().await?, ["mcp_auth", "mcp_owner", "mcp_user", "mcp_monitor", "postgres"]),
        (&auth, ["mcp_exec", "mcp_owner", "mcp_user", "mcp_monitor", "postgres"]),
    ] {
        for role in roles {
            let became = client.batch_execute(&format!("SET ROLE {role}")).await;
            assert_eq!(sqlstate(became)?, "42501", "{role}");
        }
    }
    Ok(())
}

async fn unnoticed_2_no_view_shows_what_is_not_yours(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let alice = NewSession::of("alice").create(&auth).await?;
    NewSession::of("bob").create(&auth).await?;
    auth.batch_execute("BEGIN").await?;
    auth.query_one("SELECT mcp.enter($1)", &[&alice.token]).await?;
    let rows = auth.query("SELECT to_jsonb(s) FROM mcp.my_sessions s", &[]).await?;
    auth.batch_execute("COMMIT").await?;
    assert_eq!(rows.len(), 1);
    let row: Value = rows[0].get(0);
    for hidden in ["oauth_data", "verifier", "ciphertext", "wrapped", "access_token", "refresh_token"] {
        ensure!(row.get(hidden).is_none(), "{hidden} in {row}");
    }
    ensure!(auth.query("SELECT * FROM mcp.my_sessions", &[]).await?.is_empty(), "nobody has no sessions");
    // And nothing of the extension's is open to a role that was granted nothing.
    superuser.batch_execute("BEGIN; CREATE ROLE unnoticed_2_stranger NOLOGIN").await?;
    let open = superuser
        .query(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = 'mcp' AND c.relkind IN ('v', 'm', 'r', 'p', 'f')
                AND has_table_privilege('unnoticed_2_stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE')",
            &[],
        )
        .await?;
    superuser.batch_execute("ROLLBACK").await?;
    ensure!(
        open.is_empty(),
        "{:?} is open to everybody",
        open.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    );
    Ok(())
}

async fn unnoticed_3_claims_settings_make_nobody_anybody(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, application) = (database.auth().await?, database.application().await?);
    let alice = NewSession::of("alice").create(&auth).await?;
    let claims = json!({"sub": "alice", "user_id": alice.user_id, "role": "authenticated"}).to_string();
    application.execute("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await?;
    let row = application
        .query_one("SELECT mcp.user_id() IS NULL AND mcp.claims() IS NULL AND mcp.subject() IS NULL", &[])
        .await?;
    ensure!(row.get::<_, bool>(0));
    Ok(())
}

async fn unnoticed_4_concurrent_requests_keep_their_identities(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..8 {
        let user = format!("user{number}@example.com");
        let token = Browser::new().sign_in(&frontend.url(), &user).await?.token;
        for _ in 0..4 {
            let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
            let user = user.clone();
            calls.spawn(async move {
                for _ in 0..25 {
                    let me: Value =
                        serde_json::from_str(&client.call("whoami", json!({})).await?.tool_text()?)?;
                    ensure!(me["subject"] == user, "{user} is {me}");
                }
                Ok(())
            });
        }
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(())
}

/// Everything the extension stores, as text.
async fn stored(superuser: &Client) -> Result<String> {
    let tables = superuser
        .query(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = 'mcp' AND c.relkind = 'r'",
            &[],
        )
        .await?;
    let mut text = String::new();
    for table in tables {
        let rows =
            superuser.query(&format!("SELECT t::text FROM {} t", table.get::<_, String>(0)), &[]).await?;
        text.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(text)
}

async fn unnoticed_5_nothing_is_stored_in_clear(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let new = NewSession::of("alice").refreshable("client");
    let session = new.create(&auth).await?;
    let refresh = session.refresh_token.clone().context("asked for")?;
    auth.query_one("SELECT mcp.set_session_oauth_data($1, $2)", &[&session.token, &new.oauth_data]).await?;
    let stored = stored(&superuser).await?;
    ensure!(stored.contains("alice"), "the look finds what is there");
    for secret in [
        &session.token,
        &refresh,
        &session.token[28..],
        &refresh[28..],
        new.oauth_data["access_token"].as_str().context("set")?,
        new.oauth_data["refresh_token"].as_str().context("set")?,
    ] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        ensure!(!stored.contains(secret) && !stored.contains(&hex), "a secret is stored in clear");
    }
    // Swapped between rows, a ciphertext does not open.
    let other = NewSession::of("bob").create(&auth).await?;
    superuser
        .execute(
            "UPDATE mcp.sealed_tokens a SET ciphertext = b.ciphertext FROM mcp.sealed_tokens b
              WHERE a.session_id = $1 AND b.session_id = $2",
            &[&other.id, &session.id],
        )
        .await?;
    let opened = auth.query_one("SELECT mcp.session_oauth_data($1)", &[&other.token]).await;
    assert_eq!(sqlstate(opened)?, "XX001");
    Ok(())
}

async fn unnoticed_6_one_statement_a_request_and_no_write_when_used_often(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    client.call("whoami", json!({})).await?.tool_text()?;
    let superuser = database.superuser().await?;
    let row = "SELECT xmin::text || ctid::text FROM mcp.sessions";
    let before: String = superuser.query_one(row, &[]).await?.get(0);
    for _ in 0..50 {
        client.call("whoami", json!({})).await?.tool_text()?;
    }
    let after: String = superuser.query_one(row, &[]).await?.get(0);
    assert_eq!(before, after, "the session's row is as it was");
    // One statement a request, in the server's own words.
    let marker = format!("mcp_frontend_exec@{} ", database.name());
    let mut statements = 0;
    // The log is everybody's: others write it while it is read, and not all they write is text.
    for line in BufReader::new(File::open(database.cluster().log())?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let statement = line.contains("LOG:  execute ") || line.contains("LOG:  statement: ");
        statements += u32::from(statement && line.contains(&marker) && line.contains("call_tool"));
    }
    assert_eq!(statements, 51, "one statement a request");
    Ok(())
}

async fn unnoticed_7_refresh_rotates_and_reuse_revokes(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let session = NewSession::of("alice").refreshable("client").create(&auth).await?;
    let first = session.refresh_token.clone().context("asked for")?;
    let refresh = |token: String| {
        let auth = &auth;
        async move {
            let row = auth
                .query_one(
                    "SELECT status, access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
                    &[&token],
                )
                .await?;
            let answer: (String, Option<String>, Option<String>) = (row.get(0), row.get(1), row.get(2));
            for secret in [&answer.1, &answer.2].into_iter().flatten() {
                tests::ledger::record("refreshed token", secret);
            }
            Ok::<_, anyhow::Error>(answer)
        }
    };
    let (state, access, second) = refresh(first.clone()).await?;
    let (access, second) = (access.context("a successor")?, second.context("a successor")?);
    assert_eq!(state, "active");
    ensure!(access != session.token && second != first);
    assert_eq!(status(&auth, &access).await?, "active");
    // Within the grace the first once more: another window of the same client. Both stay signed in.
    let (state, again, _) = refresh(first.clone()).await?;
    assert_eq!(state, "active");
    assert_eq!(status(&auth, &again.context("a working successor")?).await?, "active");
    assert_eq!(status(&auth, &access).await?, "active");
    // After the grace: stolen. Everything of the session ends.
    superuser
        .execute("UPDATE mcp.refresh_tokens SET replaced_at = replaced_at - interval '61 seconds' WHERE session_id = $1", &[&session.id])
        .await?;
    let (state, nothing, _) = refresh(first).await?;
    ensure!(state != "active" && nothing.is_none(), "{state}");
    assert_eq!(status(&auth, &access).await?, "revoked");
    ensure!(refresh(second).await?.1.is_none());
    let audit: i64 = superuser
        .query_one(
            "SELECT count(*) FROM mcp.audit_log WHERE session_id = $1 AND event ~ 'reuse'",
            &[&session.id],
        )
        .await?
        .get(0);
    ensure!(audit >= 1, "an audit row says so");
    Ok(())
}

async fn unnoticed_8_time_is_the_databases(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    for zone in ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati"] {
        auth.batch_execute(&format!("SET TimeZone = '{zone}'")).await?;
        let session = NewSession::of("alice").create(&auth).await?;
        let row = auth
            .query_one(
                "SELECT abs(extract(epoch FROM expires_at - now() - interval '24 hours')) < 60,
                        abs(extract(epoch FROM absolute_expires_at - now()) - 30 * 86400) < 7200
                   FROM mcp.lookup_session($1)",
                &[&session.token],
            )
            .await?;
        ensure!(row.get::<_, bool>(0) && row.get::<_, bool>(1), "{zone}");
    }
    Ok(())
}

async fn unnoticed_9_state_is_not_lost_between_writers(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").create(&auth).await?;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, token) = (database.auth().await?, session.token.clone());
        writers.spawn(async move {
            for _ in 0..10 {
                loop {
                    let row = client
                        .query_one("SELECT state, state_version FROM mcp.lookup_session($1)", &[&token])
                        .await?;
                    let (state, version): (Value, i64) = (row.get(0), row.get(1));
                    let next = json!({"n": state["n"].as_i64().unwrap_or(0) + 1});
                    let row = client
                        .query_one("SELECT mcp.set_session_state($1, $2, $3)", &[&token, &next, &version])
                        .await?;
                    if row.get::<_, Option<i64>>(0).is_some() {
                        break;
                    }
                }
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let row = auth.query_one("SELECT state FROM mcp.lookup_session($1)", &[&session.token]).await?;
    assert_eq!(row.get::<_, Value>(0), json!({"n": 80}), "no write is lost");
    Ok(())
}

async fn unnoticed_10_clean_up_is_not_everybodys(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    for client in [database.exec().await?, database.application().await?] {
        let called = client.batch_execute("SELECT mcp.cleanup_expired_sessions()").await;
        assert_eq!(sqlstate(called)?, "42501");
    }
    Ok(())
}

async fn unnoticed_11_signatures_are_verified(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let stub = StubProvider::start().await?;
    let frontend = stub.workos(world.settings(&database)?).start().await?;
    stub.sign(tests::idp::stub::Signing::ForeignKey);
    ensure!(Browser::new().sign_in(&frontend.url(), "alice@example.com").await.is_err());
    stub.behave();
    Browser::new().sign_in(&frontend.url(), "alice@example.com").await?;
    Ok(())
}

async fn unnoticed_12_a_user_without_a_subject_is_no_user(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, stub) = world.stubbed(&database).await?;
    for missing in [None, Some(json!("")), Some(json!(null))] {
        stub.behave();
        let what = format!("{missing:?}");
        stub.forge(move |claims| {
            claims.remove("sub");
            if let Some(subject) = &missing {
                claims.insert("sub".to_owned(), subject.clone());
            }
        });
        ensure!(
            Browser::new().sign_in(&frontend.url(), "alice@example.com").await.is_err(),
            "subject {what}"
        );
    }
    let sessions: i64 =
        database.superuser().await?.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0);
    assert_eq!(sessions, 0);
    Ok(())
}
