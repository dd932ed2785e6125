//! Where the relays of a test are, and how it is to reach them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coderctl_tailnet::derp::dial::{BoxStream, DialFuture, MeasureFuture};
use coderctl_tailnet::derp::{Carrier, Dial, DialError};
use coderctl_tailnet::derp_map::{DerpMap, Region, RelayNode};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::relay::Relay;
use crate::{node, region};

/// Bytes under way in one direction of a connection.
const IN_FLIGHT: usize = 64 << 10;

/// A network of relays by the names of their nodes. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Network {
    places: Arc<Mutex<BTreeMap<String, Place>>>,
    dials: Arc<Mutex<Vec<(String, Carrier, Instant)>>>,
    latencies: Arc<Mutex<BTreeMap<String, Duration>>>,
    refusals: Arc<Mutex<BTreeMap<String, u16>>>,
}

enum Place {
    /// A relay answers.
    Relay(Relay),
    /// The test itself answers.
    Raw(mpsc::UnboundedSender<DuplexStream>),
    /// Nothing answers.
    Silence,
}

impl Network {
    pub(crate) fn relay(&self, name: &str, relay: &Relay) {
        self.put(name, Place::Relay(relay.clone()));
    }

    pub(crate) fn raw(&self, name: &str) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.put(name, Place::Raw(sender));
        receiver
    }

    pub(crate) fn silence(&self, name: &str) {
        self.put(name, Place::Silence);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.places.lock().unwrap().remove(name);
    }

    /// The node answers measurements after so long, from now on.
    pub(crate) fn far(&self, name: &str, latency: Duration) {
        self.latencies.lock().unwrap().insert(name.to_owned(), latency);
    }

    /// The node answers no measurement any more.
    pub(crate) fn unmeasurable(&self, name: &str) {
        self.latencies.lock().unwrap().remove(name);
    }

    /// Upgrades to the node are answered with this status; a WebSocket gets through.
    pub(crate) fn refuse_upgrades(&self, name: &str, status: u16) {
        self.refusals.lock().unwrap().insert(name.to_owned(), status);
    }

    /// By what the node was dialled, each time.
    pub(crate) fn carriers(&self, name: &str) -> Vec<Carrier> {
        let dials = self.dials.lock().unwrap();
        dials.iter().filter(|(node, ..)| node == name).map(|(_, carrier, _)| *carrier).collect()
    }

    /// How long each dial of this node came after the one before.
    pub(crate) fn dial_gaps(&self, name: &str) -> Vec<Duration> {
        let dials = self.dials.lock().unwrap();
        let times: Vec<Instant> =
            dials.iter().filter(|(node, ..)| node == name).map(|(.., time)| *time).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    pub(crate) fn dials(&self, name: &str) -> usize {
        self.carriers(name).len()
    }

    fn put(&self, name: &str, place: Place) {
        self.places.lock().unwrap().insert(name.to_owned(), place);
    }

    fn connect(&self, node: &RelayNode, carrier: Carrier) -> Result<DuplexStream, DialError> {
        self.dials.lock().unwrap().push((node.name.clone(), carrier, Instant::now()));
        if carrier == Carrier::Upgrade
            && let Some(status) = self.refusals.lock().unwrap().get(&node.name)
        {
            return Err(DialError::Refused { host: node.name.clone(), status: *status });
        }
        let (ours, theirs) = tokio::io::duplex(IN_FLIGHT);
        match self.places.lock().unwrap().get(&node.name) {
            Some(Place::Relay(relay)) => relay.serve(theirs),
            Some(Place::Raw(sender)) => sender.send(theirs).unwrap(),
            Some(Place::Silence) => {
                // Held for ever, so that it does not even end.
                std::mem::forget(theirs);
            }
            None => return Err(DialError::Refused { host: node.name.clone(), status: 502 }),
        }
        Ok(ours)
    }
}

impl Dial for Network {
    fn dial<'a>(&'a self, node: &'a RelayNode, carrier: Carrier) -> DialFuture<'a> {
        Box::pin(async move { Ok(Box::new(self.connect(node, carrier)?) as BoxStream) })
    }

    fn measure<'a>(&'a self, node: &'a RelayNode) -> MeasureFuture<'a> {
        let latency = self.latencies.lock().unwrap().get(&node.name).copied();
        let host = node.name.clone();
        Box::pin(async move {
            let latency = latency.ok_or(DialError::Refused { host, status: 404 })?;
            tokio::time::sleep(latency).await;
            Ok(latency)
        })
    }
}

/// A map of regions and the names of their nodes.
pub(crate) fn map(regions: &[(i64, &[&str])]) -> DerpMap {
    let regions = regions.iter().map(|(id, names)| {
        let id = region(*id);
        let region = Region {
            id,
            embedded_relay: false,
            code: String::new(),
            name: String::new(),
            avoid: false,
            nodes: names.iter().map(|name| node(name)).collect(),
        };
        (id, region)
    });
    DerpMap { regions: regions.collect(), ..DerpMap::default() }
}
