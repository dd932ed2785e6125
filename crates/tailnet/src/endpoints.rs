//! Where we may be reached ourselves: what STUN servers see of us, and our own addresses.
//!
//! ```text
//!   sockets, interfaces ─┐
//!   STUN servers ── requests ──► answers ─┴─► list ──► node, call-me-maybe
//! ```
//!
//! Pure: whoever owns the sockets says what they are, sends what [`Endpoints::poll_transmit`] gives
//! *from the same sockets* that carry everything else (a NAT gives each socket another address),
//! and brings the answers. A round asks all servers at once and repeats what is not answered; the
//! list changes with each answer, so that the fastest server decides when we can be called.
//!
//! Numbers without another source are those of coder/tailscale: wgengine/magicsock and
//! net/netcheck.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::disco::MAX_ENDPOINTS;
use crate::paths::is_endpoint;
use crate::stun::{Answer, REQUEST_LENGTH, Transaction, request};

mod local;

/// STUN servers that are asked; maps name one or a few for each region.
pub const MAX_SERVERS: usize = 16;

/// A round without an answer is over after this time.
pub const ROUND: Duration = Duration::from_secs(3);

/// When a request is repeated, after its first copy. Three copies in all; RFC 8489, 6.2.1, starts
/// at 500 ms, but that is for networks where nothing else probes.
const REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1000)];

/// What a round has found is used without another for this long.
pub const FRESH: Duration = Duration::from_secs(27);

/// While peers are in use a new round begins after a random time from here ...
const REFRESH: Duration = Duration::from_secs(20);

/// ... up to so much later. NATs forget a mapping after 30 s at the earliest.
const REFRESH_SPREAD: Duration = Duration::from_secs(6);

/// An address that a server once saw stays in the list for this long: a NAT that was asked by
/// another peer's packets meanwhile still has it.
const REMEMBERED: Duration = Duration::from_secs(310);

/// Addresses remembered so.
const MAX_REMEMBERED: usize = 8;

/// Our endpoints, and the STUN requests that find them.
#[derive(Debug, Default)]
pub struct Endpoints {
    ports: Ports,
    interfaces: Vec<IpAddr>,
    servers: Vec<SocketAddr>,
    /// Requests of the round under way.
    probes: Vec<Probe>,
    /// When the last round began.
    round: Option<Instant>,
    /// When the round under way ends.
    ends: Option<Instant>,
    /// When the next may begin.
    refresh: Option<Instant>,
    /// What each server saw last.
    seen: BTreeMap<SocketAddr, SocketAddr>,
    remembered: VecDeque<(SocketAddr, Instant)>,
    list: Vec<SocketAddr>,
    changed: bool,
}

/// The local ports of the UDP sockets; `None` where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of the IPv4 socket.
    pub v4: Option<u16>,
    /// Of the IPv6 socket.
    pub v6: Option<u16>,
}

impl Ports {
    /// The port for addresses of this family.
    #[must_use]
    pub fn for_address(&self, address: &IpAddr) -> Option<u16> {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}

/// A request to one server.
#[derive(Debug)]
struct Probe {
    server: SocketAddr,
    transaction: Transaction,
    /// A copy is to be sent.
    ready: bool,
    /// When the next copy is due; `None` after the last.
    due: Option<Instant>,
    copies: usize,
}

impl Endpoints {
    /// Where we may be reached, best first.
    #[must_use]
    pub fn list(&self) -> &[SocketAddr] {
        &self.list
    }

    /// Whether the list changed since the last call.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether a NAT gives us another address for each destination, so that what a STUN server
    /// sees is of no use to a peer; `None` before two servers of one family have answered.
    #[must_use]
    pub fn mapping_varies(&self) -> Option<bool> {
        let mut v4 = self.seen.values().filter(|address| address.is_ipv4());
        let (first, second) = (v4.next()?, v4.next()?);
        Some(first != second || v4.any(|other| other != first))
    }

    /// The sockets and the addresses of this machine are these. What servers saw of other sockets
    /// or on another network is void.
    pub fn set_local(&mut self, ports: Ports, interfaces: Vec<IpAddr>, now: Instant) {
        if self.ports == ports && self.interfaces == interfaces {
            return;
        }
        if self.ports != ports {
            self.remembered.clear();
        }
        self.ports = ports;
        self.interfaces = interfaces;
        self.seen.clear();
        self.begin_again(now);
        self.update(now);
    }

    /// These STUN servers are to be asked.
    pub fn set_servers(&mut self, mut servers: Vec<SocketAddr>, now: Instant) {
        servers.truncate(MAX_SERVERS);
        if self.servers != servers {
            self.servers = servers;
            self.seen.retain(|server, _| self.servers.contains(server));
            self.begin_again(now);
            self.update(now);
        }
    }

    /// Nobody shall reach us directly.
    pub fn clear(&mut self) {
        let changed = self.changed || !self.list.is_empty();
        *self = Self { changed, ..Self::default() };
    }

    /// Asks all servers, unless that has just been done.
    pub fn refresh(&mut self, now: Instant) {
        if self.round.is_none_or(|began| now.saturating_duration_since(began) >= FRESH) {
            self.begin_again(now);
        }
    }

    /// Asks all servers anew, whatever is under way.
    pub fn begin_again(&mut self, now: Instant) {
        self.round = Some(now);
        self.ends = Some(now + ROUND);
        self.refresh = None;
        let reachable = |server: &&SocketAddr| self.ports.for_address(&server.ip()).is_some();
        self.probes = self
            .servers
            .iter()
            .filter(reachable)
            .map(|server| Probe {
                server: *server,
                // Drawn when the first copy leaves.
                transaction: Transaction([0; 12]),
                ready: true,
                due: None,
                copies: 0,
            })
            .collect();
    }

    /// Takes an answer that came from `from`. One that nobody waits for is of no use.
    pub fn handle_answer(&mut self, from: SocketAddr, answer: Answer, now: Instant) {
        let matches = |probe: &Probe| {
            probe.server == from && probe.copies > 0 && probe.transaction == answer.transaction
        };
        let Some(at) = self.probes.iter().position(matches) else { return };
        self.probes.swap_remove(at);
        self.seen.insert(from, answer.address);
        self.remembered.retain(|(address, _)| *address != answer.address);
        self.remembered.push_front((answer.address, now));
        self.remembered.truncate(MAX_REMEMBERED);
        self.update(now);
    }

    /// Whether [`Endpoints::poll_transmit`] has something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.probes.iter().any(|probe| probe.ready)
    }

    /// The next request that is due and whose server `admit` lets through; `entropy` draws the
    /// transaction of a new one, and without it nothing is sent.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        mut admit: impl FnMut(SocketAddr) -> bool,
        mut entropy: impl FnMut() -> Option<[u8; 12]>,
    ) -> Option<(SocketAddr, [u8; REQUEST_LENGTH])> {
        let probe = self.probes.iter_mut().find(|probe| probe.ready && admit(probe.server))?;
        if probe.copies == 0 {
            probe.transaction = Transaction(entropy()?);
        }
        probe.ready = false;
        probe.due = REPEATS.get(probe.copies).map(|after| now + *after);
        probe.copies += 1;
        Some((probe.server, request(probe.transaction)))
    }

    /// Lets time pass: copies become due, a round ends, and the next begins if peers are `in_use`.
    /// `random` is any number, another each time.
    pub fn handle_timeout(&mut self, in_use: bool, random: u32, now: Instant) {
        for probe in &mut self.probes {
            if probe.due.take_if(|at| *at <= now).is_some() {
                probe.ready = true;
            }
        }
        if self.ends.take_if(|at| *at <= now).is_some() {
            self.probes.clear();
            self.refresh =
                in_use.then(|| now - ROUND + REFRESH + REFRESH_SPREAD * (random % 1000) / 1000);
            self.update(now);
        }
        if self.refresh.take_if(|at| *at <= now).is_some() && in_use {
            self.begin_again(now);
        }
    }

    /// When [`Endpoints::handle_timeout`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let copies = self.probes.iter().filter_map(|probe| probe.due);
        copies.chain(self.ends).chain(self.refresh).min()
    }

    /// Makes the list anew.
    fn update(&mut self, now: Instant) {
        self.remembered.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        let (v4, v6): (Vec<_>, Vec<_>) = self.seen.values().partition(|address| address.is_ipv4());
        let remembered = self.remembered.iter().map(|(address, _)| *address);
        let interfaces = local::usable(&self.interfaces)
            .into_iter()
            .filter_map(|ip| Some(SocketAddr::new(ip, self.ports.for_address(&ip)?)));
        let mut list: Vec<SocketAddr> = Vec::new();
        for endpoint in v4.into_iter().chain(v6).copied().chain(remembered).chain(interfaces) {
            if is_endpoint(&endpoint) && !list.contains(&endpoint) && list.len() < MAX_ENDPOINTS {
                list.push(endpoint);
            }
        }
        self.changed |= self.list != list;
        self.list = list;
    }
}

#[cfg(test)]
mod tests;
