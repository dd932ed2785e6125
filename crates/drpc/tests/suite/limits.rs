//! Nothing grows without bound, and a slow one holds up nobody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use coderctl_drpc::{
    Config, Session,
    yamux::frame::{Flags, Header, Kind},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::support::{Raw, soon};

const WINDOW: usize = 256 * 1024;

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_stream_alone() {
    soon(async {
        let (a, b) = duplex(64 * 1024);
        let client = Session::client(a, Config::default());
        let server = Session::server(b, Config::default());
        let (slow, ignored) = tokio::join!(client.open(), server.accept());
        let (mut slow, mut ignored) = (slow.unwrap(), ignored.unwrap());
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = taken.clone();
        let writer = tokio::spawn(async move {
            let piece = [1; 10_000];
            for _ in 0..1000 {
                counter.fetch_add(slow.write(&piece).await.unwrap(), Ordering::SeqCst);
            }
            slow.shutdown().await.unwrap();
            counter.load(Ordering::SeqCst)
        });
        // Another stream moves 20 windows there and back meanwhile.
        let (fast, echo) = tokio::join!(client.open(), server.accept());
        let (mut fast, echo) = (fast.unwrap(), echo.unwrap());
        let echo = async {
            tokio::io::copy(&mut &echo, &mut &echo).await.unwrap();
        };
        let talk = async {
            let piece = vec![2; 5 * WINDOW / 10];
            let mut back = vec![0; piece.len()];
            for _ in 0..40 {
                fast.write_all(&piece[..WINDOW / 4]).await.unwrap();
                fast.read_exact(&mut back[..WINDOW / 4]).await.unwrap();
                assert_eq!(back[..WINDOW / 4], piece[..WINDOW / 4]);
            }
            fast.shutdown().await.unwrap();
        };
        tokio::join!(echo, talk);
        // The slow one got rid of a window and not a byte more.
        assert_eq!(taken.load(Ordering::SeqCst), WINDOW);
        let mut all = Vec::new();
        ignored.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), writer.await.unwrap());
        assert!(all.len() > WINDOW);
    })
    .await;
}

#[tokio::test]
async fn a_busy_stream_starves_no_other() {
    soon(async {
        // A narrow byte stream, so that the queue in front of it is always full.
        let (a, b) = duplex(4 * 1024);
        let client = Session::client(a, Config::default());
        let server = Session::server(b, Config::default());
        let mut counts = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (out, into) = tokio::join!(client.open(), server.accept());
            let (mut out, mut into) = (out.unwrap(), into.unwrap());
            let count = Arc::new(AtomicUsize::new(0));
            counts.push(count.clone());
            tasks.spawn(async move {
                let piece = vec![0; 64 * 1024];
                while out.write_all(&piece).await.is_ok() {}
            });
            tasks.spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(n) = into.read(&mut buffer).await {
                    count.fetch_add(n, Ordering::Relaxed);
                }
            });
        }
        let read = |count: &Arc<AtomicUsize>| count.load(Ordering::Relaxed);
        while counts.iter().map(read).sum::<usize>() < 40 * WINDOW {
            tokio::task::yield_now().await;
        }
        let (least, most) =
            (counts.iter().map(read).min().unwrap(), counts.iter().map(read).max().unwrap());
        assert!(least * 6 > most, "from {least} to {most}");
        tasks.shutdown().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn provoked_answers_are_bounded() {
    let (a, b) = duplex(16 * 1024);
    let mut config = Config::default();
    config.write_timeout = Duration::from_secs(3600);
    let session = Session::server(a, config);
    let mut peer = Raw(b);
    let ping = Header { kind: Kind::Ping, flags: Flags::SYN, stream: 0, length: 1 }.encode();
    let pings = ping.repeat(1000);
    let mut written = 0_usize;
    // A peer that never reads its answers is not read any more either.
    let flood = async {
        while written < 1 << 26 {
            written += peer.0.write(&pings[written % ping.len()..]).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), flood).await.is_err());
    assert!(written < 3 * 1024 * 1024, "{written} bytes of pings were taken");
    // Nothing is lost once it does read.
    let mut answered = 0;
    while answered < 5000 {
        peer.expect(Kind::Ping, Flags::ACK, 0, 1).await;
        answered += 1;
    }
    drop(session);
}

#[tokio::test]
async fn what_is_sent_to_a_dropped_stream_is_never_credited() {
    soon(async {
        let (a, b) = duplex(1024 * 1024);
        let session = Session::client(a, Config::default());
        let mut peer = Raw(b);
        drop(session.open().await.unwrap());
        peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
        peer.expect(Kind::WindowUpdate, Flags::FIN, 1, 0).await;
        peer.data(Flags::ACK, 1, &vec![0; WINDOW]).await;
        peer.send(Kind::Ping, Flags::SYN, 0, 2).await;
        peer.expect(Kind::Ping, Flags::ACK, 0, 2).await;
        peer.send(Kind::Data, Flags::NONE, 1, 1).await;
        peer.expect(Kind::GoAway, Flags::NONE, 0, 1).await;
    })
    .await;
}

#[tokio::test]
async fn unfinished_streams_do_not_pile_up() {
    soon(async {
        let (a, b) = duplex(1024 * 1024);
        let session = Session::server(a, Config::default());
        let mut peer = Raw(b);
        for i in 0..4097 {
            peer.send(Kind::WindowUpdate, Flags::SYN, 2 * i + 1, 0).await;
            session.accept().await.unwrap().linger();
            peer.expect(Kind::WindowUpdate, Flags::ACK, 2 * i + 1, 0).await;
        }
        peer.expect(Kind::WindowUpdate, Flags::RST, 1, 0).await;
    })
    .await;
}
