//! Saying goodbye.

use std::time::Duration;

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::control::ControlEvent;
use proto::coordinate_response::peer_update::Kind;
use tokio::time::Instant;

use crate::coordinator::{next, start};
use crate::{Said, peer, update};

#[tokio::test(start_paused = true)]
async fn goodbye_is_said_and_its_answer_awaited() {
    let (control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    let closing = tokio::spawn(control.close());
    assert_eq!(link.hear().await, Said::Goodbye);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!closing.is_finished(), "the server has not ended the call yet");
    link.responses.close_send().await.unwrap();
    assert!(closing.await.unwrap());
    link.until_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left_after_a_second() {
    let (control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    let began = Instant::now();
    assert!(!control.close().await);
    assert_eq!(began.elapsed().as_millis(), 1000);
    assert_eq!(link.hear().await, Said::Goodbye);
    link.until_left().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_nobody_is_told() {
    let (control, _events, mut dials) = start(None);
    let _hanging = dials.next().await;
    let began = Instant::now();
    assert!(control.close().await);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn between_two_dials_nobody_is_told() {
    let (control, mut events, mut dials) = start(None);
    dials.next().await.refuse(502, "");
    assert!(matches!(next(&mut events).await, ControlEvent::Down(_)));
    let began = Instant::now();
    assert!(control.close().await);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_do_not_keep_us() {
    let (control, _events, mut dials) = start(None);
    control.add_tunnel(peer(1));
    let mut link = dials.next().await.accept().await;
    assert_eq!(link.hear().await, Said::Wants(peer(1)));
    for _ in 0..1000 {
        link.say(update(1, Kind::Node)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let closing = tokio::spawn(control.close());
    assert_eq!(link.hear().await, Said::Goodbye);
    link.responses.close_send().await.unwrap();
    assert!(closing.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_the_connection() {
    let (control, mut events, mut dials) = start(None);
    let link = dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    drop(control);
    link.until_left().await;
    assert!(events.recv().await.is_none());
}
