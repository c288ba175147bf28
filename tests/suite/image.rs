//! The entry point of the image `postgres`: what a first start makes, what later ones keep.
//!
//! It runs in a directory in place of the volume, with the private PostgreSQL tree in place of the image's.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::checkout;
use tests::cluster::{free_port, give_to_postgres};
use tests::ledger;
use tests::process::{Process, Program};
use tests::process_table::{environment, listeners};
use tests::wait::wait_for;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        image_makes_the_database_once,
        image_names_the_passwords_that_are_missing,
        image_makes_nothing_of_a_set_up_that_fails,
        image_takes_its_database_and_key_from_the_settings,
    ]
}

const START: Duration = Duration::from_secs(60);
const PASSWORDS: [&str; 3] = ["POSTGRES_PASSWORD", "MCP_AUTH_PASSWORD", "MCP_EXEC_PASSWORD"];

/// What a container of the image has: a volume, a port, passwords.
struct Container {
    volume: TempDir,
    port: u16,
    passwords: [String; 3],
}

impl Container {
    fn new() -> Result<Self> {
        let volume = tempfile::Builder::new().prefix("mcp-image-").tempdir()?;
        give_to_postgres(volume.path())?;
        let passwords = PASSWORDS.map(|_| Uuid::new_v4().to_string());
        for password in &passwords {
            ledger::record("database password", password);
        }
        let container = Self { volume, port: free_port()?, passwords };
        // Copies: not everybody can enter the checkout.
        for (name, file) in [("docker-postgres", "scripts/docker-postgres"), ("logins.sql", "sql/logins.sql")]
        {
            std::fs::copy(checkout::root().join(file), container.path(name))?;
        }
        Ok(container)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.volume.path().join(name)
    }

    /// The image's entry point with `passwords` in the environment, and nothing else but `settings`.
    fn program(&self, passwords: &[&str], settings: &[(&str, &str)]) -> Result<Program> {
        let bin = checkout::postgres_bin()?;
        let mut program = Program::as_postgres("docker-postgres", "bash", Signal::SIGINT);
        program
            .command()
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("LANG", "C")
            .env("MCP_VOLUME", self.volume.path())
            .env("MCP_LOGINS_SQL", self.path("logins.sql"))
            .current_dir(self.volume.path())
            .stdin(Stdio::null())
            .envs(PASSWORDS.into_iter().zip(&self.passwords).filter(|(name, _)| passwords.contains(name)))
            .envs(settings.iter().copied())
            .arg(self.path("docker-postgres"))
            .args(["-p", &self.port.to_string()])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.volume.path().display()))
            .args(["-c", "listen_addresses=127.0.0.1"]);
        Ok(program)
    }

    fn start(&self, passwords: &[&str], settings: &[(&str, &str)]) -> Result<Process> {
        let mut program = self.program(passwords, settings)?;
        let log = std::fs::File::create(self.path("log"))?;
        program.command().stdout(log.try_clone()?).stderr(log);
        program.spawn()
    }

    fn refusal(&self, passwords: &[&str]) -> Result<Output> {
        self.program(passwords, &[])?.output()
    }

    async fn login(
        &self,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Waits until the superuser is let in.
    async fn superuser(&self, process: &Process, database: &str) -> Result<Client> {
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        wait_for("the server of the image", START, || async {
            ensure!(process.ended().is_none(), "it ended\n{}", log());
            Ok(self.login("postgres", &self.passwords[0], database).await.ok())
        })
        .await
        .with_context(log)
    }

    fn mode(&self, name: &str) -> Result<u32> {
        Ok(std::fs::metadata(self.path(name)).with_context(|| name.to_owned())?.mode() & 0o777)
    }
}

impl Container {
    /// Has the first start do `more` when it has made the logins.
    fn add_to_set_up(&self, more: &str) -> Result<()> {
        let logins = std::fs::read_to_string(self.path("logins.sql"))?;
        Ok(std::fs::write(self.path("logins.sql"), logins + more)?)
    }
}

async fn setting(client: &Client, name: &str) -> Result<String> {
    Ok(client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0))
}

async fn image_makes_the_database_once(_world: &Shared) -> Result<()> {
    let container = Container::new()?;
    // What a first start leaves that was ended too early.
    std::fs::create_dir_all(container.path("data.new/base"))?;
    give_to_postgres(&container.path("data.new"))?;
    give_to_postgres(&container.path("data.new/base"))?;
    container.add_to_set_up(
        "CREATE TABLE public.seen AS SELECT current_setting('listen_addresses') AS listens;\n",
    )?;
    let process = container.start(&PASSWORDS, &[])?;
    let superuser = container.superuser(&process, "mcp").await?;
    let listened: String = superuser.query_one("SELECT listens FROM public.seen", &[]).await?.get(0);
    ensure!(listened.is_empty(), "others could come in while the logins were made, at {listened}");

    let version = "SELECT extversion FROM pg_extension WHERE extname = 'mcp_sessions'";
    ensure!(superuser.query_opt(version, &[]).await?.is_some(), "there is no extension");
    let worker = "SELECT FROM pg_stat_activity WHERE backend_type LIKE 'mcp_sessions%' AND datname = 'mcp'";
    wait_for("the clean-up worker", START, || async { Ok(superuser.query_opt(worker, &[]).await?) }).await?;
    ensure!(setting(&superuser, "shared_preload_libraries").await? == "mcp_sessions");
    ensure!(setting(&superuser, "mcp.key_file").await? == container.path("server.key").display().to_string());
    ensure!(setting(&superuser, "server_encoding").await? == "UTF8");
    let collation = "SELECT datcollate FROM pg_database WHERE datname = 'mcp' AND datcollate = 'C.UTF-8'";
    ensure!(superuser.query_opt(collation, &[]).await?.is_some(), "the database sorts in another way");

    ensure!(container.mode("server.key")? == 0o600 && container.mode("data")? == 0o700);
    ensure!(!container.path("data.new").exists());
    let key = std::fs::read_to_string(container.path("server.key"))?;
    ensure!(key.trim_end().len() == 64, "the key has {} digits", key.trim_end().len());
    let told = environment(process.pid())?;
    ensure!(
        !told.iter().any(|it| container.passwords.iter().any(|password| it.contains(password))),
        "it kept a password"
    );

    // Everybody by their own password, from wherever they come.
    let [admin, auth, exec] = &container.passwords;
    container.login("mcp_frontend_auth", auth, "mcp").await?;
    container.login("mcp_frontend_exec", exec, "mcp").await?;
    for (login, password) in [("postgres", auth), ("mcp_frontend_auth", exec), ("mcp_frontend_exec", admin)] {
        let refused = container
            .login(login, password, "mcp")
            .await
            .err()
            .with_context(|| format!("{login} is let in"))?;
        ensure!(refused.code() == Some(&SqlState::INVALID_PASSWORD), "{login}: {refused}");
    }
    let rules = "SELECT concat_ws(' ', type, database::text, user_name::text, address, auth_method) FROM pg_hba_file_rules";
    let rules: Vec<String> = superuser.query(rules, &[]).await?.iter().map(|row| row.get(0)).collect();
    ensure!(rules.contains(&"host {all} {all} all scram-sha-256".to_owned()), "{rules:?}");
    ensure!(
        rules.iter().all(|rule| rule.ends_with(" scram-sha-256")
            || (rule.starts_with("local ") && rule.ends_with(" peer"))),
        "{rules:?}"
    );
    ensure!(listeners(&[container.port])?.len() == 1);

    superuser.batch_execute("CREATE TABLE public.kept AS SELECT 1 AS it").await?;
    drop(superuser);
    process.end()?;
    // Now it needs none.
    let process = container.start(&[], &[])?;
    let superuser = container.superuser(&process, "mcp").await?;
    superuser.query_one("SELECT it FROM public.kept", &[]).await?;
    ensure!(std::fs::read_to_string(container.path("server.key"))? == key, "the key is another");
    Ok(())
}

async fn image_names_the_passwords_that_are_missing(_world: &Shared) -> Result<()> {
    tokio::task::block_in_place(|| {
        for given in 0..7_u8 {
            let (given, missing): (Vec<_>, Vec<_>) =
                PASSWORDS.into_iter().enumerate().partition(|(number, _)| given & (1 << number) != 0);
            let names =
                |of: Vec<(usize, &'static str)>| of.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
            let container = Container::new()?;
            let output = container.refusal(&names(given))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.code() == Some(64) && output.stdout.is_empty(), "{output:?}");
            ensure!(said == format!("not set: {}\n", names(missing).join(" ")), "{said}");
            ensure!(!container.path("data").exists() && !container.path("data.new").exists());
        }
        Ok(())
    })
}

async fn image_makes_nothing_of_a_set_up_that_fails(_world: &Shared) -> Result<()> {
    let container = Container::new()?;
    container.add_to_set_up("SELECT 1 / 0;\nSELECT 'still going';\n")?;
    let process = container.start(&PASSWORDS, &[])?;
    let status = tokio::task::block_in_place(|| process.wait(START))?;
    let log = std::fs::read_to_string(container.path("log"))?;
    ensure!(
        !status.success() && log.contains("division by zero") && !log.contains("still going"),
        "{status}: {log}"
    );
    ensure!(!container.path("data").exists(), "what is half made passes for the database");
    std::fs::copy(checkout::root().join("sql/logins.sql"), container.path("logins.sql"))?;
    // The server of the first start went with its container.
    let left = std::fs::read_to_string(container.path("data.new/postmaster.pid"))?;
    kill(Pid::from_raw(left.lines().next().context("a process id")?.parse()?), Signal::SIGQUIT)?;
    wait_for("the server to be gone", START, || async {
        Ok((!container.path("data.new/postmaster.pid").exists()).then_some(()))
    })
    .await?;
    let process = container.start(&PASSWORDS, &[])?;
    container.superuser(&process, "mcp").await?;
    Ok(())
}

async fn image_takes_its_database_and_key_from_the_settings(_world: &Shared) -> Result<()> {
    let container = Container::new()?;
    let key = container.path("mounted.key");
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    ledger::record("server key", &secret);
    std::fs::write(&key, format!("{secret}\n"))?;
    std::fs::set_permissions(&key, Permissions::from_mode(0o400))?;
    give_to_postgres(&key)?;
    let key = key.display().to_string();
    let process = container.start(&PASSWORDS, &[("MCP_DATABASE", "a \"b\""), ("MCP_KEY_FILE", &key)])?;
    let superuser = container.superuser(&process, "a \"b\"").await?;
    ensure!(setting(&superuser, "mcp.database").await? == "a \"b\"");
    ensure!(setting(&superuser, "mcp.key_file").await? == key);
    ensure!(!container.path("server.key").exists(), "a key was made beside the one that is mounted");
    Ok(())
}
