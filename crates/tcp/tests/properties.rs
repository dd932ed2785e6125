//! What holds on every path: each byte arrives once and in order, or the connection ends with an
//! error; something is always waited for; and it never takes forever.

mod sim;

use std::time::Duration;

use coderctl_tcp::{CloseReason, Config, Congestion};
use sim::{Application, Random, Way, World, seeds};

/// A direction that does anything a network does, within reason.
fn way(random: &mut Random) -> Way {
    let queue = if random.below(2) == 0 { 32 } else { 512 };
    let way = Way::new(1 + random.below(150), 1 + random.below(200), queue);
    let mut chance = |most| if random.below(2) == 0 { 0 } else { random.below(most) };
    Way {
        loss: chance(50_000),
        doubling: chance(20_000),
        damage: chance(20_000),
        overtaking: chance(100_000),
        held: Duration::from_millis(chance(30)),
        ..way
    }
}

fn config(random: &mut Random) -> Config {
    let key = random.next();
    Config {
        timestamps: random.below(4) > 0,
        congestion: match random.below(4) {
            0 => Congestion::Model,
            _ => Congestion::Cubic,
        },
        in_flight: (random.below(2) == 0).then_some(Config::IN_FLIGHT),
        ..sim::config(key)
    }
}

#[test]
fn each_byte_arrives_once_and_in_order_whatever_the_path_does() {
    for seed in 0..seeds(150) {
        let mut random = Random(seed);
        let ways = [way(&mut random), way(&mut random)];
        let configs = [config(&mut random), config(&mut random)];
        let mut world = World::new(ways, configs, seed);
        let (up, down) = (random.below(300_000), random.below(300_000));
        world.hosts[1].accepts = Application::sending(down);
        world.connect(Application::sending(up));
        let done = world.run(Duration::from_secs(300), |world| {
            world.hosts.iter().all(|host| {
                !host.apps.is_empty() && host.apps.values().all(|app| app.ended.is_some())
            })
        });
        let apps: Vec<_> = world.hosts.iter().flat_map(|host| host.apps.values()).collect();
        assert!(
            done,
            "seed {seed}: {ways:?} {apps:?} {:?}",
            world.hosts.each_ref().map(|it| &it.tcp)
        );
        let [ours, theirs] = apps[..] else { panic!("seed {seed}: {apps:?}") };
        assert_eq!(ours.ended, Some(CloseReason::Finished), "seed {seed}: {ways:?}");
        assert_eq!((ours.received, theirs.received), (down, up), "seed {seed}");
    }
}

#[test]
fn a_path_that_jumps_or_stops_for_a_while_goes_on() {
    for seed in 0..seeds(60) {
        let mut random = Random(seed);
        let ways = [way(&mut random), way(&mut random)];
        let mut world = World::new(ways, [config(&mut random), config(&mut random)], seed);
        let bytes = 400_000;
        world.hosts[1].accepts = Application { closes: true, ..Application::default() };
        world.connect(Application::sending(bytes));
        let arrived = |world: &World| world.hosts[1].apps.values().any(|app| app.received == bytes);
        for _ in 0..4 {
            let time = Duration::from_millis(random.below(400));
            if world.run(time, arrived) {
                break;
            }
            let outage = random.below(2) == 0;
            for (link, before) in world.links.iter_mut().zip(ways) {
                // Now a direct way, now a relay, now none.
                link.way = way(&mut random);
                link.way.loss = if outage { 1_000_000 } else { before.loss };
            }
        }
        for (link, before) in world.links.iter_mut().zip(ways) {
            link.way = before;
        }
        let done = world.run(Duration::from_secs(300), arrived);
        assert!(done, "seed {seed}: {ways:?} {:?} {:?}", world.app(0), world.hosts[0].tcp);
    }
}

#[test]
fn a_path_that_ends_ends_the_connection() {
    for seed in 0..seeds(40) {
        let mut random = Random(seed);
        let ways = [way(&mut random), way(&mut random)];
        let mut world = World::new(ways, [config(&mut random), config(&mut random)], seed);
        world.hosts[1].accepts =
            Application { asleep: random.below(2) == 0, ..Application::default() };
        world.connect(Application::sending(10_000_000));
        world.run(Duration::from_millis(random.below(3000)), |_| false);
        for link in &mut world.links {
            link.way.loss = 1_000_000;
        }
        let done = world.run(Duration::from_secs(400), |world| {
            let mut apps = world.hosts.iter().flat_map(|host| host.apps.values());
            apps.all(|app| app.ended.is_some())
        });
        let apps: Vec<_> = world.hosts.iter().flat_map(|host| host.apps.values()).collect();
        assert!(done, "seed {seed}: {ways:?} {apps:?}");
        assert!(apps.iter().all(|app| app.ended == Some(CloseReason::TimedOut)), "{apps:?}");
    }
}

#[test]
fn goodput_has_a_floor() {
    for seed in 0..seeds(20) {
        let mut random = Random(seed);
        let rate = 5 + random.below(100);
        let rtt = 2 + random.below(100);
        let queue = if random.below(2) == 0 { 32 } else { 512 };
        let path = Way::new(rtt, rate, queue);
        let mut world = World::same(path, seed);
        let bytes = 4 << 20;
        let goodput = sim::upload(&mut world, bytes, Duration::from_secs(120)) / 1e6;
        // Half the rate, apart from the time that slow start takes: some round trips.
        let ideal = bytes as f64 * 8.0 / 1e6 / rate as f64;
        let floor = bytes as f64 * 8.0 / 1e6 / (2.0 * ideal + 20.0 * rtt as f64 / 1000.0);
        assert!(
            goodput >= floor,
            "seed {seed}: {rate} Mbit/s, {rtt} ms, {queue}: {goodput} < {floor}"
        );
    }
}
