//! Apps on the standard streams of this process.

use std::{fmt, future::Future};

use super::{App, BoxFuture, Context, End, local::Streams};
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

/// What runs on standard streams.
pub trait OnStreams: fmt::Debug + Send + 'static {
    /// Runs until it is done, failed, or was asked to close.
    fn run(self, streams: Streams, context: Context) -> impl Future<Output = End> + Send;
}

/// Makes an app of it, which takes the streams before the workspace is touched.
#[derive(Debug)]
pub struct Streamed<T> {
    what: T,
    streams: Option<Streams>,
}

impl<T: OnStreams> Streamed<T> {
    /// On the streams of this process.
    #[must_use]
    pub fn new(what: T) -> Self {
        Self { what, streams: None }
    }

    /// On other streams.
    #[must_use]
    pub fn on(what: T, streams: Streams) -> Self {
        Self { what, streams: Some(streams) }
    }

    fn take(&mut self) -> Result<Streams, CommandError> {
        match self.streams.take() {
            Some(streams) => Ok(streams),
            None => Streams::standard().map_err(|error| {
                let error = anyhow::Error::new(error).context("cannot use the standard streams");
                CommandError::new(Kind::Local, error)
            }),
        }
    }
}

impl<T: OnStreams> App for Streamed<T> {
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            self.streams = Some(self.take()?);
            Ok(())
        })
    }

    fn run(mut self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(async move {
            match self.take() {
                Ok(streams) => self.what.run(streams, context).await,
                Err(error) => End::Failed(error),
            }
        })
    }
}
