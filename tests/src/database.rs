//! A database of one test.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::checkout;
use crate::cluster::Cluster;

/// The database others are copied from.
const TEMPLATE: &str = "suite_template";

/// A database with the extension and the fixture in it. It stays until the cluster goes, so that the secrets
/// of every test can be looked for in it at the end.
#[derive(Debug)]
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Database<'a> {
    /// Makes the template once, under a lock of the cluster, and copies it.
    pub(crate) async fn create(cluster: &'a Cluster, name: &str) -> Result<Database<'a>> {
        let superuser = cluster.superuser("postgres").await?;
        // Copying needs the template to itself, so the lock spans both steps. It ends with the connection.
        superuser.execute("SELECT pg_advisory_lock(4242)", &[]).await?;
        let made = superuser.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&TEMPLATE]).await?;
        if made.is_none() {
            make_template(cluster, &superuser).await.context("cannot make the template database")?;
        }
        superuser
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy"))
            .await?;
        Ok(Self { cluster, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// A connection of the superuser.
    pub async fn superuser(&self) -> Result<Client> {
        self.cluster.superuser(&self.name).await
    }

    /// A connection of the login that owns sessions: the frontend's first pool.
    pub async fn auth(&self) -> Result<Client> {
        self.cluster.login("mcp_frontend_auth", &self.name).await
    }

    /// A connection of the login that calls tools: the frontend's second pool.
    pub async fn exec(&self) -> Result<Client> {
        self.cluster.login("mcp_frontend_exec", &self.name).await
    }

    /// A connection of an application that uses the identity helpers by itself.
    pub async fn application(&self) -> Result<Client> {
        self.cluster.login("app_login", &self.name).await
    }
}

async fn make_template(cluster: &Cluster, superuser: &Client) -> Result<()> {
    let making = format!("{TEMPLATE}_in_the_making");
    // Where an earlier attempt failed, this one is to fail for the same reason and not for its remains.
    superuser.batch_execute(&format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)")).await?;
    superuser.batch_execute(&format!("CREATE DATABASE {making}")).await?;
    {
        let client = cluster.superuser(&making).await?;
        client.batch_execute("CREATE EXTENSION mcp_sessions").await?;
        let fixture = checkout::tests().join("suite/fixture.sql");
        client.batch_execute(&std::fs::read_to_string(fixture)?).await?;
    }
    // A closed connection's backend is gone a moment later; DDL on the database waits for it by itself.
    superuser.batch_execute(&format!("ALTER DATABASE {making} RENAME TO {TEMPLATE}")).await?;
    Ok(())
}
