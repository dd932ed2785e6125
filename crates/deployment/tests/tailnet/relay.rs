//! The relay.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use coderctl_deployment::relay::{Ended, Everybody, Limits, Relay, Settings};
use coderctl_tailnet::{
    derp::{
        Event, Frame, PeerGone, Relays,
        frame::{MAX_PACKET, put_send_packet},
        login::{self, ClientInfo},
    },
    ids::RegionId,
    keys::NodePublic,
};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{Local, Raw, client, key, map, packets, relay, soon};

/// A packet that looks like disco.
fn disco() -> Vec<u8> {
    let mut packet = vec![0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
    packet.resize(100, 9);
    packet
}

fn sent(to: &NodePublic, packet: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    put_send_packet(&mut bytes, to, packet).unwrap();
    bytes
}

/// Waits until the relay sees so many connections.
async fn until_connected(relay: &Relay, count: usize) {
    soon(async {
        while relay.stats().connections != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn packets_of_every_size_arrive_in_order() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let (one, mut two) = (client(&relay, &a).await, client(&relay, &b).await);
    let sizes = [0, 1, 37, 1312, 1400, MAX_PACKET - 1, MAX_PACKET, 3];
    let mut out = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        while one.try_send(&b.public(), &vec![number as u8; *size]).is_err() {
            one.writable().await;
        }
        if out.len() <= number {
            out.extend(packets(&mut two).await);
        }
    }
    while out.len() < sizes.len() {
        out.extend(packets(&mut two).await);
    }
    for ((number, size), (from, packet)) in sizes.iter().enumerate().zip(out) {
        assert_eq!((from, packet), (a.public(), vec![number as u8; *size]));
    }
}

#[tokio::test]
async fn the_relays_of_a_client_work_with_it() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let start = |key| {
        let home = Some(RegionId::EMBEDDED);
        Relays::start(Arc::new(Local(relay.clone())), map(), key, home)
    };
    let (mut one, mut two) = (start(a.clone()), start(b.clone()));
    for relays in [&one, &two] {
        let mut status = relays.status();
        soon(status.wait_for(|status| status.home_connected())).await.unwrap();
    }
    one.try_send(RegionId::EMBEDDED, &b.public(), b"question").unwrap();
    let mut batch = Vec::new();
    soon(two.recv_batch(&mut batch)).await;
    assert_eq!((batch[0].from, &batch[0].payload[..]), (a.public(), &b"question"[..]));
    two.try_send(RegionId::EMBEDDED, &a.public(), b"answer").unwrap();
    batch.clear();
    soon(one.recv_batch(&mut batch)).await;
    assert_eq!((batch[0].from, &batch[0].payload[..]), (b.public(), &b"answer"[..]));
}

#[tokio::test]
async fn without_a_tunnel_nothing_passes() {
    let (relay, table) = relay(Limits::default());
    let (agent, owner, other) = (key(1), key(2), key(3));
    table.join(agent.public(), owner.public());
    table.know(other.public());
    let mut reached = client(&relay, &agent).await;
    let mut stranger = Raw::login(&relay, &other).await;
    stranger.bytes(&sent(&agent.public(), b"let me in")).await;
    stranger.bytes(&sent(&agent.public(), &disco())).await;
    // To the stranger it looks as if the agent were not here.
    let absent = |peer| Frame::PeerGone { peer, reason: PeerGone::NotHere };
    assert_eq!(stranger.frame().await, Some(absent(agent.public())));
    stranger.bytes(&sent(&key(9).public(), &disco())).await;
    assert_eq!(stranger.frame().await, Some(absent(key(9).public())));
    // And the agent cannot answer one whom it does not know.
    reached.try_send(&other.public(), b"who is it?").unwrap();
    let owner_client = client(&relay, &owner).await;
    owner_client.try_send(&agent.public(), b"it is me").unwrap();
    assert_eq!(packets(&mut reached).await, [(owner.public(), b"it is me".to_vec())]);
    stranger.say(&Frame::Ping(*b"anything")).await;
    assert_eq!(stranger.frame().await, Some(Frame::Pong(*b"anything")));
    let stats = relay.stats();
    assert_eq!((stats.passed, stats.refused, stats.absent), (1, 4, 0));
}

#[tokio::test]
async fn a_tunnel_opens_and_closes_the_way_at_once() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.know(a.public());
    table.know(b.public());
    let mut one = Raw::login(&relay, &a).await;
    let mut two = Raw::login(&relay, &b).await;
    // A ping behind a packet says that the packet was handled.
    let mut send = async |packet: &[u8]| {
        one.bytes(&sent(&b.public(), packet)).await;
        one.say(&Frame::Ping(*b"12345678")).await;
        while one.frame().await != Some(Frame::Pong(*b"12345678")) {}
    };
    send(b"early").await;
    table.join(a.public(), b.public());
    send(b"now").await;
    table.part(a.public(), b.public());
    send(b"late").await;
    table.join(a.public(), b.public());
    send(b"again").await;
    for right in [&b"now"[..], b"again"] {
        let Some(Frame::RecvPacket { from, payload }) = two.frame().await else { panic!() };
        assert_eq!((from, &payload[..]), (a.public(), right));
    }
}

#[tokio::test]
async fn who_was_written_to_hears_that_the_writer_has_left() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let mut one = client(&relay, &a).await;
    let two = client(&relay, &b).await;
    two.try_send(&a.public(), b"hello").unwrap();
    packets(&mut one).await;
    drop(two);
    let batch = soon(one.recv()).await.unwrap();
    assert_eq!(batch, [Event::PeerGone { peer: b.public(), reason: PeerGone::Disconnected }]);
    assert!(!relay.has(&b.public()));
}

#[tokio::test]
async fn of_two_with_the_same_key_the_last_to_speak_is_heard() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let sender = client(&relay, &a).await;
    let mut first = Raw::login(&relay, &b).await;
    let mut second = Raw::login(&relay, &b).await;
    let received = |packet: &[u8]| Frame::RecvPacket { from: a.public(), payload: packet.into() };
    sender.try_send(&b.public(), b"to the second").unwrap();
    assert_eq!(second.frame().await, Some(received(b"to the second")));
    first.say(&Frame::Ping(*b"12345678")).await;
    assert_eq!(first.frame().await, Some(Frame::Pong(*b"12345678")));
    sender.try_send(&b.public(), b"to the first").unwrap();
    assert_eq!(first.frame().await, Some(received(b"to the first")));
    drop(first);
    until_connected(&relay, 2).await;
    sender.try_send(&b.public(), b"to the second again").unwrap();
    assert_eq!(second.frame().await, Some(received(b"to the second again")));
}

#[tokio::test]
async fn a_slow_client_holds_up_nobody() {
    let limits = Limits { queued: 100_000, ..Limits::default() };
    let (relay, table) = relay(limits);
    let (agent, slow, quick) = (key(1), key(2), key(3));
    table.join(agent.public(), slow.public());
    table.join(agent.public(), quick.public());
    let sender = client(&relay, &agent).await;
    let mut sleeper = Raw::login(&relay, &slow).await;
    let mut reader = client(&relay, &quick).await;
    let send = async |to: &NodePublic, packet: &[u8]| {
        while sender.try_send(to, packet).is_err() {
            sender.writable().await;
        }
    };
    // Far more than the sleeper's queue and pipe can take; each tenth packet is the reader's.
    let count: u32 = 5_000;
    let mut heard = 0;
    for number in 0..count {
        let mut packet = vec![0; 1000];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        send(&slow.public(), &packet).await;
        if number % 10 == 0 {
            send(&quick.public(), &packet).await;
            let all = packets(&mut reader).await;
            assert_eq!(all, [(agent.public(), packet)]);
            heard += 1;
        }
    }
    assert_eq!(heard, count / 10);
    // The sleeper wakes up: what it gets are whole packets in order, up to the very last one.
    let (mut last, mut got) = (None, 0u32);
    while last != Some(count - 1) {
        let Some(Frame::RecvPacket { payload, .. }) = sleeper.frame().await else { panic!() };
        assert_eq!(payload.len(), 1000);
        let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
        assert!(last < Some(number));
        last = Some(number);
        got += 1;
    }
    let stats = relay.stats();
    assert_eq!(u64::from(got) + stats.overflown, u64::from(count));
    assert!(got < 300, "{got} packets waited");
}

#[tokio::test]
async fn disco_overtakes_packets() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let mut one = Raw::login(&relay, &a).await;
    let mut two = Raw::login(&relay, &b).await;
    for _ in 0..200 {
        one.bytes(&sent(&b.public(), &[7; 1000])).await;
    }
    one.bytes(&sent(&b.public(), &disco())).await;
    one.say(&Frame::Ping(*b"12345678")).await;
    assert_eq!(one.frame().await, Some(Frame::Pong(*b"12345678")));
    let mut before = 0;
    while let Some(Frame::RecvPacket { payload, .. }) = two.frame().await {
        if payload == disco()[..] {
            break;
        }
        before += 1;
    }
    assert!(before < 150, "{before} packets were written before it");
}

#[tokio::test]
async fn a_frozen_relay_is_silent_until_it_thaws() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let mut one = Raw::login(&relay, &a).await;
    let mut two = Raw::login(&relay, &b).await;
    relay.freeze(true);
    // The reader is in the middle of a read, which it may finish.
    one.say(&Frame::Ping(*b"12345678")).await;
    one.bytes(&sent(&b.public(), b"frozen")).await;
    let mut late = Raw::dial(&relay);
    for raw in [&mut one, &mut two, &mut late] {
        let silent = tokio::time::timeout(Duration::from_millis(50), raw.frame()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
    relay.freeze(false);
    assert_eq!(one.frame().await, Some(Frame::Pong(*b"12345678")));
    assert!(matches!(two.frame().await, Some(Frame::RecvPacket { .. })));
    assert!(matches!(late.frame().await, Some(Frame::ServerKey { .. })));
}

#[tokio::test(start_paused = true)]
async fn signs_of_life() {
    let (relay, table) = relay(Limits::default());
    table.know(key(1).public());
    let mut one = Raw::login(&relay, &key(1)).await;
    let start = Instant::now();
    assert_eq!(one.frame().await, Some(Frame::KeepAlive));
    let after = start.elapsed();
    assert!(after >= Duration::from_secs(60) && after <= Duration::from_secs(65), "{after:?}");
    let Some(Frame::Ping(data)) = one.frame().await else { panic!() };
    one.say(&Frame::Pong(data)).await;
    // It answers no more.
    let ended = one.ended().await;
    assert!(matches!(ended, Ended::Silent(_)), "{ended}");
    assert!(start.elapsed() > Duration::from_secs(180), "{:?}", start.elapsed());
    until_connected(&relay, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_tailnet_crate_stays_for_days() {
    let (relay, table) = relay(Limits::default());
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let (mut one, mut two) = (client(&relay, &a).await, client(&relay, &b).await);
    let end = Instant::now() + Duration::from_secs(2 * 24 * 60 * 60);
    while Instant::now() < end {
        one.recv().await.unwrap();
        two.recv().await.unwrap();
    }
    one.try_send(&b.public(), b"still here").unwrap();
    assert_eq!(packets(&mut two).await, [(a.public(), b"still here".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_knows_does_not_stay() {
    let (relay, table) = relay(Limits::default());
    let start = Instant::now();
    let stranger = Raw::login(&relay, &key(1)).await;
    let late = Raw::login(&relay, &key(2)).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    table.know(key(2).public());
    let ended = stranger.ended().await;
    assert!(matches!(ended, Ended::Unknown), "{ended}");
    assert!(start.elapsed() <= Duration::from_secs(91), "{:?}", start.elapsed());
    let ended = late.ended().await;
    assert!(matches!(ended, Ended::Silent(_)), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn what_ends_a_login() {
    let (relay, _) = relay(Limits::default());
    let start = Instant::now();
    let ended = Raw::dial(&relay).ended().await;
    assert!(matches!(ended, Ended::LoginTimeout(_)), "{ended}");
    assert_eq!(start.elapsed().as_secs(), 10);

    let mut raw = Raw::dial(&relay);
    raw.say(&Frame::KeepAlive).await;
    assert!(matches!(raw.ended().await, Ended::NoLogin));

    let mut raw = Raw::dial(&relay);
    raw.bytes(&[2, 0, 0, 0x20, 0]).await;
    assert!(matches!(raw.ended().await, Ended::Frame(_)), "longer than any introduction");

    // Somebody else's key with a box of one's own.
    let mut raw = Raw::dial(&relay);
    let Some(Frame::ServerKey { key: server }) = raw.frame().await else { panic!() };
    let Frame::ClientInfo { nonce, sealed, .. } =
        login::client_info(&key(1), &server, &ClientInfo::default(), [0; 24])
    else {
        panic!()
    };
    raw.say(&Frame::ClientInfo { node: key(2).public(), nonce, sealed }).await;
    assert!(matches!(raw.ended().await, Ended::Login(_)));
    assert_eq!(relay.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn what_ends_a_connection() {
    let (relay, table) = relay(Limits { queued: 10_000, ..Limits::default() });
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());

    let mut raw = Raw::login(&relay, &a).await;
    for _ in 0..300 {
        raw.say(&Frame::NotePreferred(true)).await;
    }
    let ended = raw.ended().await;
    assert!(matches!(ended, Ended::Flood), "{ended}");

    let mut raw = Raw::login(&relay, &a).await;
    raw.bytes(&[4, 0, 1, 0, 33]).await;
    let ended = raw.ended().await;
    assert!(matches!(ended, Ended::Frame(_)), "a packet of more than 64 KiB: {ended}");

    // One who takes nothing.
    let stuck = Raw::login(&relay, &b).await;
    let mut raw = Raw::login(&relay, &a).await;
    for _ in 0..100 {
        raw.bytes(&sent(&b.public(), &[0; 1000])).await;
    }
    let start = Instant::now();
    let ended = stuck.ended().await;
    assert!(matches!(ended, Ended::Stuck(_)), "{ended}");
    assert_eq!(start.elapsed().as_secs(), 20);
    drop(raw);
    until_connected(&relay, 0).await;
}

#[tokio::test]
async fn there_is_room_for_so_many() {
    let (relay, table) = relay(Limits { clients: 2, logins: 1, ..Limits::default() });
    for number in 1..4 {
        table.know(key(number).public());
    }
    let mut one = Raw::login(&relay, &key(1)).await;
    assert!(relay.has_room());
    let two = Raw::login(&relay, &key(2)).await;
    assert!(!relay.has_room());
    drop(two);
    until_connected(&relay, 1).await;
    let slow = Raw::dial(&relay);
    soon(async {
        while relay.has_room() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(Raw::dial(&relay).ended().await, Ended::Full));
    drop(slow);
    one.say(&Frame::Ping(*b"12345678")).await;
    assert_eq!(one.frame().await, Some(Frame::Pong(*b"12345678")), "the others do not notice");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_told_and_kept() {
    let limits = Limits { rate: Some(10_000), ..Limits::default() };
    let (relay, table) = relay(limits);
    let (a, b) = (key(1), key(2));
    table.join(a.public(), b.public());
    let mut one = Raw::login(&relay, &a).await;
    let mut two = client(&relay, &b).await;
    for number in 0..30 {
        one.bytes(&sent(&b.public(), &[number; 1000])).await;
        // One packet for each read: a run is passed on or dropped as a whole.
        one.say(&Frame::Ping([number; 8])).await;
        assert_eq!(one.frame().await, Some(Frame::Pong([number; 8])));
    }
    assert_eq!(relay.stats().passed, 9, "10,000 bytes with their framing");
    tokio::time::advance(Duration::from_secs(1)).await;
    one.bytes(&sent(&b.public(), b"after a while")).await;
    loop {
        if packets(&mut two).await.iter().any(|(_, packet)| packet == b"after a while") {
            break;
        }
    }
}

#[tokio::test]
async fn everybody_may_reach_everybody_if_so_decided() {
    let relay = Relay::new(Settings::default(), Arc::new(Everybody)).unwrap();
    let one = client(&relay, &key(1)).await;
    let mut two = client(&relay, &key(2)).await;
    one.try_send(&key(2).public(), b"hello").unwrap();
    assert_eq!(packets(&mut two).await, [(key(1).public(), b"hello".to_vec())]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever a client says before or after its login, the others do not notice.
    #[test]
    fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 1..3000), logged_in: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (relay, table) = relay(Limits::default());
            let (a, b) = (key(1), key(2));
            table.join(a.public(), b.public());
            let one = client(&relay, &a).await;
            let mut two = client(&relay, &b).await;
            let mut raw = if logged_in {
                Raw::login(&relay, &key(3)).await
            } else {
                Raw::dial(&relay)
            };
            raw.bytes(&bytes).await;
            one.try_send(&b.public(), b"hello").unwrap();
            assert_eq!(packets(&mut two).await, [(a.public(), b"hello".to_vec())]);
            drop(raw);
            until_connected(&relay, 2).await;
        });
    }
}
