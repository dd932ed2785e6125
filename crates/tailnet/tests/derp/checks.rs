//! What a check of the network finds.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use coderctl_tailnet::derp_map::{DerpMap, Family};
use coderctl_tailnet::netcheck::{Nat, UdpFamily, check_relays, check_udp};
use tokio::net::UdpSocket;

use crate::network::map;
use crate::region;
use crate::relays::two_regions;

#[tokio::test(start_paused = true)]
async fn each_relay_is_tried_by_each_way() {
    let (network, _a, _b) = two_regions();
    network.far("a", Duration::from_millis(7));
    network.refuse_upgrades("b", 403);
    let map = map(&[(1, &["a"]), (2, &["b"]), (3, &["gone"])]);
    let checks = check_relays(&network, &map).await;
    let regions: Vec<_> = checks.iter().map(|check| check.region).collect();
    assert_eq!(regions, [region(1), region(2), region(3)]);
    let found: Vec<_> = checks
        .iter()
        .map(|one| (one.latency.is_ok(), one.upgrade.is_ok(), one.websocket.is_ok()))
        .collect();
    assert_eq!(found, [(true, true, true), (false, false, true), (false, false, false)]);
    assert_eq!(checks[0].latency, Ok(Duration::from_millis(7)));
    let why = checks[1].upgrade.as_ref().unwrap_err();
    assert_eq!(why, "the relay at b refused the connection (HTTP status 403)");
    let usable: Vec<_> = checks.iter().map(|check| check.is_usable()).collect();
    assert_eq!(usable, [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_says_nothing_is_given_up() {
    let (network, _a, _b) = two_regions();
    network.silence("a");
    let checks = check_relays(&network, &map(&[(1, &["a"])])).await;
    assert!(!checks[0].is_usable(), "{checks:?}");
}

/// What a scripted server answers with.
#[derive(Clone, Copy)]
enum Sees {
    /// Where the question came from.
    Truth,
    /// That address with another port.
    Port(u16),
    /// The truth, but first an answer to somebody else's question.
    Late,
}

/// A STUN server at an address of this machine.
async fn server(address: Ipv4Addr, sees: Sees) -> SocketAddr {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 100];
        loop {
            let (length, from) = socket.recv_from(&mut question).await.unwrap();
            assert_eq!(length, 40);
            let SocketAddr::V4(seen) = from else { panic!("{from}") };
            let port = if let Sees::Port(port) = sees { port } else { seen.port() };
            let mut answer = vec![1, 1, 0, 12];
            answer.extend_from_slice(&question[4..20]);
            answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
            answer.extend_from_slice(&(port ^ 0x2112).to_be_bytes());
            let hidden = u32::from(*seen.ip()) ^ 0x2112_a442;
            answer.extend_from_slice(&hidden.to_be_bytes());
            if matches!(sees, Sees::Late) {
                let mut other = answer.clone();
                other[10] ^= 1;
                other[31] ^= 1;
                socket.send_to(&other, from).await.unwrap();
                socket.send_to(b"what?", from).await.unwrap();
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

fn stun_map(servers: &[SocketAddr]) -> DerpMap {
    let names: Vec<String> = (0..servers.len()).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut map = map(&[(1, &names)]);
    for (node, server) in map.regions.get_mut(&region(1)).unwrap().nodes.iter_mut().zip(servers) {
        let SocketAddr::V4(server) = server else { panic!("{server}") };
        node.ipv4 = Family::Fixed(*server.ip());
        node.ipv6 = Family::Disabled;
        node.host_name = String::new();
        node.stun_only = true;
        node.stun_port = Some(server.port());
    }
    map
}

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn servers_tell_where_we_are_and_what_translates_it() {
    let rows: [(&[(Ipv4Addr, Sees)], Nat); 5] = [
        (&[(ONE, Sees::Truth), (TWO, Sees::Truth)], Nat::None),
        (&[(ONE, Sees::Port(9)), (TWO, Sees::Port(9))], Nat::Easy),
        (&[(ONE, Sees::Port(9)), (TWO, Sees::Port(10))], Nat::Hard),
        (&[(ONE, Sees::Port(9))], Nat::Unknown),
        (&[(ONE, Sees::Late)], Nat::None),
    ];
    for (number, (servers, expected)) in rows.into_iter().enumerate() {
        let mut addresses = BTreeSet::new();
        for (address, sees) in servers {
            addresses.insert(server(*address, *sees).await);
        }
        let map = stun_map(&addresses.into_iter().collect::<Vec<_>>());
        let udp = check_udp(&map).await.unwrap();
        assert_eq!(udp.ipv6, UdpFamily::NoServer);
        let UdpFamily::Open { address, nat, latency } = udp.ipv4 else {
            panic!("row {number}: {udp:?}")
        };
        assert_eq!((nat, address.ip()), (expected, ONE.into()), "row {number}");
        assert!(latency < Duration::from_secs(3), "{latency:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_it_is_blocked() {
    let silent = UdpSocket::bind((ONE, 0)).await.unwrap();
    let map = stun_map(&[silent.local_addr().unwrap()]);
    let begun = tokio::time::Instant::now();
    let udp = check_udp(&map).await.unwrap();
    assert_eq!(udp.ipv4, UdpFamily::Blocked { asked: 1 });
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    let nothing = check_udp(&map_without_servers()).await.unwrap();
    assert_eq!((nothing.ipv4, nothing.ipv6), (UdpFamily::NoServer, UdpFamily::NoServer));
}

fn map_without_servers() -> DerpMap {
    map(&[(1, &["a"])])
}
