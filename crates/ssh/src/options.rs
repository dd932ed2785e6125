//! What a session is asked to be, and how it ended.

use crate::error::Error;

/// Longest command, subsystem name, or variable, in bytes: what surely fits into a packet that
/// every server accepts (OpenSSH takes 256 KiB, Go's library too) with room for the rest.
pub(crate) const TEXT_LIMIT: usize = 192 * 1024;

/// What to ask the server for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Variables for the remote side, in order. The server may ignore them (no answer is asked).
    pub env: Vec<(String, String)>,
    /// A terminal on the remote side.
    pub pty: Option<Pty>,
    /// Whether the remote side may ask our authentication agent
    /// (openssh-portable: PROTOCOL, `auth-agent-req@openssh.com`).
    pub agent: bool,
    /// What runs.
    pub request: Request,
}

impl Options {
    /// A session without a terminal and without variables.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self { env: Vec::new(), pty: None, agent: false, request }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let limit = TEXT_LIMIT;
        let command = match &self.request {
            Request::Shell => 0,
            Request::Exec(text) | Request::Subsystem(text) => text.len(),
        };
        if command > limit {
            return Err(Error::Request { what: "remote command", limit });
        }
        if self.env.iter().any(|(name, value)| name.len() + value.len() > limit) {
            return Err(Error::Request { what: "environment variable", limit });
        }
        if self.pty.as_ref().is_some_and(|pty| pty.term.len() > limit) {
            return Err(Error::Request { what: "terminal type", limit });
        }
        Ok(())
    }
}

/// What runs in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The login shell.
    Shell,
    /// A command, for the remote shell to parse.
    Exec(String),
    /// A subsystem, such as `sftp`.
    Subsystem(String),
}

/// A terminal for the remote side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// The terminal type (`TERM`).
    pub term: String,
    /// Width in characters.
    pub cols: u32,
    /// Height in rows.
    pub rows: u32,
    /// Terminal modes.
    pub modes: Modes,
}

/// Terminal modes in the encoding of RFC 4254 section 8, without the final zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modes(Vec<u8>);

impl Modes {
    /// Sets the mode of this number (RFC 4254 section 8, 1 to 159) to this value.
    #[must_use]
    pub fn with(mut self, opcode: u8, value: u32) -> Self {
        if (1..160).contains(&opcode) {
            self.0.push(opcode);
            self.0.extend_from_slice(&value.to_be_bytes());
        }
        self
    }

    /// Reads the encoding, up to its end or to what has no meaning.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let known = bytes.chunks_exact(5).take_while(|chunk| (1..160).contains(&chunk[0]));
        Self(known.flatten().copied().collect())
    }

    /// The modes in their order: number and value.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u32)> {
        self.0
            .chunks_exact(5)
            .map(|chunk| (chunk[0], u32::from_be_bytes([chunk[1], chunk[2], chunk[3], chunk[4]])))
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.push(0);
        bytes
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The remote process ended with this status.
    Status(u32),
    /// The remote process was killed.
    Signal {
        /// The signal's name without `SIG`.
        name: String,
        /// Whether it left a core dump.
        core: bool,
        /// The server's words.
        message: String,
    },
    /// The session ended without either.
    Lost(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        let modes = Modes::default().with(3, 0x7f).with(53, 1).with(0, 9).with(200, 1);
        assert_eq!(Modes::parse(&modes.encoded()), modes);
        assert_eq!(modes.iter().collect::<Vec<_>>(), [(3, 0x7f), (53, 1)]);
        let mut odd = modes.encoded();
        odd.extend_from_slice(&[1, 0, 0, 0, 1]);
        assert_eq!(Modes::parse(&odd[..odd.len() - 2]), modes, "what follows the end");
        assert_eq!(Modes::parse(&[3, 0, 0]), Modes::default());
    }
}
