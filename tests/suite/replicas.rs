//! Three replicas behind a proxy, one of them killed every second, and clients that notice only what was under way on it.
//!
//! `MCP_TEST_REPLICA_SECONDS` says for how long: 30 by default, up to 120.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::frontend::{Frontend, Settings};
use tests::npm;
use tests::process::{Process, Program};
use tests::round_robin::{Broken, RoundRobin};
use tests::session::NewSession;
use tokio::time::{MissedTickBehavior, interval};

use crate::world::{self, Shared, Trials};

const REPLICAS: usize = 3;
/// In each of the two eras.
const CLIENTS: usize = 3;
const BETWEEN_KILLS: Duration = Duration::from_secs(1);
/// The proxy may notice a little later than the replica died.
const NOTICE: Duration = Duration::from_secs(2);
/// How long the clients may take to end after their last word.
const END: Duration = Duration::from_secs(30);

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; killed_replicas_cost_only_the_calls_in_flight_on_them]
}

/// A replica that was killed.
struct Kill {
    replica: usize,
    /// From before the signal until after the process was gone.
    time: (Instant, Instant),
}

impl Kill {
    /// Whether this request was in flight on the replica when it was killed, and broke for that reason.
    fn explains(&self, broken: &Broken) -> bool {
        let (before, after) = self.time;
        broken.replica == self.replica
            && broken.begun <= after
            && (before..=after + NOTICE).contains(&broken.broken)
    }
}

/// What the clients say of their calls.
#[derive(Default)]
struct Report {
    /// How many calls of each kind succeeded.
    counts: BTreeMap<String, u64>,
    /// The calls that failed, each with what its client was told.
    failed: Vec<Value>,
}

fn seconds() -> Result<u64> {
    match std::env::var("MCP_TEST_REPLICA_SECONDS") {
        Ok(text) => {
            let seconds = text.parse().context("MCP_TEST_REPLICA_SECONDS must be a number")?;
            ensure!((5..=120).contains(&seconds), "MCP_TEST_REPLICA_SECONDS must be 5 to 120");
            Ok(seconds)
        }
        Err(_) => Ok(30),
    }
}

async fn killed_replicas_cost_only_the_calls_in_flight_on_them(world: &Shared) -> Result<()> {
    let seconds = seconds()?;
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE FUNCTION app.followed() RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM mcp.progress(1); PERFORM pg_sleep(0.1); PERFORM mcp.progress(2); RETURN 'done'; END $$;
             CREATE FUNCTION app.greet(whom text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'hello ' || whom $$;
             SELECT mcp.expose_tool('app.followed()', name => 'followed'),
                    mcp.expose_resource('app.whoami()', 'test://whoami', name => 'whoami'),
                    mcp.expose_prompt('app.greet(text)', name => 'greet')",
        )
        .await?;

    let (listener, url) = RoundRobin::bind().await?;
    // Their logs at trace level would be longer than the rest of the suite's.
    let settings = world.settings(&database)?.set("MCP_PUBLIC_URL", &url).set("MCP_LOG", "info");
    let first = world.oidc().await?.register(settings.set("MCP_POOL_SIZE", "8")).await?;
    let mut settings = vec![first];
    for _ in 1..REPLICAS {
        settings.push(settings[0].replica()?);
    }
    let addresses = settings.iter().map(|one| Ok(one.url().trim_start_matches("http://").parse()?));
    let addresses = addresses.collect::<Result<Vec<_>>>()?;
    let mut replicas = Vec::new();
    for one in &settings {
        replicas.push(one.start().await?);
    }
    let proxy = RoundRobin::serve(listener, addresses);
    let resource = format!("{url}/mcp/v1");
    let session = NewSession::of("alice").at(&resource).create(&database.auth().await?).await?;

    let clients = start_clients(&resource, &session.token, seconds)?;
    let reading = tokio::task::spawn_blocking(move || read_report(clients));
    let kills = kill_until_done(&settings, &mut replicas, &reading).await?;
    let report = reading.await??;
    let broken = proxy.broken();

    let explained: HashMap<&str, &Broken> = broken
        .iter()
        .filter(|one| kills.iter().any(|kill| kill.explains(one)))
        .map(|one| (one.call.as_str(), one))
        .collect();
    let unexplained: Vec<_> = report
        .failed
        .iter()
        .filter(|failed| !failed["call"].as_str().is_some_and(|call| explained.contains_key(call)))
        .collect();
    let calls: u64 = report.counts.values().sum();
    println!(
        "replicas: {calls} calls succeeded and {} failed in {seconds} s, with {} kills; in flight on a killed replica: {}; \
         answered by each: {:?}",
        report.failed.len(),
        kills.len(),
        explained.len(),
        proxy.served(),
    );
    ensure!(unexplained.is_empty(), "failed and not in flight on a killed replica: {unexplained:#?}");
    ensure!(proxy.unserved().is_empty(), "no replica took {:?}", proxy.unserved());
    ensure!(kills.len() as u64 >= seconds / 3, "only {} kills", kills.len());
    ensure!(
        proxy.served().iter().all(|served| *served > 0),
        "a replica answered nothing: {:?}",
        proxy.served()
    );
    for era in ["modern", "legacy"] {
        for kind in [
            "connect",
            "tools",
            "whoami",
            "note",
            "slow",
            "followed",
            "resources",
            "resource",
            "prompts",
            "prompt",
        ] {
            let name = format!("{era} {kind}");
            ensure!(report.counts.contains_key(&name), "no call of {name} succeeded: {:?}", report.counts);
        }
    }
    // What was acknowledged is there, once; what failed is there at most once.
    let row = superuser.query_one("SELECT count(*), count(DISTINCT body) FROM app.notes", &[]).await?;
    let (notes, distinct): (i64, i64) = (row.get(0), row.get(1));
    let acknowledged: u64 = ["modern note", "legacy note"].iter().map(|kind| report.counts[*kind]).sum();
    let failed = report
        .failed
        .iter()
        .filter(|failed| failed["kind"].as_str().is_some_and(|kind| kind.ends_with(" note")));
    let notes = u64::try_from(notes)?;
    ensure!(
        distinct == i64::try_from(notes)?,
        "{notes} notes and {distinct} different ones: a call ran twice"
    );
    ensure!(
        (acknowledged..=acknowledged + failed.count() as u64).contains(&notes),
        "{notes} notes, {acknowledged} acknowledged"
    );
    Ok(())
}

fn start_clients(url: &str, token: &str, seconds: u64) -> Result<Process> {
    let directory = npm::directory("clients")?;
    let mut clients = Program::new("the clients", "node", Signal::SIGTERM);
    clients
        .command()
        .arg("calls.mjs")
        .current_dir(&directory)
        .envs([("URL", url), ("TOKEN", token), ("SUBJECT", "alice")])
        .envs([("SECONDS", seconds.to_string()), ("CLIENTS", CLIENTS.to_string())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    clients.spawn()
}

/// Reads what the clients say, to their end.
fn read_report(mut clients: Process) -> Result<Report> {
    let mut report = Report::default();
    for line in BufReader::new(clients.stdout().context("its output is piped")?).lines() {
        let line = line?;
        let mut said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match said["counts"].take() {
            Value::Null => report.failed.push(said),
            counts => report.counts = serde_json::from_value(counts)?,
        }
    }
    ensure!(
        clients.wait(END)?.success() && !report.counts.is_empty(),
        "the clients did not come to their end"
    );
    Ok(report)
}

/// Kills one replica after the other, each started again before the next, until the clients have ended.
async fn kill_until_done<T>(
    settings: &[Settings],
    replicas: &mut [Frontend],
    clients: &tokio::task::JoinHandle<T>,
) -> Result<Vec<Kill>> {
    let mut kills = Vec::new();
    let mut ticks = interval(BETWEEN_KILLS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    for replica in (0..replicas.len()).cycle() {
        ticks.tick().await;
        if clients.is_finished() {
            break;
        }
        let before = Instant::now();
        tokio::task::block_in_place(|| replicas[replica].kill())?;
        kills.push(Kill { replica, time: (before, Instant::now()) });
        replicas[replica] = settings[replica].start().await?;
    }
    Ok(kills)
}
