//! What a tailnet has beside its relays while direct ways are allowed: UDP sockets, and the STUN
//! servers of the relay map.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::udp::Udp;
use crate::derp_map::{DerpMap, StunServer};

/// How long the names of STUN servers may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(3);

type Lookup = Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send>>;

/// Sockets and servers.
pub(super) struct Direct {
    pub(super) udp: Udp,
    lookup: Option<Lookup>,
}

/// What happened to them.
#[derive(Debug)]
pub(super) enum News {
    /// Datagrams have come, or there is room for more.
    Ready,
    /// The STUN servers are these.
    Servers(Vec<SocketAddr>),
}

impl Direct {
    /// To be called within a tokio runtime.
    pub(super) fn new(map: &DerpMap) -> Self {
        let mut direct = Self { udp: Udp::bind(), lookup: None };
        direct.set_map(map);
        direct
    }

    /// Looks up the STUN servers of this map.
    pub(super) fn set_map(&mut self, map: &DerpMap) {
        self.lookup = Some(Box::pin(look_up(map.stun_servers())));
    }

    /// What happens next. Cancel safe.
    pub(super) async fn next(&mut self) -> News {
        let Self { udp, lookup } = self;
        let servers = poll_fn(|cx| match lookup {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        });
        tokio::select! {
            () = poll_fn(|cx| udp.poll_ready(cx)) => News::Ready,
            servers = servers => {
                *lookup = None;
                News::Servers(servers)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
