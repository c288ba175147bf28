//! The speeds the project promises, measured side by side in one run, on a cluster of its own with fsync and
//! synchronous_commit on. Usage: `bench [--sessions N] [P1] [P2] …`; without rows, all of them.
//!
//! Each row prints the figures it came from and then one line: `P1 0.83 >= 0.75 ok`, or `… short`.

mod data;
mod fastmcp;
mod http;
mod pgbench;
mod rows;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::cluster::{Cluster, Options};

use crate::data::Data;

/// As many sessions as the promise names.
const SESSIONS: i64 = 1_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    let (sessions, wanted) = arguments()?;
    let wants = |row: &str| wanted.is_empty() || wanted.iter().any(|name| name == row);
    let cluster = Cluster::start(&options()).await?;
    let data = Data::make(&cluster, sessions).await?;

    let mut met = true;
    if wants("P1") {
        met &= rows::enter_against_primary_key(&data).await?.print();
    }
    if wants("P2") {
        met &= rows::request_against_replaced_flow(&data).await?.print();
    }
    if wants("P3") {
        met &= rows::reader_against_constant(&data).await?.print();
    }
    if wants("P4") {
        for row in rows::http_against_pgbench_and_fastmcp(&data).await? {
            met &= row.print();
        }
    }
    if wants("P6") {
        for row in rows::frontend_start_and_memory(&data).await? {
            met &= row.print();
        }
    }
    // Last: it ends the sessions the others use.
    if wants("P5") {
        for row in rows::enter_during_clean_up(&data).await? {
            met &= row.print();
        }
    }
    Ok(met)
}

fn options() -> Options {
    Options { log_everything: false, fsync: true, ..Options::default() }
        .set("shared_buffers", "3GB")
        .set("max_wal_size", "16GB")
        .set("checkpoint_timeout", "30min")
        .set("maintenance_work_mem", "512MB")
        // What a tool may hold open of a minute's clean-up must not decide a measurement.
        .set("mcp.cleanup_interval", "3600")
}

fn arguments() -> Result<(i64, Vec<String>)> {
    let mut sessions = SESSIONS;
    let mut rows = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--sessions" => {
                sessions =
                    arguments.next().context("--sessions takes a number")?.parse().context("--sessions")?;
            }
            "P1" | "P2" | "P3" | "P4" | "P5" | "P6" => rows.push(argument),
            _ => bail!("usage: bench [--sessions N] [P1|P2|P3|P4|P5|P6]..."),
        }
    }
    Ok((sessions, rows))
}
