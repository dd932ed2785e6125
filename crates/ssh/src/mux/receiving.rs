//! What the peer says about channels.

use bytes::{Bytes, BytesMut};

use super::{
    channels::{Entry, Phase, Use},
    core::{Core, Event, Side, WINDOW},
    request::{Kind, Open, Origin, Reason},
    requests::{Outcome, Requests},
};
use crate::{
    channel::{self, Channel, Source},
    error::{Error, Text},
    message,
    options::Exit,
    wire::Reader,
};

impl Core {
    pub(super) fn handle_open(&mut self, payload: &[u8]) -> Result<(), Error> {
        let Open { theirs, kind } = Open::parse(payload, self.serves())?;
        match kind {
            Kind::Refused(reason, text) => return self.send_refusal(theirs[0], reason, text),
            Kind::Forwarded(Origin::Agent) if !self.offers_agent => {
                return self.send_refusal(theirs[0], Reason::Prohibited, "no agent was offered");
            }
            Kind::Session | Kind::Direct(_) | Kind::Forwarded(_) => {}
        }
        let Some(id) = self.channels.vacant() else {
            return self.send_refusal(theirs[0], Reason::Shortage, "too many channels");
        };
        let Ok(channel) = Channel::offered(id, WINDOW, theirs) else {
            return self.send_refusal(theirs[0], Reason::ConnectFailed, "no data would fit");
        };
        match kind {
            Kind::Session => {
                let mut entry = Entry::new(channel, Phase::Open);
                entry.usage = Use::Serving(Requests::default());
                self.channels.insert(id, entry);
                self.confirm(id, theirs[0])?;
            }
            Kind::Direct(target) => {
                self.channels.insert(id, Entry::new(channel, Phase::Offered));
                self.events.push_back(Event::Direct(id, target));
            }
            Kind::Forwarded(origin) => {
                self.channels.insert(id, Entry::new(channel, Phase::Offered));
                self.events.push_back(Event::Forwarded(id, origin));
            }
            Kind::Refused(..) => {}
        }
        Ok(())
    }

    pub(super) fn handle_channel(&mut self, payload: BytesMut) -> Result<(), Error> {
        let mut reader = Reader::new(&payload, "channel message");
        let message = reader.byte()?;
        let id = reader.u32()?;
        let asked =
            matches!(message, message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE);
        let phase = if asked { Phase::Asked } else { Phase::Open };
        let entry =
            self.channels.in_phase(id, phase).ok_or(Error::Malformed(channel::NO_CHANNEL))?;
        match message {
            message::CHANNEL_OPEN_CONFIRMATION => {
                entry.channel.handle_confirmation(&payload)?;
                entry.phase = Phase::Open;
                if entry.released {
                    // Nobody wants it any more.
                    return self.close(id);
                }
                match entry.usage {
                    Use::Asking(_) => self.handle_session_opened(id)?,
                    Use::Bytes | Use::Serving(_) => self.events.push_back(Event::Opened(id)),
                }
            }
            message::CHANNEL_OPEN_FAILURE => {
                let reason = reader.u32()?;
                let text = Text::new(reader.string()?);
                entry.phase = Phase::Dead;
                let event = match entry.usage {
                    Use::Asking(_) => {
                        Event::Exited(id, Exit::Lost(Error::ChannelRefused { reason, text }))
                    }
                    Use::Bytes | Use::Serving(_) => Event::Refused(id, reason, text),
                };
                self.tell(id, event);
                self.channels.tidy(id);
            }
            message::CHANNEL_DATA => {
                if let Some((source, data)) = entry.channel.handle_data(payload)? {
                    self.receive(id, source, data)?;
                }
            }
            message::CHANNEL_EXTENDED_DATA => {
                let length = payload.len().saturating_sub(13);
                let is_session = matches!(entry.usage, Use::Asking(_));
                match entry.channel.handle_extended(payload)? {
                    Some((source, data)) if is_session => self.receive(id, source, data)?,
                    // Of a kind that nobody reads, or where there is but one stream.
                    Some(_) | None => self.consumed(id, length)?,
                }
            }
            message::CHANNEL_WINDOW_ADJUST => {
                entry.channel.handle_adjust(&payload)?;
                self.tell(id, Event::Writable(id));
            }
            message::CHANNEL_EOF => {
                entry.channel.handle_eof();
                self.tell(id, Event::Eof(id));
            }
            message::CHANNEL_CLOSE => {
                entry.channel.handle_close();
                let idle = match &entry.usage {
                    Use::Serving(requests) => !requests.is_started(),
                    Use::Asking(_) => {
                        self.end_session(id);
                        false
                    }
                    Use::Bytes => false,
                };
                self.tell(id, if idle { Event::Gone(id) } else { Event::Closed(id) });
                self.close(id)?;
                if idle {
                    // Nobody on our side has a handle of it.
                    self.channels.release(id);
                }
                self.channels.tidy(id);
            }
            message::CHANNEL_REQUEST => self.handle_request(id, &payload)?,
            message::CHANNEL_SUCCESS => self.handle_session_answer(id, true)?,
            message::CHANNEL_FAILURE => self.handle_session_answer(id, false)?,
            _ => {}
        }
        Ok(())
    }

    /// Tells of a channel, if there is still somebody who cares.
    pub(super) fn tell(&mut self, id: u32, event: Event) {
        if self.channels.get(id).is_some_and(|entry| !entry.released) {
            self.events.push_back(event);
        }
    }

    fn receive(&mut self, id: u32, source: Source, data: Bytes) -> Result<(), Error> {
        if self.channels.get(id).is_some_and(|entry| entry.released) {
            return self.consumed(id, data.len());
        }
        self.events.push_back(Event::Data(id, source, data));
        Ok(())
    }

    fn handle_request(&mut self, id: u32, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "channel request");
        reader.take(5)?;
        let name = reader.string()?;
        let wanted = reader.boolean()?;
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        let remote = entry.channel.remote();
        let closing = entry.channel.is_closing();
        let outcome = match (&mut entry.usage, &self.side) {
            (Use::Serving(requests), Side::Server(policy)) if !closing => {
                requests.handle(name, &mut reader, policy)
            }
            (Use::Asking(_), _) => {
                entry.channel.handle_exit(name, &mut reader)?;
                Outcome::Refused
            }
            (Use::Bytes | Use::Serving(_), Side::Server(_) | Side::Client) => Outcome::Refused,
        };
        let granted = match outcome {
            Outcome::Refused => false,
            Outcome::Granted => true,
            Outcome::Start(start) => {
                self.events.push_back(Event::Session(id, start));
                true
            }
            Outcome::Size(cols, rows) => {
                self.tell(id, Event::Size(id, cols, rows));
                true
            }
            Outcome::Signal(name) => {
                self.tell(id, Event::Signal(id, name));
                true
            }
        };
        if !wanted || closing {
            return Ok(());
        }
        let answer = if granted { message::CHANNEL_SUCCESS } else { message::CHANNEL_FAILURE };
        self.send_on(answer, remote, |_| {})
    }
}
