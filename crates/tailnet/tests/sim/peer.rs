//! An engine and what the coordinator would say about it.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use coderctl_tailnet::engine::{Engine, EngineConfig, Event};
use coderctl_tailnet::ids::{NodeId, PeerId, RegionId};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate, NodePublic};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::stack::{Stack, StackConfig};
use coderctl_tailnet::wg::PlainTunnel;

/// Which tunnel an engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The stand-in, on virtual time.
    Plain,
    /// Real WireGuard.
    Noise,
}

/// One engine, its identity, and the events it reported.
pub(crate) struct SimPeer {
    pub(crate) id: PeerId,
    pub(crate) key: NodePublic,
    pub(crate) node: Node,
    pub(crate) engine: Engine,
    pub(crate) events: Vec<(Instant, Event)>,
}

pub(crate) fn region() -> RegionId {
    RegionId::new(999).expect("a positive number")
}

impl SimPeer {
    pub(crate) fn new(number: u8, seed: u64, kind: Kind, now: Instant) -> Self {
        let id = PeerId::from_bytes([number; 16]);
        let config = StackConfig::new(id.agent_address(), seed ^ u64::from(number));
        Self::with_config(number, number, config, kind, now)
    }

    /// `number` is the identity, `key_number` the keys.
    pub(crate) fn with_config(
        number: u8,
        key_number: u8,
        config: StackConfig,
        kind: Kind,
        now: Instant,
    ) -> Self {
        let id = PeerId::from_bytes([number; 16]);
        let private = NodePrivate::new([key_number; 32]);
        let key = private.public();
        let address = config.address;
        let engine = match kind {
            Kind::Noise => Engine::new(EngineConfig { key: private, stack: config }, now),
            Kind::Plain => Engine::with_parts(
                Stack::new(config, now),
                Box::new(move |peer, _| {
                    Box::new(PlainTunnel::new(key.as_bytes(), peer.as_bytes()))
                }),
            ),
        };
        let node = Node {
            id: NodeId::new(i64::from(number)),
            as_of: None,
            key,
            disco: DiscoPrivate::new([key_number; 32]).public(),
            home: region(),
            derp_latency: Default::default(),
            derp_forced_websocket: Default::default(),
            addresses: vec![address],
            endpoints: Vec::new(),
            short_description: String::new(),
            hostname: String::new(),
        };
        Self { id, key, node, engine, events: Vec::new() }
    }

    pub(crate) fn address(&self) -> Ipv6Addr {
        self.engine.address()
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddrV6 {
        SocketAddrV6::new(self.address(), port, 0, 0)
    }

    /// Whether an event like this was reported.
    pub(crate) fn saw(&self, matches: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| matches(event))
    }
}
