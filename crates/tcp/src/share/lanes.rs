//! Which connections share a queue on their way.
//!
//! Packets to several peers may go through the same relay, and wait in the same queue there; those
//! that go straight to a peer meet nobody else's. So each such lane has limits of its own.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use super::{Intake, Share};
use crate::config::Config;
use crate::key::Key;

/// The way of packets to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// One that others may take, too: a relay with this number.
    Shared(u32),
    /// One for this address alone.
    Own,
}

/// A lane, of all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Shared(u32),
    Own(Ipv6Addr),
}

/// One lane and what is known about it.
#[derive(Debug)]
struct Known {
    name: Name,
    connections: usize,
    share: Share,
    intake: Intake,
}

/// All lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    in_flight: Option<usize>,
    intake: Option<usize>,
    known: Vec<Known>,
    /// For the addresses of which anything was said.
    of: HashMap<Ipv6Addr, Lane, Key>,
}

impl Lanes {
    pub(crate) fn new(config: &Config, key: Key) -> Self {
        Self {
            in_flight: config.in_flight,
            intake: config.intake,
            known: Vec::new(),
            of: HashMap::with_hasher(key),
        }
    }

    /// Packets to `remote` take this lane from now on. Whether that is news.
    pub(crate) fn set(&mut self, remote: Ipv6Addr, lane: Lane) -> bool {
        self.of.insert(remote, lane) != Some(lane)
    }

    /// There is no such address any more.
    pub(crate) fn forget(&mut self, remote: &Ipv6Addr) {
        self.of.remove(remote);
    }

    /// A connection to `remote` joins its lane, which the answer tells.
    pub(crate) fn join(&mut self, remote: Ipv6Addr) -> usize {
        let name = match self.of.get(&remote) {
            Some(Lane::Shared(number)) => Name::Shared(*number),
            Some(Lane::Own) => Name::Own(remote),
            None => Name::Shared(0),
        };
        let at = self.known.iter().position(|known| known.name == name);
        let at = at.unwrap_or_else(|| self.add(name));
        self.known[at].connections += 1;
        at
    }

    /// A connection leaves its lane.
    pub(crate) fn leave(&mut self, at: usize) {
        self.known[at].connections -= 1;
    }

    /// What those in a lane may send.
    pub(crate) fn share(&mut self, at: usize) -> &mut Share {
        &mut self.known[at].share
    }

    /// What those in a lane may be sent.
    pub(crate) fn intake(&mut self, at: usize) -> &mut Intake {
        &mut self.known[at].intake
    }

    /// A lane that was not there, in the place of one that was a single address's and that nobody
    /// takes any more: relays are few and remembered.
    fn add(&mut self, name: Name) -> usize {
        let new = Known {
            name,
            connections: 0,
            share: Share::new(self.in_flight),
            intake: Intake::new(self.intake),
        };
        let unused = |known: &Known| known.connections == 0 && matches!(known.name, Name::Own(_));
        match self.known.iter().position(unused) {
            Some(at) => {
                self.known[at] = new;
                at
            }
            None => {
                self.known.push(new);
                self.known.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_shared_and_remembered_and_a_straight_way_is_neither() {
        let address = |last| Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, last);
        let mut lanes = Lanes::new(&Config::new((1, 2)), Key::new((1, 2)));
        assert_eq!(lanes.join(address(1)), lanes.join(address(2)), "nobody said otherwise");
        assert!(lanes.set(address(1), Lane::Shared(7)));
        assert!(!lanes.set(address(1), Lane::Shared(7)));
        lanes.set(address(2), Lane::Shared(7));
        let relay = lanes.join(address(1));
        assert_eq!(relay, lanes.join(address(2)));
        for last in [3, 4] {
            lanes.set(address(last), Lane::Own);
        }
        let (third, fourth) = (lanes.join(address(3)), lanes.join(address(4)));
        assert!(third != fourth && third != relay);
        lanes.leave(third);
        lanes.set(address(5), Lane::Own);
        assert_eq!(lanes.join(address(5)), third, "its place is free");
        (0..2).for_each(|_| lanes.leave(relay));
        assert_eq!(lanes.join(address(1)), relay);
        lanes.forget(&address(1));
        assert_eq!(lanes.join(address(1)), 0);
    }
}
