//! A small SSH 2 client that wastes no round trip, one for any number of channels, and a server.
//!
//! The client opens one session (a shell, a command or a subsystem) over any byte stream whose other end
//! accepts user authentication `none`, as a Coder workspace agent does behind its tunnel. An
//! ordinary client waits for an answer six times before its command starts; this one waits twice:
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
//! otherwise gives [`Error::ChannelNumber`], after which [`Steps::OneByOne`] works.
//!
//! What is here, from the wire up:
//!
//! * [`wire`], [`ident`], [`packet`], [`cipher`]: bytes to fields, version lines, packets, AEADs.
//! * [`algorithms`], [`kex`], [`hostkey`]: what is negotiated, the exchange, its signature.
//! * [`transport`]: version, keys and re-keying as one state machine over bytes.
//! * [`channel`]: one channel: windows, end of input, exit.
//! * [`connection`]: the client's both together, from the first byte to the exit. Pure: bytes,
//!   entropy and time come in as arguments, bytes and events go out.
//! * [`session`]: the thin tokio shell: [`open`], [`Session`] and its streams.
//! * [`server`]: the other side, for any number of channels, in the same two layers.
//! * [`client`]: a client for any number of channels, in those, too.
//! * [`sftp`]: what the subsystem of that name says on its channel, for either side.
//!
//! The host key is not pinned: the tunnel below has authenticated the agent already. Its
//! signature is verified, which proves the exchange consistent, and the key is there to be
//! looked at ([`Session::host_key`]).

pub mod algorithms;
pub mod channel;
pub mod cipher;
pub mod client;
pub mod connection;
pub mod hostkey;
pub mod ident;
pub mod kex;
pub mod message;
pub mod packet;
pub mod server;
pub mod session;
pub mod sftp;
pub mod transport;
pub mod wire;

mod error;
mod mux;
mod options;
mod pump;
mod streams;

pub use error::{Error, Text};
pub use options::{Exit, Modes, Options, Pty, Request, Steps};
pub use session::{Control, Ending, Session, open};
pub use streams::{Output, Stdin};
