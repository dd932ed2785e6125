//! The tunneler, driven from outside.

#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    reason = "a test looks for the one thing that it is about, and may fail"
)]

mod gaps;
mod lives;
mod properties;
mod rig;
mod scenarios;
mod table;
mod wait;
