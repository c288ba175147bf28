//! `mcp-frontend doctor`: what is wrong with this installation, and what mends it.
//!
//! It looks at the settings, at what the identity provider publishes, at a pooler in between, and asks
//! `mcp.doctor()` about the database. Nothing is changed. The exit status is 0 where all is well, 1 after a
//! warning and 2 after an error.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    admin,
    config::{Config, Provider, is_loopback},
    database::{Database, DatabaseError, Target, chain},
    gate::Gate,
    idp::{CALLBACK_PATH, IdentityProvider, ProviderFault, Published},
    mcp,
    sessions::Sessions,
};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The first PgBouncer without CVE-2026-107350, with which one login can become another.
const PGBOUNCER_FLOOR: [u32; 3] = [1, 26, 1];

/// How bad a finding is; the order is that of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody can become or read somebody else, secrets leak, or nothing works.
    Error,
    /// A second line of defence is missing.
    Warning,
    /// Worth knowing; may well be meant.
    Info,
}

/// What is wrong, and the command that mends it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    #[serde(rename = "check_name")]
    pub check: String,
    pub finding: String,
    pub remedy: String,
}

fn finding(
    severity: Severity,
    check: &str,
    finding: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity, check: check.into(), finding: finding.into(), remedy: remedy.into() }
}

/// Examines everything and prints what it found, for people or as JSON.
///
/// # Errors
///
/// Where standard output cannot be written to, or the certificates a login trusts cannot be read.
pub async fn run(config: Config, json: bool) -> io::Result<ExitCode> {
    let mut findings = settings(&config);
    findings.extend(public_url(&config).await);
    findings.extend(databases(&config).await?);
    findings.extend(provider(config).await);
    findings.sort_by(|a, b| (a.severity, &a.check, &a.finding).cmp(&(b.severity, &b.check, &b.finding)));
    let text = if json { serde_json::to_string_pretty(&findings)? + "\n" } else { for_people(&findings) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(status(&findings)))
}

fn for_people(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "All is well.\n".into();
    }
    let mut text = String::new();
    for Finding { severity, check, finding, remedy } in findings {
        // Into a String nothing can fail.
        let _ = writeln!(text, "{severity:?} ({check}): {finding}\n    {remedy}");
    }
    text
}

fn status(findings: &[Finding]) -> u8 {
    match findings.iter().map(|found| found.severity).min() {
        Some(Severity::Error) => 2,
        Some(Severity::Warning) => 1,
        Some(Severity::Info) | None => 0,
    }
}

/// What the settings alone tell.
fn settings(config: &Config) -> Vec<Finding> {
    use Severity::{Error, Warning};
    let mut found = Vec::new();
    let url = &config.public_url;
    if !config.bind.ip().is_loopback() && !url.is_https() {
        found.push(finding(
            Warning,
            "public_url",
            format!(
                "The server listens on {} for other machines, but sends them to {}.",
                config.bind,
                url.origin()
            ),
            "MCP_PUBLIC_URL=https://NAME-THAT-CLIENTS-USE, or MCP_BIND=127.0.0.1:8080",
        ));
    }
    let gate = Gate::new(url, config.bind, &config.allowed_hosts, &config.allowed_origins);
    let own =
        HeaderValue::from_str(&url.authority()).map(|host| HeaderMap::from_iter([(header::HOST, host)]));
    let answers = own.is_ok_and(|headers| gate.check(&http::Uri::from_static(mcp::PATH), &headers).is_ok());
    if !answers {
        let hosts = [&config.allowed_hosts[..], &[url.authority()]].concat().join(",");
        found.push(finding(
            Error,
            "allowed_hosts",
            format!("MCP_ALLOWED_HOSTS leaves out {}, so that every client is refused.", url.authority()),
            format!("MCP_ALLOWED_HOSTS={hosts}"),
        ));
    }
    for origin in &config.allowed_origins {
        if url::Url::parse(origin).is_ok_and(|origin| origin.scheme() == "http" && !is_loopback(&origin)) {
            let kept = config.allowed_origins.iter().filter(|other| *other != origin);
            let kept = kept.map(String::as_str).collect::<Vec<_>>().join(",");
            found.push(finding(
                Warning,
                "allowed_origins",
                format!("Whoever is on the way can speak as {origin}, which is not encrypted, and may call this server."),
                format!("MCP_ALLOWED_ORIGINS={kept}"),
            ));
        }
    }
    if config.cookie_door && !url.is_https() && !config.bind.ip().is_loopback() {
        found.push(finding(
            Error,
            "cookie_door",
            "Session tokens travel in cookies over connections that are not encrypted.",
            "MCP_COOKIE_DOOR=off",
        ));
    }
    if let Some(address) = config.admin_bind.filter(|address| !address.ip().is_loopback()) {
        found.push(finding(
            Warning,
            "admin_bind",
            format!("The admin listener on {address} answers everybody who reaches it."),
            format!("MCP_ADMIN_BIND=127.0.0.1:{}", address.port()),
        ));
    }
    if config.auth_database.user() == config.exec_database.user() {
        found.push(finding(
            Error,
            "logins",
            "Tools run on the login that owns sessions: one that breaks out becomes any user.",
            "CREATE ROLE mcp_frontend_exec LOGIN IN ROLE mcp_exec; and name it in MCP_EXEC_DATABASE_URL",
        ));
    }
    for (name, target) in
        [("DATABASE_URL", &config.auth_database), ("MCP_EXEC_DATABASE_URL", &config.exec_database)]
    {
        if target.trusts_the_network() {
            found.push(finding(
                Warning,
                "database_tls",
                format!("{name} reaches another machine without verifying which: whoever is on the way reads every token."),
                format!("{name}=…?sslmode=verify-full"),
            ));
        }
    }
    found
}

/// Whether clients that go where they are sent arrive here.
async fn public_url(config: &Config) -> Option<Finding> {
    let url = config.public_url.join("/healthz");
    let request = crate::idp::client().ok()?.get(&url);
    let reason = match request.send().await {
        Ok(answer) if answer.status() == StatusCode::OK => return None,
        Ok(answer) => format!("answers status {}", answer.status().as_u16()),
        Err(error) if error.is_timeout() => "does not answer".into(),
        Err(_) => "cannot be reached".into(),
    };
    Some(finding(
        Severity::Warning,
        "public_url",
        format!(
            "{url} {reason}: is the server up, and does the name lead to {}? Browsers are sent to {} after signing in.",
            config.bind,
            config.public_url.join(CALLBACK_PATH)
        ),
        format!("curl -i {url}"),
    ))
}

/// What the databases and what stands before them tell.
async fn databases(config: &Config) -> io::Result<Vec<Finding>> {
    let pool = |target: &Target| Database::new(target, 1, PATIENCE, false);
    let mut found = Vec::new();
    for (name, target) in
        [("DATABASE_URL", &config.auth_database), ("MCP_EXEC_DATABASE_URL", &config.exec_database)]
    {
        let console = pool(&target.of_database("pgbouncer"))?.console("SHOW VERSION").await;
        found.extend(pooler(name, &console));
    }
    // Both mostly go through the same one, which may tell its version to one of them alone.
    let mut found: Vec<_> = found.into_iter().min_by_key(|found| found.severity).into_iter().collect();
    let sessions = Sessions::new(
        pool(&config.auth_database)?,
        pool(&config.exec_database)?,
        config.public_url.join(mcp::PATH),
    );
    if let Err(reason) = admin::check(&sessions).await {
        found.push(finding(
            Severity::Error,
            "database",
            format!("The database is not ready: {reason}."),
            "psql \"$DATABASE_URL\" -c 'SELECT mcp.version()' && psql \"$MCP_EXEC_DATABASE_URL\" -c 'SELECT mcp.version()'",
        ));
        return Ok(found);
    }
    match sessions.doctor().await {
        Ok(findings) => found.extend(findings),
        Err(error) => found.push(finding(
            Severity::Error,
            "database",
            format!("The database's own doctor did not run: {}.", chain(&error)),
            "GRANT EXECUTE ON FUNCTION mcp.doctor() TO mcp_auth;",
        )),
    }
    Ok(found)
}

/// PostgreSQL has no database `pgbouncer`, and says so; PgBouncer has a console of that name.
fn pooler(setting: &str, answer: &Result<String, DatabaseError>) -> Option<Finding> {
    let upgrade = "apt-get install --only-upgrade pgbouncer && systemctl restart pgbouncer";
    let untold = match answer {
        // "not allowed" is PgBouncer's word for a login that may not use its console.
        Err(DatabaseError::Connect(error)) => chain(error.as_ref()).contains("not allowed"),
        // It had let the login in: connecting has a shorter deadline of its own.
        Err(DatabaseError::Deadline) => true,
        _ => false,
    };
    match answer {
        Ok(version) => {
            let numbers: Vec<u32> = version
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .split('.')
                .map_while(|number| number.parse().ok())
                .collect();
            (numbers < PGBOUNCER_FLOOR.to_vec()).then(|| {
                finding(
                    Severity::Error,
                    "pooler_version",
                    format!("{setting} goes through {version}, in which one login can become another (CVE-2026-107350)."),
                    upgrade,
                )
            })
        }
        Err(_) if untold => Some(finding(
            Severity::Info,
            "pooler_version",
            format!("{setting} goes through a pooler that does not tell its version to this login."),
            "Run `SHOW VERSION` in its console: PgBouncer has to be 1.26.1 or later",
        )),
        Err(_) => None,
    }
}

/// What the provider publishes against what the settings say.
async fn provider(config: Config) -> Vec<Finding> {
    let (setting, published) = match &config.provider {
        Provider::Oidc { .. } => ("OIDC_ISSUER", "$OIDC_ISSUER/.well-known/openid-configuration"),
        Provider::WorkOs { .. } => {
            ("WORKOS_ISSUER", "${WORKOS_API_URL:-https://api.workos.com}/sso/jwks/$WORKOS_CLIENT_ID")
        }
    };
    let redirect_uri = config.public_url.join(CALLBACK_PATH);
    let provider = IdentityProvider::new(config.provider, &config.public_url);
    match provider.examine().await {
        Ok(published) => published_findings(&published, &redirect_uri),
        Err(fault) => {
            let remedy = match fault {
                ProviderFault::WrongIssuer => {
                    format!("{setting}= exactly what `issuer` in the provider's discovery document says")
                }
                _ => format!("curl -i \"{published}\""),
            };
            let reason = format!("No sign-in can begin: {}.", chain(&fault));
            vec![finding(Severity::Error, "provider", reason, remedy)]
        }
    }
}

fn published_findings(published: &Published, redirect_uri: &str) -> Vec<Finding> {
    use Severity::{Error, Info, Warning};
    let mut found = Vec::new();
    match &published.challenge_methods {
        Some(methods) if !methods.iter().any(|method| method == "S256") => found.push(finding(
            Error,
            "provider_pkce",
            "The provider does not take S256 challenges (RFC 7636): a stolen code is a stolen sign-in.",
            "Enable PKCE with S256 at the provider",
        )),
        None => found.push(finding(
            Info,
            "provider_pkce",
            "The provider does not say whether it takes S256 challenges (RFC 7636).",
            "See the provider's documentation",
        )),
        Some(_) => {}
    }
    if let Some(known) = &published.scopes {
        let wanted = published.wanted_scopes.split(' ');
        let (kept, unknown): (Vec<&str>, Vec<&str>) =
            wanted.partition(|scope| known.iter().any(|known| known == scope));
        for scope in unknown {
            found.push(finding(
                Warning,
                "provider_scopes",
                format!("The provider does not know the scope {scope}."),
                format!("OIDC_SCOPES='{}'", kept.join(" ")),
            ));
        }
    }
    if published.response_types.as_ref().is_some_and(|types| !types.iter().any(|kind| kind == "code")) {
        found.push(finding(
            Error,
            "provider_flow",
            "The provider does not offer the authorization code flow (response type code).",
            "Enable the authorization code flow at the provider",
        ));
    }
    if !published.usable_keys {
        found.push(finding(
            Error,
            "provider_keys",
            "The provider has no signing key of a kind that is accepted here: RS256, PS256, ES256 or EdDSA.",
            "Let the provider sign ID tokens with RS256 or ES256",
        ));
    }
    if published.authorize.is_client_error() && published.authorize != StatusCode::TOO_MANY_REQUESTS {
        found.push(finding(
            Error,
            "provider_client",
            format!(
                "The provider refuses a sign-in of this client with status {}: the client id is unknown there, or its \
                 redirect URI is not {redirect_uri}.",
                published.authorize.as_u16()
            ),
            format!("Register the redirect URI {redirect_uri} for this client at the provider"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::read;

    fn checks(findings: &[Finding]) -> Vec<(Severity, &str)> {
        findings.iter().map(|found| (found.severity, found.check.as_str())).collect()
    }

    #[test]
    fn faults_of_the_settings_are_found() {
        use Severity::{Error, Warning};
        const PUBLIC: (&str, &str) = ("MCP_PUBLIC_URL", "https://mcp.example.com");
        const EVERYBODY: (&str, &str) = ("MCP_BIND", "0.0.0.0:8080");
        type Changes = &'static [(&'static str, &'static str)];
        let cases: &[(Changes, &[(Severity, &str)])] = &[
            (&[], &[]),
            (&[EVERYBODY, PUBLIC], &[]),
            (&[EVERYBODY, ("MCP_PUBLIC_URL", "http://127.0.0.1:8080")], &[(Warning, "public_url")]),
            (
                &[EVERYBODY, ("MCP_PUBLIC_URL", "http://127.0.0.1:8080"), ("MCP_COOKIE_DOOR", "on")],
                &[(Warning, "public_url"), (Error, "cookie_door")],
            ),
            (&[PUBLIC, EVERYBODY, ("MCP_ALLOWED_HOSTS", "other.example")], &[(Error, "allowed_hosts")]),
            (
                &[(
                    "MCP_ALLOWED_ORIGINS",
                    "http://app.example.com,http://localhost:3000,https://app.example.com",
                )],
                &[(Warning, "allowed_origins")],
            ),
            (&[("MCP_ADMIN_BIND", "0.0.0.0:9090")], &[(Warning, "admin_bind")]),
            (
                &[("MCP_EXEC_DATABASE_URL", "postgresql://mcp_frontend_auth@127.0.0.1/app")],
                &[(Error, "logins")],
            ),
            (
                &[("DATABASE_URL", "postgresql://mcp_frontend_auth@db.example/app?sslmode=require")],
                &[(Warning, "database_tls")],
            ),
            (&[("DATABASE_URL", "postgresql://mcp_frontend_auth@db.example/app?sslmode=verify-full")], &[]),
            (&[("DATABASE_URL", "postgresql://mcp_frontend_auth@localhost/app")], &[]),
        ];
        for (changes, expected) in cases {
            let found = settings(&read(changes).unwrap());
            assert_eq!(checks(&found), *expected, "{changes:?}");
        }
        let left_out = settings(&read(&[PUBLIC, EVERYBODY, ("MCP_ALLOWED_HOSTS", "other.example")]).unwrap());
        assert_eq!(left_out[0].remedy, "MCP_ALLOWED_HOSTS=other.example,mcp.example.com");
    }

    fn published() -> Published {
        Published {
            challenge_methods: Some(vec!["S256".into()]),
            scopes: Some(vec!["openid".into(), "email".into(), "profile".into()]),
            wanted_scopes: "openid email".into(),
            response_types: Some(vec!["code".into()]),
            usable_keys: true,
            authorize: StatusCode::FOUND,
        }
    }

    #[test]
    fn faults_of_the_provider_are_found() {
        let found = |change: fn(&mut Published)| {
            let mut published = published();
            change(&mut published);
            published_findings(&published, "https://mcp.example.com/auth/callback")
        };
        assert_eq!(found(|_| {}), []);
        assert_eq!(
            checks(&found(|p| p.challenge_methods = Some(vec!["plain".into()]))),
            [(Severity::Error, "provider_pkce")]
        );
        assert_eq!(checks(&found(|p| p.challenge_methods = None)), [(Severity::Info, "provider_pkce")]);
        let scopes = found(|p| p.wanted_scopes = "openid groups".into());
        assert_eq!(checks(&scopes), [(Severity::Warning, "provider_scopes")]);
        assert_eq!(scopes[0].remedy, "OIDC_SCOPES='openid'");
        assert_eq!(
            checks(&found(|p| p.response_types = Some(vec!["id_token".into()]))),
            [(Severity::Error, "provider_flow")]
        );
        assert_eq!(checks(&found(|p| p.usable_keys = false)), [(Severity::Error, "provider_keys")]);
        let refused = found(|p| p.authorize = StatusCode::BAD_REQUEST);
        assert_eq!(checks(&refused), [(Severity::Error, "provider_client")]);
        assert!(refused[0].finding.contains("https://mcp.example.com/auth/callback"));
        assert_eq!(found(|p| p.authorize = StatusCode::TOO_MANY_REQUESTS), []);
    }

    #[test]
    fn checklist_64_an_old_pooler_is_found() {
        let severity =
            |version: &str| pooler("DATABASE_URL", &Ok(version.into())).map(|found| found.severity);
        for old in ["PgBouncer 1.18.0", "PgBouncer 1.26.0", "PgBouncer 1.9.1", "PgBouncer"] {
            assert_eq!(severity(old), Some(Severity::Error), "{old}");
        }
        for new in ["PgBouncer 1.26.1", "PgBouncer 1.27.0", "PgBouncer 2.0.0"] {
            assert_eq!(severity(new), None, "{new}");
        }
        let refused = |text: &str| Err(DatabaseError::Connect(text.into()));
        assert_eq!(pooler("DATABASE_URL", &refused("FATAL: not allowed")).unwrap().severity, Severity::Info);
        let hung = Err(DatabaseError::Deadline);
        assert_eq!(pooler("DATABASE_URL", &hung).unwrap().severity, Severity::Info);
        assert_eq!(pooler("DATABASE_URL", &refused("FATAL: database \"pgbouncer\" does not exist")), None);
        // A database of that name in which the question means nothing.
        assert_eq!(pooler("DATABASE_URL", &Err(DatabaseError::Answer("no row".into()))), None);
    }

    #[test]
    fn the_worst_finding_decides_the_status() {
        let of = |severities: &[Severity]| {
            status(&severities.iter().map(|severity| finding(*severity, "", "", "")).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[Severity::Info]), 0);
        assert_eq!(of(&[Severity::Info, Severity::Warning]), 1);
        assert_eq!(of(&[Severity::Warning, Severity::Error, Severity::Info]), 2);
        assert_eq!(for_people(&[]), "All is well.\n");
    }
}
