//! By which of two ways a relay is reached, and what is remembered of that.

use std::time::Duration;

use coderctl_tailnet::derp::Carrier::{self, Upgrade, WebSocket};
use coderctl_tailnet::derp::Status;
use tokio::time::sleep;

use crate::network::map;
use crate::region;
use crate::relays::{peer_key, settle, start, two_regions, until, us};

#[tokio::test(start_paused = true)]
async fn a_refused_upgrade_becomes_a_websocket_at_once_and_stays_one() {
    let (network, a, _b) = two_regions();
    network.refuse_upgrades("a", 426);
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    until(&relays, Status::home_connected).await;
    assert_eq!(network.carriers("a"), [Upgrade, WebSocket]);
    assert_eq!(network.dial_gaps("a"), [Duration::ZERO]);
    let why = relays.status().borrow().websocket[&region(1)].clone();
    assert_eq!(why, "the relay at a refused the connection (HTTP status 426)");

    a.drop_all();
    until(&relays, |status| !status.home_connected()).await;
    until(&relays, Status::home_connected).await;
    assert_eq!(network.carriers("a"), [Upgrade, WebSocket, WebSocket]);
    relays.try_send(region(2), &peer_key(), b"?").unwrap();
    until(&relays, |status| status.connected.contains(&region(2))).await;
    assert_eq!(network.carriers("b"), [Upgrade], "it is remembered for the one region alone");
    assert_eq!(relays.status().borrow().websocket.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_forgotten_with_the_relay() {
    let (network, a, _b) = two_regions();
    network.refuse_upgrades("a", 404);
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    until(&relays, Status::home_connected).await;
    network.relay("c", &a);
    relays.set_map(map(&[(1, &["c"])]));
    until(&relays, |status| status.websocket.is_empty() && status.home_connected()).await;
    assert_eq!(network.carriers("c"), [Upgrade]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_away_is_no_reason_for_a_websocket() {
    let (network, _a, _b) = two_regions();
    network.remove("a");
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    sleep(Duration::from_secs(10)).await;
    let carriers = network.carriers("a");
    assert!(carriers.len() > 5 && carriers.iter().all(|one| *one == Upgrade), "{carriers:?}");
    drop(relays);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_ends_in_silence_is_followed_by_a_websocket() {
    let (network, a, _b) = two_regions();
    network.silence("a");
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    while network.dials("a") < 3 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(network.carriers("a"), [Upgrade, WebSocket, Upgrade]);
    // The third dial is under way, and ends in silence too.
    network.relay("a", &a);
    until(&relays, Status::home_connected).await;
    assert_eq!(network.carriers("a"), [Upgrade, WebSocket, Upgrade, WebSocket]);
    let why = relays.status().borrow().websocket[&region(1)].clone();
    assert_eq!(why, "the relay did not answer within 10 s");
}

#[tokio::test(start_paused = true)]
async fn forced_it_is_websocket_from_then_on() {
    let (network, a, b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    until(&relays, Status::home_connected).await;
    relays.force_websocket(true);
    until(&relays, |status| status.home_connected() && !status.websocket.is_empty()).await;
    a.until_seen(&us(), Some(true)).await;
    relays.try_send(region(2), &peer_key(), b"?").unwrap();
    b.until_seen(&us(), Some(false)).await;
    let expected: [Carrier; 2] = [Upgrade, WebSocket];
    assert_eq!(
        (&network.carriers("a")[..], &network.carriers("b")[..]),
        (&expected[..], &[WebSocket][..])
    );

    relays.force_websocket(true);
    settle().await;
    assert_eq!(network.dials("a"), 2, "what is right is left alone");
}

#[tokio::test(start_paused = true)]
async fn forced_before_anything_is_dialled_nothing_is_upgraded() {
    let (network, a, _b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    relays.force_websocket(true);
    a.until_seen(&us(), Some(true)).await;
    assert_eq!(network.carriers("a"), [WebSocket]);
    let why = relays.status().borrow().websocket[&region(1)].clone();
    assert_eq!(why, "the deployment asks for it");
}
