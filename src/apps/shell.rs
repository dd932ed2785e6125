//! `ssh NAME`: a login shell in the workspace, always with a terminal on its side.

use coderctl_ssh::Request;

use super::{App, BoxFuture, Context, End, exec, local::Streams, session::Remote};
use crate::{error::CommandError, ui::Ui};

/// A login shell.
///
/// The local terminal is in raw mode while the shell runs, if there is one; without, what comes
/// from standard input is typed for the user, as the Go client does.
#[derive(Debug)]
pub struct Shell {
    remote: Remote,
    streams: Option<Streams>,
}

impl Shell {
    /// Will open a shell with these variables.
    #[must_use]
    pub fn new(env: Vec<(String, String)>) -> Self {
        Self { remote: Remote { request: Request::Shell, env, tty: true }, streams: None }
    }

    /// Uses other streams than those of the process.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.streams = Some(streams);
        self
    }
}

impl App for Shell {
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move { exec::prepare(&mut self.streams) })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(exec::start(self.remote, self.streams, context))
    }
}
