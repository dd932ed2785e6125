//! The paths to one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::best::{Asked, Best};
use super::better::is_better;
use super::candidates::Candidates;
use super::width::Width;
use super::{
    ASK_EVERY, GOOD_ENOUGH, HEARD_INTERVAL, HEARTBEAT, IN_USE, MAX_PROVEN, PING_INTERVAL,
    PING_TIMEOUT, Path, UPGRADE_INTERVAL, Way, give_up, quiet,
};
use crate::disco::TxId;

mod widen;

/// Messages that may wait for a carrier, and pings that may wait for a pong.
const QUEUE: usize = 128;

/// A disco message that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Ping(Path),
    /// A ping as long as the datagram of a packet of so many bytes.
    Probe(SocketAddr, usize),
    Pong(Path, TxId),
    Call(Call),
}

/// What a call-me-maybe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Where we may be reached.
    Endpoints,
    /// There and at this address, from which the peer has seen us come.
    AndAt(SocketAddr),
    /// Nowhere: what was said before is void.
    Nowhere,
}

/// A pong that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pong {
    pub(crate) path: Path,
    pub(crate) latency: Duration,
    /// The ping was a long one, which says less about the latency.
    pub(crate) probe: bool,
}

/// Everything known about the ways to one peer, but for its home relay, which its node names.
#[derive(Debug)]
pub(crate) struct PeerPaths {
    candidates: Candidates,
    best: Option<Best>,
    /// Addresses from which the peer itself has sent.
    proven: VecDeque<SocketAddr>,
    pings: VecDeque<Ping>,
    outgoing: VecDeque<Outgoing>,
    /// When data was last sent to the peer.
    used: Option<Instant>,
    heartbeat: Option<Instant>,
    /// No search for a path begins earlier.
    search_from: Option<Instant>,
    searched: Option<Instant>,
    relay_latency: Option<Duration>,
    /// Somebody has much to send, and would send it in longer packets.
    wide: bool,
    /// The address in use and since when, as it was last told.
    told: (Option<SocketAddr>, Instant),
    changed: bool,
}

/// A ping under way.
#[derive(Debug)]
struct Ping {
    tx: TxId,
    path: Path,
    sent: Instant,
    /// It is as long as the datagram of such a packet.
    probe: Option<usize>,
}

impl PeerPaths {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            candidates: Candidates::default(),
            best: None,
            proven: VecDeque::new(),
            pings: VecDeque::new(),
            outgoing: VecDeque::new(),
            used: None,
            heartbeat: None,
            search_from: None,
            searched: None,
            relay_latency: None,
            wide: false,
            told: (None, now),
            changed: false,
        }
    }

    /// The way of the next datagram. Called for each of them.
    pub(crate) fn way(&self, now: Instant) -> Way {
        match &self.best {
            None => Way::Relay,
            Some(best) => {
                let warned = best.asked.is_some_and(|asked| asked.warned);
                match best.is_trusted(now) && !warned {
                    true => Way::Direct(best.address),
                    false => Way::Both(best.address),
                }
            }
        }
    }

    /// The address in use, its latency, and since when; `None` for the relay.
    pub(crate) fn current(&self) -> (Option<SocketAddr>, Option<Duration>, Instant) {
        let latency = match (self.told.0, &self.best) {
            (Some(address), Some(best)) if best.address == address => Some(best.latency),
            (Some(_), _) => None,
            (None, _) => self.relay_latency,
        };
        (self.told.0, latency, self.told.1)
    }

    /// Whether the way changed since the last call.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether data was sent to the peer in the last [`IN_USE`].
    pub(crate) fn is_in_use(&self, now: Instant) -> bool {
        self.used.is_some_and(|at| now.saturating_duration_since(at) < IN_USE)
    }

    /// Whether its datagrams go to an address.
    pub(crate) fn is_direct(&self) -> bool {
        self.told.0.is_some()
    }

    /// Whether this address is the one in use, and works.
    pub(crate) fn trusts(&self, address: SocketAddr, now: Instant) -> bool {
        self.best.as_ref().is_some_and(|best| best.address == address && best.is_trusted(now))
    }

    /// A data packet took this way. Called for each of them.
    pub(crate) fn data_sent(&mut self, way: Way, now: Instant) {
        self.used = Some(now);
        if let (Way::Direct(_), Some(best)) = (way, &mut self.best) {
            best.unanswered.get_or_insert(now);
            self.heartbeat.get_or_insert(now + HEARTBEAT);
        } else {
            self.search(now);
        }
    }

    /// A message of the tunnel itself took this way: a handshake, a keepalive. It is no use of the
    /// peer, but a reason to look for a way.
    pub(crate) fn message_sent(&mut self, way: Way, now: Instant) {
        match way {
            Way::Direct(_) => {}
            Way::Relay | Way::Both(_) => self.search(now),
        }
    }

    /// A datagram of the peer came from this address and was opened. Called for each of them.
    ///
    /// From now on the address may be asked, if it was not before: a ping can be repeated by anybody
    /// from any address, but a datagram of the tunnel is opened once.
    pub(crate) fn heard_from(&mut self, address: SocketAddr, now: Instant) {
        match &mut self.best {
            Some(best) if best.address == address && best.doubted.is_none() => {
                best.unanswered = None;
            }
            Some(best) if best.is_trusted(now) => {}
            Some(_) | None => {
                self.candidates.name_by_data(address);
                self.ask_if_due(address, HEARD_INTERVAL, now);
            }
        }
    }

    /// A datagram of the peer came through a relay and was opened: if the path works for us, it may
    /// not for the peer.
    pub(crate) fn heard_by_relay(&mut self, now: Instant) {
        let Some(best) = &mut self.best else { return };
        if best.doubted.is_some() || now.saturating_duration_since(best.proven) < ASK_EVERY {
            return;
        }
        match &mut best.asked {
            Some(asked) => asked.warned = true,
            None => self.ask(true, now),
        }
    }

    /// The peer's node names these addresses.
    pub(crate) fn set_endpoints(&mut self, endpoints: &[SocketAddr]) {
        self.candidates.name_by_node(endpoints);
        self.search_from = None;
    }

    /// The peer says where it may be reached, and has just pinged what it knows of us.
    pub(crate) fn called(&mut self, endpoints: &[SocketAddr], now: Instant) {
        self.candidates.name_by_call(endpoints);
        self.ping_candidates(now);
    }

    /// The peer pinged. It gets its pong, and an address that it has named is pinged as well, for it
    /// very likely works now.
    pub(crate) fn pinged(&mut self, path: Path, tx: TxId, now: Instant) {
        self.put(Outgoing::Pong(path, tx));
        let Path::Direct(address) = path else { return };
        if self.best.as_ref().is_none_or(|best| !best.is_trusted(now)) {
            self.ask_if_due(address, PING_INTERVAL, now);
        }
    }

    /// Pings a candidate, unless that was done within the interval.
    fn ask_if_due(&mut self, address: SocketAddr, interval: Duration, now: Instant) {
        if self.candidates.is_due(address, interval, now) {
            self.put(Outgoing::Ping(Path::Direct(address)));
        }
    }

    /// The peer has sent from there; an older address that must make room is given back.
    pub(crate) fn prove(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        if self.proven.contains(&address) {
            return None;
        }
        self.proven.push_back(address);
        if self.proven.len() <= MAX_PROVEN {
            return None;
        }
        let in_use = self.best.as_ref().map(|best| best.address);
        let oldest = self.proven.iter().position(|address| Some(*address) != in_use)?;
        self.proven.remove(oldest)
    }

    /// All addresses from which the peer has sent.
    pub(crate) fn proven(&self) -> impl Iterator<Item = SocketAddr> {
        self.proven.iter().copied()
    }

    /// A pong came over an address (`direct`) or through a relay, and says from where its ping seemed
    /// to come; `None` for one that nobody waits for.
    pub(crate) fn answered(
        &mut self,
        tx: TxId,
        seen: SocketAddr,
        direct: bool,
        now: Instant,
    ) -> Option<Pong> {
        self.forget_pings(now);
        let at = self.pings.iter().position(|ping| {
            // Over a relay anybody could answer for an address.
            ping.tx == tx && direct == matches!(ping.path, Path::Direct(_))
        })?;
        let ping = self.pings.remove(at)?;
        let latency = now.saturating_duration_since(ping.sent);
        match (ping.path, ping.probe) {
            (Path::Relay(_), _) => self.relay_latency = Some(latency),
            (Path::Direct(address), None) => self.works(address, seen, latency, now),
            (Path::Direct(address), Some(packet)) => self.passed(address, packet, now),
        }
        Some(Pong { path: ping.path, latency, probe: ping.probe.is_some() })
    }

    fn works(&mut self, address: SocketAddr, seen: SocketAddr, latency: Duration, now: Instant) {
        self.candidates.answered(address);
        let keep = self.best.as_ref().is_some_and(|best| {
            best.address != address
                && best.is_trusted(now)
                && !is_better((address, latency), (best.address, best.latency))
        });
        if !keep {
            let known = self.best.take().filter(|best| best.address == address);
            let width = known.map(|best| best.width).unwrap_or_default();
            self.best = Some(Best::new(address, seen, latency, width, now));
        }
        self.tell(now);
        self.widen(now);
    }

    /// Asks on the relay and on the path in use, for somebody who wants to know.
    pub(crate) fn measure(&mut self, relay: Path) {
        self.put(Outgoing::Ping(relay));
        if let Some(best) = &self.best {
            self.put(Outgoing::Ping(Path::Direct(best.address)));
        }
    }

    /// The network is another one, or was asleep: nothing is certain, everything is asked.
    pub(crate) fn shaken(&mut self, now: Instant) {
        self.candidates.ask_again();
        self.search_from = None;
        if let Some(best) = &mut self.best {
            best.width = Width::default();
            self.ask(true, now);
        }
        if self.is_in_use(now) {
            self.search(now);
        }
    }

    /// Forgets all addresses; the addresses that were proven are given back.
    pub(crate) fn forget(&mut self, now: Instant) -> VecDeque<SocketAddr> {
        let fresh = Self { used: self.used, told: self.told, wide: self.wide, ..Self::new(now) };
        let old = std::mem::replace(self, fresh);
        self.tell(now);
        old.proven
    }

    /// Our own endpoints are others now: a peer that looks for a way to us is told.
    pub(crate) fn own_endpoints_changed(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < IN_USE;
        if !self.is_direct() && (self.is_in_use(now) || self.searched.is_some_and(lately)) {
            self.call();
        }
    }

    /// How many messages wait for a carrier.
    pub(crate) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// The next message.
    pub(crate) fn poll_message(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// A message whose carrier has no room; it comes again after the others.
    pub(crate) fn put_back(&mut self, message: Outgoing) {
        self.outgoing.push_back(message);
    }

    /// A ping has left.
    pub(crate) fn ping_left(&mut self, message: Outgoing, tx: TxId, now: Instant) {
        let (path, probe) = match message {
            Outgoing::Ping(path) => (path, None),
            Outgoing::Probe(address, packet) => (Path::Direct(address), Some(packet)),
            Outgoing::Pong(..) | Outgoing::Call(_) => return,
        };
        self.forget_pings(now);
        if self.pings.len() < QUEUE {
            self.pings.push_back(Ping { tx, path, sent: now, probe });
        }
    }

    /// Lets everything happen that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.heartbeat.is_some_and(|at| at <= now) {
            self.beat(now);
        }
        self.probe(now);
        let Some(best) = &mut self.best else { return };
        if best.doubted.is_some_and(|at| at + PING_TIMEOUT <= now) {
            self.best = None;
            return;
        }
        if best.unanswered.is_some_and(|at| at + quiet(best.latency) <= now) {
            best.unanswered = None;
            self.ask(false, now);
        }
        let Some(best) = &mut self.best else { return };
        let Some(asked) = best.asked.as_mut().filter(|asked| asked.again <= now) else { return };
        let silence = now.saturating_duration_since(asked.since);
        if silence < give_up(best.latency) {
            asked.again = now + ASK_EVERY;
            // What is lost now is sent again late: from here on it takes both ways.
            let late = silence >= quiet(best.latency);
            asked.warned |= late;
            let named = std::mem::replace(&mut asked.named, late);
            let (path, seen) = (Path::Direct(best.address), best.seen);
            self.put(Outgoing::Ping(path));
            if late && !named {
                self.put(Outgoing::Call(Call::AndAt(seen)));
            }
        } else {
            best.asked = None;
            best.doubted = Some(now);
            self.candidates.ask_again();
            self.take_back();
            self.search_from = None;
            self.search(now);
            self.tell(now);
        }
    }

    /// When [`PeerPaths::handle_timeout`] is wanted next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let of_best = self.best.as_ref().and_then(|best| {
            let unanswered = best.unanswered.map(|at| at + quiet(best.latency));
            let asked = best.asked.map(|asked| asked.again);
            let doubted = best.doubted.map(|at| at + PING_TIMEOUT);
            [unanswered, asked, doubted, best.width.next_deadline()].into_iter().flatten().min()
        });
        [self.heartbeat, of_best].into_iter().flatten().min()
    }

    /// Asks the path in use whether it still is one. What is sent by relay looks for a path by
    /// itself.
    fn beat(&mut self, now: Instant) {
        self.heartbeat = None;
        let Some(best) = self.best.as_ref().filter(|best| best.doubted.is_none()) else { return };
        if !self.is_in_use(now) {
            return;
        }
        self.heartbeat = Some(now + HEARTBEAT);
        let long_ago = |at| now.saturating_duration_since(at) >= UPGRADE_INTERVAL;
        let slow = best.latency > GOOD_ENOUGH;
        self.ask(false, now);
        if slow && self.searched.is_none_or(long_ago) {
            self.ping_candidates(now);
        }
    }

    /// Wants a pong on the path in use.
    fn ask(&mut self, warned: bool, now: Instant) {
        let Some(best) = &mut self.best else { return };
        match &mut best.asked {
            Some(asked) => asked.warned |= warned,
            None => {
                best.asked =
                    Some(Asked { since: now, again: now + ASK_EVERY, warned, named: false });
                let path = Path::Direct(best.address);
                self.put(Outgoing::Ping(path));
            }
        }
    }

    /// Looks for a way, unless that was done a moment ago. A path whose trust has only run out is
    /// asked before others are.
    fn search(&mut self, now: Instant) {
        if self.search_from.is_some_and(|at| now < at) {
            return;
        }
        self.search_from = Some(now + PING_INTERVAL);
        match &self.best {
            Some(best) if best.doubted.is_none() => self.ask(false, now),
            Some(_) | None => {
                self.ping_candidates(now);
                self.call();
            }
        }
    }

    /// Says where we may be reached.
    fn call(&mut self) {
        self.put(Outgoing::Call(Call::Endpoints));
    }

    /// Has the peer leave the path, too.
    fn take_back(&mut self) {
        self.outgoing.retain(|message| !matches!(message, Outgoing::Call(_)));
        self.put(Outgoing::Call(Call::Nowhere));
    }

    fn ping_candidates(&mut self, now: Instant) {
        self.searched = Some(now);
        for address in self.candidates.due(now) {
            self.put(Outgoing::Ping(Path::Direct(address)));
        }
    }

    fn put(&mut self, message: Outgoing) {
        if self.outgoing.len() < QUEUE && !self.outgoing.contains(&message) {
            self.outgoing.push_back(message);
        }
    }

    fn forget_pings(&mut self, now: Instant) {
        while self
            .pings
            .front()
            .is_some_and(|ping| now.saturating_duration_since(ping.sent) >= PING_TIMEOUT)
        {
            self.pings.pop_front();
        }
    }

    /// Notes which way is in use. One whose trust ran out in silence still is: it is asked first.
    fn tell(&mut self, now: Instant) {
        let best = self.best.as_ref().filter(|best| best.doubted.is_none());
        let address = best.map(|best| best.address);
        if self.told.0 != address {
            self.told = (address, now);
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests;
