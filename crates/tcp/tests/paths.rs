//! Goodput on the paths of the sender table, in virtual time.

mod sim;

use std::time::Duration;

use sim::{Way, World, upload};

/// Round trip in ms, Mbit/s, queue, loss per million, megabytes to send, least Mbit/s.
const PATHS: [(u64, u64, usize, u64, u64, f64); 8] = [
    (20, 1000, 4096, 0, 16, 200.0),
    (80, 1000, 4096, 0, 16, 50.0),
    (20, 1000, 4096, 5_000, 4, 8.0),
    (20, 1000, 4096, 20_000, 2, 4.0),
    (80, 1000, 4096, 5_000, 2, 2.0),
    (20, 100, 32, 0, 8, 60.0),
    (20, 100, 512, 0, 8, 60.0),
    (20, 500, 512, 0, 16, 200.0),
];

#[test]
fn each_path_has_its_goodput() {
    for (rtt, rate, queue, loss, megabytes, least) in PATHS {
        let way = Way::new(rtt, rate, queue);
        let back = Way::new(rtt, 1000, 4096);
        let mut rates: Vec<f64> = (0..3)
            .map(|seed| {
                let configs = [sim::config(seed), sim::config(seed + 1)];
                let mut world = World::new([way.losing(loss), back], configs, seed);
                upload(&mut world, megabytes << 20, Duration::from_secs(600)) / 1e6
            })
            .collect();
        println!("{rtt} ms, {rate} Mbit/s, queue {queue}, loss {loss}: {rates:.1?}");
        rates.sort_by(f64::total_cmp);
        assert!(rates[1] >= least, "{rtt} ms, queue {queue}, loss {loss}: {rates:?} < {least}");
    }
}
