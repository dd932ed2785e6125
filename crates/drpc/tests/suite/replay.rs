//! A recorded peer is satisfied in both roles: what we send on each stream is what was recorded,
//! byte for byte, and what we read is what was sent.

use bytes::{Buf, BufMut};
use coderctl_drpc::{
    Client, RpcError, Server,
    proto::rpc,
    wire::Kind as Packet,
    yamux::frame::{Flags, Kind},
};
use prost::{DecodeError, Message, encoding};
use tokio::io::{AsyncWriteExt, duplex};

use super::support::{Call, Frame, Raw, Recording, Side, hex, recordings, soon};

/// Which calls stream; the others are unary.
fn streams(rpc: &str) -> bool {
    [rpc::tailnet::COORDINATE, rpc::tailnet::STREAM_DERP_MAPS].contains(&rpc)
}

#[tokio::test]
async fn the_recorded_server_takes_our_client() {
    for recording in recordings() {
        for (stream, call) in recording.calls() {
            let at = format!("{} #{stream} {}", recording.name, call.rpc());
            let (a, b) = duplex(1024 * 1024);
            let (ours, theirs) =
                (call_it(Client::connect(a), &call), answer(b, &recording, stream));
            let (got, sent) = soon(async { tokio::join!(ours, theirs) }).await;
            assert_eq!(got, messages(&call.server), "{at}");
            assert_eq!(hex(&sent), hex(&closed(&call.client)), "{at}");
        }
    }
}

#[tokio::test]
async fn the_recorded_client_takes_our_server() {
    for recording in recordings() {
        for (stream, call) in recording.calls() {
            let at = format!("{} #{stream} {}", recording.name, call.rpc());
            let (a, b) = duplex(1024 * 1024);
            let ours = serve_it(Server::connect(a), &call);
            let (got, sent) = soon(async { tokio::join!(ours, ask(b, &recording, stream)) }).await;
            assert_eq!(got, messages(&call.client), "{at}");
            assert_eq!(hex(&sent), hex(&call.server), "{at}");
        }
    }
}

/// Makes a recorded call; the messages that came back.
async fn call_it(client: Client, call: &Call) -> Vec<Verbatim> {
    let requests = messages(&call.client);
    let mut got = Vec::new();
    if call.rpc() == rpc::tailnet::COORDINATE {
        let (mut sender, mut receiver) =
            client.stream::<Verbatim, Verbatim>(&call.rpc()).await.unwrap();
        for request in &requests {
            sender.send(request).await.unwrap();
        }
        while let Some(message) = receiver.recv().await.unwrap() {
            got.push(message);
        }
        sender.close().await.unwrap();
    } else if streams(&call.rpc()) {
        let mut receiver =
            client.server_stream::<_, Verbatim>(&call.rpc(), &requests[0]).await.unwrap();
        for _ in messages(&call.server) {
            got.push(receiver.recv().await.unwrap().unwrap());
        }
    } else {
        got.push(client.unary(&call.rpc(), &requests[0]).await.unwrap());
    }
    client.close().await;
    got
}

/// The recorded server: once the request is there, its recorded frames, as they were. Gives all
/// data that came.
async fn answer(io: tokio::io::DuplexStream, recording: &Recording, stream: u32) -> Vec<u8> {
    let mut peer = Raw(io);
    peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
    let request = opening(&recording.calls()[&stream].client).to_vec();
    let mut sent = Vec::new();
    while sent.len() < request.len() {
        let frame = peer.next().await.unwrap();
        assert_eq!((frame.header.kind, frame.header.flags), (Kind::Data, Flags::NONE));
        sent.extend(frame.payload);
    }
    for frame in recording.frames(Side::Server) {
        // Its FIN answers ours, later; Close packets end a call all the same.
        if frame.header.stream == stream && !frame.header.flags.has(Flags::FIN) {
            write(&mut peer, frame).await;
        }
    }
    let mut finished = false;
    while let Some(frame) = peer.next().await {
        finished |= frame.header.flags.has(Flags::FIN);
        sent.extend(frame.payload);
    }
    assert!(finished, "our client did not end the stream");
    sent
}

/// Takes a recorded call and answers it as recorded; the messages that came.
async fn serve_it(mut server: Server, call: &Call) -> Vec<Verbatim> {
    let incoming = server.accept().await.unwrap();
    assert_eq!(incoming.rpc(), call.rpc());
    assert!(incoming.metadata().is_empty());
    let mut answers = messages(&call.server);
    let mut got = Vec::new();
    if incoming.rpc() == rpc::tailnet::COORDINATE {
        let (mut receiver, mut sender) = incoming.stream::<Verbatim, Verbatim>();
        for _ in messages(&call.client) {
            got.push(receiver.recv().await.unwrap().unwrap());
        }
        for message in &answers {
            sender.send(message).await.unwrap();
        }
        if ends(&call.server) {
            sender.close().await.unwrap();
        } else {
            sender.closed().await;
        }
    } else if streams(incoming.rpc()) {
        let (request, mut sender) = incoming.server_stream::<Verbatim, Verbatim>().await.unwrap();
        got.push(request);
        for message in &answers {
            sender.send(message).await.unwrap();
        }
        sender.closed().await;
    } else {
        let handler = |request| {
            got.push(request);
            std::future::ready(Ok::<_, RpcError>(answers.remove(0)))
        };
        incoming.unary(handler).await.unwrap();
    }
    server.closed().await;
    got
}

/// The recorded client: its frames up to the end of the request, then, when the recorded answer
/// has come, the rest. Gives all data that came.
async fn ask(io: tokio::io::DuplexStream, recording: &Recording, stream: u32) -> Vec<u8> {
    let mut peer = Raw(io);
    let call = recording.calls().remove(&stream).unwrap();
    let request = opening(&call.client).len();
    let (mut sent, mut got) = (0, Vec::new());
    let mut acknowledged = false;
    for mut frame in recording.frames(Side::Client) {
        if frame.header.stream != stream {
            continue;
        }
        frame.header.stream = 1;
        while sent >= request && got.len() < call.server.len() {
            let frame = peer.next().await.unwrap();
            acknowledged |= frame.header.flags.has(Flags::ACK);
            got.extend(frame.payload);
        }
        sent += frame.payload.len();
        write(&mut peer, frame).await;
    }
    while got.len() < call.server.len() {
        let frame = peer.next().await.unwrap();
        acknowledged |= frame.header.flags.has(Flags::ACK);
        got.extend(frame.payload);
    }
    peer.0.shutdown().await.unwrap();
    assert!(acknowledged, "our server did not accept the stream");
    got
}

async fn write(peer: &mut Raw, Frame { mut header, payload }: Frame) {
    header.stream = 1;
    peer.0.write_all(&header.encode()).await.unwrap();
    peer.0.write_all(&payload).await.unwrap();
}

/// The messages of one direction.
fn messages(bytes: &[u8]) -> Vec<Verbatim> {
    let packets = Call::packets(bytes).into_iter();
    let messages = packets.filter(|packet| packet.kind == Packet::Message);
    messages.map(|packet| Verbatim(packet.data.to_vec())).collect()
}

/// The caller's bytes without its Close, which goes out after the answer.
fn opening(bytes: &[u8]) -> &[u8] {
    if ends(bytes) { &bytes[..bytes.len() - 4] } else { bytes }
}

/// The caller's bytes with a Close, for the recorded calls that the Go side cut short.
fn closed(bytes: &[u8]) -> Vec<u8> {
    let packets = Call::packets(bytes);
    let last = packets.last().unwrap();
    let mut bytes = bytes.to_vec();
    // Dropping a stream of responses ends the yamux stream alone; so does Go when it shuts down.
    let drops = packets[0].name() == Ok(rpc::tailnet::STREAM_DERP_MAPS);
    if drops {
        return opening(&bytes).to_vec();
    }
    if last.kind != Packet::Close {
        coderctl_drpc::wire::encode(&mut bytes, Packet::Close, 1, last.message + 1, &[]);
    }
    bytes
}

fn ends(bytes: &[u8]) -> bool {
    Call::packets(bytes).last().is_some_and(|packet| packet.kind == Packet::Close)
}

/// A message that keeps its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verbatim(Vec<u8>);

impl Message for Verbatim {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: encoding::WireType,
        _: &mut impl Buf,
        _: encoding::DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("merge takes all of it")
    }

    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        self.0.extend_from_slice(&buf.copy_to_bytes(buf.remaining()));
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
