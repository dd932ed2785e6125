//! Which addresses of this machine others may try.

use std::net::IpAddr;

use crate::paths::is_in_tunnel;

/// The addresses that are worth telling, sorted (coder/tailscale: net/interfaces,
/// `LocalAddresses`): those of networks that lead somewhere; if there are none, addresses that a
/// machine gives itself or that only one site knows; if there are none either, this machine's own.
pub(super) fn usable(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let of = |wanted: Kind| {
        let mut found: Vec<IpAddr> =
            addresses.iter().filter(|address| kind(address) == wanted).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    [Kind::Regular, Kind::Local, Kind::Loopback]
        .into_iter()
        .map(of)
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    Local,
    Loopback,
    Useless,
}

fn kind(address: &IpAddr) -> Kind {
    if address.is_unspecified() || address.is_multicast() {
        return Kind::Useless;
    }
    if address.is_loopback() {
        return Kind::Loopback;
    }
    match address {
        IpAddr::V4(address) if address.is_link_local() => Kind::Local,
        IpAddr::V4(_) => Kind::Regular,
        // Nobody else can say on which interface such an address is.
        IpAddr::V6(address) if address.is_unicast_link_local() || is_in_tunnel(address) => {
            Kind::Useless
        }
        IpAddr::V6(address) if address.is_unique_local() => Kind::Local,
        IpAddr::V6(_) => Kind::Regular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_kind_there_is() {
        let cases: [(&[&str], &[&str]); 6] = [
            (&["127.0.0.1", "::1"], &["127.0.0.1", "::1"]),
            (&["127.0.0.1", "169.254.1.1", "fd00::1"], &["169.254.1.1", "fd00::1"]),
            (&["127.0.0.1", "169.254.1.1", "10.0.0.2"], &["10.0.0.2"]),
            (
                &["2001:db8::1", "192.168.1.2", "10.0.0.2", "10.0.0.2"],
                &["10.0.0.2", "192.168.1.2", "2001:db8::1"],
            ),
            (&["fe80::1", "0.0.0.0", "fd7a:115c:a1e0::1"], &[]),
            (&[], &[]),
        ];
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        for (given, expected) in cases {
            assert_eq!(usable(&parse(given)), parse(expected), "{given:?}");
        }
    }
}
