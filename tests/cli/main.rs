//! The binary as a user sees it: help, errors, output, and servers that misbehave.
//!
//! What is seen is one text of command line, status, stdout and stderr, held to a file under
//! `golden/`. `CODERCTL_BLESS=1` rewrites the files.

#![allow(unreachable_pub, reason = "one program: nothing in it is reached from outside")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod account;
mod bad_input;
mod config_ssh;
mod copies;
mod events;
mod help;
mod list;
mod login;
mod manuals;
mod netcheck;
mod server;
mod servers;
mod support;
mod surroundings;
mod workspace;
