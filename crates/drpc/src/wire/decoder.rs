//! Bytes to packets.

use bytes::{Buf, BytesMut};

use super::{Kind, MAX_PACKET, Packet, WireError, varint};

/// Takes the bytes of one direction in any pieces and gives the packets in them.
///
/// Holds at most one packet of the limit's size beside what was fed since the last
/// [`next_packet`](Self::next_packet); sizes are checked when they are announced, before any of
/// the data is kept. After an error the stream is of no more use.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes that are not taken apart yet.
    input: BytesMut,
    /// The frame whose data is coming.
    frame: Option<Frame>,
    /// What has come of a packet that is not done; its number is `floor`.
    partial: Option<Partial>,
    /// The lowest number that the next frame may have: call, packet.
    floor: (u64, u64),
    limit: usize,
}

/// A frame whose header has come.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// `None` for one whose data is skipped.
    kind: Option<Kind>,
    done: bool,
    left: usize,
}

/// A packet that is not done.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    data: BytesMut,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            input: BytesMut::new(),
            frame: None,
            partial: None,
            floor: (1, 1),
            limit: MAX_PACKET,
        }
    }
}

impl Decoder {
    /// Sets another limit than [`MAX_PACKET`] for packets that begin from now on.
    pub fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// More bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next packet that has come in full.
    ///
    /// # Errors
    /// Any [`WireError`] but `Truncated`, `Name` and `Metadata`.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, WireError> {
        loop {
            let Some(frame) = self.frame else {
                if !self.take_header()? {
                    return Ok(None);
                }
                continue;
            };
            let take = frame.left.min(self.input.len());
            let data = self.input.split_to(take);
            let left = frame.left - take;
            if let Some(partial) = &mut self.partial
                && frame.kind.is_some()
            {
                if partial.data.is_empty() {
                    partial.data = data;
                } else {
                    partial.data.extend_from_slice(&data);
                }
            }
            if left > 0 {
                self.frame = Some(Frame { left, ..frame });
                return Ok(None);
            }
            self.frame = None;
            if frame.kind.is_some()
                && frame.done
                && let Some(partial) = self.partial.take()
            {
                let (stream, message) = self.floor;
                self.floor = after(stream, message);
                let Partial { kind, data } = partial;
                return Ok(Some(Packet { kind, stream, message, data: data.freeze() }));
            }
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when it ended inside a packet.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.input.is_empty() && self.frame.is_none() && self.partial.is_none() {
            Ok(())
        } else {
            Err(WireError::Truncated)
        }
    }

    /// Takes a frame's header; false when it is not complete.
    fn take_header(&mut self) -> Result<bool, WireError> {
        let mut rest = &self.input[..];
        if rest.is_empty() {
            return Ok(false);
        }
        let control = rest.get_u8();
        let Some(stream) = varint::take(&mut rest)? else { return Ok(false) };
        let Some(message) = varint::take(&mut rest)? else { return Ok(false) };
        let Some(length) = varint::take(&mut rest)? else { return Ok(false) };
        let header = self.input.len() - rest.len();
        self.input.advance(header);

        let kind = known(control)?;
        if let Some(kind) = kind {
            self.enter(kind, (stream, message))?;
        }
        let held = self.partial.as_ref().map_or(0, |partial| partial.data.len());
        let size = length.saturating_add(held as u64);
        if size > self.limit as u64 {
            return Err(WireError::TooLarge { size, limit: self.limit });
        }
        self.frame = Some(Frame { kind, done: control & 1 == 1, left: length as usize });
        Ok(true)
    }

    /// Finds the packet that a frame belongs to, or begins one.
    fn enter(&mut self, kind: Kind, number: (u64, u64)) -> Result<(), WireError> {
        let (stream, message) = number;
        if message == 0 || number < self.floor {
            return Err(WireError::Order { stream, message });
        }
        match &self.partial {
            Some(partial) if number == self.floor => {
                if partial.kind != kind {
                    return Err(WireError::KindChange { from: partial.kind, to: kind });
                }
            }
            // What is incomplete of an earlier packet is dropped: its sender gave it up.
            Some(_) | None => {
                self.floor = number;
                self.partial = Some(Partial { kind, data: BytesMut::new() });
            }
        }
        Ok(())
    }
}

/// The lowest number after a packet that is done. Nothing follows the very last one.
fn after(stream: u64, message: u64) -> (u64, u64) {
    match (message.checked_add(1), stream.checked_add(1)) {
        (Some(message), _) => (stream, message),
        (None, Some(stream)) => (stream, 1),
        (None, None) => (stream, message),
    }
}

/// The kind of a frame; `None` for one that may be ignored. With the control bit only Cancel
/// means something.
fn known(control: u8) -> Result<Option<Kind>, WireError> {
    let number = control >> 1 & 0x3f;
    let kind = Kind::from_number(number);
    if control & 0x80 != 0 {
        return Ok(kind.filter(|kind| *kind == Kind::Cancel));
    }
    kind.map(Some).ok_or(WireError::Kind(number))
}
