//! The attacks on identity, by their numbers in the threat model's matrix. Each is run twice where both apply:
//! inside a sealed tool (`mcp.call_tool`), as prompt injection would have it, and in the transaction of an
//! application that armed the identity itself (`mcp.enter`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cluster::SUPERUSER;
use tests::database::Database;
use tests::hygiene::{difference, state_of};
use tests::mcp::text_blocks;
use tests::session::{NewSession, Session, call_tool, sqlstate};
use tests::wait::wait_until;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        attack_a01_settings_do_not_forge_an_identity,
        attack_a01_settings_do_not_forge_an_identity_of_an_application,
        attack_a02_reset_and_discard_leave_the_identity,
        attack_a03_no_route_leads_to_another_role,
        attack_a04_rollback_to_savepoint_poisons,
        attack_a05_second_enter_is_refused,
        attack_a06_enter_after_a_failed_subtransaction_is_refused,
        attack_a07_commit_ends_the_identity,
        attack_a07_procedures_are_no_tools,
        attack_a08_prepare_transaction_is_refused,
        attack_a09_prepared_statements_follow_the_identity,
        attack_a09_cached_plans_of_tools_follow_the_identity,
        attack_a10_plans_follow_revoked_privileges,
        attack_a10_plans_follow_revoked_roles,
        attack_a11_next_transaction_is_nobody,
        attack_a17_tool_timeout_leaves_nothing,
        attack_a17_statement_timeout_leaves_nothing,
        attack_a17_cancel_leaves_nothing,
        attack_a17_terminated_backend_leaves_nothing,
        attack_a17_exhausted_memory_leaves_nothing,
        attack_a17_tools_signal_nobody,
        attack_a18_tools_do_not_sign_in,
        attack_a19_tools_do_not_call_tools,
        attack_a20_tools_create_nothing,
        attack_a21_settings_of_a_tool_end_with_it,
        attack_a21_nothing_of_a_tool_stays_in_the_backend,
        attack_a21_numbers_of_a_tool_are_not_the_next_ones,
        attack_a22_search_path_changes_nothing,
    ]
}

/// Two users with a note each.
pub(crate) struct Stage<'a> {
    pub(crate) database: Database<'a>,
    pub(crate) auth: Client,
    pub(crate) exec: Client,
    pub(crate) superuser: Client,
    pub(crate) alice: Session,
    pub(crate) bob: Session,
}

impl<'a> Stage<'a> {
    pub(crate) async fn set(world: &'a Shared) -> Result<Self> {
        let database = world.database().await?;
        let (auth, exec, superuser) =
            (database.auth().await?, database.exec().await?, database.superuser().await?);
        let alice = NewSession::of("alice").create(&auth).await?;
        let bob = NewSession::of("bob").create(&auth).await?;
        for (session, body) in [(&alice, "of Alice"), (&bob, "of Bob")] {
            superuser
                .execute("INSERT INTO app.notes (owner, body) VALUES ($1, $2)", &[&session.user_id, &body])
                .await?;
        }
        Ok(Self { database, auth, exec, superuser, alice, bob })
    }

    /// Runs `statement` in a tool of Alice's, within a subtransaction, and answers with what was true afterwards:
    /// `user_id`, `role`, `notes`, and the statement's `sqlstate` where it failed.
    pub(crate) async fn inject(&self, statement: &str) -> Result<Value> {
        self.inject_by("try", statement).await
    }

    pub(crate) async fn inject_by(&self, tool: &str, statement: &str) -> Result<Value> {
        let result = call_tool(&self.exec, &self.alice.token, tool, json!({"statement": statement})).await?;
        ensure!(result["isError"] != true, "{statement}: {result}");
        serde_json::from_str(&text_blocks(&result)).with_context(|| format!("{statement}: {result}"))
    }

    pub(crate) fn still_alice(&self, statement: &str, after: &Value) -> Result<()> {
        ensure!(after["user_id"] == json!(self.alice.user_id), "{statement}: became {after}");
        ensure!(after["role"] == "mcp_user", "{statement}: runs as {after}");
        ensure!(after["notes"] == json!(["of Alice"]), "{statement}: sees {after}");
        Ok(())
    }

    /// The statement is refused with one of `states`, and changes nothing.
    pub(crate) async fn refused(&self, statement: &str, states: &[&str]) -> Result<()> {
        let after = self.inject(statement).await?;
        let state =
            after["sqlstate"].as_str().with_context(|| format!("{statement} was allowed: {after}"))?;
        ensure!(states.contains(&state), "{statement}: refused with {state}, expected one of {states:?}");
        self.still_alice(statement, &after)?;
        // Let through to the top, the error ends the call; it still reaches the client as a result.
        let result = call_tool(&self.exec, &self.alice.token, "run", json!({"statement": statement})).await?;
        ensure!(result["isError"] == true, "{statement}: {result}");
        self.clean(&self.exec, "mcp_frontend_exec", statement).await
    }

    /// The backend is as it was: the login's role, nobody's identity.
    pub(crate) async fn clean(&self, client: &Client, login: &str, after: &str) -> Result<()> {
        let row =
            client.query_one("SELECT current_user::text, session_user::text, mcp.user_id()", &[]).await?;
        let (role, session): (String, String) = (row.get(0), row.get(1));
        ensure!(role == login && session == login, "after {after}: {role}, {session}");
        ensure!(row.get::<_, Option<Uuid>>(2).is_none(), "after {after}: an identity is left");
        Ok(())
    }
}

pub(crate) async fn enter(client: &Client, session: &Session) -> Result<(), tokio_postgres::Error> {
    let row = client.query_one("SELECT status FROM mcp.enter($1)", &[&session.token]).await?;
    assert_eq!(row.get::<_, String>(0), "active");
    Ok(())
}

pub(crate) async fn user_id(client: &Client) -> Result<Option<Uuid>, tokio_postgres::Error> {
    Ok(client.query_one("SELECT mcp.user_id()", &[]).await?.get(0))
}

pub(crate) async fn notes(client: &Client) -> Result<Vec<String>> {
    let rows = client.query("SELECT body FROM app.notes ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Every way to write a setting that somebody might read an identity from.
fn forgeries(victim: &Session) -> Vec<String> {
    let (user, session) = (victim.user_id, victim.id);
    let claims = format!(r#"{{"sub": "bob", "user_id": "{user}", "role": "service_role"}}"#);
    let mut statements = Vec::new();
    for (name, value) in [
        ("mcp.user_id", user.to_string()),
        ("mcp.session_id", session.to_string()),
        ("mcp.subject", "bob".to_owned()),
        ("mcp.identity", user.to_string()),
        ("request.jwt.claims", claims),
        ("request.jwt.claim.sub", user.to_string()),
    ] {
        let dotted =
            name.split_once('.').map_or_else(|| name.to_owned(), |(a, b)| format!("\"{a}\".\"{b}\""));
        statements.extend([
            format!("SET {dotted} = '{value}'"),
            format!("SET LOCAL {dotted} = '{value}'"),
            format!("SELECT set_config('{name}', '{value}', false)"),
            format!("SELECT set_config('{name}', '{value}', true)"),
            format!("RESET {dotted}"),
            // The view of the settings takes updates.
            format!("UPDATE pg_settings SET setting = '{value}' WHERE name = '{name}'"),
            format!("DO $do$ BEGIN PERFORM set_config('{name}', '{value}', false); END $do$"),
        ]);
    }
    for name in
        ["mcp.supabase_claims", "mcp.session_ttl", "mcp.max_lifetime", "mcp.tool_timeout", "mcp.key_file"]
    {
        statements
            .extend([format!("SET {name} TO DEFAULT"), format!("SELECT set_config('{name}', '1', false)")]);
    }
    statements.push("SELECT set_config('session_authorization', 'postgres', false)".to_owned());
    statements
}

async fn attack_a01_settings_do_not_forge_an_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    for statement in forgeries(&stage.bob) {
        let after = stage.inject(&statement).await?;
        stage.still_alice(&statement, &after)?;
        stage.clean(&stage.exec, "mcp_frontend_exec", &statement).await?;
    }
    Ok(())
}

async fn attack_a01_settings_do_not_forge_an_identity_of_an_application(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    for statement in forgeries(&stage.bob) {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        application.batch_execute("SAVEPOINT attack").await?;
        if application.batch_execute(&statement).await.is_err() {
            application.batch_execute("ROLLBACK TO attack").await?;
        }
        ensure!(user_id(&application).await? == Some(stage.alice.user_id), "{statement}");
        ensure!(notes(&application).await? == ["of Alice"], "{statement}");
        application.batch_execute("COMMIT").await?;
        // Nor does it make somebody of nobody.
        application.batch_execute("BEGIN").await?;
        if application.batch_execute(&statement).await.is_ok() {
            ensure!(user_id(&application).await?.is_none(), "{statement}: somebody without a token");
            ensure!(notes(&application).await?.is_empty(), "{statement}: rows without a token");
        }
        application.batch_execute("ROLLBACK; RESET ALL").await?;
    }
    Ok(())
}

async fn attack_a02_reset_and_discard_leave_the_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    for statement in [
        "RESET ALL",
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "DISCARD TEMP",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "CLOSE ALL",
    ] {
        let after = stage.inject(statement).await?;
        stage.still_alice(statement, &after)?;
        stage.clean(&stage.exec, "mcp_frontend_exec", statement).await?;
    }
    let application = stage.database.application().await?;
    for statement in
        ["RESET ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP", "DEALLOCATE ALL", "CLOSE ALL"]
    {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        application.batch_execute(statement).await?;
        ensure!(user_id(&application).await? == Some(stage.alice.user_id), "{statement}");
        ensure!(notes(&application).await? == ["of Alice"], "{statement}");
        application.batch_execute("COMMIT").await?;
    }
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    assert_eq!(sqlstate(application.batch_execute("DISCARD ALL").await)?, "25001");
    application.batch_execute("ROLLBACK").await?;
    Ok(())
}

async fn attack_a03_no_route_leads_to_another_role(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let helper = format!("a03_helper_{}", Uuid::new_v4().simple());
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE ROLE {helper} NOLOGIN;
             GRANT mcp_auth TO {helper};
             GRANT USAGE, CREATE ON SCHEMA app TO {helper};
             -- Without ownership by a superuser a SET clause would be checked at creation already.
             CREATE FUNCTION app.with_set_clause() RETURNS text LANGUAGE plpgsql SET role = '{SUPERUSER}'
                 AS $$ BEGIN RETURN current_user; END $$;
             CREATE FUNCTION app.with_set_authorization() RETURNS text LANGUAGE plpgsql
                 SET session_authorization = '{SUPERUSER}' AS $$ BEGIN RETURN current_user; END $$;
             SET ROLE {helper};
             CREATE FUNCTION app.definer(statement text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN EXECUTE statement; END $$;
             CREATE FUNCTION app.definer_obeys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN EXECUTE NEW.statement; RETURN NEW; END $$;
             RESET ROLE;
             CREATE FUNCTION app.obeys() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN EXECUTE NEW.statement; RETURN NEW; END $$;
             CREATE TABLE app.orders (statement text);
             CREATE TABLE app.definer_orders (statement text);
             GRANT INSERT ON app.orders, app.definer_orders TO mcp_user;
             CREATE TRIGGER obeys AFTER INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.obeys();
             CREATE TRIGGER obeys BEFORE INSERT ON app.definer_orders FOR EACH ROW EXECUTE FUNCTION app.definer_obeys();"
        ))
        .await?;

    let mut routes = Vec::new();
    for role in [SUPERUSER, "mcp_owner", "mcp_auth", "mcp_exec", "mcp_frontend_exec", "app_owner"] {
        routes.extend([
            format!("SET ROLE {role}"),
            format!("SET LOCAL ROLE {role}"),
            format!("SET SESSION AUTHORIZATION {role}"),
            format!("SET LOCAL SESSION AUTHORIZATION {role}"),
            format!("SELECT set_config('role', '{role}', false)"),
            format!("SELECT set_config('role', '{role}', true)"),
            format!("SELECT set_config('session_authorization', '{role}', true)"),
            format!("SELECT app.definer('SET LOCAL ROLE {role}')"),
            format!("SELECT app.definer($$SELECT set_config('role', '{role}', true)$$)"),
            format!("INSERT INTO app.orders VALUES ('SET LOCAL ROLE {role}')"),
            format!("INSERT INTO app.definer_orders VALUES ('SET LOCAL ROLE {role}')"),
            format!("INSERT INTO app.definer_orders VALUES ($$SELECT set_config('role', '{role}', true)$$)"),
        ]);
    }
    routes.extend(
        [
            "RESET ROLE",
            "SET ROLE NONE",
            "RESET SESSION AUTHORIZATION",
            "SET SESSION AUTHORIZATION DEFAULT",
            "SELECT app.with_set_clause()",
            "SELECT app.with_set_authorization()",
            "SELECT app.definer('RESET ROLE')",
            "SELECT app.definer('SET ROLE NONE')",
            "INSERT INTO app.orders VALUES ('RESET ROLE')",
            "INSERT INTO app.definer_orders VALUES ('RESET SESSION AUTHORIZATION')",
        ]
        .map(str::to_owned),
    );
    for route in routes {
        let quoted = route.replace('\'', "''");
        let nested = format!("DO $do$ BEGIN EXECUTE '{quoted}'; END $do$");
        let caught = format!(
            "DO $do$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN EXECUTE '{quoted}'; END $do$"
        );
        for statement in [route, nested, caught] {
            stage.refused(&statement, &["42501"]).await?;
        }
    }
    Ok(())
}

async fn attack_a04_rollback_to_savepoint_poisons(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    for read in [
        "SELECT mcp.user_id()",
        "SELECT mcp.session_id()",
        "SELECT mcp.claims()",
        "SELECT mcp.has_scope('x')",
        "SELECT body FROM app.notes",
    ] {
        application.batch_execute("BEGIN; SAVEPOINT s").await?;
        enter(&application, &stage.alice).await?;
        application.batch_execute("ROLLBACK TO s; SAVEPOINT after").await?;
        // Not "nobody": a policy that lets nobody see more must not be opened this way.
        ensure!(sqlstate(application.query(read, &[]).await)? == "25000", "{read}");
        application.batch_execute("ROLLBACK TO after").await?;
        ensure!(sqlstate(enter(&application, &stage.bob).await)? == "25000", "poisoned stays poisoned");
        application.batch_execute("ROLLBACK").await?;
        ensure!(user_id(&application).await?.is_none());
    }
    // A savepoint that opened after the arming and is rolled back takes nothing away.
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    application.batch_execute("SAVEPOINT s; ROLLBACK TO s").await?;
    ensure!(user_id(&application).await? == Some(stage.alice.user_id));
    application.batch_execute("COMMIT").await?;
    // One that is released hands the identity to what surrounds it, and takes it along when that is rolled back.
    application.batch_execute("BEGIN; SAVEPOINT outer_one; SAVEPOINT inner_one").await?;
    enter(&application, &stage.alice).await?;
    application.batch_execute("RELEASE inner_one").await?;
    ensure!(user_id(&application).await? == Some(stage.alice.user_id));
    application.batch_execute("ROLLBACK TO outer_one").await?;
    ensure!(sqlstate(user_id(&application).await)? == "25000");
    application.batch_execute("ROLLBACK").await?;
    Ok(())
}

async fn attack_a05_second_enter_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    for second in [&stage.alice, &stage.bob] {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        application.batch_execute("SAVEPOINT s").await?;
        assert_eq!(sqlstate(enter(&application, second).await)?, "55000");
        application.batch_execute("ROLLBACK TO s").await?;
        ensure!(user_id(&application).await? == Some(stage.alice.user_id));
        application.batch_execute("COMMIT").await?;
    }
    // One statement with two of them as well.
    let both = application
        .query(
            "SELECT a.status, b.status FROM mcp.enter($1) a, mcp.enter($2) b",
            &[&stage.alice.token, &stage.bob.token],
        )
        .await;
    assert_eq!(sqlstate(both)?, "55000");
    Ok(())
}

async fn attack_a06_enter_after_a_failed_subtransaction_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    application.batch_execute("BEGIN; SAVEPOINT s").await?;
    enter(&application, &stage.bob).await?;
    ensure!(application.batch_execute("SELECT 1/0").await.is_err());
    application.batch_execute("ROLLBACK TO s").await?;
    assert_eq!(sqlstate(enter(&application, &stage.alice).await)?, "25000");
    application.batch_execute("ROLLBACK").await?;

    // The same by an exception block. Tokens come in as parameters; a DO block takes none, so by way of a setting.
    application
        .execute(
            "SELECT set_config('app.first', $1, false), set_config('app.second', $2, false)",
            &[&stage.bob.token, &stage.alice.token],
        )
        .await?;
    let block = "DO $do$ BEGIN
                     BEGIN
                         PERFORM mcp.enter(current_setting('app.first'));
                         RAISE division_by_zero;
                     EXCEPTION WHEN division_by_zero THEN NULL;
                     END;
                     PERFORM mcp.enter(current_setting('app.second'));
                 END $do$";
    assert_eq!(sqlstate(application.batch_execute(block).await)?, "25000");
    ensure!(user_id(&application).await?.is_none());
    Ok(())
}

async fn attack_a07_commit_ends_the_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    application.execute("SELECT set_config('app.token', $1, false)", &[&stage.alice.token]).await?;
    for end in ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"] {
        let block = format!(
            "DO $do$ BEGIN
                 PERFORM mcp.enter(current_setting('app.token'));
                 IF mcp.user_id() IS NULL THEN RAISE 'not armed'; END IF;
                 {end};
                 IF mcp.user_id() IS NOT NULL THEN RAISE 'the identity outlived {end}'; END IF;
                 IF EXISTS (SELECT FROM app.notes) THEN RAISE 'rows after {end}'; END IF;
             END $do$"
        );
        application.batch_execute(&block).await.with_context(|| end.to_owned())?;
    }
    for end in ["COMMIT", "ROLLBACK"] {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        application.batch_execute(&format!("{end} AND CHAIN")).await?;
        ensure!(user_id(&application).await?.is_none(), "the chained transaction inherits nobody");
        application.batch_execute("ROLLBACK").await?;
    }
    // In a tool there is no ending the transaction, and in an explicit block neither.
    for statement in
        ["COMMIT", "ROLLBACK", "DO $do$ BEGIN COMMIT; END $do$", "DO $do$ BEGIN ROLLBACK; END $do$"]
    {
        stage.refused(statement, &["2D000", "0A000"]).await?;
    }
    Ok(())
}

async fn attack_a07_procedures_are_no_tools(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage.superuser.batch_execute("CREATE PROCEDURE app.proc() LANGUAGE sql AS 'SELECT 1'").await?;
    let exposed = stage.superuser.batch_execute("SELECT mcp.expose_tool('app.proc()', name => 'proc')").await;
    let state = sqlstate(exposed)?;
    ensure!(["42809", "22023"].contains(&state.as_str()), "{state}");
    // A function that became a procedure after it was exposed is none either.
    stage
        .superuser
        .batch_execute(
            "CREATE FUNCTION app.turncoat() RETURNS integer LANGUAGE sql AS 'SELECT 1';
             SELECT mcp.expose_tool('app.turncoat()', name => 'turncoat');
             DROP FUNCTION app.turncoat();
             CREATE PROCEDURE app.turncoat() LANGUAGE sql AS 'SELECT 1'",
        )
        .await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "turncoat", json!({})).await?;
    ensure!(result["isError"] == true || result["status"] == "unknown_tool", "{result}");
    Ok(())
}

async fn attack_a08_prepare_transaction_is_refused(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage.refused("PREPARE TRANSACTION 'a08'", &["2D000", "0A000", "25000", "25001"]).await?;
    let application = stage.database.application().await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    assert_eq!(sqlstate(application.batch_execute("PREPARE TRANSACTION 'a08'").await)?, "55000");
    application.batch_execute("ROLLBACK").await?;
    ensure!(user_id(&application).await?.is_none());
    // Without an identity it is none of our business.
    application.batch_execute("BEGIN; SELECT 1; PREPARE TRANSACTION 'a08_nobody'").await?;
    application.batch_execute("ROLLBACK PREPARED 'a08_nobody'").await?;
    Ok(())
}

/// More executions than it takes until PostgreSQL settles for a generic plan.
const UNTIL_GENERIC: usize = 8;

async fn attack_a09_prepared_statements_follow_the_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    let statements = [
        application.prepare("SELECT body FROM app.notes").await?,
        application.prepare("SELECT body FROM app.notes WHERE owner = mcp.user_id()").await?,
        application.prepare("SELECT body FROM app.notes WHERE owner = (SELECT mcp.user_id())").await?,
        application.prepare("SELECT body FROM app.list_notes()").await?,
    ];
    for statement in &statements {
        for (session, expected) in
            [(&stage.alice, "of Alice"), (&stage.bob, "of Bob"), (&stage.alice, "of Alice")]
        {
            for _ in 0..UNTIL_GENERIC {
                application.batch_execute("BEGIN").await?;
                enter(&application, session).await?;
                let rows = application.query(statement, &[]).await?;
                application.batch_execute("COMMIT").await?;
                let bodies: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                assert_eq!(bodies, [expected]);
            }
        }
        ensure!(application.query(statement, &[]).await?.is_empty(), "nobody sees nothing");
    }
    Ok(())
}

async fn attack_a09_cached_plans_of_tools_follow_the_identity(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    for round in 0..UNTIL_GENERIC * 4 {
        let (session, expected) = if (round / UNTIL_GENERIC).is_multiple_of(2) {
            (&stage.alice, "of Alice")
        } else {
            (&stage.bob, "of Bob")
        };
        let result = call_tool(&stage.exec, &session.token, "list_notes", json!({})).await?;
        assert_eq!(result["structuredContent"]["rows"][0]["body"], expected, "{result}");
        assert_eq!(result["structuredContent"]["rows"].as_array().map(Vec::len), Some(1), "{result}");
    }
    Ok(())
}

async fn attack_a10_plans_follow_revoked_privileges(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let list = || call_tool(&stage.exec, &stage.alice.token, "list_notes", json!({}));
    for _ in 0..UNTIL_GENERIC {
        ensure!(list().await?["isError"] != true);
    }
    stage.superuser.batch_execute("REVOKE SELECT ON app.notes FROM mcp_user").await?;
    let refused = list().await?;
    ensure!(refused["isError"] == true && !refused.to_string().contains("of Alice"), "{refused}");
    stage.superuser.batch_execute("GRANT SELECT ON app.notes TO mcp_user").await?;
    ensure!(list().await?["isError"] != true);

    stage.superuser.batch_execute("REVOKE EXECUTE ON FUNCTION app.list_notes() FROM PUBLIC").await?;
    let refused = list().await?;
    ensure!(refused["isError"] == true || refused["status"] == "unknown_tool", "{refused}");
    ensure!(!refused.to_string().contains("of Alice"), "{refused}");

    // A policy that narrows holds for the next call of the same plan.
    stage.superuser.batch_execute("GRANT EXECUTE ON FUNCTION app.list_notes() TO PUBLIC").await?;
    for _ in 0..UNTIL_GENERIC {
        ensure!(list().await?["isError"] != true);
    }
    stage.superuser.batch_execute("CREATE POLICY nothing ON app.notes AS RESTRICTIVE USING (false)").await?;
    assert_eq!(list().await?["structuredContent"]["rows"], json!([]));
    Ok(())
}

async fn attack_a10_plans_follow_revoked_roles(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    // CVE-2026-14666: membership in a role opened a policy, and cached plans kept it open.
    let reader = format!("a10_reader_{}", Uuid::new_v4().simple());
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE ROLE {reader} NOLOGIN;
             CREATE POLICY readers ON app.notes FOR SELECT TO {reader} USING (true);
             GRANT {reader} TO app_login"
        ))
        .await?;
    let application = stage.database.application().await?;
    let statement = application.prepare("SELECT body FROM app.notes").await?;
    let seen = || async {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        let rows = application.query(&statement, &[]).await?.len();
        application.batch_execute("COMMIT").await?;
        Ok::<_, anyhow::Error>(rows)
    };
    for _ in 0..UNTIL_GENERIC {
        assert_eq!(seen().await?, 2, "the policy for readers applies to members");
    }
    stage.superuser.batch_execute(&format!("REVOKE {reader} FROM app_login")).await?;
    assert_eq!(seen().await?, 1, "the plan kept what the revoked role could see");

    // What tools run as inherits from nobody: a role granted to it by mistake opens nothing.
    stage.superuser.batch_execute(&format!("GRANT {reader} TO mcp_user")).await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "list_notes", json!({})).await?;
    stage.superuser.batch_execute(&format!("REVOKE {reader} FROM mcp_user")).await?;
    assert_eq!(result["structuredContent"]["rows"].as_array().map(Vec::len), Some(1), "{result}");
    Ok(())
}

async fn attack_a11_next_transaction_is_nobody(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let application = stage.database.application().await?;
    for end in ["COMMIT", "ROLLBACK"] {
        application.batch_execute("BEGIN").await?;
        enter(&application, &stage.alice).await?;
        ensure!(notes(&application).await? == ["of Alice"]);
        application.batch_execute(end).await?;
        let row = application
            .query_one(
                "SELECT mcp.user_id() IS NULL AND mcp.session_id() IS NULL AND mcp.issuer() IS NULL
                    AND mcp.subject() IS NULL AND mcp.client_id() IS NULL AND mcp.scopes() IS NULL
                    AND mcp.claims() IS NULL AND mcp.has_scope('x') IS NULL",
                &[],
            )
            .await?;
        ensure!(row.get::<_, bool>(0), "somebody is left after {end}");
        ensure!(notes(&application).await?.is_empty(), "rows are left after {end}");
        assert_eq!(sqlstate(application.query("SELECT mcp.require_user()", &[]).await)?, "42501");
    }
    // A statement alone is a transaction: armed within it, gone after it.
    enter(&application, &stage.alice).await?;
    ensure!(user_id(&application).await?.is_none());
    // After a sealed call, in the same transaction and in the next.
    stage.exec.batch_execute("BEGIN").await?;
    call_tool(&stage.exec, &stage.alice.token, "list_notes", json!({})).await?;
    stage.exec.batch_execute("COMMIT").await?;
    stage.clean(&stage.exec, "mcp_frontend_exec", "a sealed call").await
}

async fn attack_a17_tool_timeout_leaves_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "short_sleep", json!({"seconds": 30})).await?;
    ensure!(result["isError"] == true, "{result}");
    stage.clean(&stage.exec, "mcp_frontend_exec", "a tool's timeout").await?;
    let after = stage.inject("SELECT 1").await?;
    stage.still_alice("after a tool's timeout", &after)
}

async fn attack_a17_statement_timeout_leaves_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage.exec.batch_execute("SET statement_timeout = '300ms'").await?;
    let outcome = call_tool(&stage.exec, &stage.alice.token, "sleep", json!({"seconds": 30})).await;
    match outcome {
        Ok(result) => ensure!(result["isError"] == true, "{result}"),
        Err(error) => ensure!(error.code().is_some_and(|code| code.code() == "57014"), "{error}"),
    }
    stage.exec.batch_execute("RESET statement_timeout").await?;
    stage.clean(&stage.exec, "mcp_frontend_exec", "a statement timeout").await?;
    let after = stage.inject("SELECT 1").await?;
    stage.still_alice("after a statement timeout", &after)
}

async fn backend_of(client: &Client) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

/// Starts a long tool of Alice's on its own connection, and sends `signal` to its backend once it runs.
async fn interrupt(
    stage: &Stage<'_>,
    signal: &str,
) -> Result<(Client, Result<Value, tokio_postgres::Error>)> {
    let exec = stage.database.exec().await?;
    let backend = backend_of(&exec).await?;
    let token = stage.alice.token.clone();
    let call = tokio::spawn(async move {
        let outcome = call_tool(&exec, &token, "sleep", json!({"seconds": 9})).await;
        (exec, outcome)
    });
    wait_until("the tool to sleep", Duration::from_secs(10), || async {
        let row = stage
            .superuser
            .query_one("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1", &[&backend])
            .await?;
        Ok(row.get::<_, Option<bool>>(0) == Some(true))
    })
    .await?;
    stage.superuser.execute(&format!("SELECT {signal}($1)"), &[&backend]).await?;
    Ok(call.await?)
}

async fn attack_a17_cancel_leaves_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (exec, outcome) = interrupt(&stage, "pg_cancel_backend").await?;
    // It is not the tool's own time that is over.
    let error = outcome.err().context("an error of the call")?;
    let error = error.as_db_error().context("an error of PostgreSQL")?;
    assert_eq!((error.code().code(), error.message()), ("57014", "canceling statement due to user request"));
    stage.clean(&exec, "mcp_frontend_exec", "a cancelled tool").await?;
    let result = call_tool(&exec, &stage.bob.token, "list_notes", json!({})).await?;
    assert_eq!(result["structuredContent"]["rows"][0]["body"], "of Bob");
    Ok(())
}

async fn attack_a17_terminated_backend_leaves_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let (_, outcome) = interrupt(&stage, "pg_terminate_backend").await?;
    assert_eq!(sqlstate(outcome)?, "57P01");
    let exec = stage.database.exec().await?;
    let result = call_tool(&exec, &stage.alice.token, "list_notes", json!({})).await?;
    assert_eq!(result["structuredContent"]["rows"][0]["body"], "of Alice");
    Ok(())
}

async fn attack_a17_exhausted_memory_leaves_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage
        .superuser
        .batch_execute(
            "SET ROLE app_owner;
             CREATE FUNCTION app.endless(depth integer) RETURNS integer LANGUAGE plpgsql
                 AS $$ BEGIN RETURN app.endless(depth + 1); END $$;
             RESET ROLE",
        )
        .await?;
    for (statement, state) in [
        ("SELECT repeat(repeat('x', 1000000), 2000)", "54000"),
        ("SELECT array_fill(0, ARRAY[500000000])", "54000"),
        ("SELECT app.endless(0)", "54001"),
    ] {
        // Caught, the tool goes on as who it is; not caught, the call ends, and the backend is as it was.
        let after = stage.inject(statement).await?;
        assert_eq!(after["sqlstate"], state, "{statement}");
        stage.still_alice(statement, &after)?;
        let outcome =
            call_tool(&stage.exec, &stage.alice.token, "run", json!({"statement": statement})).await;
        match outcome {
            Ok(result) => ensure!(result["isError"] == true, "{statement}: {result}"),
            Err(error) => ensure!(error.code().is_some_and(|code| code.code() == state), "{error}"),
        }
        stage.clean(&stage.exec, "mcp_frontend_exec", statement).await?;
        let result = call_tool(&stage.exec, &stage.bob.token, "list_notes", json!({})).await?;
        assert_eq!(result["structuredContent"]["rows"][0]["body"], "of Bob");
    }
    Ok(())
}

async fn attack_a17_tools_signal_nobody(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    // Its own backend, another of the same login, one of the other login, one of the superuser.
    for client in [&stage.exec, &stage.database.exec().await?, &stage.auth, &stage.superuser] {
        let backend = backend_of(client).await?;
        for signal in ["pg_cancel_backend", "pg_terminate_backend"] {
            stage.refused(&format!("SELECT {signal}({backend})"), &["42501"]).await?;
        }
        client.batch_execute("SELECT 1").await?;
    }
    Ok(())
}

async fn attack_a18_tools_do_not_sign_in(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    // The stolen token travels as a setting, so that not even a failing statement repeats it.
    stage.exec.execute("SELECT set_config('app.stolen', $1, false)", &[&stage.bob.token]).await?;
    let stolen = "current_setting('app.stolen')";
    for statement in [
        format!("SELECT mcp.enter({stolen})"),
        format!("SELECT mcp.lookup_session({stolen})"),
        format!("SELECT mcp.touch_session({stolen})"),
        format!("SELECT mcp.session_oauth_data({stolen})"),
        format!("SELECT mcp.revoke_session({stolen})"),
        format!("SELECT mcp.refresh_session({stolen})"),
        "SELECT mcp.create_session('https://idp.test', 'bob', '{}')".to_owned(),
        format!("SELECT mcp.revoke_user_sessions('{}')", stage.bob.user_id),
        format!("SELECT mcp.revoke_session_by_id('{}')", stage.bob.id),
        "SELECT mcp.cleanup_expired_sessions()".to_owned(),
        "SELECT * FROM mcp.sessions".to_owned(),
        "SELECT * FROM mcp.sealed_tokens".to_owned(),
        "SELECT * FROM mcp.refresh_tokens".to_owned(),
        "SELECT mcp.expose_tool('pg_catalog.version()')".to_owned(),
    ] {
        let after = stage.inject(&statement).await?;
        let state =
            after["sqlstate"].as_str().with_context(|| format!("{statement} was allowed: {after}"))?;
        ensure!(state == "42501", "{statement}: {state}");
        stage.still_alice(&statement, &after)?;
    }
    // Through a definer's function the privilege is there; the identity still cannot be exchanged.
    let helper = format!("a18_helper_{}", Uuid::new_v4().simple());
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE ROLE {helper} NOLOGIN; GRANT mcp_auth TO {helper}; GRANT USAGE, CREATE ON SCHEMA app TO {helper};
             SET ROLE {helper};
             CREATE FUNCTION app.enter_for(token text) RETURNS text LANGUAGE sql SECURITY DEFINER
                 AS 'SELECT status FROM mcp.enter(token)';
             RESET ROLE"
        ))
        .await?;
    stage.refused(&format!("SELECT app.enter_for({stolen})"), &["42501", "55000"]).await?;
    // Nor do the bindings of another user's session fall to a tool.
    let ended = stage.inject(&format!("SELECT mcp.end_session('{}')", stage.bob.id)).await?;
    stage.still_alice("end_session of another", &ended)?;
    assert_eq!(tests::session::status(&stage.auth, &stage.bob.token).await?, "active");
    Ok(())
}

async fn attack_a19_tools_do_not_call_tools(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage
        .exec
        .execute(
            "SELECT set_config('app.own', $1, false), set_config('app.stolen', $2, false)",
            &[&stage.alice.token, &stage.bob.token],
        )
        .await?;
    let helper = format!("a19_helper_{}", Uuid::new_v4().simple());
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE ROLE {helper} NOLOGIN; GRANT mcp_exec TO {helper}; GRANT USAGE, CREATE ON SCHEMA app TO {helper};
             SET ROLE {helper};
             CREATE FUNCTION app.call_for(token text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN RETURN mcp.call_tool(token, 'list_notes'); END $$;
             CREATE FUNCTION app.list_for(token text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN RETURN (SELECT count(*) FROM mcp.list_tools(token)); END $$;
             RESET ROLE"
        ))
        .await?;
    for token in ["current_setting('app.own')", "current_setting('app.stolen')"] {
        stage.refused(&format!("SELECT mcp.call_tool({token}, 'list_notes')"), &["42501"]).await?;
        stage.refused(&format!("SELECT mcp.list_tools({token})"), &["42501"]).await?;
        stage.refused(&format!("SELECT app.call_for({token})"), &["42501", "55000"]).await?;
    }
    Ok(())
}

async fn attack_a20_tools_create_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    for schema in ["", "app.", "mcp.", "public.", "pg_temp.", "pg_catalog."] {
        for statement in [
            format!("CREATE TABLE {schema}notes2 (owner uuid)"),
            format!(
                "CREATE FUNCTION {schema}user_id() RETURNS uuid LANGUAGE sql AS $f$ SELECT '{}'::uuid $f$",
                stage.bob.user_id
            ),
            format!("CREATE TYPE {schema}trap AS ENUM ('a')"),
            format!("CREATE DOMAIN {schema}trap AS uuid"),
            format!("CREATE VIEW {schema}notes AS SELECT 1"),
            format!("CREATE SEQUENCE {schema}trap"),
            format!("CREATE AGGREGATE {schema}trap(integer) (SFUNC = int4pl, STYPE = integer)"),
            format!("CREATE COLLATION {schema}trap FROM \"C\""),
            format!("CREATE TEXT SEARCH DICTIONARY {schema}trap (TEMPLATE = simple)"),
            format!(
                "CREATE OPERATOR {schema}= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = pg_catalog.uuid_ne)"
            ),
        ] {
            stage.refused(&statement, &["42501", "42P16", "3F000"]).await?;
        }
    }
    for statement in [
        "CREATE TEMP TABLE notes (owner uuid, body text)",
        "CREATE TEMP VIEW notes AS SELECT 1",
        "CREATE TEMP SEQUENCE notes",
        "SELECT 1 AS x INTO TEMP notes",
        "CREATE CAST (uuid AS bigint) WITH INOUT AS IMPLICIT",
        "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT ALL ON TABLES TO PUBLIC",
        "CREATE SCHEMA evil",
        "CREATE ROLE evil",
        "CREATE EXTENSION plpgsql",
        "ALTER TABLE app.notes DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE app.notes OWNER TO mcp_user",
        "ALTER FUNCTION app.list_notes() SECURITY DEFINER",
        "DROP FUNCTION app.list_notes()",
        "DROP POLICY own ON app.notes",
        "CREATE POLICY all_of_it ON app.notes USING (true)",
        "CREATE TRIGGER t BEFORE INSERT ON app.notes EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "TRUNCATE app.notes",
        "CREATE RULE r AS ON SELECT TO app.notes DO INSTEAD SELECT 1",
        "GRANT app_owner TO mcp_user",
        "ALTER ROLE mcp_user BYPASSRLS",
        "ALTER SYSTEM SET log_statement = 'none'",
        "ALTER DATABASE template1 SET work_mem = '1MB'",
        "LOAD 'auto_explain'",
        "COPY app.notes TO PROGRAM 'true'",
        "COPY app.notes FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_reload_conf()",
        "SELECT lo_import('/etc/passwd')",
    ] {
        let after = stage.inject(statement).await?;
        let state =
            after["sqlstate"].as_str().with_context(|| format!("{statement} was allowed: {after}"))?;
        // 25001: what cannot run in a transaction cannot run in a tool.
        ensure!(state.starts_with("42") || ["2BP01", "25001"].contains(&state), "{statement}: {state}");
        stage.still_alice(statement, &after)?;
    }
    // DROP OWNED in a tool drops what the tool's role owns, which is nothing, and no policy (CVE-2026-116311).
    let after = stage.inject("DROP OWNED BY mcp_user").await?;
    stage.still_alice("DROP OWNED BY mcp_user", &after)?;
    Ok(())
}

async fn attack_a21_settings_of_a_tool_end_with_it(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let before = state_of(&stage.exec).await?;
    for statement in [
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('search_path', 'evil', false)",
        "SELECT set_config('default_transaction_read_only', 'on', false)",
        "SELECT set_config('work_mem', '64MB', false)",
        "SELECT set_config('app.made_up', 'here', false)",
        "SET statement_timeout = 0",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET row_security = off",
        "SET lock_timeout = 1",
        "SET client_min_messages = 'debug5'",
        "SET idle_in_transaction_session_timeout = 1",
        "SET default_transaction_isolation = 'serializable'",
    ] {
        for tool in ["try", "run"] {
            // `row_security = off` turns the tool's own look into an error; the call ends then, and that is well.
            let result =
                call_tool(&stage.exec, &stage.alice.token, tool, json!({"statement": statement})).await?;
            ensure!(result["content"].is_array(), "{statement}: {result}");
            let after = state_of(&stage.exec).await?;
            ensure!(after == before, "{statement} by {tool} left a trace: {}", difference(&before, &after));
        }
    }
    // The tool's timeout holds even against a tool that lifts it.
    let lifted = json!({"statement": "SELECT set_config('statement_timeout', '0', false), pg_sleep(30)"});
    stage
        .superuser
        .batch_execute("SELECT mcp.expose_tool('app.run(text)', name => 'run_briefly', timeout => '500 ms')")
        .await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "run_briefly", lifted).await?;
    ensure!(result["isError"] == true, "{result}");
    ensure!(state_of(&stage.exec).await? == before);
    Ok(())
}

async fn attack_a21_nothing_of_a_tool_stays_in_the_backend(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let before = state_of(&stage.exec).await?;
    for statement in [
        "LISTEN a21",
        "PREPARE a21 AS SELECT 1",
        "DECLARE a21 CURSOR WITH HOLD FOR SELECT 1",
        "CREATE TEMP TABLE a21 (x integer)",
        "SELECT pg_advisory_lock(21)",
        "SELECT pg_advisory_lock_shared(21)",
        "SELECT pg_try_advisory_lock(21)",
        "SELECT pg_advisory_xact_lock(21)",
    ] {
        for tool in ["try", "run"] {
            call_tool(&stage.exec, &stage.alice.token, tool, json!({"statement": statement})).await?;
            let after = state_of(&stage.exec).await?;
            ensure!(after == before, "{statement} by {tool} left a trace: {}", difference(&before, &after));
        }
    }
    Ok(())
}

/// Two states of a backend that belong to no transaction: what sequences gave, and where random() goes on from.
async fn attack_a21_numbers_of_a_tool_are_not_the_next_ones(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    stage
        .superuser
        .batch_execute(
            "SET ROLE app_owner;
             CREATE SEQUENCE app.counter;
             GRANT USAGE ON SEQUENCE app.counter TO mcp_user;
             CREATE FUNCTION app.draw() RETURNS double precision LANGUAGE sql AS 'SELECT random()';
             RESET ROLE;
             SELECT mcp.expose_tool('app.draw()', name => 'draw')",
        )
        .await?;
    for tool in ["try", "run"] {
        let drawn = json!({"statement": "SELECT nextval('app.counter')"});
        let result = call_tool(&stage.exec, &stage.alice.token, tool, drawn).await?;
        ensure!(result["isError"] != true, "{result}");
        let next = json!({"statement": "SELECT lastval()"});
        let result = call_tool(&stage.exec, &stage.bob.token, "try", next).await?;
        let after: Value = serde_json::from_str(&text_blocks(&result))?;
        assert_eq!(after["sqlstate"], "55000", "Bob was told the number that Alice drew");
    }
    for statement in ["SELECT setseed(0.42)", "SET seed = 0.42", "SELECT set_config('seed', '0.42', false)"] {
        let mut drawn = Vec::new();
        for _ in 0..2 {
            stage.inject(statement).await?;
            let result = call_tool(&stage.exec, &stage.bob.token, "draw", json!({})).await?;
            drawn.push(text_blocks(&result));
        }
        ensure!(drawn[0] != drawn[1], "{statement}: Alice knows that Bob draws {}", drawn[0]);
    }
    Ok(())
}

async fn attack_a22_search_path_changes_nothing(world: &Shared) -> Result<()> {
    let stage = Stage::set(world).await?;
    let bob = stage.bob.user_id;
    stage
        .superuser
        .batch_execute(&format!(
            "CREATE SCHEMA evil;
             GRANT USAGE ON SCHEMA evil TO PUBLIC;
             CREATE FUNCTION evil.user_id() RETURNS uuid LANGUAGE sql AS $$ SELECT '{bob}'::uuid $$;
             CREATE FUNCTION evil.uuid_eq(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.uuid_eq);
             CREATE FUNCTION evil.texteq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.texteq);
             CREATE FUNCTION evil.byteaeq(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR evil.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = evil.byteaeq);
             CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
             CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
             CREATE VIEW evil.sessions AS SELECT NULL::uuid AS session_id;
             CREATE VIEW evil.tools AS SELECT 'list_notes'::text AS name;"
        ))
        .await?;
    let path = "SET search_path = evil, pg_catalog, pg_temp";
    let application = stage.database.application().await?;
    application.batch_execute(path).await?;
    application.batch_execute("BEGIN").await?;
    enter(&application, &stage.alice).await?;
    ensure!(user_id(&application).await? == Some(stage.alice.user_id));
    ensure!(notes(&application).await? == ["of Alice"], "the policy's operator was bound when it was made");
    application.batch_execute("COMMIT").await?;
    // A wrong secret is wrong under an operator that says yes to everything.
    let mut wrong = stage.bob.token.clone();
    wrong.replace_range(30..31, if wrong[30..31] == *"A" { "B" } else { "A" });
    let row = application.query_one("SELECT status FROM mcp.enter($1)", &[&wrong]).await?;
    assert_eq!(row.get::<_, String>(0), "unknown");

    stage.exec.batch_execute(path).await?;
    let result = call_tool(&stage.exec, &stage.alice.token, "list_notes", json!({})).await?;
    assert_eq!(result["structuredContent"]["rows"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(result["structuredContent"]["rows"][0]["body"], "of Alice");
    let after = stage.inject(path).await?;
    stage.still_alice(path, &after)?;
    stage.auth.batch_execute(path).await?;
    let mine = NewSession::of("carol").create(&stage.auth).await?;
    assert_eq!(tests::session::status(&stage.auth, &mine.token).await?, "active");
    let row = stage.auth.query_one("SELECT mcp.cleanup_expired_sessions()", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 0, "evil.now() must not decide what has expired");
    Ok(())
}
