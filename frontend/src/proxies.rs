//! Where a request comes from, when there are proxies in between.
//!
//! A header that names the client is believed only from a proxy that the operator named, and then only as far as the
//! chain of those proxies reaches: whatever the client itself wrote stands further left.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// An address or a network in CIDR notation.
#[derive(Debug, Clone, Copy)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>()
            .map(IpNet::from)
            .or_else(|_| text.parse::<IpNet>())
            .map(Self)
            .map_err(|_| "must be an IP address or a network such as 10.0.0.0/8")
    }
}

impl TrustedProxies {
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks.into_iter().map(|Network(network)| network).collect())
    }

    /// The address of the client: the peer's, or the nearest one in `X-Forwarded-For` that is no trusted proxy.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let mut named: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        while self.trusts(client) {
            match named.pop().map(address) {
                Some(Some(next)) => client = next.to_canonical(),
                // Nobody further back is named, or what names them cannot be read: this is as far as we see.
                _ => break,
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An entry of the header: an address, with a port where some proxies put one.
fn address(entry: &str) -> Option<IpAddr> {
    entry
        .parse::<IpAddr>()
        .or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| entry.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        TrustedProxies::new(trusted).client(SocketAddr::new(peer.parse().unwrap(), 1), &headers).to_string()
    }

    #[test]
    fn the_header_is_believed_from_trusted_proxies_alone() {
        assert_eq!(client(&[], "203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client(&["10.0.0.0/8"], "203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.2", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client(&["10.0.0.2"], "::ffff:10.0.0.2", &["198.51.100.1"]), "198.51.100.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_reached() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(client(&trusted, "10.0.0.2", &["6.6.6.6, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(client(&trusted, "10.0.0.2", &["6.6.6.6", "198.51.100.1, 10.0.0.3"]), "198.51.100.1");
        assert_eq!(client(&trusted, "10.0.0.2", &["6.6.6.6, 198.51.100.1, ::ffff:10.0.0.3"]), "198.51.100.1");
        assert_eq!(client(&trusted, "10.0.0.2", &["6.6.6.6, nonsense"]), "10.0.0.2");
        assert_eq!(client(&trusted, "10.0.0.2", &[]), "10.0.0.2");
        assert_eq!(client(&trusted, "10.0.0.2", &["10.0.0.9"]), "10.0.0.9");
    }

    #[test]
    fn entries_may_carry_ports() {
        for (entry, expected) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(client(&["10.0.0.2"], "10.0.0.2", &[entry]), expected);
        }
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    /// Addresses of proxies, of anybody, and what is none.
    fn entry() -> impl Strategy<Value = String> {
        prop_oneof![
            2 => "10\\.0\\.[0-9]\\.[0-9]",
            2 => any::<IpAddr>().prop_map(|address| address.to_string()),
            1 => (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port).to_string()),
            1 => "[ -~]{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn nobody_says_of_himself_who_he_is(peer: IpAddr, said in prop::collection::vec(entry(), 0..5)) {
            let proxies = TrustedProxies::new(vec!["10.0.0.0/16".parse().unwrap()]);
            let mut headers = HeaderMap::new();
            for value in said.iter().filter_map(|value| value.parse().ok()) {
                headers.append(FORWARDED_FOR, value);
            }
            let client = proxies.client(SocketAddr::new(peer, 1), &headers);
            if !proxies.trusts(peer.to_canonical()) {
                prop_assert_eq!(client, peer.to_canonical());
            }
        }

        /// What stands left of the address that the last proxy saw changes nothing.
        #[test]
        fn what_the_client_wrote_is_not_read(
            written in prop::collection::vec(entry(), 0..4),
            seen in "203\\.0\\.113\\.[1-9]",
            chain in prop::collection::vec("10\\.0\\.[0-9]\\.[0-9]", 0..3),
        ) {
            let proxies = TrustedProxies::new(vec!["10.0.0.0/16".parse().unwrap()]);
            let all: Vec<_> = written.iter().chain([&seen]).chain(&chain).map(String::as_str).collect();
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, all.join(", ").parse().unwrap())]);
            let client = proxies.client("10.0.9.9:1".parse().unwrap(), &headers);
            prop_assert_eq!(client.to_string(), seen);
        }
    }
}
