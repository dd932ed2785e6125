//! Between the engine and its carriers: what both kinds of tailnet do in their loops.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;

use super::{
    core::{Core, Shared},
    direct::{Direct, News},
    udp::Udp,
};
use crate::{
    derp::relay::{Received, Relays, SendError},
    derp_map::DerpMap,
    engine::{self, Route, Transmit, TransmitSink},
    ids::RegionId,
    keys::NodePublic,
    network::{Addresses, SleepWatch},
    wg::MAX_DATAGRAM,
};

/// How long the last packets may take to leave: a write to a socket that is not full.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Bytes that leave by UDP before what has come in is looked at again.
const TURN: usize = 1024 * MAX_DATAGRAM;

/// The engine and its carriers.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) relays: Relays,
    /// UDP, while it may be used.
    pub(super) direct: Option<Direct>,
    map: DerpMap,
    pub(super) addresses: Addresses,
    /// What they are, once they were told.
    known: Option<Vec<IpAddr>>,
    sleep: SleepWatch,
    /// The network is another one since that was last asked.
    changed: bool,
    /// One packet for each region that had no room.
    held: BTreeMap<RegionId, Transmit>,
}

impl Pump {
    pub(super) fn new(shared: Arc<Shared>, relays: Relays) -> Self {
        Self {
            shared,
            relays,
            direct: None,
            map: DerpMap::default(),
            addresses: Addresses::watch(),
            known: None,
            sleep: SleepWatch::new(),
            changed: false,
            held: BTreeMap::new(),
        }
    }

    /// Whether anything but relays may be used. To be called within a tokio runtime.
    pub(super) fn set_direct(&mut self, direct: bool) {
        self.shared.lock().engine.set_direct(direct, Instant::now());
        match (direct, &self.direct) {
            (true, None) => {
                self.direct = Some(Direct::new(&self.map));
                self.set_local();
            }
            (false, _) => self.direct = None,
            (true, Some(_)) => {}
        }
    }

    /// Tells the engine what there is of this machine to be reached at.
    fn set_local(&self) {
        if let (Some(direct), Some(addresses)) = (&self.direct, &self.known) {
            let mut core = self.shared.lock();
            core.engine.set_local(direct.udp.ports(), addresses.clone(), Instant::now());
        }
    }

    /// The addresses of this machine are these: if they are others than before, nothing is certain
    /// any more.
    pub(super) fn moved(&mut self, addresses: Vec<IpAddr>) {
        tracing::debug!(?addresses, "addresses of this machine");
        if self.known.as_ref() == Some(&addresses) {
            return;
        }
        let first = self.known.replace(addresses).is_none();
        self.set_local();
        if !first {
            self.network_changed();
        }
    }

    fn network_changed(&mut self) {
        self.shared.lock().engine.network_changed(Instant::now());
        self.relays.network_changed();
        self.changed = true;
    }

    /// Whether the network is another one since the last call, or the machine slept.
    pub(super) fn take_network_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Uses a relay map.
    pub(super) fn set_map(&mut self, map: DerpMap) {
        if let Some(direct) = &mut self.direct {
            direct.set_map(&map);
        }
        self.map = map.clone();
        self.relays.set_map(map);
    }

    /// Whether a relay has no room, so that its room is worth waiting for.
    pub(super) fn is_full(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands out everything the engine has; its next deadline.
    pub(super) fn drain(&mut self, mut note: impl FnMut(&Core, engine::Event)) -> Option<Instant> {
        let now = Instant::now();
        if self.sleep.slept(now, SystemTime::now()) {
            tracing::debug!("the machine slept");
            self.network_changed();
        }
        let mut core = self.shared.lock();
        let udp = self.direct.as_mut().map(|direct| &mut direct.udp);
        let mut sink = Sink { relays: &self.relays, held: &mut self.held, udp, left: TURN };
        sink.retry();
        core.engine.poll_transmit(now, &mut sink);
        sink.flush();
        let more = sink.left == 0;
        let udp = self.direct.as_mut().map(|direct| &mut direct.udp);
        if let Some((to, length)) = udp.and_then(Udp::too_long) {
            core.engine.handle_too_long(to, length, now);
            // Others may be longer or shorter than the way; what is due now is made in the next turn.
            self.shared.changed.notify_one();
        }
        while let Some(event) = core.next_event() {
            note(&core, event);
        }
        if more { Some(now) } else { core.engine.next_deadline() }
    }

    /// Takes in what happened to the UDP sockets and around them.
    pub(super) fn take_news(&mut self, news: News) {
        let Some(direct) = &mut self.direct else { return };
        let mut core = self.shared.lock();
        let (engine, now) = (&mut core.engine, Instant::now());
        match news {
            News::Ready => {
                direct.udp.receive(|from, datagram| engine.handle_udp(from, datagram, now));
            }
            News::Servers(servers) => {
                tracing::debug!(?servers, "STUN servers");
                engine.set_stun_servers(servers, now);
            }
        }
    }

    /// Takes in what the relays delivered.
    pub(super) fn take_in(&self, batch: &mut Vec<Received>) {
        let mut core = self.shared.lock();
        let now = Instant::now();
        for Received { region, from, payload } in batch.drain(..) {
            core.engine.handle_relay_packet(region, &from, payload, now);
        }
    }

    /// Lets timers fire.
    pub(super) fn tick(&self) {
        self.shared.lock().engine.handle_timeout(Instant::now());
    }

    /// Waits until the last packets have left, for a moment at most: a relay that cannot be
    /// reached any more has had its chance.
    pub(super) async fn flush(&mut self) {
        if tokio::time::timeout(FLUSH_TIMEOUT, self.relays.flushed()).await.is_err() {
            tracing::debug!("the last packets did not leave in time");
        }
    }
}

/// What happens next to the UDP sockets of a pump and around them, if it has any. Cancel safe.
pub(super) async fn udp_news(direct: &mut Option<Direct>) -> News {
    match direct {
        Some(direct) => direct.next().await,
        None => std::future::pending().await,
    }
}

/// From the engine into its carriers.
struct Sink<'a> {
    relays: &'a Relays,
    held: &'a mut BTreeMap<RegionId, Transmit>,
    udp: Option<&'a mut Udp>,
    /// Bytes that may still leave by UDP in this turn.
    left: usize,
}

impl Sink<'_> {
    /// Tries the packets that were held back.
    fn retry(&mut self) {
        for (_, transmit) in std::mem::take(self.held) {
            self.send(transmit);
        }
        self.flush();
    }

    /// Sends what UDP sockets have gathered.
    fn flush(&mut self) {
        if let Some(udp) = &mut self.udp {
            udp.flush();
        }
    }

    fn relay(&mut self, region: RegionId, key: NodePublic, packet: BytesMut) {
        match self.relays.try_send(region, &key, &packet) {
            Ok(()) => {}
            Err(SendError::Full) => {
                self.held.insert(region, Transmit { route: Route::Relay { region, key }, packet });
            }
            // As lost on the way: the peer's next node names a region that exists.
            Err(error @ (SendError::NoRelay | SendError::Closed | SendError::TooLong(_))) => {
                tracing::trace!(%region, %error, "packet dropped");
            }
        }
    }
}

impl TransmitSink for Sink<'_> {
    fn admit(&mut self, route: &Route) -> bool {
        match route {
            Route::Relay { region, .. } => !self.held.contains_key(region),
            Route::Direct(address) => {
                self.left > 0 && self.udp.as_ref().is_none_or(|udp| udp.admit(address))
            }
        }
    }

    fn send(&mut self, transmit: Transmit) {
        match transmit.route {
            Route::Relay { region, key } => self.relay(region, key, transmit.packet),
            Route::Direct(address) => {
                self.left = self.left.saturating_sub(transmit.packet.len());
                if let Some(udp) = &mut self.udp {
                    udp.send(address, transmit.packet);
                }
            }
        }
    }
}

/// Waits for a deadline, for ever if there is none.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
