use super::*;
use crate::stun;

const SECOND: Duration = Duration::from_secs(1);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn transaction_of(request: &[u8; REQUEST_LENGTH]) -> Transaction {
    let [_, _, _, _, _, _, _, _, rest @ ..] = request;
    Transaction(*rest.first_chunk().expect("twelve bytes"))
}

/// Two servers, and sockets of both families.
struct World {
    now: Instant,
    endpoints: Endpoints,
    drawn: u8,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut endpoints = Endpoints::default();
        let interfaces = vec!["10.0.0.2".parse().expect("an address")];
        endpoints.set_local(Ports { v4: Some(41641), v6: None }, interfaces, now);
        let servers = ["192.0.2.1:3478", "192.0.2.2:3478", "[2001:db8::1]:3478"];
        endpoints.set_servers(servers.map(address).to_vec(), now);
        Self { now, endpoints, drawn: 0 }
    }

    fn requests(&mut self) -> Vec<(SocketAddr, Transaction)> {
        let mut requests = Vec::new();
        while let Some((server, request)) = self.endpoints.poll_transmit(
            self.now,
            |_| true,
            || {
                self.drawn += 1;
                Some([self.drawn; 12])
            },
        ) {
            assert!(stun::is_stun(&request));
            requests.push((server, transaction_of(&request)));
        }
        requests
    }

    fn answer(&mut self, from: &str, transaction: Transaction, seen: &str) {
        let answer = Answer { transaction, address: address(seen) };
        self.endpoints.handle_answer(address(from), answer, self.now);
    }

    /// Lets time pass, one deadline after the other.
    fn pass(&mut self, time: Duration, in_use: bool) {
        let until = self.now + time;
        while let Some(at) = self.endpoints.next_deadline().filter(|at| *at <= until) {
            self.now = at;
            self.endpoints.handle_timeout(in_use, 500, at);
            assert!(self.endpoints.next_deadline().is_none_or(|next| next > at));
        }
        self.now = until;
    }
}

#[test]
fn what_servers_see_comes_before_our_own_addresses() {
    let mut world = World::new();
    assert_eq!(world.endpoints.list(), [address("10.0.0.2:41641")]);
    assert!(world.endpoints.take_change());
    let requests = world.requests();
    // There is no IPv6 socket.
    assert_eq!(requests.len(), 2);
    assert_eq!(world.endpoints.mapping_varies(), None);
    world.answer("192.0.2.1:3478", requests[0].1, "198.51.100.7:41641");
    let list = ["198.51.100.7:41641", "10.0.0.2:41641"].map(address);
    assert_eq!(world.endpoints.list(), list);
    assert!(world.endpoints.take_change());
    world.answer("192.0.2.2:3478", requests[1].1, "198.51.100.7:41641");
    assert_eq!(world.endpoints.list(), list);
    assert!(!world.endpoints.take_change());
    assert_eq!(world.endpoints.mapping_varies(), Some(false));
}

#[test]
fn a_nat_that_maps_each_destination_anew_is_noticed() {
    let mut world = World::new();
    let requests = world.requests();
    world.answer("192.0.2.1:3478", requests[0].1, "198.51.100.7:1001");
    world.answer("192.0.2.2:3478", requests[1].1, "198.51.100.7:1002");
    assert_eq!(world.endpoints.mapping_varies(), Some(true));
}

#[test]
fn only_the_server_that_was_asked_is_believed() {
    let mut world = World::new();
    let requests = world.requests();
    let before = world.endpoints.list().to_vec();
    world.answer("192.0.2.2:3478", requests[0].1, "203.0.113.66:1");
    world.answer("192.0.2.1:3478", Transaction([9; 12]), "203.0.113.66:1");
    world.answer("203.0.113.66:3478", requests[0].1, "203.0.113.66:1");
    assert_eq!(world.endpoints.list(), before);
    world.answer("192.0.2.1:3478", requests[0].1, "198.51.100.7:1");
    world.answer("192.0.2.1:3478", requests[0].1, "203.0.113.66:1");
    assert_eq!(world.endpoints.list()[0], address("198.51.100.7:1"));
    assert_eq!(world.endpoints.list().len(), 2);
}

#[test]
fn a_request_is_repeated_twice_and_the_round_ends() {
    let mut world = World::new();
    let first = world.requests();
    world.pass(REPEATS[0], false);
    assert_eq!(world.requests(), first);
    world.pass(SECOND, false);
    assert_eq!(world.requests(), first);
    world.pass(60 * SECOND, false);
    assert_eq!(world.requests(), []);
    assert_eq!(world.endpoints.next_deadline(), None);
    // Whoever needs them has them found again, but not before they are old.
    world.endpoints.refresh(world.now);
    assert_eq!(world.requests().len(), 2);
    world.endpoints.refresh(world.now + SECOND);
    assert_eq!(world.requests(), []);
}

#[test]
fn rounds_follow_each_other_while_peers_are_in_use() {
    let mut world = World::new();
    world.requests();
    world.pass(22 * SECOND, true);
    assert_eq!(world.requests(), []);
    world.pass(SECOND, true);
    assert_eq!(world.requests().len(), 2);
}

#[test]
fn another_network_has_everything_asked_anew_and_another_socket_forgets_everything() {
    let mut world = World::new();
    let requests = world.requests();
    world.answer("192.0.2.1:3478", requests[0].1, "198.51.100.7:41641");
    let ports = Ports { v4: Some(41641), v6: None };
    let interfaces = vec!["10.1.0.2".parse().expect("an address")];
    world.endpoints.set_local(ports, interfaces.clone(), world.now);
    // The old one may still be true.
    assert_eq!(world.endpoints.list(), ["198.51.100.7:41641", "10.1.0.2:41641"].map(address));
    assert_eq!(world.requests().len(), 2);
    world.endpoints.set_local(Ports { v4: Some(5), v6: None }, interfaces, world.now);
    assert_eq!(world.endpoints.list(), ["10.1.0.2:5"].map(address));
}

#[test]
fn cleared_there_is_nothing() {
    let mut world = World::new();
    world.endpoints.take_change();
    world.endpoints.clear();
    assert!(world.endpoints.take_change());
    assert_eq!(world.endpoints.list(), []);
    assert_eq!(world.requests(), []);
    assert_eq!(world.endpoints.next_deadline(), None);
}
