//! The set-up on a database with Supabase's roles, and policies that are written with `auth.uid()`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::checkout;
use tests::cluster::{Cluster, Options};
use tests::session::{NewSession, call_tool};
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        supabase_roles_have_what_ours_have,
        policies_with_auth_uid_hold_for_the_armed_user,
    ]
}

const DATABASE: &str = "supabase";

/// A database as Supabase hands it out, set up: the roles are there before, and get everything on what appears in
/// public.
async fn set_up(cluster: &Cluster) -> Result<Client> {
    let postgres = cluster.superuser("postgres").await?;
    postgres.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    let superuser = cluster.superuser(DATABASE).await?;
    superuser
        .batch_execute(
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC;
             CREATE ROLE anon NOLOGIN NOINHERIT;
             CREATE ROLE authenticated NOLOGIN NOINHERIT;
             CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
             GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role",
        )
        .await?;
    // Twice, as it may be; with grants on ours to others, and on others' to ours.
    let script = std::fs::read_to_string(checkout::root().join("sql/setup_all_mcp_sessions.sql"))?;
    superuser.simple_query(&script).await?;
    superuser
        .batch_execute(
            "CREATE ROLE outsider NOLOGIN;
             GRANT SELECT (verifier), UPDATE (metadata), DELETE ON mcp.sessions TO outsider;
             GRANT EXECUTE ON FUNCTION mcp.enter(text, text) TO outsider;
             CREATE SCHEMA private; GRANT USAGE ON SCHEMA private TO PUBLIC;
             CREATE TABLE private.ledger (amount integer);
             GRANT SELECT, UPDATE (amount) ON private.ledger TO mcp_user, mcp_auth;
             CREATE FUNCTION private.pay() RETURNS integer LANGUAGE sql AS 'SELECT 1';
             REVOKE EXECUTE ON FUNCTION private.pay() FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION private.pay() TO mcp_user, mcp_auth",
        )
        .await?;
    superuser.simple_query(&script).await?;
    superuser
        .batch_execute("GRANT mcp_auth TO mcp_frontend_auth; GRANT mcp_exec TO mcp_frontend_exec")
        .await?;
    Ok(superuser)
}

/// What a role may do with the functions, tables and columns of ours.
async fn privileges(superuser: &Client, role: &str) -> Result<BTreeSet<String>> {
    let rows = superuser
        .query(
            "SELECT format('EXECUTE %s', p.oid::regprocedure) FROM pg_proc AS p
              WHERE p.pronamespace IN ('mcp'::regnamespace, 'public'::regnamespace)
                AND has_function_privilege($1, p.oid, 'EXECUTE')
             UNION ALL
             SELECT format('%s %s', privilege, c.oid::regclass)
               FROM pg_class AS c
              CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
              WHERE c.relnamespace IN ('mcp'::regnamespace, 'public'::regnamespace) AND c.relkind IN ('r', 'v')
                AND has_table_privilege($1, c.oid, privilege)
             UNION ALL
             SELECT format('%s %s.%I', privilege, c.oid::regclass, a.attname)
               FROM pg_class AS c
               JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              CROSS JOIN unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege
              WHERE c.relnamespace IN ('mcp'::regnamespace, 'public'::regnamespace) AND c.relkind IN ('r', 'v')
                AND has_column_privilege($1, c.oid, a.attnum, privilege)
             UNION ALL
             SELECT format('USAGE %s', n.nspname) FROM pg_namespace AS n
              WHERE n.nspname IN ('mcp', 'public') AND has_schema_privilege($1, n.oid, 'USAGE')
             UNION ALL
             SELECT format('policy %I of %s', polname, polrelid::regclass)
               FROM pg_policy WHERE polroles @> ARRAY[$1::text::regrole::oid]",
            &[&role],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn supabase_roles_have_what_ours_have(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let superuser = set_up(&cluster).await?;
    for (theirs, ours, some) in [
        ("authenticated", "mcp_user", "EXECUTE mcp.end_session(uuid)"),
        ("anon", "mcp_user", "SELECT mcp_sessions"),
        ("service_role", "mcp_auth", "EXECUTE cleanup_expired_mcp_sessions()"),
    ] {
        let (has, model) = (privileges(&superuser, theirs).await?, privileges(&superuser, ours).await?);
        for some in [some, "USAGE public"] {
            ensure!(model.contains(some), "{ours} has no {some}: {model:?}");
        }
        let different: Vec<_> = has.symmetric_difference(&model).collect();
        ensure!(different.is_empty(), "{theirs} and {ours} differ: {different:?}");
    }
    let beyond = "SELECT r::text FROM unnest('{anon,authenticated,service_role}'::text[]) AS r
                   WHERE has_table_privilege(r, 'private.ledger', 'SELECT') OR has_any_column_privilege(r, 'private.ledger', 'UPDATE')
                      OR has_function_privilege(r, 'private.pay()', 'EXECUTE')";
    ensure!(superuser.query(beyond, &[]).await?.is_empty(), "something that is not ours was passed on");
    let users = privileges(&superuser, "authenticated").await?;
    for what in [
        "EXECUTE mcp.enter(text,text)",
        "EXECUTE cleanup_expired_mcp_sessions()",
        "SELECT mcp.sessions.verifier",
    ] {
        ensure!(!users.contains(what), "authenticated has {what}");
    }
    world.keep_log(&cluster)?;
    Ok(())
}

async fn policies_with_auth_uid_hold_for_the_armed_user(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let superuser = set_up(&cluster).await?;
    superuser
        .batch_execute(
            "CREATE SCHEMA auth;
             CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
                 SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                                 nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
             $$;
             GRANT USAGE ON SCHEMA auth TO mcp_user;
             CREATE TABLE public.documents (owner uuid NOT NULL, title text NOT NULL);
             ALTER TABLE public.documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY own ON public.documents USING (auth.uid() = owner);
             GRANT SELECT ON public.documents TO mcp_user;
             CREATE FUNCTION public.titles() RETURNS text LANGUAGE sql STABLE AS
                 $$ SELECT coalesce(string_agg(title, ' '), 'none') FROM public.documents $$;
             SELECT mcp.expose_tool('public.titles()')",
        )
        .await?;
    let auth = cluster.login("mcp_frontend_auth", DATABASE).await?;
    let mut sessions = Vec::new();
    for user in ["alice", "bob"] {
        let session = NewSession::of(user).create(&auth).await?;
        let document = "INSERT INTO public.documents VALUES ($1, $2)";
        superuser.execute(document, &[&session.user_id, &format!("of {user}")]).await?;
        sessions.push((session, format!("of {user}")));
    }
    let titles = |exec: Client, mirrored: bool| {
        let sessions = &sessions;
        async move {
            // The one after the other in one connection.
            for (session, own) in sessions {
                let answer = call_tool(&exec, &session.token, "titles", json!({})).await?;
                let expected = if mirrored { own.as_str() } else { "none" };
                assert_eq!(answer["content"][0]["text"], expected, "{answer}");
            }
            Ok::<(), anyhow::Error>(())
        }
    };
    titles(cluster.login("mcp_frontend_exec", DATABASE).await?, false).await?;
    superuser.batch_execute(&format!("ALTER DATABASE {DATABASE} SET mcp.supabase_claims = on")).await?;
    titles(cluster.login("mcp_frontend_exec", DATABASE).await?, true).await?;

    // And for a transaction that enters by itself, no longer than it lasts.
    let auth = cluster.login("mcp_frontend_auth", DATABASE).await?;
    let (alice, _) = &sessions[0];
    auth.batch_execute("BEGIN").await?;
    auth.query_one("SELECT status FROM mcp.enter($1)", &[&alice.token]).await?;
    let claims = "SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb";
    let set: serde_json::Value = auth.query_one(claims, &[]).await?.get(0);
    assert_eq!(set["sub"], alice.user_id.to_string());
    assert_eq!(set["role"], "authenticated");
    auth.batch_execute("COMMIT").await?;
    let left: Option<serde_json::Value> = auth.query_one(claims, &[]).await?.get(0);
    assert_eq!(left, None);
    world.keep_log(&cluster)?;
    Ok(())
}
