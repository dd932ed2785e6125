//! One connection to one relay.

use std::time::Duration;

use bytes::BytesMut;
use coderctl_tailnet::derp::connection::ConnectionError;
use coderctl_tailnet::derp::frame::{Frame, PeerGone};
use coderctl_tailnet::derp::login::ServerInfo;
use coderctl_tailnet::derp::{Carrier, Connection, Event, SendError, connect};
use coderctl_tailnet::keys::RelayPrivate;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use crate::network::Network;
use crate::relay::Relay;
use crate::{encoded, key, node, read_frame};

#[tokio::test(start_paused = true)]
async fn packets_travel_both_ways() {
    let (network, relay) = with_relay(ServerInfo::default());
    let mut one = connect(&network, &node("a"), Carrier::Upgrade, key(1), true).await.unwrap();
    let mut other = connect(&network, &node("a"), Carrier::Upgrade, key(2), false).await.unwrap();
    relay.until_seen(&key(1).public(), Some(true)).await;
    relay.until_seen(&key(2).public(), Some(false)).await;
    one.try_send(&key(2).public(), b"ping").unwrap();
    assert_eq!(packet(&mut other).await, (key(1).public(), b"ping".to_vec()));
    other.try_send(&key(1).public(), b"pong").unwrap();
    assert_eq!(packet(&mut one).await, (key(2).public(), b"pong".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn login_and_first_packets_need_no_answer_of_the_relay() {
    let (_network, mut stream, connection) = raw(true).await;
    for number in 0..10 {
        connection.try_send(&key(2).public(), &[number]).unwrap();
    }
    let mut first = vec![0; 4096];
    let length = stream.read(&mut first).await.unwrap();
    let mut buffer = BytesMut::from(&first[..length]);
    let login = read_frame(&mut stream, &mut buffer).await;
    assert!(matches!(login, Some(Frame::ClientInfo { .. })));
    assert_eq!(read_frame(&mut stream, &mut buffer).await, Some(Frame::NotePreferred(true)));
    assert!(buffer.is_empty(), "the login is one write");
    let length = stream.read(&mut first).await.unwrap();
    assert_eq!(length, 10 * (5 + 32 + 1), "all that waits is one write");
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_without_anybody_listening() {
    let (_network, mut stream, _connection) = raw(false).await;
    let mut buffer = BytesMut::new();
    read_frame(&mut stream, &mut buffer).await.unwrap();
    stream.write_all(&encoded(&[Frame::Ping(*b"ABCDEFGH")])).await.unwrap();
    assert_eq!(read_frame(&mut stream, &mut buffer).await, Some(Frame::Pong(*b"ABCDEFGH")));
}

#[tokio::test(start_paused = true)]
async fn a_silent_relay_is_left_after_two_minutes() {
    let (_network, mut stream, mut connection) = raw(true).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(119)).await;
    stream.write_all(&encoded(&[Frame::KeepAlive])).await.unwrap();
    assert_eq!(connection.recv().await.unwrap(), [Event::Other]);
    let ended = connection.recv().await.unwrap_err();
    assert!(matches!(ended, ConnectionError::Silent(_)), "{ended}");
    assert_eq!(began.elapsed().as_secs(), 119 + 120);
    assert_eq!(connection.try_send(&key(2).public(), b"late"), Err(SendError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_frozen_is_left_within_half_a_minute() {
    let (_network, mut stream, mut connection) = raw(true).await;
    let mut buffer = BytesMut::new();
    read_frame(&mut stream, &mut buffer).await.unwrap();
    read_frame(&mut stream, &mut buffer).await.unwrap();
    connection.try_send(&key(2).public(), b"?").unwrap();
    let began = Instant::now();
    let packet = read_frame(&mut stream, &mut buffer).await;
    assert!(matches!(packet, Some(Frame::SendPacket { .. })), "{packet:?}");
    // One that answers is kept, however long.
    for _ in 0..20 {
        let Some(Frame::Ping(data)) = read_frame(&mut stream, &mut buffer).await else {
            panic!("it is asked whether it is there")
        };
        stream.write_all(&encoded(&[Frame::Pong(data)])).await.unwrap();
        connection.recv().await.unwrap();
        connection.try_send(&key(2).public(), b"?").unwrap();
        read_frame(&mut stream, &mut buffer).await.unwrap();
    }
    assert!(began.elapsed() > Duration::from_secs(190), "{:?}", began.elapsed());
    let frozen = Instant::now();
    let ended = connection.recv().await.unwrap_err();
    assert!(matches!(ended, ConnectionError::Silent(_)), "{ended}");
    assert!(frozen.elapsed() <= Duration::from_secs(21), "{:?}", frozen.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_never_speaks_is_given_up_after_ten_seconds() {
    let network = Network::default();
    network.silence("a");
    let began = Instant::now();
    let error = connect(&network, &node("a"), Carrier::Upgrade, key(1), true).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Timeout), "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_full_connection_refuses_and_says_when_there_is_room() {
    let (_network, mut stream, connection) = raw(true).await;
    let packet = [0; 1312];
    let mut taken = 0;
    let refused = loop {
        match connection.try_send(&key(2).public(), &packet) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
        assert!(taken < 1000, "without bound");
    };
    assert_eq!(refused, SendError::Full);
    // At most: under way, being written, and waiting; 64 KiB each.
    assert!((48..=3 * 49 + 1).contains(&taken), "{taken}");

    let drain = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 20];
        while stream.read(&mut sink).await.unwrap() > 0 {}
    });
    connection.writable().await;
    assert_eq!(connection.try_send(&key(2).public(), &packet), Ok(()));
    drop(connection);
    drain.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn packets_above_the_relays_rate_are_dropped() {
    let info = ServerInfo { bytes_per_second: 10_000, bytes_burst: 4_000, ..ServerInfo::default() };
    let (network, relay) = with_relay(info);
    let mut sender = connect(&network, &node("a"), Carrier::Upgrade, key(1), true).await.unwrap();
    let mut receiver = connect(&network, &node("a"), Carrier::Upgrade, key(2), true).await.unwrap();
    assert_eq!(sender.recv().await.unwrap(), [Event::LoggedIn(info)]);
    assert_eq!(receiver.recv().await.unwrap(), [Event::LoggedIn(info)]);
    relay.until_seen(&key(2).public(), Some(true)).await;
    for number in 0..10 {
        sender.try_send(&key(2).public(), &[number; 963]).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    sender.try_send(&key(2).public(), &[99; 963]).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 5 {
        for event in receiver.recv().await.unwrap() {
            let Event::Packet { payload, .. } = event else { panic!("{event:?}") };
            heard.push(payload[0]);
        }
    }
    assert_eq!(heard, [0, 1, 2, 3, 99]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_there_or_leaves_is_reported() {
    let (network, relay) = with_relay(ServerInfo::default());
    let mut one = connect(&network, &node("a"), Carrier::Upgrade, key(1), true).await.unwrap();
    let peer = key(2).public();
    one.try_send(&peer, b"anybody?").unwrap();
    assert_eq!(other_than_login(&mut one).await, gone(PeerGone::NotHere));
    let other = connect(&network, &node("a"), Carrier::Upgrade, key(2), true).await.unwrap();
    relay.until_seen(&peer, Some(true)).await;
    one.try_send(&peer, b"hello").unwrap();
    tokio::task::yield_now().await;
    drop(other);
    assert_eq!(other_than_login(&mut one).await, gone(PeerGone::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection_with_its_name() {
    let (_network, mut stream, mut connection) = raw(true).await;
    stream.write_all(&[0xff; 64]).await.unwrap();
    let error = connection.recv().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the relay broke the protocol: a frame of type 0xff with 4294967295 bytes, more than the 1048576 allowed"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_a_connection_ends_it() {
    let (_network, mut stream, connection) = raw(true).await;
    drop(connection);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_packets_of_one_read_come_as_one_batch() {
    let (_network, mut stream, mut connection) = raw(true).await;
    let frames: Vec<Frame> = (0..20)
        .map(|number| Frame::RecvPacket {
            from: key(2).public(),
            payload: BytesMut::from(&[number; 1312][..]),
        })
        .collect();
    stream.write_all(&encoded(&frames)).await.unwrap();
    let batch = connection.recv().await.unwrap();
    assert_eq!(batch.len(), 20);
    for (number, event) in batch.into_iter().enumerate() {
        let Event::Packet { payload, .. } = event else { panic!("{event:?}") };
        assert_eq!(payload, [number as u8; 1312][..]);
    }
}

fn with_relay(info: ServerInfo) -> (Network, Relay) {
    let network = Network::default();
    let relay = Relay::new(9, info);
    network.relay("a", &relay);
    (network, relay)
}

/// A connection whose relay is the test.
async fn raw(home: bool) -> (Network, DuplexStream, Connection) {
    let network = Network::default();
    let mut streams = network.raw("a");
    let a = node("a");
    let accept = async {
        let mut stream = streams.recv().await.unwrap();
        let hello = Frame::ServerKey { key: RelayPrivate::new([9; 32]).public() };
        stream.write_all(&encoded(&[hello])).await.unwrap();
        stream
    };
    let (stream, connection) =
        tokio::join!(accept, connect(&network, &a, Carrier::Upgrade, key(1), home));
    (network, stream, connection.unwrap())
}

async fn packet(connection: &mut Connection) -> (coderctl_tailnet::keys::NodePublic, Vec<u8>) {
    let event = other_than_login(connection).await;
    let Event::Packet { from, payload } = event else { panic!("{event:?}") };
    (from, payload.to_vec())
}

/// The next event; the relay of these tests writes one frame at a time.
async fn other_than_login(connection: &mut Connection) -> Event {
    loop {
        let batch = connection.recv().await.unwrap();
        for event in batch {
            if !matches!(event, Event::LoggedIn(_)) {
                return event;
            }
        }
    }
}

fn gone(reason: PeerGone) -> Event {
    Event::PeerGone { peer: key(2).public(), reason }
}
