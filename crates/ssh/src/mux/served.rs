//! What a server is asked for: sessions, connections, listeners.

use std::sync::Arc;

use super::{
    core::Core,
    globals::Answer,
    io::{Channel, Handle, Reader, Writer},
    pump::Shared,
    request::{Global, Reason, Target},
    requests::Start,
};
use crate::options::Exit;

/// A session, in parts that may be taken apart and used from different tasks. When all are
/// dropped, the session is closed.
#[derive(Debug)]
pub struct Session {
    /// What is to run, and how.
    pub start: Start,
    /// The program's input.
    pub stdin: Reader,
    /// The program's output. Shutting it down has no effect: it ends with the session.
    pub stdout: Writer,
    /// The program's second output, likewise.
    pub stderr: Writer,
    /// What the client says meanwhile, and the end.
    pub control: Control,
}

/// What a client says while the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The terminal's columns and rows.
    Size(u32, u32),
    /// A signal, named without `SIG`.
    Signal(String),
}

/// The end of a session, and what is said before.
#[derive(Debug)]
pub struct Control {
    handle: Arc<Handle>,
}

impl Control {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// The next that the client says; `None` when it has closed the session or the connection is
    /// over. Nothing is lost when dropped.
    pub async fn changed(&mut self) -> Option<Change> {
        self.handle
            .when(|slot| {
                if let Some((cols, rows)) = slot.size.take() {
                    return Some(Some(Change::Size(cols, rows)));
                }
                match slot.signals.pop_front() {
                    Some(name) => Some(Some(Change::Signal(name))),
                    None => slot.closed.then_some(None),
                }
            })
            .await
    }

    /// Ends the session: no more output, how the program ended, close. What was written to the
    /// outputs before goes before.
    pub fn finish(self, exit: &Exit) {
        self.handle.act(|core, id| core.finish(id, exit));
    }
}

/// A client's wish to be connected to somewhere. Dropping it is a refusal.
pub type Direct = Offer<Target>;

/// A channel that the peer offers. Dropping it is a refusal.
#[derive(Debug)]
pub struct Offer<T> {
    handle: Arc<Handle>,
    target: T,
}

impl<T> Offer<T> {
    pub(super) fn new(handle: Arc<Handle>, target: T) -> Self {
        Self { handle, target }
    }

    /// Where to, or which listener it comes from.
    #[must_use]
    pub fn target(&self) -> &T {
        &self.target
    }

    /// It is connected.
    #[must_use]
    pub fn accept(self) -> Channel {
        self.handle.act(Core::accept);
        Channel::new(&self.handle)
    }

    /// It is not, with words for the peer.
    pub fn refuse(self, reason: Reason, text: &str) {
        self.handle.act(|core, id| core.refuse(id, reason, text));
    }
}

/// A client's wish about a listener. Dropping it is a refusal.
#[derive(Debug)]
pub struct Forward {
    shared: Arc<Shared>,
    number: u64,
    request: Global,
    answered: bool,
}

impl Forward {
    pub(super) fn new(shared: Arc<Shared>, number: u64, request: Global) -> Self {
        Self { shared, number, request, answered: false }
    }

    /// What it is.
    #[must_use]
    pub fn request(&self) -> &Global {
        &self.request
    }

    /// It is done; a TCP listener's port is told.
    pub fn grant(mut self, port: Option<u16>) {
        self.answered = true;
        self.shared.lock().answer(self.number, Answer::Granted(port));
    }

    /// It is not done.
    pub fn refuse(self) {
        drop(self);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.lock().answer(self.number, Answer::Refused);
        }
    }
}
