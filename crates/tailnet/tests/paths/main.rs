//! Two engines behind NATs of every kind find each other, in virtual time; a seed repeats a run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../sim/mod.rs"]
mod sim;

mod faults;
mod internet;
mod nat;
mod width;

use std::time::Duration;

use coderctl_tailnet::ids::RegionId;
use faults::Fault;
use internet::Internet;
use sim::link::Rng;
use sim::nat::Kind;

#[test]
fn every_pair_of_nats_meets_that_can() {
    for a in Kind::ALL {
        for b in Kind::ALL {
            let mut net = Internet::new(7, [a, b], 0);
            net.transfer(200_000, Duration::from_secs(60), |_| {});
            let direct = net.is_direct();
            assert_eq!(direct, [a.meets(b); 2], "{a:?} and {b:?}");
        }
    }
}

#[test]
fn a_path_that_dies_in_mid_stream_costs_no_byte_and_little_time() {
    for seed in 0..20 {
        let mut net = Internet::new(seed, [Kind::PortRestricted, Kind::Restricted], 0);
        let mut died = false;
        let gap = net.transfer(4_000_000, Duration::from_secs(120), |net| {
            if !died && net.received() > 1_000_000 {
                assert_eq!(net.is_direct(), [true; 2]);
                died = true;
                net.udp_blocked = true;
            }
        });
        assert!(died);
        assert_eq!(net.is_direct(), [false; 2], "seed {seed}");
        // Both ways are in use after 400 ms of silence, and what was lost is repeated at once.
        assert!(gap <= Duration::from_millis(1000), "seed {seed}: {gap:?} without progress");
    }
}

/// Bytes of a seed's run: enough for a few round trips between any two faults.
const BYTES: u64 = 60_000;

/// Every pair of NATs in turn, no loss or some, and faults of the seed's own choice.
fn run(seed: u64) -> (Duration, Duration, u64) {
    let kinds = Kind::ALL.len() as u64;
    let pair = [seed % kinds, seed / kinds % kinds].map(|kind| Kind::ALL[kind as usize]);
    let mut rng = Rng(seed ^ 0x5eed);
    let loss = [0, 10_000, 50_000][rng.below(3) as usize];
    let mut net = Internet::new(seed, pair, loss);
    let plan = faults::plan(&mut net, &mut rng);
    net.pace(BYTES, Duration::from_secs(6));
    let gap = net.transfer(BYTES, Duration::from_secs(300), |_| {});
    // Both ways may be gone one outage after the other, and TCP is late to notice that they are back.
    let limit = 4 * faults::OUTAGE + Duration::from_secs(12);
    assert!(gap <= limit, "seed {seed}, {pair:?}, {plan:?}: {gap:?} without progress");
    (net.elapsed(), gap, net.delivered)
}

#[test]
fn a_thousand_seeds_of_faults_cost_no_byte() {
    for seed in 0..1000 {
        run(seed);
    }
}

#[test]
fn a_seed_repeats_its_run() {
    let all = |seeds: std::ops::Range<u64>| seeds.map(run).collect::<Vec<_>>();
    assert_eq!(all(0..20), all(0..20));
    assert_ne!(all(0..20), all(36..56));
}

/// Each fault alone, in mid-stream of a direct path that can be found again.
#[test]
fn one_fault_at_a_time_costs_little_time() {
    let usual = sim::peer::region();
    let ms = Duration::from_millis;
    let cases = [
        ("a relay that dies is not missed", vec![Fault::KillRelay(usual)], ms(500)),
        ("nor is one that freezes", vec![Fault::FreezeRelay(usual)], ms(500)),
        ("another home", vec![Fault::MoveHome(1, RegionId::new(998).unwrap())], ms(500)),
        ("the sender moves", vec![Fault::MoveHost(0)], ms(3500)),
        ("the receiver moves", vec![Fault::MoveHost(1)], ms(3500)),
        ("both move", vec![Fault::MoveHost(0), Fault::MoveHost(1)], ms(3500)),
        ("UDP is blocked", vec![Fault::BlockUdp], ms(3500)),
    ];
    for (what, faults, limit) in cases {
        for seed in 0..10 {
            let mut net = Internet::new(seed, [Kind::PortRestricted, Kind::Restricted], 0);
            for fault in &faults {
                net.plan(Duration::from_secs(3), *fault);
            }
            net.pace(BYTES, Duration::from_secs(9));
            let gap = net.transfer(BYTES, Duration::from_secs(60), |_| {});
            assert!(gap <= limit, "{what}, seed {seed}: {gap:?} without progress");
            assert_eq!(net.is_direct(), [faults != [Fault::BlockUdp]; 2], "{what}, seed {seed}");
        }
    }
}
