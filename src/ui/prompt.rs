//! Questions to a person.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use zeroize::Zeroizing;

/// Longest answer that is read, in bytes: a terminal's own line limit (4096 on Linux).
const LONGEST: usize = 4096;

/// While it lives, the terminal at stdin does not show what is typed. Whoever asks keeps it
/// across every way out, signals too.
#[derive(Debug)]
pub struct EchoOff {
    before: Option<Termios>,
}

impl EchoOff {
    /// Turns echo off; does nothing where stdin is no terminal.
    #[must_use]
    pub fn new() -> Self {
        let stdin = io::stdin();
        let Ok(before) = termios::tcgetattr(stdin.as_fd()) else { return Self { before: None } };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        let set = termios::tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent);
        Self { before: set.is_ok().then_some(before) }
    }
}

impl Default for EchoOff {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no restoring.
            let _ = termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Now, before);
        }
    }
}

/// Reads one line from stdin, without its end; blocks. `None` at the end of input.
///
/// # Errors
/// Those of stdin; `InvalidData` for a line that is too long or not UTF-8.
pub fn read_line() -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = [0_u8; 1];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() < LONGEST => line.push(byte[0]),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text = std::str::from_utf8(&line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}
