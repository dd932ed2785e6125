//! The cases.

use std::time::Duration;

use rustix::process::Signal;

use super::{
    link::LinkConfig,
    nat::Kind,
    network::Network,
    scene::{Way, turn},
};

const NAT: Kind = Kind::PortRestricted;

/// Where a case is not about that.
const USUAL: [Kind; 2] = [NAT, Kind::Restricted];

#[test]
fn every_pair_of_nats() {
    let Some(turn) = turn() else { return };
    for one in Kind::ALL {
        for other in Kind::ALL {
            let mut scene = turn.scene([one, other], None);
            let direct = one.meets(other);
            if direct {
                scene.wait_for_direct();
            }
            let exchange = scene.exchange();
            let seen = scene.finish(exchange);
            assert_eq!(seen.ways.contains(&Way::Direct), direct, "{one:?} and {other:?}");
        }
    }
}

#[test]
fn udp_blocked_from_the_start() {
    let Some(turn) = turn() else { return };
    let network = Network::new(USUAL, None);
    network.block_udp();
    let mut scene = turn.scene_on(network);
    let exchange = scene.exchange();
    let seen = scene.finish(exchange);
    assert!(!seen.ways.contains(&Way::Direct), "{seen:?}");
}

#[test]
fn udp_blocked_in_mid_stream() {
    let Some(turn) = turn() else { return };
    let mut scene = turn.scene(USUAL, None);
    scene.wait_for_direct();
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.network.block_udp();
    scene.wait_for_relay();
    let seen = scene.finish(exchange);
    seen.ended(Way::Relay);
    seen.paused_at_most(Duration::from_secs(3));
}

#[test]
fn udp_blocked_in_mid_stream_and_let_through_again() {
    let Some(turn) = turn() else { return };
    let mut scene = turn.scene(USUAL, None);
    scene.wait_for_direct();
    let exchange = scene.exchange();
    exchange.wait_for(0.1);
    scene.network.block_udp();
    scene.wait_for_relay();
    scene.network.unblock_udp();
    scene.wait_for_direct();
    let seen = scene.finish(exchange);
    seen.ended(Way::Direct);
    seen.paused_at_most(Duration::from_secs(3));
}

#[test]
fn a_frozen_relay_on_a_direct_path() {
    let Some(turn) = turn() else { return };
    let mut scene = turn.scene(USUAL, None);
    scene.wait_for_direct();
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.server.signal(Signal::STOP);
    let seen = scene.finish(exchange);
    seen.ended(Way::Direct);
    seen.paused_at_most(Duration::from_secs(1));
}

#[test]
fn a_killed_relay_on_a_direct_path() {
    let Some(turn) = turn() else { return };
    let mut scene = turn.scene(USUAL, None);
    scene.wait_for_direct();
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.server.kill();
    let seen = scene.finish(exchange);
    seen.ended(Way::Direct);
    seen.paused_at_most(Duration::from_secs(1));
}

#[test]
fn a_relay_that_freezes_for_a_while() {
    let Some(turn) = turn() else { return };
    let network = Network::new(USUAL, None);
    network.block_udp();
    let mut scene = turn.scene_on(network);
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.server.signal(Signal::STOP);
    exchange.wait_for_silence(Duration::from_secs(5));
    scene.server.signal(Signal::CONT);
    let seen = scene.finish(exchange);
    seen.paused_at_most(Duration::from_secs(15));
}

#[test]
fn a_relay_that_is_killed_and_comes_back() {
    let Some(turn) = turn() else { return };
    let network = Network::new(USUAL, None);
    network.block_udp();
    let mut scene = turn.scene_on(network);
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.server.kill();
    exchange.wait_for_silence(Duration::from_secs(2));
    scene.server.restart(&scene.network.server);
    let seen = scene.finish(exchange);
    seen.paused_at_most(Duration::from_secs(20));
}

#[test]
fn an_interface_that_comes_back_with_another_address() {
    let Some(turn) = turn() else { return };
    for kinds in [USUAL, [Kind::Open; 2], [Kind::Firewall, Kind::Symmetric]] {
        for who in [0, 1] {
            let mut scene = turn.scene(kinds, None);
            let direct = kinds[0].meets(kinds[1]);
            if direct {
                scene.wait_for_direct();
            }
            let exchange = scene.exchange();
            exchange.wait_for(0.1);
            scene.network.sites[who].move_to(7);
            let seen = scene.finish(exchange);
            seen.ended(if direct { Way::Direct } else { Way::Relay });
            seen.paused_at_most(Duration::from_secs(10));
        }
    }
}

#[test]
fn an_interface_that_comes_back_with_another_address_where_there_are_relays_only() {
    let Some(turn) = turn() else { return };
    let turn = turn.without_direct_paths();
    for who in [0, 1] {
        let mut scene = turn.scene(USUAL, None);
        let exchange = scene.exchange();
        exchange.wait_for(0.1);
        scene.network.sites[who].move_to(7);
        let seen = scene.finish(exchange);
        assert!(!seen.ways.contains(&Way::Direct), "{seen:?}");
        seen.paused_at_most(Duration::from_secs(10));
    }
}

#[test]
fn two_percent_loss_with_reordering() {
    let Some(turn) = turn() else { return };
    let link = LinkConfig::delay(Duration::from_millis(5))
        .jitter(Duration::from_millis(2))
        .loss(20_000)
        .queue(1000);
    let mut scene = turn.scene(USUAL, Some(link));
    scene.wait_for_direct();
    let exchange = scene.exchange();
    let seen = scene.finish(exchange);
    seen.ended(Way::Direct);
    seen.paused_at_most(Duration::from_secs(10));
}

#[test]
fn a_slow_link_with_a_short_queue() {
    let Some(turn) = turn() else { return };
    let link = LinkConfig::delay(Duration::from_millis(10)).rate(100_000_000).queue(64);
    let mut scene = turn.scene(USUAL, Some(link));
    scene.wait_for_direct();
    let exchange = scene.exchange();
    let seen = scene.finish(exchange);
    seen.ended(Way::Direct);
    seen.paused_at_most(Duration::from_secs(10));
}

/// Packets of 1,280 bytes in the tunnel do not fit, so no ping of full size proves a direct path.
#[test]
fn an_mtu_of_1200_bytes() {
    let Some(turn) = turn() else { return };
    let network = Network::new(USUAL, None);
    network.set_mtu(1200);
    let mut scene = turn.scene_on(network);
    let exchange = scene.exchange();
    let seen = scene.finish(exchange);
    assert!(!seen.ways.contains(&Way::Direct), "{seen:?}");
}

#[test]
fn an_mtu_that_shrinks_in_mid_stream() {
    let Some(turn) = turn() else { return };
    let mut scene = turn.scene(USUAL, None);
    scene.wait_for_direct();
    let exchange = scene.exchange();
    exchange.wait_for(0.25);
    scene.network.set_mtu(1200);
    scene.wait_for_relay();
    let seen = scene.finish(exchange);
    seen.ended(Way::Relay);
    seen.paused_at_most(Duration::from_secs(3));
}
