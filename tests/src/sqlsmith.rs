//! sqlsmith, the generator of random queries that has found crashes in PostgreSQL for a decade: here it writes the
//! statements, and the test runs them, in whatever setting it wants them to be harmless in.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::process::{Process, Program};

/// Debian's place.
const PROGRAM: &str = "/usr/bin/sqlsmith";

/// Statements without end over what one login can see of a database.
#[derive(Debug)]
pub struct Statements {
    lines: BufReader<std::process::ChildStdout>,
    // Ends the program.
    _process: Process,
}

impl Statements {
    /// Statements over the tables that `login` has a right on and every function there is. `catalogs`: those of the
    /// system too. One seed gives one sequence, as long as the database is the same.
    pub fn generate(
        cluster: &Cluster,
        login: &str,
        database: &str,
        catalogs: bool,
        seed: u64,
    ) -> Result<Self> {
        let mut program = Program::new("sqlsmith", PROGRAM, Signal::SIGTERM);
        program
            .command()
            .arg(format!(
                "--target=host={} port={} user={login} dbname={database}",
                cluster.directory().display(),
                cluster.port()
            ))
            .arg(format!("--seed={seed}"))
            .arg("--dry-run")
            .args((!catalogs).then_some("--exclude-catalog"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = program.spawn().context("is the package sqlsmith installed?")?;
        let stdout = process.stdout().context("its output is piped")?;
        Ok(Self { lines: BufReader::new(stdout), _process: process })
    }
}

impl Iterator for Statements {
    type Item = Result<String>;

    /// The next statement, without its semicolon, which ends a line; none is within a literal that sqlsmith writes.
    fn next(&mut self) -> Option<Self::Item> {
        let mut statement = String::new();
        loop {
            match self.lines.read_line(&mut statement) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
            if let Some(end) = statement.trim_end().strip_suffix(';') {
                return Some(Ok(end.to_owned()));
            }
        }
    }
}
