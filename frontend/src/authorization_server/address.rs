//! Which addresses belong to the public internet, and may be asked for a document that a stranger named.

use std::{net::IpAddr, sync::LazyLock};

use ipnet::IpNet;

/// The one range of IPv6 that is handed out to networks; whatever is not in it (mapped, translated, link-local, unique
/// local, multicast) is not asked.
const GLOBAL_UNICAST: &str = "2000::/3";

/// What is special inside the ranges that are handed out (IANA's special-purpose address registries).
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",       // this network
    "10.0.0.0/8",      // private
    "100.64.0.0/10",   // shared by carriers
    "127.0.0.0/8",     // loopback
    "169.254.0.0/16",  // link-local, the metadata services of clouds among them
    "172.16.0.0/12",   // private
    "192.0.0.0/24",    // protocol assignments
    "192.0.2.0/24",    // documentation
    "192.88.99.0/24",  // 6to4 relays
    "192.168.0.0/16",  // private
    "198.18.0.0/15",   // benchmarks
    "198.51.100.0/24", // documentation
    "203.0.113.0/24",  // documentation
    "224.0.0.0/4",     // multicast
    "240.0.0.0/4",     // reserved, broadcast
    "2001::/23",       // protocol assignments, Teredo and ORCHID among them
    "2001:db8::/32",   // documentation
    "2002::/16",       // 6to4, which wraps any IPv4 address
    "3fff::/20",       // documentation
];

/// Whether an address is one of the public internet's.
pub fn is_public(address: IpAddr) -> bool {
    static RANGES: LazyLock<(IpNet, Vec<IpNet>)> = LazyLock::new(|| {
        let range = |text: &&str| text.parse().expect("a range written above");
        (range(&GLOBAL_UNICAST), SPECIAL.iter().map(range).collect())
    });
    let (global, special) = &*RANGES;
    (address.is_ipv4() || global.contains(&address)) && !special.iter().any(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checklist_15_addresses_inside_are_told_from_those_outside() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "192.0.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
