//! The local terminal: raw mode that is always undone, its size, its keys.

use std::{
    io::{self, IsTerminal},
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
};

use coderctl_ssh::{Modes, Pty};
use rustix::{
    stdio,
    termios::{self, InputModes, OptionalActions, SpecialCodeIndex, Termios},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the terminal was like before raw mode; kept where every way out finds it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal type that is named where `TERM` is not set: what nearly every terminal of today
/// answers to.
const DEFAULT_TERM: &str = "xterm-256color";
/// Longest terminal type; terminfo knows none of even half of it.
const LONGEST_TERM: usize = 128;
/// Size where there is no terminal, or one that does not know its own: that of a VT100.
const DEFAULT_SIZE: (u32, u32) = (80, 24);

/// While it lives, the terminal passes every key on instead of acting upon it.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Enters raw mode, if standard input and standard output are both terminals.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> io::Result<Option<Self>> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdio::stdin())?;
        // From here on there is something to undo.
        *saved() = Some(before);
        let raw = Self(());
        raw.again()?;
        Ok(Some(raw))
    }

    /// Enters it once more, after a shell has had the terminal in between (SIGCONT).
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn again(&self) -> io::Result<()> {
        let mut modes = termios::tcgetattr(stdio::stdin())?;
        modes.make_raw();
        // Not "drain": a terminal that is stopped by Ctrl-S would never be done.
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &modes)?;
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves raw mode, if it was entered. For ways out that drop nothing.
pub fn restore() {
    if let Some(before) = saved().take()
        && let Err(error) = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &before)
    {
        // The terminal is gone, and its modes with it.
        tracing::debug!(%error, "terminal not restored");
    }
}

fn saved() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Width and height in characters of the first standard stream that is a terminal.
#[must_use]
pub fn size() -> (u32, u32) {
    [stdio::stdout(), stdio::stdin(), stdio::stderr()]
        .into_iter()
        .find_map(size_of)
        .unwrap_or(DEFAULT_SIZE)
}

fn size_of(fd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let size = termios::tcgetwinsize(fd).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// What the remote side's terminal is to be like.
#[must_use]
pub fn pty() -> Pty {
    let term = std::env::var("TERM").ok();
    let term = term.filter(|term| {
        !term.is_empty() && term.len() <= LONGEST_TERM && term.bytes().all(|b| b.is_ascii_graphic())
    });
    let (cols, rows) = size();
    let modes = termios::tcgetattr(stdio::stdin()).map(|before| modes(&before));
    Pty {
        term: term.unwrap_or_else(|| DEFAULT_TERM.into()),
        cols,
        rows,
        modes: modes.unwrap_or_default(),
    }
}

/// The keys with a meaning (erase, interrupt, …) and whether input is UTF-8. The rest is left to
/// the remote side.
fn modes(local: &Termios) -> Modes {
    // RFC 4254 section 8; 42 is of RFC 8160.
    let keys = [
        (1, SpecialCodeIndex::VINTR),
        (2, SpecialCodeIndex::VQUIT),
        (3, SpecialCodeIndex::VERASE),
        (4, SpecialCodeIndex::VKILL),
        (5, SpecialCodeIndex::VEOF),
        (8, SpecialCodeIndex::VSTART),
        (9, SpecialCodeIndex::VSTOP),
        (10, SpecialCodeIndex::VSUSP),
        (12, SpecialCodeIndex::VREPRINT),
        (13, SpecialCodeIndex::VWERASE),
        (14, SpecialCodeIndex::VLNEXT),
    ];
    let modes = keys.into_iter().fold(Modes::default(), |modes, (opcode, key)| {
        // Zero means disabled here, 255 in SSH.
        let code = match local.special_codes[key] {
            0 => 255,
            code => u32::from(code),
        };
        modes.with(opcode, code)
    });
    modes.with(42, u32::from(local.input_modes.contains(InputModes::IUTF8)))
}

/// Tells when the terminal has another size, or is ours again.
#[derive(Debug)]
pub struct Changes {
    size: Signal,
    resume: Signal,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The size.
    Size,
    /// The program goes on after a stop.
    Resumed,
}

impl Changes {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let resume = rustix::process::Signal::CONT.as_raw();
        Ok(Self {
            size: signal(SignalKind::window_change())?,
            resume: signal(SignalKind::from_raw(resume))?,
        })
    }

    /// The next change. May be dropped and called again.
    pub async fn next(&mut self) -> Change {
        tokio::select! {
            Some(()) = self.size.recv() => Change::Size,
            Some(()) = self.resume.recv() => Change::Resumed,
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_type_and_size_are_always_there() {
        let pty = pty();
        assert!(!pty.term.is_empty() && pty.cols > 0 && pty.rows > 0, "{pty:?}");
    }
}
