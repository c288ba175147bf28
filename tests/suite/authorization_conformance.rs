//! The authorization server's scenarios of the MCP conformance suite, all of them, against a running frontend.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::browser::Browser;
use tests::cluster::free_port;
use tests::documents::DocumentServer;
use tests::npm;
use tests::oauth::{Client, resource};
use tests::process::{Process, Program};

use crate::world::{self, Shared, Trials};

/// It prints its verdict as soon as it has its token.
const VERDICT: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        every_scenario_passes_for_a_registered_client,
        every_scenario_passes_for_a_client_with_a_document,
        every_scenario_passes_for_a_client_that_names_no_resource,
    ]
}

async fn every_scenario_passes_for_a_registered_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let port = free_port()?;
    let client = Client::register(&frontend.url(), &callback(port)).await?;
    every_scenario_passes(&frontend.url(), &client.id, port, true).await
}

async fn every_scenario_passes_for_a_client_with_a_document(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let settings = documents.trusted_by(world.settings(&database)?);
    let frontend = world.oidc().await?.register(settings).await?.start().await?;
    let id = documents.publish_client("/client.json", &["http://127.0.0.1/callback"]);
    every_scenario_passes(&frontend.url(), &id, free_port()?, true).await
}

/// Clients of revisions before 2025-06-18 know no resource indicators.
async fn every_scenario_passes_for_a_client_that_names_no_resource(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let port = free_port()?;
    let client = Client::register(&frontend.url(), &callback(port)).await?;
    every_scenario_passes(&frontend.url(), &client.id, port, false).await
}

/// Where the suite waits for its answer.
fn callback(port: u16) -> String {
    format!("http://127.0.0.1:{port}/callback")
}

async fn every_scenario_passes(issuer: &str, client: &str, port: u16, with_resource: bool) -> Result<()> {
    let results = tempfile::Builder::new().prefix("mcp-conformance-").tempdir()?;
    let mut run = conformance(&["authorization", "--url", issuer, "--client-id", client])?;
    run.command().args(["--port", &port.to_string(), "--output-dir"]).arg(results.path());
    if with_resource {
        run.command().args(["--resource", &resource(issuer)]);
    }
    run.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut run = run.spawn()?;
    let mut output = BufReader::new(run.stdout().context("its output is piped")?);

    let authorize = tokio::task::block_in_place(|| authorization_url(&mut output, issuer))?;
    let browser = Browser::new();
    let back = browser.sign_in_until(&authorize, "alice@example.com", |url| url.port() == Some(port)).await?;
    ensure!(browser.step(back.as_str()).await?.status.is_success(), "the suite did not take its answer");

    let said = tokio::task::block_in_place(|| verdict(&run, &mut output))?;
    let mut total = 0;
    for scenario in scenarios()? {
        let passed = passed(results.path(), &scenario)?;
        assert!(said.contains(&format!("✓ {scenario}: {passed} passed, 0 failed")), "{said}");
        total += passed;
    }
    assert!(said.trim_end().ends_with(&format!("Total: {total} passed, 0 failed")), "{said}");
    Ok(())
}

/// The suite, under the newer Node it needs.
fn conformance(arguments: &[&str]) -> Result<Program> {
    let node = tokio::task::block_in_place(npm::newer_node)?;
    let mut program = Program::new("the MCP conformance suite", node, Signal::SIGTERM);
    program
        .command()
        .current_dir(npm::directory("conformance")?)
        .arg("node_modules/@modelcontextprotocol/conformance/dist/index.js")
        .args(arguments);
    Ok(program)
}

/// The scenarios there are.
fn scenarios() -> Result<Vec<String>> {
    let list = tokio::task::block_in_place(|| conformance(&["list", "--authorization"])?.run())?;
    let scenarios: Vec<_> = list
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- "))
        .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
        .collect();
    ensure!(scenarios.len() >= 2, "the suite lists no scenarios: {list}");
    Ok(scenarios)
}

/// The URL that the suite asks to be opened.
fn authorization_url(output: &mut BufReader<ChildStdout>, issuer: &str) -> Result<String> {
    let mut said = String::new();
    for line in output.lines() {
        let line = line?;
        if line.starts_with(&format!("{issuer}/authorize?")) {
            return Ok(line);
        }
        said.push_str(&line);
        said.push('\n');
    }
    bail!("the suite ended without asking anybody to sign in:\n{said}")
}

/// What the suite says in the end; an error unless it is content.
fn verdict(run: &Process, output: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut said = String::new();
    output.read_to_string(&mut said)?;
    let status = run.wait(VERDICT)?;
    ensure!(status.success(), "the suite ended with {status}:\n{said}");
    Ok(said)
}

/// How many checks of `scenario` passed; an error unless each of them did. A warning, or a check that was skipped, does
/// not fail the suite, but it fails this.
fn passed(results: &Path, scenario: &str) -> Result<usize> {
    let prefix = format!("authorization-server-{scenario}-2");
    let mut directories = std::fs::read_dir(results)?.collect::<Result<Vec<_>, _>>()?;
    directories.retain(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let [directory] = &directories[..] else { bail!("{scenario} ran {} times", directories.len()) };
    let checks: Vec<Value> = serde_json::from_slice(&std::fs::read(directory.path().join("checks.json"))?)?;
    ensure!(!checks.is_empty(), "{scenario} checked nothing");
    for check in &checks {
        ensure!(check["status"] == "SUCCESS", "{scenario}: {} {}", check["status"], check["errorMessage"]);
    }
    Ok(checks.len())
}
