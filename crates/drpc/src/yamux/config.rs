//! Settings of a session.

use std::time::Duration;

/// Bytes that either side may send on a new stream before it hears of more
/// (hashicorp/yamux: const.go `initialStreamWindow`). Part of the protocol.
pub(crate) const INITIAL_WINDOW: u32 = 256 * 1024;

/// Settings of a session. The default is what hashicorp/yamux has (mux.go `DefaultConfig`), which
/// is what both ends of a Coder connection use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Streams of the other side that may wait for [`accept`](crate::Session::accept), 256. A
    /// stream beyond it is reset.
    pub accept_backlog: usize,
    /// Time between the answer to a ping and the next ping, 30 s; `None` sends none.
    pub keepalive_interval: Option<Duration>,
    /// Time for the answer to a ping, and for the byte stream to take some of what is written to
    /// it, 10 s; after that the session ends.
    pub write_timeout: Duration,
    /// Time for the other side to accept a stream, 75 s; after that the session ends.
    pub open_timeout: Duration,
    /// Time for the other side to finish a stream that was dropped here, 5 min; after that the
    /// stream is reset.
    pub close_timeout: Duration,
    /// Bytes that are buffered for a slow reader, for each stream; 256 KiB, and never less.
    pub stream_window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accept_backlog: 256,
            keepalive_interval: Some(Duration::from_secs(30)),
            write_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(75),
            close_timeout: Duration::from_secs(5 * 60),
            stream_window: INITIAL_WINDOW,
        }
    }
}

impl Config {
    /// The window that is granted in the end.
    pub(crate) fn window(&self) -> u32 {
        self.stream_window.max(INITIAL_WINDOW)
    }
}
