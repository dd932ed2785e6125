//! Two engines against each other in a simulated network.

#[path = "../sim/mod.rs"]
mod sim;

mod datagrams;
mod forward;
mod handshake;
mod hostile;
mod noise;
mod streams;
