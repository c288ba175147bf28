//! The Python FastMCP with one tool in memory and no authentication: what the promise of P4 is measured against.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use tests::checkout;
use tests::cluster::free_port;
use tests::mcp::{Era, McpClient};
use tests::process::{Process, Program};
use tests::wait::wait_until;

/// The version measured against, from PyPI.
pub const VERSION: &str = "4.1.6";

/// A running server.
pub struct FastMcp {
    url: String,
    _process: Process,
}

impl FastMcp {
    /// Installs it under `target/` where it is missing, and starts it; `None` where it cannot be installed.
    pub async fn start() -> Result<Option<Self>> {
        let environment = checkout::root().join("target/bench-fastmcp").join(VERSION);
        let python = environment.join("bin/python");
        if !environment.join("installed").exists() {
            let installed = tokio::task::block_in_place(|| install(&environment));
            if let Err(error) = installed {
                eprintln!("cannot install FastMCP: {error:#}");
                return Ok(None);
            }
        }
        let port = free_port()?;
        let mut program = Program::new("FastMCP", &python, Signal::SIGTERM);
        program
            .command()
            .arg(checkout::tests().join("bench/fastmcp_server.py"))
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = program.spawn()?;
        let url = format!("http://127.0.0.1:{port}/mcp/");
        let client = McpClient::new(&url, Era::Modern);
        wait_until("FastMCP to serve", Duration::from_secs(60), || async {
            Ok(client
                .call("list_notes", serde_json::json!({}))
                .await
                .is_ok_and(|answer| answer.status.is_success()))
        })
        .await?;
        Ok(Some(Self { url, _process: process }))
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn install(environment: &std::path::Path) -> Result<()> {
    let mut venv = Program::new("python3 -m venv", "python3", Signal::SIGTERM);
    venv.command().args(["-m", "venv", "--clear"]).arg(environment);
    venv.run()?;
    let mut pip = Program::new("pip install", environment.join("bin/pip"), Signal::SIGTERM);
    pip.command()
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("fastmcp=={VERSION}"));
    pip.run()?;
    std::fs::write(environment.join("installed"), VERSION)?;
    Ok(())
}
