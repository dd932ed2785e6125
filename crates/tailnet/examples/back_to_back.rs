//! How fast two engines are against each other, in one thread and without a network.
//!
//! ```text
//! cargo run --release -p coderctl-tailnet --example back_to_back [streams] [MiB] [plain|noise]
//! ```
//!
//! Prints the rate of bulk streams, of one stream beside idle connections, and the time of a new
//! connection. Both ends run here, so a real client has about twice the rate.

#![allow(clippy::print_stdout, reason = "a measurement is read by people")]

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tailnet::engine::{Engine, EngineConfig, PeerUpdate, Route, Transmit, TransmitSink};
use coderctl_tailnet::ids::{NodeId, PeerId, RegionId};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate, NodePublic};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::stack::{ConnectionId, ListenerId, Stack, StackConfig};
use coderctl_tailnet::wg::PlainTunnel;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let streams = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let mebibytes: u64 = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let noise = arguments.next().is_none_or(|kind| kind != "plain");

    let mut pair = Pair::new(noise)?;
    let connections = (0..streams).map(|_| pair.open()).collect::<Result<Vec<_>, _>>()?;
    let bytes = mebibytes << 20;
    let took = pair.transfer(&connections, bytes);
    println!("{streams} streams: {:.0} MB/s", bytes as f64 / took.as_secs_f64() / 1e6);

    let began = Instant::now();
    let rounds: u32 = 200;
    for _ in 0..rounds {
        let (here, there) = pair.open()?;
        let now = Instant::now();
        pair.engines[0].stack().release(here, now);
        pair.engines[1].stack().release(there, now);
        pair.shuffle();
    }
    println!("new connection: {:?}", began.elapsed() / rounds);

    for _ in 0..1000 {
        pair.open()?;
    }
    let took = pair.transfer(&connections[..1], bytes);
    println!("beside 1000 idle: {:.0} MB/s", bytes as f64 / took.as_secs_f64() / 1e6);
    Ok(())
}

struct Pair {
    engines: [Engine; 2],
    keys: [NodePublic; 2],
    wires: [Wire; 2],
    region: RegionId,
    listener: ListenerId,
    to: SocketAddrV6,
}

#[derive(Default)]
struct Wire(VecDeque<BytesMut>);

/// What a relay's connection would take at once.
const ROOM: usize = 64;

impl TransmitSink for Wire {
    fn admit(&mut self, _route: &Route) -> bool {
        self.0.len() < ROOM
    }

    fn send(&mut self, transmit: Transmit) {
        self.0.push_back(transmit.packet);
    }
}

impl Pair {
    fn new(noise: bool) -> Result<Self, Box<dyn Error>> {
        let region = RegionId::new(1)?;
        let now = Instant::now();
        let side = |number: u8| {
            let private = NodePrivate::new([number; 32]);
            let key = private.public();
            let id = PeerId::from_bytes([number; 16]);
            let config = StackConfig::new(id.agent_address(), u64::from(number));
            let engine = if noise {
                Engine::new(EngineConfig { key: private, stack: config }, now)
            } else {
                Engine::with_parts(
                    Stack::new(config, now),
                    Box::new(move |peer, _| {
                        Box::new(PlainTunnel::new(key.as_bytes(), peer.as_bytes()))
                    }),
                )
            };
            let node = Node {
                id: NodeId::new(1),
                as_of: None,
                key,
                disco: DiscoPrivate::new([number; 32]).public(),
                home: region,
                derp_latency: Default::default(),
                derp_forced_websocket: Default::default(),
                addresses: vec![engine.address()],
                endpoints: Vec::new(),
                short_description: String::new(),
                hostname: String::new(),
            };
            (id, key, engine, node)
        };
        let (a_id, a_key, mut a, a_node) = side(1);
        let (b_id, b_key, mut b, b_node) = side(2);
        a.handle_peer(b_id, PeerUpdate::Node(Box::new(b_node)), now);
        b.handle_peer(a_id, PeerUpdate::Node(Box::new(a_node)), now);
        let to = SocketAddrV6::new(b.address(), 80, 0, 0);
        let listener = b.stack().listen(80, 4096)?;
        Ok(Self {
            engines: [a, b],
            keys: [a_key, b_key],
            wires: Default::default(),
            region,
            listener,
            to,
        })
    }

    /// Moves everything that can move once; whether anything did.
    fn shuffle(&mut self) -> bool {
        let mut moved = false;
        for who in 0..2 {
            let now = Instant::now();
            let engine = &mut self.engines[who];
            if engine.next_deadline().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            engine.poll_transmit(now, &mut self.wires[who]);
            while engine.poll_event().is_some() {}
            while let Some(datagram) = self.wires[who].0.pop_front() {
                moved = true;
                let from = self.keys[who];
                self.engines[1 - who].handle_relay_packet(self.region, &from, datagram, now);
            }
        }
        moved
    }

    fn open(&mut self) -> Result<(ConnectionId, ConnectionId), Box<dyn Error>> {
        let here = self.engines[0].stack().connect(self.to, Instant::now())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            self.shuffle();
            if let Some((there, _)) = self.engines[1].stack().accept(self.listener) {
                return Ok((here, there));
            }
        }
        Err("no connection".into())
    }

    fn transfer(&mut self, connections: &[(ConnectionId, ConnectionId)], total: u64) -> Duration {
        let began = Instant::now();
        let (mut sent, mut received) = (0, 0);
        while received < total {
            let now = Instant::now();
            for (here, there) in connections {
                let write = &mut |room: &mut [u8]| {
                    let len = (room.len() as u64).min(total - sent);
                    sent += len;
                    len as usize
                };
                // A full buffer is filled in the next round.
                let _ = self.engines[0].stack().send(*here, write, now);
                let read = &mut |bytes: &[u8]| {
                    received += bytes.len() as u64;
                    bytes.len()
                };
                let _ = self.engines[1].stack().recv(*there, read, now);
            }
            self.shuffle();
        }
        began.elapsed()
    }
}
