//! Against the TCP of Linux, over a TUN device in a network namespace: what two authors understood
//! by the same documents.
//!
//! Needs `unshare` and the right to use `/dev/net/tun`; without them it is skipped, and says so.
//! `CODERCTL_REQUIRE_TUN=1` makes that a failure.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../sim/mod.rs"]
mod sim;

mod bench;
mod peer;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use bench::Bench;
use coderctl_tcp::CloseReason;
use sim::{Application, Way, address};

/// Bytes sent each way.
const BYTES: u64 = 2 << 20;

/// Our port.
const PORT: u16 = 22;

/// For the longest of the transfers; they take a second or two.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn linux_and_we_understand_each_other() {
    if let Err(why) = can_run() {
        assert!(std::env::var_os("CODERCTL_REQUIRE_TUN").is_none(), "{why}");
        let _ = writeln!(io::stderr(), "\n!!! SKIPPED: tests against the kernel: {why}\n");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut command = in_namespace();
    command.arg(this).args(["--ignored", "--exact", "inside_the_namespace", "--nocapture"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A command in a network namespace of its own, in which it is root.
fn in_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "--"]);
    command
}

fn can_run() -> Result<(), String> {
    let probe = in_namespace().args(["ip", "tuntap", "add", "probe", "mode", "tun"]).output();
    let probe = probe.map_err(|error| format!("unshare: {error}"))?;
    match probe.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&probe.stderr).trim().to_owned()),
    }
}

#[test]
#[ignore = "the other test runs it in a namespace of its own"]
fn inside_the_namespace() {
    let bench = Bench::new();
    let clean = Way::new(2, 1000, 4096);
    let bad = Way {
        doubling: 5_000,
        overtaking: 20_000,
        held: Duration::from_millis(3),
        ..Way::new(10, 1000, 4096).losing(10_000)
    };
    for (seed, way) in [clean, bad, bad, bad].into_iter().enumerate() {
        we_connect_and_both_send(&bench, way, seed as u64);
        linux_connects_and_both_send(&bench, way, seed as u64);
    }
    each_half_closes_alone(&bench, clean);
    nobody_listens(&bench, clean);
    either_side_resets(&bench, clean);
    // It found no fault in a segment of ours.
    let counters = peer::counters();
    assert_eq!((counters["InErrs"], counters["InCsumErrors"]), (0, 0), "{counters:?}");
}

fn both() -> Application {
    Application { to_send: BYTES, closes: true, ..Application::default() }
}

fn we_connect_and_both_send(bench: &Bench, way: Way, seed: u64) {
    let listener = TcpListener::bind((bench.kernel, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let kernel = std::thread::spawn(move || peer::exchange(&listener.accept().unwrap().0, BYTES));
    let ours = bench.run(way, seed, Some((port, both())), Application::default(), LIMIT);
    assert_eq!(kernel.join().unwrap().unwrap(), BYTES);
    assert_eq!((ours.received, ours.ended), (BYTES, Some(CloseReason::Finished)), "seed {seed}");
}

fn linux_connects_and_both_send(bench: &Bench, way: Way, seed: u64) {
    let us = SocketAddrV6::new(address(0), PORT, 0, 0);
    let kernel = std::thread::spawn(move || peer::exchange(&TcpStream::connect(us)?, BYTES));
    let ours = bench.run(way, seed, None, both(), LIMIT);
    assert_eq!(kernel.join().unwrap().unwrap(), BYTES);
    assert_eq!((ours.received, ours.ended), (BYTES, Some(CloseReason::Finished)), "seed {seed}");
}

/// It closes before we begin, and then we send.
fn each_half_closes_alone(bench: &Bench, way: Way) {
    let us = SocketAddrV6::new(address(0), PORT, 0, 0);
    let kernel = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(us)?;
        stream.write_all(peer::start(100))?;
        stream.shutdown(std::net::Shutdown::Write)?;
        peer::receive(&stream)
    });
    let echo = Application { echoes: true, closes: true, ..Application::default() };
    let ours = bench.run(way, 1, None, echo, LIMIT);
    assert_eq!(kernel.join().unwrap().unwrap(), 100);
    assert_eq!((ours.received, ours.ended), (100, Some(CloseReason::Finished)));
}

fn nobody_listens(bench: &Bench, way: Way) {
    let free = TcpListener::bind((bench.kernel, 0)).unwrap().local_addr().unwrap().port();
    let ours = bench.run(way, 1, Some((free, both())), Application::default(), LIMIT);
    assert_eq!(ours.ended, Some(CloseReason::Refused));
    let us = SocketAddrV6::new(address(0), PORT, 0, 0);
    let kernel = std::thread::spawn(move || TcpStream::connect(us).map(|_| ()));
    bench.run_deaf(way, || kernel.is_finished(), LIMIT);
    let refused = kernel.join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

fn either_side_resets(bench: &Bench, way: Way) {
    // Linux resets a connection that is closed with bytes unread.
    let listener = TcpListener::bind((bench.kernel, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let kernel = std::thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.peek(&mut [0]).unwrap();
    });
    let endless = Application { to_send: u64::MAX, ..Application::default() };
    let ours = bench.run(way, 1, Some((port, endless)), Application::default(), LIMIT);
    kernel.join().unwrap();
    assert_eq!(ours.ended, Some(CloseReason::Reset));
    // So do we, and it hears of it.
    let us = SocketAddrV6::new(address(0), PORT, 0, 0);
    let kernel = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(us)?;
        stream.write_all(peer::start(5))?;
        stream.read(&mut [0])
    });
    bench.run_aborting(way, || kernel.is_finished(), LIMIT);
    let reset = kernel.join().unwrap().unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
}
