//! The crate from outside: recorded sessions, both roles against each other, hostile bytes.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which the exception for tests leaves out"
)]

mod calls;
mod hostile;
mod limits;
mod recorded;
mod replay;
mod sessions;
mod support;
mod vectors;
