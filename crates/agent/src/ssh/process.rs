//! A running program and its keeper: who signals it, waits for it, and hangs up on it.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use coderctl_ssh::Exit;
use futures_util::FutureExt as _;
use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::server::Shared;

/// Starts a command without a terminal, as leader of a session of its own.
pub(super) fn spawn(command: Command) -> io::Result<Box<dyn ChildWrapper>> {
    // The wrapper itself would wait for the whole group, and a program may leave others behind.
    Ok(CommandWrap::from(command).wrap(ProcessSession).spawn()?.into_inner())
}

/// What of a child its keeper needs.
pub(super) trait Waitable: Send + 'static {
    /// Its number, until it has been waited for.
    fn pid(&self) -> Option<Pid>;
    /// Waits for it. Nothing is lost when dropped.
    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send;
}

impl Waitable for Child {
    fn pid(&self) -> Option<Pid> {
        pid(self.id())
    }

    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send {
        Self::wait(self)
    }
}

impl Waitable for Box<dyn ChildWrapper> {
    fn pid(&self) -> Option<Pid> {
        pid(self.id())
    }

    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send {
        ChildWrapper::wait(&mut **self)
    }
}

fn pid(id: Option<u32>) -> Option<Pid> {
    id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// Signals that may wait for the keeper, which does little else than take them.
const ORDERS: usize = 16;

/// How long a program may take its leave after SIGHUP before it is killed: an interactive shell
/// writes its history meanwhile.
const LEAVE: Duration = Duration::from_secs(2);

/// What becomes of a program whose client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on, as with OpenSSH; it hears nothing but SIGHUP when the server closes.
    GoesOn,
    /// It is hung up on, and killed if it does not mind; the server waits for that.
    Ends,
}

/// A running program, kept until it ends.
#[derive(Debug)]
pub(super) struct Process {
    orders: mpsc::Sender<Signal>,
    status: watch::Receiver<Option<Exit>>,
}

impl Process {
    /// Keeps a child until it ends. It is sent SIGHUP when the server closes; its fate is for when
    /// that happens or this is dropped.
    pub(super) fn keep(child: impl Waitable, server: &Arc<Shared>, fate: Fate) -> Self {
        let (orders, taken) = mpsc::channel(ORDERS);
        let (ended, status) = watch::channel(None);
        let closing = server.closing.subscribe();
        let counted = (fate == Fate::Ends).then(|| server.count());
        tokio::spawn(
            async move {
                let exit = attend(child, taken, closing, fate).await;
                // Nobody may be left who wants to know.
                ended.send_replace(Some(exit));
                drop(counted);
            }
            .boxed(),
        );
        Self { orders, status }
    }

    /// Sends a signal to its process group, as OpenSSH does: to the shell alone it would leave
    /// what the shell waits for behind.
    pub(super) async fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = self.orders.send(signal).await;
    }

    /// Waits for its end; may be asked again.
    pub(super) async fn exit(&self) -> Exit {
        let mut status = self.status.clone();
        match status.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(exit)) => exit.clone(),
            // The keeper was stopped with the runtime.
            Ok(None) | Err(_) => Exit::Status(255),
        }
    }
}

async fn attend(
    mut child: impl Waitable,
    mut orders: mpsc::Receiver<Signal>,
    mut closing: watch::Receiver<bool>,
    fate: Fate,
) -> Exit {
    // Whether somebody may still give orders, and whether the server is open.
    let (mut held, mut open) = (true, true);
    let mut kill_at = None;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return exit_of(status),
            order = orders.recv(), if held => match (order, fate) {
                (Some(signal), _) => signal,
                (None, Fate::GoesOn) => {
                    held = false;
                    continue;
                }
                (None, Fate::Ends) => {
                    held = false;
                    Signal::HUP
                }
            },
            Ok(_) = closing.wait_for(|closing| *closing), if open => {
                open = false;
                Signal::HUP
            }
            () = until(kill_at) => {
                kill_at = None;
                Signal::KILL
            }
        };
        if fate == Fate::Ends && !(held && open) && signal == Signal::HUP {
            kill_at.get_or_insert(Instant::now() + LEAVE);
        }
        // Once it has been waited for, its number may mean somebody else; then there is none.
        if let Some(pid) = child.pid()
            && let Err(error) = kill_process_group(pid, signal)
        {
            tracing::debug!(%error, ?signal, "the program's group takes no signal");
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How the client is told. A program that was killed is told by `exit-signal`, where upstream
/// sends status 255: OpenSSH's client makes 255 of it, too, Go's library and our client 128 + n,
/// as a shell does.
fn exit_of(status: io::Result<ExitStatus>) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            tracing::warn!(%error, "a program's end is not known");
            return Exit::Status(255);
        }
    };
    if let Some(code) = status.code() {
        return Exit::Status(u32::from_ne_bytes(code.to_ne_bytes()));
    }
    match status.signal().and_then(name_of) {
        Some(name) => Exit::Signal {
            name: name.to_owned(),
            core: status.core_dumped(),
            message: String::new(),
        },
        None => Exit::Status(255),
    }
}

/// The signals that a client may send (`coder/ssh`: `session.go`), and those that a program may
/// die of besides, by their names without `SIG`. RFC 4254 section 6.10 has the first thirteen.
const SIGNALS: [(&str, Signal); 18] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("TRAP", Signal::TRAP),
    ("BUS", Signal::BUS),
    ("SYS", Signal::SYS),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

/// How many of [`SIGNALS`] a client may send.
const SENT: usize = 13;

/// The signal of this name; an unknown one kills, as upstream has it.
pub(super) fn signal_of(name: &str) -> Signal {
    let known = SIGNALS[..SENT].iter().find(|(known, _)| *known == name);
    known.map_or(Signal::KILL, |(_, signal)| *signal)
}

fn name_of(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, signal)| signal.as_raw() == number).map(|(name, _)| *name)
}

/// The number for a report, as a shell tells it.
pub(super) fn code_of(exit: &Exit) -> i32 {
    match exit {
        Exit::Status(status) => i32::from_ne_bytes(status.to_ne_bytes()),
        Exit::Signal { name, .. } => {
            let known = SIGNALS.iter().find(|(known, _)| known == name);
            known.map_or(255, |(_, signal)| 128 + signal.as_raw())
        }
        Exit::Lost(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::{Server, Settings};

    fn shell(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let server = Server::new(Settings::default()).0;
        Process::keep(spawn(command).unwrap(), &server, Fate::GoesOn)
    }

    #[tokio::test]
    async fn ends_are_told_as_they_were() {
        assert_eq!(shell("exit 7").exit().await, Exit::Status(7));
        for (signal, name, code) in [("TERM", "TERM", 143), ("BUS", "BUS", 135)] {
            let process = shell(&format!("kill -{signal} $$"));
            let exit = process.exit().await;
            let Exit::Signal { name: told, .. } = &exit else { panic!("{exit:?}") };
            assert_eq!((&told[..], code_of(&exit)), (name, code));
        }
        // A number without a name.
        assert_eq!(shell("kill -40 $$").exit().await, Exit::Status(255));
        assert_eq!(code_of(&Exit::Status(0)), 0);
    }

    #[test]
    fn unknown_signals_kill() {
        assert_eq!(signal_of("USR2"), Signal::USR2);
        for name in ["WINCH", "SIGINT", "", "TRAP"] {
            assert_eq!(signal_of(name), Signal::KILL, "{name}");
        }
    }
}
