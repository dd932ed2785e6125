//! Recordings, and a peer that speaks yamux by hand.

use std::{collections::BTreeMap, time::Duration};

use coderctl_drpc::{
    wire::{Decoder, Packet},
    yamux::frame::{Flags, HEADER_LEN, Header, Kind},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A recorded session: who sent which bytes, in order.
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    pub(crate) messages: Vec<(Side, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Client, Self::Server];
}

/// A frame with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

/// One recorded call: what each side sent on its stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Call {
    pub(crate) client: Vec<u8>,
    pub(crate) server: Vec<u8>,
}

impl Call {
    pub(crate) fn packets(bytes: &[u8]) -> Vec<Packet> {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        let packets = std::iter::from_fn(|| decoder.next_packet().unwrap()).collect();
        decoder.finish().unwrap();
        packets
    }

    pub(crate) fn side(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    pub(crate) fn rpc(&self) -> String {
        Self::packets(&self.client)[0].name().unwrap().to_owned()
    }
}

pub(crate) fn recordings() -> Vec<Recording> {
    [
        ("coordinate_client", include_str!("../fixtures/coordinate_client.hex")),
        ("agent_rpc", include_str!("../fixtures/agent_rpc.hex")),
        ("agent_rpc_claim_closing", include_str!("../fixtures/agent_rpc_claim_closing.hex")),
        ("agent_rpc_claim_new", include_str!("../fixtures/agent_rpc_claim_new.hex")),
    ]
    .into_iter()
    .map(|(name, text)| Recording { name, messages: text.lines().filter_map(line).collect() })
    .collect()
}

impl Recording {
    /// All bytes of one side.
    pub(crate) fn bytes(&self, side: Side) -> Vec<u8> {
        let from = self.messages.iter().filter(|(from, _)| *from == side);
        from.flat_map(|(_, bytes)| bytes).copied().collect()
    }

    /// All frames of one side.
    pub(crate) fn frames(&self, side: Side) -> Vec<Frame> {
        frames(&self.bytes(side))
    }

    /// The calls by their stream.
    pub(crate) fn calls(&self) -> BTreeMap<u32, Call> {
        let mut calls = BTreeMap::<u32, Call>::new();
        for side in Side::BOTH {
            for Frame { header, payload } in self.frames(side) {
                if header.kind == Kind::Data {
                    let call = calls.entry(header.stream).or_default();
                    match side {
                        Side::Client => call.client.extend(payload),
                        Side::Server => call.server.extend(payload),
                    }
                }
            }
        }
        calls
    }
}

fn line(text: &str) -> Option<(Side, Vec<u8>)> {
    let (side, bytes) = match text.split_once(' ')? {
        ("C", bytes) => (Side::Client, bytes),
        ("S", bytes) => (Side::Server, bytes),
        _ => return None,
    };
    Some((side, unhex(bytes)))
}

pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(header).unwrap();
        let length = if header.kind == Kind::Data { header.length as usize } else { 0 };
        let (payload, rest) = rest.split_at(length);
        frames.push(Frame { header, payload: payload.to_vec() });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame is left");
    frames
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert_eq!(digits.len() % 2, 0);
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A peer that writes and reads frames by hand.
pub(crate) struct Raw(pub(crate) DuplexStream);

impl Raw {
    pub(crate) async fn send(&mut self, kind: Kind, flags: Flags, stream: u32, length: u32) {
        let header = Header { kind, flags, stream, length };
        self.0.write_all(&header.encode()).await.unwrap();
    }

    pub(crate) async fn data(&mut self, flags: Flags, stream: u32, payload: &[u8]) {
        self.send(Kind::Data, flags, stream, payload.len() as u32).await;
        self.0.write_all(payload).await.unwrap();
    }

    /// The next frame; `None` at the end of the byte stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_LEN];
        self.0.read_exact(&mut header).await.ok()?;
        let header = Header::decode(&header).unwrap();
        let length = if header.kind == Kind::Data { header.length as usize } else { 0 };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        Some(Frame { header, payload })
    }

    pub(crate) async fn expect(&mut self, kind: Kind, flags: Flags, stream: u32, length: u32) {
        let frame = self.next().await.expect("a frame");
        assert_eq!(frame.header, Header { kind, flags, stream, length });
    }
}

/// Fails a test that hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("this hangs")
}
