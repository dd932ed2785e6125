//! Signals that a user or a supervisor sends.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A signal that ends or interrupts a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGHUP: the terminal or OpenSSH went away.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its number on Linux and macOS.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }

    /// Its name in SSH, without `SIG` (RFC 4254 section 6.10).
    #[must_use]
    pub fn ssh_name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
        }
    }
}

/// The signals that reach this process, one after the other, from the moment it is made.
///
/// SIGHUP stays ignored where it was when the program began (`nohup`).
#[derive(Debug)]
pub struct Signals {
    hangup: Option<unix::Signal>,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let hangup =
            if hangup_is_ignored() { None } else { Some(unix::signal(SignalKind::hangup())?) };
        Ok(Self {
            hangup,
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// The next signal. May be dropped and called again without losing one.
    pub async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = hangup => Signal::Hangup,
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

/// Only Linux says so without unsafe code; elsewhere the handler replaces the disposition.
fn hangup_is_ignored() -> bool {
    static IGNORED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // Bit n - 1 stands for signal n; SIGHUP is 1.
        mask.is_some_and(|mask| mask & 1 == 1)
    });
    *IGNORED
}
