//! Why a session or a stream ends.

use std::io;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Session::close`](crate::Session::close) was called, or the session was dropped.
    #[error("closed on this side")]
    Local,
    /// The other side ended the byte stream between two frames.
    #[error("closed by the other side")]
    Remote,
    /// The other side ended the session with an error code: 1 is a protocol error, 2 an internal
    /// one.
    #[error("the other side gave up with yamux go-away code {code}")]
    GoAway {
        /// The code.
        code: u32,
    },
    /// The other side does not speak yamux as we know it.
    #[error("the other side broke the yamux protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// A ping was not answered in time.
    #[error("no answer to a keepalive ping")]
    KeepaliveTimeout,
    /// A stream was not accepted in time.
    #[error("the other side accepts no streams")]
    OpenTimeout,
    /// The byte stream took nothing of what was written to it in time.
    #[error("writing to the other side is stuck")]
    WriteTimeout,
    /// The byte stream failed.
    #[error("{message}")]
    Io {
        /// Its kind.
        kind: io::ErrorKind,
        /// Its text.
        message: String,
    },
}

impl CloseReason {
    pub(crate) fn io(error: &io::Error) -> Self {
        Self::Io { kind: error.kind(), message: error.to_string() }
    }

    /// As an error of a stream that was in use.
    pub(crate) fn to_io(&self) -> io::Error {
        let kind = match self {
            Self::Io { kind, .. } => *kind,
            Self::KeepaliveTimeout | Self::OpenTimeout | Self::WriteTimeout => {
                io::ErrorKind::TimedOut
            }
            Self::Protocol(_) => io::ErrorKind::InvalidData,
            Self::Local | Self::Remote | Self::GoAway { .. } => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self.clone())
    }
}

/// Why a stream cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session has ended.
    #[error(transparent)]
    Closed(#[from] CloseReason),
    /// The other side finishes what is open and takes no new streams; connect anew.
    #[error("the other side is going away and takes no new streams")]
    GoingAway,
    /// All 2³¹ stream numbers were used; connect anew.
    #[error("the session has no stream numbers left")]
    Exhausted,
}

/// What is wrong with received bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A header of another version.
    #[error("unknown version {0}")]
    Version(u8),
    /// A header of a type that does not exist.
    #[error("unknown frame type {0}")]
    Type(u8),
    /// More data than the window allows.
    #[error("stream {stream} got {length} bytes with a window of {window}")]
    Window {
        /// The stream.
        stream: u32,
        /// Bytes of the frame.
        length: u32,
        /// Bytes that were allowed.
        window: u32,
    },
    /// A stream was opened with a number that the other side may not use.
    #[error("stream {0} was opened by the wrong side")]
    StreamId(u32),
    /// A stream was opened twice.
    #[error("stream {0} was opened twice")]
    Duplicate(u32),
    /// A stream was finished twice.
    #[error("stream {0} was finished twice")]
    Finished(u32),
    /// The byte stream ended inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
}
