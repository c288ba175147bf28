//! What the tests share, each part started by the first test that wants it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use tests::balancer::Balancer;
use tests::cluster::{Cluster, Options};
use tests::database::Database;
use tests::frontend::{Frontend, Settings};
use tests::idp::npm::{OidcProvider, WorkosEmulator};
use tests::idp::stub::StubProvider;
use tests::pgbouncer::PgBouncer;
use tests::site::Site;
use tests::tap::Tap;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// No test may hang the suite; those that go on for a while of their own accord are given that while.
const LONGEST: Duration = Duration::from_secs(180);

/// The people WorkOS' emulator knows.
pub const WORKOS_USERS: [&str; 2] = ["alice@example.com", "bob@example.com"];

/// The shared parts of the suite.
pub struct World {
    cluster: OnceCell<Cluster>,
    oidc: OnceCell<OidcProvider>,
    workos: OnceCell<WorkosEmulator>,
    /// Logs outlive their clusters and frontends here, for the search at the end; and the suite, in the directory
    /// that `MCP_TEST_LOGS` names.
    logs: PathBuf,
    _temporary: Option<TempDir>,
    kept: Mutex<u32>,
    looked: AtomicUsize,
    frontends: AtomicUsize,
    whole: bool,
    // Last: the parts above end while their runtime still runs.
    runtime: Runtime,
}

impl World {
    /// `whole`: whether every test runs.
    pub fn new(whole: bool) -> Result<Self> {
        let (logs, temporary) = match std::env::var_os("MCP_TEST_LOGS") {
            Some(directory) => {
                std::fs::create_dir_all(&directory)?;
                (PathBuf::from(directory), None)
            }
            None => {
                let directory = tempfile::Builder::new().prefix("mcp-suite-logs-").tempdir()?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        Ok(Self {
            cluster: OnceCell::new(),
            oidc: OnceCell::new(),
            workos: OnceCell::new(),
            logs,
            _temporary: temporary,
            kept: Mutex::new(0),
            looked: AtomicUsize::new(0),
            frontends: AtomicUsize::new(0),
            whole,
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?,
        })
    }

    /// The cluster all tests share but those that stop it.
    pub async fn cluster(&self) -> Result<&Cluster> {
        self.cluster.get_or_try_init(|| async { Cluster::start(&Options::default()).await }).await
    }

    /// The shared cluster, if any test wanted it.
    pub fn started_cluster(&self) -> Option<&Cluster> {
        self.cluster.get()
    }

    /// A database of the shared cluster for one test.
    pub async fn database(&self) -> Result<Database<'_>> {
        self.cluster().await?.database().await
    }

    /// The certified OpenID provider.
    pub async fn oidc(&self) -> Result<&OidcProvider> {
        self.oidc.get_or_try_init(|| async { tokio::task::block_in_place(OidcProvider::start) }).await
    }

    /// The emulator of WorkOS.
    pub async fn workos(&self) -> Result<&WorkosEmulator> {
        self.workos
            .get_or_try_init(|| async {
                tokio::task::block_in_place(|| WorkosEmulator::start(&WORKOS_USERS))
            })
            .await
    }

    /// A frontend of `database` that signs in at the certified provider.
    pub async fn frontend(&self, database: &Database<'_>) -> Result<Frontend> {
        let settings = self.settings(database)?;
        self.oidc().await?.register(settings).await?.start().await
    }

    /// The same for more than one test; nobody looks into its connections.
    pub async fn lasting_frontend(&self, database: &Database<'_>) -> Result<Frontend> {
        let settings = self.logged(database)?;
        self.oidc().await?.register(settings).await?.start().await
    }

    /// A frontend of `database` that signs in at a stub of its own.
    pub async fn stubbed(&self, database: &Database<'_>) -> Result<(Frontend, StubProvider)> {
        let stub = StubProvider::start().await?;
        let frontend = stub.oidc(self.settings(database)?).start().await?;
        Ok((frontend, stub))
    }

    /// Replicas behind one address that sign in at a stub of their own.
    pub async fn site(&self, database: &Database<'_>, replicas: usize) -> Result<(Site, StubProvider)> {
        let (balancer, stub) = (Balancer::start().await?, StubProvider::start().await?);
        let settings = stub.oidc(self.settings(database)?.set("MCP_PUBLIC_URL", balancer.url()));
        Ok((Site::start(balancer, &settings, replicas).await?, stub))
    }

    /// The settings of a frontend of `database`, without a provider. What its calls leave in its connections is looked
    /// for when it closes them, and fails the test.
    pub fn settings(&self, database: &Database<'_>) -> Result<Settings> {
        let cluster = database.cluster();
        let tap = Tap::loopback(cluster)?;
        let url = |login| cluster.url_at(tap.port(), login, database.name());
        let settings = self
            .logged(database)?
            .set("DATABASE_URL", &url("mcp_frontend_auth"))
            .set("MCP_EXEC_DATABASE_URL", &url("mcp_frontend_exec"));
        watch(tap);
        Ok(settings)
    }

    /// Every other one logs in the other format, so that the search at the end reads both.
    fn logged(&self, database: &Database<'_>) -> Result<Settings> {
        let settings = Settings::new(database, &self.logs)?;
        let other = self.frontends.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        Ok(if other { settings.set("MCP_LOG_FORMAT", "json") } else { settings })
    }

    /// Where the logs are kept.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// How many connections of programs were looked into for what they left there.
    pub fn looked(&self) -> usize {
        self.looked.load(Ordering::Relaxed)
    }

    /// Whether every test runs, and not a few that were asked for.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// Copies the log of a cluster of one test before it goes.
    pub fn keep_log(&self, cluster: &Cluster) -> Result<PathBuf> {
        let number = {
            let mut kept = self.kept.lock().expect("no panic under this lock");
            *kept += 1;
            *kept
        };
        let copy = self.logs.join(format!("cluster-{number}.log"));
        std::fs::copy(cluster.log(), &copy).context("cannot keep the cluster's log")?;
        Ok(copy)
    }

    /// Runs the body of a test to its end, or to the deadline.
    pub fn run(&self, body: impl Future<Output = Result<()>>) -> Result<(), Failed> {
        let watched = TAPS.scope(RefCell::default(), async {
            body.await?;
            // The programs that the body started have ended with it.
            let looked = nothing_left(TAPS.with(RefCell::take)).await?;
            self.looked.fetch_add(looked, Ordering::Relaxed);
            Ok(())
        });
        let longest = LONGEST + crate::fuzz::duration();
        let outcome = self.runtime.block_on(async { tokio::time::timeout(longest, watched).await });
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(describe(&error).into()),
            Err(_) => Err(format!("not done after {longest:?}").into()),
        }
    }
}

tokio::task_local! {
    /// The taps of the test that runs.
    static TAPS: RefCell<Vec<Tap>>;
}

/// Has the test that runs fail at its end if something is left in the connections through this tap.
pub fn watch(tap: Tap) {
    TAPS.with(|taps| taps.borrow_mut().push(tap));
}

/// A pooler of `pool_size` connections for each login. What was left in them fails the test at its end.
pub async fn pgbouncer(cluster: &Cluster, pool_size: usize) -> Result<PgBouncer> {
    let tap = Tap::socket(cluster)?;
    let bouncer = PgBouncer::start(cluster, pool_size, &tap).await?;
    watch(tap);
    Ok(bouncer)
}

/// How many connections were looked into, where nothing was left in any.
async fn nothing_left(taps: Vec<Tap>) -> Result<usize> {
    let (mut looked, mut left) = (0, Vec::new());
    for tap in taps {
        let (connections, findings) = tap.findings().await?;
        looked += connections;
        left.extend(findings);
    }
    ensure!(left.is_empty(), "{}", left.join("\n"));
    Ok(looked)
}

/// The error with its causes, and where in the suite it arose, where a backtrace was taken.
fn describe(error: &anyhow::Error) -> String {
    let trace = error.backtrace().to_string();
    let places = trace.lines().map(str::trim).filter_map(|line| line.strip_prefix("at ./suite/"));
    let places: Vec<_> = places.filter(|place| !place.starts_with("world.rs")).collect();
    format!("{error:#}\nat {}", places.join(", "))
}

/// Makes a [`Trial`] of each function named, `module::function`.
macro_rules! tests {
    ($world:expr; $($name:ident),+ $(,)?) => {
        vec![$({
            let world = std::sync::Arc::clone($world);
            libtest_mimic::Trial::test(
                concat!(module_path!(), "::", stringify!($name)).trim_start_matches("suite::"),
                move || world.run($name(&world)),
            )
        }),+]
    };
}
pub(crate) use tests;

/// What each file of the suite offers.
pub type Trials = Vec<Trial>;
/// How each of them gets at what is shared.
pub type Shared = Arc<World>;
