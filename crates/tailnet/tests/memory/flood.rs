//! An engine under a flood of what anybody can send who can reach its UDP port.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use coderctl_tailnet::{
    disco::MAGIC,
    engine::{Route, Transmit, TransmitSink},
    keys::NodePublic,
};
use stats_alloc::Region;

use crate::{
    HEAP,
    pair::Pair,
    say,
    sim::{link::Rng, peer::region},
    turn,
};

/// Datagrams; the first tenth lets everything reach its size.
const FLOOD: u64 = 1_000_000;

/// What the heap may vary by, in bytes: buffers that happen to be full, or not.
const SLACK: isize = 64 << 10;

/// What was sent where.
#[derive(Default)]
struct Sent {
    direct: BTreeMap<SocketAddr, usize>,
    relayed: BTreeMap<NodePublic, usize>,
}

impl TransmitSink for Sent {
    fn admit(&mut self, _: &Route) -> bool {
        true
    }

    fn send(&mut self, Transmit { route, packet }: Transmit) {
        let sum = match route {
            Route::Direct(address) => self.direct.entry(address).or_default(),
            Route::Relay { key, .. } => self.relayed.entry(key).or_default(),
        };
        *sum += packet.len();
    }
}

/// A datagram as a stranger would make it who knows who talks to whom; each kind in turn.
fn hostile(rng: &mut Rng, pair: &Pair, out: &mut BytesMut) {
    let length = 20 + rng.below(120) as usize;
    out.clear();
    out.extend((0..length).map(|_| rng.next() as u8));
    let kind = [0_u8, 1, 2, 3, 4][rng.below(5) as usize];
    match rng.below(5) {
        0 => {}
        // A STUN answer that nobody asked for.
        1 => {
            out[..8].copy_from_slice(&[1, 1, 0, (length - 20) as u8, 0x21, 0x12, 0xa4, 0x42]);
            if length >= 32 {
                out.truncate(32);
                out[3] = 12;
                out[20..26].copy_from_slice(&[0, 1, 0, 8, 0, 1]);
            }
        }
        // WireGuard, of every kind and of the right lengths.
        2 => {
            out.resize([40, 148, 92, 64, 96][usize::from(kind)], 0x5a);
            out[..4].copy_from_slice(&[kind, 0, 0, 0]);
        }
        // Disco of a stranger, and in the peer's name.
        other => {
            out.resize(length.max(80), 0x5a);
            out[..6].copy_from_slice(&MAGIC);
            if other == 3 {
                out[6..38].copy_from_slice(pair.peers[1].node.disco.as_bytes());
            }
        }
    }
}

#[test]
fn a_flood_leaves_no_trace_and_gets_no_answer() {
    let _turn = turn();
    let mut pair = Pair::new();
    let mut rng = Rng(1);
    let stranger = NodePublic::from_slice(&[9; 32]).unwrap();
    let mut sent = Sent::default();
    let mut datagram = BytesMut::with_capacity(2048);
    let mut heap = Region::new(HEAP);
    let began = Instant::now();
    for count in 0..FLOOD {
        if count == FLOOD / 10 {
            heap = Region::new(HEAP);
        }
        hostile(&mut rng, &pair, &mut datagram);
        let copy = BytesMut::from(&datagram[..]);
        let now = Instant::now();
        let engine = &mut pair.peers[0].engine;
        match rng.below(4) {
            0 => engine.handle_relay_packet(region(), &stranger, copy, now),
            // Spoofed.
            1 => engine.handle_udp(pair.at[1], copy, now),
            _ => {
                let from = [198, 51, 100, rng.next() as u8];
                engine.handle_udp(SocketAddr::from((from, rng.next() as u16)), copy, now);
            }
        }
        if count % 256 == 0 {
            if engine.next_deadline().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            engine.poll_transmit(now, &mut sent);
            while engine.poll_event().is_some() {}
        }
    }
    let change = heap.change();
    let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let took = began.elapsed();
    say(&format!("{FLOOD} hostile datagrams in {took:.1?}, {grown} bytes more on the heap"));
    assert!(grown.abs() <= SLACK, "{grown} bytes more");
    // The peer itself is asked whether the path still works: nobody else hears anything.
    assert!(sent.direct.keys().all(|to| *to == pair.at[1]), "{:?}", sent.direct);
    let peer = pair.peers[1].key;
    assert!(sent.relayed.keys().all(|to| *to == peer), "{:?}", sent.relayed);
    assert!(took < Duration::from_secs(300), "{took:?}");
}

#[test]
fn an_address_that_has_proven_nothing_is_sent_no_more_than_came_from_there() {
    let _turn = turn();
    let mut pair = Pair::new();
    let recorded = std::mem::take(&mut pair.recorded);
    let engine = &mut pair.peers[0].engine;
    let mut sent = Sent::default();
    let mut received = BTreeMap::<SocketAddr, usize>::new();
    for count in 0..2000_u16 {
        let now = Instant::now();
        // Recorded on the way, and sent again in the name of others; whole, or cut short.
        let from = SocketAddr::from(([198, 51, 100, (count % 50) as u8], 1 + count % 50));
        let packet = &recorded[usize::from(count) % recorded.len()];
        let length = if count % 3 == 0 { 100 } else { packet.len() };
        engine.handle_udp(from, BytesMut::from(&packet[..length]), now);
        *received.entry(from).or_default() += length;
        engine.poll_transmit(now, &mut sent);
        while engine.poll_event().is_some() {}
    }
    for _ in 0..100 {
        // The search for a path does not ask them either.
        let now = Instant::now();
        engine.network_changed(now);
        engine.poll_transmit(now, &mut sent);
    }
    for (address, bytes) in &sent.direct {
        let came = received.get(address).copied().unwrap_or(0);
        assert!(*address == pair.at[1] || *bytes <= came, "{bytes} to {address} for {came}");
    }
    assert!(received.keys().any(|address| sent.direct.contains_key(address)));
}
