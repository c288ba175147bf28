//! The development identity provider of `make run`. Signing in is tested with the others; this one for what it shows,
//! and how it starts and ends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::checkout;
use crate::cluster::free_port;
use crate::frontend::Settings;
use crate::ledger;
use crate::process::{Process, Program};
use crate::wait::wait_until;

const START: Duration = Duration::from_secs(60);

/// The program with these settings and no others; what it prints can be read.
pub fn program(settings: &[(&str, &str)]) -> Result<Program> {
    let mut program = Program::new("mcp-dev-idp", checkout::dev_idp()?, Signal::SIGTERM);
    let command = program.command();
    command.env_clear().envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(program)
}

/// A secret for its client.
pub fn client_secret() -> String {
    let secret = Uuid::new_v4().simple().to_string();
    ledger::record("client secret", &secret);
    secret
}

/// A running development identity provider.
#[derive(Debug)]
pub struct DevProvider {
    issuer: String,
    secret: String,
    process: Process,
}

impl DevProvider {
    /// Starts it for the frontend whose redirect URI this is.
    pub async fn start(callback: &str) -> Result<Self> {
        let (bind, secret) = (format!("127.0.0.1:{}", free_port()?), client_secret());
        let program = program(&[
            ("MCP_DEV_IDP_BIND", &bind),
            ("MCP_DEV_IDP_CLIENT_SECRET", &secret),
            ("MCP_DEV_IDP_REDIRECT_URIS", callback),
        ])?;
        let provider = Self { issuer: format!("http://{bind}"), secret, process: program.spawn()? };
        let discovery = format!("{}/.well-known/openid-configuration", provider.issuer);
        wait_until("the development identity provider to serve", START, || async {
            if let Some(status) = provider.process.ended() {
                bail!("the development identity provider ended with {status}");
            }
            Ok(reqwest::get(&discovery).await.is_ok_and(|answer| answer.status().is_success()))
        })
        .await?;
        Ok(provider)
    }

    /// Its issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What runs.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Names this provider in `settings`.
    pub fn configure(&self, settings: Settings) -> Settings {
        settings
            .set("MCP_IDP", "oidc")
            .set("OIDC_ISSUER", &self.issuer)
            .set("OIDC_CLIENT_ID", "mcp-frontend")
            .set("OIDC_CLIENT_SECRET", &self.secret)
    }
}
