//! Where a peer may be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{MAX_BURST, MAX_CANDIDATES, PING_INTERVAL, is_endpoint};

/// Addresses that somebody named, at most [`MAX_CANDIDATES`].
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_address: BTreeMap<SocketAddr, Candidate>,
}

/// What is known about one of them.
#[derive(Debug, Default)]
struct Candidate {
    /// The peer's node names it.
    by_node: bool,
    /// Its last call-me-maybe does.
    by_call: bool,
    /// A datagram of its tunnel came from there.
    by_data: bool,
    /// It answered a ping once.
    answered: bool,
    pinged: Option<Instant>,
}

impl Candidate {
    /// Lists come and go (an agent's flap while it measures its own addresses), what has worked
    /// stays.
    fn is_wanted(&self) -> bool {
        self.by_node || self.by_call || self.by_data || self.answered
    }
}

impl Candidates {
    /// The node names these and no others.
    pub(super) fn name_by_node(&mut self, endpoints: &[SocketAddr]) {
        for candidate in self.by_address.values_mut() {
            candidate.by_node = false;
        }
        for endpoint in endpoints {
            self.add(*endpoint, |candidate| candidate.by_node = true);
        }
        self.by_address.retain(|_, candidate| candidate.is_wanted());
    }

    /// A call-me-maybe names these and no others; all of them may be pinged at once, for the peer
    /// has just opened the way.
    pub(super) fn name_by_call(&mut self, endpoints: &[SocketAddr]) {
        for candidate in self.by_address.values_mut() {
            candidate.by_call = false;
        }
        for endpoint in endpoints {
            self.add(*endpoint, |candidate| {
                candidate.by_call = true;
                candidate.pinged = None;
            });
        }
        self.by_address.retain(|_, candidate| candidate.is_wanted());
    }

    /// A datagram of its tunnel came from there.
    pub(super) fn name_by_data(&mut self, endpoint: SocketAddr) {
        self.add(endpoint, |candidate| candidate.by_data = true);
    }

    /// It has answered.
    pub(super) fn answered(&mut self, endpoint: SocketAddr) {
        self.add(endpoint, |candidate| candidate.answered = true);
    }

    /// The network has changed: what was asked before does not count.
    pub(super) fn ask_again(&mut self) {
        for candidate in self.by_address.values_mut() {
            candidate.pinged = None;
        }
    }

    /// The candidates that may be pinged now; from now on they have been.
    pub(super) fn due(&mut self, now: Instant) -> Vec<SocketAddr> {
        let due = self.by_address.iter_mut().filter(|(_, candidate)| {
            candidate.pinged.is_none_or(|at| now.saturating_duration_since(at) >= PING_INTERVAL)
        });
        due.take(MAX_BURST)
            .map(|(address, candidate)| {
                candidate.pinged = Some(now);
                *address
            })
            .collect()
    }

    /// Whether it may be pinged now, so long after the last time; from now on it has been.
    pub(super) fn is_due(&mut self, address: SocketAddr, interval: Duration, now: Instant) -> bool {
        let Some(candidate) = self.by_address.get_mut(&address) else { return false };
        let due = candidate.pinged.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if due {
            candidate.pinged = Some(now);
        }
        due
    }

    fn add(&mut self, endpoint: SocketAddr, change: impl FnOnce(&mut Candidate)) {
        if !is_endpoint(&endpoint) {
            return;
        }
        if !self.by_address.contains_key(&endpoint) && self.by_address.len() >= MAX_CANDIDATES {
            let useless = self.by_address.iter().find(|(_, candidate)| !candidate.answered);
            let Some(useless) = useless.map(|(address, _)| *address) else { return };
            self.by_address.remove(&useless);
        }
        change(self.by_address.entry(endpoint).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 7], port))
    }

    #[test]
    fn lists_replace_lists_and_what_answered_stays() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.name_by_node(&[at(1), at(2), at(3)]);
        candidates.name_by_call(&[at(3), at(4)]);
        candidates.name_by_data(at(5));
        candidates.answered(at(2));
        candidates.name_by_node(&[]);
        assert_eq!(candidates.due(now), [at(2), at(3), at(4), at(5)]);
        candidates.name_by_call(&[]);
        candidates.ask_again();
        assert_eq!(candidates.due(now), [at(2), at(5)]);
    }

    #[test]
    fn nobody_is_asked_twice_in_a_row_but_after_a_call() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.name_by_node(&[at(1), at(2)]);
        assert!(candidates.is_due(at(1), PING_INTERVAL, now));
        assert!(!candidates.is_due(at(1), PING_INTERVAL, now));
        assert!(!candidates.is_due(at(9), PING_INTERVAL, now));
        assert_eq!(candidates.due(now), [at(2)]);
        candidates.name_by_call(&[at(1)]);
        assert_eq!(candidates.due(now), [at(1)]);
        assert_eq!(candidates.due(now + PING_INTERVAL), [at(1), at(2)]);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        candidates.answered(at(1));
        for port in 2..1000 {
            candidates.name_by_data(at(port));
        }
        assert_eq!(candidates.by_address.len(), MAX_CANDIDATES);
        assert!(candidates.by_address.contains_key(&at(1)));
        assert_eq!(candidates.due(now).len(), MAX_BURST);
    }

    #[test]
    fn some_addresses_are_nobodys() {
        let mut candidates = Candidates::default();
        let bad = [
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "198.51.100.7:0",
            "[::]:1",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[fd7a:115c:a1e0::1]:1",
            "[fd60:627a:a42b::1]:1",
        ];
        for text in bad {
            candidates.name_by_data(text.parse().expect("an address"));
        }
        assert!(candidates.by_address.is_empty());
    }
}
