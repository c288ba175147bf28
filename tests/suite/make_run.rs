//! `make run`: what a newcomer types first. It is run as they run it, with the development build and elsewhere.

use std::fs::{File, Permissions, set_permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::checkout;
use tests::cluster::free_port;
use tests::mcp::{Door, Era, McpClient};
use tests::process::{Process, Program};
use tests::wait::{wait_for, wait_until};

use crate::world::{self, Shared, Trials};

/// For a start, and for an end. What has to be built was built with the suite.
const PATIENCE: Duration = Duration::from_secs(90);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        make_run_brings_up_what_the_readme_calls,
        make_run_says_in_one_line_why_it_cannot,
    ]
}

/// A place for `make run`, with ports of its own.
struct Place {
    directory: TempDir,
    port: u16,
    idp_port: u16,
    pg_port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mcp-run-").tempdir()?;
        // PostgreSQL runs as another user where this one is root.
        set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        Ok(Self { directory, port: free_port()?, idp_port: free_port()?, pg_port: free_port()? })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it as a terminal does: the leader of a process group, which is what Ctrl-C reaches.
    fn start(&self) -> Result<Running> {
        let output = self.directory.path().join("output");
        let file = File::create(&output)?;
        let mut make = Program::new("make run", "make", Signal::SIGINT);
        make.command()
            .args(["--no-print-directory", "run"])
            .current_dir(checkout::root())
            .envs(
                [("PORT", self.port), ("IDP_PORT", self.idp_port), ("PG_PORT", self.pg_port)]
                    .map(|(name, port)| (name, port.to_string())),
            )
            // The suite may itself be run by make.
            .env_remove("MAKELEVEL")
            .env_remove("MAKEFLAGS")
            .env("RUN_PROFILE", "dev")
            .env("MCP_RUN_DIR", self.directory.path().join("run"))
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0);
        Ok(Running { process: make.spawn()?, output })
    }

    /// How one that cannot start explains itself: all that it says about it.
    fn refusal(&self) -> Result<String> {
        let running = self.start()?;
        let status = running.process.wait(PATIENCE)?;
        let output = running.output()?;
        ensure!(!status.success(), "it started\n{output}");
        let faults: Vec<_> =
            output.lines().filter(|line| line.contains("rror") && !line.starts_with("make: ")).collect();
        ensure!(faults.len() == 1 && output.lines().count() < 10, "{output}");
        Ok(faults[0].to_owned())
    }

    /// Processes that have something of this place in their command line or hold one of its ports.
    fn left(&self) -> Result<String> {
        let find = Command::new("pgrep").args(["-af"]).arg(self.directory.path()).output()?;
        let mut found = String::from_utf8(find.stdout)?;
        for port in [self.port, self.idp_port, self.pg_port] {
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                found.push_str(&format!("port {port}: {error}\n"));
            }
        }
        Ok(found)
    }
}

/// A started `make run`.
struct Running {
    process: Process,
    output: std::path::PathBuf,
}

impl Running {
    fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.output)?)
    }

    /// Waits until it says that it is up, or fails with what it says instead.
    async fn up(&self) -> Result<()> {
        let said = wait_for("make run to be up", PATIENCE, || async {
            let output = self.output()?;
            let done = output.contains("mcp-sessions is up") || self.process.ended().is_some();
            Ok(done.then_some(output))
        });
        let said = said.await.with_context(|| self.output().unwrap_or_default())?;
        ensure!(said.contains("mcp-sessions is up"), "{said}");
        Ok(())
    }

    /// Ctrl-C.
    fn interrupt(&self) -> Result<()> {
        killpg(self.process.pid(), Signal::SIGINT)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }
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
    let output = Command::new("bash")
        .args(["-euc", &format!("{calls}\necho; echo \"$S\"")])
        .current_dir(place.directory.path())
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = printed.lines().filter(|line| !line.is_empty());
    let answer = lines.next().context("nothing was printed")?;
    let token = lines.next().with_context(|| printed.clone())?;
    Ok((serde_json::from_str(answer).with_context(|| printed.clone())?, token.to_owned()))
}

async fn notes(place: &Place, door: Door, token: &str) -> Result<Value> {
    let client = McpClient::new(&format!("{}/mcp/v1/", place.url()), Era::Legacy).with(door, token);
    Ok(client.call("list_notes", json!({})).await?.result()?["structuredContent"]["rows"].clone())
}

async fn make_run_brings_up_what_the_readme_calls(_world: &Shared) -> Result<()> {
    let place = Place::new()?;
    let running = place.start()?;
    running.up().await?;
    let (added, alice) = tokio::task::block_in_place(|| readme_calls(&place))?;
    ensure!(added["result"]["structuredContent"]["body"] == "hello", "{added}");
    let bob = tests::browser::Browser::new().sign_in(&place.url(), "bob@example.com").await?.token;
    for door in [Door::Header, Door::Bearer] {
        let (hers, his) = (notes(&place, door, &alice).await?, notes(&place, door, &bob).await?);
        ensure!(hers.as_array().is_some_and(|rows| rows.len() == 1 && rows[0]["body"] == "hello"), "{hers}");
        ensure!(his == json!([]), "{his}");
    }
    // A second one here has nothing to do.
    let refusal = tokio::task::block_in_place(|| place.refusal())?;
    ensure!(refusal.contains("already running"), "{refusal}");

    tokio::task::block_in_place(|| running.interrupt())?;
    wait_until("everything to end", PATIENCE, || async { Ok(place.left()?.is_empty()) })
        .await
        .with_context(|| place.left().unwrap_or_default())?;

    let again = place.start()?;
    again.up().await?;
    let hers = notes(&place, Door::Bearer, &alice).await?;
    ensure!(hers[0]["body"] == "hello", "{hers}");
    tokio::task::block_in_place(|| again.interrupt())
}

async fn make_run_says_in_one_line_why_it_cannot(_world: &Shared) -> Result<()> {
    tokio::task::block_in_place(|| {
        let place = Place::new()?;
        let taken = TcpListener::bind(("127.0.0.1", place.port))?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains(&format!("port {} is in use", place.port)), "{refusal}");
        drop(taken);

        let data = place.directory.path().join("run/pg/data");
        std::fs::create_dir_all(&data)?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("is not a PostgreSQL data directory"), "{refusal}");
        std::fs::write(data.join("PG_VERSION"), "9.6\n")?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("was made by PostgreSQL 9.6"), "{refusal}");
        let version = checkout::postgres_bin()?;
        let major = version.ancestors().nth(1).and_then(|path| path.file_name()).context("no version")?;
        std::fs::write(data.join("PG_VERSION"), format!("{}\n", major.display()))?;
        let refusal = place.refusal()?;
        ensure!(refusal.contains("is broken") && refusal.contains("start afresh"), "{refusal}");
        Ok(())
    })
}
