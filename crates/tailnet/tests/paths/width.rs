//! How long datagrams are on a path that carries more than every path does, and what becomes of a
//! stream when the path carries less all at once.

use std::time::Duration;

use coderctl_tailnet::packet::{MTU, WIDEST};
use coderctl_tailnet::wg::{MAX_DATAGRAM, OVERHEAD};

use crate::internet::Internet;
use crate::sim::nat::Kind;

const LIMIT: Duration = Duration::from_secs(120);

/// Enough for windows to be worth long datagrams.
const BYTES: u64 = 6 << 20;

/// What passes within a machine.
const WITHIN: usize = 65_507;

fn internet(seed: u64, carries: usize) -> Internet {
    let mut net = Internet::new(seed, [Kind::PortRestricted, Kind::Restricted], 0);
    net.udp_carries = carries;
    net
}

#[test]
fn a_stream_has_datagrams_as_long_as_the_path_carries() {
    for (carries, longest) in [
        (MAX_DATAGRAM, MAX_DATAGRAM),
        (1424, 1424),
        (1472, 1424),
        (8972, 8912 + OVERHEAD),
        (WITHIN, WIDEST + OVERHEAD),
    ] {
        for refuses in [false, true] {
            let mut net = internet(1, carries);
            net.refuses = refuses;
            net.transfer(BYTES, LIMIT, |_| {});
            assert_eq!(net.longest[0], longest, "{carries}, refused: {refuses}");
        }
    }
}

#[test]
fn a_relay_carries_short_ones() {
    let mut net = internet(1, WITHIN);
    net.udp_blocked = true;
    net.transfer(BYTES, LIMIT, |_| {});
    assert_eq!(net.is_direct(), [false; 2]);
    assert_eq!(net.longest[1], MAX_DATAGRAM);
}

#[test]
fn who_sends_little_tries_nothing() {
    let mut net = internet(1, WITHIN);
    net.transfer(10_000, LIMIT, |_| {});
    assert!(net.longest.iter().all(|longest| *longest <= MAX_DATAGRAM), "{:?}", net.longest);
}

/// The longest time without progress of a stream on a path that carries this much, and less in
/// mid-stream.
fn narrowed(seed: u64, before: usize, after: usize, refuses: bool) -> Duration {
    let mut net = internet(seed, before);
    net.refuses = refuses;
    let mut longest = 0;
    let gap = net.transfer(BYTES, LIMIT, |net| {
        if longest == 0 && net.received() > BYTES / 2 {
            longest = net.longest[0];
            net.udp_carries = after;
        }
    });
    assert!(longest > 0, "seed {seed}");
    assert_eq!(net.is_direct(), [after >= MAX_DATAGRAM; 2], "seed {seed}");
    gap
}

#[test]
fn a_path_that_carries_less_in_mid_stream_costs_little_time() {
    for seed in 0..3 {
        for refuses in [false, true] {
            for after in [MAX_DATAGRAM, 1472] {
                let gap = narrowed(seed, WITHIN, after, refuses);
                // The probe for a lost tail comes after two round trips of 20 ms and some queue.
                assert!(gap <= Duration::from_millis(250), "seed {seed}, {after}: {gap:?}");
            }
            // Not even short ones pass, so it is a path that died.
            let short = narrowed(seed, MAX_DATAGRAM, 1200, refuses);
            let long = narrowed(seed, WITHIN, 1200, refuses);
            let limit = Duration::from_millis(1000).max(short);
            assert!(long <= limit, "seed {seed}: {long:?}, with short ones {short:?}");
        }
    }
}

#[test]
fn a_path_that_carries_more_again_is_found_out_with_the_next_path() {
    let mut net = internet(3, MTU + OVERHEAD);
    let mut widened = false;
    net.transfer(BYTES, LIMIT, |net| {
        if !widened && net.received() > BYTES / 4 {
            widened = true;
            net.udp_carries = WITHIN;
            net.plan(Duration::ZERO, crate::faults::Fault::MoveHost(1));
        }
    });
    assert_eq!(net.longest[0], WIDEST + OVERHEAD);
}
