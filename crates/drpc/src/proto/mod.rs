//! The protobuf messages of both services, and the names of their calls.
//!
//! `proto/*.proto` at the crate's root holds field numbers and names as they are on the wire;
//! `tests/generated.rs` makes [`tailnet`] and [`agent`] from it. Maps are ordered, so that equal
//! values encode to equal bytes. Messages that hold a secret print without it.

mod redacted;

/// Messages of `coder.agent.v2`.
#[allow(missing_docs, reason = "made from the .proto files, where every field is described")]
#[rustfmt::skip]
pub mod agent;
/// Messages of `coder.tailnet.v2`.
#[allow(missing_docs, reason = "made from the .proto files, where every field is described")]
#[rustfmt::skip]
pub mod tailnet;

pub mod rpc;
