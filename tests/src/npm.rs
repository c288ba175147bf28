//! Programs from npm, each set pinned by the lock file of its directory.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::checkout;
use crate::process::{Process, Program};

/// `npm ci` writes into one directory, whoever asks for it.
static INSTALL: Mutex<()> = Mutex::new(());

/// The directory `name` beside the suite, its packages installed where they are missing.
pub fn directory(name: &str) -> Result<PathBuf> {
    let directory = checkout::tests().join(name);
    // One that needs more than its lock file says has a script of its own.
    let own = directory.join("install.sh");
    let script = if own.exists() { own } else { checkout::root().join("scripts/npm-ci") };
    let mut install = Program::new(&format!("installing tests/{name}"), script, Signal::SIGTERM);
    install.command().arg(&directory);
    let _one_at_a_time = INSTALL.lock().expect("no panic under this lock");
    install.run()?;
    Ok(directory)
}

/// Starts a script of the directory `name` that says where it is in a line of JSON, and waits for that line.
pub fn serve(name: &str, arguments: &[&str]) -> Result<(Process, Value)> {
    let directory = directory(name)?;
    let script = arguments.first().context("a script to run")?;
    let mut program = Program::new(script, "node", Signal::SIGTERM);
    program
        .command()
        .args(arguments)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = program.spawn()?;
    let mut output = BufReader::new(process.stdout().context("its output is piped")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    // Whatever it prints later is read and dropped, so that it never waits for a full pipe.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    let hello = serde_json::from_str(&line)
        .with_context(|| format!("{script} said {line:?} instead of where it is"))?;
    Ok((process, hello))
}

/// The newer Node that the MCP conformance suite needs, which comes with it.
pub fn newer_node() -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("there is no Node on npm for {other}"),
    };
    Ok(directory("conformance")?.join(format!("node_modules/node-linux-{architecture}/bin/node")))
}

/// The text at `key` of what a script said.
pub fn text(object: &Value, key: &str) -> Result<String> {
    Ok(object[key].as_str().with_context(|| format!("no {key} in {object}"))?.to_owned())
}
