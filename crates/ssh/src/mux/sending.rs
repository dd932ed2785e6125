//! What a connection's side says about its channels: opens and closes them, sends data.

use super::{
    channels::{Entry, Phase},
    core::{Core, OUTPUT, Stage, WINDOW},
    request::{Outgoing, Reason},
};
use crate::{
    channel::{self, Channel, Source},
    error::Error,
    message,
    options::Exit,
    wire::Put,
};

/// Most data sent for one channel before others get their turn, in bytes.
const TURN: usize = 64 * 1024;
/// The kind of extended data that standard error is (RFC 4254 section 5.2).
const STDERR: [u8; 4] = 1u32.to_be_bytes();

impl Core {
    /// Accepts a channel of [`Event::Direct`] or [`Event::Forwarded`].
    ///
    /// # Errors
    /// [`Error::Entropy`].
    ///
    /// [`Event::Direct`]: super::core::Event::Direct
    /// [`Event::Forwarded`]: super::core::Event::Forwarded
    pub fn accept(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Open;
        let remote = entry.channel.remote();
        self.confirm(id, remote)
    }

    /// Refuses such a channel, with words for the peer.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn refuse(&mut self, id: u32, reason: Reason, text: &str) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Dead;
        let remote = entry.channel.remote();
        self.send_refusal(remote, reason, text)
    }

    /// Asks the peer for a channel; [`Event::Opened`] or [`Event::Refused`] follows for the
    /// number that is returned. `None` when there are too many or the connection is over.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    ///
    /// [`Event::Opened`]: super::core::Event::Opened
    /// [`Event::Refused`]: super::core::Event::Refused
    pub fn open(&mut self, outgoing: &Outgoing) -> Result<Option<u32>, Error> {
        if self.stage != Stage::Open {
            return Ok(None);
        }
        let Some(id) = self.channels.vacant() else { return Ok(None) };
        self.channels.insert(id, Entry::new(Channel::asked(id, WINDOW), Phase::Asked));
        self.transport.send(&[&outgoing.encode([id, WINDOW, channel::MAX_PACKET])])?;
        Ok(Some(id))
    }

    /// Sends as much of this as the client's window and our own output allow; the rest later.
    /// Zero asks to try again: after [`Event::Writable`] when [`Self::is_exhausted`], otherwise
    /// once there is less output.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    ///
    /// [`Event::Writable`]: super::core::Event::Writable
    pub fn send_data(&mut self, id: u32, source: Source, data: &[u8]) -> Result<usize, Error> {
        let mut data = &data[..data.len().min(TURN)];
        let mut total = 0;
        while self.has_room() {
            let Some(entry) = self.channels.in_phase(id, Phase::Open) else { break };
            let now = entry.channel.sendable(data.len());
            if now == 0 {
                break;
            }
            let (head, rest) = data.split_at(now);
            let remote = entry.channel.remote().to_be_bytes();
            entry.channel.sent(now);
            let length = (now as u32).to_be_bytes();
            match source {
                Source::Stdout => {
                    self.transport.send(&[&[message::CHANNEL_DATA], &remote, &length, head])?;
                }
                Source::Stderr => {
                    let front = [message::CHANNEL_EXTENDED_DATA];
                    self.transport.send(&[&front, &remote, &STDERR, &length, head])?;
                }
            }
            total += now;
            data = rest;
        }
        Ok(total)
    }

    /// Whether data are accepted, as far as the output is concerned.
    pub fn has_room(&mut self) -> bool {
        self.stage == Stage::Open
            && self.transport.is_open()
            && self.transport.output().len() < OUTPUT
    }

    /// Whether the client has no room for data of this channel.
    #[must_use]
    pub fn is_exhausted(&self, id: u32) -> bool {
        self.channels.get(id).is_some_and(|entry| entry.channel.is_exhausted())
    }

    /// Whether data can never be sent again.
    #[must_use]
    pub fn is_shut(&self, id: u32) -> bool {
        self.stage == Stage::Closed
            || self
                .channels
                .get(id)
                .is_none_or(|entry| entry.phase == Phase::Dead || entry.channel.is_shut())
    }

    /// Sends the end of data.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn send_eof(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if !entry.channel.shut() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        self.send_on(message::CHANNEL_EOF, remote, |_| {})
    }

    /// Ends a session: no more output, how the program ended, close.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn finish(&mut self, id: u32, exit: &Exit) -> Result<(), Error> {
        self.send_eof(id)?;
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if entry.channel.is_closed_by_peer() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        match exit {
            Exit::Status(status) => self.send_on(message::CHANNEL_REQUEST, remote, |out| {
                out.put_string(b"exit-status");
                out.put_boolean(false);
                out.extend_from_slice(&status.to_be_bytes());
            })?,
            Exit::Signal { name, core, message } => {
                self.send_on(message::CHANNEL_REQUEST, remote, |out| {
                    out.put_string(b"exit-signal");
                    out.put_boolean(false);
                    out.put_string(name.as_bytes());
                    out.put_boolean(*core);
                    out.put_string(message.as_bytes());
                    out.put_string(b"");
                })?;
            }
            // It is the client who finds that it was told nothing.
            Exit::Lost(_) => {}
        }
        self.close(id)
    }

    /// Closes a channel from this side.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn close(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if !entry.channel.close() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        self.send_on(message::CHANNEL_CLOSE, remote, |_| {})
    }

    /// Takes note that this much was read, and grants the client as much anew.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn consumed(&mut self, id: u32, bytes: usize) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        let remote = entry.channel.remote();
        match entry.channel.consumed(bytes) {
            Some(grant) => self.send_on(message::CHANNEL_WINDOW_ADJUST, remote, |out| {
                out.extend_from_slice(&grant.to_be_bytes());
            }),
            None => Ok(()),
        }
    }

    /// Nobody here speaks of this channel any more: refuses or closes it if that is still to be
    /// done. Its number is used again once the client has closed it, too.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn release(&mut self, id: u32) -> Result<(), Error> {
        self.refuse(id, Reason::ConnectFailed, "nobody took it")?;
        self.close(id)?;
        self.channels.release(id);
        Ok(())
    }

    pub(super) fn confirm(&mut self, id: u32, remote: u32) -> Result<(), Error> {
        self.send_on(message::CHANNEL_OPEN_CONFIRMATION, remote, |out| {
            for number in [id, WINDOW, channel::MAX_PACKET] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        })
    }

    pub(super) fn send_refusal(
        &mut self,
        remote: u32,
        reason: Reason,
        text: &str,
    ) -> Result<(), Error> {
        self.send_on(message::CHANNEL_OPEN_FAILURE, remote, |out| {
            out.extend_from_slice(&reason.code().to_be_bytes());
            out.put_string(text.as_bytes());
            out.put_string(b"");
        })
    }

    pub(super) fn send_on(
        &mut self,
        message: u8,
        remote: u32,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        if self.stage == Stage::Closed {
            return Ok(());
        }
        let mut out = vec![message];
        out.extend_from_slice(&remote.to_be_bytes());
        fields(&mut out);
        self.transport.send(&[&out])
    }
}
