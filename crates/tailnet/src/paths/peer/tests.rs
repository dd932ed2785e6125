use super::*;
use crate::ids::RegionId;
use crate::packet::{MTU, WIDEST};
use crate::paths::{MAX_BURST, MAX_CANDIDATES, RELAY_WIDTH};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

fn relay() -> Path {
    Path::Relay(RegionId::EMBEDDED)
}

/// From where the peer sees us come.
fn seen() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 1))
}

fn ping(port: u16) -> Outgoing {
    Outgoing::Ping(Path::Direct(at(port)))
}

/// The paths to a peer that answers pings to some addresses, after this time.
struct World {
    start: Instant,
    now: Instant,
    paths: PeerPaths,
    answers: Vec<(u16, Duration)>,
    under_way: Vec<(Instant, TxId, u16)>,
    sent: Vec<Outgoing>,
    drawn: u8,
    /// The longest packet that any path carries.
    carries: usize,
}

impl World {
    fn new(answers: &[(u16, Duration)]) -> Self {
        let now = Instant::now();
        let mut paths = PeerPaths::new(now);
        paths.set_endpoints(&answers.iter().map(|(port, _)| at(*port)).collect::<Vec<_>>());
        let (under_way, sent) = (Vec::new(), Vec::new());
        let (answers, carries) = (answers.to_vec(), usize::MAX);
        Self { start: now, now, paths, answers, under_way, sent, drawn: 0, carries }
    }

    /// One whose path to port 1 is in use.
    fn direct() -> Self {
        let mut world = World::new(&[(1, 20 * MS)]);
        world.data();
        world.pass(30 * MS);
        assert_eq!(world.data(), Way::Direct(at(1)));
        world.paths.heard_from(at(1), world.now);
        assert!(world.paths.take_change());
        world.sent.clear();
        world
    }

    fn data(&mut self) -> Way {
        let way = self.paths.way(self.now);
        self.paths.data_sent(way, self.now);
        self.flush();
        way
    }

    /// Sends what waits.
    fn flush(&mut self) {
        while let Some(message) = self.paths.poll_message() {
            self.sent.push(message);
            let address = match message {
                Outgoing::Ping(Path::Direct(address)) => Some(address),
                Outgoing::Probe(address, packet) => {
                    Some(address).filter(|_| packet <= self.carries)
                }
                Outgoing::Ping(Path::Relay(_)) => None,
                Outgoing::Pong(..) | Outgoing::Call(_) => continue,
            };
            self.drawn += 1;
            let tx = TxId([self.drawn; 12]);
            self.paths.ping_left(message, tx, self.now);
            let Some(address) = address else { continue };
            let answer = self.answers.iter().find(|(port, _)| *port == address.port());
            if let Some((port, latency)) = answer {
                self.under_way.push((self.now + *latency, tx, *port));
            }
        }
    }

    /// Lets time pass; pongs come in between.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let pong = self.under_way.iter().map(|(at, ..)| *at).min();
            let next = pong.into_iter().chain(self.paths.next_deadline()).min();
            let Some(next) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(next);
            let due = self.under_way.iter().position(|(at, ..)| *at <= self.now);
            if let Some(due) = due {
                let (_, tx, _) = self.under_way.swap_remove(due);
                assert!(self.paths.answered(tx, seen(), true, self.now).is_some());
            }
            self.paths.handle_timeout(self.now);
            self.flush();
            assert!(self.paths.next_deadline().is_none_or(|at| at > self.now));
        }
        self.now = until;
    }

    /// Sends data every ten milliseconds until it takes this way; how long that took.
    fn until(&mut self, way: Way) -> Duration {
        let began = self.now;
        while self.data() != way {
            self.pass(10 * MS);
            assert!(self.now < began + 20 * SECOND, "never {way:?}");
        }
        self.now - began
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }
}

#[test]
fn the_relay_first_and_the_best_address_when_it_has_answered() {
    let mut world = World::new(&[(1, 50 * MS), (2, 20 * MS), (3, 90 * MS)]);
    assert_eq!(world.data(), Way::Relay);
    assert_eq!(world.sent, [ping(1), ping(2), ping(3), Outgoing::Call(Call::Endpoints)]);
    world.pass(19 * MS);
    assert_eq!(world.data(), Way::Relay);
    world.pass(MS);
    assert_eq!(world.data(), Way::Direct(at(2)));
    assert!(world.paths.take_change());
    world.pass(SECOND);
    assert_eq!(world.paths.way(world.now), Way::Direct(at(2)));
    assert!(!world.paths.take_change());
    let (address, latency, since) = world.paths.current();
    assert_eq!((address, latency), (Some(at(2)), Some(20 * MS)));
    assert_eq!(since - world.start, 20 * MS);
}

#[test]
fn a_better_address_takes_the_place_of_a_good_one() {
    let mut world = World::new(&[(1, 20 * MS), (2, 50 * MS)]);
    world.data();
    world.pass(60 * MS);
    assert_eq!(world.data(), Way::Direct(at(1)));
    world.answers = vec![(1, 20 * MS), (2, 5 * MS)];
    world.paths.called(&[at(2)], world.now);
    world.flush();
    world.pass(10 * MS);
    assert_eq!(world.data(), Way::Direct(at(2)));
    // It has found nothing worse since.
    world.pass(SECOND);
    assert_eq!(world.data(), Way::Direct(at(2)));
}

#[test]
fn heartbeats_keep_trust_while_the_peer_is_in_use() {
    let mut world = World::direct();
    for _ in 0..30 {
        assert_eq!(world.data(), Way::Direct(at(1)));
        world.paths.heard_from(at(1), world.now);
        world.pass(SECOND);
    }
    let beats = world.sent.iter().filter(|message| **message == ping(1)).count();
    assert!((14..=16).contains(&beats), "{beats}");
    // Afterwards there is silence, until somebody sends again: then both ways for a round trip.
    world.pass(IN_USE + HEARTBEAT);
    world.sent.clear();
    world.pass(600 * SECOND);
    assert_eq!(world.sent, []);
    assert_eq!(world.paths.next_deadline(), None);
    assert_eq!(world.data(), Way::Both(at(1)));
    assert_eq!(world.sent, [ping(1)]);
    world.pass(20 * MS);
    assert_eq!(world.data(), Way::Direct(at(1)));
    assert!(!world.paths.changed);
}

#[test]
fn a_path_that_dies_is_left_within_a_second_and_given_up_later() {
    let mut world = World::direct();
    world.answers.clear();
    let took = world.until(Way::Both(at(1)));
    assert!(took <= 500 * MS, "{took:?}");
    let began = world.now;
    while !world.paths.take_change() {
        assert_eq!(world.data(), Way::Both(at(1)));
        world.pass(10 * MS);
    }
    assert!(world.now - began <= 700 * MS);
    assert_eq!(world.paths.current().0, None);
    // Five questions, and the search afterwards.
    assert!(world.sent.iter().filter(|message| **message == ping(1)).count() >= 5);
    let calls: Vec<Outgoing> =
        world.sent.iter().copied().filter(|message| matches!(message, Outgoing::Call(_))).collect();
    // The address that the peer sends to is named, taken back with all others, and only those that
    // are known to be ours are named again.
    let expected = [Call::AndAt(seen()), Call::Nowhere, Call::Endpoints].map(Outgoing::Call);
    assert_eq!(calls, expected);
    assert_eq!(world.sent.last(), calls.last());
    let took = world.until(Way::Relay);
    assert!(took <= PING_TIMEOUT, "{took:?}");
}

#[test]
fn a_path_that_dies_in_one_direction_only_is_left_by_the_heartbeat() {
    let mut world = World::direct();
    world.answers.clear();
    let began = world.now;
    while world.data() != Way::Both(at(1)) {
        world.paths.heard_from(at(1), world.now);
        world.pass(10 * MS);
    }
    assert!(world.now - began <= 3 * SECOND, "{:?}", world.now - began);
}

#[test]
fn a_path_that_comes_back_is_used_again() {
    let mut world = World::direct();
    let answers = std::mem::take(&mut world.answers);
    world.until(Way::Relay);
    world.answers = answers;
    let took = world.until(Way::Direct(at(1)));
    assert!(took <= PING_INTERVAL + SECOND, "{took:?}");
}

#[test]
fn losing_a_few_datagrams_is_no_reason_to_leave() {
    let mut world = World::direct();
    for _ in 0..3 {
        let answers = std::mem::take(&mut world.answers);
        world.data();
        world.pass(700 * MS);
        world.answers = answers;
        world.pass(500 * MS);
        assert_eq!(world.data(), Way::Direct(at(1)));
    }
    assert!(!world.paths.changed);
}

#[test]
fn a_slow_path_has_more_time_to_answer() {
    let mut world = World::new(&[(1, 400 * MS)]);
    world.data();
    world.pass(SECOND);
    for _ in 0..40 {
        assert_eq!(world.data(), Way::Direct(at(1)));
        world.pass(100 * MS);
    }
    assert!(world.elapsed() > 4 * SECOND);
}

#[test]
fn a_peer_that_uses_the_relay_has_a_reason() {
    let mut world = World::direct();
    // Right after a pong it may be something that was sent before.
    world.paths.heard_by_relay(world.now);
    assert_eq!(world.data(), Way::Direct(at(1)));
    world.paths.heard_from(at(1), world.now);
    world.pass(ASK_EVERY);
    world.sent.clear();
    world.paths.heard_by_relay(world.now);
    assert_eq!(world.data(), Way::Both(at(1)));
    assert_eq!(world.sent, [ping(1)]);
    world.pass(20 * MS);
    assert_eq!(world.data(), Way::Direct(at(1)));
}

#[test]
fn pongs_count_once_and_only_for_what_was_asked() {
    let mut world = World::new(&[]);
    world.paths.set_endpoints(&[at(1)]);
    world.data();
    let tx = TxId([1; 12]);
    assert_eq!(world.paths.answered(TxId([9; 12]), seen(), true, world.now), None);
    // Over the relay it proves nothing about the address.
    assert_eq!(world.paths.answered(tx, seen(), false, world.now), None);
    world.now += 10 * MS;
    let pong = Pong { path: Path::Direct(at(1)), latency: 10 * MS, probe: false };
    assert_eq!(world.paths.answered(tx, seen(), true, world.now), Some(pong));
    assert_eq!(world.paths.answered(tx, seen(), true, world.now), None);
    // One that comes too late says nothing about now.
    world.paths.measure(relay());
    world.flush();
    world.now += PING_TIMEOUT;
    assert_eq!(world.paths.answered(TxId([2; 12]), seen(), false, world.now), None);
}

#[test]
fn a_measurement_asks_the_relay_and_the_path_in_use() {
    let mut world = World::direct();
    world.paths.measure(relay());
    world.flush();
    assert_eq!(world.sent, [Outgoing::Ping(relay()), ping(1)]);
    let relay_ping = TxId([world.drawn - 1; 12]);
    world.now += 5 * MS;
    let pong = world.paths.answered(relay_ping, seen(), false, world.now);
    assert_eq!(pong, Some(Pong { path: relay(), latency: 5 * MS, probe: false }));
    world.paths.forget(world.now);
    assert_eq!(world.paths.way(world.now), Way::Relay);
}

#[test]
fn a_ping_is_answered_and_an_address_that_was_named_is_tried() {
    let mut world = World::new(&[(7, 10 * MS)]);
    let path = Path::Direct(at(7));
    world.paths.pinged(path, TxId([1; 12]), world.now);
    // The network has doubled it.
    world.paths.pinged(path, TxId([1; 12]), world.now);
    world.flush();
    assert_eq!(world.sent, [Outgoing::Pong(path, TxId([1; 12])), ping(7)]);
    world.pass(10 * MS);
    assert_eq!(world.data(), Way::Direct(at(7)));
    world.paths.pinged(relay(), TxId([2; 12]), world.now);
    world.flush();
    assert_eq!(world.sent.last(), Some(&Outgoing::Pong(relay(), TxId([2; 12]))));
}

#[test]
fn an_address_that_nobody_named_gets_no_more_than_its_pong_until_data_come_from_it() {
    let mut world = World::new(&[]);
    world.answers = vec![(7, 10 * MS)];
    let (path, tx) = (Path::Direct(at(7)), TxId([1; 12]));
    world.paths.pinged(path, tx, world.now);
    world.data();
    world.pass(10 * SECOND);
    world.data();
    let to_it = |sent: &[Outgoing]| {
        sent.iter().filter(|it| [ping(7), Outgoing::Pong(path, tx)].contains(it)).count()
    };
    assert_eq!(to_it(&world.sent), 1);
    world.paths.heard_from(at(7), world.now);
    world.paths.heard_from(at(7), world.now);
    world.flush();
    assert_eq!(to_it(&world.sent), 2);
    world.pass(10 * MS);
    assert_eq!(world.data(), Way::Direct(at(7)));
}

#[test]
fn another_network_is_asked_at_once() {
    let mut world = World::direct();
    world.paths.shaken(world.now);
    assert_eq!(world.data(), Way::Both(at(1)));
    assert!(world.sent.contains(&ping(1)));
    world.pass(20 * MS);
    assert_eq!(world.data(), Way::Direct(at(1)));
}

#[test]
fn nothing_grows_whatever_the_peer_does() {
    let mut world = World::new(&[]);
    let mut released = 0;
    for port in 1..2000 {
        world.paths.pinged(Path::Direct(at(port)), TxId([port as u8; 12]), world.now);
        let many: Vec<SocketAddr> = (port..port + 300).map(at).collect();
        world.paths.called(&many, world.now);
        released += usize::from(world.paths.prove(at(port)).is_some());
        assert!(world.paths.waiting() <= QUEUE);
    }
    assert_eq!(world.paths.proven().count(), MAX_PROVEN);
    assert_eq!(released, 1999 - MAX_PROVEN);
    world.flush();
    assert!(world.paths.pings.len() <= QUEUE);
    // One call-me-maybe has so many strangers pinged and no more.
    let mut world = World::new(&[]);
    world.paths.called(&(1..200).map(at).collect::<Vec<_>>(), world.now);
    assert_eq!(world.paths.waiting(), MAX_BURST);
    const { assert!(MAX_BURST <= MAX_CANDIDATES) };
}

#[test]
fn what_a_path_carries_is_found_for_who_wants_it_and_forgotten_with_the_path() {
    let mut world = World::direct();
    world.pass(3 * SECOND);
    assert!(!world.sent.iter().any(|message| matches!(message, Outgoing::Probe(..))));
    assert_eq!(world.paths.width(world.now), MTU);
    world.paths.width_wanted(world.now);
    world.flush();
    world.pass(100 * MS);
    assert_eq!(world.paths.width(world.now), WIDEST);
    // Another address is another path.
    world.answers.push((2, 5 * MS));
    world.paths.called(&[at(2)], world.now);
    world.flush();
    world.pass(5 * MS);
    assert_eq!(world.data(), Way::Direct(at(2)));
    assert_eq!(world.paths.width(world.now), MTU);
    world.pass(100 * MS);
    assert_eq!(world.paths.width(world.now), WIDEST);
}

#[test]
fn what_a_path_carried_is_void_where_packets_take_a_relay_as_well() {
    let mut world = World::direct();
    world.paths.width_wanted(world.now);
    world.flush();
    world.pass(100 * MS);
    assert_eq!(world.paths.width(world.now), WIDEST);
    world.answers.clear();
    world.until(Way::Both(at(1)));
    assert_eq!(world.paths.width(world.now), MTU);
    world.until(Way::Relay);
    assert_eq!(world.paths.width(world.now), RELAY_WIDTH);
}

#[test]
fn a_path_that_carries_less_is_short_at_once_and_not_left() {
    let mut world = World::direct();
    world.paths.width_wanted(world.now);
    world.flush();
    world.pass(100 * MS);
    world.carries = MTU;
    world.paths.width_doubted(world.now);
    world.flush();
    assert_eq!(world.paths.width(world.now), MTU);
    for _ in 0..100 {
        assert_eq!(world.data(), Way::Direct(at(1)));
        world.paths.heard_from(at(1), world.now);
        world.pass(100 * MS);
        assert_eq!(world.paths.width(world.now), MTU);
    }
}
