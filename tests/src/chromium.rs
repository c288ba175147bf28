//! A real browser, driven through a scenario of `tests/browser/pages.mjs`.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::Program;
use crate::{checkout, ledger, npm};

/// Goes through `scenario`, told in `input` where things are. Blocks until the browser is closed; what the scenario gives.
///
/// Pictures of every page are left in `target/screenshots`.
pub fn run(scenario: &str, mut input: Value) -> Result<Value> {
    let directory = npm::directory("browser")?;
    input["screenshots"] = checkout::target()?.join("screenshots").to_string_lossy().into();
    let mut program = Program::new(scenario, "node", Signal::SIGTERM);
    program.command().arg("pages.mjs").arg(scenario).arg(input.to_string()).current_dir(&directory);
    let output = program.run()?;
    let mut told: Value = serde_json::from_str(output.trim())
        .with_context(|| format!("the scenario {scenario} said {output:?}"))?;
    for secret in told["secrets"].as_array().context("no list of secrets")? {
        let [Some(kind), Some(secret)] = [&secret[0], &secret[1]].map(Value::as_str) else { continue };
        ledger::record(kind, secret);
    }
    Ok(told["result"].take())
}
