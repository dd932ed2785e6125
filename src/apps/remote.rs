//! `ssh NAME` and `ssh NAME -- COMMAND`: a shell or a command in the workspace, as if it ran here.

use std::{future::Future, path::PathBuf};

use coderctl_ssh::Request;

use super::{Context, End, containers::Container, local::Streams, session, streamed::OnStreams};

/// What is asked of the workspace, and how it is carried here.
#[derive(Debug)]
pub struct Remote {
    pub(super) request: Request,
    pub(super) env: Vec<(String, String)>,
    pub(super) tty: bool,
    pub(super) agent: Option<PathBuf>,
    pub(super) escape: Option<u8>,
    pub(super) container: Option<Container>,
}

impl Remote {
    fn new(request: Request, tty: bool) -> Self {
        Self { request, env: Vec::new(), tty, agent: None, escape: None, container: None }
    }

    /// A login shell. With a terminal there, the local one is in raw mode meanwhile, if there is
    /// one; without, what comes from standard input is typed for the user, as the Go client does.
    #[must_use]
    pub fn shell(tty: bool) -> Self {
        Self::new(Request::Shell, tty)
    }

    /// This command line, for the user's remote shell; its standard streams stay apart unless it
    /// has a terminal.
    #[must_use]
    pub fn command(line: impl Into<String>, tty: bool) -> Self {
        Self::new(Request::Exec(line.into()), tty)
    }

    /// With these variables, of which the last of a name counts.
    #[must_use]
    pub fn with_env(mut self, env: Vec<(String, String)>) -> Self {
        self.env = env;
        self
    }

    /// Lets programs there ask the authentication agent behind this socket.
    #[must_use]
    pub fn with_agent(mut self, socket: Option<PathBuf>) -> Self {
        self.agent = socket;
        self
    }

    /// On a local terminal, this character at the beginning of a line begins an escape.
    #[must_use]
    pub fn with_escape(mut self, key: Option<u8>) -> Self {
        self.escape = key;
        self
    }

    /// In this container of the workspace.
    #[must_use]
    pub fn in_container(mut self, container: Option<Container>) -> Self {
        self.container = container;
        self
    }
}

impl OnStreams for Remote {
    fn run(self, streams: Streams, context: Context) -> impl Future<Output = End> + Send {
        session::run(self, streams, context)
    }
}
