//! What the engine takes from the heap: for each datagram, and in the long run.
//!
//! The allocator counts for the whole process, so the tests here take turns.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../sim/mod.rs"]
mod sim;

mod bulk;
mod flood;
mod pair;

use std::{
    alloc::System,
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what was measured, past the test harness's capture.
fn say(what: &str) {
    // Nobody listens: then nobody needs to know.
    let _ = writeln!(std::io::stderr(), "memory: {what}");
}
