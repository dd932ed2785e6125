//! Between the engine and the relays: what both kinds of tailnet do in their loops.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::core::{Core, Shared};
use crate::{
    derp::relay::{Received, Relays, SendError},
    engine::{self, Route, Transmit, TransmitSink},
    ids::RegionId,
};

/// How long the last packets may take to leave: a write to a socket that is not full.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// The engine and its relays.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) relays: Relays,
    /// One packet for each region that had no room.
    held: BTreeMap<RegionId, Transmit>,
}

impl Pump {
    pub(super) fn new(shared: Arc<Shared>, relays: Relays) -> Self {
        Self { shared, relays, held: BTreeMap::new() }
    }

    /// Whether a relay has no room, so that its room is worth waiting for.
    pub(super) fn is_full(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands out everything the engine has; its next deadline.
    pub(super) fn drain(&mut self, mut note: impl FnMut(&Core, engine::Event)) -> Option<Instant> {
        let mut core = self.shared.lock();
        let mut sink = Sink { relays: &self.relays, held: &mut self.held };
        sink.retry();
        core.engine.poll_transmit(Instant::now(), &mut sink);
        while let Some(event) = core.next_event() {
            note(&core, event);
        }
        core.engine.next_deadline()
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
    pub(super) async fn flush(&self) {
        if tokio::time::timeout(FLUSH_TIMEOUT, self.relays.flushed()).await.is_err() {
            tracing::debug!("the last packets did not leave in time");
        }
    }
}

/// From the engine into the relays.
struct Sink<'a> {
    relays: &'a Relays,
    held: &'a mut BTreeMap<RegionId, Transmit>,
}

impl Sink<'_> {
    /// Tries the packets that were held back.
    fn retry(&mut self) {
        for (_, transmit) in std::mem::take(self.held) {
            self.send(transmit);
        }
    }
}

impl TransmitSink for Sink<'_> {
    fn admit(&mut self, route: &Route) -> bool {
        match route {
            Route::Relay { region, .. } => !self.held.contains_key(region),
        }
    }

    fn send(&mut self, transmit: Transmit) {
        let Route::Relay { region, key } = transmit.route;
        match self.relays.try_send(region, &key, &transmit.packet) {
            Ok(()) => {}
            Err(SendError::Full) => {
                self.held.insert(region, transmit);
            }
            // As lost on the way: the peer's next node names a region that exists.
            Err(error @ (SendError::NoRelay | SendError::Closed | SendError::TooLong(_))) => {
                tracing::trace!(%region, %error, "packet dropped");
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
