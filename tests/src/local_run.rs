//! `make run` in a place of its own: what a newcomer types first, run as they run it, with the development build.

use std::fs::{File, Permissions, set_permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::checkout;
use crate::cluster::free_port;
use crate::process::{Process, Program};
use crate::process_table;
use crate::wait::{wait_for, wait_until};

/// For a start, and for an end. What has to be built was built with the suite.
const PATIENCE: Duration = Duration::from_secs(90);

/// A directory and ports for `make run`.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    /// Of the frontend.
    pub port: u16,
    /// Of the development identity provider.
    pub idp_port: u16,
    /// Of PostgreSQL.
    pub pg_port: u16,
    /// Stands before all other directories of programs, where a test has programs of its own.
    pub programs: Option<PathBuf>,
    /// Whether it is started as a shell starts what is to run in its background, with SIGINT ignored.
    pub in_background: bool,
}

impl Place {
    /// A place that nobody has run anything in.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mcp-run-").tempdir()?;
        // PostgreSQL runs as another user where this one is root.
        set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let (port, idp_port, pg_port) = (free_port()?, free_port()?, free_port()?);
        Ok(Self { directory, port, idp_port, pg_port, programs: None, in_background: false })
    }

    /// A directory for whatever a test wants; `make run` keeps what it keeps in `run` below it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What `make run` keeps, by its path below `.run`.
    pub fn kept(&self, path: &str) -> PathBuf {
        self.directory().join("run").join(path)
    }

    /// The same, read.
    pub fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.kept(path)).with_context(|| path.to_owned())
    }

    /// Where the frontend is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn set_environment(&self, command: &mut Command) -> Result<()> {
        command
            .current_dir(checkout::root())
            .envs(
                [("PORT", self.port), ("IDP_PORT", self.idp_port), ("PG_PORT", self.pg_port)]
                    .map(|(name, port)| (name, port.to_string())),
            )
            // The suite may itself be run by make.
            .env_remove("MAKELEVEL")
            .env_remove("MAKEFLAGS")
            .env("RUN_PROFILE", "dev")
            .env("MCP_RUN_DIR", self.kept(""));
        if let Some(programs) = &self.programs {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(path)?);
        }
        Ok(())
    }

    /// Starts it as a terminal does: the leader of a process group, which is what Ctrl-C reaches.
    pub fn start(&self) -> Result<Running> {
        self.start_with(&[])
    }

    fn start_with(&self, settings: &[(&str, &str)]) -> Result<Running> {
        let output = self.directory().join("output");
        let file = File::create(&output)?;
        let mut make = Program::new("make run", "env", Signal::SIGINT);
        self.set_environment(make.command())?;
        make.command()
            // The suite may itself have been started in the background, or by nohup.
            .args(if self.in_background {
                ["--default-signal=HUP", "--ignore-signal=INT"]
            } else {
                ["--default-signal=HUP", "--default-signal=INT"]
            })
            .args(["make", "--no-print-directory", "run"])
            .envs(settings.iter().copied())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
        Ok(Running { process: make.spawn()?, output })
    }

    /// How one that cannot start explains itself: all that it says about it.
    pub fn refusal(&self) -> Result<String> {
        self.refusal_with(&[])
    }

    /// The same with further settings.
    pub fn refusal_with(&self, settings: &[(&str, &str)]) -> Result<String> {
        let running = self.start_with(settings)?;
        let refusal = running.refusal()?;
        let output = running.output()?;
        ensure!(output.lines().count() < 10, "{output}");
        Ok(refusal)
    }

    /// `make psql`, with `input` to read.
    pub fn psql(&self, input: &str) -> Result<Output> {
        let typed = self.directory().join("input");
        std::fs::write(&typed, input)?;
        let mut make = Command::new("make");
        self.set_environment(&mut make)?;
        Ok(make.args(["--no-print-directory", "psql"]).stdin(File::open(&typed)?).output()?)
    }

    /// Processes that have something of this place in their command line, hold one of its ports or the lock.
    pub fn left(&self) -> Result<String> {
        let of_this_place = self.directory().to_string_lossy();
        let processes = process_table::with_argument(&of_this_place)?;
        let mut found: String =
            processes.into_iter().map(|(pid, command_line)| format!("{pid} {command_line}\n")).collect();
        for port in [self.port, self.idp_port, self.pg_port] {
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                found.push_str(&format!("port {port}: {error}\n"));
            }
        }
        let lock = self.kept("lock");
        if lock.exists() && !Command::new("flock").arg("-n").arg(&lock).arg("true").status()?.success() {
            found.push_str("the lock is held\n");
        }
        Ok(found)
    }

    /// Waits until nothing that was started here is left.
    pub async fn await_end(&self) -> Result<()> {
        wait_until("everything to end", PATIENCE, || async { Ok(self.left()?.is_empty()) })
            .await
            .with_context(|| self.left().unwrap_or_default())
    }
}

/// A started `make run`.
#[derive(Debug)]
pub struct Running {
    process: Process,
    output: PathBuf,
}

impl Running {
    /// What it has said so far.
    pub fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.output)?)
    }

    /// Waits until it says that it is up, or fails with what it says instead.
    pub async fn up(&self) -> Result<()> {
        let said = wait_for("make run to be up", PATIENCE, || async {
            let output = self.output()?;
            let done = output.contains("mcp-sessions is up") || self.process.ended().is_some();
            Ok(done.then_some(output))
        });
        let said = said.await.with_context(|| self.output().unwrap_or_default())?;
        ensure!(said.contains("mcp-sessions is up"), "{said}");
        Ok(())
    }

    /// Ctrl-C, and waits for the end.
    pub fn interrupt(&self) -> Result<()> {
        killpg(self.process.pid(), Signal::SIGINT)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }

    /// The one line in which it says why it ended; that it cannot go on is no success.
    pub fn refusal(&self) -> Result<String> {
        let status = self.process.wait(PATIENCE)?;
        let output = self.output()?;
        ensure!(!status.success(), "it ended as if all were well\n{output}");
        let own = |line: &&str| line.starts_with("error: ");
        let others = |line: &&str| line.contains("rror") && !line.starts_with("make: ") && !own(line);
        let faults: Vec<_> = output.lines().filter(own).collect();
        ensure!(faults.len() == 1 && output.lines().filter(others).count() == 0, "{output}");
        Ok(faults[0].to_owned())
    }

    /// The script that make runs.
    pub fn script(&self) -> Result<Pid> {
        let found = process_table::children(self.process.pid())?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(found[0])
    }

    /// One of the processes that the script keeps up, by what is in its command line.
    pub fn child(&self, name: &str) -> Result<Pid> {
        let of_that_name: Vec<_> =
            process_table::with_argument(name)?.into_iter().map(|(pid, _)| pid).collect();
        process_table::children(self.script()?)?
            .into_iter()
            .find(|child| of_that_name.contains(child))
            .with_context(|| format!("there is no {name}"))
    }

    /// SIGKILL to make itself, as whoever loses patience sends it.
    pub fn kill(&self) -> Result<()> {
        kill(self.process.pid(), Signal::SIGKILL)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }

    /// Waits for the end, and tells whether it was a success.
    pub fn ends_well(&self) -> Result<bool> {
        Ok(self.process.wait(PATIENCE)?.success())
    }
}

impl Drop for Running {
    /// Make itself passes no signal on.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            let _gone = killpg(self.process.pid(), Signal::SIGINT);
        }
    }
}
