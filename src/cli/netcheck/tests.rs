//! What is said of what was found.

use std::time::Duration;

use super::*;

fn map() -> DerpMap {
    DerpMap::from_json(
        br#"{"Regions": {"1": {"RegionID": 1, "RegionCode": "near", "Nodes": [{"Name": "1a", "HostName": "a"}]},
                         "2": {"RegionID": 2, "RegionCode": "far", "Nodes": [{"Name": "2a", "HostName": "b"}]}}}"#,
    )
    .unwrap()
}

fn relay(id: i64, latency: Option<u64>, upgrade: bool, websocket: bool) -> RelayCheck {
    let open = |open: bool| open.then_some(()).ok_or_else(|| "filtered \u{1b}[2J".to_owned());
    RelayCheck {
        region: RegionId::new(id).unwrap(),
        code: if id == 1 { "near" } else { "far" }.to_owned(),
        name: String::new(),
        latency: latency.map(Duration::from_millis).ok_or_else(|| "no answer".to_owned()),
        upgrade: open(upgrade),
        websocket: open(websocket),
    }
}

fn open(nat: Nat) -> UdpFamily {
    let address = "198.51.100.7:4711".parse().unwrap();
    UdpFamily::Open { address, latency: Duration::from_micros(12_345), nat }
}

const ALL: Allowed = Allowed { direct: true, upgrade: true };

fn report(udp: (UdpFamily, UdpFamily), relays: &[RelayCheck], allowed: &Allowed) -> Report {
    let udp = Udp { ipv4: udp.0, ipv6: udp.1 };
    Report::new(&map(), &udp, relays, Leg::of(Ok(())), allowed)
}

#[test]
fn a_table_for_people() {
    let relays = [relay(1, Some(5), true, true), relay(2, None, false, true)];
    let no_network = UdpFamily::NoNetwork("this machine has no way to IPv6 addresses".to_owned());
    let report = report((open(Nat::Hard), no_network), &relays, &ALL);
    assert_eq!(
        report.table(),
        "coordinator  open
UDP IPv4     open as 198.51.100.7:4711, 12.345 ms, NAT with another address for each destination
UDP IPv6     not possible here: this machine has no way to IPv6 addresses
direct paths allowed
relay        near (1, home), 5 ms
               upgrade   open
               WebSocket open
relay        far (2), not measured: no answer
               upgrade   closed: filtered \\x1b[2J
               WebSocket open
! relay far is reached over WebSocket only, which is slower
! the NAT gives each destination another address: direct paths are unlikely
"
    );
    assert_eq!(report.verdict().unwrap(), 0);
}

#[test]
fn when_tunnels_can_work() {
    let none = || (UdpFamily::NoServer, UdpFamily::NoServer);
    let forced = Allowed { direct: true, upgrade: false };
    let rows = [
        (vec![relay(1, Some(5), true, true)], &ALL, true),
        (vec![relay(1, Some(5), false, true)], &ALL, true),
        (vec![relay(1, Some(5), true, false)], &ALL, true),
        (vec![relay(1, Some(5), true, false)], &forced, false),
        (vec![relay(1, Some(5), false, false)], &ALL, false),
        (vec![relay(1, None, false, false), relay(2, None, true, true)], &ALL, true),
        (vec![], &ALL, false),
    ];
    for (relays, allowed, healthy) in rows {
        let report = report(none(), &relays, allowed);
        assert_eq!(report.healthy, healthy, "{relays:?}");
        assert_eq!(
            report.verdict().map_err(|error| error.kind.code()),
            if healthy { Ok(0) } else { Err(209) }
        );
    }
    let udp = Udp { ipv4: open(Nat::Easy), ipv6: UdpFamily::NoServer };
    let closed = Leg::of(Err("HTTP status 403".to_owned()));
    let relays = [relay(1, Some(5), true, true)];
    let report = Report::new(&map(), &udp, &relays, closed, &ALL);
    assert!(report.verdict().unwrap_err().to_string().contains("coordinator"));
}

#[test]
fn what_is_warned_of() {
    let blocked = || UdpFamily::Blocked { asked: 2 };
    let fine = [relay(1, Some(5), true, true)];
    let no_direct = Allowed { direct: false, upgrade: true };
    let rows = [
        ((open(Nat::Easy), blocked()), &ALL, 0),
        ((blocked(), UdpFamily::NoServer), &ALL, 1),
        ((UdpFamily::NoServer, UdpFamily::NoServer), &ALL, 1),
        ((open(Nat::Hard), blocked()), &ALL, 1),
        ((blocked(), blocked()), &no_direct, 0),
    ];
    for (udp, allowed, count) in rows {
        let said = format!("{udp:?}");
        let report = report(udp, &fine, allowed);
        assert_eq!(report.warnings.len(), count, "{said}: {:?}", report.warnings);
    }
}

#[test]
fn home_is_the_nearest_that_can_be_used() {
    let far_is_nearer = [relay(1, Some(50), true, true), relay(2, Some(5), true, true)];
    assert_eq!(home(&map(), &far_is_nearer), RegionId::new(2).ok());
    let far_is_closed = [relay(1, Some(50), true, true), relay(2, Some(5), false, false)];
    assert_eq!(home(&map(), &far_is_closed), RegionId::new(1).ok());
    let nothing_measured = [relay(1, None, true, true), relay(2, None, true, true)];
    assert_eq!(home(&map(), &nothing_measured), RegionId::new(1).ok());
}
