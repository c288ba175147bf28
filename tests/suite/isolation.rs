//! Touch, refresh, revoke and clean-up against each other, by PostgreSQL's own isolation tester: every order of their
//! steps that the specs in `isolation/specs` name.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::checkout;
use tests::process::Program;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; isolation_specs]
}

async fn isolation_specs(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let cluster = database.cluster();
    // The tester writes beside its input, as the user postgres; so it gets a copy of both.
    let scratch = cluster.directory().join("isolation");
    let source = checkout::tests().join("isolation");
    let mut specs = Vec::new();
    for part in ["specs", "expected"] {
        std::fs::create_dir_all(scratch.join(part))?;
        for file in std::fs::read_dir(source.join(part))? {
            let file = file?;
            std::fs::copy(file.path(), scratch.join(part).join(file.file_name()))?;
            if part == "specs" {
                let name = file.path().file_stem().context("a spec has a name")?.to_string_lossy().into_owned();
                specs.push(name);
            }
        }
    }
    specs.sort();
    ensure!(!specs.is_empty(), "no specs in {}", source.display());
    open_to_postgres(&scratch)?;

    let mut pg_config = Program::as_postgres("pg_config", cluster.bin().join("pg_config"), Signal::SIGTERM);
    pg_config.command().arg("--pgxs");
    let makefile = pg_config.run()?;
    let runner = Path::new(makefile.trim())
        .ancestors()
        .map(|directory| directory.join("test/isolation/pg_isolation_regress"))
        .find(|runner| runner.exists())
        .context("pg_isolation_regress is missing: install postgresql-server-dev-15")?;
    let mut tester = Program::as_postgres("pg_isolation_regress", runner, Signal::SIGTERM);
    cluster.set_environment(&mut tester, database.name());
    tester
        .command()
        .current_dir(&scratch)
        .env("PGISOLATIONTIMEOUT", "60")
        .stdin(Stdio::null())
        .args(["--use-existing", "--inputdir=.", "--outputdir=."])
        .arg(format!("--bindir={}", cluster.bin().display()))
        .arg(format!("--dbname={}", database.name()))
        .args(&specs);
    let outcome = tokio::task::block_in_place(|| tester.run());
    let differences = std::fs::read_to_string(scratch.join("regression.diffs")).unwrap_or_default();
    // For whoever writes or changes a spec: the results, where they can be copied from.
    if let Some(keep) = std::env::var_os("MCP_TEST_KEEP_ISOLATION") {
        std::fs::create_dir_all(&keep)?;
        for file in std::fs::read_dir(scratch.join("results"))? {
            let file = file?;
            std::fs::copy(file.path(), Path::new(&keep).join(file.file_name()))?;
        }
    }
    outcome.context(differences)?;
    Ok(())
}

fn open_to_postgres(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            open_to_postgres(&path)?;
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        }
    }
    Ok(())
}
