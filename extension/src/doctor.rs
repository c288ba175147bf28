//! The doctor: what is wrong with an installation, and the command that mends it.
//!
//! Most of it is in `extension/sql/doctor.sql`, which looks into the catalogs; here is what only a process of the server
//! can see: its version, its files, its libraries.

use crate::error::Error;
use crate::owner::reading_catalogs;
use crate::seal;
use crate::settings;
use crate::statement::{all, required, sql};
use crate::worker::{self, Absence};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is wrong.
struct Finding {
    severity: Severity,
    check: String,
    finding: String,
    /// A statement, ending in a semicolon, or else a command of the shell.
    remedy: String,
}

impl Finding {
    fn new(severity: Severity, check: &'static str, finding: String, remedy: String) -> Self {
        Finding { severity, check: check.to_owned(), finding, remedy }
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Somebody can become or read somebody else, secrets leak, or nothing works.
    Error,
    /// A second line of defence is missing.
    Warning,
    /// Worth knowing; may well be meant.
    Info,
}

impl Severity {
    const ALL: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Info];

    fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

/// The first release of each major version with the security fixes that row level security depends on (CVE-2026-14666,
/// CVE-2026-120154, CVE-2026-116311 among them).
const FLOORS: [(u32, u32); 4] = [(15, 20), (16, 16), (17, 12), (18, 7)];

/// Where the library is not preloaded, a session knows its settings once it has loaded it.
const LOAD: &str = "LOAD 'mcp_sessions'";

/// What is wrong with a server of this `server_version_num`, if anything.
fn outdated(version: u32) -> Option<Finding> {
    let (major, minor) = (version / 10_000, version % 10_000);
    let (_, floor) = FLOORS.into_iter().find(|(known, floor)| *known == major && minor < *floor)?;
    Some(Finding::new(
        Severity::Error,
        "server_version",
        format!(
            "PostgreSQL {major}.{minor} lacks security fixes of {major}.{floor} that row level security depends on."
        ),
        format!(
            "apt-get update && apt-get install --only-upgrade postgresql-{major} && systemctl restart postgresql@{major}-main"
        ),
    ))
}

/// What is wrong with the key file, if anything. `data`: the server's data directory.
fn key_file(path: Option<PathBuf>, data: &Path) -> Vec<Finding> {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let owner = std::fs::metadata(data).map_or(0, |data| data.uid());
    let make =
        |path: &Path| format!("openssl rand -hex 32 | install -o {owner} -m 600 /dev/stdin {}", quoted(path));
    let elsewhere = || {
        let path = "/etc/mcp_sessions.key";
        format!(
            r#"psql -c "{LOAD}" -c "ALTER SYSTEM SET mcp.key_file = '{path}'" -c "SELECT pg_reload_conf()""#
        )
    };
    let Some(path) = path else {
        return vec![Finding::new(
            Severity::Info,
            "key_file",
            "mcp.key_file is not set: a session token and a dump are all it takes to open that session's OAuth tokens."
                .into(),
            format!("{} && {}", make(Path::new("/etc/mcp_sessions.key")), elsewhere()),
        )];
    };
    let mut findings = Vec::new();
    if let Err(error) = seal::server_keys(&path) {
        let (advice, remedy) = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => ("", format!("chmod 600 {}", quoted(&path))),
            _ => (" Restore it if you can: a new one opens nothing that the old one sealed.", make(&path)),
        };
        findings.push(Finding::new(Severity::Error, "key_file", format!("{error}.{advice}"), remedy));
    }
    let (real, data) = (path.canonicalize().unwrap_or_else(|_| path.clone()), data.canonicalize());
    if data.is_ok_and(|data| real.starts_with(data)) {
        let moved = format!("install -o {owner} -m 600 {} /etc/mcp_sessions.key", quoted(&path));
        findings.push(Finding::new(
            Severity::Warning,
            "key_file",
            format!(
                "The key file {} lies in the data directory, so a base backup carries it along.",
                path.display()
            ),
            format!("{moved} && {} && rm {}", elsewhere(), quoted(&path)),
        ));
    }
    findings
}

/// Why the background worker does not clean up here, if it does not.
fn absent_worker() -> Option<Finding> {
    let set_database = format!("ALTER SYSTEM SET mcp.database = {};", literal(&worker::current_database()));
    let absence = worker::absence()?;
    let remedy = match &absence {
        // As it should be.
        Absence::Standby => return None,
        Absence::NotPreloaded => {
            // SAFETY: set once, at the start of the server.
            let libraries = unsafe { pg_sys::shared_preload_libraries_string };
            // SAFETY: a C string that lives as long as the server, where it is set at all.
            let libraries = if libraries.is_null() { c"" } else { unsafe { CStr::from_ptr(libraries) } }
                .to_string_lossy();
            let list = libraries.split(',').map(str::trim).filter(|name| !name.is_empty());
            let list: Vec<String> = list.chain(["mcp_sessions"]).map(literal).collect();
            // mcp.database is unknown before the restart: until it is set, that is what is found next.
            format!("ALTER SYSTEM SET shared_preload_libraries = {};", list.join(", "))
        }
        Absence::NoDatabase | Absence::OtherDatabase { .. } => set_database,
        Absence::NotRunning { .. } => "SELECT mcp.cleanup_expired_sessions();".into(),
    };
    Some(Finding::new(Severity::Warning, "worker", absence.to_string(), remedy))
}

/// A value as an SQL literal.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn findings() -> Result<Vec<Finding>, Error> {
    let mut findings = reading_catalogs(|| {
        all(sql!(include_str!("../sql/doctor.sql")), &[env!("CARGO_PKG_VERSION").into()], |row| {
            let severity = Severity::named(&required::<String>(&row, 1)?).unwrap_or(Severity::Error);
            Ok(Finding {
                severity,
                check: required(&row, 2)?,
                finding: required(&row, 3)?,
                remedy: required(&row, 4)?,
            })
        })
    })?;
    // SAFETY: both are set once, at the start of the server.
    let (version, data) = unsafe {
        let version = pg_sys::GetConfigOption(c"server_version_num".as_ptr(), false, false);
        (CStr::from_ptr(version).to_string_lossy(), CStr::from_ptr(pg_sys::DataDir).to_string_lossy())
    };
    findings.extend(version.parse().ok().and_then(outdated));
    findings.extend(key_file(settings::key_file(), Path::new(&*data)));
    findings.extend(absent_worker());
    findings.sort_by(|a, b| (a.severity, &a.check, &a.finding).cmp(&(b.severity, &b.check, &b.finding)));
    Ok(findings)
}

/// What is wrong with this installation, worst first, each with what mends it: a statement, which ends in a semicolon,
/// or a command of the shell. No row where all is well.
#[pg_extern(schema = "mcp", security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn doctor() -> Result<
    TableIterator<
        'static,
        (
            name!(severity, &'static str),
            name!(check_name, String),
            name!(finding, String),
            name!(remedy, String),
        ),
    >,
    pg_sys::panic::ErrorReport,
> {
    let rows = findings()?
        .into_iter()
        .map(|found| (found.severity.as_str(), found.check, found.finding, found.remedy));
    Ok(TableIterator::new(rows))
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn checklist_64_versions_below_the_floor_are_found() {
        for (major, floor) in FLOORS {
            assert!(outdated(major * 10_000 + floor).is_none());
            assert!(outdated(major * 10_000 + floor + 1).is_none());
            let found = outdated(major * 10_000 + floor - 1).unwrap();
            assert!(found.finding.contains(&format!("{major}.{floor}")), "{}", found.finding);
        }
        assert!(outdated(190_000).is_none());
    }

    #[test]
    fn installing_warns_of_the_same_versions() {
        let floors = FLOORS.map(|(major, minor)| format!("({major}, {minor})")).join(", ");
        let named = FLOORS.map(|(major, minor)| format!("{major}.{minor}")).join(", ");
        let roles = include_str!("../sql/roles.sql");
        assert!(roles.contains(&format!("(VALUES {floors}) AS least (major, minor)")), "{floors}");
        assert!(roles.contains(&format!("Update to PostgreSQL {named} or later.")), "{named}");
    }

    #[test]
    fn faults_of_the_key_file_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let (data, outside) = (directory.path().join("data"), directory.path().join("key"));
        let elsewhere = data.join("inside");
        std::fs::create_dir_all(&elsewhere).unwrap();
        let only = |path: &Path, data: &Path| {
            let found = key_file(Some(path.to_owned()), data);
            assert!(found.len() <= 1, "more than one finding");
            found.into_iter().next().map(|found| (found.severity.as_str(), found.finding, found.remedy))
        };
        let (_, finding, remedy) = only(&outside, &data).unwrap();
        assert!(finding.contains("No such file"), "{finding}");
        assert!(remedy.ends_with(&format!("-m 600 /dev/stdin '{}'", outside.display())), "{remedy}");

        std::fs::write(&outside, "5a".repeat(32)).unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (severity, finding, remedy) = only(&outside, &data).unwrap();
        assert_eq!(severity, "error");
        assert!(finding.contains("0644"), "{finding}");
        assert_eq!(remedy, format!("chmod 600 '{}'", outside.display()));

        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(only(&outside, &data).is_none());

        let inside = elsewhere.join("key");
        std::fs::rename(&outside, &inside).unwrap();
        let (severity, finding, _) = only(&inside, &data).unwrap();
        assert_eq!(severity, "warning");
        assert!(finding.contains("data directory"), "{finding}");
        assert_eq!(key_file(None, &data)[0].severity.as_str(), "info");
    }
}
