//! Attacks on identity through the server's own machinery, by their numbers in the threat model's matrix: parallel
//! workers, cursors, triggers, maintenance, snapshots, connections back to itself, libraries.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::hygiene;
use tests::mcp::text_blocks;
use tests::session::{call_tool, call_tool_unwatched, sqlstate};
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::attacks::{Stage, enter, notes, user_id};
use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        attack_a13_parallel_workers_see_what_the_leader_sees,
        attack_a13_a_parallel_tool_sees_what_a_serial_one_sees,
        attack_a14_a_cursor_does_not_outlive_its_tool,
        attack_a14_a_held_cursor_belongs_to_the_connection,
        attack_a15_deferred_work_runs_under_the_identity_it_was_deferred_by,
        attack_a15_copy_runs_triggers_under_the_identity,
        attack_a15_an_identity_is_in_no_index_and_no_stored_column,
        attack_a16_maintenance_runs_as_nobody,
        attack_a16_the_worker_cleans_up_as_nobody,
        attack_a21_an_unrestricted_tool_leaves_what_it_was_freed_for,
        attack_a23_a_snapshot_carries_no_identity,
        attack_a24_no_way_back_into_the_server,
        attack_a25_libraries_are_not_loaded,
    ]
}

/// The same tools without the restriction of maintenance commands, as their owner may choose.
async fn unrestricted(stage: &Stage<'_>) -> Result<()> {
    stage
        .superuser
        .batch_execute(
            "SELECT mcp.expose_tool('app.try(text)', name => 'try_free', restricted => false);
             SELECT mcp.expose_tool('app.run(text)', name => 'run_free', restricted => false)",
        )
        .await?;
    Ok(())
}

/// Enough rows of both users that a parallel scan pays, and settings that make it pay for less.
async fn many_notes(stage: &Stage<'_>) -> Result<()> {
    for session in [&stage.alice, &stage.bob] {
        stage
            .superuser
            .execute(
                "INSERT INTO app.notes (owner, body) SELECT $1, 'note ' || n FROM generate_series(1, 20000) AS n",
                &[&session.user_id],
            )
            .await?;
    }
    stage.superuser.batch_execute("ANALYZE app.notes; GRANT SELECT ON app.notes TO app_login").await?;
    Ok(())
}

/// Debian's server knows one of the two names, by its version.
const PARALLEL: &str =
    "SELECT set_config(name, CASE WHEN name IN ('force_parallel_mode', 'debug_parallel_query') THEN 'on'
                                             WHEN name LIKE 'max\\_parallel%' THEN '4' ELSE '0' END, false)
                          FROM pg_settings
                         WHERE name IN ('force_parallel_mode', 'debug_parallel_query', 'parallel_setup_cost',
                                        'parallel_tuple_cost', 'min_parallel_table_scan_size',
                                        'min_parallel_index_scan_size', 'max_parallel_workers_per_gather')";

async fn plan(client: &Client, query: &str) -> Result<String> {
    let mut plan = String::new();
    for message in client.simple_query(&format!("EXPLAIN {query}")).await? {
        if let SimpleQueryMessage::Row(row) = message {
            plan.push_str(row.get(0).unwrap_or_default());
            plan.push('\n');
        }
    }
    Ok(plan)
}

async fn attack_a13_parallel_workers_see_what_the_leader_sees(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    many_notes(&stage).await?;
    let application = stage.database.application().await?;
    application.batch_execute(PARALLEL).await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    // The policy as it is: the call is restricted to the leader, and so is the scan.
    let counted = application.query_one("SELECT count(*) FROM app.notes", &[]).await?;
    assert_eq!(counted.get::<_, i64>(0), 20_001);
    application.batch_execute("ROLLBACK").await?;
    // Evaluated once, in the leader, it leaves the scan to the workers.
    stage
        .superuser
        .batch_execute("ALTER POLICY own ON app.notes USING (owner = (SELECT mcp.user_id()))")
        .await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    let query = "SELECT count(*), count(DISTINCT owner) FROM app.notes";
    let plan = plan(&application, query).await?;
    ensure!(plan.contains("Gather"), "the plan is not parallel, and the test shows nothing:\n{plan}");
    let counted = application.query_one(query, &[]).await?;
    assert_eq!((counted.get::<_, i64>(0), counted.get::<_, i64>(1)), (20_001, 1));
    // Each reader, forced through a worker's plan, answers as in the leader.
    for (reader, expected) in [
        ("mcp.user_id()::text", stage.alice.user_id.to_string()),
        ("mcp.session_id()::text", stage.alice.id.to_string()),
        ("mcp.subject()", "alice".to_owned()),
        ("mcp.issuer()", "https://idp.test".to_owned()),
        ("mcp.require_user()::text", stage.alice.user_id.to_string()),
    ] {
        let query = format!("SELECT DISTINCT {reader} FROM app.notes");
        let rows = application.query(&query, &[]).await?;
        ensure!(rows.len() == 1 && rows[0].get::<_, String>(0) == expected, "{reader} in parallel");
    }
    application.batch_execute("COMMIT").await?;
    let counted = application.query_one("SELECT count(*) FROM app.notes", &[]).await?;
    assert_eq!(counted.get::<_, i64>(0), 0, "nobody sees nothing, in parallel too");
    Ok(())
}

async fn attack_a13_a_parallel_tool_sees_what_a_serial_one_sees(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    many_notes(&stage).await?;
    stage
        .superuser
        .batch_execute(
            "ALTER POLICY own ON app.notes USING (owner = (SELECT mcp.user_id()));
             SET ROLE app_owner;
             CREATE FUNCTION app.count_notes() RETURNS jsonb LANGUAGE sql STABLE
                 AS $$ SELECT jsonb_build_object('notes', count(*), 'owners', array_agg(DISTINCT owner)) FROM app.notes $$;
             RESET ROLE;
             SELECT mcp.expose_tool('app.count_notes()', name => 'count_notes')",
        )
        .await?;
    let serial = call_tool(&stage.exec, &stage.alice.token, "count_notes", json!({})).await?;
    stage.exec.batch_execute(PARALLEL).await?;
    let parallel = call_tool(&stage.exec, &stage.alice.token, "count_notes", json!({})).await?;
    ensure!(serial == parallel, "{serial} and {parallel}");
    let counted: Value = serde_json::from_str(&text_blocks(&parallel))?;
    assert_eq!(counted, json!({"notes": 20_001, "owners": [stage.alice.user_id]}));
    Ok(())
}

async fn attack_a14_a_cursor_does_not_outlive_its_tool(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage.refused("DECLARE a14 CURSOR WITH HOLD FOR SELECT body FROM app.notes", &["42501"]).await?;
    // A cursor that is to be held runs to its end at the commit: as whom, where a tool may declare it?
    unrestricted(&stage).await?;
    stage
        .superuser
        .batch_execute(
            "CREATE TABLE app.ran (role name);
             GRANT INSERT ON app.ran TO PUBLIC;
             GRANT USAGE ON SCHEMA app TO PUBLIC;
             CREATE FUNCTION app.mark() RETURNS integer LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO app.ran VALUES (current_user);
                 RETURN 1;
             END $$",
        )
        .await?;
    for tool in ["try_free", "run_free"] {
        let two = "DECLARE a14 CURSOR WITH HOLD FOR SELECT app.mark(); DECLARE b14 CURSOR WITH HOLD FOR SELECT app.mark()";
        let declared = stage.inject_by(tool, two).await?;
        stage.still_alice("DECLARE CURSOR WITH HOLD", &declared)?;
        let left = stage.exec.query("SELECT name FROM pg_cursors WHERE name <> ''", &[]).await?;
        ensure!(left.is_empty(), "a cursor outlived its tool");
    }
    let ran = stage.superuser.query("SELECT role::text FROM app.ran WHERE role <> 'mcp_user'", &[]).await?;
    ensure!(ran.is_empty(), "what a tool declared ran as {}", ran[0].get::<_, String>(0));
    Ok(())
}

/// Not an attack that is refused but a limit that is documented: what an application's own SQL keeps beyond its
/// transaction is that connection's, as all SQL is. The rows are those it was shown; no new ones are.
async fn attack_a14_a_held_cursor_belongs_to_the_connection(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    application.batch_execute("DECLARE a14 CURSOR WITH HOLD FOR SELECT body FROM app.notes").await?;
    application.batch_execute("COMMIT").await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.bob).await?;
    ensure!(notes(&application).await? == ["of Bob"], "the cursor changed who is who");
    let rows = application.simple_query("FETCH ALL FROM a14").await?;
    let bodies: Vec<_> = rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        })
        .collect();
    ensure!(bodies == ["of Alice"], "{bodies:?}");
    application.batch_execute("COMMIT").await?;
    Ok(())
}

/// A journal that notes who is who at every moment a row gives occasion to ask.
const JOURNAL: &str = "
    CREATE TABLE app.journal (
        id integer PRIMARY KEY,
        by_default uuid DEFAULT mcp.user_id(),
        by_trigger uuid,
        at_commit uuid,
        CONSTRAINT signed_in CHECK (mcp.user_id() IS NOT NULL)
    );
    CREATE TABLE app.commits (id integer, who uuid);
    CREATE FUNCTION app.on_journal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.by_trigger := mcp.user_id();
        RETURN NEW;
    END $$;
    CREATE FUNCTION app.on_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO app.commits VALUES (NEW.id, mcp.user_id());
        RETURN NULL;
    END $$;
    CREATE TRIGGER before BEFORE INSERT ON app.journal FOR EACH ROW EXECUTE FUNCTION app.on_journal();
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON app.journal DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.on_commit();
    GRANT SELECT, INSERT ON app.journal, app.commits TO app_login, mcp_user;";

async fn journal(stage: &Stage<'_>) -> Result<()> {
    stage.superuser.batch_execute(&format!("SET ROLE app_owner; {JOURNAL} RESET ROLE")).await?;
    Ok(())
}

async fn entries(stage: &Stage<'_>) -> Result<Vec<(i32, Option<Uuid>, Option<Uuid>, Option<Uuid>)>> {
    let rows = stage
        .superuser
        .query(
            "SELECT j.id, j.by_default, j.by_trigger, c.who FROM app.journal AS j JOIN app.commits AS c USING (id)
              ORDER BY j.id",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect())
}

async fn attack_a15_deferred_work_runs_under_the_identity_it_was_deferred_by(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    journal(&stage).await?;
    let application = stage.database.application().await?;
    for (id, session) in [(1, &stage.alice), (2, &stage.bob)] {
        application.batch_execute("BEGIN").await?;
        enter(&application, session).await?;
        application.execute("INSERT INTO app.journal (id) VALUES ($1)", &[&id]).await?;
        let before = stage.superuser.query_one("SELECT count(*) FROM app.commits", &[]).await?;
        assert_eq!(before.get::<_, i64>(0), i64::from(id) - 1, "the trigger waits for the commit");
        application.batch_execute("COMMIT").await?;
        ensure!(user_id(&application).await?.is_none(), "the identity outlived its transaction");
    }
    // Nobody may write, and nobody's row is not written as somebody's.
    let nobody = application.execute("INSERT INTO app.journal (id) VALUES (3)", &[]).await;
    assert_eq!(sqlstate(nobody)?, "23514");
    let (alice, bob) = (Some(stage.alice.user_id), Some(stage.bob.user_id));
    assert_eq!(entries(&stage).await?, [(1, alice, alice, alice), (2, bob, bob, bob)]);
    // A tool cannot defer under restriction; without it, what it deferred runs before it ends, as itself.
    unrestricted(&stage).await?;
    stage.refused("INSERT INTO app.journal (id) VALUES (4)", &["42501"]).await?;
    let statement = json!({"statement": "INSERT INTO app.journal (id) VALUES (5)"});
    stage.exec.batch_execute("BEGIN").await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "run_free", statement).await?;
    ensure!(result["isError"] != true, "{result}");
    stage.exec.batch_execute("COMMIT").await?;
    assert_eq!(entries(&stage).await?.last(), Some(&(5, alice, alice, alice)));
    Ok(())
}

async fn attack_a15_copy_runs_triggers_under_the_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    journal(&stage).await?;
    let application = stage.database.application().await?;
    let copy = |id: i32| {
        let application = &application;
        async move {
            let sink = application.copy_in::<_, bytes::Bytes>("COPY app.journal (id) FROM STDIN").await?;
            let mut sink = std::pin::pin!(sink);
            futures_util::SinkExt::send(&mut sink, bytes::Bytes::from(format!("{id}\n"))).await?;
            sink.finish().await
        }
    };
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    copy(1).await?;
    application.batch_execute("COMMIT").await?;
    assert_eq!(sqlstate(copy(2).await)?, "23514");
    let alice = Some(stage.alice.user_id);
    assert_eq!(entries(&stage).await?, [(1, alice, alice, alice)]);
    // Rows under row level security do not come in by COPY at all.
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    let refused = application.batch_execute("COPY app.notes (owner, body) FROM STDIN").await;
    assert_eq!(sqlstate(refused)?, "0A000");
    application.batch_execute("ROLLBACK").await?;
    Ok(())
}

async fn attack_a15_an_identity_is_in_no_index_and_no_stored_column(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    for statement in [
        "CREATE INDEX ON app.notes ((mcp.user_id()))",
        "CREATE INDEX ON app.notes (id) WHERE owner = mcp.user_id()",
        "ALTER TABLE app.notes ADD COLUMN reader uuid GENERATED ALWAYS AS (mcp.user_id()) STORED",
    ] {
        // IMMUTABLE, one user's id would be kept for all.
        let refused = stage.superuser.batch_execute(statement).await;
        assert_eq!(sqlstate(refused)?, "42P17", "{statement}");
    }
    let stable = stage
        .superuser
        .query(
            "SELECT proname FROM pg_proc
              WHERE pronamespace = 'mcp'::regnamespace
                AND proname IN ('user_id', 'session_id', 'issuer', 'subject', 'client_id', 'scopes', 'claims', 'has_scope',
                                'require_user', 'state')
                AND (provolatile <> 's' OR proparallel <> 'r' OR proleakproof)",
            &[],
        )
        .await?;
    ensure!(stable.is_empty(), "{} readers are not stable and restricted to the leader", stable.len());
    Ok(())
}

async fn attack_a16_maintenance_runs_as_nobody(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    // A function that lies about its volatility, to be asked by whatever maintains the index.
    stage
        .superuser
        .batch_execute(
            "CREATE TABLE app.maintained (id integer);
             INSERT INTO app.maintained SELECT generate_series(1, 100);
             CREATE SEQUENCE app.asked;
             CREATE FUNCTION app.ask(id integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN
                 PERFORM nextval('app.asked');
                 IF mcp.user_id() IS NOT NULL THEN RAISE EXCEPTION 'somebody asks'; END IF;
                 RETURN id;
             END $$;
             CREATE INDEX asks ON app.maintained (app.ask(id))",
        )
        .await?;
    // In a backend that has just been Alice.
    stage.superuser.batch_execute("BEGIN").await?;
    enter(&stage.superuser, &stage.alice).await?;
    stage.superuser.batch_execute("COMMIT").await?;
    for command in [
        "ANALYZE app.maintained",
        "REINDEX INDEX app.asks",
        "REINDEX INDEX CONCURRENTLY app.asks",
        "CLUSTER app.maintained USING asks",
    ] {
        let before = asked(&stage).await?;
        stage.superuser.batch_execute(command).await.with_context(|| command.to_owned())?;
        ensure!(asked(&stage).await? > before, "{command} did not ask, and shows nothing");
    }
    Ok(())
}

async fn asked(stage: &Stage<'_>) -> Result<i64> {
    Ok(stage.superuser.query_one("SELECT last_value FROM app.asked", &[]).await?.get(0))
}

async fn attack_a16_the_worker_cleans_up_as_nobody(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    // The clean-up of an application's own connection, right after it was Alice; the worker runs the same.
    stage
        .superuser
        .batch_execute(
            "CREATE TABLE app.swept (who uuid);
             CREATE FUNCTION app.on_sweep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN INSERT INTO app.swept VALUES (mcp.user_id()); RETURN OLD; END $$;
             CREATE TRIGGER sweep AFTER DELETE ON mcp.sessions FOR EACH ROW EXECUTE FUNCTION app.on_sweep()",
        )
        .await?;
    stage.auth.batch_execute("BEGIN").await?;
    enter(&stage.auth, &stage.alice).await?;
    stage.auth.batch_execute("COMMIT").await?;
    stage
        .superuser
        .execute(
            "UPDATE mcp.sessions SET expires_at = now() - interval '1 s' WHERE session_id = $1",
            &[&stage.bob.id],
        )
        .await?;
    let cleaned = stage.auth.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    assert_eq!(cleaned.get::<_, i64>(0), 1);
    let swept = stage.superuser.query("SELECT who FROM app.swept", &[]).await?;
    ensure!(swept.len() == 1 && swept[0].get::<_, Option<Uuid>>(0).is_none(), "somebody cleaned up");
    Ok(())
}

/// A limit that is documented: whoever exposes a tool without the restriction lets it keep these three.
async fn attack_a21_an_unrestricted_tool_leaves_what_it_was_freed_for(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    unrestricted(&stage).await?;
    for (statement, kept) in [
        ("CREATE TEMP TABLE a21 (x integer)", Some("temporary")),
        ("PREPARE a21 AS SELECT 1", Some("statements")),
        ("LISTEN a21", Some("channels")),
        ("SELECT set_config('search_path', 'evil', false)", None),
        ("SET statement_timeout = 1", None),
        ("DECLARE a21 CURSOR WITH HOLD FOR SELECT 1", None),
        ("SELECT pg_advisory_lock(21)", None),
        ("SELECT setseed(0.42)", None),
    ] {
        let exec = stage.database.exec().await?;
        let tool = json!({"statement": statement});
        let result = call_tool_unwatched(&exec, &stage.alice.token, "try_free", tool).await?;
        ensure!(result["isError"] != true, "{statement}: {result}");
        let left = hygiene::state_of(&exec).await?;
        let left: Vec<_> = left.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        ensure!(left == kept.into_iter().collect::<Vec<_>>(), "{statement} left {left:?}");
        // None of the three is in the way of the next tool, which finds its own table first.
        let shadow = json!({"statement": "CREATE TEMP TABLE notes (id bigint, owner uuid, body text)"});
        call_tool_unwatched(&exec, &stage.alice.token, "try_free", shadow).await?;
        let next = call_tool_unwatched(&exec, &stage.bob.token, "list_notes", json!({})).await?;
        assert_eq!(next["structuredContent"]["rows"][0]["body"], "of Bob");
    }
    Ok(())
}

async fn attack_a23_a_snapshot_carries_no_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (one, two) = (stage.database.application().await?, stage.database.application().await?);
    one.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    enter(&one, &stage.alice).await?;
    let snapshot: String = one.query_one("SELECT pg_export_snapshot()", &[]).await?.get(0);
    two.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    two.batch_execute(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")).await?;
    ensure!(user_id(&two).await?.is_none(), "a snapshot made somebody of nobody");
    ensure!(notes(&two).await?.is_empty(), "a snapshot showed rows to nobody");
    enter(&two, &stage.bob).await?;
    ensure!(notes(&two).await? == ["of Bob"], "a snapshot showed another's rows");
    two.batch_execute("COMMIT").await?;
    one.batch_execute("COMMIT").await?;
    // A tool gets none to give away.
    stage.refused("SELECT pg_export_snapshot()", &["25001", "25000", "0A000"]).await?;
    Ok(())
}

async fn attack_a24_no_way_back_into_the_server(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    unrestricted(&stage).await?;
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw;
             CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw
                 OPTIONS (host '{directory}', port '{port}', dbname '{name}');
             CREATE USER MAPPING FOR PUBLIC SERVER loopback OPTIONS (user 'mcp_frontend_auth');
             -- Somebody left a door: a table that leads back here as the login that mints sessions.
             CREATE FOREIGN TABLE app.elsewhere_sessions (session_id uuid) SERVER loopback
                 OPTIONS (schema_name 'mcp', table_name 'sessions');
             GRANT SELECT ON app.elsewhere_sessions TO mcp_user;",
            directory = stage.database.cluster().directory().display(),
            port = stage.database.cluster().port(),
            name = stage.database.name(),
        ))
        .await?;
    let connection = format!(
        "host={} port={} user=mcp_frontend_auth dbname={}",
        stage.database.cluster().directory().display(),
        stage.database.cluster().port(),
        stage.database.name()
    );
    for tool in ["try", "try_free"] {
        for (statement, states) in [
            // The socket asks nobody for a password, and that is why dblink refuses it to anybody but superusers.
            (format!("SELECT public.dblink_connect('{connection}')"), &["2F003", "08001"][..]),
            (
                format!("SELECT * FROM public.dblink('{connection}', 'SELECT 1') AS t(x int)"),
                &["2F003", "08001"],
            ),
            ("SELECT * FROM app.elsewhere_sessions".to_owned(), &["2F003"]),
            ("SELECT public.dblink_connect_u('dbname=postgres')".to_owned(), &["42501"]),
            ("SELECT public.dblink_connect('loopback')".to_owned(), &["2F003", "42501", "08001"]),
            (
                "CREATE FOREIGN TABLE app.elsewhere (body text) SERVER loopback OPTIONS (table_name 'notes')"
                    .to_owned(),
                &["42501"],
            ),
            ("IMPORT FOREIGN SCHEMA mcp FROM SERVER loopback INTO app".to_owned(), &["42501"]),
            (
                "CREATE USER MAPPING FOR mcp_user SERVER loopback OPTIONS (user 'postgres')".to_owned(),
                &["42501"],
            ),
            (
                "SELECT pg_create_logical_replication_slot('a24', 'test_decoding')".to_owned(),
                &["42501", "55000", "25001"],
            ),
            ("SELECT pg_create_physical_replication_slot('a24')".to_owned(), &["42501", "55000"]),
            ("CREATE PUBLICATION a24 FOR ALL TABLES".to_owned(), &["42501"]),
            (
                format!("CREATE SUBSCRIPTION a24 CONNECTION '{connection}' PUBLICATION a24"),
                &["42501", "25001"],
            ),
            ("SELECT pg_read_file('postgresql.auto.conf')".to_owned(), &["42501"]),
            ("SELECT * FROM pg_hba_file_rules".to_owned(), &["42501"]),
            ("SELECT rolpassword FROM pg_authid".to_owned(), &["42501"]),
            ("SELECT umoptions FROM pg_user_mapping".to_owned(), &["42501"]),
        ] {
            let after = stage.inject_by(tool, &statement).await?;
            let state =
                after["sqlstate"].as_str().with_context(|| format!("{statement} was allowed: {after}"))?;
            ensure!(states.contains(&state), "{statement} by {tool}: {state}, expected one of {states:?}");
            stage.still_alice(&statement, &after)?;
        }
    }
    Ok(())
}

async fn attack_a25_libraries_are_not_loaded(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    unrestricted(&stage).await?;
    for tool in ["try", "try_free"] {
        for statement in [
            "LOAD 'auto_explain'",
            "LOAD '$libdir/plugins/../auto_explain'",
            "LOAD '/tmp/evil.so'",
            "SET LOCAL session_preload_libraries = 'evil'",
            "SET LOCAL shared_preload_libraries = 'evil'",
            "SET LOCAL dynamic_library_path = '/tmp'",
            "SELECT set_config('session_preload_libraries', 'evil', false)",
            "SELECT set_config('dynamic_library_path', '/tmp', false)",
            "ALTER ROLE mcp_user SET session_preload_libraries = 'evil'",
            "ALTER ROLE mcp_frontend_exec SET session_preload_libraries = 'evil'",
            "CREATE FUNCTION app.evil() RETURNS void LANGUAGE c AS '/tmp/evil.so', 'evil'",
            "CREATE FUNCTION app.evil() RETURNS void LANGUAGE internal AS 'pg_ls_dir'",
            "CREATE EXTENSION file_fdw",
            "ALTER EXTENSION mcp_sessions UPDATE",
            "DROP EXTENSION mcp_sessions",
        ] {
            let after = stage.inject_by(tool, statement).await?;
            let state =
                after["sqlstate"].as_str().with_context(|| format!("{statement} was allowed: {after}"))?;
            // 55P02: no role may change it once the connection is there.
            ensure!(["42501", "55P02", "58P01"].contains(&state), "{statement} by {tool}: {state}");
            stage.still_alice(statement, &after)?;
        }
    }
    Ok(())
}
