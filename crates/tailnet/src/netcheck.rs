//! What the network lets through: UDP to STUN servers, and the two ways to each relay.
//!
//! ```text
//!   udp   asks the map's STUN servers from one socket of each family
//!   nat   what their answers say about the address translator before us, as a table
//! ```
//!
//! Everything is asked side by side and nothing is kept: the sockets and keys are of this check
//! alone, so that a tunnel is neither needed nor disturbed.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::derp::{
    Carrier, Dial, Event,
    connection::{self, CONNECT_TIMEOUT, ConnectionError},
};
use crate::derp_map::{DerpMap, Region, RelayNode};
use crate::ids::RegionId;
use crate::keys::NodePrivate;

mod nat;
mod udp;

pub use nat::{Nat, Seen};
pub use udp::{Udp, UdpFamily, check_udp};

/// Relays that are checked at most; each costs three connections.
const MAX_RELAYS: usize = 64;

/// How a region's relay is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCheck {
    /// The region.
    pub region: RegionId,
    /// Its short name. Not to be printed unescaped.
    pub code: String,
    /// Its name for people. Not to be printed unescaped.
    pub name: String,
    /// A round trip over HTTP, or why there is none. Causes are not to be printed unescaped.
    pub latency: Result<Duration, String>,
    /// Whether the relay lets us in by an HTTP upgrade.
    pub upgrade: Result<(), String>,
    /// Whether it lets us in over a WebSocket.
    pub websocket: Result<(), String>,
}

impl RelayCheck {
    /// Whether tunnels can use it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.upgrade.is_ok() || self.websocket.is_ok()
    }
}

/// Checks the first relay of each region, by region.
pub async fn check_relays<D: Dial + Clone>(dialer: &D, map: &DerpMap) -> Vec<RelayCheck> {
    let mut checks = JoinSet::new();
    for region in map.regions.values().filter(|region| region.has_relay()).take(MAX_RELAYS) {
        let (dialer, region) = (dialer.clone(), region.clone());
        checks.spawn(async move { check_relay(&dialer, &region).await }.boxed());
    }
    let mut all: Vec<RelayCheck> = checks.join_all().await.into_iter().flatten().collect();
    all.sort_by_key(|check| check.region);
    all
}

async fn check_relay(dialer: &dyn Dial, region: &Region) -> Option<RelayCheck> {
    let node = region.relays().next()?;
    let (latency, upgrade, websocket) = tokio::join!(
        dialer.measure(node),
        log_in(dialer, node, Carrier::Upgrade),
        log_in(dialer, node, Carrier::WebSocket),
    );
    Some(RelayCheck {
        region: region.id,
        code: region.code.clone(),
        name: region.name.clone(),
        latency: latency.map_err(|error| error.to_string()),
        upgrade: upgrade.map_err(|error| error.to_string()),
        websocket: websocket.map_err(|error| error.to_string()),
    })
}

/// Whether the relay accepts a stranger with a fresh key, as it accepts every tunnel's.
async fn log_in(
    dialer: &dyn Dial,
    node: &RelayNode,
    carrier: Carrier,
) -> Result<(), ConnectionError> {
    let key = NodePrivate::random()?;
    let accepted = async {
        let mut connection = connection::connect(dialer, node, carrier, key, false).await?;
        loop {
            let batch = connection.recv().await?;
            if batch.iter().any(|event| matches!(event, Event::LoggedIn(_))) {
                return Ok(());
            }
        }
    };
    timeout(CONNECT_TIMEOUT, accepted).await.unwrap_or(Err(ConnectionError::Timeout))
}
