//! Asks STUN servers from which address our datagrams reach them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{UdpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::nat::{Nat, Seen};
use crate::derp_map::{DerpMap, Family, RelayNode};
use crate::keys::NoEntropy;
use crate::stun::{self, Transaction};

/// Servers asked at most in each family; more would say nothing new.
const MAX_SERVERS: usize = 8;

/// Questions to each server: datagrams get lost (coder/tailscale: net/netcheck/netcheck.go).
const QUESTIONS: u32 = 3;

/// Pause between them (same source: `defaultInitialRetransmitTime`).
const PAUSE: Duration = Duration::from_millis(100);

/// How long answers are waited for (same source: `stunProbeTimeout`).
const PATIENCE: Duration = Duration::from_secs(3);

/// What STUN servers answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// Over IPv4.
    pub ipv4: UdpFamily,
    /// Over IPv6.
    pub ipv6: UdpFamily,
}

/// What they answered over one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpFamily {
    /// The map has no server with an address of this family.
    NoServer,
    /// No question left this machine. Why not is not to be printed unescaped.
    NoNetwork(String),
    /// No server answered.
    Blocked {
        /// Servers that were asked.
        asked: usize,
    },
    /// Datagrams come and go.
    Open {
        /// Where we are, seen from outside.
        address: SocketAddr,
        /// The quickest round trip.
        latency: Duration,
        /// What translates it.
        nat: Nat,
    },
}

impl UdpFamily {
    /// Whether datagrams come and go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            UdpFamily::Open { .. } => true,
            UdpFamily::NoServer | UdpFamily::NoNetwork(_) | UdpFamily::Blocked { .. } => false,
        }
    }
}

/// Asks the map's servers, over both families at once. Takes three seconds at most, and no longer
/// than the servers when all of them answer.
///
/// # Errors
/// [`NoEntropy`] without random numbers for the questions.
pub async fn check_udp(map: &DerpMap) -> Result<Udp, NoEntropy> {
    let servers = servers(map).await;
    let (v4, v6) = servers.into_iter().partition(SocketAddr::is_ipv4);
    let (ipv4, ipv6) = tokio::join!(
        family(Ipv4Addr::UNSPECIFIED.into(), v4),
        family(Ipv6Addr::UNSPECIFIED.into(), v6),
    );
    Ok(Udp { ipv4: ipv4?, ipv6: ipv6? })
}

/// The addresses of the map's STUN servers, each once.
async fn servers(map: &DerpMap) -> Vec<SocketAddr> {
    let mut lookups = JoinSet::new();
    let nodes = map.regions.values().flat_map(|region| &region.nodes);
    for node in nodes.filter(|node| node.stun_port.is_some()).take(2 * MAX_SERVERS) {
        lookups.spawn(addresses(node.clone()).boxed());
    }
    let mut all: Vec<SocketAddr> = lookups.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A server's address of each family that it may be asked over.
async fn addresses(node: RelayNode) -> Vec<SocketAddr> {
    let Some(port) = node.stun_port else { return Vec::new() };
    let mut found = Vec::new();
    if let Family::Fixed(address) = node.ipv4 {
        found.push(SocketAddr::new(address.into(), port));
    }
    if let Family::Fixed(address) = node.ipv6 {
        found.push(SocketAddr::new(address.into(), port));
    }
    let wanted = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(_) => node.ipv4 == Family::Resolve,
        IpAddr::V6(_) => node.ipv6 == Family::Resolve,
    };
    if !node.host_name.is_empty() {
        match timeout(PATIENCE, lookup_host((node.host_name.as_str(), port))).await {
            Ok(Ok(resolved)) => {
                let resolved: Vec<_> = resolved.filter(wanted).collect();
                found.extend(resolved.iter().find(|address| address.is_ipv4()));
                found.extend(resolved.iter().find(|address| address.is_ipv6()));
            }
            Ok(Err(error)) => tracing::debug!(node = ?node.name, %error, "STUN server not found"),
            Err(_) => tracing::debug!(node = ?node.name, "the name server is silent"),
        }
    }
    found
}

async fn family(bind: IpAddr, mut servers: Vec<SocketAddr>) -> Result<UdpFamily, NoEntropy> {
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() {
        return Ok(UdpFamily::NoServer);
    }
    let mut asked = BTreeMap::new();
    for server in &servers {
        let mut transaction = [0; 12];
        getrandom::fill(&mut transaction).map_err(|_| NoEntropy)?;
        asked.insert(Transaction(transaction), *server);
    }
    Ok(match ask(bind, asked).await {
        Ok(answers) => judge(&answers, servers.len()),
        Err(error) => UdpFamily::NoNetwork(why_not(bind, &error)),
    })
}

/// Why no question leaves a machine.
fn why_not(bind: IpAddr, error: &io::Error) -> String {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    if !matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkUnreachable) {
        return error.to_string();
    }
    let family = if bind.is_ipv4() { 4 } else { 6 };
    format!("this machine has no way to IPv{family} addresses")
}

fn judge(answers: &[(Seen, Duration)], asked: usize) -> UdpFamily {
    match answers.iter().min_by_key(|(_, took)| *took) {
        None => UdpFamily::Blocked { asked },
        Some((nearest, took)) => {
            let seen: Vec<Seen> = answers.iter().map(|(seen, _)| *seen).collect();
            UdpFamily::Open { address: nearest.mapped, latency: *took, nat: Nat::of(&seen) }
        }
    }
}

/// Asks each server a few times from one socket, until all have answered or the time is over. An
/// answer's round trip counts from the last question before it.
async fn ask(
    bind: IpAddr,
    mut open: BTreeMap<Transaction, SocketAddr>,
) -> io::Result<Vec<(Seen, Duration)>> {
    let socket = UdpSocket::bind((bind, 0)).await?;
    let port = socket.local_addr()?.port();
    let (mut answers, mut buffer) = (Vec::new(), [0; stun::MAX_ANSWER + 1]);
    let begun = Instant::now();
    let (mut questions, mut last) = (0, begun);
    let mut refused = None;
    while !open.is_empty() {
        let next = begun + if questions < QUESTIONS { questions * PAUSE } else { PATIENCE };
        tokio::select! {
            biased;
            received = socket.recv_from(&mut buffer) => {
                // An error is the word of some router about one of the servers.
                let Ok((length, from)) = received else { continue };
                let Ok(answer) = stun::parse(&buffer[..length]) else { continue };
                if open.get(&answer.transaction) != Some(&from) {
                    continue;
                }
                open.remove(&answer.transaction);
                let local = SocketAddr::new(source(from).await?, port);
                let seen = Seen { server: from, local, mapped: answer.address };
                answers.push((seen, last.elapsed()));
            }
            () = sleep_until(next) => {
                if questions == QUESTIONS {
                    break;
                }
                (questions, last) = (questions + 1, Instant::now());
                for (transaction, server) in &open {
                    if let Err(error) = socket.send_to(&stun::request(*transaction), server).await {
                        refused = Some(error);
                    }
                }
            }
        }
    }
    match refused {
        Some(error) if answers.is_empty() => Err(error),
        Some(_) | None => Ok(answers),
    }
}

/// The address from which datagrams to this one leave; nothing is sent.
async fn source(to: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).await?;
    probe.connect(to).await?;
    Ok(probe.local_addr()?.ip())
}
