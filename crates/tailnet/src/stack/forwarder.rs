//! SYNs that wait for somebody to decide.
//!
//! A SYN is held as it came and handed to the TCP core only when it is accepted, so nothing is
//! allocated for a port that is not there, and the other end hears nothing until then. Its sender
//! repeats it meanwhile; one copy is enough.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV6;

use bytes::Bytes;

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
    by_ends: BTreeMap<Ends, SynId>,
    arrivals: VecDeque<Arrival>,
}

/// Our end and the other.
type Ends = (SocketAddrV6, SocketAddrV6);

#[derive(Debug)]
struct Held {
    ends: Ends,
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

    /// Holds a SYN from `remote` to `local`; `id` is its name if it is new.
    pub(super) fn hold(
        &mut self,
        id: SynId,
        local: SocketAddrV6,
        remote: SocketAddrV6,
        packet: &[u8],
    ) -> Kept {
        let ends = (local, remote);
        if let Some(held) = self.by_ends.get(&ends).and_then(|id| self.held.get_mut(id)) {
            // Perhaps its sender has begun anew, with another sequence number.
            if held.packet != packet {
                held.packet = Bytes::copy_from_slice(packet);
            }
            return Kept::Again;
        }
        let of_one = self.held.values().filter(|held| held.ends.1.ip() == remote.ip());
        if self.held.len() >= MOST || of_one.count() >= MOST_OF_ONE {
            return Kept::Overflow;
        }
        self.by_ends.insert(ends, id);
        self.held.insert(id, Held { ends, packet: Bytes::copy_from_slice(packet) });
        self.arrivals.push_back(Arrival::Tcp { id, local, remote });
        Kept::New
    }

    /// A flow began.
    pub(super) fn flow(&mut self, id: UdpId, local: SocketAddrV6, remote: SocketAddrV6) {
        self.arrivals.push_back(Arrival::Udp { id, local, remote });
    }

    /// Its sender took a SYN back.
    pub(super) fn cancel(&mut self, local: SocketAddrV6, remote: SocketAddrV6) {
        if let Some(id) = self.by_ends.remove(&(local, remote)) {
            self.held.remove(&id);
        }
    }

    /// A peer, or an address of ours, is gone: nobody is to be answered. `gone` is asked about our
    /// end and the other of each.
    pub(super) fn forget(&mut self, gone: impl Fn(&SocketAddrV6, &SocketAddrV6) -> bool) {
        let gone = |(local, remote): &Ends| gone(local, remote);
        self.held.retain(|_, held| !gone(&held.ends));
        self.by_ends.retain(|ends, _| !gone(ends));
    }

    /// Gives a SYN back, to be answered.
    pub(super) fn take(&mut self, id: SynId) -> Option<Bytes> {
        let Held { ends, packet } = self.held.remove(&id)?;
        self.by_ends.remove(&ends);
        Some(packet)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const LOCAL: SocketAddrV6 = end(1, 80);

    const fn end(last: u16, port: u16) -> SocketAddrV6 {
        let address = Ipv6Addr::new(0xfd60, 0x627a, 0xa42b, 0, 0, 0, 0, last);
        SocketAddrV6::new(address, port, 0, 0)
    }

    fn hold(forwarder: &mut Forwarder, id: u64, remote: SocketAddrV6, packet: &[u8]) -> Kept {
        forwarder.hold(SynId(id), LOCAL, remote, packet)
    }

    #[test]
    fn a_repeated_syn_is_told_once_and_its_newest_copy_is_kept() {
        let mut forwarder = Forwarder::default();
        assert_eq!(hold(&mut forwarder, 1, end(2, 5), b"old"), Kept::New);
        assert_eq!(hold(&mut forwarder, 2, end(2, 5), b"new"), Kept::Again);
        let arrival = forwarder.poll();
        assert!(matches!(arrival, Some(Arrival::Tcp { id: SynId(1), .. })), "{arrival:?}");
        assert_eq!(forwarder.poll(), None);
        assert_eq!(forwarder.take(SynId(1)), Some(Bytes::from_static(b"new")));
        assert_eq!(forwarder.take(SynId(1)), None);
    }

    #[test]
    fn one_that_was_taken_back_is_not_told() {
        let mut forwarder = Forwarder::default();
        for remote in [2, 3, 4] {
            hold(&mut forwarder, u64::from(remote), end(remote, 5), b"syn");
        }
        forwarder.cancel(LOCAL, end(2, 5));
        forwarder.forget(|_, remote| *remote == end(3, 5));
        let arrival = forwarder.poll();
        assert!(matches!(arrival, Some(Arrival::Tcp { id: SynId(4), .. })), "{arrival:?}");
        assert_eq!((forwarder.held.len(), forwarder.by_ends.len()), (1, 1));
    }

    #[test]
    fn one_peer_does_not_keep_the_others_out() {
        let mut forwarder = Forwarder::default();
        let ask = |forwarder: &mut Forwarder, number: usize, remote| {
            hold(forwarder, number as u64, end(remote, number as u16 + 1), b"syn")
        };
        for number in 0..MOST_OF_ONE {
            assert_eq!(ask(&mut forwarder, number, 2), Kept::New);
        }
        assert_eq!(ask(&mut forwarder, MOST_OF_ONE, 2), Kept::Overflow);
        for number in MOST_OF_ONE..MOST {
            assert_eq!(ask(&mut forwarder, number, 3), Kept::New);
        }
        assert_eq!(ask(&mut forwarder, MOST, 4), Kept::Overflow);
        forwarder.take(SynId(0));
        assert_eq!(ask(&mut forwarder, MOST, 4), Kept::New);
    }
}
