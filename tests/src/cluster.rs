//! A throw-away PostgreSQL cluster.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{User, chown, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::checkout;
use crate::database::Database;
use crate::ledger;
use crate::process::{Process, Program};

/// The name of the superuser of every cluster.
pub const SUPERUSER: &str = "postgres";

/// The logins of the frontend's two pools, and one of an application that uses the identity helpers by itself.
pub const LOGINS: [&str; 3] = ["mcp_frontend_auth", "mcp_frontend_exec", "app_login"];

const START: Duration = Duration::from_secs(60);

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the library is preloaded, so that the clean-up worker runs.
    pub preload: bool,
    /// Whether every statement goes to the log, with its duration.
    pub log_everything: bool,
    /// Whether commits wait for the disk. Nothing here takes the machine's power away: what a killed server wrote is
    /// in the kernel's hands, so only measurements need it.
    pub fsync: bool,
    /// Whether the server captures a stack for each panic, as it does where a shell asks every program for them.
    pub backtraces: bool,
    /// Further settings, as they stand in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { preload: true, log_everything: true, fsync: false, backtraces: false, settings: Vec::new() }
    }
}

impl Options {
    /// These options and one more setting.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How PostgreSQL is to stop.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Roll back what runs, write a checkpoint, end.
    Fast,
    /// End at once; the next start recovers from the log.
    Immediate,
    /// SIGKILL to the postmaster, as the kernel does when memory is short.
    Kill,
}

/// A running cluster in a directory of its own, gone when dropped.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    // Dropped after the server has stopped: `process` stands first.
    process: Mutex<Option<Process>>,
    directory: TempDir,
    port: u16,
    password: String,
    backtraces: bool,
    databases: AtomicU32,
}

impl Cluster {
    /// Makes a cluster and starts it, with the template database of the suite in it.
    pub async fn start(options: &Options) -> Result<Self> {
        let cluster = Self::initialise(options)?;
        cluster.resume().await?;
        cluster.make_logins().await?;
        Ok(cluster)
    }

    /// A read-only standby of this cluster that streams from it.
    pub async fn standby(&self) -> Result<Self> {
        let standby = Self {
            bin: self.bin.clone(),
            process: Mutex::new(None),
            directory: directory()?,
            port: free_port()?,
            password: self.password.clone(),
            backtraces: self.backtraces,
            databases: AtomicU32::new(0),
        };
        let mut backup = self.program("pg_basebackup", SUPERUSER);
        backup.command().arg("--pgdata").arg(standby.data()).args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]);
        backup.run()?;
        // After the settings that came along: the last one holds.
        let mut settings = std::fs::OpenOptions::new().append(true).open(standby.settings())?;
        writeln!(settings, "{}", standby.address())?;
        standby.resume().await?;
        Ok(standby)
    }

    fn initialise(options: &Options) -> Result<Self> {
        let bin = checkout::postgres_bin()?;
        let directory = directory()?;
        let mut initdb = Program::as_postgres("initdb", bin.join("initdb"), Signal::SIGTERM);
        initdb
            .command()
            .current_dir(directory.path())
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .args([
                "--username",
                SUPERUSER,
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]);
        initdb.run()?;
        let cluster = Self {
            bin,
            process: Mutex::new(None),
            directory,
            port: free_port()?,
            password: uuid::Uuid::new_v4().simple().to_string(),
            backtraces: options.backtraces,
            databases: AtomicU32::new(0),
        };
        ledger::record("database password", &cluster.password);
        cluster.write_settings(options)?;
        Ok(cluster)
    }

    fn write_settings(&self, options: &Options) -> Result<()> {
        let mut text = format!(
            "{}\n\
             log_line_prefix = '%m [%p] %u@%d %a '\nmax_connections = 300\nmax_prepared_transactions = 8\nshared_buffers = '128MB'\n\
             log_lock_waits = on\ntimezone = 'UTC'\n",
            self.address(),
        );
        if !options.fsync {
            text.push_str("fsync = off\n");
        }
        if options.preload {
            text.push_str("shared_preload_libraries = 'mcp_sessions'\n");
        }
        if options.log_everything {
            text.push_str("log_statement = 'all'\nlog_min_duration_statement = 0\n");
        }
        for (name, value) in &options.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let file = self.settings();
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn settings(&self) -> PathBuf {
        self.data().join("postgresql.auto.conf")
    }

    /// The settings that say where it listens.
    fn address(&self) -> String {
        let (port, socket) = (self.port, self.directory.path().display());
        format!("listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{socket}'")
    }

    /// Starts the server again after [`Cluster::stop`], and waits until it takes connections.
    pub async fn resume(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let process = self.spawn()?;
            match self.await_connections(&process).await {
                Ok(()) => {
                    *self.process.lock().expect("no panic under this lock") = Some(process);
                    return Ok(());
                }
                // After a SIGKILL the old backends hold the shared memory for a moment longer.
                Err(error) if start.elapsed() > START => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn spawn(&self) -> Result<Process> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        // SIGINT asks for a fast stop; SIGTERM would wait for the last client.
        let mut postgres = Program::as_postgres("postgres", self.bin.join("postgres"), Signal::SIGINT);
        postgres
            .command()
            .current_dir(self.directory.path())
            .arg("-D")
            .arg(self.data())
            .env("RUST_BACKTRACE", if self.backtraces { "1" } else { "0" })
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        postgres.spawn()
    }

    async fn await_connections(&self, process: &Process) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.superuser("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > START => return Err(error.context(self.log_tail())),
                Err(_) if process.ended().is_some() => {
                    bail!("PostgreSQL ended at start\n{}", self.log_tail())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Stops the server and waits until it is gone.
    pub fn stop(&self, how: Stop) -> Result<()> {
        let Some(process) = self.process.lock().expect("no panic under this lock").take() else {
            return Ok(());
        };
        process.signal(match how {
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
            Stop::Kill => Signal::SIGKILL,
        })?;
        process.wait(START)?;
        Ok(())
    }

    async fn make_logins(&self) -> Result<()> {
        let superuser = self.superuser("postgres").await?;
        // The statements that carry the password must not reach the log; what else does is the point of the suite.
        superuser
            .batch_execute(
                "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
                 SET pg_stat_statements.track_utility = off",
            )
            .await?;
        for login in LOGINS {
            superuser
                .batch_execute(&format!(
                    "CREATE ROLE {login} LOGIN PASSWORD '{}';
                     ALTER ROLE {login} SET log_parameter_max_length = 0;
                     ALTER ROLE {login} SET log_parameter_max_length_on_error = 0",
                    self.password
                ))
                .await?;
        }
        superuser.batch_execute("CREATE ROLE app_owner NOLOGIN").await?;
        Ok(())
    }

    /// A new database holding the extension and the fixture of the suite, for one test alone.
    pub async fn database(&self) -> Result<Database<'_>> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        Database::create(self, &format!("test_{number}")).await
    }

    /// A connection of the superuser, through the socket.
    pub async fn superuser(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host_path(self.directory.path())
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            .application_name("suite")
            // Tests pass tokens as parameters with the superuser too, to look at what no other role may.
            .options("-c log_parameter_max_length=0 -c log_parameter_max_length_on_error=0")
            .connect_timeout(Duration::from_secs(10));
        connect(&config).await
    }

    /// A connection of one of [`LOGINS`], through loopback and with its password.
    pub async fn login(&self, login: &str, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(login)
            .password(&self.password)
            .dbname(database)
            .connect_timeout(Duration::from_secs(10));
        connect(&config).await
    }

    /// The password of all of [`LOGINS`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The connection string of one of [`LOGINS`].
    pub fn url(&self, login: &str, database: &str) -> String {
        self.url_at(self.port, login, database)
    }

    /// The same at another port, where something passes on what it is sent.
    pub fn url_at(&self, port: u16, login: &str, database: &str) -> String {
        format!("postgresql://{login}:{}@127.0.0.1:{port}/{database}", self.password)
    }

    /// A program of this PostgreSQL, its environment set to reach the cluster as the superuser.
    pub fn program(&self, name: &str, database: &str) -> Program {
        let mut program = Program::as_postgres(name, self.bin.join(name), Signal::SIGTERM);
        self.set_environment(&mut program, database);
        program
    }

    /// Any other program, its environment set likewise.
    pub fn set_environment(&self, program: &mut Program, database: &str) {
        program
            .command()
            .env("PGHOST", self.directory.path())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", database)
            .current_dir(self.directory.path());
    }

    /// The programs of this PostgreSQL.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The directory of the cluster, with the data directory, the socket and the log in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("postgresql.log")
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Stop::Fast) {
            eprintln!("cannot stop the cluster: {error:#}");
        }
    }
}

/// A new directory that belongs to whom PostgreSQL runs as.
fn directory() -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("mcp-cluster-").tempdir()?;
    give_to_postgres(directory.path())?;
    Ok(directory)
}

/// Makes a file or directory belong to whom PostgreSQL runs as.
pub fn give_to_postgres(path: &Path) -> Result<()> {
    if geteuid().is_root() {
        let postgres = User::from_name("postgres")?.context("there is no user postgres")?;
        chown(path, Some(postgres.uid), Some(postgres.gid))?;
    }
    Ok(())
}

/// Below those that the kernel hands out to connections, which would take one between its choice and its use.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A loopback port nobody listens on, and that is given out once.
pub fn free_port() -> Result<u16> {
    // Two suites at once begin at different places.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(977)));
    for _ in PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(PORTS.start + next % (PORTS.end - PORTS.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port of {PORTS:?} is taken")
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client; a broken connection is reported to whoever uses the client next.
    tokio::spawn(connection);
    Ok(client)
}
