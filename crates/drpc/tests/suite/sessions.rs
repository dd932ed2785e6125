//! yamux sessions: against each other, and against a peer that does everything by hand.

use std::time::Duration;

use coderctl_drpc::{
    CloseReason, Config, Session, Stream,
    yamux::{
        OpenError, ProtocolError,
        frame::{Flags, Kind},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::support::{Raw, soon};

const WINDOW: usize = 256 * 1024;

fn pair(config: Config) -> (Session, Session) {
    let (a, b) = duplex(64 * 1024);
    (Session::client(a, config.clone()), Session::server(b, config))
}

/// A client session and the other end of its byte stream.
fn raw_server(config: Config) -> (Session, Raw) {
    let (a, b) = duplex(1024 * 1024);
    (Session::client(a, config), Raw(b))
}

/// A server session and the other end of its byte stream.
fn raw_client(config: Config) -> (Session, Raw) {
    let (a, b) = duplex(1024 * 1024);
    (Session::server(a, config), Raw(b))
}

fn silent() -> Config {
    let mut config = Config::default();
    config.keepalive_interval = None;
    config
}

async fn open(client: &Session, server: &Session) -> (Stream, Stream) {
    let (a, b) = tokio::join!(client.open(), server.accept());
    (a.unwrap(), b.unwrap())
}

#[tokio::test]
async fn bytes_go_both_ways_and_ends_are_kept_apart() {
    soon(async {
        let (client, server) = pair(Config::default());
        let (mut a, mut b) = open(&client, &server).await;
        assert_eq!((a.id(), b.id()), (1, 1));
        a.write_all(b"question").await.unwrap();
        a.shutdown().await.unwrap();
        let mut text = String::new();
        b.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        // One direction has ended, the other goes on, over more than a window.
        let answer = vec![5; 3 * WINDOW];
        let write = async {
            b.write_all(&answer).await.unwrap();
            b.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(a.read_to_end(&mut got), write);
        read.unwrap();
        assert_eq!(got, answer);
        assert!(a.write(b"more").await.is_err());
        let (second, _) = open(&client, &server).await;
        assert_eq!(second.id(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_server_opens_even_streams() {
    soon(async {
        let (client, server) = pair(Config::default());
        let (a, b) = tokio::join!(server.open(), client.accept());
        assert_eq!((a.unwrap().id(), b.unwrap().id()), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn opening_is_a_window_update_and_data_need_not_wait() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        stream.write_all(b"now").await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        let frame = peer.next().await.unwrap();
        assert_eq!((frame.header.flags, &frame.payload[..]), (Flags::NONE, &b"now"[..]));
        drop(stream);
        peer.expect(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_acknowledged_when_it_is_accepted() {
    soon(async {
        let (session, mut peer) = raw_client(Config::default());
        peer.send(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        peer.send(Kind::Ping, Flags::SYN, 0, 77).await;
        // Not by its arrival: the ping behind it is answered first.
        peer.expect(Kind::Ping, Flags::ACK, 0, 77).await;
        let _stream = session.accept().await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::ACK, 1, 0).await;
    })
    .await;
}

#[tokio::test]
async fn pings_are_answered_beside_a_slow_reader() {
    soon(async {
        let (session, mut peer) = raw_client(Config::default());
        peer.send(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        let mut stream = session.accept().await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::ACK, 1, 0).await;
        peer.data(Flags::NONE, 1, &vec![1; WINDOW]).await;
        peer.send(Kind::Ping, Flags::SYN, 0, 9).await;
        peer.expect(Kind::Ping, Flags::ACK, 0, 9).await;
        // The window comes back once half of it was read, all of that at once.
        let mut half = vec![0; WINDOW / 2 - 1];
        stream.read_exact(&mut half).await.unwrap();
        peer.send(Kind::Ping, Flags::SYN, 0, 10).await;
        peer.expect(Kind::Ping, Flags::ACK, 0, 10).await;
        stream.read_exact(&mut [0]).await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::NONE, 1, WINDOW as u32 / 2).await;
    })
    .await;
}

#[tokio::test]
async fn more_than_the_window_ends_the_session() {
    soon(async {
        let (session, mut peer) = raw_client(Config::default());
        peer.send(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        peer.data(Flags::NONE, 1, &vec![1; WINDOW]).await;
        peer.send(Kind::Data, Flags::NONE, 1, 1).await;
        peer.expect(Kind::GoAway, Flags::NONE, 0, 1).await;
        assert!(peer.next().await.is_none());
        let window = ProtocolError::Window { stream: 1, length: 1, window: 0 };
        assert_eq!(session.closed().await, CloseReason::Protocol(window));
    })
    .await;
}

#[tokio::test]
async fn a_sender_stops_at_the_window() {
    soon(async {
        let (session, mut peer) = raw_server(silent());
        let mut stream = session.open().await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        let data = vec![3; WINDOW + 10];
        let write = stream.write_all(&data);
        let read = async {
            let mut got = 0;
            while got < WINDOW {
                got += peer.next().await.unwrap().payload.len();
            }
            assert_eq!(got, WINDOW);
            peer.send(Kind::Ping, Flags::SYN, 0, 1).await;
            peer.expect(Kind::Ping, Flags::ACK, 0, 1).await;
            peer.send(Kind::WindowUpdate, Flags::NONE, 1, 10).await;
            assert_eq!(peer.next().await.unwrap().payload.len(), 10);
        };
        tokio::join!(write, read).0.unwrap();
    })
    .await;
}

#[tokio::test]
async fn data_for_a_stream_that_is_gone_is_thrown_away() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        peer.data(Flags::NONE, 99, &[0; 5000]).await;
        peer.send(Kind::WindowUpdate, Flags::NONE, 99, 5).await;
        peer.send(Kind::WindowUpdate, Flags::FIN, 99, 5).await;
        drop(session.open().await.unwrap());
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        peer.expect(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
        peer.data(Flags::ACK, 1, &[0; 5000]).await;
        peer.send(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
        peer.data(Flags::NONE, 1, &[0; 5000]).await;
        peer.send(Kind::Ping, Flags::SYN, 0, 4).await;
        peer.expect(Kind::Ping, Flags::ACK, 0, 4).await;
    })
    .await;
}

#[tokio::test]
async fn an_end_never_overtakes_data() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        peer.data(Flags::ACK.with(Flags::FIN), 1, b"last words").await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
        stream.left().await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_fails_reading_and_writing() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        peer.data(Flags::ACK, 1, b"lost").await;
        peer.send(Kind::WindowUpdate, Flags::RST, 1, 0).await;
        stream.left().await;
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let error = stream.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        // The session lives.
        session.open().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_full_backlog_resets_the_next_stream() {
    soon(async {
        let (session, mut peer) = raw_client(Config::default());
        for id in 0..257 {
            peer.send(Kind::WindowUpdate, Flags::SYN, 2 * id + 1, 0).await;
        }
        peer.expect(Kind::WindowUpdate, Flags::RST, 513, 0).await;
        for id in 0..256 {
            let stream = session.accept().await.unwrap();
            assert_eq!(stream.id(), 2 * id + 1);
            peer.expect(Kind::WindowUpdate, Flags::ACK, 2 * id + 1, 0).await;
            stream.linger();
        }
    })
    .await;
}

#[tokio::test]
async fn at_most_256_streams_wait_for_their_acknowledgement() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut streams = Vec::new();
        for _ in 0..256 {
            streams.push(session.open().await.unwrap());
        }
        let mut next = Box::pin(session.open());
        tokio::select! {
            biased;
            _ = &mut next => panic!("opened"),
            () = std::future::ready(()) => {}
        }
        peer.send(Kind::WindowUpdate, Flags::ACK, 7, 0).await;
        assert_eq!(next.await.unwrap().id(), 513);
    })
    .await;
}

#[tokio::test]
async fn wrong_numbers_and_repeats_break_the_protocol() {
    let cases: [(&[(Flags, u32)], ProtocolError); 4] = [
        (&[(Flags::SYN, 2)], ProtocolError::StreamId(2)),
        (&[(Flags::SYN, 0)], ProtocolError::StreamId(0)),
        (&[(Flags::SYN, 1), (Flags::SYN, 1)], ProtocolError::Duplicate(1)),
        (&[(Flags::SYN, 1), (Flags::FIN, 1), (Flags::FIN, 1)], ProtocolError::Finished(1)),
    ];
    for (frames, error) in cases {
        soon(async {
            let (session, mut peer) = raw_client(Config::default());
            for (flags, id) in frames {
                peer.send(Kind::WindowUpdate, *flags, *id, 0).await;
            }
            peer.expect(Kind::GoAway, Flags::NONE, 0, 1).await;
            assert_eq!(session.closed().await, CloseReason::Protocol(error));
            assert!(session.accept().await.is_none());
        })
        .await;
    }
}

#[tokio::test]
async fn a_normal_go_away_stops_new_streams_and_loses_nothing() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        peer.data(Flags::ACK, 1, b"before, ").await;
        peer.send(Kind::GoAway, Flags::NONE, 0, 0).await;
        peer.data(Flags::NONE, 1, b"after").await;
        peer.send(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "before, after");
        assert_eq!(session.open().await.unwrap_err(), OpenError::GoingAway);
        stream.write_all(b"still here").await.unwrap();
        assert_eq!(peer.next().await.unwrap().payload, b"still here");
    })
    .await;
}

#[tokio::test]
async fn a_go_away_with_a_code_ends_the_session() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        peer.data(Flags::ACK, 1, b"kept").await;
        peer.send(Kind::GoAway, Flags::NONE, 0, 2).await;
        assert_eq!(session.closed().await, CloseReason::GoAway { code: 2 });
        // What came before is still to be had; then the stream fails, it did not end.
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
        assert!(error.to_string().contains("code 2"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn our_own_go_away_is_the_go_bytes() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        session.go_away();
        peer.expect(Kind::GoAway, Flags::NONE, 0, 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_goes_out_every_30_s() {
    let (session, mut peer) = raw_server(Config::default());
    let start = tokio::time::Instant::now();
    for value in 0..3 {
        peer.expect(Kind::Ping, Flags::SYN, 0, value).await;
        assert_eq!(start.elapsed().as_secs(), 30 * (u64::from(value) + 1));
        peer.send(Kind::Ping, Flags::ACK, 0, value).await;
    }
    drop(session);
    assert!(peer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_without_an_answer_ends_the_session() {
    let (session, mut peer) = raw_server(Config::default());
    let start = tokio::time::Instant::now();
    let mut stream = session.open().await.unwrap();
    peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
    peer.send(Kind::WindowUpdate, Flags::ACK, 1, 0).await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(session.closed().await, CloseReason::KeepaliveTimeout);
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_accepted_ends_the_session() {
    let (session, _peer) = raw_server(silent());
    let start = tokio::time::Instant::now();
    let _stream = session.open().await.unwrap();
    assert_eq!(session.closed().await, CloseReason::OpenTimeout);
    assert_eq!(start.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_is_reset_after_5_min() {
    let (session, mut peer) = raw_server(silent());
    let start = tokio::time::Instant::now();
    drop(session.open().await.unwrap());
    peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
    peer.expect(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
    peer.send(Kind::WindowUpdate, Flags::ACK, 1, 0).await;
    peer.expect(Kind::WindowUpdate, Flags::RST, 1, 0).await;
    assert_eq!(start.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_half_close_has_no_time_limit() {
    let (session, mut peer) = raw_server(silent());
    let mut stream = session.open().await.unwrap();
    stream.shutdown().await.unwrap();
    peer.send(Kind::WindowUpdate, Flags::ACK, 1, 0).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    peer.data(Flags::FIN, 1, b"late").await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "late");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_byte_stream_ends_the_session() {
    // Nobody reads the other end.
    let (a, _b) = duplex(1024);
    let session = Session::client(a, silent());
    let start = tokio::time::Instant::now();
    let mut stream = session.open().await.unwrap();
    let mut rest = tokio::spawn(async move { stream.write_all(&vec![0; WINDOW]).await });
    assert_eq!(session.closed().await, CloseReason::WriteTimeout);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!((&mut rest).await.unwrap().is_err());
}

#[tokio::test]
async fn the_end_of_the_byte_stream_ends_everything() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        peer.data(Flags::ACK, 1, b"kept").await;
        drop(peer);
        assert_eq!(session.closed().await, CloseReason::Remote);
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        assert!(stream.read(&mut buffer).await.is_err());
        assert!(stream.write(b"x").await.is_err());
        assert_eq!(session.open().await.unwrap_err(), OpenError::Closed(CloseReason::Remote));
        assert!(session.accept().await.is_none());
        assert_eq!(session.ping().await.unwrap_err(), CloseReason::Remote);

        let (session, mut peer) = raw_server(Config::default());
        peer.0.write_all(&[0, 0, 0]).await.unwrap();
        drop(peer);
        let truncated = CloseReason::Protocol(ProtocolError::Truncated);
        assert_eq!(session.closed().await, truncated);
    })
    .await;
}

#[tokio::test]
async fn closing_sends_what_is_queued() {
    soon(async {
        let (session, mut peer) = raw_server(Config::default());
        let mut stream = session.open().await.unwrap();
        stream.write_all(&[7; 50_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(session.close().await, CloseReason::Local);
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        assert_eq!(peer.next().await.unwrap().payload.len(), 50_000);
        peer.expect(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
        assert!(peer.next().await.is_none());
        assert!(stream.read(&mut [0]).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn dropping_the_session_fails_its_streams() {
    soon(async {
        let (client, server) = pair(Config::default());
        let (mut a, mut b) = open(&client, &server).await;
        drop(client);
        assert!(a.read(&mut [0]).await.is_err());
        assert!(b.read(&mut [0]).await.is_err());
        assert_eq!(server.closed().await, CloseReason::Remote);
    })
    .await;
}

#[tokio::test]
async fn pings_measure_the_round_trip() {
    soon(async {
        let (client, server) = pair(Config::default());
        let (a, b) = tokio::join!(client.ping(), server.ping());
        assert!(a.is_ok() && b.is_ok());
    })
    .await;
}
