//! After everything: no secret that was handed out stands in a log, in the data directory or in a dump.

use std::path::Path;

use anyhow::{Result, ensure};
use tests::cluster::{SUPERUSER, Stop};
use tests::ledger::{self, Leak};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; no_secret_in_any_log_dump_or_data_file]
}

async fn no_secret_in_any_log_dump_or_data_file(world: &Shared) -> Result<()> {
    let Some(cluster) = world.started_cluster() else {
        // A run that was filtered down to tests without a cluster handed nothing out.
        return Ok(());
    };
    let counts = ledger::counts();
    let dump = cluster.directory().join("dump.sql");
    let mut pg_dumpall = cluster.program("pg_dumpall", SUPERUSER);
    pg_dumpall.command().arg("--file").arg(&dump);
    tokio::task::block_in_place(|| pg_dumpall.run())?;
    let dumped = std::fs::metadata(&dump)?.len();
    // Everything must be on disk before the files are read.
    tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?;

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

fn search(directory: &Path) -> Result<(Vec<Leak>, u64)> {
    ledger::search(directory, &|_| true)
}
