//! The settings, all from the environment, and every fault in them at once.

use std::net::SocketAddr;

use url::Url;

use crate::secret::Secret;

const BIND: &str = "MCP_DEV_IDP_BIND";
const CLIENT_ID: &str = "MCP_DEV_IDP_CLIENT_ID";
const CLIENT_SECRET: &str = "MCP_DEV_IDP_CLIENT_SECRET";
const REDIRECT_URIS: &str = "MCP_DEV_IDP_REDIRECT_URIS";

#[derive(Debug)]
pub struct Config {
    /// Always a loopback address.
    pub bind: SocketAddr,
    pub client: Client,
}

/// The one application that may sign users in here.
#[derive(Debug)]
pub struct Client {
    pub id: String,
    pub secret: Secret,
    /// Compared whole, as RFC 9700 section 2.1 asks.
    pub redirect_uris: Vec<String>,
}

impl Config {
    /// Reads the settings through `lookup`.
    ///
    /// # Errors
    /// One sentence for each setting that is missing or wrong.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let bind = bind(lookup(BIND)).map_err(|fault| faults.push(fault)).ok();
        let id = lookup(CLIENT_ID).unwrap_or_else(|| "mcp-frontend".to_owned());
        if id.is_empty() {
            faults.push(format!("{CLIENT_ID} is empty"));
        }
        let secret = lookup(CLIENT_SECRET).unwrap_or_default();
        if secret.len() < 16 {
            faults.push(format!("{CLIENT_SECRET} must be set, to 16 characters or more"));
        }
        let redirect_uris = redirect_uris(lookup(REDIRECT_URIS), &mut faults);
        match bind {
            Some(bind) if faults.is_empty() => {
                Ok(Self { bind, client: Client { id, secret: Secret::new(secret), redirect_uris } })
            }
            _ => Err(faults),
        }
    }
}

fn bind(value: Option<String>) -> Result<SocketAddr, String> {
    let value = value.unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let address: SocketAddr =
        value.parse().map_err(|_| format!("{BIND}={value} is not an address such as 127.0.0.1:8090"))?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "{BIND}={value} is refused: this provider signs in anybody, so it listens on loopback alone"
        ));
    }
    Ok(address)
}

fn redirect_uris(value: Option<String>, faults: &mut Vec<String>) -> Vec<String> {
    let value = value.unwrap_or_else(|| "http://127.0.0.1:8080/auth/callback".to_owned());
    let uris: Vec<String> =
        value.split(',').map(str::trim).filter(|uri| !uri.is_empty()).map(str::to_owned).collect();
    if uris.is_empty() {
        faults.push(format!("{REDIRECT_URIS} names no redirect URI"));
    }
    for uri in &uris {
        match Url::parse(uri) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.fragment().is_none() => {}
            _ => faults.push(format!("{REDIRECT_URIS}: {uri} is not an http URL without a fragment")),
        }
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        Config::read(|name| {
            settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const SECRET: (&str, &str) = (CLIENT_SECRET, "0123456789abcdef");

    #[test]
    fn defaults_are_those_of_make_run() {
        let config = read(&[SECRET]).expect("a secret of 16 characters is all that is required");
        assert_eq!(config.bind.to_string(), "127.0.0.1:8090");
        assert_eq!(config.client.id, "mcp-frontend");
        assert!(config.client.secret.matches(SECRET.1));
        assert_eq!(config.client.redirect_uris, ["http://127.0.0.1:8080/auth/callback"]);
    }

    #[test]
    fn every_setting_is_heeded() {
        let uris = " https://a.example/cb ,, http://b.example:81/?c=d,";
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            let settings = [(BIND, address), (CLIENT_ID, "other"), SECRET, (REDIRECT_URIS, uris)];
            let config = read(&settings).expect(address);
            assert_eq!(config.bind.to_string(), address);
            assert_eq!(config.client.id, "other");
            assert_eq!(config.client.redirect_uris, ["https://a.example/cb", "http://b.example:81/?c=d"]);
        }
    }

    #[test]
    fn each_fault_is_told_in_words() {
        for (name, value, told) in [
            ("MCP_DEV_IDP_BIND", "here", "MCP_DEV_IDP_BIND=here is not an address such as 127.0.0.1:8090"),
            ("MCP_DEV_IDP_CLIENT_ID", "", "MCP_DEV_IDP_CLIENT_ID is empty"),
            (
                "MCP_DEV_IDP_CLIENT_SECRET",
                "0123456789abcde",
                "MCP_DEV_IDP_CLIENT_SECRET must be set, to 16 characters or more",
            ),
            ("MCP_DEV_IDP_REDIRECT_URIS", " , ", "MCP_DEV_IDP_REDIRECT_URIS names no redirect URI"),
            (
                "MCP_DEV_IDP_REDIRECT_URIS",
                "http://a/#b",
                "MCP_DEV_IDP_REDIRECT_URIS: http://a/#b is not an http URL without a fragment",
            ),
            (
                "MCP_DEV_IDP_REDIRECT_URIS",
                "http://a/,/b",
                "MCP_DEV_IDP_REDIRECT_URIS: /b is not an http URL without a fragment",
            ),
        ] {
            let faults = read(&[(name, value), SECRET]).expect_err(told);
            assert_eq!(faults, [told]);
        }
        for address in ["0.0.0.0:8090", "192.168.1.2:8090", "[::]:8090", "8.8.8.8:80"] {
            let told = format!(
                "MCP_DEV_IDP_BIND={address} is refused: \
                 this provider signs in anybody, so it listens on loopback alone"
            );
            assert_eq!(read(&[SECRET, (BIND, address)]).expect_err(address), [told]);
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = read(&[(BIND, "here"), (CLIENT_ID, ""), (REDIRECT_URIS, "mailto:x, http://a/#b")])
            .expect_err("all of it is wrong");
        assert_eq!(faults.len(), 5, "{faults:?}");
        for (fault, named) in faults.iter().zip([BIND, CLIENT_ID, CLIENT_SECRET, "mailto:x", "http://a/#b"]) {
            assert!(fault.contains(named), "{fault}");
        }
    }
}
