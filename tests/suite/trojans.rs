//! Installing the extension where somebody was before: what they left there is neither used nor taken over.

use anyhow::{Result, ensure};
use tests::database::Database;
use tests::session::sqlstate;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        checklist_17_a_schema_that_was_there_is_not_adopted,
        checklist_17_objects_in_public_and_temp_are_not_used,
        checklist_17_roles_that_were_there_are_checked,
    ]
}

/// A database without the extension, and somebody in it who may make objects anywhere.
async fn prepared<'a>(world: &'a Shared) -> Result<(Database<'a>, Client, String)> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    let mallory = format!("c17_{}", Uuid::new_v4().simple());
    superuser
        .batch_execute(&format!(
            "DROP SCHEMA app CASCADE;
             DROP EXTENSION mcp_sessions CASCADE;
             CREATE ROLE {mallory} NOLOGIN;
             GRANT CREATE, TEMPORARY ON DATABASE {name} TO {mallory};
             GRANT CREATE ON SCHEMA public TO {mallory}",
            name = database.name()
        ))
        .await?;
    Ok((database, superuser, mallory))
}

async fn installed(superuser: &Client) -> Result<bool> {
    Ok(superuser.query_opt("SELECT FROM pg_extension WHERE extname = 'mcp_sessions'", &[]).await?.is_some())
}

async fn checklist_17_a_schema_that_was_there_is_not_adopted(world: &Shared) -> Result<()> {
    let (_database, superuser, mallory) = prepared(world).await?;
    for trojan in [
        "CREATE SCHEMA mcp",
        "CREATE SCHEMA mcp; CREATE TABLE mcp.sessions (session_id uuid)",
        "CREATE SCHEMA mcp; CREATE FUNCTION mcp.user_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "CREATE SCHEMA mcp; CREATE VIEW mcp.my_sessions AS SELECT 1",
    ] {
        superuser.batch_execute(&format!("SET ROLE {mallory}; {trojan}; RESET ROLE")).await?;
        for command in ["CREATE EXTENSION mcp_sessions", "CREATE EXTENSION mcp_sessions SCHEMA mcp"] {
            let state = sqlstate(superuser.batch_execute(command).await)?;
            // 55000: the object is not a member of the extension; 42P06, 42723, …: it is there.
            ensure!(state == "55000" || state.starts_with("42"), "{trojan}: {command}: {state}");
            ensure!(!installed(&superuser).await?, "{trojan}: {command}");
        }
        let owner = superuser
            .query_one("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'mcp'", &[])
            .await?;
        ensure!(owner.get::<_, String>(0) == mallory, "{trojan}: the schema was taken over");
        superuser.batch_execute("DROP SCHEMA mcp CASCADE").await?;
    }
    superuser.batch_execute("CREATE EXTENSION mcp_sessions").await?;
    let foreign = superuser
        .query(
            "SELECT nspname::text FROM pg_namespace
              WHERE nspname = 'mcp' AND nspowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
             UNION ALL
             SELECT proname::text FROM pg_proc
              WHERE pronamespace = 'mcp'::regnamespace
                AND proowner::regrole::text NOT IN ('mcp_owner', current_user)",
            &[],
        )
        .await?;
    ensure!(foreign.is_empty(), "{} belongs to somebody else", foreign[0].get::<_, String>(0));
    Ok(())
}

/// Functions and operators that catch calls which name no schema: for every one of `pg_catalog` that scripts like ours
/// use, one in `schema` whose arguments fit better, or as well, and that says who called it.
fn traps(schema: &str) -> String {
    let mut traps = format!("CREATE TABLE {schema}.caught (what text, by name);");
    let mut function = |name: &str, arguments: &str, returns: &str| {
        traps.push_str(&format!(
            "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS $trap$
             BEGIN INSERT INTO {schema}.caught VALUES ('{name}', current_user); RETURN NULL; END $trap$;"
        ));
    };
    for (name, arguments, returns) in [
        ("format", "text, text", "text"),
        ("format", "text, name", "text"),
        ("current_setting", "text", "text"),
        ("current_setting", "varchar", "text"),
        ("set_config", "text, text, boolean", "text"),
        ("pg_extension_config_dump", "regclass, text", "text"),
        ("pg_extension_config_dump", "text, text", "text"),
        ("clock_timestamp", "", "timestamptz"),
        ("now", "", "timestamptz"),
        ("gen_random_uuid", "", "uuid"),
        ("jsonb_typeof", "jsonb", "text"),
        ("jsonb_exists", "jsonb, text", "boolean"),
        ("jsonb_build_object", "text, text", "jsonb"),
        ("pg_notify", "text, text", "text"),
        ("array_length", "text[], integer", "integer"),
        ("cardinality", "text[]", "integer"),
        ("octet_length", "text", "integer"),
        ("concat", "text, text", "text"),
        ("has_schema_privilege", "name, text, text", "boolean"),
        ("user_id", "", "uuid"),
        ("trap_text", "text, text", "boolean"),
        ("trap_name", "name, text", "boolean"),
        ("trap_name_name", "name, name", "boolean"),
        ("trap_uuid", "uuid, uuid", "boolean"),
        ("trap_integer", "integer, integer", "boolean"),
        ("trap_jsonb", "jsonb, jsonb", "boolean"),
        ("trap_concat", "text, text", "text"),
        ("trap_oid", "oid, oid", "boolean"),
    ] {
        function(name, arguments, returns);
    }
    for (operator, left, right, function) in [
        ("=", "text", "text", "trap_text"),
        ("<>", "text", "text", "trap_text"),
        ("=", "name", "text", "trap_name"),
        ("=", "name", "name", "trap_name_name"),
        ("=", "uuid", "uuid", "trap_uuid"),
        ("=", "integer", "integer", "trap_integer"),
        ("<", "integer", "integer", "trap_integer"),
        (">", "integer", "integer", "trap_integer"),
        ("=", "jsonb", "jsonb", "trap_jsonb"),
        ("||", "text", "text", "trap_concat"),
        ("=", "oid", "oid", "trap_oid"),
    ] {
        traps.push_str(&format!(
            "CREATE OPERATOR {schema}.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {schema}.{function});"
        ));
    }
    for relation in ["pg_roles", "pg_extension", "pg_namespace", "pg_auth_members", "sessions", "tools"] {
        traps.push_str(&format!(
            "CREATE VIEW {schema}.{relation} AS SELECT 1 AS oid, 'trap'::name AS rolname;"
        ));
    }
    for name in ["int4", "uuid", "jsonb", "tool_result"] {
        traps.push_str(&format!("CREATE DOMAIN {schema}.{name} AS pg_catalog.text;"));
    }
    traps.push_str(&format!(
        "GRANT ALL ON {schema}.caught TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO PUBLIC;"
    ));
    traps
}

async fn checklist_17_objects_in_public_and_temp_are_not_used(world: &Shared) -> Result<()> {
    let (_database, superuser, mallory) = prepared(world).await?;
    superuser.batch_execute(&format!("SET ROLE {mallory}; {}; RESET ROLE", traps("public"))).await?;
    // In a session of their own making, the temporary schema is theirs; and the path may begin with either.
    superuser.batch_execute(&traps("pg_temp")).await?;
    for path in ["DEFAULT", "public, pg_catalog", "pg_catalog, pg_temp, public"] {
        superuser.batch_execute(&format!("SET search_path TO {path}")).await?;
        for command in
            ["CREATE EXTENSION mcp_sessions SCHEMA public", "CREATE EXTENSION mcp_sessions SCHEMA pg_catalog"]
        {
            superuser.batch_execute(&format!("{command}; SET search_path TO pg_catalog, pg_temp")).await?;
            let members = superuser
                .query(
                    "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend AS d
                      WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
                        AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mcp_sessions')
                        AND pg_describe_object(classid, objid, 0) ~ '\\m(public|pg_temp)\\M'",
                    &[],
                )
                .await?;
            ensure!(members.is_empty(), "{path}: {} was adopted", members[0].get::<_, String>(0));
            // What was made is used once, by those who use it, before the traps are looked at.
            superuser
                .batch_execute(
                    "DO $$ BEGIN PERFORM * FROM mcp.lookup_session('x'); PERFORM * FROM mcp.session_stats();
                                 PERFORM mcp.cleanup_expired_sessions(); PERFORM * FROM mcp.doctor(); END $$",
                )
                .await?;
            for table in ["public.caught", "pg_temp.caught"] {
                let caught = superuser
                    .query(&format!("SELECT what, by::text FROM {table} ORDER BY what"), &[])
                    .await?;
                ensure!(
                    caught.is_empty(),
                    "{path}: {} in {table} was called by {}",
                    caught[0].get::<_, String>(0),
                    caught[0].get::<_, String>(1)
                );
            }
            superuser.batch_execute("DROP EXTENSION mcp_sessions CASCADE").await?;
            superuser.batch_execute(&format!("SET search_path TO {path}")).await?;
        }
    }
    // Installed into the temporary schema, all of it would go with the session (CVE-2026-6467).
    for command in [
        "CREATE EXTENSION mcp_sessions SCHEMA pg_temp",
        "SET search_path TO pg_temp; CREATE EXTENSION mcp_sessions",
    ] {
        let state = sqlstate(superuser.batch_execute(command).await)?;
        ensure!(["42939", "3F000"].contains(&state.as_str()), "{command}: {state}");
    }
    Ok(())
}

/// In a cluster of its own: the roles are everybody's.
async fn checklist_17_roles_that_were_there_are_checked(world: &Shared) -> Result<()> {
    use tests::cluster::{Cluster, Options};
    let cluster = Cluster::start(&Options { preload: false, ..Options::default() }).await?;
    let superuser = cluster.superuser("postgres").await?;
    superuser.batch_execute("CREATE ROLE mallory NOLOGIN").await?;
    for (made, undone) in [
        ("CREATE ROLE mcp_owner NOLOGIN; GRANT mcp_owner TO mallory", "DROP ROLE mcp_owner"),
        ("CREATE ROLE mcp_auth LOGIN PASSWORD 'known to mallory'", "DROP ROLE mcp_auth"),
        ("CREATE ROLE mcp_user BYPASSRLS", "DROP ROLE mcp_user"),
        ("CREATE ROLE mcp_exec SUPERUSER", "DROP ROLE mcp_exec"),
        ("CREATE ROLE mcp_monitor CREATEROLE", "DROP ROLE mcp_monitor"),
        ("CREATE ROLE mcp_owner REPLICATION", "DROP ROLE mcp_owner"),
    ] {
        superuser.batch_execute(made).await?;
        assert_eq!(
            sqlstate(superuser.batch_execute("CREATE EXTENSION mcp_sessions").await)?,
            "55000",
            "{made}"
        );
        ensure!(!installed(&superuser).await?, "{made}");
        superuser.batch_execute(undone).await?;
    }
    // Text of another encoding than UTF8 is not what the library takes it for.
    superuser
        .batch_execute("CREATE DATABASE other ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        .await?;
    let other = cluster.superuser("other").await?;
    assert_eq!(sqlstate(other.batch_execute("CREATE EXTENSION mcp_sessions").await)?, "0A000");
    // What an earlier installation left is none of these.
    superuser
        .batch_execute(
            "CREATE EXTENSION mcp_sessions; DROP EXTENSION mcp_sessions; CREATE EXTENSION mcp_sessions",
        )
        .await?;
    world.keep_log(&cluster)?;
    Ok(())
}
