//! The scripts behind `make`: a failure that they run into is a failure of theirs, and what they make is gone afterwards.
//!
//! Each runs in a directory that holds it and what it needs of a checkout, so that it finds nothing else to write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;
use tests::checkout;
use tests::process::{Process, Program};
use tests::wait::{wait_for, wait_until};
use tests::{process_table, stub};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        runner_of_all_tests_fails_with_any_of_them,
        runner_of_all_tests_ends_what_runs_too_long,
        runner_of_all_tests_can_be_interrupted,
        runner_of_the_lints_fails_with_any_of_them,
        continuous_integration_fails_with_the_tests,
        temporary_directory_goes_however_the_command_ends,
        servers_that_are_left_in_the_temporary_directory_are_ended,
        throw_away_cluster_goes_with_its_command,
        golden_output_that_differs_is_a_failure,
        isolation_output_that_differs_is_a_failure,
        clean_removes_what_was_built_and_reset_what_was_kept,
        database_is_elsewhere_where_its_server_cannot_go,
        scripts_take_the_first_postgresql_there_is,
    ]
}

/// For whatever ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory laid out like a checkout.
struct Copy(TempDir);

impl Copy {
    fn of(files: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mcp-copy-").tempdir()?;
        // PostgreSQL runs as another user where this one is root.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let copy = Self(directory);
        for file in ["Cargo.toml", "scripts/env.sh"].iter().chain(files) {
            let to = copy.path(file);
            stub::install(&to, &fs::read_to_string(checkout::root().join(file))?)?;
        }
        Ok(copy)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        stub::install(&self.path(file), text)
    }

    /// A script in place of one that would take long.
    fn stub(&self, name: &str, text: &str) -> Result<()> {
        self.write(&format!("scripts/{name}"), &format!("#!/usr/bin/env bash\n{text}\n"))
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        Ok(self.set_up(&mut Command::new(self.path(script))).args(arguments).output()?)
    }

    /// As a terminal does: the leader of a process group, which is what Ctrl-C reaches. Its output is in the file `output`.
    fn start(&self, script: &str, arguments: &[&str]) -> Result<Process> {
        let mut program = Program::new(script, "env", Signal::SIGTERM);
        let output = fs::File::create(self.path("output"))?;
        self.set_up(program.command())
            // The suite may have been started by nohup, or by a shell in the background, which have these ignored.
            .arg("--default-signal=HUP,INT")
            .arg(self.path(script))
            .args(arguments)
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        program.spawn()
    }

    fn set_up<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .env("TMPDIR", self.path("tmp"))
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("MCP_RUN_DIR")
            .env_remove("MAKELEVEL")
            .env_remove("MAKEFLAGS")
    }

    fn make_tmp(&self) -> Result<()> {
        fs::create_dir_all(self.path("tmp"))?;
        Ok(fs::set_permissions(self.path("tmp"), Permissions::from_mode(0o1777))?)
    }

    /// What is left where temporary files go.
    fn left(&self) -> Result<Vec<PathBuf>> {
        fs::read_dir(self.path("tmp"))?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Gives it the private PostgreSQL tree of the checkout.
    fn link_postgres(&self) -> Result<()> {
        Ok(std::os::unix::fs::symlink(checkout::root().join(".pg"), self.path(".pg"))?)
    }
}

/// Sends `signal` to whatever a terminal would send it to: how the script ends then.
fn signalled(running: &Process, signal: Signal) -> Result<ExitStatus> {
    killpg(running.pid(), signal)?;
    tokio::task::block_in_place(|| running.wait(PATIENCE))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The process whose id is in `file`, once it is there.
async fn process_in(file: &Path) -> Result<Pid> {
    wait_for("a process id", PATIENCE, || async {
        let id = fs::read_to_string(file).ok().filter(|id| id.ends_with('\n'));
        Ok(id.map(|id| id.trim().parse().map(Pid::from_raw)).transpose()?)
    })
    .await
}

async fn await_end_of(process: Pid) -> Result<()> {
    let what = format!("process {process} to end");
    wait_until(&what, PATIENCE, || async { Ok(!process_table::is_running(process)) }).await
}

const KINDS: &str = r#"case $1 in
good) printf 'test result: ok. 3 passed; 0 failed; 0 ignored\ntest result: ok. 0 passed; 0 failed; 9 ignored\n' ;;
coloured) printf '# \e[32mAll 5 tests passed\e[0m. \n' ;;
dots) echo ' All 16 tests passed. ' && echo 'nothing more' ;;
bad) echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored' && exit 101 ;;
worse) echo ' 1 of 22 tests failed. ' >&2 && exit 1 ;;
conformance) echo 'conformance: 65 passed, 0 failed, 4 known to fail' ;;
silent) exit 1 ;;
slow) echo $$ >slow.pid && sleep 300 ;;
units | extension | regress | isolation | suite) echo "test result: ok. $1 1 passed; 0 failed" ;;
esac"#;

/// What was said after the empty line that stands before the verdicts.
fn verdicts(output: &str) -> Vec<&str> {
    output.rsplit_once("\n\n").map_or_else(Vec::new, |(_, end)| end.lines().map(str::trim_end).collect())
}

async fn runner_of_all_tests_fails_with_any_of_them(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/test"])?;
    copy.stub("test-kind", KINDS)?;
    tokio::task::block_in_place(|| {
        let output =
            copy.run("scripts/test", &["good", "worse", "coloured", "bad", "dots", "silent", "conformance"])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        let said = text(&output.stdout);
        ensure!(
            verdicts(&said)
                == [
                    "good        ok  test result: ok. 3 passed; 0 failed; 0 ignored",
                    "worse       FAILED   1 of 22 tests failed.",
                    "coloured    ok  # All 5 tests passed.",
                    "bad         FAILED  test result: FAILED. 2 passed; 1 failed; 0 ignored",
                    "dots        ok   All 16 tests passed.",
                    "silent      FAILED",
                    "conformance ok  conformance: 65 passed, 0 failed, 4 known to fail",
                ],
            "{said}"
        );
        // All of it is shown while it runs, and kept.
        ensure!(
            said.starts_with("==> good\ntest result: ok. 3 passed")
                && said.contains("\n==> worse\n 1 of 22 "),
            "{said}"
        );
        ensure!(fs::read_to_string(copy.path("target/test-logs/worse.log"))? == " 1 of 22 tests failed. \n");

        let output = copy.run("scripts/test", &["good"])?;
        ensure!(output.status.success(), "{output:?}");
        let output = copy.run("scripts/test", &[])?;
        let said = text(&output.stdout);
        let kinds: Vec<_> = verdicts(&said).iter().filter_map(|line| line.split(' ').next()).collect();
        ensure!(kinds == ["units", "extension", "regress", "isolation", "suite", "conformance"], "{said}");
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    })
}

async fn runner_of_all_tests_ends_what_runs_too_long(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/test"])?;
    copy.stub("test-kind", KINDS)?;
    let output = tokio::task::block_in_place(|| {
        let mut command = Command::new(copy.path("scripts/test"));
        copy.set_up(&mut command).env("TEST_LIMIT", "1").args(["slow", "good"]).output()
    })?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let said = text(&output.stdout);
    ensure!(verdicts(&said).first() == Some(&"slow        FAILED (still running after 1 s)"), "{said}");
    ensure!(verdicts(&said).get(1).is_some_and(|line| line.starts_with("good        ok ")), "{said}");
    await_end_of(process_in(&copy.path("slow.pid")).await?).await
}

async fn runner_of_all_tests_can_be_interrupted(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/test"])?;
    copy.stub("test-kind", KINDS)?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        fs::remove_file(copy.path("slow.pid")).ok();
        let running = copy.start("scripts/test", &["slow", "good"])?;
        let slow = process_in(&copy.path("slow.pid")).await?;
        let status = signalled(&running, signal)?;
        ensure!(status.code() == Some(130), "{signal}: {status}");
        await_end_of(slow).await?;
        let said = fs::read_to_string(copy.path("output"))?;
        ensure!(!said.contains("good"), "{said}");
    }
    Ok(())
}

async fn runner_of_the_lints_fails_with_any_of_them(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/lint"])?;
    for name in ["install-packages", "make-pg-tree", "install-cargo-pgrx"] {
        copy.stub(name, "")?;
    }
    copy.stub("lint-check", "echo \"checking $1\"; [[ $1 != bad* ]]")?;
    tokio::task::block_in_place(|| {
        let output = copy.run("scripts/lint", &["bad-one", "good", "bad-two"])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(text(&output.stderr) == "error: lint: bad-one bad-two failed\n", "{output:?}");
        ensure!(text(&output.stdout).contains("checking good"), "{output:?}");
        let output = copy.run("scripts/lint", &[])?;
        let said = text(&output.stdout);
        ensure!(output.status.success() && said.ends_with("lint: all held\n"), "{output:?}");
        let checks: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("checking ")).collect();
        ensure!(checks == ["format", "clippy", "dependencies", "sql", "catalog", "shell"], "{said}");
        Ok(())
    })
}

async fn continuous_integration_fails_with_the_tests(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&[".ci/run"])?;
    copy.make_tmp()?;
    tokio::task::block_in_place(|| {
        for (recipe, success, last) in [
            ("@echo all of it passed", true, "all of it passed\n"),
            ("@echo some of it failed; exit 3", false, "make test failed with status 2\n"),
            ("@echo for ever; exec sleep 300", false, "make test failed with status 124\n"),
        ] {
            copy.write("Makefile", &format!("test:\n\t{recipe}\n"))?;
            let mut command = Command::new(copy.path(".ci/run"));
            let output = copy.set_up(&mut command).current_dir("/").env("CI_LIMIT", "2").output()?;
            ensure!(output.status.success() == success && text(&output.stdout).ends_with(last), "{output:?}");
            ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);
        }
        Ok(())
    })
}

async fn temporary_directory_goes_however_the_command_ends(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/with-tmpdir"])?;
    copy.make_tmp()?;
    let command = "stat -c '%a %n' \"$TMPDIR\"; mkdir \"$TMPDIR/some\"; touch \"$TMPDIR/some/file\"; exit 7";
    let output = tokio::task::block_in_place(|| copy.run("scripts/with-tmpdir", &["sh", "-c", command]))?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    let said = text(&output.stdout);
    let below = format!("711 {}/mcp.", copy.path("tmp").display());
    ensure!(said.starts_with(&below) && text(&output.stderr).is_empty(), "{output:?}");
    ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);

    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        fs::remove_file(copy.path("slow.pid")).ok();
        let command = "touch \"$TMPDIR/file\"; echo $$ >slow.pid; exec sleep 300";
        let running = copy.start("scripts/with-tmpdir", &["sh", "-c", command])?;
        let slow = process_in(&copy.path("slow.pid")).await?;
        let status = signalled(&running, signal)?;
        ensure!(status.code() == Some(130), "{signal}: {status}");
        await_end_of(slow).await?;
        ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);
    }
    Ok(())
}

async fn servers_that_are_left_in_the_temporary_directory_are_ended(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/with-tmpdir"])?;
    copy.make_tmp()?;
    // One ends by itself when it has seen that the command has, the other never does.
    let command = "for server in quick slow; do mkdir -p $TMPDIR/$server/data; done
        echo $$ >command.pid
        setsid sh -c 'echo $$ >$TMPDIR/quick/data/postmaster.pid; sleep 1
            touch ended; rm $TMPDIR/quick/data/postmaster.pid' >quick.out 2>&1 &
        setsid env --default-signal=QUIT sh -c 'echo $$ >$TMPDIR/slow/data/postmaster.pid; echo $$ >slow.pid
            exec sleep 300' >slow.out 2>&1 &
        while [ ! -s slow.pid ] || [ ! -s $TMPDIR/quick/data/postmaster.pid ]; do sleep 0.1; done
        touch started; exec sleep 300";
    let running = copy.start("scripts/with-tmpdir", &["sh", "-c", command])?;
    wait_until("the servers to start", PATIENCE, || async { Ok(copy.path("started").exists()) }).await?;
    killpg(running.pid(), Signal::SIGINT)?;
    // It waits for the servers by now, and nobody's impatience changes that.
    await_end_of(process_in(&copy.path("command.pid")).await?).await?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        killpg(running.pid(), signal)?;
    }
    let status = tokio::task::block_in_place(|| running.wait(PATIENCE))?;
    ensure!(status.code() == Some(130), "{status}");
    ensure!(copy.path("ended").exists(), "nobody waited for a server that was ending");
    await_end_of(process_in(&copy.path("slow.pid")).await?).await?;
    ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);
    Ok(())
}

async fn throw_away_cluster_goes_with_its_command(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/with-cluster"])?;
    copy.make_tmp()?;
    copy.link_postgres()?;
    let ask = "psql -XqAt -c \"SELECT concat_ws(' ', current_database(), current_user, rolsuper, pg_encoding_to_char(encoding), datcollate,
            current_setting('shared_preload_libraries'), current_setting('listen_addresses'),
            current_setting('mcp.database')) FROM pg_roles, pg_database
         WHERE rolname = current_user AND datname = current_database()\"; stat -c %a $PGHOST; exit 7";
    let bin = checkout::postgres_bin()?;
    let ask = format!("PATH={}:$PATH; {ask}", bin.display());
    tokio::task::block_in_place(|| {
        for (arguments, worker_database) in
            [(&["sh", "-c", &ask][..], "mcp_test"), (&["--no-worker", "sh", "-c", &ask], "")]
        {
            let output = copy.run("scripts/with-cluster", arguments)?;
            ensure!(output.status.code() == Some(7), "{output:?}");
            let expected = format!("mcp_test postgres t UTF8 C.UTF-8 mcp_sessions  {worker_database}\n700\n");
            ensure!(text(&output.stdout) == expected, "{output:?}");
            ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);
        }
        // What the server found fatal is told where the command fails.
        for (status, told) in [(0, false), (1, true)] {
            let psql = bin.join("psql");
            let command = format!("{} -Xd nowhere 2>/dev/null; exit {status}", psql.display());
            let output = copy.run("scripts/with-cluster", &["sh", "-c", &command])?;
            ensure!(output.status.code() == Some(status), "{output:?}");
            let said = text(&output.stderr);
            ensure!(said.ends_with("FATAL:  database \"nowhere\" does not exist\n") == told, "{said}");
            ensure!(said.is_empty() != told, "{said}");
        }
        Ok(())
    })?;

    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        fs::remove_file(copy.path("server.pid")).ok();
        let command = "head -n1 $PGHOST/data/postmaster.pid >server.pid; exec sleep 300";
        let running = copy.start("scripts/with-cluster", &["sh", "-c", command])?;
        let server = process_in(&copy.path("server.pid")).await?;
        // By somebody impatient.
        let ended = || async {
            killpg(running.pid(), signal)
                .or_else(|gone| if gone == Errno::ESRCH { Ok(()) } else { Err(gone) })?;
            Ok(running.ended())
        };
        let status = wait_for("the end", PATIENCE, ended).await?;
        ensure!(status.code() == Some(130), "{signal}: {status}");
        await_end_of(server).await?;
        ensure!(copy.left()?.is_empty(), "{:?}", copy.left()?);
    }

    // Where no socket can be made.
    let long = copy.path(&format!("tmp/{}", "long".repeat(20)));
    fs::create_dir(&long)?;
    fs::set_permissions(&long, Permissions::from_mode(0o1777))?;
    let mut command = Command::new(copy.path("scripts/with-cluster"));
    let command = copy.set_up(&mut command).env("TMPDIR", &long).args(["touch", "done"]);
    let output = tokio::task::block_in_place(|| command.output())?;
    ensure!(!output.status.success() && !copy.path("done").exists(), "{output:?}");
    let said = text(&output.stderr);
    let reason = "error: the test cluster did not start: could not create any Unix-domain sockets\n";
    ensure!(said.contains(reason), "{said}");
    ensure!(fs::read_dir(&long)?.next().is_none(), "something is left");
    Ok(())
}

/// Runs a runner on one test whose expected output is not what it prints, accepts that, and runs it again; and with a
/// second test. The paths are those of the first, `one`.
fn differs_and_is_accepted(copy: &Copy, script: &str, source: &str, expected: &str) -> Result<()> {
    copy.make_tmp()?;
    copy.link_postgres()?;
    copy.write(expected, "something else\n")?;
    let output = copy.run(script, &[])?;
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said.contains("-something else\n")
            && said.contains("error: the output differs from what is expected"),
        "{said}"
    );
    let output = copy.run(script, &["--accept", "one"])?;
    ensure!(
        output.status.success() && text(&output.stdout).contains("accepted: review the difference"),
        "{output:?}"
    );
    let accepted = fs::read_to_string(copy.path(expected))?;
    ensure!(accepted.contains("42"), "{accepted}");
    for arguments in [&["one"][..], &[]] {
        let output = copy.run(script, arguments)?;
        ensure!(output.status.success(), "{output:?}");
    }
    // Tests that nobody has seen the output of yet, and the output of one that is no more.
    let two = |path: &str| path.replace("one", "two");
    copy.write(&two(source), &fs::read_to_string(copy.path(source))?)?;
    let expectations = copy.path(expected).with_file_name("");
    fs::remove_dir_all(&expectations)?;
    ensure!(!copy.run(script, &[])?.status.success(), "no expected output, and it passed");
    ensure!(!expectations.exists(), "an expected output was made by itself");
    let results = if script == "scripts/regress" { "pg_regress" } else { "isolation" };
    copy.write(&format!("target/{results}/results/three.out"), "")?;
    ensure!(copy.run(script, &["--accept"])?.status.success());
    for path in [expected, &two(expected)] {
        ensure!(fs::read_to_string(copy.path(path))? == accepted, "{path}");
    }
    ensure!(!expectations.join("three.out").exists(), "an old output was accepted");
    // Of two, the one that is named.
    copy.write(&two(expected), "something else\n")?;
    ensure!(copy.run(script, &["one"])?.status.success());
    ensure!(!copy.run(script, &[])?.status.success());
    Ok(())
}

async fn golden_output_that_differs_is_a_failure(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/regress", "scripts/with-cluster"])?;
    let dir = "extension/tests/pg_regress";
    copy.write(&format!("{dir}/sql/setup.sql"), "CREATE TABLE forty_two AS SELECT 42 AS it;\n")?;
    copy.write(&format!("{dir}/expected/setup.out"), "CREATE TABLE forty_two AS SELECT 42 AS it;\n")?;
    // `setup` comes first, and no notice says where it runs.
    let sql = "SELECT it FROM forty_two;\nDO $$ BEGIN RAISE NOTICE 'here'; RAISE WARNING 'seen'; END $$;\n";
    let source = format!("{dir}/sql/one.sql");
    copy.write(&source, sql)?;
    tokio::task::block_in_place(|| {
        let expected = format!("{dir}/expected/one.out");
        differs_and_is_accepted(&copy, "scripts/regress", &source, &expected)?;
        let printed = fs::read_to_string(copy.path(&expected))?;
        ensure!(printed.contains("WARNING:  seen") && !printed.contains("NOTICE:"), "{printed}");
        Ok(())
    })
}

async fn isolation_output_that_differs_is_a_failure(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/isolation", "scripts/with-cluster"])?;
    let spec = "setup { CREATE TABLE numbers AS SELECT 42 AS it; }\nteardown { DROP TABLE numbers; }\n\
        session a\nstep look { SELECT it, current_setting('mcp.database') = '' AS alone FROM numbers, pg_extension \
        WHERE extname = 'mcp_sessions'; }\n\
        step warn { DO 'BEGIN RAISE WARNING ''seen''; END'; }\nsession b\nstep add { INSERT INTO numbers VALUES (7); }\n";
    let source = "tests/isolation/specs/one.spec";
    copy.write(source, spec)?;
    tokio::task::block_in_place(|| {
        let expected = "tests/isolation/expected/one.out";
        differs_and_is_accepted(&copy, "scripts/isolation", source, expected)?;
        let printed = fs::read_to_string(copy.path(expected))?;
        ensure!(printed.contains("42|t") && !printed.contains("WARNING:"), "{printed}");
        Ok(())
    })
}

async fn clean_removes_what_was_built_and_reset_what_was_kept(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&["scripts/clean"])?;
    let kept = ["README", ".run/secrets", ".run/pg/data/PG_VERSION", "tests/idp/index.mjs"];
    let built =
        [".pg/15/lib/some.so", ".pg/cargo/bin/some", "target/debug/some", "tests/idp/node_modules/some"];
    for file in kept.into_iter().chain(built) {
        copy.write(file, "")?;
    }
    // Where the user postgres cannot enter the checkout, what is its own is elsewhere.
    for (link, to) in [(".pg/16", "elsewhere/pg"), (".run/pg", "elsewhere/run")] {
        if link == ".run/pg" {
            copy.write("elsewhere/run/data/PG_VERSION", "")?;
            fs::remove_dir_all(copy.path(link))?;
        } else {
            copy.write("elsewhere/pg/lib/other.so", "")?;
        }
        std::os::unix::fs::symlink(copy.path(to), copy.path(link))?;
    }
    copy.write(".run/lock", "")?;
    let exists = |file: &str| copy.path(file).exists();
    tokio::task::block_in_place(|| {
        let lock = copy.path(".run/lock");
        let while_it_runs = |arguments: &str| {
            let script =
                format!("exec 9>{}; flock -n 9; exec scripts/clean {arguments} 9>&9", lock.display());
            copy.set_up(&mut Command::new("bash")).args(["-c", &script]).output()
        };
        for arguments in ["", "all"] {
            let output = while_it_runs(arguments)?;
            ensure!(output.status.code() == Some(1), "{output:?}");
            ensure!(
                text(&output.stderr) == "error: `make run` is running here: stop it first\n",
                "{output:?}"
            );
            ensure!(kept.into_iter().chain(built).all(exists), "something is gone");
        }

        let output = copy.run("scripts/clean", &[])?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        ensure!(kept.into_iter().all(exists), "what was kept is gone");
        ensure!(
            ![".pg", "target", "tests/idp/node_modules", "elsewhere/pg"].into_iter().any(exists),
            "something is left"
        );

        let output = copy.run("scripts/clean", &["all"])?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        ensure!(![".run", "elsewhere/run"].into_iter().any(exists), "something is left");
        ensure!(exists("README") && exists("tests/idp/index.mjs") && exists("scripts/clean"));
        // There is nothing left to remove.
        ensure!(copy.run("scripts/clean", &["all"])?.status.success());
        Ok(())
    })
}

/// A checkout that only who owns it can enter, as root's home is. It has no more of a database than its directory.
struct Closed(Copy);

impl Closed {
    fn new() -> Result<Self> {
        let copy = Copy::of(&["scripts/init-run-database", "scripts/run-secrets.sh"])?;
        copy.link_postgres()?;
        fs::create_dir_all(copy.path(".run/log"))?;
        fs::set_permissions(copy.path(""), Permissions::from_mode(0o700))?;
        Ok(Self(copy))
    }

    /// Runs what is in `env.sh`.
    fn run(&self, function: &str) -> Result<Output> {
        let script = format!(". scripts/env.sh; {function} \"$RUN_DIR/pg\"");
        Ok(self.0.set_up(&mut Command::new("bash")).args(["-euc", &script]).output()?)
    }

    fn database(&self) -> Result<PathBuf> {
        Ok(self.0.path(".run/pg").canonicalize()?)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _left = self.run("remove_pg_directory");
    }
}

async fn database_is_elsewhere_where_its_server_cannot_go(_world: &Shared) -> Result<()> {
    let (checkout, other) = (Closed::new()?, Closed::new()?);
    let initialize = || checkout.0.run("scripts/init-run-database", &[]);
    let server = User::from_name("postgres")?.filter(|_| geteuid().is_root());
    tokio::task::block_in_place(|| {
        if server.is_some() {
            let nowhere = "getent() { echo postgres:x:101:104::/proc/nowhere:; }; pg_directory";
            let output = checkout.run(nowhere)?;
            let expected = format!(
                "error: user postgres can write neither {} nor /proc/nowhere\n",
                checkout.0.path(".run/pg").display()
            );
            ensure!(!output.status.success() && text(&output.stderr).ends_with(&expected), "{output:?}");
        }

        let output = initialize()?;
        ensure!(output.status.success(), "{output:?}");
        ensure!(text(&output.stdout) == "making a database in .run/pg\n", "{output:?}");
        let database = checkout.database()?;
        ensure!(database.join("data/PG_VERSION").exists());
        let Some(server) = server else {
            ensure!(database == checkout.0.path(".run/pg"), "{}", database.display());
            return Ok(());
        };
        let directory = server.dir.join("mcp-sessions");
        ensure!(database.parent() == Some(&directory), "{}", database.display());
        ensure!(fs::metadata(&directory)?.uid() == server.uid.as_raw());
        let held = fs::metadata(&database)?;
        ensure!(held.uid() == server.uid.as_raw() && held.mode() & 0o777 == 0o700, "{held:?}");

        // There it is found again, by this checkout alone.
        let output = initialize()?;
        ensure!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
        ensure!(other.run("pg_directory")?.status.success() && other.database()? != database);
        ensure!(checkout.run("remove_pg_directory")?.status.success() && !database.exists());
        ensure!(!checkout.0.path(".run/pg").is_symlink(), "a link to nowhere is left");

        // Where the server can go, it is where it is looked for.
        fs::set_permissions(other.0.path(""), Permissions::from_mode(0o711))?;
        ensure!(other.run("remove_pg_directory")?.status.success());
        ensure!(other.run("pg_directory")?.status.success() && other.database()? == other.0.path(".run/pg"));
        ensure!(other.run("remove_pg_directory")?.status.success() && !other.0.path(".run/pg").exists());
        Ok(())
    })
}

async fn scripts_take_the_first_postgresql_there_is(_world: &Shared) -> Result<()> {
    let copy = Copy::of(&[])?;
    let found = |given: Option<&str>| {
        let mut command = Command::new("bash");
        copy.set_up(&mut command).args(["-euc", ". scripts/env.sh; echo $PG_MAJOR; printenv PG_MAJOR"]);
        match given {
            Some(major) => command.env("PG_MAJOR", major),
            None => command.env_remove("PG_MAJOR"),
        };
        let output = tokio::task::block_in_place(|| command.output())?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok(text(&output.stdout))
    };
    let is_there = |major: &u32| {
        Path::new(&format!("/usr/lib/postgresql/{major}/bin/postgres")).exists()
            && Path::new(&format!("/usr/include/postgresql/{major}/server")).exists()
    };
    // There is one: the extension has been built for it.
    let first = (15..=18).find(is_there).context("no PostgreSQL in the place where Debian has it")?;
    ensure!(found(None)? == format!("{first}\n{first}\n"));
    for major in ["15", "16", "17", "18"] {
        ensure!(found(Some(major))? == format!("{major}\n{major}\n"));
    }
    Ok(())
}
