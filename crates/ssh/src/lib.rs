//! A small SSH 2 client that wastes no round trip, and a server, each for any number of channels.
//!
//! The client opens sessions (a shell, a command or a subsystem), connections and listeners over any
//! byte stream whose other end accepts user authentication `none`, as a Coder workspace agent does
//! behind its tunnel. An ordinary client waits for an answer six times before its first command
//! starts; this one waits twice:
//!
//! ```text
//! client                                                              server
//!   version · KEXINIT · KEX_ECDH_INIT                        ─────►
//!                ◄─────  version · KEXINIT · KEX_ECDH_REPLY · NEWKEYS · EXT_INFO
//!   NEWKEYS · SERVICE_REQUEST · USERAUTH none ·
//!   CHANNEL_OPEN · env … · pty-req · exec                    ─────►
//!                ◄─────  SERVICE_ACCEPT · USERAUTH_SUCCESS · CONFIRMATION · SUCCESS · data …
//! ```
//!
//! The first write is no guess in the sense of RFC 4253 section 7: only curve25519 is offered, so
//! a server can either answer it or has nothing in common with us. The second assumes that the
//! server numbers its first channel 0; the confirmation is checked, and a server that does it
//! otherwise gives [`Error::ChannelNumber`], after which a new connection works whose session is
//! asked for after [`client::connect`].
//!
//! What is here, from the wire up:
//!
//! * [`wire`], [`ident`], [`packet`], [`cipher`]: bytes to fields, version lines, packets, AEADs.
//! * [`algorithms`], [`kex`], [`hostkey`]: what is negotiated, the exchange, its signature.
//! * [`transport`]: version, keys and re-keying as one state machine over bytes.
//! * [`channel`]: one channel: windows, end of input, exit.
//! * `mux`: a connection with its channels, from the login to the last of them. Its core is pure:
//!   bytes, entropy and time come in as arguments, bytes and events go out. Around it is a thin
//!   tokio shell.
//! * [`client`] and [`server`]: the two sides of that; [`open`] is a client's shortest way to a
//!   session.
//! * [`sftp`]: what the subsystem of that name says on its channel, for either side.
//!
//! The host key is not pinned: the tunnel below has authenticated the agent already. Its
//! signature is verified, which proves the exchange consistent, and the key is there to be
//! looked at ([`client::Client::host_key`]).

pub mod algorithms;
pub mod channel;
pub mod cipher;
pub mod client;
pub mod hostkey;
pub mod ident;
pub mod kex;
pub mod message;
pub mod packet;
pub mod server;
pub mod sftp;
pub mod transport;
pub mod wire;

mod error;
mod mux;
mod options;

pub use error::{Error, Text};
pub use mux::{
    open,
    session::{Control, Session},
};
pub use options::{Exit, Modes, Options, Pty, Request};
