//! yamux.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Settings of a session; the default is what hashicorp/yamux has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Time between two pings; `None` sends none.
    pub keepalive_interval: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self { keepalive_interval: Some(Duration::from_secs(30)) }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Closed by us.
    #[error("closed here")]
    Local,
}

/// A yamux session over one byte stream.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// The side that opens odd streams.
    pub fn client<T: AsyncRead + AsyncWrite + Send + 'static>(_io: T, _config: Config) -> Self {
        Self {}
    }
    /// The side that opens even streams.
    pub fn server<T: AsyncRead + AsyncWrite + Send + 'static>(_io: T, _config: Config) -> Self {
        Self {}
    }
    /// Opens a stream.
    pub async fn open(&self) -> Result<Stream, CloseReason> {
        Err(CloseReason::Local)
    }
    /// Waits for a stream of the other side; `None` when the session has ended.
    pub async fn accept(&self) -> Option<Stream> {
        None
    }
    /// Waits for the end.
    pub async fn closed(&self) -> CloseReason {
        CloseReason::Local
    }
    /// Sends what is queued, then ends the session and the byte stream.
    pub async fn close(&self) -> CloseReason {
        CloseReason::Local
    }
}

/// One stream of a session.
#[derive(Debug)]
pub struct Stream {}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
