//! HTTP in front of the `mcp_sessions` extension: sign-in, MCP, and nothing kept in memory.

#![forbid(unsafe_code)]

mod accept;
mod account;
mod admin;
mod app;
mod authorization_server;
mod body;
mod cancellations;
mod changes;
mod config;
mod cookie;
mod cors;
mod credentials;
mod csrf;
mod database;
mod doctor;
mod error;
mod form;
mod gate;
mod idp;
mod mcp;
mod media_type;
mod metrics;
mod notices;
mod pages;
mod proxies;
mod query;
mod random;
mod rate_limit;
mod redact;
mod respond;
mod router;
mod scope;
mod server;
mod sessions;
mod sign_in;
mod telemetry;
mod token;
mod user_agent;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    config::{Config, ProcessEnvironment},
    server::{Limits, Shutdown},
    telemetry::complain,
};

/// `EX_USAGE` of sysexits(3): the settings are wrong.
const BAD_SETTINGS: u8 = 64;
/// `EX_UNAVAILABLE`: something outside is in the way.
const UNAVAILABLE: u8 = 69;
/// Probes and scrapers are few.
const ADMIN_CONNECTIONS: usize = 64;

/// What the arguments ask for.
enum Command {
    Serve,
    /// Say what is wrong with this installation.
    Doctor {
        json: bool,
    },
}

impl Command {
    fn parse(arguments: &[String]) -> Option<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            [] => Some(Self::Serve),
            ["doctor"] => Some(Self::Doctor { json: false }),
            ["doctor", "--json"] => Some(Self::Doctor { json: true }),
            _ => None,
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = Command::parse(&arguments) else {
        complain("usage: mcp-frontend [doctor [--json]]; settings come from the environment");
        return ExitCode::from(BAD_SETTINGS);
    };
    let environment = ProcessEnvironment;
    let (_log, config) = match (telemetry::start(&environment), Config::read(&environment)) {
        (Ok(log), Ok(config)) => (log, config),
        (log, config) => {
            for fault in config.err().map(|faults| faults.to_string()).iter().flat_map(|text| text.lines()) {
                complain(fault);
            }
            log.err().into_iter().flatten().for_each(complain);
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    let finished = runtime::Builder::new_multi_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Serve => run(config).await.map(|()| ExitCode::SUCCESS),
                Command::Doctor { json } => doctor::run(config, json).await,
            }
        })
    });
    match finished {
        Ok(status) => status,
        Err(error) => {
            complain(error);
            ExitCode::from(UNAVAILABLE)
        }
    }
}

async fn run(config: Config) -> io::Result<()> {
    let shutdown = shut_down_on_signal()?;
    let listener = listen(config.bind).await?;
    let admin_listener = match config.admin_bind {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let limits = Limits { max_connections: config.max_connections, grace: config.shutdown_grace };
    let admin_limits = Limits { max_connections: ADMIN_CONNECTIONS, grace: config.shutdown_grace };
    let app = Arc::new(App::new(config, shutdown.drain.clone())?);
    tracing::info!(address = %listener.local_addr()?, url = app.public_url.origin(), "listening");
    tokio::spawn(report_readiness(app.clone()));
    // Calls outlive the signal, up to the end of the grace; until then they may be cancelled from elsewhere.
    let stop = CancellationToken::new();
    tokio::spawn(app.changes.clone().follow(app.sessions.clone(), stop.clone()));

    let public = server::serve(listener, limits, Some(&app.metrics), shutdown.clone(), {
        let app = app.clone();
        move |peer, request| {
            let app = app.clone();
            async move { router::handle(&app, peer, request).await }
        }
    });
    let admin = async {
        let Some(listener) = admin_listener else { return };
        let app = app.clone();
        server::serve(listener, admin_limits, None, shutdown.clone(), move |_, request| {
            let app = app.clone();
            async move { admin::handle(&app, request).await }
        })
        .await;
    };
    tokio::join!(public, admin);
    stop.cancel();
    app.sessions.close();
    tracing::info!("stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// SIGTERM or SIGINT drains; a second one cuts off.
fn shut_down_on_signal() -> io::Result<Shutdown> {
    let shutdown = Shutdown::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let told = shutdown.clone();
    tokio::spawn(async move {
        for token in [told.drain, told.cut] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("told to stop");
            token.cancel();
        }
    });
    Ok(shutdown)
}

/// Says at once what would otherwise show at the first request only. It changes nothing: a database that is
/// down may come up.
async fn report_readiness(app: Arc<App>) {
    match admin::check(&app.sessions).await {
        Ok(extension) => tracing::info!(extension, "the database is ready"),
        Err(reason) => tracing::warn!(reason, "the database is not ready"),
    }
}
