//! Settings: environment variables, read once at start through [`Environment`], every fault named at once.
//!
//! Nothing here is looked up again later, and nothing that is secret can be printed: secrets are
//! [`SecretString`], whose `Debug` hides them.

use std::{
    env,
    fmt::{self, Display},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use http::HeaderValue;
use secrecy::SecretString;
use url::{Host, Url};

use crate::{
    authorization_server::redirect::RedirectUri, database::Target, gate::has_usable_port, proxies::Network,
};

/// Where settings come from; tests pass a table instead of the process' environment.
pub trait Environment {
    /// The value of `name`; `None` where it is not set or set to nothing.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        // What is not UTF-8 is a wrong value, not a missing one.
        let value = env::var_os(name)?.to_string_lossy().into_owned();
        Some(value).filter(|value| !value.is_empty())
    }
}

/// Everything the frontend needs to know before it starts.
#[derive(Debug)]
pub struct Config {
    pub bind: SocketAddr,
    pub admin_bind: Option<SocketAddr>,
    pub public_url: PublicUrl,
    pub auth_database: Target,
    pub exec_database: Target,
    pub pool_size: usize,
    pub prepared_statements: bool,
    pub session_ttl: Duration,
    pub provider: Provider,
    pub authorization_server: AuthorizationServer,
    pub trusted_proxies: Vec<Network>,
    /// Refused session tokens a minute from one address; 0 means no limit.
    pub refused_limit: u32,
    pub allowed_origins: Vec<String>,
    pub allowed_hosts: Vec<String>,
    pub cookie_door: bool,
    pub request_timeout: Duration,
    pub shutdown_grace: Duration,
    pub max_connections: usize,
    pub max_body_bytes: usize,
}

/// How this server deals with OAuth clients.
#[derive(Debug)]
pub struct AuthorizationServer {
    /// Whether clients may register themselves (RFC 7591).
    pub registration: bool,
    /// The private schemes that such clients may be sent back to, beside https and loopback.
    pub private_schemes: Vec<String>,
    /// Whether metadata documents may be on this computer; only where this server is too.
    pub loopback_documents: bool,
    /// Requests a minute from one address; 0 for no limit.
    pub register_limit: u32,
    pub token_limit: u32,
    pub sign_in_limit: u32,
}

/// The identity provider that signs people in.
#[derive(Debug)]
pub enum Provider {
    Oidc { issuer: String, client_id: String, client_secret: Option<SecretString>, scopes: String },
    WorkOs { api_url: Url, client_id: String, api_key: SecretString, issuer: Option<String> },
}

/// The origin people and clients reach this server under, without a trailing slash.
///
/// Every URL the frontend hands out is built from it; request headers never take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    url: Url,
}

impl PublicUrl {
    /// The origin itself, `https://mcp.example.com`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL of `path`, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Whether cookies may carry `Secure` and the `__Host-` prefix.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host and port as a `Host` header spells them: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        secure_or_loopback(&url)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("must be an origin alone, such as https://mcp.example.com, without a path".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or password".into());
        }
        Ok(Self { origin: url.origin().ascii_serialization(), url })
    }
}

/// Every fault of the environment, one a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(Vec<String>);

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    ///
    /// All faults together, so that one start is enough to see them.
    pub fn read(environment: &dyn Environment) -> Result<Self, Faults> {
        let mut reader = Reader { environment, faults: Vec::new() };

        let bind = reader.or("MCP_BIND", SocketAddr::from(([127, 0, 0, 1], 8080)));
        let admin_bind = reader.optional("MCP_ADMIN_BIND");
        let public_url = match reader.optional::<PublicUrl>("MCP_PUBLIC_URL") {
            None if bind.ip().is_loopback() && bind.port() != 0 => format!("http://{bind}").parse().ok(),
            None if !reader.has("MCP_PUBLIC_URL") => {
                reader.missing("MCP_PUBLIC_URL", "the URL under which clients reach this server");
                None
            }
            url => url,
        };
        let auth_database = reader
            .required("DATABASE_URL", "a login that is a member of mcp_auth: postgresql://user@host/db");
        let exec_database = reader.required(
            "MCP_EXEC_DATABASE_URL",
            "a login that is a member of mcp_exec: postgresql://user@host/db",
        );
        let pool_size = reader.within("MCP_POOL_SIZE", 16, 1, 10_000);
        let prepared_statements = reader.or("MCP_PREPARED_STATEMENTS", Switch(true)).0;
        let ttl_hours: Number = reader.or("MCP_SESSION_TTL_HOURS", Number(24.0));
        let session_ttl = Duration::try_from_secs_f64(ttl_hours.0 * 3600.0).unwrap_or(Duration::ZERO);
        let provider = reader.provider();
        let authorization_server = AuthorizationServer {
            registration: reader.or("MCP_DYNAMIC_REGISTRATION", Switch(true)).0,
            private_schemes: reader.list("MCP_REDIRECT_SCHEMES", parse_scheme),
            loopback_documents: reader.loopback_documents(public_url.as_ref()),
            register_limit: reader.or("MCP_LIMIT_REGISTER", 60),
            token_limit: reader.or("MCP_LIMIT_TOKEN", 3000),
            sign_in_limit: reader.or("MCP_LIMIT_SIGN_IN", 1200),
        };
        let trusted_proxies = reader.list("MCP_TRUSTED_PROXIES", str::parse);
        let refused_limit = reader.or("MCP_LIMIT_REFUSED", 6000);
        let allowed_origins = reader.list("MCP_ALLOWED_ORIGINS", parse_origin);
        let allowed_hosts = reader.list("MCP_ALLOWED_HOSTS", parse_host);
        let cookie_door = reader.or("MCP_COOKIE_DOOR", Switch(false)).0;
        let request_timeout = reader.seconds("MCP_REQUEST_TIMEOUT", 30.0);
        let shutdown_grace = reader.seconds("MCP_SHUTDOWN_GRACE", 10.0);
        let max_connections = reader.within("MCP_MAX_CONNECTIONS", 4096, 1, 1_000_000);
        let max_body_bytes = reader.within("MCP_MAX_BODY_BYTES", 4 << 20, 1024, 1 << 30);

        let complete = (public_url, auth_database, exec_database, provider);
        match complete {
            (Some(public_url), Some(auth_database), Some(exec_database), Some(provider))
                if reader.faults.is_empty() =>
            {
                Ok(Self {
                    bind,
                    admin_bind,
                    public_url,
                    auth_database,
                    exec_database,
                    pool_size,
                    prepared_statements,
                    session_ttl,
                    provider,
                    authorization_server,
                    trusted_proxies,
                    refused_limit,
                    allowed_origins,
                    allowed_hosts,
                    cookie_door,
                    request_timeout,
                    shutdown_grace,
                    max_connections,
                    max_body_bytes,
                })
            }
            _ => Err(Faults(reader.faults)),
        }
    }
}

/// Reads settings one by one and gathers what is wrong with them.
struct Reader<'a> {
    environment: &'a dyn Environment,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn has(&self, name: &str) -> bool {
        self.environment.get(name).is_some()
    }

    fn missing(&mut self, name: &str, what: &str) {
        self.faults.push(format!("{name} is not set: {what}"));
    }

    fn wrong(&mut self, name: &str, why: impl Display) {
        self.faults.push(format!("{name} {why}"));
    }

    fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.environment.get(name)?.trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(name, error);
                None
            }
        }
    }

    fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    fn required<T: FromStr<Err: Display>>(&mut self, name: &str, what: &str) -> Option<T> {
        if !self.has(name) {
            self.missing(name, what);
            return None;
        }
        self.optional(name)
    }

    fn secret(&mut self, name: &str) -> Option<SecretString> {
        self.environment.get(name).map(SecretString::from)
    }

    fn within(&mut self, name: &str, default: usize, least: usize, most: usize) -> usize {
        let value = self.or(name, default);
        if !(least..=most).contains(&value) {
            self.wrong(name, format_args!("must be between {least} and {most}"));
        }
        value
    }

    fn seconds(&mut self, name: &str, default: f64) -> Duration {
        let seconds: Number = self.or(name, Number(default));
        Duration::try_from_secs_f64(seconds.0).unwrap_or(Duration::ZERO)
    }

    fn list<T, E: Display>(&mut self, name: &str, parse: fn(&str) -> Result<T, E>) -> Vec<T> {
        let Some(text) = self.environment.get(name) else { return Vec::new() };
        let mut values = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match parse(item) {
                Ok(value) => values.push(value),
                Err(why) => self.wrong(name, format_args!("entry {item:?} {why}")),
            }
        }
        values
    }

    /// A document on loopback is what a test has, and what an attacker would have this server fetch.
    fn loopback_documents(&mut self, public_url: Option<&PublicUrl>) -> bool {
        const NAME: &str = "MCP_CIMD_ALLOW_LOOPBACK";
        match self.environment.get(NAME).as_deref() {
            None => return false,
            Some("test") if public_url.is_some_and(|url| is_loopback(&url.url)) => return true,
            Some("test") => self.wrong(NAME, "is for tests: it needs an MCP_PUBLIC_URL on loopback"),
            Some(_) => self.wrong(NAME, "must be test, or not set"),
        }
        false
    }

    fn provider(&mut self) -> Option<Provider> {
        match self.environment.get("MCP_IDP").as_deref() {
            Some("oidc") => {
                let issuer = self.required::<Issuer>("OIDC_ISSUER", "the issuer URL of your OpenID provider");
                let client_id = self.required("OIDC_CLIENT_ID", "the client id registered at the provider");
                let client_secret = self.secret("OIDC_CLIENT_SECRET");
                let scopes = self.or("OIDC_SCOPES", OidcScopes("openid profile email".into())).0;
                Some(Provider::Oidc { issuer: issuer?.0, client_id: client_id?, client_secret, scopes })
            }
            Some("workos") => {
                let api_url = self.or("WORKOS_API_URL", ProviderUrl::workos()).0;
                let client_id = self.required("WORKOS_CLIENT_ID", "client_… from the WorkOS dashboard");
                let issuer = self.optional::<Issuer>("WORKOS_ISSUER").map(|issuer| issuer.0);
                let Some(api_key) = self.secret("WORKOS_API_KEY") else {
                    self.missing("WORKOS_API_KEY", "sk_… from the WorkOS dashboard");
                    return None;
                };
                Some(Provider::WorkOs { api_url, client_id: client_id?, api_key, issuer })
            }
            Some(_) => {
                self.wrong("MCP_IDP", "must be oidc or workos");
                None
            }
            None => {
                self.missing("MCP_IDP", "the kind of identity provider, oidc or workos");
                None
            }
        }
    }
}

/// An amount of time, in whatever unit its setting has.
struct Number(f64);

impl FromStr for Number {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            // The bounds keep every duration made from it representable, and none of them nothing.
            Ok(number) if (1e-3..=1e6).contains(&number) => Ok(Self(number)),
            _ => Err("must be a number from 0.001 to 1000000"),
        }
    }
}

struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err("must be on or off"),
        }
    }
}

struct OidcScopes(String);

impl FromStr for OidcScopes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.split(' ').any(|scope| scope == "openid") {
            Ok(Self(text.to_owned()))
        } else {
            Err("must contain openid")
        }
    }
}

struct ProviderUrl(Url);

impl ProviderUrl {
    fn workos() -> Self {
        Self(Url::parse("https://api.workos.com").expect("a constant URL"))
    }
}

impl FromStr for ProviderUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        secure_or_loopback(&url)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("must be an origin alone, without a path".into());
        }
        Ok(Self(url))
    }
}

/// An issuer, kept byte for byte: it is compared as text, never normalised (OpenID Connect Discovery §4.3).
struct Issuer(String);

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        secure_or_loopback(&url)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must have neither query nor fragment".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// `https` anywhere, `http` only on this machine.
pub fn secure_or_loopback(url: &Url) -> Result<(), String> {
    match url.scheme() {
        "https" if url.host().is_some() => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err("must begin with https:// (http:// is for loopback addresses alone)".into()),
        _ => Err("must begin with https://".into()),
    }
}

/// Whether the URL names this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn parse_origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    let origin = url.origin().ascii_serialization();
    if !matches!(url.scheme(), "http" | "https") || origin != text {
        return Err("must be an origin as browsers send it, such as https://app.example.com".into());
    }
    // It is echoed in Access-Control-Allow-Origin.
    HeaderValue::from_str(&origin).map_err(|error| error.to_string())?;
    Ok(origin)
}

fn parse_scheme(text: &str) -> Result<String, String> {
    let uri = format!("{text}:/");
    match RedirectUri::parse(&uri).and_then(|uri| uri.private_scheme().map(str::to_owned)) {
        Some(scheme) => Ok(scheme),
        None => Err("must be the scheme of an application, such as cursor".into()),
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    let authority: http::uri::Authority =
        text.parse().map_err(|_| "must be a host name, or host:port".to_owned())?;
    if authority.as_str().contains('@') || !has_usable_port(&authority) {
        return Err("must be a host name, or host:port".into());
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Table(HashMap<&'static str, &'static str>);

    impl Environment for Table {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
        }
    }

    const COMPLETE: &[(&str, &str)] = &[
        ("DATABASE_URL", "postgresql://mcp_frontend_auth@127.0.0.1/app"),
        ("MCP_EXEC_DATABASE_URL", "postgresql://mcp_frontend_exec@127.0.0.1/app"),
        ("MCP_IDP", "oidc"),
        ("OIDC_ISSUER", "https://id.example.com/tenant/"),
        ("OIDC_CLIENT_ID", "mcp"),
        ("OIDC_CLIENT_SECRET", "do-not-print-me"),
    ];

    pub fn read(changes: &[(&'static str, &'static str)]) -> Result<Config, Faults> {
        Config::read(&Table(COMPLETE.iter().chain(changes).copied().collect()))
    }

    fn faults(changes: &[(&'static str, &'static str)]) -> String {
        read(changes).expect_err("a fault").to_string()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = read(&[]).unwrap();
        assert_eq!(config.bind, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.admin_bind, None);
        assert_eq!(config.public_url.origin(), "http://127.0.0.1:8080");
        assert_eq!(config.pool_size, 16);
        assert!(config.prepared_statements);
        assert_eq!(config.session_ttl, Duration::from_secs(24 * 3600));
        assert_eq!(config.refused_limit, 6000);
        assert!(config.trusted_proxies.is_empty());
        assert!(config.allowed_origins.is_empty() && config.allowed_hosts.is_empty());
        assert!(!config.cookie_door);
        assert_eq!(config.request_timeout, Duration::from_secs(30));
        assert_eq!(config.shutdown_grace, Duration::from_secs(10));
        assert_eq!((config.max_connections, config.max_body_bytes), (4096, 4_194_304));
        let server = config.authorization_server;
        assert!(server.registration && server.private_schemes.is_empty() && !server.loopback_documents);
        assert_eq!((server.sign_in_limit, server.token_limit, server.register_limit), (1200, 3000, 60));
        match config.provider {
            Provider::Oidc { issuer, scopes, .. } => {
                assert_eq!(issuer, "https://id.example.com/tenant/");
                assert_eq!(scopes, "openid profile email");
            }
            provider => panic!("{provider:?}"),
        }
        let workos = [("MCP_IDP", "workos"), ("WORKOS_CLIENT_ID", "client_01"), ("WORKOS_API_KEY", "sk_01")];
        match read(&workos).unwrap().provider {
            Provider::WorkOs { api_url, issuer, .. } => {
                assert_eq!((api_url.as_str(), issuer), ("https://api.workos.com/", None));
            }
            provider => panic!("{provider:?}"),
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = Config::read(&Table(HashMap::new())).expect_err("nothing is set").to_string();
        for name in ["DATABASE_URL", "MCP_EXEC_DATABASE_URL", "MCP_IDP"] {
            assert!(text.contains(name), "{name} is not in: {text}");
        }
        assert_eq!(text.lines().count(), 3, "{text}");
        let text = faults(&[("OIDC_ISSUER", ""), ("OIDC_CLIENT_ID", "")]);
        assert!(
            text.contains("OIDC_ISSUER is not set") && text.contains("OIDC_CLIENT_ID is not set"),
            "{text}"
        );

        let text = faults(&[
            ("MCP_BIND", "8080"),
            ("MCP_SESSION_TTL_HOURS", "-1"),
            ("MCP_COOKIE_DOOR", "yes"),
            ("MCP_POOL_SIZE", "0"),
            ("MCP_IDP", "workos"),
        ]);
        for name in [
            "MCP_BIND",
            "MCP_SESSION_TTL_HOURS",
            "MCP_COOKIE_DOOR",
            "MCP_POOL_SIZE",
            "WORKOS_CLIENT_ID",
            "WORKOS_API_KEY",
        ] {
            assert!(text.contains(name), "{name} is not in: {text}");
        }
    }

    fn one_fault(others: &[(&'static str, &'static str)], name: &'static str, value: &'static str) {
        let text = faults(&[others, &[(name, value)]].concat());
        assert_eq!(text.lines().count(), 1, "{name}={value}: {text}");
        assert!(text.starts_with(name), "{name}={value}: {text}");
    }

    #[test]
    fn one_wrong_setting_gives_one_fault() {
        for (name, value) in [
            ("MCP_BIND", "localhost"),
            ("MCP_ADMIN_BIND", ":9090"),
            ("MCP_PUBLIC_URL", "http://mcp.example.com"),
            ("MCP_PUBLIC_URL", "https://mcp.example.com/app"),
            ("MCP_PUBLIC_URL", "https://user@mcp.example.com"),
            ("MCP_PUBLIC_URL", "https://mcp.example.com/?x"),
            ("MCP_PUBLIC_URL", "https://mcp.example.com/#x"),
            ("MCP_PUBLIC_URL", "https://:secret@mcp.example.com"),
            ("DATABASE_URL", "mysql://x"),
            ("DATABASE_URL", "postgresql://u@h/db?sslmode=sometimes"),
            ("OIDC_ISSUER", "http://id.example.com"),
            ("OIDC_ISSUER", "https://id.example.com/#x"),
            ("OIDC_ISSUER", "https://id.example.com/?x"),
            ("OIDC_ISSUER", "ldap://id.example.com"),
            ("OIDC_SCOPES", "email"),
            ("MCP_IDP", "ldap"),
            ("MCP_ALLOWED_ORIGINS", "https://app.example.com/"),
            ("MCP_ALLOWED_ORIGINS", "*"),
            ("MCP_ALLOWED_ORIGINS", "ftp://app.example.com"),
            ("MCP_ALLOWED_HOSTS", "a b"),
            ("MCP_ALLOWED_HOSTS", "mcp.example.com:84443"),
            ("MCP_ALLOWED_HOSTS", "mcp.example.com:"),
            ("MCP_ALLOWED_HOSTS", "user@mcp.example.com"),
            ("MCP_REQUEST_TIMEOUT", "NaN"),
            ("MCP_REQUEST_TIMEOUT", "1e-10"),
            ("MCP_SESSION_TTL_HOURS", "1e300"),
            ("MCP_MAX_BODY_BYTES", "12"),
            ("MCP_DYNAMIC_REGISTRATION", "yes"),
            ("MCP_REDIRECT_SCHEMES", "javascript"),
            ("MCP_REDIRECT_SCHEMES", "Cursor"),
            ("MCP_CIMD_ALLOW_LOOPBACK", "on"),
            ("MCP_LIMIT_REGISTER", "-1"),
            ("MCP_TRUSTED_PROXIES", "proxy"),
            ("MCP_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("MCP_EXEC_DATABASE_URL", "mysql://x"),
            ("MCP_PREPARED_STATEMENTS", "yes"),
            ("MCP_LIMIT_TOKEN", "many"),
            ("MCP_LIMIT_SIGN_IN", "1.5"),
            ("MCP_LIMIT_REFUSED", "-1"),
            ("MCP_SHUTDOWN_GRACE", "0"),
            ("MCP_MAX_CONNECTIONS", "0"),
            ("MCP_MAX_CONNECTIONS", "1000001"),
            ("MCP_MAX_CONNECTIONS", "many"),
            ("MCP_POOL_SIZE", "10001"),
            ("MCP_MAX_BODY_BYTES", "1073741825"),
        ] {
            one_fault(&[], name, value);
        }
        let workos = [("MCP_IDP", "workos"), ("WORKOS_CLIENT_ID", "client_01"), ("WORKOS_API_KEY", "sk_01")];
        for (name, value) in [
            ("WORKOS_API_URL", "http://api.example.com"),
            ("WORKOS_API_URL", "https://api.example.com/v1"),
            ("WORKOS_API_URL", "https://api.example.com/?x"),
            ("WORKOS_API_URL", "https://api.example.com/#x"),
            ("WORKOS_ISSUER", "api.workos.com"),
        ] {
            one_fault(&workos, name, value);
        }
    }

    #[test]
    fn numbers_are_taken_from_the_least_to_the_most() {
        for (name, least, most) in [
            ("MCP_POOL_SIZE", "1", "10000"),
            ("MCP_MAX_CONNECTIONS", "1", "1000000"),
            ("MCP_MAX_BODY_BYTES", "1024", "1073741824"),
        ] {
            assert!(read(&[(name, least)]).is_ok() && read(&[(name, most)]).is_ok(), "{name}");
        }
        one_fault(&[], "MCP_MAX_BODY_BYTES", "1023");
    }

    #[test]
    fn documents_on_loopback_are_for_tests() {
        let test = ("MCP_CIMD_ALLOW_LOOPBACK", "test");
        assert!(!read(&[]).unwrap().authorization_server.loopback_documents);
        assert!(read(&[test]).unwrap().authorization_server.loopback_documents);
        let public = ("MCP_PUBLIC_URL", "https://mcp.example.com");
        assert!(faults(&[test, public]).starts_with("MCP_CIMD_ALLOW_LOOPBACK is for tests"));
    }

    #[test]
    fn a_public_url_is_required_off_loopback() {
        for bind in ["0.0.0.0:8080", "127.0.0.1:0"] {
            assert!(faults(&[("MCP_BIND", bind)]).starts_with("MCP_PUBLIC_URL is not set"), "{bind}");
            // One that is wrong is set.
            one_fault(&[("MCP_BIND", bind)], "MCP_PUBLIC_URL", "http://mcp.example.com");
        }
        let config =
            read(&[("MCP_BIND", "0.0.0.0:8080"), ("MCP_PUBLIC_URL", "https://mcp.example.com/")]).unwrap();
        assert_eq!(config.public_url.join("/mcp/v1"), "https://mcp.example.com/mcp/v1");
        assert!(config.public_url.is_https());
        assert_eq!(config.public_url.authority(), "mcp.example.com");
    }

    #[test]
    fn what_is_empty_in_a_list_is_left_out() {
        let config = read(&[("MCP_ALLOWED_HOSTS", "a.test, ,b.test,")]).unwrap();
        assert_eq!(config.allowed_hosts, ["a.test", "b.test"]);
    }

    #[test]
    fn secrets_do_not_print() {
        let config = read(&[
            ("DATABASE_URL", "postgresql://u:do-not-print-me@h/db"),
            ("MCP_EXEC_DATABASE_URL", "postgresql://u:do-not-print-me@h/db?sslmode=disable"),
        ])
        .unwrap();
        assert!(!format!("{config:?}").contains("do-not-print-me"));
        assert!(
            !faults(&[("DATABASE_URL", "postgresql://u:do-not-print-me@h/db?port=x")]).contains("do-not")
        );
    }
}
