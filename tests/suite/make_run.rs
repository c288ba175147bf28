//! `make run`: that it comes up as the README says, keeps what was done, ends whole, and says why it cannot.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Uid, User, geteuid};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::checkout;
use tests::local_run::Place;
use tests::mcp::{Door, Era, McpClient};
use tests::wait::wait_until;
use tests::{process_table, stub};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        make_run_brings_up_what_the_readme_calls,
        make_run_is_for_this_machine_and_this_user_alone,
        make_run_ends_whole_however_it_is_ended,
        make_run_ends_when_something_in_it_does,
        make_run_kills_what_does_not_end,
        make_run_keeps_what_was_done,
        make_run_says_in_one_line_why_it_cannot,
        make_run_says_why_there_is_no_database,
        make_run_says_what_does_not_answer,
        make_psql_wants_a_database_that_runs,
    ]
}

/// The calls of the README, word for word but for the port; what they print, and the token they got.
fn readme_calls(place: &Place) -> Result<(Value, String)> {
    let readme = std::fs::read_to_string(checkout::root().join("README.md"))?;
    let calls = readme
        .split("```sh\n")
        .filter_map(|block| block.split("```").next())
        .find(|block| block.contains("/auth/init") && block.contains("add_note"))
        .context("the README signs nobody in")?
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", place.port));
    run_calls(place, &calls)
}

/// Two lines of shell and what they print: an answer, and the session they got it with.
fn run_calls(place: &Place, calls: &str) -> Result<(Value, String)> {
    let output = Command::new("bash")
        .args(["-euc", &format!("{calls}\necho; echo \"$S\"")])
        .current_dir(place.directory())
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = printed.lines().filter(|line| !line.is_empty());
    let answer = lines.next().context("nothing was printed")?;
    let token = lines.next().with_context(|| printed.clone())?;
    Ok((serde_json::from_str(answer).with_context(|| printed.clone())?, token.to_owned()))
}

fn client(place: &Place, door: Door, token: &str) -> McpClient {
    McpClient::new(&format!("{}/mcp/v1/", place.url()), Era::Legacy).with(door, token)
}

async fn notes(place: &Place, door: Door, token: &str) -> Result<Value> {
    let answer = client(place, door, token).call("list_notes", json!({})).await?;
    Ok(answer.result()?["structuredContent"]["rows"].clone())
}

async fn make_run_brings_up_what_the_readme_calls(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    let running = place.start()?;
    running.up().await?;
    let (added, alice) = tokio::task::block_in_place(|| readme_calls(&place))?;
    ensure!(added["result"]["structuredContent"]["body"] == "hello", "{added}");
    let bob = Browser::new().sign_in(&place.url(), "bob@example.com").await?.token;
    for door in [Door::Header, Door::Bearer] {
        let (hers, his) = (notes(&place, door, &alice).await?, notes(&place, door, &bob).await?);
        ensure!(hers.as_array().is_some_and(|rows| rows.len() == 1 && rows[0]["body"] == "hello"), "{hers}");
        ensure!(his == json!([]), "{his}");
    }
    // What it says itself can be typed as well.
    let said = running.output()?;
    let (_, said) = said.split_once("mcp-sessions is up. ").context(said.clone())?;
    ensure!(said.starts_with(&format!("Open {}/auth/init in a browser", place.url())), "{said}");
    let end = "`make psql` opens the database. Its addresses are in .run/env, the logs in .run/log/.\n\
               Ctrl-C stops everything; what you did is kept for the next time.\n";
    ensure!(said.ends_with(end), "{said}");
    let typed: Vec<_> = said.lines().filter(|line| line.starts_with("  ")).collect();
    let (added, _) = tokio::task::block_in_place(|| run_calls(&place, &typed.join("\n")))?;
    ensure!(added["result"]["structuredContent"]["body"] == "hello", "{added}");
    // A second one here has nothing to do.
    let refusal = tokio::task::block_in_place(|| place.refusal())?;
    ensure!(refusal.contains("already running"), "{refusal}");

    tokio::task::block_in_place(|| running.interrupt())?;
    place.await_end().await?;
    ensure!(place.read("log/postgresql.log")?.trim_end().ends_with("database system is shut down"));
    Ok(())
}

async fn make_run_is_for_this_machine_and_this_user_alone(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    let running = place.start()?;
    running.up().await?;

    for (path, mode) in [
        ("secrets", 0o600),
        ("env", 0o600),
        ("log", 0o700),
        ("pg", 0o700),
        ("pg/data", 0o700),
        ("pg/server.key", 0o600),
    ] {
        let held = std::fs::metadata(place.kept(path))?.mode() & 0o777;
        ensure!(held == mode, "{path} has mode {held:o}");
    }
    let server =
        User::from_name("postgres")?.filter(|_| geteuid().is_root()).map_or(geteuid(), |user| user.uid);
    for path in ["pg", "pg/data", "pg/server.key"] {
        let owner = Uid::from_raw(std::fs::metadata(place.kept(path))?.uid());
        ensure!(owner == server, "{path} belongs to {owner}");
    }
    ensure!(place.read("pg/server.key")?.trim_end().len() == 64);

    let kept = place.read("secrets")?;
    let secrets: Vec<_> =
        kept.lines().map(|line| line.split_once('=').context("a name")).collect::<Result<_>>()?;
    let [
        ("ADMIN_PASSWORD", admin),
        ("AUTH_PASSWORD", auth),
        ("EXEC_PASSWORD", exec),
        ("IDP_CLIENT_SECRET", client),
    ] = secrets[..]
    else {
        anyhow::bail!("{:?}", secrets.iter().map(|(name, _)| name).collect::<Vec<_>>());
    };
    let values: HashSet<_> = [admin, auth, exec, client].into();
    ensure!(
        values.len() == 4 && values.iter().all(|value| value.len() == 48),
        "a secret is short or stands twice"
    );

    let superuser = if geteuid().is_root() {
        "postgres".to_owned()
    } else {
        User::from_uid(geteuid())?.context("me")?.name
    };
    let (port, idp_port, pg_port, url) = (place.port, place.idp_port, place.pg_port, place.url());
    let database_url = format!("postgres://mcp_frontend_auth:{auth}@127.0.0.1:{pg_port}/mcp");
    let exec_url = format!("postgres://mcp_frontend_exec:{exec}@127.0.0.1:{pg_port}/mcp");
    let expected = format!(
        "DATABASE_URL={database_url}\nMCP_EXEC_DATABASE_URL={exec_url}\n\
         ADMIN_DATABASE_URL=postgres://{superuser}:{admin}@127.0.0.1:{pg_port}/mcp\nMCP_PUBLIC_URL={url}\nPGBIN={}\n",
        checkout::postgres_bin()?.display()
    );
    ensure!(place.read("env")? == expected, "{}", place.read("env")?);

    // Each process knows its own settings and no secret besides.
    let own = |pid| -> Result<Vec<String>> {
        let of_the_suite = ["MCP_RUN_DIR=", "MCP_TEST_"];
        let prefixes = ["MCP_", "OIDC_", "WORKOS_", "DATABASE_", "ADMIN_"];
        let mut settings = process_table::environment(pid)?;
        ensure!(!settings.iter().any(|setting| setting.contains(admin)), "the superuser's password");
        settings.retain(|setting| {
            (prefixes.iter().any(|prefix| setting.starts_with(prefix))
                || values.iter().any(|it| setting.contains(it)))
                && !of_the_suite.iter().any(|prefix| setting.starts_with(prefix))
        });
        Ok(settings)
    };
    ensure!(
        own(running.child("mcp-frontend")?)?
            == [
                format!("DATABASE_URL={database_url}"),
                format!("MCP_BIND=127.0.0.1:{port}"),
                format!("MCP_EXEC_DATABASE_URL={exec_url}"),
                "MCP_IDP=oidc".to_owned(),
                format!("MCP_PUBLIC_URL={url}"),
                "OIDC_CLIENT_ID=mcp-frontend".to_owned(),
                format!("OIDC_CLIENT_SECRET={client}"),
                format!("OIDC_ISSUER=http://127.0.0.1:{idp_port}"),
            ],
        "the frontend has other settings"
    );
    ensure!(
        own(running.child("mcp-dev-idp")?)?
            == [
                format!("MCP_DEV_IDP_BIND=127.0.0.1:{idp_port}"),
                "MCP_DEV_IDP_CLIENT_ID=mcp-frontend".to_owned(),
                format!("MCP_DEV_IDP_CLIENT_SECRET={client}"),
                format!("MCP_DEV_IDP_REDIRECT_URIS={url}/auth/callback"),
            ],
        "the provider has other settings"
    );
    ensure!(own(running.child("postgres")?)?.is_empty(), "PostgreSQL has settings of others");

    // Its own key seals, and its worker cleans up.
    let question = "\\pset format unaligned\n\\pset tuples_only\n\
        SELECT name || '=' || setting FROM pg_settings\n\
         WHERE name IN ('mcp.key_file', 'mcp.database', 'shared_preload_libraries', 'cluster_name') ORDER BY name;\n";
    let told = String::from_utf8(tokio::task::block_in_place(|| place.psql(question))?.stdout)?;
    let key = place.kept("pg").canonicalize()?.join("server.key");
    let expected = format!(
        "cluster_name=mcp-sessions\nmcp.database=mcp\nmcp.key_file={}\nshared_preload_libraries=mcp_sessions\n",
        key.display()
    );
    ensure!(told.ends_with(&expected), "{told}");

    let listeners = process_table::listeners(&[port, idp_port, pg_port])?;
    ensure!(
        listeners.len() == 3 && listeners.iter().all(|it| it.ip() == Ipv4Addr::LOCALHOST),
        "{listeners:?}"
    );
    for directory in ["/tmp", "/var/run/postgresql"] {
        let socket = std::path::Path::new(directory).join(format!(".s.PGSQL.{pg_port}"));
        ensure!(!socket.exists(), "{} is there", socket.display());
    }
    // Nobody comes in without the password.
    for (login, password) in
        [(superuser.as_str(), auth), ("mcp_frontend_auth", exec), ("mcp_frontend_exec", auth)]
    {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(pg_port).user(login).dbname("mcp").password(password);
        let refused = config.connect(NoTls).await.err().with_context(|| format!("{login} is let in"))?;
        ensure!(refused.code() == Some(&SqlState::INVALID_PASSWORD), "{login}: {refused}");
    }
    // No log has a secret, nor any other file.
    let holders = Command::new("grep")
        .arg("-rlF")
        .args(values.iter().flat_map(|it| ["-e", it]))
        .arg(place.kept(""))
        .output()?;
    let holders = String::from_utf8(holders.stdout)?;
    let holders: HashSet<_> = holders.lines().map(PathBuf::from).collect();
    ensure!(holders == ["env", "secrets"].map(|path| place.kept(path)).into(), "{holders:?}");
    Ok(())
}

async fn make_run_ends_whole_however_it_is_ended(_world: &Shared) -> Result<()> {
    let mut place = Place::new()?;
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        place.in_background = signal == Signal::SIGINT;
        let running = place.start()?;
        running.up().await?;
        kill(running.script()?, signal)?;
        ensure!(tokio::task::block_in_place(|| running.ends_well())?, "{signal}: {}", running.output()?);
        // It waited for each of them.
        ensure!(place.left()?.is_empty(), "{}", place.left()?);
        ensure!(place.read("log/postgresql.log")?.trim_end().ends_with("database system is shut down"));
    }

    let running = place.start()?;
    running.up().await?;
    tokio::task::block_in_place(|| running.kill())?;
    place.await_end().await?;

    let running = place.start()?;
    running.up().await?;
    kill(running.script()?, Signal::SIGKILL)?;
    place.await_end().await
}

async fn make_run_ends_when_something_in_it_does(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    for (name, what) in [
        ("mcp-frontend", "mcp-frontend stopped: "),
        ("mcp-dev-idp", "mcp-dev-idp stopped: "),
        ("postgres", "postgresql stopped: "),
    ] {
        let running = place.start()?;
        running.up().await?;
        kill(running.child(name)?, Signal::SIGKILL)?;
        let said = tokio::task::block_in_place(|| running.refusal())?;
        ensure!(said.starts_with(&format!("error: {what}")), "{said}");
        ensure!(
            said.ends_with(&format!("(see .run/log/{}.log)", what.split(' ').next().unwrap_or_default())),
            "{said}"
        );
        place.await_end().await?;
    }
    Ok(())
}

async fn make_run_kills_what_does_not_end(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    let running = place.start()?;
    running.up().await?;
    kill(running.child("mcp-dev-idp")?, Signal::SIGSTOP)?;
    let (script, frontend) = (running.script()?, running.child("mcp-frontend")?);
    kill(script, Signal::SIGINT)?;
    let ended = || async { Ok(!process_table::is_running(frontend)) };
    wait_until("the frontend to end", Duration::from_secs(60), ended).await?;
    // It waits for the provider by now, and nobody's impatience changes that.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        kill(script, signal)?;
    }
    ensure!(tokio::task::block_in_place(|| running.ends_well())?, "{}", running.output()?);
    ensure!(place.left()?.is_empty(), "{}", place.left()?);
    Ok(())
}

async fn make_run_keeps_what_was_done(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    // What a first start leaves that was ended too early.
    for directory in ["pg/data.new/base", "log"] {
        std::fs::create_dir_all(place.kept(directory))?;
    }
    let running = place.start()?;
    running.up().await?;
    let said = running.output()?;
    ensure!(
        said.contains("making a database in .run/pg") && !said.contains("the extension has changed"),
        "{said}"
    );
    let (_, alice) = tokio::task::block_in_place(|| readme_calls(&place))?;
    let (secrets, key) = (place.read("secrets")?, place.read("pg/server.key")?);
    tokio::task::block_in_place(|| running.interrupt())?;

    let running = place.start()?;
    running.up().await?;
    let hers = notes(&place, Door::Bearer, &alice).await?;
    ensure!(hers[0]["body"] == "hello", "{hers}");
    ensure!(place.read("secrets")? == secrets, "the secrets are others");
    ensure!(place.read("pg/server.key")? == key, "the server key is another");
    ensure!(!running.output()?.contains("making a database"), "{}", running.output()?);
    ensure!(
        place.read("log/mcp-frontend.log.old")?.contains("listening"),
        "the log of the run before is gone"
    );
    tokio::task::block_in_place(|| running.interrupt())?;

    // Another extension than the database was made with.
    std::fs::write(place.kept("pg/extension"), "of another version\n")?;
    let running = place.start()?;
    running.up().await?;
    let said = running.output()?;
    let (_, kept) = said.split_once("the one until now is kept as ").context(said.clone())?;
    let kept = kept.lines().next().unwrap_or_default();
    ensure!(
        client(&place, Door::Bearer, &alice).call("list_notes", json!({})).await?.status
            == StatusCode::UNAUTHORIZED
    );
    let read = tokio::task::block_in_place(|| {
        place.psql(&format!("\\pset format unaligned\n\\pset tuples_only\nSELECT count(*) FROM public.notes;\n\\c {kept}\nSELECT body FROM public.notes;\n"))
    })?;
    let read = String::from_utf8(read.stdout)?;
    ensure!(
        kept.starts_with("mcp_until_20") && read.contains("\n0\n") && read.ends_with("\nhello\n"),
        "{kept}: {read}"
    );
    tokio::task::block_in_place(|| running.interrupt())?;

    // Only once.
    let running = place.start()?;
    running.up().await?;
    ensure!(!running.output()?.contains("the extension has changed"), "{}", running.output()?);
    Ok(())
}

/// A directory with the programs of this system but for one.
fn without(place: &Place, program: &str) -> Result<String> {
    let directory = place.directory().join(format!("without-{program}"));
    std::fs::create_dir(&directory)?;
    for of_the_system in ["/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
        for entry in std::fs::read_dir(of_the_system)? {
            let entry = entry?;
            let link = directory.join(entry.file_name());
            if entry.file_name() != program && link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(entry.path(), link)?;
            }
        }
    }
    Ok(directory.display().to_string())
}

async fn make_run_says_in_one_line_why_it_cannot(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    tokio::task::block_in_place(|| {
        for (variable, port) in
            [("PORT", place.port), ("IDP_PORT", place.idp_port), ("PG_PORT", place.pg_port)]
        {
            let taken = TcpListener::bind(("127.0.0.1", port))?;
            let refusal = place.refusal()?;
            let process = std::process::id();
            let by = |name: &str| name.contains(&format!("(process {process})"));
            ensure!(
                refusal.starts_with(&format!("error: port {port} is in use by ")) && by(&refusal),
                "{refusal}"
            );
            let instead = port + 1000;
            ensure!(
                refusal.ends_with(&format!("; stop that, or choose another: make run {variable}={instead}")),
                "{refusal}"
            );
            drop(taken);
            for wrong in ["0", "08080", "http", "64536", "100000", "80 80", "-1"] {
                let refusal = place.refusal_with(&[(variable, wrong)])?;
                ensure!(
                    refusal == format!("error: {variable}={wrong} is not a port number up to 64535"),
                    "{refusal}"
                );
            }
        }
        ensure!(
            place.refusal_with(&[("PG_MAJOR", "9")])?
                == "error: PG_MAJOR=9 is not supported; use one of: 15 16 17 18"
        );
        let without_cargo = without(&place, "cargo")?;
        let settings = [("PATH", without_cargo.as_str()), ("CARGO_HOME", "/nonexistent")];
        let refusal = place.refusal_with(&settings)?;
        ensure!(refusal == "error: cargo is missing: install Rust from https://rustup.rs", "{refusal}");

        let data = place.kept("pg/data");
        std::fs::create_dir_all(&data)?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("is not a PostgreSQL data directory; move .run/pg away"), "{refusal}");
        std::fs::write(data.join("PG_VERSION"), "9.6\n")?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("was made by PostgreSQL 9.6, this is "), "{refusal}");
        ensure!(
            refusal.ends_with("; make run PG_MAJOR=9.6, or move .run/pg away to start afresh"),
            "{refusal}"
        );
        let version = checkout::postgres_bin()?;
        let major = version.ancestors().nth(1).and_then(|path| path.file_name()).context("no version")?;
        std::fs::write(data.join("PG_VERSION"), format!("{}\n", major.display()))?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("is broken: ") && refusal.contains("start afresh"), "{refusal}");
        std::fs::remove_dir_all(data)?;
        anyhow::Ok(())
    })?;

    // What only the server itself minds, and then what only the set-up minds.
    let running = place.start()?;
    running.up().await?;
    let changed = tokio::task::block_in_place(|| {
        place.psql("ALTER FUNCTION public.list_notes() RENAME TO notes_listed;\nCREATE FUNCTION public.list_notes() RETURNS int LANGUAGE sql AS 'SELECT 1';\n")
    })?;
    ensure!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    tokio::task::block_in_place(|| {
        running.interrupt()?;
        let refusal = place.refusal()?;
        let reason = "error: could not set up the database: cannot change return type of existing function";
        ensure!(refusal == reason, "{refusal}");

        let settings = place.kept("pg/data/postgresql.auto.conf");
        std::fs::write(settings, "wal_level = minimal\n")?;
        let refusal = place.refusal()?;
        ensure!(refusal.starts_with("error: postgresql did not start: WAL "), "{refusal}");
        ensure!(refusal.ends_with(" (see .run/log/postgresql.log)"), "{refusal}");

        Ok(())
    })
}

async fn make_run_says_why_there_is_no_database(_world: &Shared) -> Result<()> {
    let mut place = Place::new()?;
    // What starts the programs of PostgreSQL, depending on who starts `make run`.
    let starter = if geteuid().is_root() { "setpriv" } else { "env" };
    let full = format!(
        "case \"$*\" in *initdb*) echo 'initdb: error: could not create directory: No space left on device'; exit 1 ;; esac
         exec /usr/bin/{starter} \"$@\""
    );
    for (program, script, expected) in [
        ("openssl", "exit 1", "error: openssl makes no random bytes: is it installed?"),
        (
            starter,
            &full,
            "error: initdb failed: could not create directory: No space left on device (see .run/log/initdb.log)",
        ),
    ] {
        place.programs = Some(stub::directory(place.directory(), program, script)?);
        let refusal = tokio::task::block_in_place(|| place.refusal())?;
        ensure!(refusal == expected, "{refusal}");
        std::fs::remove_dir_all(place.directory().join("programs"))?;
    }
    place.programs = None;
    let running = place.start()?;
    running.up().await
}

async fn make_run_says_what_does_not_answer(_world: &Shared) -> Result<()> {
    let mut place = Place::new()?;
    place.programs = Some(stub::directory(place.directory(), "curl", "exit 22")?);
    let refusal = tokio::task::block_in_place(|| place.refusal())?;
    ensure!(refusal.starts_with("error: mcp-dev-idp does not answer: "), "{refusal}");
    place.await_end().await
}

async fn make_psql_wants_a_database_that_runs(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    let refused = |because: &str| {
        let output = tokio::task::block_in_place(|| place.psql("SELECT 1;\n"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && output.stdout.is_empty(), "{said}");
        ensure!(said.lines().next() == Some(because), "{said}");
        anyhow::Ok(())
    };
    refused("error: there is no database yet: start it with `make run`")?;
    let running = place.start()?;
    running.up().await?;
    let question =
        "SELECT current_database() || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user;\n";
    let output = tokio::task::block_in_place(|| place.psql(question))?;
    ensure!(String::from_utf8_lossy(&output.stdout).contains(" mcp true"), "{output:?}");
    tokio::task::block_in_place(|| running.interrupt())?;
    refused("error: the database is not running: start it with `make run`")
}
