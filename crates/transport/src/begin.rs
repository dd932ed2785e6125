//! How a server's answer begins, to tell what it is when it is no HTTP server.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{BoxStream, Error, http1};

/// Bytes kept: enough for the first words of any protocol.
const KEPT: usize = 32;

/// The first bytes that came over a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    /// What went wrong, in the light of what came.
    pub(crate) fn explain(&self, error: &hyper::Error, host: &str) -> Error {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let http = b"HTTP/";
        let length = bytes.len().min(http.len());
        if bytes.is_empty() || bytes[..length] == http[..length] {
            return http1::explain(error, host);
        }
        Error::NotHttp { host: host.to_owned(), why: what_is(&bytes) }
    }

    fn keep(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

fn what_is(bytes: &[u8]) -> String {
    // A TLS alert or handshake record (RFC 8446 section 5.1).
    if let [0x15 | 0x16, 0x03, ..] = bytes {
        return "it speaks TLS; perhaps its URL begins with https://".to_owned();
    }
    if bytes.starts_with(b"SSH-") {
        return "it is an SSH server".to_owned();
    }
    format!("it begins with \"{}\"", bytes.escape_ascii())
}

/// A stream whose first bytes are kept.
pub(crate) struct Watched {
    pub(crate) io: BoxStream,
    pub(crate) seen: usize,
    pub(crate) began: Beginning,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if self.seen < KEPT {
            let new = &buffer.filled()[before..];
            let kept = new.len().min(KEPT - self.seen);
            self.began.keep(&new[..kept]);
            self.seen += kept;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
