//! Packets to bytes.

use prost::Message;

use super::{Kind, MAX_FRAME, MAX_PACKET, varint};

/// Appends a packet, split into frames of at most [`MAX_FRAME`] bytes of data.
pub fn encode(out: &mut Vec<u8>, kind: Kind, stream: u64, message: u64, mut data: &[u8]) {
    loop {
        let (part, rest) = data.split_at(data.len().min(MAX_FRAME));
        data = rest;
        header(out, kind, rest.is_empty(), stream, message, part.len());
        out.extend_from_slice(part);
        if rest.is_empty() {
            return;
        }
    }
}

/// Appends a Message packet; without a copy where it fits in one frame.
///
/// # Errors
/// The size of a message over [`MAX_PACKET`]; `out` is as it was.
pub fn encode_message<M: Message>(
    out: &mut Vec<u8>,
    stream: u64,
    number: u64,
    message: &M,
) -> Result<(), usize> {
    let size = message.encoded_len();
    if size > MAX_PACKET {
        return Err(size);
    }
    if size <= MAX_FRAME {
        header(out, Kind::Message, true, stream, number, size);
        message.encode_raw(out);
    } else {
        encode(out, Kind::Message, stream, number, &message.encode_to_vec());
    }
    Ok(())
}

/// Appends an Error packet.
pub fn encode_error(out: &mut Vec<u8>, stream: u64, message: u64, code: u64, text: &str) {
    let data = [&code.to_be_bytes()[..], text.as_bytes()].concat();
    encode(out, Kind::Error, stream, message, &data[..data.len().min(MAX_PACKET)]);
}

fn header(out: &mut Vec<u8>, kind: Kind, done: bool, stream: u64, message: u64, length: usize) {
    let control = match kind {
        Kind::Cancel => 0x80,
        Kind::Invoke
        | Kind::Message
        | Kind::Error
        | Kind::Close
        | Kind::CloseSend
        | Kind::InvokeMetadata => 0,
    };
    out.push(control | kind.number() << 1 | u8::from(done));
    varint::put(out, stream);
    varint::put(out, message);
    varint::put(out, length as u64);
}
