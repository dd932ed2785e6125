//! The transport against servers in the same process: good ones, odd ones, and none at all.

#![allow(unreachable_pub, reason = "one program: nothing in it is reached from outside")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected fails the test")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod http;
mod proxies;
mod server;
mod surroundings;
mod websocket;
