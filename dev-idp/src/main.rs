//! An OpenID provider for development: discovery, JWKS, authorization code with PKCE, userinfo.
//!
//! It signs in whoever `login_hint` names and asks nobody for a password, so that the frontend's
//! production sign-in can be used unchanged on one machine. For the same reason it listens on loopback
//! alone and answers only to loopback names. It keeps everything in memory.

mod authorize;
mod config;
mod grants;
mod keys;
mod pages;
mod params;
mod provider;
mod router;
mod secret;
mod server;
mod token;
mod user;

use std::process::ExitCode;

use config::Config;
use provider::Provider;

/// `EX_USAGE` of sysexits.h: the settings are wrong, starting again will not help.
const EXIT_BAD_SETTINGS: u8 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults {
                eprintln!("mcp-dev-idp: {fault}");
            }
            return ExitCode::from(EXIT_BAD_SETTINGS);
        }
    };
    let listener = match server::listen(config.bind).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("mcp-dev-idp: cannot listen on {}: {error}", config.bind);
            return ExitCode::FAILURE;
        }
    };
    let provider = match Provider::new(listener.address(), config.client) {
        Ok(provider) => provider,
        Err(error) => {
            eprintln!("mcp-dev-idp: cannot make a signing key: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("mcp-dev-idp: issuer {}", provider.issuer());
    listener.serve(provider).await;
    ExitCode::SUCCESS
}
