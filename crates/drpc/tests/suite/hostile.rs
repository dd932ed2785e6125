//! How bytes are cut does not matter, and no bytes do harm.

use std::collections::BTreeMap;

use coderctl_drpc::{
    Client, Config, Server, Session,
    proto::agent::Log,
    wire::Decoder,
    yamux::frame::{Flags, HEADER_LEN, Header, Kind},
};
use proptest::{
    collection::vec,
    prelude::{
        Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinSet,
};

use super::support::{Call, Raw, Side, recordings, soon};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn packets_come_out_the_same_however_they_are_cut(cuts in vec(1..40usize, 1..50)) {
        for recording in recordings() {
            for call in recording.calls().values() {
                let mut decoder = Decoder::default();
                let mut packets = Vec::new();
                for piece in pieces(&call.client, &cuts) {
                    decoder.feed(piece);
                    while let Some(packet) = decoder.next_packet().unwrap() {
                        packets.push(packet);
                    }
                }
                prop_assert!(decoder.finish().is_ok());
                prop_assert_eq!(packets, Call::packets(&call.client));
            }
        }
    }

    #[test]
    fn streams_come_out_the_same_however_they_are_cut(
        which in 0..4usize,
        cuts in vec(1..3000usize, 1..50),
    ) {
        let recording = recordings().swap_remove(which);
        let expected: BTreeMap<u32, Vec<u8>> =
            recording.calls().into_iter().map(|(id, call)| (id, call.client)).collect();
        let bytes = recording.bytes(Side::Client);
        let mut got = run(async {
            let (a, mut b) = duplex(64 * 1024);
            let session = Session::server(a, Config::default());
            let send = async {
                for piece in pieces(&bytes, &cuts) {
                    b.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                b.shutdown().await.unwrap();
                let mut rest = Vec::new();
                b.read_to_end(&mut rest).await.unwrap();
            };
            tokio::join!(collect(&session), send).0
        });
        got.retain(|_, data| !data.is_empty());
        prop_assert_eq!(got, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_upset_the_decoder(bytes in vec(any::<u8>(), 0..400), cuts in vec(1..30usize, 1..9)) {
        let mut decoder = Decoder::default();
        let mut total = 0;
        'all: for piece in pieces(&bytes, &cuts) {
            decoder.feed(piece);
            loop {
                match decoder.next_packet() {
                    Ok(Some(packet)) => total += packet.data.len(),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
        prop_assert!(total <= bytes.len());
    }

    #[test]
    fn no_frames_upset_a_session(client in any::<bool>(), bytes in vec(frame(), 0..60)) {
        run(async {
            let (a, b) = duplex(64 * 1024);
            let session = if client {
                Session::client(a, Config::default())
            } else {
                Session::server(a, Config::default())
            };
            // Something for the frames to hit.
            let mut open = Vec::new();
            for _ in 0..4 {
                let mut stream = session.open().await.unwrap();
                let _ = stream.write_all(b"data").await;
                open.push(stream);
            }
            tokio::join!(collect(&session), attack(b, bytes.concat()));
            session.closed().await;
        });
    }

    #[test]
    fn no_packets_upset_a_server(bytes in vec(packet(), 0..20)) {
        run(async {
            let (a, b) = duplex(64 * 1024);
            let mut server = Server::connect(a);
            let serve = async {
                while let Some(call) = server.accept().await {
                    let _ = call.unary(|log: Log| async { Ok(log) }).await;
                }
            };
            let mut all = Header { kind: Kind::WindowUpdate, flags: Flags::SYN, stream: 1, length: 0 }
                .encode()
                .to_vec();
            all.extend(data(1, &bytes.concat()));
            tokio::join!(serve, attack(b, all));
        });
    }

    #[test]
    fn no_packets_upset_a_client(bytes in vec(packet(), 0..20)) {
        run(async {
            let (a, b) = duplex(64 * 1024);
            let client = Client::connect(a);
            let log = Log::default();
            let mut all = Header { kind: Kind::WindowUpdate, flags: Flags::ACK, stream: 1, length: 0 }
                .encode()
                .to_vec();
            all.extend(data(1, &bytes.concat()));
            let call = client.unary::<_, Log>("/x", &log);
            let mut peer = Raw(b);
            let attack = async {
                peer.next().await.unwrap();
                attack(peer.0, all).await;
            };
            // Whether it is answered depends on the packets; that it ends does not.
            let _ = tokio::join!(call, attack).0;
        });
    }
}

/// Everything that all streams of the other side bring.
async fn collect(session: &Session) -> BTreeMap<u32, Vec<u8>> {
    let mut streams = JoinSet::new();
    while let Some(mut stream) = session.accept().await {
        streams.spawn(async move {
            let mut data = Vec::new();
            // Fails for streams that are cut off; what came before counts.
            let _ = stream.read_to_end(&mut data).await;
            (stream.id(), data)
        });
    }
    streams.join_all().await.into_iter().collect()
}

async fn attack(mut io: DuplexStream, bytes: Vec<u8>) {
    // The session may give up in the middle of it.
    let _ = io.write_all(&bytes).await;
    let _ = io.shutdown().await;
    let mut rest = Vec::new();
    let _ = io.read_to_end(&mut rest).await;
}

/// A header with a likely mistake, or a good frame, or rubbish.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(Kind::Data), Just(Kind::WindowUpdate), Just(Kind::Ping)];
    let length = prop_oneof![4 => 0..20u32, 1 => any::<u32>(), 1 => Just(262_144u32)];
    let some = (kind, 0..16u16, 0..9u32, length).prop_map(|(kind, flags, stream, length)| {
        Header { kind, flags: Flags(flags), stream, length }.encode().to_vec()
    });
    let whole = (0..9u32, vec(any::<u8>(), 0..50)).prop_map(|(id, bytes)| data(id, &bytes));
    prop_oneof![6 => some, 6 => whole, 1 => vec(any::<u8>(), HEADER_LEN)]
}

fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let header = Header { kind: Kind::Data, flags: Flags::NONE, stream, length };
    [&header.encode()[..], payload].concat()
}

/// A dRPC frame with small numbers, or rubbish.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let some = (any::<u8>(), 0..3u8, 0..9u8, vec(any::<u8>(), 0..20)).prop_map(
        |(control, stream, message, data)| {
            [&[control & 0x8f, stream, message, data.len() as u8][..], &data].concat()
        },
    );
    prop_oneof![8 => some, 1 => vec(any::<u8>(), 0..20)]
}

fn pieces<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(soon(future))
}
