//! Identity providers from npm: `oidc-provider`, certified, and WorkOS' emulator of its own API.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::frontend::Settings;
use crate::ledger;
use crate::npm::{self, text};
use crate::process::Process;

/// A running `oidc-provider`.
#[derive(Debug)]
pub struct OidcProvider {
    issuer: String,
    _process: Process,
}

/// A running `workos/emulate`.
#[derive(Debug)]
pub struct WorkosEmulator {
    url: String,
    api_key: String,
    _process: Process,
}

impl OidcProvider {
    /// Installs it where it is missing, and starts it on a port of its own.
    pub fn start() -> Result<Self> {
        let (process, hello) = npm::serve("idp", &["oidc-provider.mjs"])?;
        Ok(Self { issuer: text(&hello, "issuer")?, _process: process })
    }

    /// Its issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Registers the frontend of `settings` as a client, and names this provider in its settings.
    pub async fn register(&self, settings: Settings) -> Result<Settings> {
        let answer = reqwest::Client::new()
            .post(format!("{}/reg", self.issuer))
            .json(&json!({
                "redirect_uris": [settings.callback()],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "token_endpoint_auth_method": "client_secret_basic",
            }))
            .send()
            .await?;
        let status = answer.status();
        let client: Value = answer.json().await?;
        ensure!(status.is_success(), "oidc-provider refused the registration: {status} {client}");
        ledger::record_fields("client", &client, &["client_secret", "registration_access_token"]);
        Ok(settings
            .set("MCP_IDP", "oidc")
            .set("OIDC_ISSUER", &self.issuer)
            .set("OIDC_CLIENT_ID", &text(&client, "client_id")?)
            .set("OIDC_CLIENT_SECRET", &text(&client, "client_secret")?))
    }
}

impl WorkosEmulator {
    /// Installs it where it is missing, and starts it with these users.
    pub fn start(users: &[&str]) -> Result<Self> {
        let mut arguments = vec!["workos.mjs"];
        arguments.extend(users);
        let (process, hello) = npm::serve("idp", &arguments)?;
        let api_key = text(&hello, "api_key")?;
        ledger::record("WorkOS API key", &api_key);
        Ok(Self { url: text(&hello, "url")?, api_key, _process: process })
    }

    /// Its base URL, the issuer of its tokens too.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Names this provider in `settings`.
    pub fn configure(&self, settings: Settings) -> Settings {
        settings
            .set("MCP_IDP", "workos")
            .set("WORKOS_API_KEY", &self.api_key)
            .set("WORKOS_CLIENT_ID", "client_01TESTSUITE")
            .set("WORKOS_API_URL", &self.url)
    }
}
