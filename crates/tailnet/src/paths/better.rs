//! Which of two paths is better.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Whether `new` shall take the place of `old`: it has more points, and more than one if points of
/// latency are all there is, so that two equal paths do not take turns.
///
/// A point is a percent of the slower one's latency. Addresses of this machine or of a private
/// network get some more, for they cost nobody anything, and so does IPv6, which fewer boxes on the
/// way rewrite (coder/tailscale: wgengine/magicsock/endpoint.go, `betterAddr`).
pub(super) fn is_better(new: (SocketAddr, Duration), old: (SocketAddr, Duration)) -> bool {
    if new.0 == old.0 {
        return false;
    }
    let (of_new, of_old) = (points(new, old.1), points(old, new.1));
    of_new > of_old && (of_new > 1 || of_old > 0)
}

fn points((address, latency): (SocketAddr, Duration), other: Duration) -> u32 {
    faster_by(latency, other) + bonus(&address)
}

/// By how many percent of `other` a latency is shorter.
fn faster_by(latency: Duration, other: Duration) -> u32 {
    if latency >= other {
        return 0;
    }
    100 - (latency.as_nanos() * 100 / other.as_nanos()) as u32
}

fn bonus(address: &SocketAddr) -> u32 {
    let (private, newer) = match address.ip() {
        IpAddr::V4(ip) => (ip.is_private(), 0),
        IpAddr::V6(ip) => (ip.is_unique_local(), 10),
    };
    match (address.ip().is_loopback(), private) {
        (true, _) => 50 + newer,
        (false, true) => 20 + newer,
        (false, false) => newer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let public = "198.51.100.7:1";
        let other = "198.51.100.8:1";
        let private = "192.168.1.7:1";
        let loopback = "127.0.0.1:1";
        let v6 = "[2001:db8::1]:1";
        let cases = [
            ("itself", public, 1, public, 100, false),
            ("half the latency", public, 50, other, 100, true),
            ("twice the latency", public, 100, other, 50, false),
            ("the same", public, 100, other, 100, false),
            ("not even a percent", public, 995, other, 1000, false),
            ("two percent", public, 98, other, 100, true),
            ("private, a little slower", private, 110, public, 100, true),
            ("private, much slower", private, 200, public, 100, false),
            ("public, a little faster than private", public, 90, private, 100, false),
            ("loopback against private", loopback, 100, private, 100, true),
            ("IPv6 against IPv4", v6, 105, public, 100, true),
            ("IPv6 against IPv4 that is faster", v6, 120, public, 100, false),
            ("IPv4 that is faster against IPv6", public, 100, v6, 120, true),
            ("no latency at all", public, 0, other, 0, false),
        ];
        for (what, new, new_latency, old, old_latency, better) in cases {
            let path = |address: &str, latency| {
                (address.parse().expect("an address"), Duration::from_micros(latency))
            };
            assert_eq!(is_better(path(new, new_latency), path(old, old_latency)), better, "{what}");
        }
    }
}
