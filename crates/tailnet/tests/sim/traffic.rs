//! Applications on the engines: senders of a known pattern and receivers that check it.

use std::time::Instant;

use coderctl_tailnet::stack::{ConnectionId, RecvError, SendError, Stack};

/// The byte at a place of the pattern; different for each stream.
pub(crate) fn byte(stream: u64, at: u64) -> u8 {
    let word = (at / 8 + stream * 0x1000_0001).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word.to_le_bytes()[(at % 8) as usize]
}

/// Sends `total` bytes of the pattern and then FIN.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) id: ConnectionId,
    pub(crate) stream: u64,
    pub(crate) sent: u64,
    pub(crate) total: u64,
    /// No more than this is sent for now.
    pub(crate) released: u64,
    pub(crate) closed: bool,
}

impl Source {
    pub(crate) fn new(id: ConnectionId, stream: u64, total: u64) -> Self {
        Self { id, stream, sent: 0, total, released: total, closed: false }
    }

    /// Sends what fits and may be sent; `true` when everything was sent and closed.
    pub(crate) fn pump(&mut self, stack: &mut Stack, now: Instant) -> Result<bool, SendError> {
        let end = self.total.min(self.released);
        while self.sent < end {
            let (stream, sent) = (self.stream, &mut self.sent);
            let step = stack.send(
                self.id,
                &mut |room| {
                    let len = room.len().min((end - *sent) as usize);
                    for (i, slot) in room[..len].iter_mut().enumerate() {
                        *slot = byte(stream, *sent + i as u64);
                    }
                    *sent += len as u64;
                    len
                },
                now,
            );
            match step {
                Ok(_) => {}
                Err(SendError::Full) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.sent < self.total {
            return Ok(false);
        }
        if !self.closed {
            self.closed = true;
            stack.close(self.id, now);
        }
        Ok(true)
    }
}

/// Receives the pattern and checks every byte.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) id: ConnectionId,
    pub(crate) stream: u64,
    pub(crate) received: u64,
    pub(crate) finished: bool,
    /// Takes no more than this in one call.
    pub(crate) bite: usize,
}

impl Drain {
    pub(crate) fn new(id: ConnectionId, stream: u64) -> Self {
        Self { id, stream, received: 0, finished: false, bite: usize::MAX }
    }

    /// Takes what is there; `true` after the end of the stream.
    pub(crate) fn pump(&mut self, stack: &mut Stack, now: Instant) -> Result<bool, RecvError> {
        while !self.finished {
            let (stream, received, bite) = (self.stream, &mut self.received, self.bite);
            let step = stack.recv(
                self.id,
                &mut |bytes| {
                    let len = bytes.len().min(bite);
                    for (i, got) in bytes[..len].iter().enumerate() {
                        let at = *received + i as u64;
                        assert_eq!(*got, byte(stream, at), "byte {at} of stream {stream}");
                    }
                    *received += len as u64;
                    len
                },
                now,
            );
            match step {
                Ok(_) => {}
                Err(RecvError::Empty) => return Ok(false),
                Err(RecvError::Finished) => self.finished = true,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
