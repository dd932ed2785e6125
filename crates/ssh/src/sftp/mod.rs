//! The file transfer protocol on the wire: version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's
//! extensions. Requests and answers, each way, for either side; section numbers are the draft's.
//!
//! Paths are bytes, as file systems have them. Fields share the packet that they came in.

mod attributes;
mod request;
mod response;

use bytes::{Buf, Bytes, BytesMut};

pub use attributes::Attributes;
pub use request::{Flags, Request};
pub use response::{Code, Limits, Name, Response};

use crate::{error::Error, wire::Reader};

/// The version that both sides speak.
pub const VERSION: u32 = 3;

/// Longest packet accepted, in bytes without its length (OpenSSH: `SFTP_MAX_MSG_LENGTH`).
pub const PACKET: usize = 256 * 1024;

/// Most bytes of a file in one packet: what leaves room for the rest (OpenSSH:
/// `SFTP_MAX_READ_LENGTH`).
pub const DATA: u32 = 255 * 1024;

/// Longest handle (section 6.3).
pub const HANDLE: usize = 256;

/// Takes one packet, without its length, off the front of the input; `None` until it is whole.
///
/// # Errors
/// The length of one that nobody would send.
pub fn split(input: &mut BytesMut) -> Result<Option<Bytes>, usize> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > PACKET {
        return Err(length);
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length).freeze()))
}

/// Appends a packet of this kind; the fields follow its kind and number.
fn packet(out: &mut BytesMut, kind: u8, id: u32, fields: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    out.extend_from_slice(&id.to_be_bytes());
    fields(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// A string of a packet, which it shares.
fn shared(reader: &mut Reader<'_>, packet: &Bytes) -> Result<Bytes, Error> {
    reader.string().map(|bytes| packet.slice_ref(bytes))
}

/// A 64-bit number.
fn u64(reader: &mut Reader<'_>) -> Result<u64, Error> {
    Ok(u64::from(reader.u32()?) << 32 | u64::from(reader.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_one_by_one() {
        let mut input = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\x01c\0\0"[..]);
        assert_eq!(&split(&mut input).unwrap().unwrap()[..], b"ab");
        assert_eq!(&split(&mut input).unwrap().unwrap()[..], b"c");
        assert_eq!(split(&mut input), Ok(None));
        assert_eq!(split(&mut BytesMut::from(&[0; 4][..])), Err(0));
        assert_eq!(split(&mut BytesMut::from(&[0, 4, 0, 1][..])), Err(PACKET + 1));
    }
}
