//! Long packets: where they are used, and what becomes of a connection whose way carries them no
//! more.
#![allow(clippy::unwrap_used, reason = "tests")]

mod sim;

use std::time::Duration;

use coderctl_tcp::{Config, MTU, WIDEST};
use sim::{Application, Random, Way, World};

const MS: fn(u64) -> Duration = Duration::from_millis;
const LIMIT: Duration = Duration::from_secs(60);

/// A way on which long packets are worth something.
fn way(mtu: usize) -> Way {
    Way::new(10, 10_000, 4096).carrying(mtu)
}

/// Ends of which the first takes no packet longer than this.
fn ends(widest: usize) -> [Config; 2] {
    [Config { widest, ..sim::config(1) }, sim::config(2)]
}

/// Sends so many bytes from the first to the second; the longest time without progress behind the
/// moment at which `act` did something.
fn send(world: &mut World, bytes: u64, mut act: impl FnMut(&mut World) -> bool) -> Duration {
    world.connect(Application::sending(bytes));
    let (mut acted, mut seen, mut last, mut longest) = (false, 0, world.now, Duration::ZERO);
    loop {
        let received: u64 = world.hosts[1].apps.values().map(|app| app.received).sum();
        if received > seen {
            if acted {
                longest = longest.max(world.now.since(last));
            }
            (seen, last) = (received, world.now);
        }
        if received == bytes {
            return longest;
        }
        if !acted {
            acted = act(world);
        }
        let mut one = 0;
        let done = world.run(LIMIT, |_| {
            one += 1;
            one == 2
        });
        assert!(done, "{received} of {bytes} bytes: {:?}", world.hosts[0].tcp);
    }
}

#[test]
fn packets_are_as_long_as_both_ends_and_the_way_allow() {
    for (widest, mtu, up) in [
        (WIDEST, WIDEST, WIDEST),
        (WIDEST, MTU, MTU),
        (WIDEST, 1392, 1392),
        (WIDEST, 8912, 8912),
        // Such as the Go agent.
        (MTU, WIDEST, MTU),
        (4000, WIDEST, 4000),
    ] {
        let [taker, sender] = ends(widest);
        let mut world = World::new([way(mtu); 2], [sender, taker], 1);
        send(&mut world, 8 << 20, |_| true);
        assert_eq!(world.links[0].longest, up, "{widest} {mtu}");
        assert!(world.links[1].longest <= MTU, "acknowledgements are short");
        assert_eq!((world.links[0].dropped, world.hosts[0].doubts), (0, 0), "{widest} {mtu}");
    }
}

#[test]
fn little_is_sent_in_short_packets() {
    let mut world = World::new([way(WIDEST); 2], ends(WIDEST), 1);
    send(&mut world, 10_000, |_| true);
    assert_eq!(world.links[0].longest, MTU, "the window is small in the beginning");
}

#[test]
fn a_way_that_carries_long_packets_no_more_costs_what_a_loss_costs() {
    for seed in 0..5 {
        let mut world = World::new([way(WIDEST); 2], ends(WIDEST), seed);
        let gap = send(&mut world, 16 << 20, |world| {
            let narrows = world.hosts[1].apps.values().any(|app| app.received > (4 << 20) + seed);
            if narrows {
                world.links[0].way.mtu = MTU;
            }
            narrows
        });
        assert!(world.hosts[0].doubts > 0, "seed {seed}: it was noticed");
        // A lost tail is found by a probe after two round trips, and all of it was lost.
        assert!(gap <= MS(60), "seed {seed}: {gap:?} without progress");
    }
}

#[test]
fn the_last_packets_may_be_the_ones_that_are_too_long() {
    for behind in (0..200_000).step_by(40_000) {
        let total = 8 << 20;
        let mut world = World::new([way(WIDEST); 2], ends(WIDEST), 1);
        let gap = send(&mut world, total, |world| {
            let sent: u64 = world.hosts[0].apps.values().map(|app| app.sent).sum();
            let narrows = sent + behind >= total;
            if narrows {
                world.links[0].way.mtu = MTU;
            }
            narrows
        });
        // The acknowledgement of a lone segment may be delayed by 200 ms (RFC 8985, 7.2).
        assert!(gap <= MS(300), "{behind}: {gap:?} without progress");
    }
}

#[test]
fn a_way_that_changes_its_mind_and_loses_and_reorders_delivers_every_byte() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let bad = Way {
            loss: random.below(20_000),
            overtaking: random.below(50_000),
            held: MS(random.below(10)),
            ..way(WIDEST)
        };
        let mut world = World::new([bad; 2], ends(WIDEST), seed);
        let mut next = 100_000;
        send(&mut world, 3 << 20, |world| {
            let received: u64 = world.hosts[1].apps.values().map(|app| app.received).sum();
            if received > next {
                next += 100_000;
                let mtus = [MTU, 1392, 8912, WIDEST];
                world.links[0].way.mtu = mtus[random.below(4) as usize];
            }
            false
        });
    }
}
