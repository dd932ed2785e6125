//! An agent and clients of ours, over a relay and a coordinator in the same process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod coordination;
mod coordinator;
mod datagrams;
#[path = "../derp/relay.rs"]
#[allow(dead_code, reason = "the tests of the relay use the rest")]
mod relay;
mod streams;
mod world;

use bytes::{Bytes, BytesMut};
use coderctl_tailnet::derp::frame::Frame;

fn encoded(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out.freeze()
}
