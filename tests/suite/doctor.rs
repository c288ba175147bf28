//! `mcp-frontend doctor`, and of `mcp.doctor()` what needs more than a catalog: each fault is planted, is the one thing
//! found, is mended as the finding says, and is gone.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Options, Stop, free_port};
use tests::frontend::{Frontend, Settings};
use tests::idp::stub::{Endpoint, Fault, StubProvider};
use tokio_postgres::Client;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        doctor_finds_faults_of_the_provider,
        doctor_finds_faults_of_workos,
        doctor_finds_faults_of_the_settings,
        doctor_finds_faults_of_the_database,
        doctor_finds_a_server_that_is_not_there,
        checklist_64_doctor_finds_an_old_pooler,
        doctor_finds_faults_of_the_key_file,
        doctor_finds_that_nobody_cleans_up,
    ]
}

/// Severity, check, finding and remedy.
type Finding = (String, String, String, String);

fn findings(settings: &Settings) -> Result<BTreeSet<Finding>> {
    let output = settings.run(&["doctor", "--json"])?;
    let text = String::from_utf8(output.stdout)?;
    let found: Vec<Value> = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let field = |found: &Value, name: &str| found[name].as_str().unwrap_or_default().to_owned();
    let rank =
        |found: &Value| ["error", "warning", "info"].iter().position(|name| found["severity"] == *name);
    ensure!(found.is_sorted_by_key(rank), "not the worst first: {text}");
    let found: BTreeSet<Finding> = found
        .iter()
        .map(|found| {
            let [severity, check, finding, remedy] =
                ["severity", "check_name", "finding", "remedy"].map(|name| field(found, name));
            (severity, check, finding, remedy)
        })
        .collect();
    // The exit status is for scripts.
    let has = |severity: &str| found.iter().any(|finding| finding.0 == severity);
    let status = if has("error") { 2 } else { i32::from(has("warning")) };
    ensure!(output.status.code() == Some(status), "{} beside {found:?}", output.status);
    ensure!(found.iter().all(|found| !found.3.is_empty()), "a finding without a remedy: {found:?}");
    Ok(found)
}

/// An installation with what is found in it before anything is planted: the suite's database is no model.
struct Patient {
    settings: Settings,
    provider: StubProvider,
    before: BTreeSet<Finding>,
    // Answers at the public URL.
    _frontend: Frontend,
}

impl Patient {
    async fn admit(
        world: &Shared,
        database: &str,
        name: fn(&StubProvider, Settings) -> Settings,
    ) -> Result<Self> {
        let cluster = world.cluster().await?;
        let provider = StubProvider::start().await?;
        let settings = world.settings(&world.database().await?)?;
        let settings = match database {
            "" => settings,
            database => settings
                .set("DATABASE_URL", &cluster.url("mcp_frontend_auth", database))
                .set("MCP_EXEC_DATABASE_URL", &cluster.url("mcp_frontend_exec", database)),
        };
        let settings = name(&provider, settings);
        let frontend = settings.start().await?;
        let before = tokio::task::block_in_place(|| findings(&settings))?;
        let planted = ["provider", "pooler_version", "public_url", "allowed_hosts", "logins", "database"];
        let early: Vec<_> = before.iter().filter(|found| planted.contains(&found.1.as_str())).collect();
        ensure!(early.is_empty(), "found before it was planted: {early:?}");
        Ok(Self { settings, provider, before, _frontend: frontend })
    }

    /// What is found with `settings` and was not before.
    fn news(&self, settings: &Settings) -> Result<Vec<Finding>> {
        let found = tokio::task::block_in_place(|| findings(settings))?;
        Ok(found.difference(&self.before).cloned().collect())
    }

    /// The one finding, of this severity and check.
    fn only(&self, settings: &Settings, severity: &str, check: &str) -> Result<Finding> {
        let mut news = self.news(settings)?;
        ensure!(news.len() == 1, "expected {check} alone, found {news:?}");
        let found = news.remove(0);
        ensure!((found.0.as_str(), found.1.as_str()) == (severity, check), "expected {check}: {found:?}");
        Ok(found)
    }

    fn well(&self, settings: &Settings) -> Result<()> {
        let news = self.news(settings)?;
        ensure!(news.is_empty(), "still there: {news:?}");
        Ok(())
    }
}

/// The settings with what a remedy of the form `NAME=value` sets.
fn follow(settings: &Settings, remedy: &str) -> Result<Settings> {
    let (name, value) = remedy.split_once('=').with_context(|| format!("no setting: {remedy}"))?;
    ensure!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "no setting: {remedy}");
    Ok(settings.clone().set(name, value.trim_matches('\'')))
}

async fn doctor_finds_faults_of_the_provider(world: &Shared) -> Result<()> {
    let patient = Patient::admit(world, "", StubProvider::oidc).await?;
    let (settings, stub) = (&patient.settings, &patient.provider);
    for (member, value, severity, check) in [
        ("code_challenge_methods_supported", json!(["plain"]), "error", "provider_pkce"),
        ("code_challenge_methods_supported", Value::Null, "info", "provider_pkce"),
        ("response_types_supported", json!(["id_token"]), "error", "provider_flow"),
        ("issuer", json!("https://another.example"), "error", "provider"),
        ("token_endpoint", Value::Null, "error", "provider"),
    ] {
        stub.forge_metadata(move |document| {
            match value.clone() {
                Value::Null => document.remove(member),
                value => document.insert(member.to_owned(), value),
            };
        });
        let found = patient.only(settings, severity, check).with_context(|| format!("{member} planted"))?;
        ensure!(found.3.starts_with("OIDC_ISSUER=") == (member == "issuer"), "{found:?}");
        stub.behave();
        patient.well(settings)?;
    }
    let empty = Fault::Body("application/json", json!({"keys": []}).to_string());
    let unusable = json!({"keys": [
        {"kty": "EC", "crv": "P-384", "use": "sig", "x": "AQAB", "y": "AQAB"},
        {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
    ]});
    for (endpoint, fault, check) in [
        (Endpoint::Jwks, empty, "provider_keys"),
        (Endpoint::Jwks, Fault::Body("application/json", unusable.to_string()), "provider_keys"),
        (Endpoint::Jwks, Fault::Status(500), "provider"),
        (Endpoint::Jwks, Fault::Padded((1 << 20) + 1), "provider"),
        (Endpoint::Authorize, Fault::Padded((1 << 20) + 1), "provider"),
        (Endpoint::Discovery, Fault::Status(404), "provider"),
        (Endpoint::Discovery, Fault::Close, "provider"),
        (Endpoint::Discovery, Fault::Body("text/html", "<h1>Hello</h1>".to_owned()), "provider"),
        (Endpoint::Authorize, Fault::Status(400), "provider_client"),
    ] {
        let what = format!("{fault:?} planted");
        stub.fail(endpoint, fault);
        let found = patient.only(settings, "error", check).context(what)?;
        if check == "provider_client" {
            ensure!(found.3.contains(&settings.callback()), "{found:?}");
        }
        stub.behave();
        patient.well(settings)?;
    }
    // Both of two unknown scopes have the same remedy, so that either one mends both.
    stub.forge_metadata(|document| {
        document.insert("scopes_supported".to_owned(), json!(["openid", "profile"]));
    });
    let unknown = settings.clone().set("OIDC_SCOPES", "openid groups profile roles");
    let news = patient.news(&unknown)?;
    ensure!(news.len() == 2 && news.iter().all(|found| found.1 == "provider_scopes"), "{news:?}");
    for found in news {
        patient.well(&follow(&unknown, &found.3)?)?;
    }
    Ok(())
}

async fn doctor_finds_faults_of_workos(world: &Shared) -> Result<()> {
    let patient = Patient::admit(world, "", StubProvider::workos).await?;
    let (settings, stub) = (&patient.settings, &patient.provider);
    for (endpoint, fault, check) in [
        (Endpoint::Jwks, Fault::Status(404), "provider"),
        (Endpoint::Authorize, Fault::Status(400), "provider_client"),
    ] {
        stub.fail(endpoint, fault);
        let found = patient.only(settings, "error", check)?;
        if check == "provider" {
            // A command that shows the fault.
            let shell = Command::new("sh")
                .args(["-c", &found.3])
                .env("WORKOS_API_URL", stub.issuer())
                .env("WORKOS_CLIENT_ID", "client_01STUB")
                .output()?;
            let text = String::from_utf8_lossy(&shell.stdout).into_owned();
            ensure!(text.contains("404") && text.contains("secret-internal-detail"), "{}: {text}", found.3);
        }
        stub.behave();
        patient.well(settings)?;
    }
    Ok(())
}

async fn doctor_finds_faults_of_the_settings(world: &Shared) -> Result<()> {
    let patient = Patient::admit(world, "", StubProvider::oidc).await?;
    let sound = &patient.settings;
    for (name, value, severity, check) in [
        ("MCP_ALLOWED_ORIGINS", "https://good.example,http://bad.example", "warning", "allowed_origins"),
        ("MCP_ADMIN_BIND", "0.0.0.0:9", "warning", "admin_bind"),
    ] {
        let planted = sound.clone().set(name, value);
        let found = patient.only(&planted, severity, check)?;
        ensure!(found.3.starts_with(&format!("{name}=")), "{found:?}");
        ensure!(!value.contains("good") || found.3.ends_with("=https://good.example"), "{found:?}");
        patient.well(&follow(&planted, &found.3)?)?;
    }
    // Set to nothing is not set.
    patient.well(&sound.clone().set("MCP_ADMIN_BIND", ""))?;
    // Everybody may reach what is sent over plain HTTP.
    let bind = format!("0.0.0.0:{}", free_port()?);
    let open = sound
        .clone()
        .set("MCP_BIND", &bind)
        .set("MCP_COOKIE_DOOR", "on")
        .set("MCP_ALLOWED_HOSTS", "other.example");
    let news = patient.news(&open)?;
    let checks: Vec<_> = news.iter().map(|found| (found.0.as_str(), found.1.as_str())).collect();
    ensure!(
        checks == [("error", "allowed_hosts"), ("error", "cookie_door"), ("warning", "public_url")],
        "{news:?}"
    );
    let encrypted = open.clone().set("MCP_PUBLIC_URL", &format!("https://127.0.0.1:{}", free_port()?));
    let news_of_it = patient.news(&encrypted)?;
    ensure!(news_of_it.iter().all(|found| found.1 != "cookie_door"), "{news_of_it:?}");
    patient.well(&sound.clone().set("MCP_COOKIE_DOOR", "on"))?;
    let closed = follow(&follow(&open, &news[0].3)?, &news[1].3)?;
    patient.only(&closed, "warning", "public_url")?;
    patient.well(&closed.set("MCP_BIND", "127.0.0.1:8080"))?;
    // Nobody answers at the public URL.
    let elsewhere = sound.clone().set("MCP_PUBLIC_URL", &format!("http://127.0.0.1:{}", free_port()?));
    let found = patient.only(&elsewhere, "warning", "public_url")?;
    ensure!(found.3.starts_with("curl "), "{found:?}");
    // Somebody takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let nobody = sound.clone().set("MCP_PUBLIC_URL", &format!("http://{}", silent.local_addr()?));
    let found = patient.only(&nobody, "warning", "public_url")?;
    ensure!(found.2.contains("does not answer"), "{found:?}");
    // Somebody else does.
    let another = sound.clone().set("MCP_PUBLIC_URL", patient.provider.issuer());
    let found = patient.only(&another, "warning", "public_url")?;
    ensure!(found.2.contains("answers status 404"), "{found:?}");
    Ok(())
}

async fn doctor_finds_faults_of_the_database(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let cluster = database.cluster();
    let patient = Patient::admit(world, database.name(), StubProvider::oidc).await?;
    let sound = &patient.settings;
    // What the database's own doctor finds is passed on, with a remedy that psql takes.
    let superuser = database.superuser().await?;
    for (fault, check) in [
        ("GRANT EXECUTE ON FUNCTION mcp.create_session TO PUBLIC", "function_grants"),
        ("CREATE POLICY open ON app.notes USING (true) WITH CHECK (true)", "policy_constant"),
        ("GRANT SELECT ON mcp.sessions TO PUBLIC", "table_grants"),
        ("REVOKE EXECUTE ON FUNCTION mcp.doctor() FROM mcp_auth", "database"),
    ] {
        superuser.batch_execute(fault).await?;
        let found = patient.only(sound, "error", check)?;
        superuser.batch_execute(&found.3).await?;
        patient.well(sound)?;
    }
    let same = sound.clone().set("MCP_EXEC_DATABASE_URL", &cluster.url("mcp_frontend_auth", database.name()));
    let news = patient.news(&same)?;
    ensure!(news.iter().any(|found| found.1 == "logins" && found.0 == "error"), "{news:?}");
    // A database without the extension; one that nobody listens for.
    for url in [
        cluster.url("mcp_frontend_auth", "template1"),
        format!("postgresql://mcp_frontend_auth@127.0.0.1:{}/app", free_port()?),
    ] {
        let wrong = sound.clone().set("DATABASE_URL", &url);
        let found = findings_of(&patient, &wrong, "database")?;
        ensure!(found.0 == "error" && found.3.starts_with("psql "), "{found:?}");
    }
    Ok(())
}

/// The news of one check among others.
fn findings_of(patient: &Patient, settings: &Settings, check: &str) -> Result<Finding> {
    let news = patient.news(settings)?;
    news.iter().find(|found| found.1 == check).cloned().with_context(|| format!("no {check}: {news:?}"))
}

async fn doctor_finds_a_server_that_is_not_there(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let provider = StubProvider::start().await?;
    // Nothing of this one runs but the database: the doctor can be asked before the first start.
    let settings = provider.oidc(world.settings(&database)?);
    let found = tokio::task::block_in_place(|| findings(&settings))?;
    let ours: Vec<_> = found.iter().filter(|found| found.1 == "public_url").collect();
    ensure!(ours.len() == 1 && ours[0].0 == "warning", "{found:?}");
    ensure!(ours[0].2.contains("cannot be reached"), "{found:?}");
    let text = String::from_utf8(tokio::task::block_in_place(|| settings.run(&["doctor"]))?.stdout)?;
    for found in &found {
        ensure!(text.contains(&found.2) && text.contains(&found.3), "{} is missing in {text}", found.2);
    }
    let usage = tokio::task::block_in_place(|| settings.run(&["doctor", "--help"]))?;
    assert_eq!(usage.status.code(), Some(64));
    let said = String::from_utf8(usage.stderr)?;
    ensure!(said.contains("mcp-frontend [doctor [--json]]"), "{said}");
    Ok(())
}

async fn checklist_64_doctor_finds_an_old_pooler(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let bouncer = world::pgbouncer(database.cluster(), 4).await?;
    let version = bouncer.version().await?;
    let patient = Patient::admit(world, database.name(), StubProvider::oidc).await?;
    let sound = patient.settings.clone().set("MCP_PREPARED_STATEMENTS", "off");
    let [auth, exec] =
        ["mcp_frontend_auth", "mcp_frontend_exec"].map(|login| bouncer.url(login, database.name()));
    // The pooler tells its version to one of the two logins.
    let hidden = sound.clone().set("DATABASE_URL", &auth);
    let found = patient.only(&hidden, "info", "pooler_version")?;
    ensure!(found.2.starts_with("DATABASE_URL "), "{found:?}");
    let both = hidden.set("MCP_EXEC_DATABASE_URL", &exec);
    if version < [1, 26, 1] {
        let found = patient.only(&both, "error", "pooler_version")?;
        let [major, minor, patch] = version;
        ensure!(found.2.contains(&format!("PgBouncer {major}.{minor}.{patch}")), "{found:?}");
        ensure!(found.3.contains("pgbouncer"), "{found:?}");
    } else {
        patient.only(&both, "info", "pooler_version")?;
    }
    // Around it, it is gone.
    patient.well(&sound)
}

/// What `mcp.doctor()` says of one check.
async fn asked(client: &Client, check: &str) -> Result<Vec<(String, String, String)>> {
    let statement = "SELECT severity, finding, remedy FROM mcp.doctor() WHERE check_name = $1";
    let rows = client.query(statement, &[&check]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// As whoever administers the machine: runs the remedy in a shell.
fn shell(command: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", command]).output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn doctor_finds_faults_of_the_key_file(world: &Shared) -> Result<()> {
    let cluster = Cluster::start(&Options::default()).await?;
    let database = cluster.database().await?;
    let superuser = database.superuser().await?;
    let none = asked(&superuser, "key_file").await?;
    ensure!(none.len() == 1 && none[0].0 == "info", "{none:?}");

    // The quote is for the shell that runs the remedy.
    let path = cluster.directory().join("it's a key");
    let set = format!("ALTER SYSTEM SET mcp.key_file = '{}'", path.display().to_string().replace('\'', "''"));
    superuser.batch_execute(&set).await?;
    superuser.batch_execute("SELECT pg_reload_conf()").await?;
    tests::wait::wait_until("the setting", std::time::Duration::from_secs(30), || async {
        Ok(asked(&database.superuser().await?, "key_file").await?.iter().all(|found| found.0 != "info"))
    })
    .await?;
    for plant in ["absent", "readable", "garbage"] {
        let superuser = database.superuser().await?;
        match plant {
            "absent" => {}
            "readable" => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?,
            _ => std::fs::write(&path, "no key\n")?,
        }
        let found = asked(&superuser, "key_file").await?;
        ensure!(found.len() == 1 && found[0].0 == "error", "{plant}: {found:?}");
        shell(&found[0].2)?;
        let left = asked(&superuser, "key_file").await?;
        ensure!(left.is_empty(), "{plant}: after {}: {left:?}", found[0].2);
    }
    tests::ledger::record("server key", std::fs::read_to_string(&path)?.trim());
    // A key in the data directory goes along with every base backup.
    let inside = cluster.data().join("key");
    std::fs::rename(&path, &inside)?;
    std::os::unix::fs::symlink(&inside, &path)?;
    let found = asked(&database.superuser().await?, "key_file").await?;
    ensure!(found.len() == 1 && found[0].0 == "warning", "{found:?}");
    ensure!(found[0].1.contains("data directory"), "{found:?}");
    world.keep_log(&cluster)?;
    Ok(())
}

async fn doctor_finds_that_nobody_cleans_up(world: &Shared) -> Result<()> {
    let options = Options { preload: false, ..Options::default() };
    let cluster = Cluster::start(&options.set("shared_preload_libraries", "pg_stat_statements")).await?;
    let database = cluster.database().await?;
    // First the library, and with it the setting that says where: each takes a restart.
    for what in ["not preloaded", "mcp.database is not set"] {
        let superuser = database.superuser().await?;
        let found = asked(&superuser, "worker").await?;
        ensure!(found.len() == 1 && found[0].0 == "warning" && found[0].1.contains(what), "{found:?}");
        // In a session of its own, as an operator does it.
        database.superuser().await?.batch_execute(&found[0].2).await.context(what)?;
        drop(superuser);
        cluster.stop(Stop::Fast)?;
        cluster.resume().await?;
    }
    tests::wait::wait_until("the worker", std::time::Duration::from_secs(60), || async {
        Ok(asked(&database.superuser().await?, "worker").await?.is_empty())
    })
    .await?;
    // What was loaded before still is.
    let superuser = database.superuser().await?;
    let libraries = superuser.query_one("SHOW shared_preload_libraries", &[]).await?.get::<_, String>(0);
    assert_eq!(libraries, "pg_stat_statements, mcp_sessions");

    // One database has the worker; here is another.
    superuser.batch_execute(r#"CREATE DATABASE "it's another""#).await?;
    let other = cluster.superuser("it's another").await?;
    other
        .batch_execute(
            "CREATE EXTENSION mcp_sessions; CREATE TABLE there (); ALTER TABLE there OWNER TO mcp_user",
        )
        .await?;
    let here = asked(&superuser, "owned_objects").await?;
    ensure!(here.is_empty(), "what is in another database: {here:?}");
    ensure!(asked(&other, "owned_objects").await?.len() == 1, "and there it is not found");
    let found = asked(&other, "worker").await?;
    ensure!(found.len() == 1 && found[0].1.contains("not in it's another"), "{found:?}");
    other.batch_execute(&found[0].2).await?;
    let statement =
        "SELECT setting FROM pg_file_settings WHERE name = 'mcp.database' ORDER BY seqno DESC LIMIT 1";
    assert_eq!(other.query_one(statement, &[]).await?.get::<_, String>(0), "it's another");

    // A worker that ended, and cannot start again where nobody may connect.
    let name = database.name();
    other.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await?;
    let stop =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'mcp_sessions cleanup'";
    other.execute(stop, &[]).await?;
    tests::wait::wait_until("the worker to be missed", std::time::Duration::from_secs(30), || async {
        let found = asked(&superuser, "worker").await?;
        Ok(found.len() == 1 && found[0].1.contains("The worker is not running"))
    })
    .await?;
    let found = asked(&superuser, "worker").await?;
    superuser.batch_execute(&found[0].2).await.with_context(|| format!("{found:?}"))?;
    world.keep_log(&cluster)?;
    Ok(())
}
