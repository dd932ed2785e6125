//! Network address translators (RFC 3489, 5, has these names).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// What a NAT lets in, and which port it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None at all.
    Open,
    /// Lets anybody in.
    FullCone,
    /// Lets in who was sent to, from any port.
    Restricted,
    /// Lets in who was sent to.
    PortRestricted,
    /// As before, and has another port for each destination.
    Symmetric,
}

/// One NAT with one host behind it.
pub(crate) struct Nat {
    kind: Kind,
    pub(crate) host: SocketAddr,
    public: Ipv4Addr,
    /// The public port, by destination where that matters.
    ports: BTreeMap<Option<SocketAddr>, u16>,
    sent: Vec<(u16, SocketAddr)>,
}

impl Nat {
    pub(crate) fn new(kind: Kind, number: u8) -> Self {
        let public = Ipv4Addr::new(198, 51, 100, number);
        let inside = if kind == Kind::Open { public } else { Ipv4Addr::new(10, 0, number, 2) };
        let host = SocketAddr::from((inside, 41641));
        Self { kind, host, public, ports: BTreeMap::new(), sent: Vec::new() }
    }

    pub(crate) fn is_at(&self, address: &SocketAddr) -> bool {
        address.ip() == self.public
    }

    /// From where a datagram of the host seems to come.
    pub(crate) fn out(&mut self, to: SocketAddr) -> SocketAddr {
        let port = match self.kind {
            Kind::Open => self.host.port(),
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
            Kind::PortRestricted | Kind::Symmetric => sent.any(|(_, other)| *other == from),
        }
    }

    fn port(&mut self, destination: Option<SocketAddr>) -> u16 {
        let next = 20_000 + self.ports.len() as u16;
        *self.ports.entry(destination).or_insert(next)
    }
}
