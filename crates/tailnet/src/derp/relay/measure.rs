//! Measures the regions that may be home, and moves home to the nearest.
//!
//! Nothing waits for it: a tunnel begins with the home that is known, and moves later. Where there
//! is only one region there is nothing to choose, and it is measured for an agent only, whose latency
//! people look at.
//!
//! Relays are asked over HTTP, not by STUN, though that would be cheaper: the maps of these
//! deployments share public STUN servers between regions, whose distance says nothing of the
//! relay's (coder/tailscale: net/netcheck/netcheck.go).

use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::derp::dial::{Dial, MEASURE_TIMEOUT};
use crate::derp::home::Round;
use crate::derp_map::RelayNode;
use crate::ids::RegionId;

/// How often it is looked again. Upstream measures every 20 to 26 s over UDP and everything every
/// five minutes; each of these rounds costs a TLS handshake with every region, and three of them
/// make up the memory of [`crate::derp::home::MEMORY`].
const REFRESH: Duration = Duration::from_secs(120);

/// Pause between rounds, however much happens.
const PAUSE: Duration = Duration::from_secs(10);

/// How long the first connection goes before the first round, which would compete with it.
const HEAD_START: Duration = Duration::from_secs(1);

/// Regions measured at once.
const AT_ONCE: usize = 16;

/// Measures now and then, for as long as there are relays.
pub(super) async fn keep_home(shared: Arc<Shared>) {
    let mut status = shared.status.subscribe();
    // A connection that takes longer is one more reason to look for another.
    let _ = timeout(HEAD_START, status.wait_for(super::Status::home_connected)).await;
    loop {
        let regions = shared.measurable();
        let choice = regions.len() > 1 || shared.lone.load(Ordering::Relaxed);
        if choice {
            let round = round(&shared.dialer, regions).await;
            shared.measured(round);
        }
        let refresh = async {
            match choice {
                true => sleep(REFRESH).await,
                false => std::future::pending().await,
            }
        };
        let begun = tokio::time::Instant::now();
        tokio::select! {
            () = refresh => {}
            () = shared.measure.notified() => {
                if choice {
                    tokio::time::sleep_until(begun + PAUSE).await;
                }
            }
        }
    }
}

/// Asks every region once.
async fn round(dialer: &Arc<dyn Dial>, regions: Vec<(RegionId, Vec<RelayNode>)>) -> Round {
    let (mut waiting, mut asked) = (regions.into_iter(), JoinSet::new());
    let mut answers = Round::new();
    loop {
        while asked.len() < AT_ONCE
            && let Some((region, nodes)) = waiting.next()
        {
            let dialer = Arc::clone(dialer);
            asked.spawn(async move { (region, latency(&*dialer, &nodes).await) }.boxed());
        }
        match asked.join_next().await {
            Some(Ok((region, Some(latency)))) => drop(answers.insert(region, latency)),
            // Without an answer, which the region's absence tells.
            Some(Ok((_, None)) | Err(_)) => {}
            None => return answers,
        }
    }
}

/// How far the first node is that answers.
async fn latency(dialer: &dyn Dial, nodes: &[RelayNode]) -> Option<Duration> {
    let first = async {
        for node in nodes {
            match dialer.measure(node).await {
                Ok(latency) => return Some(latency),
                Err(error) => tracing::debug!(%error, "relay not measured"),
            }
        }
        None
    };
    timeout(MEASURE_TIMEOUT, first).await.ok().flatten()
}

impl Shared {
    /// The regions that may be home.
    fn measurable(&self) -> Vec<(RegionId, Vec<RelayNode>)> {
        let state = self.lock();
        let candidates = state.map.home_candidates().into_iter();
        let nodes = |id| state.map.regions.get(&id).map(|it| (id, it.relays().cloned().collect()));
        candidates.filter_map(nodes).collect()
    }

    fn measured(self: &Arc<Self>, round: Round) {
        tracing::debug!(?round, "relays measured");
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.latencies.add(round.clone(), Instant::now());
        let home = state.latencies.choose(&state.map, state.home);
        self.status.send_if_modified(|status| {
            let news = status.latencies != round;
            status.latencies = round;
            news
        });
        if home != state.home {
            tracing::debug!(from = ?state.home, to = ?home, "home relay moves");
            self.move_home(&mut state, home);
        }
    }
}
