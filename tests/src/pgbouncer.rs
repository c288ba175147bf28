//! PgBouncer in transaction mode, between the tests and a cluster.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::cluster::{Cluster, LOGINS, SUPERUSER, free_port};
use crate::process::{Process, Program};
use crate::tap::Tap;
use crate::wait::wait_for;

/// Debian's place, which is on no ordinary user's path.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running PgBouncer: however many clients come, it has `pool_size` connections to the server for each login.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    log: PathBuf,
    // Ends the program.
    _process: Process,
}

impl PgBouncer {
    /// Starts one in front of `cluster`, with a tap between the two. It asks nobody for a password: it listens on
    /// loopback, for a test.
    pub async fn start(cluster: &Cluster, pool_size: usize, tap: &Tap) -> Result<Self> {
        let port = free_port()?;
        let file = |what: &str| cluster.directory().join(format!("pgbouncer-{port}.{what}"));
        let mut users = String::new();
        for user in LOGINS.into_iter().chain([SUPERUSER]) {
            writeln!(users, "\"{user}\" \"\"")?;
        }
        std::fs::write(file("users"), users)?;
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {users}\nadmin_users = {SUPERUSER}\nstats_users = mcp_frontend_exec\n\
             pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 100\n\
             server_reset_query = DISCARD ALL\nserver_reset_query_always = 0\n",
            server = tap.port(),
            users = file("users").display(),
        );
        std::fs::write(file("ini"), settings)?;
        let log = std::fs::File::create(file("log"))?;
        let mut program = Program::as_postgres("pgbouncer", PROGRAM, Signal::SIGINT);
        program
            .command()
            .current_dir(cluster.directory())
            .arg(file("ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let process = program.spawn().context("is the package pgbouncer installed?")?;
        let bouncer = Self { port, log: file("log"), _process: process };
        wait_for("PgBouncer", Duration::from_secs(20), || async {
            Ok(bouncer.client(SUPERUSER, "pgbouncer").await.ok())
        })
        .await
        .with_context(|| std::fs::read_to_string(&bouncer.log).unwrap_or_default())?;
        Ok(bouncer)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection of `login` through it. Only unnamed statements work: the next transaction may run elsewhere.
    pub async fn client(&self, login: &str, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(login)
            .dbname(database)
            .connect_timeout(Duration::from_secs(10));
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Its version.
    pub async fn version(&self) -> Result<[u32; 3]> {
        let messages = self.client(SUPERUSER, "pgbouncer").await?.simple_query("SHOW VERSION").await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        // "PgBouncer 1.18.0"
        let numbers = row.and_then(|text| text.rsplit(' ').next()).unwrap_or_default();
        let numbers: Vec<u32> = numbers.split('.').map_while(|number| number.parse().ok()).collect();
        numbers.try_into().map_err(|_| anyhow::anyhow!("no version: {row:?}"))
    }

    /// The connection string of one of [`LOGINS`] through it.
    pub fn url(&self, login: &str, database: &str) -> String {
        format!("postgresql://{login}@127.0.0.1:{}/{database}", self.port)
    }
}
