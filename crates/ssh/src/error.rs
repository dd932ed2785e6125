//! What can go wrong, from the user's point of view.

use std::{fmt, io};

/// Longest text of a peer that an error repeats, in bytes.
const TEXT: usize = 256;

/// Why an SSH connection could not be made, or why it ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The byte stream below failed.
    #[error("the SSH connection broke: {text}")]
    Io {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        text: String,
    },
    /// The byte stream ended while something was still expected.
    #[error("the other side closed the SSH connection {0}")]
    Ended(&'static str),
    /// The session ended without an exit status or signal.
    #[error("the SSH session ended without an exit status")]
    NoStatus,
    /// What is on the other side does not speak SSH 2.
    #[error("the other side does not speak SSH 2 but says {0}")]
    Identification(Text),
    /// A message is cut off or has a field of the wrong form.
    #[error("the other side of the SSH connection sent a malformed {0}")]
    Malformed(&'static str),
    /// Something is longer than anything honest.
    #[error(
        "the other side of the SSH connection sent a {what} of {length} bytes; at most {limit} are \
         accepted"
    )]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        length: usize,
        /// What we accept.
        limit: usize,
    },
    /// A message that does not belong here.
    #[error("the other side of the SSH connection sent message {message} {during}")]
    Unexpected {
        /// Its number (RFC 4250 section 4.1.2).
        message: u8,
        /// When.
        during: &'static str,
    },
    /// There is no algorithm that both sides know.
    #[error("no common {what} with the other side of the SSH connection; it offers {theirs}")]
    NoCommon {
        /// What had to be agreed upon.
        what: &'static str,
        /// The other side's list.
        theirs: Text,
    },
    /// The host key has a form that cannot be verified.
    #[error("the SSH server's host key cannot be used: {0}")]
    HostKey(&'static str),
    /// The signature over the key exchange is wrong.
    #[error("the SSH server's signature over the key exchange is wrong")]
    Signature,
    /// A packet failed authentication.
    #[error("a packet of the SSH connection was altered on the way")]
    Tampered,
    /// The server wants more than authentication `none`.
    #[error("the SSH server wants a login by {0}")]
    AuthRefused(Text),
    /// The session channel was refused.
    #[error("the SSH server refused a session: {text} (reason {reason})")]
    ChannelRefused {
        /// The reason code (RFC 4254 section 5.1).
        reason: u32,
        /// The server's words.
        text: Text,
    },
    /// The server numbered the channel otherwise than the pipelined requests assumed.
    #[error("the SSH server gave the session channel number {0} where 0 was assumed")]
    ChannelNumber(u32),
    /// The terminal, shell, command or subsystem was refused.
    #[error("the SSH server refused {0}")]
    RequestRefused(&'static str),
    /// The peer sent more than its window allows.
    #[error("the other side of the SSH connection sent more data than it may")]
    Window,
    /// The peer took its leave.
    #[error("the other side ended the SSH connection: {text} (reason {reason})")]
    Disconnected {
        /// The reason code (RFC 4253 section 11.1).
        reason: u32,
        /// The server's words.
        text: Text,
    },
    /// The peer is too slow, or gone.
    #[error("the other side of the SSH connection took too long {0}")]
    Silent(&'static str),
    /// The system's source of randomness failed.
    #[error("no randomness to be had from the system")]
    Entropy,
    /// Our own options cannot be said in SSH.
    #[error("the {what} is longer than the {limit} bytes that fit into one SSH request")]
    Request {
        /// What is too long.
        what: &'static str,
        /// What fits.
        limit: usize,
    },
}

impl Error {
    /// Whether a server that numbers channels otherwise is the cause, so that a new connection is
    /// worth a try whose session is asked for after [`crate::client::connect`].
    #[must_use]
    pub fn is_pipelining(&self) -> bool {
        matches!(self, Self::ChannelNumber(_))
    }

    /// Whether the peer is gone, so that nothing can be said to it any more.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Ended(_) | Self::Disconnected { .. })
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io { kind: error.kind(), text: error.to_string() }
    }
}

/// Text of the peer: cut at 256 bytes, control characters made visible when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Takes over what a peer said.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT)]).into_owned())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}
