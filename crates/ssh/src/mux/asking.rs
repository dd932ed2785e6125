//! A client's sessions: what they ask for, and what becomes of them (RFC 4254 section 6).
//!
//! A session that is asked for before there are keys goes out with the login, all in one write.
//! That assumes that the server numbers its first channel 0; the confirmation is checked, and a
//! server that does it otherwise gives [`Error::ChannelNumber`], which ends the connection, since
//! nobody knows what it has made of requests to a channel 0. Any other session waits for its number.

use std::collections::VecDeque;

use super::{
    channels::{Entry, Phase, Use},
    core::{Core, Event, Stage},
};
use crate::{
    channel::{self, Channel},
    error::Error,
    message,
    options::{Exit, Options, Request},
    wire::Put,
};

/// How much a server may send in a session before it hears that it was read, in bytes: 600 Mbit/s
/// at 50 ms, more than a relay carries. It bounds what a slow reader makes us hold.
pub const SESSION_WINDOW: u32 = 4 << 20;

/// One session.
#[derive(Debug)]
pub(super) struct Asking {
    /// What is still to be asked for.
    options: Option<Options>,
    /// The requests whose answers are to come, in order.
    awaited: VecDeque<&'static str>,
    started: bool,
}

impl Core {
    /// Asks the server for a session; [`Event::Started`] or [`Event::Exited`] follows for the number
    /// that is returned. `None` when there are too many or the connection is over.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn session(&mut self, options: Options) -> Result<Option<u32>, Error> {
        if self.is_closed() {
            return Ok(None);
        }
        let Some(id) = self.channels.vacant() else { return Ok(None) };
        self.offers_agent |= options.agent;
        let mut entry = Entry::new(Channel::asked(id, SESSION_WINDOW), Phase::Asked);
        let (options, awaited) = (Some(options), VecDeque::new());
        entry.usage = Use::Asking(Asking { options, awaited, started: false });
        self.channels.insert(id, entry);
        if self.stage != Stage::Keys {
            self.open_session(id)?;
        }
        Ok(Some(id))
    }

    /// There are keys: opens the sessions that waited for them.
    pub(super) fn open_early_sessions(&mut self) -> Result<(), Error> {
        for id in self.channels.ids() {
            self.open_session(id)?;
            if id == 0 {
                self.send_requests(id)?;
            }
        }
        Ok(())
    }

    fn open_session(&mut self, id: u32) -> Result<(), Error> {
        let mut out = vec![message::CHANNEL_OPEN];
        out.put_string(b"session");
        for number in [id, SESSION_WINDOW, channel::MAX_PACKET] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        self.transport.send(&[&out])
    }

    pub(super) fn handle_session_opened(&mut self, id: u32) -> Result<(), Error> {
        match self.asking(id) {
            Some((Asking { options: Some(_), .. }, _)) => self.send_requests(id),
            Some((Asking { options: None, .. }, 0)) | None => Ok(()),
            Some((Asking { options: None, .. }, number)) => Err(Error::ChannelNumber(number)),
        }
    }

    /// Variables, agent, terminal, command: in this order, since a command must find the others
    /// done.
    fn send_requests(&mut self, id: u32) -> Result<(), Error> {
        let Some((asking, remote)) = self.asking(id) else { return Ok(()) };
        let Some(options) = asking.options.take() else { return Ok(()) };
        if options.pty.is_some() {
            asking.awaited.push_back("a terminal");
        }
        asking.awaited.push_back(match &options.request {
            Request::Shell => "a shell",
            Request::Exec(_) => "the command",
            Request::Subsystem(_) => "the subsystem",
        });
        for (name, value) in options.env {
            self.send_request(remote, "env", false, |out| {
                out.put_string(name.as_bytes());
                out.put_string(value.as_bytes());
            })?;
        }
        if options.agent {
            self.send_request(remote, "auth-agent-req@openssh.com", false, |_| {})?;
        }
        if let Some(pty) = options.pty {
            self.send_request(remote, "pty-req", true, |out| {
                out.put_string(pty.term.as_bytes());
                put_size(out, pty.cols, pty.rows);
                out.put_string(&pty.modes.encoded());
            })?;
        }
        match options.request {
            Request::Shell => self.send_request(remote, "shell", true, |_| {}),
            Request::Exec(command) => {
                self.send_request(remote, "exec", true, |out| out.put_string(command.as_bytes()))
            }
            Request::Subsystem(name) => {
                self.send_request(remote, "subsystem", true, |out| out.put_string(name.as_bytes()))
            }
        }
    }

    /// The answer to the oldest request. One that nobody asked for harms nobody.
    pub(super) fn handle_session_answer(&mut self, id: u32, granted: bool) -> Result<(), Error> {
        let Some((asking, _)) = self.asking(id) else { return Ok(()) };
        let Some(what) = asking.awaited.pop_front() else { return Ok(()) };
        if !granted {
            self.tell(id, Event::Exited(id, Exit::Lost(Error::RequestRefused(what))));
            return self.close(id);
        }
        if asking.awaited.is_empty() {
            asking.started = true;
            self.tell(id, Event::Started(id));
        }
        Ok(())
    }

    /// The server has closed a session.
    pub(super) fn end_session(&mut self, id: u32) {
        let told = self.exit(id);
        let Some((asking, _)) = self.asking(id) else { return };
        let started = std::mem::replace(&mut asking.started, true);
        let exit = match told {
            Some(exit) => {
                if !started {
                    self.tell(id, Event::Started(id));
                }
                exit
            }
            None if started => Exit::Lost(Error::NoStatus),
            None => Exit::Lost(Error::Ended("before the session began")),
        };
        self.tell(id, Event::Exited(id, exit));
    }

    /// How a session's process has ended, as far as the server has said.
    #[must_use]
    pub fn exit(&self, id: u32) -> Option<Exit> {
        self.channels.get(id)?.channel.exit().cloned()
    }

    /// Reports the size of the local terminal of a session.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn window_change(&mut self, id: u32, cols: u32, rows: u32) -> Result<(), Error> {
        self.tell_session(id, "window-change", |out| put_size(out, cols, rows))
    }

    /// Sends the process of a session a signal, named without `SIG`.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn signal(&mut self, id: u32, name: &str) -> Result<(), Error> {
        self.tell_session(id, "signal", |out| out.put_string(name.as_bytes()))
    }

    /// A request in an open session that wants no answer.
    fn tell_session(
        &mut self,
        id: u32,
        name: &str,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        match self.channels.in_phase(id, Phase::Open) {
            Some(entry) if !entry.channel.is_closing() => {
                let remote = entry.channel.remote();
                self.send_request(remote, name, false, fields)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn send_request(
        &mut self,
        remote: u32,
        name: &str,
        answer: bool,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        self.send_on(message::CHANNEL_REQUEST, remote, |out| {
            out.put_string(name.as_bytes());
            out.put_boolean(answer);
            fields(out);
        })
    }

    /// A session of ours, and the server's number for it.
    fn asking(&mut self, id: u32) -> Option<(&mut Asking, u32)> {
        let entry = self.channels.get_mut(id)?;
        match &mut entry.usage {
            Use::Asking(asking) => Some((asking, entry.channel.remote())),
            Use::Bytes | Use::Serving(_) => None,
        }
    }
}

/// Columns and rows, and no pixels.
fn put_size(out: &mut Vec<u8>, cols: u32, rows: u32) {
    for number in [cols, rows, 0, 0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}
