//! What survives: a session, the loss of its frontend, of its database server, of both; and what does not.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::cluster::{Cluster, Options, Stop};
use tests::database::Database;
use tests::frontend::Frontend;
use tests::idp::stub::StubProvider;
use tests::mcp::{Door, Era};
use tests::session::{NewSession, Session, call_tool, status};
use tests::wait::wait_until;

use crate::world::{self, Shared, Trials};

/// Within this much of a fault's end, errors end.
const RECOVERY: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        session_outlives_a_killed_frontend,
        session_outlives_restarts_of_postgresql,
        acknowledged_changes_outlive_a_crash,
        frontend_without_a_database_says_so_and_recovers,
        killed_backend_is_a_503_and_the_next_call_works,
        two_frontends_serve_one_session,
        checklist_20_revocation_holds_on_every_replica_at_once,
        frontend_finishes_what_it_began_when_told_to_stop,
        frontend_that_is_told_twice_finishes_nothing,
        frontend_leaves_no_connection_behind,
        everything_but_the_worker_works_without_preloading,
        worker_cleans_up_and_restarts,
        wrong_settings_are_all_named_at_once,
        port_in_use_is_said_in_one_line,
        log_that_nobody_reads_stops_nothing,
        log_that_nobody_reads_delays_no_end_however_long_it_is,
        log_that_is_read_late_is_written_to_its_end,
        frontend_ends_as_soon_as_its_log_is_written,
        complaint_that_nobody_reads_ends_as_any_other,
        frontend_out_of_file_descriptors_waits_for_some,
        frontend_that_is_busy_is_ready,
    ]
}

async fn sign_in(frontend: &Frontend, user: &str) -> Result<String> {
    Ok(Browser::new().sign_in(&frontend.url(), user).await?.token)
}

async fn whoami(frontend: &Frontend, token: &str) -> Result<String> {
    frontend.mcp(Era::Modern).with(Door::Bearer, token).call("whoami", json!({})).await?.tool_text()
}

async fn session_outlives_a_killed_frontend(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    let before = whoami(&frontend, &token).await?;
    let settings = frontend.settings().clone();
    for _ in 0..3 {
        frontend.kill()?;
        let next = settings.start().await?;
        ensure!(whoami(&next, &token).await? == before);
        next.kill()?;
    }
    Ok(())
}

async fn session_outlives_restarts_of_postgresql(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    let before = whoami(&frontend, &token).await?;
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        cluster.stop(how)?;
        cluster.resume().await?;
        wait_until(&format!("the frontend to come back after {how:?}"), RECOVERY, || async {
            Ok(whoami(&frontend, &token).await.is_ok_and(|after| after == before))
        })
        .await?;
    }
    drop(frontend);
    world.keep_log(&cluster)?;
    Ok(())
}

async fn acknowledged_changes_outlive_a_crash(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    for _ in 0..3 {
        let auth = database.auth().await?;
        let kept = NewSession::of("kept").refreshable("client").create(&auth).await?;
        let revoked = NewSession::of("revoked").create(&auth).await?;
        auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;
        let rotated = NewSession::of("rotated").refreshable("client").create(&auth).await?;
        let row = auth
            .query_one(
                "SELECT status, access_token, refresh_token FROM mcp.refresh_session($1, 'client')",
                &[&rotated.refresh_token],
            )
            .await?;
        assert_eq!(row.get::<_, String>(0), "active");
        let successor: String = row.get(1);
        tests::ledger::record("session token", &successor);
        tests::ledger::record("refresh token", row.get(2));
        auth.query_one("SELECT mcp.set_session_state($1, '{\"step\": 1}')", &[&kept.token]).await?;

        cluster.stop(Stop::Kill)?;
        cluster.resume().await?;
        let auth = database.auth().await?;
        assert_eq!(status(&auth, &kept.token).await?, "active", "an acknowledged sign-in survives");
        assert_eq!(status(&auth, &revoked.token).await?, "revoked", "a revocation survives");
        assert_eq!(status(&auth, &successor).await?, "active", "an acknowledged refresh survives");
        let row = auth.query_one("SELECT state->>'step' FROM mcp.lookup_session($1)", &[&kept.token]).await?;
        assert_eq!(row.get::<_, String>(0), "1");
        let live: i64 = database
            .superuser()
            .await?
            .query_one(
                "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM mcp.refresh_tokens
                  WHERE replaced_at IS NULL GROUP BY session_id) AS live",
                &[],
            )
            .await?
            .get(0);
        ensure!(live <= 1, "{live} live refresh tokens of one session");
    }
    world.keep_log(&cluster)?;
    Ok(())
}

async fn frontend_without_a_database_says_so_and_recovers(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    cluster.stop(Stop::Fast)?;

    let call = frontend.mcp(Era::Modern).with(Door::Bearer, &token).call("whoami", json!({})).await?;
    assert_eq!(call.status, StatusCode::SERVICE_UNAVAILABLE, "{}", call.text);
    ensure!(call.header("retry-after").is_some(), "a 503 says when to come back");
    let ready = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let live = reqwest::get(format!("{}/live", frontend.admin_url())).await?;
    assert_eq!(live.status(), StatusCode::OK);
    let health = reqwest::get(format!("{}/healthz", frontend.url())).await?;
    assert_eq!(health.status(), StatusCode::OK);

    // A frontend that starts while the database is down starts all the same.
    let settings = frontend.settings().replica()?;
    let second = settings.start().await?;
    cluster.resume().await?;
    for frontend in [&frontend, &second] {
        wait_until("the frontend to find the database again", RECOVERY, || async {
            Ok(whoami(frontend, &token).await.is_ok())
        })
        .await?;
        wait_until("readiness", RECOVERY, || async {
            Ok(reqwest::get(format!("{}/ready", frontend.admin_url())).await?.status() == StatusCode::OK)
        })
        .await?;
    }
    drop((frontend, second));
    world.keep_log(&cluster)?;
    Ok(())
}

async fn killed_backend_is_a_503_and_the_next_call_works(world: &Shared) -> Result<()> {
    // A killed backend takes every other one with it: PostgreSQL restarts them all. So, a cluster of its own.
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    let call = tokio::spawn(async move { client.call("sleep", json!({"seconds": 9})).await });
    let backend = {
        let superuser = database.superuser().await?;
        tests::wait::wait_for("the tool to sleep", Duration::from_secs(10), || async {
            let row = superuser
                .query_opt("SELECT pid FROM pg_stat_activity WHERE usename = 'mcp_frontend_exec' AND wait_event = 'PgSleep'", &[])
                .await?;
            Ok(row.map(|row| row.get::<_, i32>(0)))
        })
        .await?
    };
    kill(Pid::from_raw(backend), Signal::SIGKILL)?;
    let answer = call.await??;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    wait_until("the frontend to come back", RECOVERY, || async {
        Ok(whoami(&frontend, &token).await.is_ok())
    })
    .await?;
    drop(frontend);
    world.keep_log(&cluster)?;
    Ok(())
}

async fn two_frontends_serve_one_session(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (first, stub) = world.stubbed(&database).await?;
    let second = stub.oidc(first.settings().replica()?).start().await?;
    let token = sign_in(&first, "alice@example.com").await?;
    let mut calls = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let frontend = if worker % 2 == 0 { &first } else { &second };
        let client =
            frontend.mcp(if worker % 4 < 2 { Era::Modern } else { Era::Legacy }).with(Door::Header, &token);
        calls.spawn(async move {
            for number in 0..25 {
                client
                    .call("add_note", json!({"body": format!("note {worker}.{number}")}))
                    .await?
                    .tool_text()?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    for frontend in [&first, &second] {
        let answer =
            frontend.mcp(Era::Modern).with(Door::Bearer, &token).call("list_notes", json!({})).await?;
        assert_eq!(answer.result()?["structuredContent"]["rows"].as_array().map(Vec::len), Some(200));
    }
    Ok(())
}

async fn checklist_20_revocation_holds_on_every_replica_at_once(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (first, stub) = world.stubbed(&database).await?;
    let second = stub.oidc(first.settings().replica()?).start().await?;
    let auth = database.auth().await?;
    for round in 0..9 {
        let token = sign_in(&first, "alice@example.com").await?;
        whoami(&first, &token).await?;
        let me: Value = serde_json::from_str(&whoami(&second, &token).await?)?;
        let (here, there) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        match round % 3 {
            0 => {
                let logout = reqwest::Client::new().post(format!("{}/auth/logout", here.url()));
                ensure!(logout.bearer_auth(&token).send().await?.status().is_success());
            }
            1 => {
                auth.query_one("SELECT mcp.revoke_session($1)", &[&token]).await?;
            }
            // As when the user was disabled where they come from.
            _ => {
                let user: uuid::Uuid = me["user_id"].as_str().context("a user")?.parse()?;
                auth.query_one("SELECT mcp.revoke_user_sessions($1)", &[&user]).await?;
            }
        }
        for frontend in [there, here] {
            let answer =
                frontend.mcp(Era::Modern).with(Door::Bearer, &token).call("whoami", json!({})).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "no replica remembers what another ended");
        }
    }
    Ok(())
}

/// Waits until a tool sleeps.
async fn asleep(database: &Database<'_>) -> Result<()> {
    let superuser = database.superuser().await?;
    wait_until("the tool to sleep", Duration::from_secs(10), || async {
        let row = superuser
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'",
                &[&database.name()],
            )
            .await?;
        Ok(row.get::<_, i64>(0) == 1)
    })
    .await
}

async fn frontend_finishes_what_it_began_when_told_to_stop(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    let call = tokio::spawn(async move { client.call("sleep", json!({"seconds": 4})).await });
    asleep(&database).await?;
    frontend.terminate()?;
    assert_eq!(call.await??.tool_text()?, "awake", "a call under way is answered");
    let status = tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(15)))?;
    ensure!(status.success(), "ended with {status}");
    ensure!(
        reqwest::get(format!("{}/healthz", frontend.url())).await.is_err(),
        "and nobody is let in any more"
    );
    Ok(())
}

async fn frontend_that_is_told_twice_finishes_nothing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    let client = frontend.mcp(Era::Modern).with(Door::Bearer, &token);
    let call = tokio::spawn(async move { client.call("sleep", json!({"seconds": 60})).await });
    asleep(&database).await?;
    frontend.interrupt()?;
    frontend.logged("told to stop").await?;
    frontend.interrupt()?;
    // Sooner than the grace, which is 10 seconds.
    let status = tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(8)))?;
    ensure!(status.success(), "ended with {status}");
    ensure!(call.await?.is_err(), "a call that was cut off has no answer");
    Ok(())
}

async fn frontend_leaves_no_connection_behind(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    whoami(&frontend, &token).await?;
    frontend.kill()?;
    let superuser = database.superuser().await?;
    wait_until("its connections to end", Duration::from_secs(10), || async {
        let row = superuser
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND usename LIKE 'mcp_frontend%'",
                &[&database.name()],
            )
            .await?;
        Ok(row.get::<_, i64>(0) == 0)
    })
    .await
}

async fn everything_but_the_worker_works_without_preloading(world: &Shared) -> Result<()> {
    // With stacks captured: what reaches the log must not reach a client.
    let cluster = Cluster::start(&Options { preload: false, backtraces: true, ..Options::default() }).await?;
    let database = cluster.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let token = sign_in(&frontend, "alice@example.com").await?;
    whoami(&frontend, &token).await?;
    let failing =
        [("fail", json!({"message": "no"})), ("run", json!({"statement": "SELECT mcp.set_state(NULL)"}))];
    for (tool, arguments) in failing {
        let answer = frontend.mcp(Era::Modern).with(Door::Bearer, &token).call(tool, arguments).await?;
        for inside in [".rs:", "panic", "backtrace", "_wrapper"] {
            ensure!(!answer.text.contains(inside), "{inside} in {}", answer.text);
        }
    }
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session: Session = NewSession::of("bob").refreshable("client").create(&auth).await?;
    ensure!(call_tool(&exec, &session.token, "add_note", json!({"body": "x"})).await?["isError"] != true);
    auth.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&session.token]).await?;
    assert_eq!(status(&auth, &session.token).await?, "revoked");
    let row = database
        .superuser()
        .await?
        .query_one(
            "SELECT w::text, (SELECT remedy FROM mcp.doctor() WHERE check_name = 'worker') FROM mcp.worker_status() AS w",
            &[],
        )
        .await?;
    let (worker, remedy): (String, String) = (row.get(0), row.get(1));
    let missing = "The library is not preloaded: add mcp_sessions to shared_preload_libraries, set mcp.database and restart; \
                   until then call mcp.cleanup_expired_sessions() from a scheduler.";
    assert_eq!(worker, format!("(f,,,,,\"{missing}\")"));
    assert_eq!(remedy, "ALTER SYSTEM SET shared_preload_libraries = 'mcp_sessions';");
    drop(frontend);
    world.keep_log(&cluster)?;
    Ok(())
}

async fn worker_cleans_up_and_restarts(world: &Shared) -> Result<()> {
    let options = Options::default()
        .set("mcp.database", "test_0")
        .set("mcp.cleanup_interval", "1")
        .set("mcp.retention", "0");
    let cluster = Cluster::start(&options).await?;
    let database = cluster.database().await?;
    assert_eq!(database.name(), "test_0");
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let elsewhere = cluster.database().await?.superuser().await?;
    let worker = || async {
        let row = superuser
            .query_opt("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'mcp_sessions%' AND datname = 'test_0'", &[])
            .await?;
        Ok::<_, anyhow::Error>(row.map(|row| row.get::<_, i32>(0)))
    };
    for round in 0..2 {
        let pid = tests::wait::wait_for("the worker to run", RECOVERY, worker).await?;
        wait_until("its status", RECOVERY, || async {
            let row = superuser.query_one("SELECT running, pid FROM mcp.worker_status()", &[]).await?;
            Ok(row.get::<_, bool>(0) && row.get::<_, Option<i32>>(1) == Some(pid))
        })
        .await?;
        let row = elsewhere.query_one("SELECT running, detail FROM mcp.worker_status()", &[]).await?;
        let (running, detail): (bool, &str) = (row.get(0), row.get(1));
        ensure!(!running && detail.contains("test_0"), "elsewhere it says where: {detail}");
        let living = NewSession::of("living").create(&auth).await?;
        let ended = NewSession::of("ended").create(&auth).await?;
        superuser
            .execute(
                "UPDATE mcp.sessions SET created_at = created_at - interval '2 days', expires_at = expires_at - interval '2 days'
                  WHERE session_id = $1",
                &[&ended.id],
            )
            .await?;
        wait_until("the worker to delete what has ended", RECOVERY, || async {
            Ok(status(&auth, &ended.token).await? == "unknown")
        })
        .await?;
        assert_eq!(status(&auth, &living.token).await?, "active");
        if round == 0 {
            // The worker fails, the postmaster starts another.
            superuser.execute("SELECT pg_terminate_backend($1)", &[&pid]).await?;
            wait_until("another worker", RECOVERY, || async {
                Ok(worker().await?.is_some_and(|next| next != pid))
            })
            .await?;
        }
    }
    drop((auth, superuser, elsewhere));
    tokio::task::block_in_place(|| cluster.stop(Stop::Fast))
        .context("a running worker must not hold up a stop")?;
    world.keep_log(&cluster)?;
    Ok(())
}

async fn wrong_settings_are_all_named_at_once(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let secret = "sk_test_do_not_repeat_this_secret";
    let settings = world
        .settings(&database)?
        .set("MCP_BIND", "nowhere")
        .set("MCP_PUBLIC_URL", "not a url")
        .set("MCP_SESSION_TTL_HOURS", "soon")
        .set("MCP_IDP", "carrier-pigeon")
        .set("MCP_LOG", "info,hyper=loudly")
        .set("MCP_LOG_FORMAT", "xml")
        .set("OIDC_CLIENT_SECRET", secret)
        .unset("DATABASE_URL");
    let frontend = settings.spawn()?;
    let status = tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(10)))?;
    assert_eq!(status.code(), Some(64), "{}", frontend.log_text());
    let said = frontend.log_text();
    for name in [
        "MCP_BIND",
        "MCP_PUBLIC_URL",
        "MCP_SESSION_TTL_HOURS",
        "MCP_IDP",
        "MCP_LOG must",
        "MCP_LOG_FORMAT",
        "DATABASE_URL",
    ] {
        ensure!(said.contains(name), "{name} is not named in:\n{said}");
    }
    ensure!(!said.contains(secret), "a secret is repeated in:\n{said}");
    ensure!(!said.contains("panicked"), "{said}");
    // One of the log's is enough.
    let stub = StubProvider::start().await?;
    let frontend = stub.oidc(world.settings(&database)?).set("MCP_LOG_FORMAT", "xml").spawn()?;
    let status = tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(10)))?;
    let said = frontend.log_text();
    ensure!(status.code() == Some(64) && said.contains("MCP_LOG_FORMAT"), "{status} {said}");
    Ok(())
}

async fn port_in_use_is_said_in_one_line(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let second = frontend.settings().spawn()?;
    let status = tokio::task::block_in_place(|| second.wait(Duration::from_secs(10)))?;
    let said = second.log_text();
    assert_eq!(status.code(), Some(69), "{said}");
    let address = frontend.url().replace("http://", "");
    let lines: Vec<_> = said.lines().collect();
    ensure!(
        matches!(lines[..], [line] if line.starts_with(&format!("mcp-frontend: cannot listen on {address}: "))
            && line.contains("in use")),
        "{said}"
    );
    Ok(())
}

async fn log_that_nobody_reads_stops_nothing(world: &Shared) -> Result<()> {
    /// Of an answer. A call that cannot write its line would never give one.
    const SOON: Duration = Duration::from_secs(10);
    let database = world.database().await?;
    let provider = StubProvider::start().await?;
    let settings = provider.oidc(world.settings(&database)?);
    let http = reqwest::Client::builder().timeout(SOON).build()?;
    for gone in [true, false] {
        let (reader, writer) = std::io::pipe()?;
        let reader = (!gone).then_some(reader);
        let frontend = settings.start_logging_to(writer.into()).await?;
        // Each request logs more than a hundred bytes, which is many times what a pipe holds.
        for number in 0..2000 {
            let answer = http.get(format!("{}/nothing", frontend.url())).send().await;
            let answer = answer.with_context(|| format!("request {number}, reader gone: {gone}"))?;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        }
        frontend.terminate()?;
        let status = tokio::task::block_in_place(|| frontend.wait(SOON))?;
        ensure!(status.success(), "reader gone: {gone}: {status}");
        drop(reader);
    }
    Ok(())
}

async fn log_that_nobody_reads_delays_no_end_however_long_it_is(world: &Shared) -> Result<()> {
    const SOON: Duration = Duration::from_secs(20);
    let database = world.database().await?;
    // More lines than are kept to be written: what then cannot even be said on standard output.
    let chatter = "CREATE FUNCTION app.chatter() RETURNS text LANGUAGE plpgsql AS $$
                       BEGIN
                           FOR number IN 1..140000 LOOP RAISE NOTICE '%', number; END LOOP;
                           RETURN 'done';
                       END $$;
                   SELECT mcp.expose_tool('app.chatter()', name => 'chatter', timeout => '2 min')";
    database.superuser().await?.batch_execute(chatter).await?;
    let provider = StubProvider::start().await?;
    let settings = provider.oidc(world.settings(&database)?);
    let settings = settings.set("MCP_LOG", "mcp_frontend=debug").set("MCP_REQUEST_TIMEOUT", "120");
    let (reader, writer) = std::io::pipe()?;
    let frontend = settings.start_writing_to(writer.try_clone()?.into(), writer.into()).await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&database.auth().await?).await?;
    let client = frontend.mcp(Era::Legacy).with(Door::Bearer, &session.token);
    let client = client.header("accept", "application/json");
    assert_eq!(client.call("chatter", json!({})).await?.tool_text()?, "done");
    frontend.terminate()?;
    let status = tokio::task::block_in_place(|| frontend.wait(SOON))?;
    ensure!(status.success(), "{status}");
    drop(reader);
    Ok(())
}

/// Whether this is a whole log of a frontend that was told to stop.
fn ends_well(log: &str) -> bool {
    log.ends_with('\n') && log.lines().last().is_some_and(|line| line.contains("stopped"))
}

async fn log_that_is_read_late_is_written_to_its_end(world: &Shared) -> Result<()> {
    /// Longer than a process takes to end that waits for nobody, and shorter than this one waits.
    const LATE: Duration = Duration::from_millis(300);
    let database = world.database().await?;
    let provider = StubProvider::start().await?;
    let settings = provider.oidc(world.settings(&database)?);
    let http = reqwest::Client::new();
    // On a busy machine, late may be too late.
    for _ in 0..5 {
        let (mut reader, writer) = std::io::pipe()?;
        let frontend = settings.start_logging_to(writer.into()).await?;
        // Each request logs more than a hundred bytes: more than a pipe holds.
        for _ in 0..1000 {
            let answer = http.get(format!("{}/nothing", frontend.url())).send().await?;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        }
        frontend.terminate()?;
        let address = frontend.url().replace("http://", "");
        wait_until("no more connections to be accepted", RECOVERY, || async {
            Ok(tokio::net::TcpStream::connect(&address).await.is_err())
        })
        .await?;
        tokio::time::sleep(LATE).await;
        let log = tokio::task::spawn_blocking(move || std::io::read_to_string(&mut reader)).await??;
        let status = tokio::task::block_in_place(|| frontend.wait(RECOVERY))?;
        ensure!(status.success(), "{status}");
        if ends_well(&log) {
            return Ok(());
        }
    }
    bail!("the last lines are never written")
}

async fn frontend_ends_as_soon_as_its_log_is_written(world: &Shared) -> Result<()> {
    /// Less than it waits at most for its last lines.
    const AT_ONCE: Duration = Duration::from_millis(1500);
    let database = world.database().await?;
    let provider = StubProvider::start().await?;
    let settings = provider.oidc(world.settings(&database)?);
    // On a busy machine, it takes longer now and then.
    for _ in 0..5 {
        let frontend = settings.start().await?;
        frontend.terminate()?;
        frontend.logged("stopped").await?;
        let start = Instant::now();
        let status = tokio::task::block_in_place(|| frontend.wait(RECOVERY))?;
        let elapsed = start.elapsed();
        ensure!(status.success(), "{status}");
        if elapsed < AT_ONCE && ends_well(&frontend.log_text()) {
            return Ok(());
        }
    }
    bail!("it always takes {AT_ONCE:?}, or goes on after its last line")
}

async fn complaint_that_nobody_reads_ends_as_any_other(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let settings = world.settings(&database)?.set("MCP_POOL_SIZE", "none");
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let frontend = settings.spawn_logging_to(writer.into())?;
    let status = tokio::task::block_in_place(|| frontend.wait(Duration::from_secs(10)))?;
    assert_eq!(status.code(), Some(64));
    Ok(())
}

async fn frontend_out_of_file_descriptors_waits_for_some(world: &Shared) -> Result<()> {
    /// Between two attempts to accept a connection.
    const PAUSE: Duration = Duration::from_millis(100);
    let database = world.database().await?;
    let (frontend, _stub) = world.stubbed(&database).await?;
    let limit = |files: &str| {
        let pid = frontend.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status()?;
        ensure!(set.success(), "prlimit: {set}");
        anyhow::Ok(())
    };
    let failures = || frontend.log_text().matches("cannot accept a connection").count();
    limit("3")?;
    // A client of its own, whose connection is no older one.
    let http = reqwest::Client::new();
    let waiting = tokio::spawn(http.get(format!("{}/healthz", frontend.url())).send());
    wait_until("a connection that cannot be accepted", RECOVERY, || async { Ok(failures() > 0) }).await?;
    let (before, start) = (failures(), Instant::now());
    wait_until("more attempts", RECOVERY, || async { Ok(failures() >= before + 5) }).await?;
    let (attempts, elapsed) = (failures() - before, start.elapsed());
    ensure!(
        attempts as u128 <= elapsed.as_millis() / PAUSE.as_millis() + 2,
        "{attempts} attempts within {elapsed:?}"
    );
    limit("1024")?;
    let answer =
        tokio::time::timeout(RECOVERY, waiting).await.context("it accepts nothing any more")???;
    assert_eq!(answer.status(), StatusCode::OK);
    Ok(())
}

async fn frontend_that_is_busy_is_ready(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let provider = StubProvider::start().await?;
    let frontend = provider.oidc(world.settings(&database)?.set("MCP_POOL_SIZE", "1")).start().await?;
    let session = NewSession::of("alice")
        .at(&format!("{}/mcp/v1", frontend.url()))
        .create(&database.auth().await?)
        .await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("BEGIN; LOCK mcp.sessions").await?;
    let look_up = reqwest::Client::new().get(format!("{}/auth/session", frontend.url()));
    let waiting = tokio::spawn(look_up.bearer_auth(&session.token).send());
    let watcher = database.superuser().await?;
    wait_until("the only connection to be in use", RECOVERY, || async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mcp_frontend_auth' \
                     AND datname = current_database() AND wait_event_type = 'Lock'";
        Ok(watcher.query_one(waits, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    let ready = reqwest::get(format!("{}/ready", frontend.admin_url())).await?;
    let status = ready.status();
    ensure!(status == StatusCode::OK, "{status} {}", ready.text().await?);
    superuser.batch_execute("COMMIT").await?;
    assert_eq!(waiting.await??.status(), StatusCode::OK);
    Ok(())
}
