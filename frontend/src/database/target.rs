//! Where a database is: connection strings as libpq reads them.

use std::{net::IpAddr, str::FromStr, sync::LazyLock};

use regex::{Captures, Regex};
use tokio_postgres::config::Host;
use url::form_urlencoded;

use super::CONNECT;

/// What a connection string leaves open. A network that drops idle connections silently is noticed within a minute, and
/// where a query meets it first, sooner than by the deadline of a request.
const TCP: &str = "keepalives_idle=30&keepalives_interval=10&keepalives_retries=3&tcp_user_timeout=15";

/// A database to connect to: a libpq URL or key-value string, with `sslmode` and `sslrootcert` as in libpq.
///
/// `prefer` (the default) and `require` encrypt without verifying the certificate; `verify-ca`, `verify-full` and an
/// `sslrootcert` without either verify it and the host name, against `sslrootcert` or the system's certificates.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) config: tokio_postgres::Config,
    pub(super) trust: Trust,
}

/// Whose certificate is good enough.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    Anybody,
    Roots(Option<String>),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may hold a password, so that no fault may quote it.
        let (text, modes) = take_tls_settings(text);
        let (mode, system) = (modes.mode.as_deref(), modes.root.as_deref() == Some("system"));
        let trust = match mode {
            None | Some("disable" | "prefer" | "require") if modes.root.is_none() => Trust::Anybody,
            // Any certificate of the public's authorities, whoever's it is, would do for less.
            Some("disable" | "prefer" | "require") if system => {
                return Err("has an sslmode too weak for sslrootcert=system: use verify-full".into());
            }
            None | Some("require" | "verify-ca" | "verify-full") => {
                Trust::Roots(modes.root.filter(|_| !system))
            }
            Some("disable" | "prefer") => return Err("has an sslrootcert that its sslmode ignores".into()),
            Some(_) => {
                return Err(
                    "has an unknown sslmode: disable, prefer, require, verify-ca or verify-full".into()
                );
            }
        };
        let mut config: tokio_postgres::Config = with_defaults(&text)
            .parse()
            .map_err(|_| "must be a PostgreSQL URL: postgresql://user:password@host:5432/database")?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host".into());
        }
        match (mode, &trust) {
            (Some("disable"), _) => config.ssl_mode(tokio_postgres::config::SslMode::Disable),
            (_, Trust::Roots(_)) | (Some("require"), _) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require)
            }
            _ => config.ssl_mode(tokio_postgres::config::SslMode::Prefer),
        };
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("mcp-frontend");
        }
        Ok(Self { config, trust })
    }
}

impl Target {
    /// The login's name.
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// The same server, another database.
    pub fn of_database(&self, name: &str) -> Self {
        let mut target = self.clone();
        target.config.dbname(name);
        target
    }

    /// Whether it goes to another machine without verifying which.
    pub fn trusts_the_network(&self) -> bool {
        // Where there are addresses, the names are not looked up.
        let mut addresses = self.config.get_hostaddrs().iter();
        let elsewhere = match self.config.get_hostaddrs().is_empty() {
            false => addresses.any(|address| !address.is_loopback()),
            true => self.config.get_hosts().iter().any(|host| match host {
                Host::Tcp(name) => {
                    name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
                }
                Host::Unix(_) => false,
            }),
        };
        matches!(self.trust, Trust::Anybody) && elsewhere
    }
}

/// Puts [`TCP`] before the settings of a connection string, the last of which counts.
fn with_defaults(text: &str) -> String {
    match text.split_once('?') {
        _ if !is_url(text) => format!("{} {text}", TCP.replace('&', " ")),
        Some((base, query)) => format!("{base}?{TCP}&{query}"),
        None => format!("{text}?{TCP}"),
    }
}

struct TlsSettings {
    mode: Option<String>,
    root: Option<String>,
}

/// A keyword and its value, as libpq writes them: blanks may stand around the sign, and the value may be quoted. Found one
/// after the other from the start, so that none is found inside the value of another.
static KEYWORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)([^\s=]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)").expect("a regular expression")
});
/// What a backslash makes a letter like any other.
static ESCAPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\\(.)").expect("a regular expression"));

/// Whether a connection string is of the form of a URL; the password in one of the other form may look like one.
fn is_url(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// Takes `sslmode` and `sslrootcert` out of a connection string; the driver knows neither in full.
fn take_tls_settings(text: &str) -> (String, TlsSettings) {
    let mut settings = TlsSettings { mode: None, root: None };
    let mut keep = |key: &str, value: &str| match key {
        "sslmode" => {
            settings.mode = Some(value.to_owned());
            false
        }
        "sslrootcert" => {
            settings.root = Some(value.to_owned());
            false
        }
        _ => true,
    };
    let text = match (is_url(text), text.split_once('?')) {
        (true, Some((base, query))) => {
            let kept: Vec<&str> = query
                .split('&')
                .filter(|pair| match form_urlencoded::parse(pair.as_bytes()).next() {
                    Some((key, value)) => keep(&key, &value),
                    None => false,
                })
                .collect();
            if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
        }
        (true, None) => text.to_owned(),
        (false, _) => KEYWORD
            .replace_all(text, |pair: &Captures| {
                let value = pair[2].strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
                let value = ESCAPED.replace_all(value.unwrap_or(&pair[2]), "$1");
                if keep(&pair[1], &value) { pair[0].to_owned() } else { " ".to_owned() }
            })
            .into_owned(),
    };
    (text, settings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sslmode_means_what_it_means_in_libpq() {
        for (text, verified, root) in [
            ("postgresql://u@h/db", false, None),
            ("postgresql://u@h/db?sslmode=disable", false, None),
            ("postgresql://u@h/db?sslmode=require&application_name=x", false, None),
            ("postgresql://u@h/db?sslmode=require&sslrootcert=%2Fetc%2Fca.pem", true, Some("/etc/ca.pem")),
            ("postgresql://u@h/db?application_name=x&sslmode=verify-full", true, None),
            ("postgresql://u@h/db?sslmode=verify-full&sslrootcert=system", true, None),
            ("postgresql://u@h/db?sslrootcert=system", true, None),
            ("host=h user=u sslrootcert = 'system'", true, None),
            ("host=h user=u dbname=db sslmode=verify-ca sslrootcert=/ca.pem", true, Some("/ca.pem")),
            (
                "host=h user=u sslmode = 'verify-full'\tsslrootcert= '/a dir/it\\'s.pem'",
                true,
                Some("/a dir/it's.pem"),
            ),
            ("host=h user=u\nsslmode=verify-full\n", true, None),
            ("host=h user=u password='a://b sslmode=verify-full'", false, None),
            ("host=h user=u password=a\\ sslmode=verify-full", false, None),
            ("host=/run/postgresql user=u", false, None),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            match target.trust {
                Trust::Anybody => assert!(!verified, "{text}"),
                Trust::Roots(file) => {
                    assert!(verified, "{text}");
                    assert_eq!(file.as_deref(), root, "{text}");
                }
            }
        }
    }

    #[test]
    fn encryption_is_asked_for_however_it_is_written() {
        use tokio_postgres::config::SslMode::{Disable, Prefer, Require};
        for (text, mode) in [
            ("host=h user=u", Prefer),
            ("host=h user=u sslmode=require", Require),
            ("host=h user=u sslmode = require", Require),
            ("host=h user=u sslmode= 'require'", Require),
            ("host=h\tsslmode=require\tuser=u", Require),
            ("host=h user=u sslmode=r\\equire", Require),
            ("host=h user=u sslmode=verify-ca", Require),
            ("host=h user=u sslrootcert=/ca.pem", Require),
            ("host=h user=u sslmode = disable", Disable),
            ("postgres://u@h/db?sslmode=require", Require),
            ("postgres://u@h/db?sslmode=verify-full", Require),
            ("postgres://u@h/db?ssl%6Dode=disable", Disable),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(target.config.get_ssl_mode(), mode, "{text}");
            assert_eq!(target.user(), Some("u"), "{text}");
        }
    }

    #[test]
    fn what_leaves_the_machine_unverified_is_told_apart() {
        for (text, trusts) in [
            ("host=localhost user=u", false),
            ("host=/run/postgresql user=u", false),
            ("host=127.0.0.1 user=u", false),
            ("host=10.0.0.5 user=u", true),
            ("host=localhost hostaddr=10.0.0.5 user=u", true),
            ("hostaddr=10.0.0.5 user=u", true),
            ("host=db.example hostaddr=127.0.0.1 user=u", false),
            ("host=localhost,db.example user=u", true),
            ("host=db.example user=u sslmode=verify-full", false),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(target.trusts_the_network(), trusts, "{text}");
        }
    }

    #[test]
    fn connections_that_a_network_dropped_are_noticed() {
        let seconds = Duration::from_secs;
        for (text, idle, interval, retries, timeout) in [
            ("postgresql://u@h/db", 30, 10, 3, 15),
            ("postgresql://u@h", 30, 10, 3, 15),
            ("postgresql://u@h/db?sslmode=disable&keepalives_idle=7200", 7200, 10, 3, 15),
            (
                "postgresql://u@h/db?keepalives_interval=1&keepalives_retries=9&tcp_user_timeout=60",
                30,
                1,
                9,
                60,
            ),
            ("host=h user=u dbname=db", 30, 10, 3, 15),
            ("host=h user=u keepalives_idle=60 tcp_user_timeout=5", 60, 10, 3, 5),
        ] {
            let config = text.parse::<Target>().unwrap_or_else(|error| panic!("{text}: {error}")).config;
            let found = (
                config.get_keepalives_idle(),
                config.get_keepalives_interval(),
                config.get_keepalives_retries(),
                config.get_tcp_user_timeout().copied(),
            );
            let expected = (seconds(idle), Some(seconds(interval)), Some(retries), Some(seconds(timeout)));
            assert_eq!(found, expected, "{text}");
            assert!(config.get_keepalives());
        }
    }

    #[test]
    fn what_a_connection_string_says_goes_before_what_is_usual() {
        for (text, name, timeout) in [
            ("postgresql://u@h/db", "mcp-frontend", CONNECT),
            ("postgresql://u@h/db?&application_name=x&&sslmode=disable", "x", CONNECT),
            ("host=h user=u connect_timeout=7", "mcp-frontend", Duration::from_secs(7)),
        ] {
            let config = text.parse::<Target>().unwrap_or_else(|error| panic!("{text}: {error}")).config;
            assert_eq!(config.get_application_name(), Some(name), "{text}");
            assert_eq!(config.get_connect_timeout(), Some(&timeout), "{text}");
        }
    }

    #[test]
    fn a_target_that_cannot_be_meant_is_refused_without_quoting_it() {
        for text in [
            "",
            "localhost",
            "mysql://u:hush@h/db",
            "postgresql:///db",
            "postgresql://u:hush@h/db?sslmode=maybe",
            "postgresql://u:hush@h/db?port=hush",
            "postgresql://u:hush@h/db?sslmode=prefer&sslrootcert=/ca.pem",
            "postgresql://u:hush@h/db?sslmode=require&sslrootcert=system",
            "host=h user=u password=hush sslmode=prefer sslrootcert=system",
            "host=h user=u password=hush sslmode=disable sslrootcert=system",
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
