//! Several connections on one path: fairness, keystrokes beside bulk, memory, and the second
//! controller.

mod sim;

use std::time::Duration;

use coderctl_tcp::{Config, Congestion, Id};
use sim::{Application, Way, World};

/// Bytes that have arrived at the second host, for each connection.
fn arrived(world: &World) -> Vec<u64> {
    world.hosts[1].apps.values().map(|app| app.received).collect()
}

/// Some endless uploads, after a time.
fn uploads(world: &mut World, count: usize, time: Duration) -> Vec<u64> {
    for _ in 0..count {
        world.connect(Application { to_send: u64::MAX, ..Application::default() });
    }
    world.run(time, |_| false);
    arrived(world)
}

/// Jain's index: 1 if all are equal, 1 / n if one has all.
fn fairness(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|it| *it as f64).sum();
    let squares: f64 = shares.iter().map(|it| (*it as f64).powi(2)).sum();
    sum * sum / squares / shares.len() as f64
}

#[test]
fn ten_streams_share_a_way_and_use_it() {
    for (queue, in_flight) in [(512, Some(Config::IN_FLIGHT)), (512, None), (64, None)] {
        let path = Way::new(20, 100, queue);
        let limited = |key| Config { in_flight, ..sim::config(key) };
        let mut world = World::new([path; 2], [limited(1), limited(2)], 1);
        let time = Duration::from_secs(10);
        let shares = uploads(&mut world, 10, time);
        let rate = shares.iter().sum::<u64>() as f64 * 8.0 / time.as_secs_f64() / 1e6;
        println!("queue {queue}, {in_flight:?}: {rate:.1} Mbit/s, {:.2}", fairness(&shares));
        assert!(shares.len() == 10 && rate > 80.0, "queue {queue}: {rate} {shares:?}");
        assert!(fairness(&shares) > 0.7, "queue {queue}: {shares:?}");
    }
}

#[test]
fn what_is_under_way_stays_within_what_the_relay_holds() {
    // The relay queues 512 packets, and many streams with large windows must not overflow it.
    let path = Way::new(50, 200, 512);
    let limited = |key| Config { in_flight: Some(Config::IN_FLIGHT), ..sim::config(key) };
    let mut world = World::new([path; 2], [limited(1), limited(2)], 1);
    let shares = uploads(&mut world, 4, Duration::from_secs(5));
    let stats = world.hosts[0].tcp.stats();
    let rate = shares.iter().sum::<u64>() as f64 * 8.0 / 5.0 / 1e6;
    println!("{rate:.1} Mbit/s, {} again of {}", stats.retransmitted, stats.segments_out);
    assert!(rate > 150.0, "{rate}");
    assert!(stats.retransmitted * 100 < stats.segments_out, "{stats:?}");
}

/// The median time of an echo on a connection, of eleven.
fn echo(world: &mut World, id: Id) -> Duration {
    let mut times = Vec::new();
    for _ in 0..11 {
        let now = world.now;
        let host = &mut world.hosts[0];
        let app = host.apps.get_mut(&id).expect("it is there");
        app.to_send += 1;
        let wanted = app.received + 1;
        app.write(&mut host.tcp, id, now);
        let came = |world: &World| world.hosts[0].apps[&id].received == wanted;
        assert!(world.run(Duration::from_secs(10), came));
        times.push(world.now.since(now));
        world.run(Duration::from_millis(37), |_| false);
    }
    times.sort();
    times[5]
}

#[test]
fn an_echo_beside_an_upload_takes_less_than_three_times_as_long_as_alone() {
    // A network of a house, a far one, a slow one, and none at all: two processes of one machine.
    let near = Way { delay: Duration::from_micros(125), ..Way::new(0, 800, 512) };
    for path in [Way::new(2, 300, 512), Way::new(20, 100, 512), Way::new(40, 10, 512), near] {
        let limited = |key| Config { in_flight: Some(Config::IN_FLIGHT), ..sim::config(key) };
        let mut world = World::new([path; 2], [limited(1), limited(2)], 1);
        world.hosts[1].accepts = Application { echoes: true, ..Application::default() };
        let id = world.connect(Application::default());
        assert!(world.run(Duration::from_secs(1), |world| world.app(0).connected));
        let alone = echo(&mut world, id);
        world.hosts[1].accepts = Application::default();
        world.connect(Application { to_send: u64::MAX, ..Application::default() });
        world.run(Duration::from_secs(3), |_| false);
        let (began, before) = (world.now, arrived(&world).iter().sum::<u64>());
        let beside = echo(&mut world, id);
        let bytes = arrived(&world).iter().sum::<u64>() - before;
        let used = bytes as f64 * 8.0 / world.now.since(began).as_secs_f64() / path.rate as f64;
        println!("{path:?}: {alone:?} alone, {beside:?} beside, {used:.2} of the rate");
        assert!(beside < alone * 3, "{path:?}: {alone:?} alone, {beside:?} beside");
        assert!(used > 0.8, "{path:?}: {used}");
    }
}

#[test]
fn five_thousand_idle_connections_hold_next_to_nothing() {
    let mut world = World::same(Way::new(1, 1000, 100_000), 1);
    world.hosts[1].accepts = Application { echoes: true, ..Application::default() };
    for _ in 0..5000 {
        world.connect(Application { to_send: 100, ..Application::default() });
    }
    let all = |world: &World| world.hosts[0].apps.values().all(|app| app.received == 100);
    assert!(world.run(Duration::from_secs(10), all));
    assert!(world.hosts[0].tcp.memory() > 0);
    world.run(Duration::from_secs(5), |_| false);
    assert_eq!(world.hosts.each_ref().map(|host| host.tcp.memory()), [0, 0]);
    assert_eq!(world.hosts[0].tcp.connections(), 5000);
    // They wake up as if nothing had been.
    let now = world.now;
    let host = &mut world.hosts[0];
    for (id, app) in &mut host.apps {
        app.to_send += 10;
        app.write(&mut host.tcp, *id, now);
    }
    let all = |world: &World| world.hosts[0].apps.values().all(|app| app.received == 110);
    assert!(world.run(Duration::from_secs(10), all));
}

#[test]
fn buffers_stay_within_the_limit_of_the_process() {
    let path = Way::new(100, 1000, 10_000);
    let small = |key| Config { memory: 4 << 20, ..sim::config(key) };
    let mut world = World::new([path; 2], [small(1), small(2)], 1);
    world.hosts[1].accepts = Application { asleep: true, ..Application::default() };
    for _ in 0..50 {
        world.connect(Application { to_send: u64::MAX, ..Application::default() });
    }
    let mut most = [0; 2];
    world.run(Duration::from_secs(3), |world| {
        for (most, host) in most.iter_mut().zip(&world.hosts) {
            *most = host.tcp.memory().max(*most);
        }
        false
    });
    // What was offered before memory ran short is kept.
    assert!(most.iter().all(|it| *it < 8 << 20), "{most:?}");
}

fn model(key: u64) -> Config {
    Config { congestion: Congestion::Model, ..sim::config(key) }
}

#[test]
fn the_model_is_not_impressed_by_random_loss() {
    for loss in [5_000, 20_000] {
        let path = Way::new(20, 100, 512);
        let rate = |config: fn(u64) -> Config| {
            let mut world = World::new([path.losing(loss), path], [config(1), config(2)], 1);
            uploads(&mut world, 1, Duration::from_secs(5))[0] as f64 * 8.0 / 5.0 / 1e6
        };
        let (cubic, model) = (rate(sim::config), rate(model));
        println!("loss {loss}: CUBIC {cubic:.1}, model {model:.1} Mbit/s");
        assert!(model > 3.0 * cubic && model > 50.0, "loss {loss}: {cubic} {model}");
    }
}

#[test]
fn the_model_uses_a_clean_way_without_filling_its_queue() {
    for queue in [32, 512] {
        let path = Way::new(20, 100, queue);
        let mut world = World::new([path; 2], [model(1), model(2)], 1);
        let rate = uploads(&mut world, 1, Duration::from_secs(5))[0] as f64 * 8.0 / 5.0 / 1e6;
        let stats = world.hosts[0].tcp.stats();
        println!("queue {queue}: {rate:.1} Mbit/s, {} again", stats.retransmitted);
        assert!(rate > 70.0, "queue {queue}: {rate}");
    }
}

#[test]
fn neither_controller_starves_the_other() {
    for queue in [128, 512] {
        let path = Way::new(20, 100, queue);
        let mut world = World::new([path; 2], [sim::config(1), sim::config(2)], 1);
        // The upload of the first host has one controller, another one beside it has the other.
        let ids: Vec<Id> = [Congestion::Cubic, Congestion::Model]
            .into_iter()
            .map(|congestion| {
                world.hosts[0].tcp.set_congestion(congestion);
                world.connect(Application { to_send: u64::MAX, ..Application::default() })
            })
            .collect();
        world.run(Duration::from_secs(20), |_| false);
        let shares = arrived(&world);
        println!("queue {queue}: {ids:?} {shares:?}");
        let least = shares.iter().min().copied().unwrap_or(0);
        assert!(least * 10 > shares.iter().sum::<u64>(), "queue {queue}: {shares:?}");
    }
}
