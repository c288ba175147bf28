//! Runs pgbench, and reads what it says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::database::Database;
use tests::process::Program;

/// One side of a comparison: scripts that differ in nothing but the session they are for.
pub struct Side {
    /// Printed beside the figure.
    pub name: &'static str,
    /// Who connects.
    pub user: &'static str,
    /// The script; `:session` and `:token` stand for the variables of one session.
    pub script: &'static str,
}

/// How it is run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections.
    pub clients: u32,
    /// Seconds.
    pub seconds: u32,
    /// Transactions a second, where they are to come at a fixed rate.
    pub rate: Option<u32>,
}

/// The values a script is run for.
pub struct Variables {
    /// The session's id, or the claims naming it; whatever `:session` is to be.
    pub session: String,
    /// The user.
    pub user: String,
    /// The session token.
    pub token: String,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Transactions a second.
    pub tps: f64,
    /// The 99th percentile in milliseconds, where a rate was asked for.
    pub p99: Option<f64>,
}

/// Runs `side` once, a script for each of `sessions`, chosen at random for each transaction.
pub fn run(database: &Database<'_>, side: &Side, sessions: &[Variables], load: Load) -> Result<Outcome> {
    let scratch =
        tempfile::Builder::new().prefix("mcp-pgbench-").tempdir_in(database.cluster().directory())?;
    open(scratch.path())?;
    let mut pgbench = prepare(database, side, load);
    let command = pgbench.command();
    command.current_dir(scratch.path());
    for (number, variables) in sessions.iter().enumerate() {
        // Bound as parameters, as a frontend binds them: `-M prepared` sends each variable apart from the statement.
        let script = side
            .script
            .replace(":session", &format!(":s{number}"))
            .replace(":user", &format!(":u{number}"))
            .replace(":token", &format!(":t{number}"));
        let file = scratch.path().join(format!("{number}.sql"));
        std::fs::write(&file, script)?;
        command.arg("-D").arg(format!("s{number}={}", variables.session));
        command.arg("-D").arg(format!("u{number}={}", variables.user));
        command.arg("-D").arg(format!("t{number}={}", variables.token));
        command.arg("-f").arg(file);
    }
    let output = pgbench.run().with_context(|| side.name.to_owned())?;
    let tps = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("pgbench said no tps:\n{output}"))?
        .parse()?;
    let p99 = if load.rate.is_some() { Some(percentile(scratch.path(), 0.99)?) } else { None };
    Ok(Outcome { tps, p99 })
}

fn prepare(database: &Database<'_>, side: &Side, load: Load) -> Program {
    let mut pgbench =
        Program::as_postgres("pgbench", database.cluster().bin().join("pgbench"), Signal::SIGTERM);
    database.cluster().set_environment(&mut pgbench, database.name());
    let command = pgbench.command();
    command.env("PGUSER", side.user).args(["-n", "-M", "prepared", "-j", "2"]).args([
        "-c",
        &load.clients.to_string(),
        "-T",
        &load.seconds.to_string(),
    ]);
    if let Some(rate) = load.rate {
        command.args(["-R", &rate.to_string(), "-l"]);
    }
    pgbench
}

/// A percentile of the latencies pgbench logged, in milliseconds; the wait for a late start counts.
fn percentile(directory: &Path, part: f64) -> Result<f64> {
    let mut latencies: Vec<f64> = Vec::new();
    for file in std::fs::read_dir(directory)? {
        let path: PathBuf = file?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgbench_log")) {
            continue;
        }
        for line in std::fs::read_to_string(&path)?.lines() {
            // client_id transaction_no time script_no time_epoch time_us schedule_lag
            if let Some(time) = line.split(' ').nth(2).and_then(|field| field.parse::<f64>().ok()) {
                latencies.push(time / 1000.0);
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = ((latencies.len() as f64 * part) as usize).min(latencies.len().saturating_sub(1));
    latencies.get(at).copied().context("pgbench logged no transaction")
}

fn open(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))?;
    Ok(())
}
