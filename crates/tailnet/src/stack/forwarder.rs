//! SYNs that wait for somebody to decide.
//!
//! A SYN is held as it came and handed to the TCP core only when it is accepted, so nothing is
//! allocated for a port that is not there, and the other end hears nothing until then. Its sender
//! repeats it meanwhile; one copy is enough.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};

use bytes::Bytes;

use super::connection::Tuple;
use super::{Arrival, SynId, UdpId};

/// SYNs held at once (coder/tailscale: wgengine/netstack/netstack.go,
/// `maxInFlightConnectionAttempts`). Further ones are not answered; their senders repeat them.
const MOST: usize = 1024;

/// SYNs held of one address, so that one peer cannot keep the others out: more than a browser or a
/// test with hundreds of connections has at once.
const MOST_OF_ONE: usize = 512;

/// All that waits for a decision.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    on: bool,
    held: BTreeMap<SynId, Held>,
    by_tuple: BTreeMap<Tuple, SynId>,
    arrivals: VecDeque<Arrival>,
}

#[derive(Debug)]
struct Held {
    tuple: Tuple,
    packet: Bytes,
}

/// What became of a SYN.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It waits now.
    New,
    /// It waits already.
    Again,
    /// There is no room for it.
    Overflow,
}

impl Forwarder {
    pub(super) fn start(&mut self) {
        self.on = true;
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Holds a SYN; `id` is its name if it is new.
    pub(super) fn hold(&mut self, id: SynId, tuple: Tuple, packet: &[u8]) -> Kept {
        if let Some(held) = self.by_tuple.get(&tuple).and_then(|id| self.held.get_mut(id)) {
            // Perhaps its sender has begun anew, with another sequence number.
            if held.packet != packet {
                held.packet = Bytes::copy_from_slice(packet);
            }
            return Kept::Again;
        }
        let of_one = self.held.values().filter(|held| held.tuple.remote == tuple.remote);
        if self.held.len() >= MOST || of_one.count() >= MOST_OF_ONE {
            return Kept::Overflow;
        }
        self.by_tuple.insert(tuple, id);
        self.held.insert(id, Held { tuple, packet: Bytes::copy_from_slice(packet) });
        let (local, remote) = (tuple.here(), tuple.there());
        self.arrivals.push_back(Arrival::Tcp { id, local, remote });
        Kept::New
    }

    /// A flow began.
    pub(super) fn flow(&mut self, id: UdpId, local: SocketAddrV6, remote: SocketAddrV6) {
        self.arrivals.push_back(Arrival::Udp { id, local, remote });
    }

    /// Its sender took a SYN back.
    pub(super) fn cancel(&mut self, tuple: &Tuple) {
        if let Some(id) = self.by_tuple.remove(tuple) {
            self.held.remove(&id);
        }
    }

    /// A peer, or an address of ours, is gone: nobody is to be answered.
    pub(super) fn forget(&mut self, gone: impl Fn(&Tuple) -> bool) {
        self.held.retain(|_, held| !gone(&held.tuple));
        self.by_tuple.retain(|tuple, _| !gone(tuple));
    }

    /// Gives a SYN back, to be answered.
    pub(super) fn take(&mut self, id: SynId) -> Option<(Tuple, Bytes)> {
        let Held { tuple, packet } = self.held.remove(&id)?;
        self.by_tuple.remove(&tuple);
        Some((tuple, packet))
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// What arrived and was not told yet. What is gone since is not told any more; a flow may be
    /// gone and is told, for it is its owner who ends it.
    pub(super) fn poll(&mut self) -> Option<Arrival> {
        loop {
            let arrival = self.arrivals.pop_front()?;
            match arrival {
                Arrival::Tcp { id, .. } if !self.held.contains_key(&id) => {}
                Arrival::Tcp { .. } | Arrival::Udp { .. } => return Some(arrival),
            }
        }
    }
}

impl Tuple {
    pub(super) fn here(&self) -> SocketAddrV6 {
        SocketAddrV6::new(self.local, self.port, 0, 0)
    }

    pub(super) fn there(&self) -> SocketAddrV6 {
        SocketAddrV6::new(self.remote, self.remote_port, 0, 0)
    }

    /// Whether one of the ends is this address.
    pub(super) fn has(&self, address: Ipv6Addr) -> bool {
        self.local == address || self.remote == address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(remote: u16, remote_port: u16) -> Tuple {
        let address = |last| Ipv6Addr::new(0xfd60, 0x627a, 0xa42b, 0, 0, 0, 0, last);
        Tuple { local: address(1), port: 80, remote: address(remote), remote_port }
    }

    #[test]
    fn a_repeated_syn_is_told_once_and_its_newest_copy_is_kept() {
        let mut forwarder = Forwarder::default();
        assert_eq!(forwarder.hold(SynId(1), tuple(2, 5), b"old"), Kept::New);
        assert_eq!(forwarder.hold(SynId(2), tuple(2, 5), b"new"), Kept::Again);
        let arrival = forwarder.poll();
        assert!(matches!(arrival, Some(Arrival::Tcp { id: SynId(1), .. })), "{arrival:?}");
        assert_eq!(forwarder.poll(), None);
        assert_eq!(forwarder.take(SynId(1)), Some((tuple(2, 5), Bytes::from_static(b"new"))));
        assert_eq!(forwarder.take(SynId(1)), None);
    }

    #[test]
    fn one_that_was_taken_back_is_not_told() {
        let mut forwarder = Forwarder::default();
        forwarder.hold(SynId(1), tuple(2, 5), b"syn");
        forwarder.hold(SynId(2), tuple(3, 5), b"syn");
        forwarder.hold(SynId(3), tuple(4, 5), b"syn");
        forwarder.cancel(&tuple(2, 5));
        forwarder.forget(|held| held.has(tuple(3, 5).remote));
        let arrival = forwarder.poll();
        assert!(matches!(arrival, Some(Arrival::Tcp { id: SynId(3), .. })), "{arrival:?}");
        assert_eq!((forwarder.held.len(), forwarder.by_tuple.len()), (1, 1));
    }

    #[test]
    fn one_peer_does_not_keep_the_others_out() {
        let mut forwarder = Forwarder::default();
        let hold = |forwarder: &mut Forwarder, number: usize, remote| {
            forwarder.hold(SynId(number as u64), tuple(remote, number as u16 + 1), b"syn")
        };
        for number in 0..MOST_OF_ONE {
            assert_eq!(hold(&mut forwarder, number, 2), Kept::New);
        }
        assert_eq!(hold(&mut forwarder, MOST_OF_ONE, 2), Kept::Overflow);
        for number in MOST_OF_ONE..MOST {
            assert_eq!(hold(&mut forwarder, number, 3), Kept::New);
        }
        assert_eq!(hold(&mut forwarder, MOST, 4), Kept::Overflow);
        forwarder.take(SynId(0));
        assert_eq!(hold(&mut forwarder, MOST, 4), Kept::New);
    }
}
