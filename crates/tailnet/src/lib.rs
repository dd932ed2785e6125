//! The tailnet: how a client reaches a workspace agent, whatever network lies between.
//!
//! ```text
//!   bytes of an application
//!        │
//!      stack ── IPv6 packets ── wg ── datagrams ── path ──┬── derp (relay, over HTTP)
//!                                                         └── UDP
//!   control ── coordinate ──► peers (their keys, their home relay)
//!      └────── derp_map   ──► relays
//! ```
//!
//! Who may know whom: a peer is an id, and from the id follows its address ([`ids`]); the
//! coordinator tells its keys and home relay ([`node`], [`coordinate`], [`control`]); the map
//! tells how relays are reached ([`derp_map`]), and [`derp`] keeps connections to them. [`disco`]
//! and [`tsmp`] are the two small protocols spoken beside the data.
//!
//! Direct ways between peers are found with them ([`paths`]), and with [`stun`], which tells where
//! we may be reached ourselves ([`endpoints`]).
//!
//! Everything is pure (time and entropy are arguments) but `derp::connection`, `derp::relay`,
//! `control`, [`network`] and the shell, which are thin.

pub mod control;
pub mod coordinate;
pub mod derp;
pub mod derp_map;
pub mod disco;
pub mod endpoints;
pub mod engine;
pub mod ids;
pub mod keys;
pub mod netcheck;
pub mod network;
pub mod node;
pub mod packet;
pub mod paths;
pub mod shell;
pub mod stack;
pub mod stun;
pub mod tsmp;
pub mod wg;
