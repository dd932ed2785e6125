//! How much a relay carries, and what it costs.
//!
//! ```text
//! relay_throughput serve                                    a relay, whose URL and pid it prints
//! relay_throughput measure URL [--pid PID] [--seconds N]    the same clients on any DERP relay
//! ```
//!
//! Each pair of clients has one who sends packets of 1312 bytes (a full WireGuard message) and one
//! who receives them:
//!
//! * `window`: 256 packets in flight, half of what a Coder relay queues, acknowledged every 32, as
//!   a TCP connection inside a tunnel would: what is carried without loss.
//! * `flood`: as fast as the relay reads: what arrives, and how much is lost.
//! * `echo`: one packet in flight: the round trip.
//!
//! With `--pid` the processor time of the relay's process is read from `/proc`, so that a relay
//! can be compared on a machine whose clients need more than the relay.
#![allow(clippy::print_stdout, reason = "a program that prints what it measures")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use coderctl_deployment::relay::{Everybody, Relay, Settings};
use coderctl_tailnet::{
    derp::{Carrier, Connection, Event, TransportDial, connect},
    derp_map::{DerpMap, RelayNode},
    ids::RegionId,
    keys::{NodePrivate, NodePublic},
};
use coderctl_transport::{Options, Transport};
use http::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use url::Url;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A full WireGuard message: header, 1280 bytes, tag.
const PACKET: usize = 1312;
/// Packets in flight.
const WINDOW: u64 = 256;
/// Packets for each acknowledgement.
const EVERY: u64 = 32;
/// Without an acknowledgement for so long, what is in flight is lost.
const LOST: Duration = Duration::from_millis(200);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    match arguments.first().map(String::as_str) {
        // One thread, as `coderctl server` has.
        Some("serve") => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
        }
        Some("measure") => {
            let url = arguments.get(1).ok_or("measure what? a URL is missing")?;
            let seconds: u64 = option("--seconds").map_or(Ok(5), |text| text.parse())?;
            let pid = option("--pid").map(|text| text.parse()).transpose()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(measure(&Url::parse(url)?, pid, Duration::from_secs(seconds)))
        }
        Some(_) | None => Err("serve, or measure URL [--pid PID] [--seconds N]".into()),
    }
}

/// A relay behind the same HTTP server as the deployment's, open to everybody.
async fn serve() -> Result<(), Failure> {
    let relay = Relay::new(Settings::default(), Arc::new(Everybody))?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("http://{} {}", listener.local_addr()?, std::process::id());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let relay = relay.clone();
        let service = hyper::service::service_fn(move |request| upgrade(relay.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(connection);
    }
}

async fn upgrade(
    relay: Relay,
    mut request: Request<hyper::body::Incoming>,
) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    if request.uri().path() != "/derp" {
        return Ok(response);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            relay.serve(TokioIo::new(stream)).await;
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("DERP"));
    Ok(response)
}

async fn measure(url: &Url, pid: Option<u32>, time: Duration) -> Result<(), Failure> {
    println!("{:<22} {:>10} {:>12} {:>14}", "", "Mbit/s", "lost", "CPU s/GB");
    for (name, pairs) in [("window, 1 pair", 1), ("window, 4 pairs", 4)] {
        report(name, pid, run(url, pairs, time, window), time).await?;
    }
    for (name, pairs) in [("flood, 1 pair", 1), ("flood, 4 pairs", 4)] {
        report(name, pid, run(url, pairs, time, flood), time).await?;
    }
    let mut pair = Pair::connect(url).await?;
    let mut trips = echo(&mut pair, Duration::from_secs(2).min(time)).await?;
    trips.sort_unstable();
    let at = |part: usize| trips.get(trips.len() * part / 100).copied().unwrap_or_default();
    println!("echo                   p50 {:?}, p99 {:?}", at(50), at(99));
    Ok(())
}

/// What one pair has done.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    received: u64,
    lost: u64,
}

async fn report(
    name: &str,
    pid: Option<u32>,
    run: impl Future<Output = Result<Done, Failure>>,
    time: Duration,
) -> Result<(), Failure> {
    let before = pid.map(processor_time).transpose()?;
    let done = run.await?;
    let after = pid.map(processor_time).transpose()?;
    let bytes = (done.received * PACKET as u64) as f64;
    let rate = bytes * 8.0 / 1e6 / time.as_secs_f64();
    let lost = 100.0 * done.lost as f64 / (done.received + done.lost).max(1) as f64;
    let cost = before.zip(after).map(|(before, after)| (after - before) / (bytes / 1e9));
    let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}"));
    println!("{name:<22} {rate:>10.0} {lost:>10.2} % {cost:>14}");
    Ok(())
}

/// Seconds that a process has used, in itself and in the kernel.
fn processor_time(pid: u32) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(") ").ok_or("no such process")?.1;
    let ticks: Vec<f64> =
        fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    // USER_HZ is 100 wherever Linux runs.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

struct Pair {
    sender: Connection,
    receiver: Connection,
    from: NodePublic,
    to: NodePublic,
}

impl Pair {
    async fn connect(url: &Url) -> Result<Self, Failure> {
        let (one, other) = (NodePrivate::random()?, NodePrivate::random()?);
        let (from, to) = (one.public(), other.public());
        Ok(Self { sender: client(url, one).await?, receiver: client(url, other).await?, from, to })
    }
}

async fn client(url: &Url, key: NodePrivate) -> Result<Connection, Failure> {
    let map = DerpMap::embedded_at(url);
    let region = map.regions.get(&RegionId::EMBEDDED).ok_or("no relay")?;
    let node: &RelayNode = region.relays().next().ok_or("no relay")?;
    let dialer = TransportDial::new(Transport::new(Options::default())?);
    let mut connection = connect(&dialer, node, Carrier::Upgrade, key, true).await?;
    while !connection.recv().await?.iter().any(|event| matches!(event, Event::LoggedIn(_))) {}
    Ok(connection)
}

/// Runs so many pairs at the same time and adds up what they did.
async fn run<F, W>(url: &Url, pairs: usize, time: Duration, work: F) -> Result<Done, Failure>
where
    F: Fn(Pair, Duration) -> W,
    W: Future<Output = Result<Done, Failure>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for _ in 0..pairs {
        running.spawn(work(Pair::connect(url).await?, time));
    }
    let mut all = Done::default();
    while let Some(done) = running.join_next().await {
        let done = done??;
        all.received += done.received;
        all.lost += done.lost;
    }
    Ok(all)
}

fn packet(number: u64) -> [u8; PACKET] {
    let mut packet = [4; PACKET];
    packet[8..16].copy_from_slice(&number.to_be_bytes());
    packet
}

/// The numbers of the packets that came.
fn numbers(batch: &[Event]) -> impl Iterator<Item = u64> {
    batch.iter().filter_map(|event| {
        let Event::Packet { payload, .. } = event else { return None };
        payload.get(8..16)?.try_into().ok().map(u64::from_be_bytes)
    })
}

async fn window(pair: Pair, time: Duration) -> Result<Done, Failure> {
    let Pair { mut sender, mut receiver, from, to } = pair;
    let end = Instant::now() + time;
    let acknowledge = async move {
        let (mut received, mut said) = (0, 0);
        while let Ok(batch) = receiver.recv().await {
            for number in numbers(&batch) {
                received += 1;
                // The count, and the highest number that came.
                if received - said >= EVERY {
                    said = received;
                    let mut answer = BytesMut::zeroed(24);
                    answer[8..16].copy_from_slice(&received.to_be_bytes());
                    answer[16..].copy_from_slice(&number.to_be_bytes());
                    while receiver.try_send(&from, &answer).is_err() {
                        receiver.writable().await;
                    }
                }
            }
        }
    };
    let send = async move {
        let mut done = Done::default();
        let (mut sent, mut base) = (0, 0);
        while Instant::now() < end {
            while sent - base < WINDOW {
                match sender.try_send(&to, &packet(sent + 1)) {
                    Ok(()) => sent += 1,
                    Err(_) => sender.writable().await,
                }
            }
            let Ok(batch) = timeout(LOST, sender.recv()).await else {
                base = sent;
                continue;
            };
            for event in batch? {
                let Event::Packet { payload, .. } = event else { continue };
                let word = |at: usize| {
                    let bytes = payload.get(at..at + 8)?.try_into().ok()?;
                    Some(u64::from_be_bytes(bytes))
                };
                if let (Some(received), Some(highest)) = (word(8), word(16)) {
                    done.received = done.received.max(received);
                    base = base.max(highest);
                    done.lost = base.saturating_sub(done.received);
                }
            }
        }
        Ok(done)
    };
    tokio::select! {
        () = acknowledge => Err("the receiver was closed".into()),
        done = send => done,
    }
}

async fn flood(pair: Pair, time: Duration) -> Result<Done, Failure> {
    let Pair { mut sender, mut receiver, to, .. } = pair;
    let end = Instant::now() + time;
    let send = async move {
        let mut sent = 0;
        while Instant::now() < end {
            // So that the clock is not asked for each packet.
            for _ in 0..64 {
                match sender.try_send(&to, &packet(sent + 1)) {
                    Ok(()) => sent += 1,
                    Err(_) => sender.writable().await,
                }
            }
            tokio::task::yield_now().await;
        }
        // The relay still has some of it.
        let _ = timeout(LOST, sender.recv()).await;
        Ok::<_, Failure>(())
    };
    let receive = async move {
        let mut done = Done::default();
        while let Ok(batch) = receiver.recv().await {
            for number in numbers(&batch) {
                done.received += 1;
                done.lost = number.saturating_sub(done.received);
            }
            if Instant::now() >= end {
                break;
            }
        }
        done
    };
    // In tasks of their own, so that the runtime's threads share them.
    let (sent, done) = tokio::join!(tokio::spawn(send), tokio::spawn(receive));
    sent??;
    Ok(done?)
}

async fn echo(pair: &mut Pair, time: Duration) -> Result<Vec<Duration>, Failure> {
    let end = Instant::now() + time;
    let mut trips = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        pair.sender.try_send(&pair.to, &[4; 100])?;
        timeout(LOST, pair.receiver.recv()).await??;
        pair.receiver.try_send(&pair.from, &[4; 100])?;
        timeout(LOST, pair.sender.recv()).await??;
        trips.push(start.elapsed());
    }
    Ok(trips)
}
