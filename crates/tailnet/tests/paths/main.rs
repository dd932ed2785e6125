//! Two engines behind NATs of every kind find each other, in virtual time; a seed repeats a run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../sim/mod.rs"]
mod sim;

mod internet;
mod nat;

use std::time::Duration;

use internet::Internet;
use nat::Kind;

const KINDS: [Kind; 5] =
    [Kind::Open, Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric];

/// Whether two ends behind these can reach each other. A symmetric NAT maps each destination anew,
/// so the port that STUN saw is not the one a peer would have to know; that is no harm if the other
/// end lets in who comes from the right address.
fn can_meet(a: Kind, b: Kind) -> bool {
    let blind = |one, other| {
        one == Kind::Symmetric && matches!(other, Kind::PortRestricted | Kind::Symmetric)
    };
    !blind(a, b) && !blind(b, a)
}

#[test]
fn every_pair_of_nats_meets_that_can() {
    for a in KINDS {
        for b in KINDS {
            let mut net = Internet::new(7, [a, b], 0);
            net.transfer(200_000, Duration::from_secs(60), |_| {});
            let direct = net.is_direct();
            assert_eq!(direct, [can_meet(a, b); 2], "{a:?} and {b:?}");
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

#[test]
fn many_seeds_on_bad_networks() {
    for seed in 0..200 {
        let pair = [KINDS[seed as usize % 5], KINDS[(seed as usize / 5) % 5]];
        let mut net = Internet::new(seed, pair, 20_000);
        let gap = net.transfer(100_000, Duration::from_secs(300), |_| {});
        assert!(gap <= Duration::from_secs(20), "seed {seed}: {gap:?} without progress");
    }
}

#[test]
fn a_seed_repeats_its_run() {
    let run = |seed| {
        let mut net = Internet::new(seed, [Kind::FullCone, Kind::Symmetric], 20_000);
        net.transfer(300_000, Duration::from_secs(120), |_| {});
        (net.elapsed(), net.delivered)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
