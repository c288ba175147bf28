//! The scripts below `sql/`: the demo and the logins as the README has them run, and the set-up in one piece.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::checkout;
use tests::cluster::{Cluster, Options};
use tests::frontend::Settings;
use tests::idp::stub::StubProvider;
use tests::ledger;
use tests::mcp::{Door, Era};
use tests::session::NewSession;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        demo_runs_twice_and_does_what_the_readme_says,
        set_up_is_made_of_its_parts,
        set_up_says_what_stands_in_its_way,
        parts_of_the_set_up_do_by_themselves,
        check_of_the_set_up_finds_what_is_missing,
        helpers_of_the_set_up_keep_to_the_user_and_to_what_has_ended,
    ]
}

const LOGINS: [&str; 2] = ["mcp_frontend_auth", "mcp_frontend_exec"];

fn script(name: &str) -> Result<String> {
    let path = checkout::root().join("sql").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Runs a script with `psql -f` as often as anybody likes, the passwords in the environment.
fn psql(cluster: &Cluster, database: &str, name: &str, password: &str) -> Result<()> {
    // Copied: the checkout may be where the user postgres cannot read.
    let copy = cluster.directory().join(name);
    std::fs::write(&copy, script(name)?)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o644))?;
    let mut psql = cluster.program("psql", database);
    psql.command()
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&copy)
        .envs([("MCP_AUTH_PASSWORD", password), ("MCP_EXEC_PASSWORD", password)]);
    psql.run()?;
    Ok(())
}

async fn demo_runs_twice_and_does_what_the_readme_says(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    // Of the suite's own database only its place in the settings is used.
    let suite = cluster.database().await?;
    let name = "demo";
    let postgres = cluster.superuser("postgres").await?;
    postgres.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    // An application may want its own transactions like this; those of sign-ins wait for each other all the same.
    let serializable = format!("ALTER DATABASE {name} SET default_transaction_isolation = serializable");
    postgres.batch_execute(&serializable).await?;
    let superuser = cluster.superuser(name).await?;
    superuser.batch_execute("CREATE EXTENSION mcp_sessions").await?;
    // The logins of the suite were made otherwise; here they are to be as the script makes them.
    for login in LOGINS {
        superuser
            .batch_execute(&format!(
                "ALTER ROLE {login} RESET ALL; REVOKE mcp_auth, mcp_exec, mcp_user FROM {login}"
            ))
            .await?;
    }
    // Another than the logins of the suite have, so that it is the script's that holds.
    let password = uuid::Uuid::new_v4().simple().to_string();
    ledger::record("database password", &password);
    // A statement that fails is logged, but not this password.
    let read_only = |value| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    postgres.batch_execute(&read_only("on")).await?;
    let failed = tokio::task::block_in_place(|| psql(&cluster, name, "logins.sql", &password));
    ensure!(failed.is_err_and(|error| error.to_string().contains("read-only transaction")));
    postgres.batch_execute(&read_only("off")).await?;
    ensure!(!std::fs::read_to_string(cluster.log())?.contains(&password));
    for _ in 0..2 {
        for script in ["logins.sql", "demo.sql"] {
            tokio::task::block_in_place(|| psql(&cluster, name, script, &password)).context(script)?;
        }
    }
    what_the_demo_made(&superuser).await?;
    let impatient = "SELECT count(*) FROM mcp.doctor() WHERE check_name = 'isolation'";
    assert_eq!(superuser.query_one(impatient, &[]).await?.get::<_, i64>(0), 0);
    let statement = "SELECT concat_ws(' ', s.setrole::regrole, c.item) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c (item)
                      WHERE s.setrole <> 0 AND s.setrole::regrole::text = ANY ($1)
                     UNION ALL
                     SELECT concat_ws(' ', m.member::regrole, 'in', m.roleid::regrole) FROM pg_auth_members AS m
                      WHERE m.member::regrole::text = ANY ($1)";
    let found = superuser.query(statement, &[&&LOGINS[..]]).await?;
    let found: BTreeSet<String> = found.iter().map(|row| row.get(0)).collect();
    let mut expected = BTreeSet::from([
        "mcp_frontend_auth in mcp_auth".to_owned(),
        "mcp_frontend_auth default_transaction_isolation=read committed".to_owned(),
        "mcp_frontend_exec in mcp_exec".to_owned(),
    ]);
    let mut settings = vec![
        "log_parameter_max_length=0",
        "log_parameter_max_length_on_error=0",
        "auto_explain.log_verbose=off",
    ];
    let version = superuser.query_one("SHOW server_version_num", &[]).await?.get::<_, String>(0);
    if version.parse::<u32>()? >= 160_000 {
        settings.push("auto_explain.log_parameter_max_length=0");
    }
    for login in LOGINS {
        expected.extend(settings.iter().map(|setting| format!("{login} {setting}")));
    }
    assert_eq!(found, expected);
    let url = |login: &str| format!("postgresql://{login}:{password}@127.0.0.1:{}/{name}", cluster.port());
    let stub = StubProvider::start().await?;
    let settings = Settings::new(&suite, world.logs())?
        .set("DATABASE_URL", &url("mcp_frontend_auth"))
        .set("MCP_EXEC_DATABASE_URL", &url("mcp_frontend_exec"));
    let frontend = stub.oidc(settings).start().await?;
    let alice = Browser::new().sign_in(&frontend.url(), "alice@example.com").await?.token;
    let bob = Browser::new().sign_in(&frontend.url(), "bob@example.com").await?.token;
    let rows = async |door: Door, token: &str, tool: &str, arguments: Value| {
        let answer = frontend.mcp(Era::Modern).with(door, token).call(tool, arguments).await?;
        answer.tool_text()?;
        let rows = answer.result()?["structuredContent"]["rows"].take();
        let rows = rows.as_array().with_context(|| answer.text.clone())?.clone();
        Ok::<Vec<Value>, anyhow::Error>(rows.into_iter().map(|mut row| row["body"].take()).collect())
    };
    for (door, body) in [(Door::Header, "Buy MILK"), (Door::Bearer, "Call Bob")] {
        let client = frontend.mcp(Era::Modern).with(door, &alice);
        ensure!(client.call("add_note", json!({"body": body})).await?.tool_text()?.contains(body));
    }
    for door in [Door::Header, Door::Bearer] {
        assert_eq!(rows(door, &alice, "list_notes", json!({})).await?, ["Call Bob", "Buy MILK"]);
        assert_eq!(rows(door, &alice, "search_notes", json!({"query": "milk"})).await?, ["Buy MILK"]);
        assert_eq!(rows(door, &alice, "search_notes", json!({"query": "BOB"})).await?, ["Call Bob"]);
        assert_eq!(rows(door, &bob, "list_notes", json!({})).await?, Vec::<Value>::new());
        assert_eq!(rows(door, &bob, "search_notes", json!({"query": "milk"})).await?, Vec::<Value>::new());
    }
    drop(frontend);
    world.keep_log(&cluster)?;
    Ok(())
}

/// Whose the demo's table and functions are, and who may use them.
async fn what_the_demo_made(superuser: &Client) -> Result<()> {
    let functions = "SELECT p.proname::text, p.proowner::regrole::text, has_function_privilege('public', p.oid, 'EXECUTE'),
                            obj_description(p.oid, 'pg_proc') IS NOT NULL
                       FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
                        AND p.proname IN ('add_note', 'list_notes', 'search_notes') ORDER BY 1";
    let rows = superuser.query(functions, &[]).await?;
    let found: Vec<(String, String, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let expected = ["add_note", "list_notes", "search_notes"];
    assert_eq!(found, expected.map(|name| (name.to_owned(), "notes_owner".to_owned(), false, true)));
    let table = "SELECT c.relowner::regrole::text, pg_get_indexdef(to_regclass('public.notes_owner_created_at_idx')) LIKE '%(owner, created_at)',
                        EXISTS (SELECT FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
                                 WHERE n.nspname = 'public' AND a.grantee = 'mcp_user'::regrole AND a.privilege_type = 'USAGE')
                   FROM pg_class AS c WHERE c.oid = 'public.notes'::regclass";
    let row = superuser.query_one(table, &[]).await?;
    let found: (String, Option<bool>, bool) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(found, ("notes_owner".to_owned(), Some(true), true));
    // Its owner exposes by itself from now on.
    let expose = "SET ROLE notes_owner; SELECT mcp.expose_tool('public.list_notes()', title => 'List notes'); RESET ROLE";
    superuser.batch_execute(expose).await?;
    Ok(())
}

async fn set_up_says_what_stands_in_its_way(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let whole = script("setup_all_mcp_sessions.sql")?;
    superuser.batch_execute("CREATE TABLE public.mcp_sessions (session_id text)").await?;
    let refused = superuser.simple_query(&whole).await.err().context("set up over a table")?;
    let refused = refused.as_db_error().context("a fault of the database")?;
    assert_eq!(refused.code(), &SqlState::DUPLICATE_TABLE);
    assert_eq!(refused.message(), "public.mcp_sessions exists already and is not the view of this set-up");
    let remedy = refused.hint().and_then(|hint| hint.split_once(": ")).context("a remedy")?.1;
    superuser.batch_execute(&format!("ROLLBACK; {remedy}")).await?;
    superuser.simple_query(&whole).await?;
    let comments = "SELECT count(obj_description(to_regclass(v), 'pg_class')) + count(obj_description(to_regprocedure(f), 'pg_proc'))
                      FROM (VALUES ('public.mcp_sessions', 'public.cleanup_expired_mcp_sessions()'),
                                   ('public.active_mcp_sessions', 'public.verify_session_ownership(text)')) AS made (v, f)";
    assert_eq!(superuser.query_one(comments, &[]).await?.get::<_, i64>(0), 4, "each says what it is");
    Ok(())
}

async fn helpers_of_the_set_up_keep_to_the_user_and_to_what_has_ended(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let (auth, superuser) = (database.auth().await?, database.superuser().await?);
    superuser.simple_query(&script("setup_all_mcp_sessions.sql")?).await?;
    let (alice, bob) =
        (NewSession::of("alice").create(&auth).await?, NewSession::of("bob").create(&auth).await?);
    let over = NewSession::of("alice").create(&auth).await?;
    let expire = "UPDATE mcp.sessions SET expires_at = clock_timestamp() WHERE session_id = $1";
    superuser.execute(expire, &[&over.id]).await?;
    let revoked = NewSession::of("alice").create(&auth).await?;
    auth.query_one("SELECT mcp.revoke_session($1)", &[&revoked.token]).await?;
    let [alices, bobs, ended, revoked] = [&alice.id, &bob.id, &over.id, &revoked.id].map(ToString::to_string);
    // Row level security is nothing to a superuser.
    for client in [&auth, &superuser] {
        let owned = async |id: &str| {
            let row = client.query_one("SELECT verify_session_ownership($1)", &[&id]).await?;
            Ok::<bool, anyhow::Error>(row.get(0))
        };
        ensure!(!owned(&alices).await?, "nobody is signed in");
        client.batch_execute("BEGIN").await?;
        client.query_one("SELECT mcp.enter($1)", &[&alice.token]).await?;
        ensure!(owned(&alices).await? && owned(&alices.to_uppercase()).await?);
        for id in [&bobs, &ended, &revoked, "", "no id", &alices[1..]] {
            ensure!(!owned(id).await?, "{id:?}");
        }
        client.batch_execute("COMMIT").await?;
    }
    let columns = "SELECT c.relname::text, string_agg(a.attname, ' ' ORDER BY a.attnum)
                     FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
                    WHERE c.oid IN ('public.mcp_sessions'::regclass, 'public.active_mcp_sessions'::regclass)
                    GROUP BY 1 ORDER BY 1 DESC";
    let all = "session_id user_id client_id resource scopes metadata created_at updated_at expires_at absolute_expires_at";
    let found: Vec<(String, String)> =
        superuser.query(columns, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [
        ("mcp_sessions".to_owned(), format!("{all} revoked_at")),
        ("active_mcp_sessions".to_owned(), format!("{all} time_remaining")),
    ];
    assert_eq!(found, expected);
    let alive = superuser.query_one("SELECT count(*) FROM active_mcp_sessions", &[]).await?;
    assert_eq!(alive.get::<_, i64>(0), 2);
    let ended = auth.query_one("SELECT cleanup_expired_mcp_sessions()", &[]).await?;
    assert_eq!(ended.get::<_, i64>(0), 1);
    Ok(())
}

const PARTS: [&str; 3] =
    ["create_mcp_sessions_table.sql", "create_session_rls_policies.sql", "check_mcp_sessions_table.sql"];

async fn parts_of_the_set_up_do_by_themselves(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("DROP SCHEMA app CASCADE; DROP EXTENSION mcp_sessions CASCADE").await?;
    for part in PARTS {
        tokio::task::block_in_place(|| psql(database.cluster(), database.name(), part, "")).context(part)?;
    }
    let said = check(&superuser).await?;
    ensure!(said.len() == 7 && said.iter().all(|line| line.starts_with("✓ ")), "{said:?}");
    Ok(())
}

/// What the check of the set-up says, line by line.
async fn check(superuser: &Client) -> Result<Vec<String>> {
    let said = superuser.simple_query(&script("check_mcp_sessions_table.sql")?).await?;
    let said = said.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(said.collect())
}

async fn check_of_the_set_up_finds_what_is_missing(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let whole = script("setup_all_mcp_sessions.sql")?;
    superuser.simple_query(&whole).await?;
    let index = |column: &str, change: &str| {
        format!(
            "DO $$ DECLARE index regclass; BEGIN
                 FOR index IN SELECT i.indexrelid FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                               WHERE i.indrelid = 'mcp.sessions'::regclass AND a.attname = '{column}' LOOP
                     EXECUTE format('{change}', index, index::oid);
                 END LOOP; END $$;
             CREATE TABLE public.others ({column} text); CREATE INDEX ON public.others ({column})"
        )
    };
    let cleanup = "FUNCTION public.cleanup_expired_mcp_sessions()";
    let finds = async |subject: &str, fault: &str| {
        superuser.batch_execute(fault).await?;
        let said = check(&superuser).await?;
        let missing: Vec<_> = said.iter().filter(|line| !line.starts_with("✓ ")).collect();
        let expected = format!("✗ {subject}: run setup_all_mcp_sessions.sql, also after a restore");
        ensure!(said.len() == 7 && missing == [&expected], "{fault}: {said:#?}");
        Ok(())
    };
    for (subject, fault) in [
        ("table", "ALTER VIEW public.active_mcp_sessions RESET (security_invoker)".to_owned()),
        ("table", "DROP VIEW public.active_mcp_sessions".to_owned()),
        ("row level security", "ALTER TABLE mcp.sessions DISABLE ROW LEVEL SECURITY".to_owned()),
        ("row level security", "ALTER TABLE mcp.sessions NO FORCE ROW LEVEL SECURITY".to_owned()),
        ("helper functions", "DROP FUNCTION public.verify_session_ownership(text)".to_owned()),
        ("helper functions", format!("DROP {cleanup}")),
        ("helper functions", format!("GRANT EXECUTE ON {cleanup} TO PUBLIC")),
    ] {
        finds(subject, &fault).await?;
        superuser.simple_query(&whole).await?;
        let said = check(&superuser).await?;
        ensure!(said.iter().all(|line| line.starts_with("✓ ")), "after {fault} and a set-up: {said:#?}");
    }
    for (subject, fault) in [
        ("index on user_id", index("user_id", "DROP INDEX %s")),
        ("index on expires_at", index("expires_at", "DROP INDEX %s")),
        ("index on created_at", index("created_at", "DROP INDEX %s")),
        (
            "index on user_id",
            index("user_id", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %2$s"),
        ),
        ("row level security", "DROP POLICY own_sessions ON mcp.sessions".to_owned()),
    ] {
        finds(subject, &format!("BEGIN; {fault}")).await?;
        superuser.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

async fn set_up_is_made_of_its_parts(_: &Shared) -> Result<()> {
    let whole = script("setup_all_mcp_sessions.sql")?;
    let mut rest = whole.as_str();
    for part in PARTS {
        let text = script(part)?;
        let (_, after) = rest.split_once(text.trim_end()).with_context(|| {
            format!("sql/setup_all_mcp_sessions.sql no longer contains sql/{part} as it is")
        })?;
        rest = after;
    }
    ensure!(rest.trim().is_empty(), "sql/setup_all_mcp_sessions.sql has something more: {rest}");
    let head: BTreeSet<_> =
        whole.lines().take_while(|line| !line.is_empty()).map(|line| &line[..2]).collect();
    assert_eq!(head, BTreeSet::from(["--"]), "before the first part it has its own head alone");
    Ok(())
}
