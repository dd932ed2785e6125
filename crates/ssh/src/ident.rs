//! Version lines (RFC 4253 section 4.2).

use bytes::{Buf, BytesMut};

use crate::error::{Error, Text};

/// What this side says, without the line end.
pub const OURS: &str = concat!("SSH-2.0-coderctl_", env!("CARGO_PKG_VERSION"));

/// Longest version line, with its line end (RFC 4253 section 4.2).
const LINE: usize = 255;
/// Most bytes that a server may send before its version line, as lines of a banner.
const BANNER: usize = 64 * 1024;

/// Finds the peer's version line, past the lines that a server may send before it.
#[derive(Debug, Default)]
pub struct Lines {
    skipped: usize,
    /// Whether the first line must be the version already.
    bare: bool,
}

impl Lines {
    /// For a client's version line: only a server may say something before it.
    #[must_use]
    pub fn of_client() -> Self {
        Self { bare: true, ..Self::default() }
    }

    /// Takes lines off `input`. `Some` is the version line without its end; `None` asks for more.
    ///
    /// # Errors
    /// [`Error::Identification`] when the line says another protocol, or when what arrives is
    /// no text; [`Error::TooLong`] when there is no version line within 64 KiB.
    pub fn handle(&mut self, input: &mut BytesMut) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
                let known = input.len().min(4);
                let version = input[..known] == b"SSH-"[..known];
                if self.bare && !version {
                    return Err(Error::Identification(Text::new(input)));
                }
                if version && input.len() >= LINE {
                    return Err(too_long("version line", input.len(), LINE));
                }
                if self.skipped + input.len() > BANNER {
                    return Err(too_long("greeting", self.skipped + input.len(), BANNER));
                }
                return Ok(None);
            };
            let line = input.split_to(end);
            input.advance(1);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.starts_with(b"SSH-") {
                return check(line).map(Some);
            }
            if self.bare || line.contains(&0) || line.starts_with(b"HTTP/") {
                return Err(Error::Identification(Text::new(line)));
            }
            self.skipped += end + 1;
            if self.skipped > BANNER {
                return Err(too_long("greeting", self.skipped, BANNER));
            }
        }
    }
}

fn check(line: &[u8]) -> Result<Vec<u8>, Error> {
    if line.len() > LINE - 2 {
        return Err(too_long("version line", line.len(), LINE));
    }
    let two = line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-");
    if !two || line.contains(&0) {
        return Err(Error::Identification(Text::new(line)));
    }
    Ok(line.to_vec())
}

fn too_long(what: &'static str, length: usize, limit: usize) -> Error {
    Error::TooLong { what, length, limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Lines::default().handle(&mut BytesMut::from(text))
    }

    #[test]
    fn a_greeting_before_the_version_is_skipped() {
        let mut input = BytesMut::from(&b"hello\r\nthere\nSSH-2.0-Go\r\n\0\0rest"[..]);
        assert_eq!(Lines::default().handle(&mut input).unwrap().unwrap(), b"SSH-2.0-Go");
        assert_eq!(&input[..], b"\0\0rest");
    }

    #[test]
    fn a_client_greets_with_its_version_alone() {
        let feed = |text: &[u8]| Lines::of_client().handle(&mut BytesMut::from(text));
        assert_eq!(feed(b"SSH-2.0-x\r\n").unwrap().unwrap(), b"SSH-2.0-x");
        assert_eq!(feed(b"SS").unwrap(), None);
        assert!(matches!(feed(b"G"), Err(Error::Identification(_))));
        assert!(matches!(feed(b"GET / HTTP/1.1\r\n"), Err(Error::Identification(_))));
        assert!(matches!(feed(b"\r\nSSH-2.0-x\r\n"), Err(Error::Identification(_))));
    }

    #[test]
    fn a_version_in_pieces_waits() {
        let mut lines = Lines::default();
        let mut input = BytesMut::new();
        for byte in b"SSH-2.0-x y" {
            input.extend_from_slice(&[*byte]);
            assert_eq!(lines.handle(&mut input).unwrap(), None);
        }
        input.extend_from_slice(b"\n");
        assert_eq!(lines.handle(&mut input).unwrap().unwrap(), b"SSH-2.0-x y");
    }

    #[test]
    fn other_protocols_are_named() {
        assert!(matches!(feed(b"SSH-1.5-old\r\n"), Err(Error::Identification(_))));
        assert!(matches!(feed(b"HTTP/1.1 400 Bad\r\n"), Err(Error::Identification(_))));
        assert!(matches!(feed(b"a\0b\n"), Err(Error::Identification(_))));
        assert!(matches!(feed(&[b'x'; BANNER + 1]), Err(Error::TooLong { .. })));
        assert!(matches!(feed("y\n".repeat(BANNER).as_bytes()), Err(Error::TooLong { .. })));
        let long = [&b"SSH-2.0-"[..], &[b'a'; 300]].concat();
        assert!(matches!(feed(&long), Err(Error::TooLong { .. })));
        assert!(matches!(feed(&[&long[..], b"\n"].concat()), Err(Error::TooLong { .. })));
    }
}
