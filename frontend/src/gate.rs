//! `Host` and `Origin`, checked on every request: the defence against DNS rebinding and foreign pages.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Authority};
use url::Url;

use crate::config::{PublicUrl, is_loopback};

/// Why a request may not pass.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No usable `Host`: the request is malformed, 400.
    #[error("the request names no host")]
    NoHost,
    /// 403: this server does not answer under that name.
    #[error("the Host header names a host that this server does not answer for")]
    Host,
    /// 403: a page of that origin may not call this server.
    #[error("the Origin header names an origin that is not allowed")]
    Origin,
}

/// The names this server answers under and the origins that may call it.
#[derive(Debug)]
pub struct Gate {
    hosts: Vec<(String, u16)>,
    origins: Vec<String>,
    loopback: bool,
    default_port: u16,
}

impl Gate {
    /// `hosts` empty means the host of the public URL. A server bound to loopback also answers to the
    /// loopback names at any port, so that a forwarded port works.
    pub fn new(public_url: &PublicUrl, bind: SocketAddr, hosts: &[String], origins: &[String]) -> Self {
        let default_port = if public_url.is_https() { 443 } else { 80 };
        let mut names = hosts.to_vec();
        if names.is_empty() {
            names.push(public_url.authority());
        }
        let hosts = names
            .iter()
            .filter_map(|name| name.parse::<Authority>().ok())
            .map(|name| (name.host().to_ascii_lowercase(), name.port_u16().unwrap_or(default_port)))
            .collect();
        let mut origins = origins.to_vec();
        origins.push(public_url.origin().to_owned());
        Self { hosts, origins, loopback: bind.ip().is_loopback(), default_port }
    }

    /// Passes or refuses a request by its target and headers.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host = single(headers, header::HOST).map_err(|()| Refused::NoHost)?.ok_or(Refused::NoHost)?;
        let host: Authority = host.parse().map_err(|_| Refused::NoHost)?;
        if !has_usable_port(&host) {
            return Err(Refused::NoHost);
        }
        // An absolute-form target overrides Host (RFC 9112 §3.2.2), so both have to be ours.
        if !self.answers_to(&host) || uri.authority().is_some_and(|target| !self.answers_to(target)) {
            return Err(Refused::Host);
        }
        match single(headers, header::ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin)) if self.allows(origin, &host) => Ok(()),
            _ => Err(Refused::Origin),
        }
    }

    /// Whether a page of `origin` may read our answers, to be told so by CORS.
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.origins.iter().any(|allowed| allowed == origin))
    }

    fn answers_to(&self, host: &Authority) -> bool {
        if host.as_str().contains('@') || !has_usable_port(host) {
            return false;
        }
        let name = host.host().to_ascii_lowercase();
        if self.loopback && matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]") {
            return true;
        }
        let port = host.port_u16().unwrap_or(self.default_port);
        self.hosts.iter().any(|allowed| allowed.0 == name && allowed.1 == port)
    }

    fn allows(&self, origin: &str, host: &Authority) -> bool {
        if self.origins.iter().any(|allowed| allowed == origin) {
            return true;
        }
        // On this machine, a page served by ourselves under another loopback name is still ourselves.
        self.loopback
            && Url::parse(origin).is_ok_and(|url| is_loopback(&url) && origin == format!("http://{host}"))
    }
}

/// Whether what follows the name is a port or nothing: `Authority` lets any text pass there.
pub fn has_usable_port(host: &Authority) -> bool {
    host.port_u16().is_some() || host.as_str().ends_with(host.host())
}

/// The one value of a header; `Err` where it is repeated or no text.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(url: &str, bind: &str, hosts: &[&str], origins: &[&str]) -> Gate {
        let own = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        Gate::new(&url.parse().unwrap(), bind.parse().unwrap(), &own(hosts), &own(origins))
    }

    fn check(gate: &Gate, target: &str, pairs: &[(&'static str, &str)]) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        gate.check(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn a_public_server_answers_to_its_own_name() {
        let public = gate("https://mcp.example.com", "0.0.0.0:8080", &[], &["https://app.example.com"]);
        for (host, expected) in [
            ("mcp.example.com", Ok(())),
            ("MCP.example.com", Ok(())),
            ("mcp.example.com:443", Ok(())),
            ("mcp.example.com:8080", Err(Refused::Host)),
            ("mcp.example.com:", Err(Refused::NoHost)),
            ("mcp.example.com:x443", Err(Refused::NoHost)),
            ("mcp.example.com:65979", Err(Refused::NoHost)),
            ("evil.example.com", Err(Refused::Host)),
            ("mcp.example.com.evil.example", Err(Refused::Host)),
            ("user@mcp.example.com", Err(Refused::Host)),
            ("localhost:8080", Err(Refused::Host)),
            ("127.0.0.1", Err(Refused::Host)),
            ("", Err(Refused::NoHost)),
            ("a b", Err(Refused::NoHost)),
        ] {
            assert_eq!(check(&public, "/mcp/v1", &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(check(&public, "/mcp/v1", &[]), Err(Refused::NoHost));
        let twice = [("host", "mcp.example.com"), ("host", "evil.example.com")];
        assert_eq!(check(&public, "/mcp/v1", &twice), Err(Refused::NoHost));
        for (target, expected) in [
            ("http://mcp.example.com/mcp/v1", Ok(())),
            ("http://evil.example.com/mcp/v1", Err(Refused::Host)),
            ("http://mcp.example.com:65979/mcp/v1", Err(Refused::Host)),
            ("http://mcp.example.com:/mcp/v1", Err(Refused::Host)),
        ] {
            assert_eq!(check(&public, target, &[("host", "mcp.example.com")]), expected, "{target}");
        }
        let forwarded = [("host", "evil.example.com"), ("x-forwarded-host", "mcp.example.com")];
        assert_eq!(check(&public, "/mcp/v1", &forwarded), Err(Refused::Host));
        let plain = gate("http://127.0.0.1", "0.0.0.0:80", &[], &[]);
        for (host, expected) in [("127.0.0.1:80", Ok(())), ("127.0.0.1:443", Err(Refused::Host))] {
            assert_eq!(check(&plain, "/mcp/v1", &[("host", host)]), expected, "{host}");
        }
    }

    #[test]
    fn origins_are_compared_as_browsers_send_them() {
        let public = gate("https://mcp.example.com", "0.0.0.0:8080", &[], &["https://app.example.com"]);
        for (origin, expected) in [
            ("https://mcp.example.com", Ok(())),
            ("https://app.example.com", Ok(())),
            ("https://app.example.com:8443", Err(Refused::Origin)),
            ("http://app.example.com", Err(Refused::Origin)),
            ("https://app.example.com.evil.example", Err(Refused::Origin)),
            ("https://evil.example.com", Err(Refused::Origin)),
            ("http://localhost:8080", Err(Refused::Origin)),
            ("null", Err(Refused::Origin)),
            ("", Err(Refused::Origin)),
        ] {
            let pairs = [("host", "mcp.example.com"), ("origin", origin)];
            assert_eq!(check(&public, "/mcp/v1", &pairs), expected, "{origin:?}");
        }
        let twice = [
            ("host", "mcp.example.com"),
            ("origin", "https://app.example.com"),
            ("origin", "https://evil.example.com"),
        ];
        assert_eq!(check(&public, "/mcp/v1", &twice), Err(Refused::Origin));
    }

    #[test]
    fn on_loopback_the_loopback_names_hold_at_any_port() {
        let local = gate("http://127.0.0.1:8080", "127.0.0.1:8080", &[], &[]);
        for host in [
            "127.0.0.1:8080",
            "localhost:8080",
            "localhost:3000",
            "[::1]:8080",
            "localhost",
            "127.0.0.1:3000",
        ] {
            assert_eq!(check(&local, "/mcp/v1", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check(&local, "/", &[("host", "evil.example.com:8080")]), Err(Refused::Host));
        for (host, origin, expected) in [
            ("localhost:8080", "http://localhost:8080", Ok(())),
            ("localhost:8080", "http://127.0.0.1:8080", Ok(())),
            ("localhost:8080", "http://localhost:3000", Err(Refused::Origin)),
            ("localhost:8080", "http://evil.example.com:8080", Err(Refused::Origin)),
        ] {
            let pairs = [("host", host), ("origin", origin)];
            assert_eq!(check(&local, "/mcp/v1", &pairs), expected, "{host} {origin}");
        }
        // Behind a proxy on the same machine, the public name is no other for it.
        let proxied = gate("https://mcp.example.com", "127.0.0.1:8080", &[], &[]);
        for (origin, expected) in
            [("https://mcp.example.com", Ok(())), ("http://mcp.example.com", Err(Refused::Origin))]
        {
            let pairs = [("host", "mcp.example.com"), ("origin", origin)];
            assert_eq!(check(&proxied, "/mcp/v1", &pairs), expected, "{origin}");
        }
    }

    #[test]
    fn configured_hosts_replace_the_default() {
        let hosts = ["internal:8080", "other.example", "localhost:8080"];
        let gate = gate("https://mcp.example.com", "10.0.0.5:8080", &hosts, &[]);
        assert_eq!(check(&gate, "/", &[("host", "internal:8080")]), Ok(()));
        assert_eq!(check(&gate, "/", &[("host", "other.example")]), Ok(()));
        assert_eq!(check(&gate, "/", &[("host", "internal")]), Err(Refused::Host));
        assert_eq!(check(&gate, "/", &[("host", "mcp.example.com")]), Err(Refused::Host));
        // A listed host is no listed origin, a loopback name neither.
        for host in ["internal:8080", "localhost:8080"] {
            let origin = format!("http://{host}");
            assert_eq!(check(&gate, "/", &[("host", host), ("origin", &origin)]), Err(Refused::Origin));
        }
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    fn public() -> Gate {
        let (url, bind) = ("https://mcp.example.com".parse().unwrap(), "0.0.0.0:8080".parse().unwrap());
        Gate::new(&url, bind, &[], &["https://app.example.com".to_owned()])
    }

    fn local() -> Gate {
        Gate::new(&"http://127.0.0.1:8080".parse().unwrap(), "127.0.0.1:8080".parse().unwrap(), &[], &[])
    }

    /// What `right` becomes with a few characters put in or taken out, and anything else.
    fn near(right: &'static str) -> impl Strategy<Value = String> {
        let edited = (any::<prop::sample::Index>(), 0usize..3, "[a-zA-Z0-9.:@/\\\\\\[\\]%_ -]{0,4}");
        let edited = edited.prop_map(move |(at, gone, put)| {
            let at = at.index(right.len() + 1);
            let end = (at + gone).min(right.len());
            format!("{}{put}{}", &right[..at], &right[end..])
        });
        prop_oneof![4 => edited, 1 => any::<String>(), 1 => "[a-z0-9.:@\\[\\]-]{0,30}"]
    }

    fn passes(gate: &Gate, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        let Ok(host) = HeaderValue::from_str(host) else { return false };
        headers.insert(header::HOST, host);
        if let Some(origin) = origin {
            let Ok(origin) = HeaderValue::from_str(origin) else { return false };
            headers.insert(header::ORIGIN, origin);
        }
        gate.check(&Uri::from_static("/mcp/v1"), &headers).is_ok()
    }

    proptest! {
        /// Another parser, the one browsers share, reads every host that passes as ours.
        #[test]
        fn what_passes_is_our_own_name(host in near("mcp.example.com")) {
            if passes(&public(), &host, None) {
                let url = Url::parse(&format!("https://{host}/")).unwrap();
                prop_assert_eq!(url.host_str(), Some("mcp.example.com"));
                prop_assert_eq!(url.port_or_known_default(), Some(443));
                prop_assert!(url.username().is_empty() && url.path() == "/");
            }
        }

        #[test]
        fn on_loopback_what_passes_is_loopback(host in near("127.0.0.1:8080")) {
            if passes(&local(), &host, None) {
                let url = Url::parse(&format!("http://{host}/")).unwrap();
                prop_assert!(is_loopback(&url) && url.username().is_empty(), "{}", host);
            }
        }

        #[test]
        fn only_the_listed_origins_pass(origin in near("https://app.example.com")) {
            let listed = ["https://app.example.com", "https://mcp.example.com"].contains(&origin.as_str());
            let text = HeaderValue::from_str(&origin).is_ok_and(|value| value.to_str().is_ok());
            prop_assert_eq!(passes(&public(), "mcp.example.com", Some(&origin)), listed && text);
        }
    }
}
