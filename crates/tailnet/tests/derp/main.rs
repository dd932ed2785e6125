//! Connections to relays, against a relay in the same process and a clock that only we advance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checks;
mod connection;
mod homes;
mod http;
mod network;
mod relay;
mod relays;
mod ways;

use bytes::{Bytes, BytesMut};
use coderctl_tailnet::derp::frame::{Decoder, Frame};
use coderctl_tailnet::derp_map::RelayNode;
use coderctl_tailnet::ids::RegionId;
use coderctl_tailnet::keys::NodePrivate;
use tokio::io::{AsyncRead, AsyncReadExt};

fn region(id: i64) -> RegionId {
    RegionId::new(id).unwrap()
}

fn key(number: u8) -> NodePrivate {
    NodePrivate::new([number; 32])
}

/// A relay node; the network of the tests knows it by its name.
fn node(name: &str) -> RelayNode {
    RelayNode { force_http: true, ..RelayNode::named(name, format!("{name}.test")) }
}

fn encoded(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out.freeze()
}

/// Reads one frame, `None` at the end of the stream.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Some(frame) = Decoder::new(1 << 20).decode(buffer).unwrap() {
            return Some(frame);
        }
        if stream.read_buf(buffer).await.unwrap() == 0 {
            return None;
        }
    }
}
