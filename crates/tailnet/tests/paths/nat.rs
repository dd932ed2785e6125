//! Network address translators and firewalls.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::sim::nat::Kind;

/// One NAT with one host behind it.
pub(crate) struct Nat {
    kind: Kind,
    number: u8,
    /// How often the host had another address before.
    moves: u8,
    pub(crate) host: SocketAddr,
    public: Ipv4Addr,
    /// The public port, by destination where that matters.
    ports: BTreeMap<Option<SocketAddr>, u16>,
    sent: Vec<(u16, SocketAddr)>,
}

impl Nat {
    pub(crate) fn new(kind: Kind, number: u8) -> Self {
        Self::after(kind, number, 0)
    }

    fn after(kind: Kind, number: u8, moves: u8) -> Self {
        let (public, inside) = match kind.is_transparent() {
            true => {
                let public = Ipv4Addr::new(198, 51, 100 + moves, number);
                (public, public)
            }
            false => (Ipv4Addr::new(198, 51, 100, number), Ipv4Addr::new(10, 0, number, 2 + moves)),
        };
        let host = SocketAddr::from((inside, 41641));
        Self { kind, number, moves, host, public, ports: BTreeMap::new(), sent: Vec::new() }
    }

    /// The host gets another address, and so do all whom it talks to see one.
    pub(crate) fn move_host(&mut self) {
        *self = Self::after(self.kind, self.number, self.moves + 1);
    }

    pub(crate) fn is_at(&self, address: &SocketAddr) -> bool {
        address.ip() == self.public
    }

    /// From where a datagram of the host seems to come.
    pub(crate) fn out(&mut self, to: SocketAddr) -> SocketAddr {
        let port = match self.kind {
            Kind::Open | Kind::Firewall => self.host.port(),
            Kind::FullCone | Kind::Restricted | Kind::PortRestricted => self.port(None),
            Kind::Symmetric => self.port(Some(to)),
        };
        if !self.sent.contains(&(port, to)) {
            self.sent.push((port, to));
        }
        SocketAddr::from((self.public, port))
    }

    /// Whether a datagram reaches the host.
    pub(crate) fn lets_in(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let port = to.port();
        let mut sent = self.sent.iter().filter(|(ours, _)| *ours == port);
        match self.kind {
            Kind::Open => port == self.host.port(),
            Kind::FullCone => sent.next().is_some(),
            Kind::Restricted => sent.any(|(_, other)| other.ip() == from.ip()),
            Kind::Firewall | Kind::PortRestricted | Kind::Symmetric => {
                sent.any(|(_, other)| *other == from)
            }
        }
    }

    fn port(&mut self, destination: Option<SocketAddr>) -> u16 {
        let next = 20_000 + 1000 * u16::from(self.moves) + self.ports.len() as u16;
        *self.ports.entry(destination).or_insert(next)
    }
}
