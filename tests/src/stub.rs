//! Programs that a test writes, most of them to stand before one of the system.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A directory below `place` in which `name` is a program that does what `script` says.
pub fn directory(place: &Path, name: &str, script: &str) -> Result<PathBuf> {
    let directory = place.join("programs");
    install(&directory.join(name), &format!("#!/bin/sh\n{script}\n"))?;
    Ok(directory)
}

/// Makes a file that can be run, and the directories above it. Another process writes it: a child that is started
/// meanwhile would hold it open for writing for a moment, and nobody can run a file that is.
pub fn install(path: &Path, text: &str) -> Result<()> {
    let mut install = Command::new("install");
    install.args(["-D", "-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut install = install.spawn()?;
    install.stdin.take().context("it is piped")?.write_all(text.as_bytes())?;
    let status = install.wait()?;
    ensure!(status.success(), "cannot write {}: {status}", path.display());
    Ok(())
}
