//! Goodput on the paths of the sender table, in virtual time.

mod sim;

use std::time::Duration;

use coderctl_tcp::{Config, Congestion};
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

impl Path {
    /// Mbit/s of five seeds, in order, with this controller.
    #[allow(clippy::print_stdout, reason = "what `--nocapture` is for")]
    fn goodput(&self, congestion: Congestion) -> [f64; 5] {
        let way = Way::new(self.rtt, self.rate, self.queue).losing(self.loss);
        let back = Way::new(self.rtt, 1000, 4096);
        let mut rates = std::array::from_fn(|seed| {
            let seed = seed as u64;
            let configs = [seed, seed + 1].map(|seed| Config { congestion, ..sim::config(seed) });
            let mut world = World::new([way, back], configs, seed);
            upload(&mut world, self.megabytes << 20, Duration::from_secs(600)) / 1e6
        });
        rates.sort_by(f64::total_cmp);
        let what = self.name();
        println!("{what}: {rates:.1?} Mbit/s, {:.2} of theirs", rates[2] / self.theirs);
        rates
    }

    fn name(&self) -> String {
        let Self { rtt, rate, queue, loss, .. } = self;
        format!("{rtt} ms, {rate} Mbit/s, queue {queue}, loss {loss}")
    }
}

#[test]
fn no_path_is_slower_than_with_the_go_agents_stack() {
    for path in PATHS {
        let rates = path.goodput(Congestion::Cubic);
        assert!(rates[2] >= path.theirs, "{}: {rates:?}, theirs {}", path.name(), path.theirs);
    }
}

#[test]
fn the_second_controller_is_three_times_as_fast_where_packets_are_lost() {
    for path in PATHS.into_iter().filter(|path| path.loss > 0 && path.rtt == 20) {
        let rates = path.goodput(Congestion::Model);
        assert!(
            rates[2] >= 3.0 * path.theirs,
            "{}: {rates:?}, theirs {}",
            path.name(),
            path.theirs
        );
    }
}
