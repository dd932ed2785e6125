//! Goodput on the paths of the sender table, in virtual time.

mod sim;

use std::time::Duration;

use sim::{Way, World, upload};

/// A path, and what the Go agent's stack reaches on it.
struct Path {
    /// Round trip, in ms.
    rtt: u64,
    /// Mbit/s.
    rate: u64,
    queue: usize,
    /// Per million.
    loss: u64,
    megabytes: u64,
    /// Mbit/s of gVisor, with the settings of the Go agent, as sender and receiver: medians of three
    /// runs in real time (handshake included, as here).
    theirs: f64,
}

const fn path(rtt: u64, rate: u64, queue: usize, loss: u64, megabytes: u64, theirs: f64) -> Path {
    Path { rtt, rate, queue, loss, megabytes, theirs }
}

const PATHS: [Path; 8] = [
    path(20, 200, 4096, 0, 32, 171.8),
    path(80, 200, 4096, 0, 32, 128.5),
    path(20, 200, 4096, 5_000, 8, 7.4),
    path(20, 200, 4096, 20_000, 4, 3.5),
    path(80, 200, 4096, 5_000, 4, 2.8),
    path(20, 100, 32, 0, 16, 28.8),
    path(20, 100, 512, 0, 16, 87.4),
    path(20, 500, 512, 0, 32, 130.5),
];

#[test]
fn no_path_is_slower_than_with_the_go_agents_stack() {
    for Path { rtt, rate, queue, loss, megabytes, theirs } in PATHS {
        let way = Way::new(rtt, rate, queue);
        let back = Way::new(rtt, 1000, 4096);
        let mut rates: Vec<f64> = (0..5)
            .map(|seed| {
                let configs = [sim::config(seed), sim::config(seed + 1)];
                let mut world = World::new([way.losing(loss), back], configs, seed);
                upload(&mut world, megabytes << 20, Duration::from_secs(600)) / 1e6
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let what = format!("{rtt} ms, {rate} Mbit/s, queue {queue}, loss {loss}");
        println!(
            "{what}: {:.1} Mbit/s, {:.2} of theirs ({rates:.1?})",
            rates[2],
            rates[2] / theirs
        );
        assert!(rates[2] >= theirs, "{what}: {rates:?}, theirs {theirs}");
    }
}
