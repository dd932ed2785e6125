//! A host of ours at the other end of a TUN device, with a way between it and the kernel that
//! delays, loses and reorders.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::process::Command;
use std::time::{Duration, Instant};

use coderctl_tcp::Time;
use tokio::runtime::Runtime;
use tokio_tun::Tun;

use crate::sim::{Application, Host, IPV6, Link, Random, Way, address, config};

/// Looks at the threads of the kernel's side this often.
const TICK: Duration = Duration::from_millis(5);

/// A TUN device in this namespace, whose far end is ours.
pub(crate) struct Bench {
    runtime: Runtime,
    tun: Tun,
    /// The kernel's address.
    pub(crate) kernel: Ipv6Addr,
}

/// Packets on their way: when they arrive, their number, whether at the kernel.
type Flying = BinaryHeap<Reverse<(Time, u64, bool, Vec<u8>)>>;

impl Bench {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tun = {
            let _guard = runtime.enter();
            Tun::builder().name("us").build().unwrap().remove(0)
        };
        let kernel = address(1);
        let script = format!(
            "ip link set us mtu {} up; ip addr add {kernel}/64 dev us nodad",
            coderctl_tcp::MTU
        );
        let status = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert!(status.success(), "{script}");
        Self { runtime, tun, kernel }
    }

    /// Has us connect to a port of the kernel's, or answer whoever asks, until our end of the
    /// connection is over.
    pub(crate) fn run(
        &self,
        way: Way,
        seed: u64,
        connects: Option<(u16, Application)>,
        accepts: Application,
        limit: Duration,
    ) -> Application {
        let mut host = host(seed, accepts);
        let clock = Clock::new();
        if let Some((port, app)) = connects {
            let remote = SocketAddrV6::new(self.kernel, port, 0, 0);
            let id = host.tcp.connect(address(0), remote, |_| true, clock.now()).unwrap();
            host.apps.insert(id, app);
        }
        let over = |host: &mut Host| host.apps.values().any(|app| app.ended.is_some());
        self.drive(&mut host, clock, way, seed, over, limit);
        host.apps.into_values().next().unwrap()
    }

    /// Refuses whoever asks, until `done`.
    pub(crate) fn run_deaf(&self, way: Way, done: impl Fn() -> bool, limit: Duration) {
        let mut host = Host { deaf: true, ..host(1, Application::default()) };
        self.drive(&mut host, Clock::new(), way, 1, |_| done(), limit);
    }

    /// Accepts and resets at the first byte, until `done`.
    pub(crate) fn run_aborting(&self, way: Way, done: impl Fn() -> bool, limit: Duration) {
        let mut host = host(1, Application::default());
        let clock = Clock::new();
        let abort = |host: &mut Host| {
            let received = host.apps.iter().find(|(_, app)| app.received > 0);
            if let Some(id) = received.map(|(id, _)| *id) {
                host.apps.remove(&id);
                host.tcp.abort(id, clock.now());
            }
            done()
        };
        self.drive(&mut host, clock, way, 1, abort, limit);
    }

    fn drive(
        &self,
        host: &mut Host,
        clock: Clock,
        way: Way,
        seed: u64,
        done: impl FnMut(&mut Host) -> bool,
        limit: Duration,
    ) {
        self.runtime.block_on(async {
            let driven = drive(&self.tun, host, clock, way, seed, done);
            tokio::time::timeout(limit, driven).await.expect("it goes on");
        });
    }
}

fn host(seed: u64, accepts: Application) -> Host {
    Host::new(config(seed), accepts)
}

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Time {
        Time::from_micros(self.0.elapsed().as_micros() as u64)
    }

    fn instant(self, time: Time) -> Instant {
        self.0 + Duration::from_micros(time.micros())
    }
}

async fn drive(
    tun: &Tun,
    host: &mut Host,
    clock: Clock,
    way: Way,
    seed: u64,
    mut done: impl FnMut(&mut Host) -> bool,
) {
    let mut random = Random(seed);
    let mut links = [way; 2].map(|way| Link::new(way, random.next()));
    let (mut flying, mut count) = (Flying::new(), 0);
    let mut buffer = vec![0; 2 * coderctl_tcp::MTU];
    loop {
        let now = clock.now();
        while flying.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, at_kernel, packet))) = flying.pop() else { break };
            if at_kernel {
                tun.send_all(&packet).await.unwrap();
            } else {
                host.ingest(&packet, now);
            }
        }
        if host.tcp.next_deadline().is_some_and(|at| at <= now) {
            host.tcp.handle_timeout(now);
        }
        host.serve(now);
        let over = done(host);
        let packets = host.transmit(now);
        let mut carry = |flying: &mut Flying, from: usize, packet: Vec<u8>, now: Time| {
            for (at, packet) in links[from].carry(packet, now) {
                count += 1;
                flying.push(Reverse((at, count, from == 0, packet)));
            }
        };
        for packet in packets {
            carry(&mut flying, 0, packet, now);
        }
        // What was said last still has to arrive.
        if over && flying.is_empty() {
            return;
        }
        let arrival = flying.peek().map(|Reverse((at, ..))| *at);
        let next = [arrival, host.tcp.next_deadline()].into_iter().flatten().min();
        let next = next.map_or(Instant::now() + TICK, |at| clock.instant(at));
        let next = next.min(Instant::now() + TICK);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            length = tun.recv(&mut buffer) => {
                let mut length = length.ok();
                while let Some(packet) = length.map(|length| buffer[..length].to_vec()) {
                    if packet.len() > IPV6 {
                        carry(&mut flying, 1, packet, clock.now());
                    }
                    length = tun.try_recv(&mut buffer).ok();
                }
            }
        }
    }
}
