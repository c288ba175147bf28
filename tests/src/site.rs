//! Replicas of one frontend behind one public URL.

use anyhow::{Context, Result};
use url::Url;

use crate::balancer::Balancer;
use crate::frontend::{Frontend, Settings};
use crate::mcp::{Era, McpClient};

/// A deployment: what clients see is its balancer.
#[derive(Debug)]
pub struct Site {
    balancer: Balancer,
    frontends: Vec<Frontend>,
}

impl Site {
    /// Starts `replicas` frontends of `settings`, whose public URL is that of `balancer`.
    pub async fn start(balancer: Balancer, settings: &Settings, replicas: usize) -> Result<Self> {
        let mut site = Self { balancer, frontends: Vec::new() };
        for _ in 0..replicas {
            site.frontends.push(settings.replica()?.start().await?);
        }
        site.lead()?;
        Ok(site)
    }

    /// Its public URL.
    pub fn url(&self) -> &str {
        self.balancer.url()
    }

    /// A client of its MCP endpoint.
    pub fn mcp(&self, era: Era) -> McpClient {
        McpClient::new(&format!("{}/mcp/v1", self.url()), era)
    }

    /// Kills a replica as it stands, and has a new one take its place.
    pub async fn replace(&mut self, replica: usize) -> Result<()> {
        let successor = self.frontends[replica].settings().replica()?.start().await?;
        self.frontends[replica].kill()?;
        self.frontends[replica] = successor;
        self.lead()
    }

    fn lead(&self) -> Result<()> {
        let port = |frontend: &Frontend| Url::parse(&frontend.url())?.port().context("a port in its URL");
        self.balancer.lead_to(&self.frontends.iter().map(port).collect::<Result<Vec<_>>>()?);
        Ok(())
    }
}
