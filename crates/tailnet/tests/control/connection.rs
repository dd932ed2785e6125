//! Dialling, serving, dialling anew.

use std::sync::Arc;
use std::time::Duration;

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::control::{ControlEvent, DialFailure, Down};
use coderctl_tailnet::coordinate::PeerUpdate;
use proto::coordinate_response::peer_update::Kind;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::coordinator::{next, start};
use crate::{Said, node, peer, update};

#[tokio::test(start_paused = true)]
async fn a_session_from_dial_to_ready() {
    let (control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    assert!(link.is_silent().await, "nothing is wanted yet");

    control.add_tunnel(peer(1));
    assert_eq!(link.hear().await, Said::Wants(peer(1)));
    link.say(update(1, Kind::Node)).await;
    let ControlEvent::Peer(PeerUpdate::Node(id, heard)) = next(&mut events).await else {
        panic!("not a node");
    };
    assert_eq!((id, *heard), (peer(1), node(1)));

    control.set_node(node(9));
    assert_eq!(link.hear().await, Said::Node(Box::new(node(9))));
    link.say(update(1, Kind::ReadyForHandshake)).await;
    let ready = next(&mut events).await;
    assert!(matches!(ready, ControlEvent::Peer(PeerUpdate::Ready(id)) if id == peer(1)));

    control.remove_tunnel(peer(1));
    assert_eq!(link.hear().await, Said::WantsNoMore(peer(1)));
    let gone = next(&mut events).await;
    assert!(matches!(gone, ControlEvent::Peer(PeerUpdate::Gone(id)) if id == peer(1)));
}

#[tokio::test(start_paused = true)]
async fn maps_are_rewritten_and_bad_ones_skipped() {
    let (_control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    let map = |id: i64| {
        let relay = proto::derp_map::region::Node {
            name: "b".to_owned(),
            host_name: "inside.test".to_owned(),
            ..Default::default()
        };
        let region = proto::derp_map::Region {
            region_id: id,
            embedded_relay: true,
            nodes: vec![relay],
            ..Default::default()
        };
        proto::DerpMap { home_params: None, regions: [(id, region)].into() }
    };
    link.maps.send(&map(-1)).await.unwrap();
    link.maps.send(&map(999)).await.unwrap();
    let ControlEvent::DerpMap(map) = next(&mut events).await else { panic!("not a map") };
    let relay = map.regions.values().next().unwrap().relays().next().unwrap();
    assert_eq!(relay.url().unwrap().to_string(), "https://coder.test/derp");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_dialled_anew_and_everything_said_again() {
    let (control, mut events, mut dials) = start(Some(node(9)));
    control.add_tunnel(peer(1));
    let mut link = dials.next().await.accept().await;
    assert_eq!(link.hear().await, Said::Wants(peer(1)));
    assert_eq!(link.hear().await, Said::Node(Box::new(node(9))));
    link.say(update(1, Kind::Node)).await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    assert!(matches!(next(&mut events).await, ControlEvent::Peer(PeerUpdate::Node(..))));

    drop(link);
    assert!(
        matches!(next(&mut events).await, ControlEvent::Peer(PeerUpdate::Lost(id)) if id == peer(1))
    );
    assert!(matches!(next(&mut events).await, ControlEvent::Down(_)));
    control.add_tunnel(peer(2));
    let mut link = dials.next().await.accept().await;
    assert_eq!(link.hear().await, Said::Wants(peer(1)));
    assert_eq!(link.hear().await, Said::Wants(peer(2)));
    assert_eq!(link.hear().await, Said::Node(Box::new(node(9))));
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
}

#[tokio::test(start_paused = true)]
async fn the_calls_share_their_fate() {
    for maps in [true, false] {
        let (_control, mut events, mut dials) = start(None);
        let mut link = dials.next().await.accept().await;
        assert!(matches!(next(&mut events).await, ControlEvent::Connected));
        if maps {
            link.maps.close_send().await.unwrap();
        } else {
            link.responses.close_send().await.unwrap();
        }
        let ControlEvent::Down(down) = next(&mut events).await else { panic!("not down") };
        assert!(matches!(down, Down::Ended), "{down}");
        dials.next().await.accept().await;
    }
}

#[tokio::test(start_paused = true)]
async fn delays_between_dials_grow() {
    let (_control, mut events, mut dials) = start(None);
    let mut times = Vec::new();
    for _ in 0..16 {
        let dialed = dials.next().await;
        times.push(dialed.at);
        dialed.refuse(502, "Bad Gateway");
        assert!(matches!(next(&mut events).await, ControlEvent::Down(Down::Dial(_))));
    }
    let gaps: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps[..5], [81, 131, 212, 343, 555]);
    assert_eq!(gaps[12..], [10_000; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_good_connection_starts_the_delays_over_and_a_short_one_does_not() {
    let (_control, mut events, mut dials) = start(None);
    let mut ended = None;
    let mut delays = Vec::new();
    for alive in [10, 10, 60_000, 10] {
        let dialed = dials.next().await;
        delays.extend(ended.map(|ended: Instant| (dialed.at - ended).as_millis()));
        let link = dialed.accept().await;
        assert!(matches!(next(&mut events).await, ControlEvent::Connected));
        tokio::time::sleep(Duration::from_millis(alive)).await;
        drop(link);
        assert!(matches!(next(&mut events).await, ControlEvent::Down(_)));
        ended = Some(Instant::now());
    }
    assert_eq!(delays, [81, 131, 81]);
}

#[tokio::test(start_paused = true)]
async fn on_another_network_a_dial_is_repeated_at_once() {
    let (control, mut events, mut dials) = start(None);
    for _ in 0..16 {
        dials.next().await.refuse(502, "Bad Gateway");
        assert!(matches!(next(&mut events).await, ControlEvent::Down(Down::Dial(_))));
    }
    let changed = Instant::now();
    control.network_changed();
    // Nor is the answer to one waited for that was made before.
    let unanswered = dials.next().await;
    assert_eq!(unanswered.at, changed);
    control.network_changed();
    let dialed = dials.next().await;
    assert_eq!(dialed.at, changed);
    dialed.refuse(502, "Bad Gateway");
    assert_eq!((dials.next().await.at - changed).as_millis(), 81, "the delays begin anew");
}

#[tokio::test(start_paused = true)]
async fn on_another_network_a_connection_proves_that_it_lives_or_is_made_anew() {
    let (control, mut events, mut dials) = start(None);
    let frozen = Arc::new(Notify::new());
    let mut link = dials.next().await.accept_over(&frozen).await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    for _ in 0..3 {
        control.network_changed();
        assert!(link.is_silent().await, "it is kept");
    }
    frozen.notify_one();
    let changed = Instant::now();
    control.network_changed();
    assert!(matches!(next(&mut events).await, ControlEvent::Down(Down::Silent)));
    assert_eq!(changed.elapsed().as_secs(), 2);
    dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
}

#[tokio::test(start_paused = true)]
async fn the_first_dial_may_be_refused_for_good() {
    let (_control, mut events, mut dials) = start(None);
    let body = r#"{"message":"Resource not found or you do not have access to this resource"}"#;
    dials.next().await.refuse(404, body);
    let ControlEvent::Refused(error) = next(&mut events).await else { panic!("not refused") };
    assert_eq!(
        error.to_string(),
        "the coordinator answered with HTTP status 404: Resource not found or you do not have access to this resource"
    );
    assert!(events.recv().await.is_none(), "the last event");
}

#[tokio::test(start_paused = true)]
async fn a_later_refusal_is_only_an_outage() {
    let (_control, mut events, mut dials) = start(None);
    drop(dials.next().await.accept().await);
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    assert!(matches!(next(&mut events).await, ControlEvent::Down(_)));
    dials.next().await.refuse(404, "{}");
    let ControlEvent::Down(Down::Dial(error)) = next(&mut events).await else { panic!("not down") };
    assert_eq!(error.failure, DialFailure::Refused);
    dials.next().await.accept().await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_is_given_up() {
    let (_control, mut events, mut dials) = start(None);
    let _hanging = dials.next().await;
    let began = Instant::now();
    assert!(matches!(next(&mut events).await, ControlEvent::Down(Down::Dial(_))));
    assert_eq!(began.elapsed().as_secs(), 30);
    dials.next().await.accept().await;
}

#[tokio::test(start_paused = true)]
async fn the_resume_token_is_offered_until_it_is_refused() {
    let (_control, mut events, mut dials) = start(None);
    let dialed = dials.next().await;
    assert_eq!(dialed.resume, None);
    let mut link = dialed.accept().await;
    link.refreshed.recv().await.unwrap();
    settled(&mut events).await;
    drop(link);

    let dialed = dials.next().await;
    assert_eq!(dialed.resume.as_ref().unwrap().expose(), "token 1");
    let body = r#"{"message":"Invalid resume token","validations":[{"field":"resume_token","detail":"x"}]}"#;
    dialed.refuse(401, body);
    assert_eq!(dials.next().await.resume, None);
}

#[tokio::test(start_paused = true)]
async fn the_resume_token_is_refreshed_in_time() {
    let (_control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept_with(Some(Duration::from_secs(600))).await;
    let first = link.refreshed.recv().await.unwrap();
    let second = link.refreshed.recv().await.unwrap();
    assert_eq!((second - first).as_secs(), 600);
    settled(&mut events).await;
    drop(link);
    assert_eq!(dials.next().await.resume.unwrap().expose(), "token 2");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_at_once_is_a_refresh_after_half_an_hour() {
    let (_control, _events, mut dials) = start(None);
    let mut link = dials.next().await.accept_with(Some(Duration::ZERO)).await;
    let first = link.refreshed.recv().await.unwrap();
    let second = link.refreshed.recv().await.unwrap();
    assert_eq!((second - first).as_secs(), 1800);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_resume_tokens_is_fine() {
    let (control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept_with(None).await;
    link.refreshed.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    control.add_tunnel(peer(1));
    assert_eq!(link.hear().await, Said::Wants(peer(1)));
    assert!(link.refreshed.try_recv().is_err(), "asked once");
    settled(&mut events).await;
    drop(link);
    assert_eq!(dials.next().await.resume, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_loses_nothing() {
    let (_control, mut events, mut dials) = start(None);
    let mut link = dials.next().await.accept().await;
    let talk = tokio::spawn(async move {
        for _ in 0..1000 {
            link.say(update(1, Kind::Node)).await;
        }
        link
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(next(&mut events).await, ControlEvent::Connected));
    for _ in 0..1000 {
        assert!(matches!(next(&mut events).await, ControlEvent::Peer(PeerUpdate::Node(..))));
    }
    drop(talk.await.unwrap());
}

/// Lets the client do what it has to, and takes the events.
async fn settled(events: &mut mpsc::Receiver<ControlEvent>) {
    tokio::time::sleep(Duration::from_millis(10)).await;
    while events.try_recv().is_ok() {}
}
