//! Two engines with real WireGuard that reach each other directly.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use coderctl_tailnet::{
    disco::is_disco,
    endpoints::Ports,
    engine::{Identity, PeerUpdate, Route, Transmit, TransmitSink},
    keys::DiscoPrivate,
    paths::Path,
    stack::ConnectionId,
};

use crate::sim::{Kind, SimPeer, link::Rng, peer::region};

const PORT: u16 = 80;

/// Datagrams that a carrier takes at once.
const ROOM: usize = 64;

/// Disco packets recorded: enough to have a ping among them.
const RECORDED: usize = 4;

pub(crate) struct Pair {
    pub(crate) peers: [SimPeer; 2],
    pub(crate) at: [SocketAddr; 2],
    wires: [Wire; 2],
    /// Copies of the first disco packets that the second sent directly.
    pub(crate) recorded: Vec<BytesMut>,
}

struct Wire(VecDeque<Transmit>);

impl TransmitSink for Wire {
    fn admit(&mut self, _: &Route) -> bool {
        self.0.len() < ROOM
    }

    fn send(&mut self, transmit: Transmit) {
        self.0.push_back(transmit);
    }
}

impl Pair {
    /// Once each has a direct path to the other.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let mut peers = [1, 2].map(|number| SimPeer::new(number, 1, Kind::Noise, now));
        let at = [1, 2].map(|number| SocketAddr::from(([203, 0, 113, number], 41641)));
        for ((peer, at), number) in peers.iter_mut().zip(at).zip(1..) {
            let mut random = Rng(u64::from(number));
            peer.engine.set_identity(Identity {
                node: peer.key,
                disco: DiscoPrivate::new([number; 32]),
                entropy: Box::new(move |bytes| {
                    bytes.fill_with(|| random.next() as u8);
                    Ok(())
                }),
            });
            peer.engine.set_direct(true, now);
            let ports = Ports { v4: Some(at.port()), v6: None };
            peer.engine.set_local(ports, vec![at.ip()], now);
            peer.node.endpoints = vec![at];
        }
        let wires = [(); 2].map(|()| Wire(VecDeque::with_capacity(ROOM)));
        let mut pair = Self { peers, at, wires, recorded: Vec::new() };
        for who in 0..2 {
            let other = &pair.peers[1 - who];
            let (id, node) = (other.id, other.node.clone());
            pair.peers[who].engine.handle_peer(id, PeerUpdate::Node(Box::new(node)), now);
        }
        let until = now + Duration::from_secs(20);
        let mut pinged = false;
        while !pair.is_direct() {
            assert!(Instant::now() < until, "no direct path");
            if !pinged {
                // Data to look for a path for.
                let to = pair.peers[1].address();
                pinged = pair.peers[0].engine.stack().ping(to, now).is_ok();
            }
            pair.shuffle();
        }
        pair
    }

    fn is_direct(&self) -> bool {
        [0, 1].iter().all(|who| {
            let path = self.peers[*who].engine.path(self.peers[1 - who].id).unwrap().path;
            matches!(path, Path::Direct(_))
        })
    }

    /// Moves everything that can move once.
    pub(crate) fn shuffle(&mut self) {
        for who in 0..2 {
            let (now, wire) = (Instant::now(), &mut self.wires[who]);
            let [one, other] = &mut self.peers;
            let (from, to) = if who == 0 { (one, other) } else { (other, one) };
            if from.engine.next_deadline().is_some_and(|at| at <= now) {
                from.engine.handle_timeout(now);
            }
            from.engine.poll_transmit(now, wire);
            while from.engine.poll_event().is_some() {}
            while let Some(Transmit { route, packet }) = wire.0.pop_front() {
                match route {
                    Route::Relay { .. } => {
                        to.engine.handle_relay_packet(region(), &from.key, packet, now);
                    }
                    Route::Direct(address) => {
                        assert_eq!(address, self.at[1 - who]);
                        if who == 1 && is_disco(&packet) && self.recorded.len() < RECORDED {
                            self.recorded.push(BytesMut::from(&packet[..]));
                        }
                        to.engine.handle_udp(self.at[who], packet, now);
                    }
                }
            }
        }
    }

    /// A connection from the first to the second.
    pub(crate) fn connect(&mut self) -> [ConnectionId; 2] {
        let now = Instant::now();
        let listener = self.peers[1].engine.stack().listen(PORT, 8).unwrap();
        let to = self.peers[1].at(PORT);
        let here = self.peers[0].engine.stack().connect(to, now).unwrap();
        loop {
            self.shuffle();
            if let Some((there, _)) = self.peers[1].engine.stack().accept(listener) {
                return [here, there];
            }
            assert!(now.elapsed() < Duration::from_secs(20), "no connection");
        }
    }

    /// Sends so many bytes over it.
    pub(crate) fn transfer(&mut self, [here, there]: [ConnectionId; 2], total: u64) {
        let (mut sent, mut received) = (0, 0);
        while received < total {
            let now = Instant::now();
            let write = &mut |room: &mut [u8]| {
                let length = (room.len() as u64).min(total - sent);
                sent += length;
                length as usize
            };
            // A full buffer is filled in the next round.
            let _ = self.peers[0].engine.stack().send(here, write, now);
            let read = &mut |bytes: &[u8]| {
                received += bytes.len() as u64;
                bytes.len()
            };
            let _ = self.peers[1].engine.stack().recv(there, read, now);
            self.shuffle();
        }
    }

    /// Datagrams that were sent so far.
    pub(crate) fn datagrams(&self) -> u64 {
        self.peers.iter().map(|peer| peer.engine.stats().datagrams_out).sum()
    }
}
