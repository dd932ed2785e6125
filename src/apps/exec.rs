//! `ssh NAME -- COMMAND`: a command in the workspace, as if it ran here.

use coderctl_ssh::Request;

use super::{
    App, BoxFuture, Context, End,
    local::Streams,
    session::{self, Remote},
};
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

/// A command with its standard streams apart, or with a terminal.
#[derive(Debug)]
pub struct Exec {
    remote: Remote,
    streams: Option<Streams>,
}

impl Exec {
    /// Will run this command line in the user's remote shell, with these variables; `tty` gives it
    /// a terminal.
    #[must_use]
    pub fn new(command: impl Into<String>, env: Vec<(String, String)>, tty: bool) -> Self {
        let request = Request::Exec(command.into());
        Self { remote: Remote { request, env, tty }, streams: None }
    }

    /// Uses other streams than those of the process.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.streams = Some(streams);
        self
    }
}

impl App for Exec {
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move { prepare(&mut self.streams) })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(start(self.remote, self.streams, context))
    }
}

/// Opens the standard streams, unless others were given.
pub(super) fn prepare(streams: &mut Option<Streams>) -> Result<(), CommandError> {
    if streams.is_none() {
        *streams = Some(Streams::standard().map_err(|error| {
            let error = anyhow::Error::new(error).context("cannot use the standard streams");
            CommandError::new(Kind::Local, error)
        })?);
    }
    Ok(())
}

pub(super) async fn start(remote: Remote, mut streams: Option<Streams>, context: Context) -> End {
    if let Err(error) = prepare(&mut streams) {
        return End::Failed(error);
    }
    match streams {
        Some(streams) => session::run(remote, streams, context).await,
        None => End::Failed(CommandError::msg(Kind::Local, "there are no standard streams")),
    }
}
