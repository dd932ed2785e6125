//! A channel (RFC 4254 sections 5 and 6): windows, both ends of input, exit.
//!
//! Pure bookkeeping: what may be sent, what came in, what it means. Messages are written by the
//! connection.

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    error::{Error, Text},
    options::Exit,
    wire::Reader,
};

/// Largest data in one packet that we announce: what every server sends anyway.
pub const MAX_PACKET: u32 = 32 * 1024;
/// Largest data in one packet that we send, however much the peer would take.
const SEND_PACKET: u32 = 32 * 1024;
/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The state of the channel.
#[derive(Debug, Default)]
pub struct Channel {
    /// Our number for it, and the peer's.
    local: u32,
    remote: u32,
    /// What we may send, and how much at once.
    window: u32,
    max_packet: u32,
    /// What the peer may send, and what of it was read since we last said so.
    granted: u32,
    consumed: u32,
    /// What was granted at first.
    size: u32,
    eof_sent: bool,
    eof_received: bool,
    close_sent: bool,
    close_received: bool,
    exit: Option<Exit>,
}

impl Channel {
    /// A channel that we ask for, with this number of ours and this window granted.
    #[must_use]
    pub fn asked(local: u32, window: u32) -> Self {
        Self { local, granted: window, size: window, ..Self::default() }
    }

    /// A channel that the peer asks for, with the peer's number, window and packet size from its
    /// request.
    ///
    /// # Errors
    /// [`Error::Malformed`] when nothing could ever be sent on it.
    pub fn offered(local: u32, size: u32, theirs: [u32; 3]) -> Result<Self, Error> {
        let mut channel = Self::asked(local, size);
        channel.take_offer(theirs, "channel request")?;
        Ok(channel)
    }

    fn take_offer(&mut self, theirs: [u32; 3], what: &'static str) -> Result<(), Error> {
        let [remote, window, max_packet] = theirs;
        (self.remote, self.window) = (remote, window);
        self.max_packet = max_packet.min(SEND_PACKET);
        if self.max_packet == 0 {
            return Err(Error::Malformed(what));
        }
        Ok(())
    }

    /// The fields behind message number and channel number, which must be ours.
    fn fields<'a>(&self, payload: &'a [u8], what: &'static str) -> Result<Reader<'a>, Error> {
        let mut reader = Reader::new(payload, what);
        reader.byte()?;
        if reader.u32()? != self.local {
            return Err(Error::Malformed(NO_CHANNEL));
        }
        Ok(reader)
    }

    /// The peer's number.
    #[must_use]
    pub fn remote(&self) -> u32 {
        self.remote
    }

    /// Reads a CHANNEL_OPEN_CONFIRMATION.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn handle_confirmation(&mut self, payload: &[u8]) -> Result<(), Error> {
        let what = "channel confirmation";
        let mut reader = self.fields(payload, what)?;
        self.take_offer([reader.u32()?, reader.u32()?, reader.u32()?], what)
    }

    /// Whether the peer's window is used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.window == 0
    }

    /// How much of this many bytes may go into one packet now.
    #[must_use]
    pub fn sendable(&self, bytes: usize) -> usize {
        if self.eof_sent || self.close_sent || self.close_received {
            return 0;
        }
        bytes.min(self.window.min(self.max_packet) as usize)
    }

    /// Takes bytes that are sent off the window.
    pub fn sent(&mut self, bytes: usize) {
        self.window = self.window.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Whether nothing can be sent any more.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.eof_sent || self.close_sent || self.close_received
    }

    /// Whether both sides have closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.close_sent && self.close_received
    }

    /// Whether either side has closed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.close_sent || self.close_received
    }

    /// Whether the peer has closed.
    #[must_use]
    pub fn is_closed_by_peer(&self) -> bool {
        self.close_received
    }

    /// `true` the first time, when EOF is to be sent.
    pub fn shut(&mut self) -> bool {
        let first = !self.is_shut();
        self.eof_sent = true;
        first
    }

    /// `true` the first time, when CLOSE is to be sent.
    pub fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.close_sent, true)
    }

    /// What the user has read. `Some` is the amount to grant anew, once it is half a window.
    pub fn consumed(&mut self, bytes: usize) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.consumed < self.size / 2 || self.eof_received || self.close_received {
            return None;
        }
        let grant = std::mem::take(&mut self.consumed);
        self.granted = self.granted.saturating_add(grant);
        Some(grant)
    }

    /// Reads a CHANNEL_WINDOW_ADJUST.
    ///
    /// # Errors
    /// [`Error::Malformed`], also for a window beyond 2^32 - 1.
    pub fn handle_adjust(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = self.fields(payload, "window adjustment")?;
        let more = reader.u32()?;
        self.window = self.window.checked_add(more).ok_or(Error::Malformed("window adjustment"))?;
        Ok(())
    }

    /// Reads CHANNEL_DATA, without copying. `None` is data after our or the peer's CLOSE.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Window`] for more than was granted.
    pub fn handle_data(&mut self, payload: BytesMut) -> Result<Option<(Source, Bytes)>, Error> {
        let what = "channel data";
        let data = self.data(payload, what, 5)?;
        Ok(data.map(|data| (Source::Stdout, data)))
    }

    /// Reads CHANNEL_EXTENDED_DATA likewise; other kinds than standard error are dropped.
    ///
    /// # Errors
    /// As [`Self::handle_data`].
    pub fn handle_extended(&mut self, payload: BytesMut) -> Result<Option<(Source, Bytes)>, Error> {
        let what = "extended channel data";
        let kind = self.fields(&payload, what)?.u32()?;
        let data = self.data(payload, what, 9)?;
        Ok(match kind {
            1 => data.map(|data| (Source::Stderr, data)),
            _ => None,
        })
    }

    fn data(
        &mut self,
        mut payload: BytesMut,
        what: &'static str,
        head: usize,
    ) -> Result<Option<Bytes>, Error> {
        let mut reader = self.fields(&payload, what)?;
        reader.take(head - 5)?;
        let length = reader.string()?.len();
        self.granted = u32::try_from(length)
            .ok()
            .and_then(|length| self.granted.checked_sub(length))
            .ok_or(Error::Window)?;
        if self.eof_received || self.close_received {
            return Err(Error::Malformed("end of output: data follow it"));
        }
        payload.advance(head + 4);
        payload.truncate(length);
        Ok((!self.close_sent && length > 0).then(|| payload.freeze()))
    }

    /// The peer sends no more data.
    pub fn handle_eof(&mut self) {
        self.eof_received = true;
    }

    /// The peer has closed.
    pub fn handle_close(&mut self) {
        self.close_received = true;
    }

    /// Takes note of a request that tells how the remote process ended; others are ignored.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn handle_exit(&mut self, name: &[u8], fields: &mut Reader<'_>) -> Result<(), Error> {
        match name {
            b"exit-status" => {
                let status = fields.u32()?;
                self.exit.get_or_insert(Exit::Status(status));
            }
            b"exit-signal" => {
                let name = Text::new(fields.string()?).to_string();
                let core = fields.boolean()?;
                let message = Text::new(fields.string()?).to_string();
                self.exit.get_or_insert(Exit::Signal { name, core, message });
            }
            _ => {}
        }
        Ok(())
    }

    /// How the remote process ended, as far as the server has said.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }
}

/// What is wrong with a message for a channel that there is not.
pub(crate) const NO_CHANNEL: &str = "channel number: it names no channel of ours";
