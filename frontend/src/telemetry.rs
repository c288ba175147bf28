//! Logs: text or JSON on standard error, filtered by `MCP_LOG`, without secrets.

use std::{
    fmt::Display,
    io::{self, Write},
    panic::{self, PanicHookInfo},
    sync::mpsc,
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{config::Environment, redact::Redacted};

/// rmcp reports every request at `info`, every error that a client causes at `warn`, and every client that
/// went away before its answer at `error`. What matters of these is in the access log.
const DEFAULT_FILTER: &str = "info,rmcp=error,rmcp::service=off";

/// How long the last lines may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// The log, written by a thread of its own: a reader that stalls costs lines, and holds up nobody. Dropping it writes what
/// is still to be written.
pub struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        // The guard prints a complaint when the lines do not go, and whoever does not read them may not read that either.
        let (written, wait) = mpsc::sync_channel::<()>(0);
        thread::spawn(move || {
            drop(guard);
            drop(written);
        });
        let _ = wait.recv_timeout(FLUSH);
    }
}

/// Says why this process ends, in a line of its own.
pub fn complain(what: impl Display) {
    let _ = writeln!(io::stderr(), "mcp-frontend: {what}");
}

/// Starts logging.
///
/// # Errors
///
/// One line for each of `MCP_LOG` and `MCP_LOG_FORMAT` that cannot be read.
pub fn start(environment: &dyn Environment) -> Result<Log, Vec<String>> {
    let text = environment.get("MCP_LOG").unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let format = environment.get("MCP_LOG_FORMAT").unwrap_or_else(|| "text".to_owned());
    let mut faults = Vec::new();
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| faults.push(format!("MCP_LOG must be a filter such as info,hyper=debug ({error})")))
        .ok();
    if !matches!(format.as_str(), "text" | "json") {
        faults.push("MCP_LOG_FORMAT must be text or json".to_owned());
    }
    let (Some(filter), true) = (filter, faults.is_empty()) else { return Err(faults) };

    // Its thread passes by what cannot be written: a log that is lost is no reason to stop. An error of the log's own would
    // be printed, and printing panics where nobody reads.
    let (writer, guard) = NonBlocking::new(io::stderr());
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(Redacted(writer))
        .log_internal_errors(false)
        .with_target(true)
        .with_ansi(false);
    match format.as_str() {
        "json" => builder.json().flatten_event(true).init(),
        _ => builder.init(),
    }
    panic::set_hook(Box::new(report));
    Ok(Log(Some(guard)))
}

/// Its message may hold anything; where it happened is enough to find it.
fn report(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, "a task panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Unset;

    impl Environment for Unset {
        fn get(&self, _: &str) -> Option<String> {
            None
        }
    }

    /// In a process of its own: the log is started once, and for all of it.
    #[test]
    fn a_process_that_logs_shows_no_message_of_a_panic() {
        const PANICS: &str = "MCP_TEST_PANICS";
        if std::env::var_os(PANICS).is_some() {
            let _log = start(&Unset).unwrap();
            panic!("something secret");
        }
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "telemetry::tests::a_process_that_logs_shows_no_message_of_a_panic"]);
        let output = process.arg("--nocapture").env(PANICS, "1").output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(said.contains("a task panicked") && said.contains("telemetry.rs"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn a_panic_is_logged_by_its_place_alone() {
        let (written, other) = (Written::default(), panic::take_hook());
        panic::set_hook(Box::new(report));
        let writer = written.clone();
        let log = fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            panic::catch_unwind(|| panic!("something secret")).unwrap_err();
        });
        panic::set_hook(other);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("a task panicked") && text.contains("telemetry.rs"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
