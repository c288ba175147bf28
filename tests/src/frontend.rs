//! A spawned frontend: the shipped binary, its environment, its log.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::checkout;
use crate::cluster::free_port;
use crate::database::Database;
use crate::mcp::{Era, McpClient};
use crate::oauth;
use crate::process::{Process, Program};
use crate::wait::{wait_for, wait_until};

const START: Duration = Duration::from_secs(20);
/// How long a line of the log may take to be written.
const LOGGED: Duration = Duration::from_secs(20);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The settings of a frontend to be started.
#[derive(Debug, Clone)]
pub struct Settings {
    variables: Vec<(String, String)>,
    port: u16,
    admin_port: u16,
    log_directory: PathBuf,
}

impl Settings {
    /// A frontend of `database` on ports of its own, without an identity provider yet.
    pub fn new(database: &Database<'_>, log_directory: &Path) -> Result<Self> {
        let settings = Self {
            variables: Vec::new(),
            port: free_port()?,
            admin_port: free_port()?,
            log_directory: log_directory.into(),
        };
        let (url, bind) = (settings.url(), format!("127.0.0.1:{}", settings.port));
        let admin = format!("127.0.0.1:{}", settings.admin_port);
        let cluster = database.cluster();
        Ok(settings
            .set("MCP_BIND", &bind)
            .set("MCP_ADMIN_BIND", &admin)
            .set("MCP_PUBLIC_URL", &url)
            .set("DATABASE_URL", &cluster.url("mcp_frontend_auth", database.name()))
            .set("MCP_EXEC_DATABASE_URL", &cluster.url("mcp_frontend_exec", database.name()))
            .set("MCP_LOG", "trace"))
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable away.
    pub fn unset(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// The same settings on another port, for a second replica: the public URL stays.
    pub fn replica(&self) -> Result<Self> {
        let mut replica = self.clone();
        (replica.port, replica.admin_port) = (free_port()?, free_port()?);
        let (bind, admin) =
            (format!("127.0.0.1:{}", replica.port), format!("127.0.0.1:{}", replica.admin_port));
        Ok(replica.set("MCP_BIND", &bind).set("MCP_ADMIN_BIND", &admin))
    }

    /// Where it will be reached.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The redirect URI to register at the identity provider.
    pub fn callback(&self) -> String {
        let public = self.variables.iter().find(|(name, _)| name == "MCP_PUBLIC_URL");
        format!("{}/auth/callback", public.map_or_else(|| self.url(), |(_, url)| url.clone()))
    }

    fn program(&self) -> Result<Program> {
        let mut program = Program::new("mcp-frontend", checkout::frontend()?, Signal::SIGTERM);
        program
            .command()
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        Ok(program)
    }

    /// Runs it with arguments, to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut program = self.program()?;
        program.command().args(arguments);
        program.output()
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&self) -> Result<Frontend> {
        self.spawn_with(None, None)
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self) -> Result<Frontend> {
        let frontend = self.spawn()?;
        frontend.await_serving().await?;
        Ok(frontend)
    }

    /// Starts it with `stderr` in place of the file that its log is kept in, without waiting for anything.
    pub fn spawn_logging_to(&self, stderr: Stdio) -> Result<Frontend> {
        self.spawn_with(None, Some(stderr))
    }

    /// The same, and waits until it serves.
    pub async fn start_logging_to(&self, stderr: Stdio) -> Result<Frontend> {
        let frontend = self.spawn_logging_to(stderr)?;
        frontend.await_serving().await?;
        Ok(frontend)
    }

    /// The same with all that it writes in another place.
    pub async fn start_writing_to(&self, stdout: Stdio, stderr: Stdio) -> Result<Frontend> {
        let frontend = self.spawn_with(Some(stdout), Some(stderr))?;
        frontend.await_serving().await?;
        Ok(frontend)
    }

    fn spawn_with(&self, stdout: Option<Stdio>, stderr: Option<Stdio>) -> Result<Frontend> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = self.log_directory.join(format!("frontend-{number}.log"));
        let output = std::fs::File::create(&log)?;
        let mut program = self.program()?;
        program
            .command()
            .stdout(stdout.map_or_else(|| output.try_clone().map(Stdio::from), Ok)?)
            .stderr(stderr.unwrap_or_else(|| Stdio::from(output)));
        Ok(Frontend { process: program.spawn()?, settings: self.clone(), log })
    }
}

/// A running frontend, told to end when dropped.
#[derive(Debug)]
pub struct Frontend {
    process: Process,
    settings: Settings,
    log: PathBuf,
}

impl Frontend {
    async fn await_serving(&self) -> Result<()> {
        let health = format!("{}/healthz", self.url());
        wait_until("the frontend to serve", START, || async {
            if let Some(status) = self.process.ended() {
                bail!("the frontend ended with {status}\n{}", self.log_text());
            }
            Ok(reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success()))
        })
        .await
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        self.settings.url()
    }

    /// Its MCP endpoint, the resource that tokens are for.
    pub fn resource(&self) -> String {
        oauth::resource(&self.url())
    }

    /// The base URL of its admin listener.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.settings.admin_port)
    }

    /// The count that its metrics have under this name, with these labels; `None` where they have none.
    pub async fn metric(&self, name: &str) -> Result<Option<u64>> {
        let text = reqwest::get(format!("{}/metrics", self.admin_url())).await?.text().await?;
        let counts = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(counts.map(str::parse).next().transpose()?)
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A client of its MCP endpoint.
    pub fn mcp(&self, era: Era) -> McpClient {
        McpClient::new(&self.resource(), era)
    }

    /// SIGKILL: gone at once.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM: told to finish what it has begun.
    pub fn terminate(&self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// SIGINT: what Ctrl-C sends, and means the same.
    pub fn interrupt(&self) -> Result<()> {
        self.process.signal(Signal::SIGINT)
    }

    /// Waits for its end.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait(deadline)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Waits until it has logged `text`, which happens soon and not at once. What it has logged.
    pub async fn logged(&self, text: &str) -> Result<String> {
        let what = format!("{text:?} in the log");
        wait_for(&what, LOGGED, || async {
            let log = self.log_text();
            Ok(log.contains(text).then_some(log))
        })
        .await
    }

    /// What it has logged so far; all of it once it has ended.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
