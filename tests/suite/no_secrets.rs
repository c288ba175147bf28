//! After everything: no secret that was handed out stands in a log, in the data directory or in a dump.

use std::path::Path;

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, SUPERUSER, Stop};
use tests::ledger::{self, Leak};

use crate::world::{self, Shared, Trials};

/// How the log says that a prepared statement was executed.
const EXECUTED: &[u8] = b"LOG:  execute ";

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; checklist_44_no_secret_in_any_log_dump_or_data_file]
}

async fn checklist_44_no_secret_in_any_log_dump_or_data_file(world: &Shared) -> Result<()> {
    let Some(cluster) = world.started_cluster() else {
        // A run that was filtered down to tests without a cluster handed nothing out.
        return Ok(());
    };
    let counts = ledger::counts();
    let databases = databases(cluster).await?;
    let dumped = tokio::task::block_in_place(|| dump(cluster, &busiest(&databases)))?;
    // Everything must be on disk before the files are read.
    tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?;

    let log = world.keep_log(cluster)?;
    let executed = std::fs::read(&log)?;
    ensure!(
        executed.windows(EXECUTED.len()).any(|window| window == EXECUTED),
        "the log has no statement in it: {}",
        log.display()
    );
    find_what_is_planted()?;
    let (mut leaks, mut read) = search(world.logs())?;
    let (more, and_more) = search(cluster.directory())?;
    leaks.extend(more);
    read += and_more;
    eprintln!(
        "searched {} MB (the dump: {} KB) for {} secrets: {}",
        read >> 20,
        dumped >> 10,
        counts.iter().map(|(_, count)| count).sum::<usize>(),
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    );
    ensure!(read > 0 && dumped > 0, "nothing was read");
    ensure!(!world.whole() || counts.len() > 3, "hardly a secret was handed out: {counts:?}");
    ensure!(
        leaks.is_empty(),
        "{} leaks, among them\n{}",
        leaks.len(),
        leaks
            .iter()
            .take(20)
            .map(|leak| format!("{} in {} after {:?}", leak.kind, leak.file.display(), leak.before))
            .collect::<Vec<_>>()
            .join("\n")
    );
    Ok(())
}

/// A search that finds nothing says something only where it finds what is there.
fn find_what_is_planted() -> Result<()> {
    let (kind, secret) = ("planted", "planted-for-the-search-to-find");
    let directory = tempfile::tempdir()?;
    std::fs::create_dir(directory.path().join("below"))?;
    std::fs::write(directory.path().join("below/planted.log"), format!("a log: {secret}\n"))?;
    ledger::record(kind, secret);
    let (found, read) = search(directory.path())?;
    ensure!(found.len() == 1 && found[0].kind == kind && found[0].before == "a log: ", "{found:?}");
    ensure!(read > 0);
    Ok(())
}

/// The databases of the tests, each with the number of sessions in it.
async fn databases(cluster: &Cluster) -> Result<Vec<(String, i64)>> {
    let superuser = cluster.superuser(SUPERUSER).await?;
    let rows = superuser.query("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'", &[]).await?;
    let mut databases = Vec::new();
    for row in rows {
        let name: String = row.get(0);
        let client = cluster.superuser(&name).await?;
        // A test may have dropped the extension.
        let there = client.query_one("SELECT to_regclass('mcp.sessions') IS NOT NULL", &[]).await?;
        if there.get(0) {
            databases.push((name, client.query_one("SELECT count(*) FROM mcp.sessions", &[]).await?.get(0)));
        }
    }
    Ok(databases)
}

/// As many as are worth the time of dumping them; the data files of all are searched.
fn busiest(databases: &[(String, i64)]) -> Vec<&str> {
    let mut databases: Vec<_> = databases.iter().collect();
    databases.sort_by_key(|(_, sessions)| -sessions);
    databases.iter().take(10).map(|(name, _)| name.as_str()).collect()
}

/// Dumps the roles and these databases beside the data, and says how many bytes that made.
fn dump(cluster: &Cluster, databases: &[&str]) -> Result<u64> {
    let mut dumped = 0;
    let roles = cluster.directory().join("dump.roles.sql");
    let mut program = cluster.program("pg_dumpall", SUPERUSER);
    program.command().args(["--roles-only", "--file"]).arg(&roles);
    program.run()?;
    dumped += std::fs::metadata(&roles)?.len();
    for database in databases {
        let file = cluster.directory().join(format!("dump.{database}.sql"));
        let mut program = cluster.program("pg_dump", database);
        program.command().arg("--file").arg(&file);
        program.run()?;
        dumped += std::fs::metadata(&file)?.len();
    }
    Ok(dumped)
}

fn search(directory: &Path) -> Result<(Vec<Leak>, u64)> {
    ledger::search(directory, &|_| true)
}
