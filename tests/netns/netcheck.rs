//! What `coderctl netcheck` says of networks.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    front::{Closed, Front},
    nat::Kind,
    network::{Network, OTHER_SERVER, SERVER},
    scene::{Server, Turn, turn},
    support::{Client, Seen},
};

/// Where the front listens; nobody else does there.
const FRONT: u16 = 4000;

/// A host, and a deployment with two STUN servers, and a third at an IPv6 address.
struct Place {
    network: Network,
    client: Client,
    _servers: [Server; 2],
    _front: Front,
}

impl Place {
    fn new(_turn: &Turn, kind: Kind, closed: Closed) -> Self {
        let network = Network::new([kind, Kind::Open], None);
        let servers =
            [SERVER, OTHER_SERVER].map(|address| Server::start_at(&network.server, address));
        let [mut info, mut other] = servers.each_ref().map(|server| {
            let client = server.client();
            network.server.within(move || client.api().get("/workspaceagents/connection"))
        });
        let regions = &mut info["derp_map"]["Regions"];
        regions["1001"] = numbered(other["derp_map"]["Regions"]["1000"].take(), 1001);
        let mut far = numbered(regions["1000"].clone(), 1002);
        let node = &mut far["Nodes"][0];
        (node["IPv4"], node["IPv6"]) = (json!("none"), json!("2001:db8::2"));
        regions["1002"] = far;
        let at = |port| -> SocketAddr { format!("{SERVER}:{port}").parse().unwrap() };
        let front = Front::start(&network.server, at(FRONT), at(3000), &info, closed);
        let client = servers[0].client().by(&format!("http://{}", at(FRONT)));
        Self { network, client, _servers: servers, _front: front }
    }

    fn check(&self) -> Seen {
        let client = &self.client;
        self.network.sites[0].host.within(|| client.run(&["netcheck"]))
    }
}

/// The same region under another number.
fn numbered(mut region: Value, id: u16) -> Value {
    region["RegionID"] = id.into();
    region["Nodes"][0]["RegionID"] = id.into();
    region["Nodes"][0]["Name"] = id.to_string().into();
    region
}

fn nothing(_: &str) -> bool {
    false
}

#[track_caller]
fn has(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn what_translates_addresses_is_told() {
    let Some(turn) = turn() else { return };
    let rows = [
        (Kind::Open, "UDP IPv4     open as 198.18.10.2:", ", no NAT"),
        (Kind::Firewall, "UDP IPv4     open as 198.18.10.2:", ", no NAT"),
        (Kind::FullCone, "open as 198.18.20.2:", ", NAT with one address for all destinations"),
        (Kind::PortRestricted, "open as 198.18.20.2:", ", NAT with one address for all dest"),
        (
            Kind::Symmetric,
            "open as 198.18.20.2:",
            ", NAT with another address for each destination",
        ),
    ];
    for (kind, address, nat) in rows {
        let text = Place::new(&turn, kind, nothing).check().ends(0).stdout;
        has(&text, &[address, nat, "coordinator  open", "upgrade   open", "WebSocket open"]);
        has(&text, &["UDP IPv6     not possible here: this machine has no way to IPv6 addresses"]);
        let unlikely =
            "! the NAT gives each destination another address: direct paths are unlikely";
        assert_eq!(text.contains(unlikely), kind == Kind::Symmetric, "{text}");
        assert!(kind == Kind::Symmetric || !text.contains('!'), "{text}");
    }
}

#[test]
fn udp_that_is_blocked_is_told_and_is_no_failure() {
    let Some(turn) = turn() else { return };
    let place = Place::new(&turn, Kind::PortRestricted, nothing);
    place.network.block_udp();
    let text = place.check().ends(0).stdout;
    has(&text, &["UDP IPv4     blocked: no answer from 2 servers"]);
    has(&text, &["! UDP is blocked: tunnels go by relay", "upgrade   open"]);
}

#[test]
fn each_leg_that_is_closed_is_told() {
    let Some(turn) = turn() else { return };
    let rows: [(Closed, i32, &[&str]); 4] = [
        (
            |head| head.starts_with("get /derp"),
            209,
            &["upgrade   closed: ", "WebSocket closed: ", "! relay coder cannot be reached"],
        ),
        (
            |head| head.contains("upgrade: derp"),
            0,
            &[
                "upgrade   closed: ",
                "WebSocket open",
                "is reached over WebSocket only, which is slower",
            ],
        ),
        (
            |head| head.starts_with("get /derp") && head.contains("upgrade: websocket"),
            0,
            &["upgrade   open", "WebSocket closed: "],
        ),
        (
            |head| head.starts_with("get /api/v2/tailnet"),
            209,
            &[
                "coordinator  closed: ",
                "answered with HTTP status 403",
                "! the coordinator's WebSocket does not open",
            ],
        ),
    ];
    for (closed, code, wanted) in rows {
        let seen = Place::new(&turn, Kind::PortRestricted, closed).check().ends(code);
        has(&seen.stdout, wanted);
        has(&seen.stdout, &["UDP IPv4     open as 198.18.20.2:"]);
        if code == 209 {
            seen.says("there can be no tunnel");
        }
    }
}
