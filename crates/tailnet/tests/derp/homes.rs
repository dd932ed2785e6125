//! Home by what is measured.

use std::time::Duration;

use coderctl_tailnet::derp::Status;
use tokio::time::sleep;

use crate::network::map;
use crate::region;
use crate::relays::{start, two_regions, until, us};

const NEAR: Duration = Duration::from_millis(5);
const FAR: Duration = Duration::from_millis(80);

#[tokio::test(start_paused = true)]
async fn it_begins_with_what_is_known_and_moves_to_the_nearest() {
    let (network, a, b) = two_regions();
    network.far("a", FAR);
    network.far("b", NEAR);
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    until(&relays, |status| status.home == Some(region(1)) && status.home_connected()).await;
    until(&relays, |status| status.home == Some(region(2)) && status.home_connected()).await;
    b.until_seen(&us(), Some(true)).await;
    a.until_seen(&us(), Some(false)).await;
    let measured = relays.status().borrow().latencies.clone();
    assert_eq!(measured, [(region(1), FAR), (region(2), NEAR)].into());
}

#[tokio::test(start_paused = true)]
async fn it_is_measured_again_and_again() {
    let (network, _a, b) = two_regions();
    network.far("a", NEAR);
    network.far("b", FAR);
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    until(&relays, |status| status.latencies.len() == 2).await;
    network.far("a", 2 * FAR);
    network.far("b", 2 * NEAR);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(relays.status().borrow().home, Some(region(1)));
    relays.measure();
    // What was good a minute ago still counts.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(relays.status().borrow().latencies[&region(1)], 2 * FAR);
    assert_eq!(relays.status().borrow().home, Some(region(1)));
    b.until_seen(&us(), Some(true)).await;
    assert_eq!(relays.status().borrow().home, Some(region(2)));
}

#[tokio::test(start_paused = true)]
async fn a_home_that_is_gone_is_left_for_one_that_answers() {
    let (network, a, b) = two_regions();
    network.far("a", NEAR);
    network.far("b", FAR);
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    until(&relays, |status| status.latencies.len() == 2).await;
    assert_eq!(relays.status().borrow().home, Some(region(1)));
    sleep(Duration::from_secs(30)).await;
    network.unmeasurable("a");
    network.remove("a");
    a.drop_all();
    let gone = tokio::time::Instant::now();
    b.until_seen(&us(), Some(true)).await;
    assert_eq!(relays.status().borrow().home, Some(region(2)));
    assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_it_stays_where_it_is() {
    let (network, _a, _b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(2));
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(relays.status().borrow().home, Some(region(2)));
    assert!(relays.status().borrow().latencies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_region_that_appears_may_become_home() {
    let (network, _a, b) = two_regions();
    network.far("a", FAR);
    network.far("b", NEAR);
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    until(&relays, Status::home_connected).await;
    sleep(Duration::from_secs(1000)).await;
    assert!(relays.status().borrow().latencies.is_empty(), "there was nothing to choose");
    relays.set_map(map(&[(1, &["a"]), (2, &["b"])]));
    b.until_seen(&us(), Some(true)).await;
}
