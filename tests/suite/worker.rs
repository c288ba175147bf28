//! The clean-up worker: what it leaves for how long, and what may be dropped under it.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Options, Stop};
use tests::session::{NewSession, Session, status};
use tests::wait::wait_until;
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

/// A worker that ended starts again after five seconds.
const SOON: Duration = Duration::from_secs(60);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        worker_leaves_what_has_just_ended,
        worker_status_says_what_keeps_it_from_running,
        worker_outlives_its_extension_and_its_database,
    ]
}

fn options() -> Options {
    Options::default().set("mcp.database", "test_0").set("mcp.cleanup_interval", "1")
}

/// A session that ended this long ago, as did everything that the audit log says of it.
async fn ended(auth: &Client, superuser: &Client, subject: &str, ago: &str) -> Result<Session> {
    let session = NewSession::of(subject).create(auth).await?;
    let sessions = "UPDATE mcp.sessions SET created_at = created_at - interval '2 days',
                           expires_at = clock_timestamp() - $2::text::interval WHERE session_id = $1";
    let audit_log =
        "UPDATE mcp.audit_log SET at = clock_timestamp() - $2::text::interval WHERE session_id = $1";
    for statement in [sessions, audit_log] {
        assert_eq!(superuser.execute(statement, &[&session.id, &ago]).await?, 1);
    }
    Ok(session)
}

async fn worker_leaves_what_has_just_ended(world: &Shared) -> Result<()> {
    let cluster =
        Cluster::start(&options().set("mcp.retention", "1h").set("mcp.audit_retention", "1h")).await?;
    let database = cluster.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    let late = ended(&auth, &superuser, "late", "30 minutes").await?;
    let gone = ended(&auth, &superuser, "gone", "2 hours").await?;
    wait_until("the worker to delete what ended long ago", SOON, || async {
        Ok(status(&auth, &gone.token).await? == "unknown")
    })
    .await?;
    // What the configuration file says holds once it is reloaded.
    superuser.batch_execute("ALTER SYSTEM SET mcp.retention = '0'").await?;
    for _ in 0..2 {
        let row = superuser.query_one("SELECT last_run::text FROM mcp.worker_status()", &[]).await?;
        let last: String = row.get(0);
        wait_until("another pass of the worker", SOON, || async {
            let statement = "SELECT last_run::text <> $1 FROM mcp.worker_status()";
            Ok(superuser.query_one(statement, &[&last]).await?.get(0))
        })
        .await?;
    }
    assert_eq!(status(&auth, &late.token).await?, "expired");
    assert_eq!(deleted(&superuser).await?, 2, "the session, and its row of the audit log");
    let rows = superuser.query("SELECT session_id FROM mcp.audit_log", &[]).await?;
    let audited: Vec<uuid::Uuid> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(audited, [late.id]);
    // Who calls the function wants them gone at once.
    auth.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    assert_eq!(status(&auth, &late.token).await?, "unknown");
    deletes_batch_after_batch(&superuser).await?;
    assert_eq!(deleted(&superuser).await?, 52, "25 sessions and as many sign-ins more");
    ended_by_an_error_it_is_not_said_to_run(&superuser).await?;
    world.keep_log(&cluster)?;
    Ok(())
}

/// How many rows the worker says it has deleted, while it runs here.
async fn deleted(superuser: &Client) -> Result<i64> {
    let statement = "SELECT deleted FROM mcp.worker_status()
                      WHERE running AND database = 'test_0' AND last_run IS NOT NULL AND detail = 'The worker is running.'";
    Ok(superuser.query_one(statement, &[]).await?.get(0))
}

/// Sets settings as an operator does while the server runs.
async fn reload(superuser: &Client, settings: &[(&str, &str)]) -> Result<()> {
    for (name, value) in settings {
        superuser.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await?;
    }
    superuser.batch_execute("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// What is more than a batch goes at once, in batches, as the owner of the tables; and the server's statistics tell.
async fn deletes_batch_after_batch(superuser: &Client) -> Result<()> {
    // A trigger notes what each statement deletes.
    superuser
        .batch_execute(
            "CREATE TABLE batches (rows bigint, by name);
             GRANT INSERT ON batches TO PUBLIC;
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN INSERT INTO public.batches SELECT count(*), current_user FROM gone; RETURN NULL; END $$;
             CREATE TRIGGER note AFTER DELETE ON mcp.sessions REFERENCING OLD TABLE AS gone
                 FOR EACH STATEMENT EXECUTE FUNCTION note();
             SELECT count(*) FROM generate_series(1, 25) AS n, mcp.create_session('https://idp.test', n::text, NULL);
             SELECT count(mcp.begin_sign_in(repeat('s', 43) || n, repeat('b', 43), '{}')) FROM generate_series(1, 25) AS n;
             UPDATE mcp.sessions SET created_at = now() - interval '1 day', expires_at = now() - interval '30 min';
             UPDATE mcp.sign_ins SET expires_at = now()",
        )
        .await?;
    reload(
        superuser,
        &[("mcp.cleanup_batch_size", "10"), ("mcp.cleanup_interval", "1h"), ("mcp.retention", "0")],
    )
    .await?;
    let holds = async |statement: &'static str| Ok(superuser.query_one(statement, &[]).await?.get(0));
    wait_until("the worker to delete three batches", SOON, || {
        holds("SELECT NOT EXISTS (SELECT FROM mcp.sessions) AND NOT EXISTS (SELECT FROM mcp.sign_ins)")
    })
    .await?;
    let batches =
        "SELECT array_agg(rows ORDER BY rows DESC), array_agg(DISTINCT by::text) FROM batches WHERE rows > 0";
    let row = superuser.query_one(batches, &[]).await?;
    assert_eq!((row.get(0), row.get(1)), (vec![10_i64, 10, 5], vec!["mcp_owner".to_owned()]));
    reload(superuser, &[("mcp.cleanup_interval", "1")]).await?;
    wait_until("statistics of the worker", SOON, || {
        holds("SELECT n_tup_del = 25 FROM pg_stat_all_tables WHERE relid = 'mcp.sign_ins'::regclass")
    })
    .await
}

async fn ended_by_an_error_it_is_not_said_to_run(superuser: &Client) -> Result<()> {
    superuser.batch_execute("ALTER TABLE mcp.sign_ins RENAME TO elsewhere").await?;
    wait_until("the worker to fail", SOON, || async {
        let statement = "SELECT NOT running AND pid IS NULL AND database = 'test_0' AND last_run IS NOT NULL
                            AND deleted = 52 AND detail LIKE 'The worker is not running: see the server''s log;%'
                           FROM mcp.worker_status()";
        Ok(superuser.query_one(statement, &[]).await?.get(0))
    })
    .await
}

/// What `mcp.worker_status()` says, as text.
async fn said(client: &Client) -> Result<String> {
    Ok(client.query_one("SELECT w::text FROM mcp.worker_status() AS w", &[]).await?.get(0))
}

async fn worker_status_says_what_keeps_it_from_running(world: &Shared) -> Result<()> {
    // The server's log tells at this level which workers it is asked to start.
    let options = Options::default().set("mcp.cleanup_interval", "1h").set("log_min_messages", "debug1");
    let cluster = Cluster::start(&options).await?;
    let registered = || -> Result<usize> {
        let log = String::from_utf8_lossy(&std::fs::read(cluster.log())?).into_owned();
        Ok(log.matches("registering background worker \"mcp_sessions cleanup\"").count())
    };
    {
        let postgres = cluster.superuser("postgres").await?;
        postgres.batch_execute("CREATE EXTENSION mcp_sessions").await?;
        assert_eq!(said(&postgres).await?, "(f,,,,0,\"mcp.database is not set: set it and restart.\")");
        assert_eq!(registered()?, 0);
        postgres.batch_execute("ALTER SYSTEM SET mcp.database = 'later'").await?;
    }
    cluster.stop(Stop::Fast)?;
    cluster.resume().await?;
    assert_eq!(registered()?, 1);
    let postgres = cluster.superuser("postgres").await?;
    let elsewhere = "\"The worker cleans up in database later, not in postgres.\")";
    assert_eq!(said(&postgres).await?, format!("(f,,later,,0,{elsewhere}"), "there is no such database");

    postgres.batch_execute("CREATE DATABASE later").await?;
    let resting = "SELECT pid FROM pg_stat_activity
                    WHERE backend_type = 'mcp_sessions cleanup' AND datname = 'later' AND state = 'idle'
                      AND query = 'cleaning up ended sessions'
                      AND state_change < clock_timestamp() - interval '2 seconds'";
    let rests = async |what: &str| {
        tests::wait::wait_for(what, SOON, || async {
            Ok(postgres.query_opt(resting, &[]).await?.map(|row| row.get::<_, i32>(0)))
        })
        .await
    };
    let pid = rests("the worker to rest until there is an extension").await?;
    let later = cluster.superuser("later").await?;
    later.batch_execute("CREATE EXTENSION mcp_sessions").await?;
    let runs = said(&later).await?;
    ensure!(runs.starts_with(&format!("(t,{pid},later,\"")), "{runs}");
    ensure!(runs.ends_with("\",0,\"The worker is running.\")"), "{runs}");
    let runs = said(&postgres).await?;
    ensure!(runs.starts_with(&format!("(f,{pid},later,\"")) && runs.ends_with(elsewhere), "{runs}");

    // While it works, the server says at what.
    later.batch_execute("BEGIN; LOCK TABLE mcp.sign_ins").await?;
    postgres.batch_execute("SELECT pg_reload_conf()").await?;
    wait_until("the worker to wait for the table", SOON, || async {
        let working = "SELECT EXISTS (SELECT FROM pg_stat_activity
                                       WHERE pid = $1 AND state = 'active' AND query = 'cleaning up ended sessions'
                                         AND wait_event_type = 'Lock')";
        Ok(postgres.query_one(working, &[&pid]).await?.get(0))
    })
    .await?;
    later.batch_execute("COMMIT").await?;
    assert_eq!(rests("the worker to rest until its next time").await?, pid);
    world.keep_log(&cluster)?;
    Ok(())
}

async fn worker_outlives_its_extension_and_its_database(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&options().set("mcp.retention", "0")).await?;
    let postgres = cluster.superuser("postgres").await?;
    let started = "SELECT pg_postmaster_start_time()::text";
    let start: String = postgres.query_one(started, &[]).await?.get(0);
    let cleans_up = async |what: &str| {
        let (auth, superuser) =
            (cluster.login("mcp_frontend_auth", "test_0").await?, cluster.superuser("test_0").await?);
        let over = ended(&auth, &superuser, what, "1 second").await?;
        wait_until(&format!("the worker to clean up, {what}"), SOON, || async {
            Ok(status(&auth, &over.token).await? == "unknown")
        })
        .await
    };
    {
        let database = cluster.database().await?;
        assert_eq!(database.name(), "test_0");
        cleans_up("first").await?;
        let superuser = database.superuser().await?;
        for round in 0..3 {
            superuser.batch_execute("DROP EXTENSION mcp_sessions CASCADE").await?;
            if round > 0 {
                // It looks for the extension, finds none, and goes on.
                let dropped: String = postgres.query_one("SELECT clock_timestamp()::text", &[]).await?.get(0);
                let worker =
                    "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type LIKE 'mcp_sessions%'
                                 AND state = 'idle' AND state_change > $1::text::timestamptz";
                wait_until("a pass without the extension", SOON, || async {
                    Ok(postgres.query_one(worker, &[&dropped]).await?.get(0))
                })
                .await?;
            }
            superuser.batch_execute("CREATE EXTENSION mcp_sessions").await?;
            cleans_up("with the extension made anew").await?;
        }
    }
    postgres.batch_execute("DROP DATABASE test_0 WITH (FORCE)").await?;
    wait_until("the worker to miss its database", SOON, || async {
        let log = String::from_utf8_lossy(&std::fs::read(cluster.log())?).into_owned();
        Ok(log.contains("database \"test_0\" does not exist"))
    })
    .await?;
    postgres.batch_execute("CREATE DATABASE test_0").await?;
    cluster.superuser("test_0").await?.batch_execute("CREATE EXTENSION mcp_sessions").await?;
    cleans_up("in a database made anew").await?;
    let now: String = postgres.query_one(started, &[]).await?.get(0);
    assert_eq!(now, start);
    let log = String::from_utf8_lossy(&std::fs::read(cluster.log())?).into_owned();
    ensure!(!log.contains("was terminated by signal"), "a process crashed");
    ensure!(!log.contains("cache lookup failed"), "a process kept what was dropped");
    world.keep_log(&cluster)?;
    Ok(())
}
