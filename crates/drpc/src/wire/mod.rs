//! dRPC frames and packets (storj/drpc: drpcwire), pure.
//!
//! A packet is one step of a call: its Invoke, a message, its end. It travels as one or more
//! frames of equal kind and number, the last of which has the done bit:
//!
//! ```text
//!   control byte: control 1 bit | kind 6 bits | done 1 bit
//!   stream, message, length: varints of up to 10 bytes
//!   data: `length` bytes
//! ```
//!
//! Each direction counts its packets from 1; numbers never go back, and a new one drops what is
//! incomplete of the one before. [`encode`] makes bytes, [`Decoder`] makes packets of them.

mod decoder;
mod encoder;
mod error;
mod metadata;
mod packet;
mod varint;

pub use decoder::Decoder;
pub use encoder::{encode, encode_error, encode_message};
pub use error::WireError;
pub use metadata::Metadata;
pub use packet::{Kind, MAX_ERROR_TEXT, MAX_FRAME, MAX_PACKET, Packet, parse_error};
