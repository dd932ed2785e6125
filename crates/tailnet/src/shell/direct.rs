//! What a tailnet has beside its relays while direct ways are allowed: UDP sockets, the addresses
//! of this machine, and the STUN servers of the relay map.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt as _;
use netwatcher::{AsyncWatch, Update};
use tokio::task::JoinSet;

use super::udp::Udp;
use crate::derp_map::{DerpMap, StunServer};

/// How long the names of STUN servers may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(3);

/// By how much more the calendar moves than the monotonic clock when a machine slept. Less is a
/// clock that is set.
const SLEPT: Duration = Duration::from_secs(5);

/// Names of interfaces that are themselves tunnels between peers and lead nowhere by themselves
/// (coder/tailscale: net/interfaces, ZeroTier).
const TUNNELS: [&str; 1] = ["zt"];

type Lookup = Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send>>;

/// Sockets, addresses and servers.
pub(super) struct Direct {
    pub(super) udp: Udp,
    interfaces: Option<AsyncWatch>,
    lookup: Option<Lookup>,
}

/// What happened to them.
#[derive(Debug)]
pub(super) enum News {
    /// Datagrams have come, or there is room for more.
    Ready,
    /// The addresses of this machine are these.
    Addresses(Vec<IpAddr>),
    /// The STUN servers are these.
    Servers(Vec<SocketAddr>),
}

impl Direct {
    /// To be called within a tokio runtime.
    pub(super) fn new(map: &DerpMap) -> Self {
        let interfaces =
            match netwatcher::watch_interfaces_async::<netwatcher::async_adapter::Tokio>() {
                Ok(watch) => Some(watch),
                Err(error) => {
                    // STUN still tells where we are.
                    tracing::debug!(?error, "this machine does not tell its addresses");
                    None
                }
            };
        let mut direct = Self { udp: Udp::bind(), interfaces, lookup: None };
        direct.set_map(map);
        direct
    }

    /// Looks up the STUN servers of this map.
    pub(super) fn set_map(&mut self, map: &DerpMap) {
        self.lookup = Some(Box::pin(look_up(map.stun_servers())));
    }

    /// What happens next. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        let Self { udp, interfaces, lookup } = self;
        let addresses = async {
            match interfaces {
                Some(watch) => addresses(&watch.changed().await),
                None => std::future::pending().await,
            }
        };
        let servers = poll_fn(|cx| match lookup {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        });
        tokio::select! {
            () = poll_fn(|cx| udp.poll_ready(cx)) => News::Ready,
            addresses = addresses => News::Addresses(addresses),
            servers = servers => {
                *lookup = None;
                News::Servers(servers)
            }
        }
    }
}

/// The addresses of interfaces that are up.
fn addresses(update: &Update) -> Vec<IpAddr> {
    let is_tunnel = |name: &str| TUNNELS.iter().any(|prefix| name.starts_with(prefix));
    let mut addresses: Vec<IpAddr> = update
        .interfaces
        .values()
        .filter(|interface| !is_tunnel(&interface.name))
        .flat_map(|interface| interface.ips.iter().map(|record| record.ip))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The addresses of STUN servers, names looked up side by side.
async fn look_up(servers: Vec<StunServer>) -> Vec<SocketAddr> {
    let (mut found, mut names) = (Vec::new(), JoinSet::new());
    for server in servers {
        match server {
            StunServer::At(address) => found.push(address),
            StunServer::Named(name, port, families) => {
                names.spawn(
                    async move {
                        let lookup = tokio::net::lookup_host((name, port)).await;
                        let mut found: Vec<SocketAddr> = lookup.into_iter().flatten().collect();
                        found.retain(|address| families.allows(&address.ip()));
                        // One of each family is enough to see what a NAT does.
                        found.sort_unstable_by_key(SocketAddr::is_ipv6);
                        found.dedup_by_key(|address| address.is_ipv6());
                        found
                    }
                    .boxed(),
                );
            }
        }
    }
    let all = async {
        while let Some(addresses) = names.join_next().await {
            found.extend(addresses.unwrap_or_default());
        }
    };
    if tokio::time::timeout(LOOKUP, all).await.is_err() {
        tracing::debug!("the names of some STUN servers were not found in time");
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Notices that the machine slept: the monotonic clock stands still then, the calendar does not.
#[derive(Debug)]
pub(super) struct SleepWatch {
    monotonic: Instant,
    calendar: SystemTime,
}

impl SleepWatch {
    pub(super) fn new() -> Self {
        Self { monotonic: Instant::now(), calendar: SystemTime::now() }
    }

    /// Whether it slept since the last call.
    pub(super) fn slept(&mut self, monotonic: Instant, calendar: SystemTime) -> bool {
        let awake = monotonic.saturating_duration_since(self.monotonic);
        let passed = calendar.duration_since(self.calendar).unwrap_or_default();
        (self.monotonic, self.calendar) = (monotonic, calendar);
        passed > awake + SLEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_time_that_only_the_calendar_knows() {
        let mut watch = SleepWatch::new();
        let (monotonic, calendar) = (watch.monotonic, watch.calendar);
        let second = Duration::from_secs(1);
        assert!(!watch.slept(monotonic + second, calendar + second));
        assert!(!watch.slept(monotonic + 3 * second, calendar + 4 * second));
        assert!(watch.slept(monotonic + 4 * second, calendar + 64 * second));
        assert!(!watch.slept(monotonic + 5 * second, calendar + 65 * second));
        // Set back.
        assert!(!watch.slept(monotonic + 6 * second, calendar));
    }

    #[tokio::test]
    async fn addresses_need_no_lookup_and_names_are_looked_up() {
        let address: SocketAddr = "192.0.2.1:3478".parse().expect("an address");
        let found = look_up(vec![
            StunServer::At(address),
            StunServer::Named("localhost".to_owned(), 7, crate::derp_map::Families::V4),
        ])
        .await;
        assert_eq!(found, ["127.0.0.1:7".parse().expect("an address"), address]);
    }
}
