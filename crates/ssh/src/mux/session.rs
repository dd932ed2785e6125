//! A client's session, as whoever asked for it holds it.

use std::sync::Arc;

use super::{
    core::Core,
    io::{Handle, Reader, Writer},
};
use crate::{channel::Source, error::Error, options::Exit};

/// A running session, in parts that may be taken apart and used from different tasks. When all are
/// dropped, it is closed.
#[derive(Debug)]
pub struct Session {
    /// The remote standard input. Shutting it down, or dropping it, delivers the end of input.
    pub stdin: Writer,
    /// The remote standard output. What is not read is held, up to the session's window, which
    /// both outputs share; dropping one discards what comes, so that the other goes on.
    pub stdout: Reader,
    /// The remote standard error.
    pub stderr: Reader,
    /// Requests while it runs, and its end.
    pub control: Control,
}

impl Session {
    /// Waits until the server has started it.
    pub(super) async fn start(handle: Arc<Handle>) -> Result<Self, Error> {
        handle
            .when(|slot| match (&slot.exit, slot.started) {
                (_, true) => Some(Ok(())),
                (Some(Exit::Lost(error)), false) => Some(Err(error.clone())),
                (Some(Exit::Status(_) | Exit::Signal { .. }) | None, false) => None,
            })
            .await?;
        Ok(Self {
            stdin: Writer::whole(&handle),
            stdout: Reader::new(&handle, Source::Stdout),
            stderr: Reader::new(&handle, Source::Stderr),
            control: Control(handle),
        })
    }

    /// Waits for the end of the session; see [`Control::exit`].
    pub async fn exit(&self) -> Exit {
        self.control.exit().await
    }
}

/// Requests to a running session. Each is sent at once, or without effect when it is over.
#[derive(Debug)]
pub struct Control(Arc<Handle>);

impl Control {
    /// Reports the size of the local terminal, in characters.
    pub fn window_change(&self, cols: u32, rows: u32) {
        self.0.act(|core, id| core.window_change(id, cols, rows));
    }

    /// Sends the remote process a signal, named without `SIG` (RFC 4254 section 6.10).
    pub fn signal(&self, name: &str) {
        self.0.act(|core, id| core.signal(id, name));
    }

    /// Closes the session from this side. What has arrived can still be read.
    pub fn close(&self) {
        self.0.act(Core::close);
    }

    /// Waits until the session is over: how it ended. Output may still wait to be read. Can be
    /// asked again, with the same answer.
    pub async fn exit(&self) -> Exit {
        self.0.when(|slot| slot.exit.clone()).await
    }
}
