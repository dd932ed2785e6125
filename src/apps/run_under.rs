//! A command that runs while forwards are ready.
//!
//! Whether it can be run is found out at once. It starts once they are, with variables that tell it about them (those are
//! [`super::port_forward`]'s to know).
//!
//! Its status becomes the program's. Signals are passed on to it, but SIGINT where a terminal has
//! already sent it to both: the command is in the terminal's foreground process group with us.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use rustix::{
    fs::Access,
    io::Errno,
    process::{Pid, kill_process},
};
use tokio::process::Child;
use tracing::debug;

use crate::{
    error::{CommandError, Kind},
    signal::Signal,
    ui::quoted,
};

/// How long a command may take to end once it was told that the tunnel is lost for good: as long
/// as supervisors commonly grant (`docker stop` waits ten seconds too).
const GRACE: Duration = Duration::from_secs(10);

/// A command to be run, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
}

impl Command {
    /// The first word is the program; nothing for no words.
    #[must_use]
    pub fn new(words: Vec<OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        Some(Self { program: words.next()?, arguments: words.collect() })
    }

    /// Finds out whether it could be started, before anything is done for it.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        let program = Path::new(&self.program);
        let found = match env::var_os("PATH") {
            _ if self.program.as_encoded_bytes().contains(&b'/') => executable(program),
            Some(path) => {
                // As execvp(3) does: a refusal counts where nothing else is found.
                let mut refusal = None;
                let mut places = env::split_paths(&path).map(|place| place.join(program));
                let found = places.any(|place| match executable(&place) {
                    Ok(()) => true,
                    Err(error) => {
                        refusal = Some(error).filter(is_refusal).or(refusal.take());
                        false
                    }
                });
                if found { Ok(()) } else { Err(refusal.unwrap_or_else(|| Errno::NOENT.into())) }
            }
            // Where it is looked for then is the system's business.
            None => Ok(()),
        };
        found.map_err(|error| refused(&quoted(&self.program.to_string_lossy()), error))
    }

    /// Starts it, with our standard streams.
    pub(super) fn start(
        self,
        variables: &BTreeMap<String, String>,
    ) -> Result<Running, CommandError> {
        let mut command = tokio::process::Command::new(&self.program);
        // Whatever ends us, the command does not outlive the forward that it was promised.
        command.args(&self.arguments).envs(variables).kill_on_drop(true);
        let name = quoted(&self.program.to_string_lossy());
        let child = command.spawn().map_err(|error| refused(&name, error))?;
        debug!(%name, pid = child.id(), "started");
        Ok(Running { child, name, shares_terminal: io::stdin().is_terminal() })
    }
}

/// Whether a file can be run.
fn executable(path: &Path) -> io::Result<()> {
    rustix::fs::access(path, Access::EXEC_OK)?;
    if path.is_dir() { Err(Errno::ACCESS.into()) } else { Ok(()) }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn refused(name: &str, error: io::Error) -> CommandError {
    let kind =
        if error.kind() == io::ErrorKind::NotFound { Kind::NoCommand } else { Kind::CannotRun };
    let context = format!("the command {name} cannot be run");
    CommandError::new(kind, anyhow::Error::new(error).context(context))
}

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    name: String,
    shares_terminal: bool,
}

impl Running {
    /// Its exit status as a shell says it: 128 + n for signal n. May be dropped and called again.
    pub(super) async fn status(&mut self) -> Result<u8, CommandError> {
        let status = self.child.wait().await.map_err(|error| {
            let context = format!("the end of {} cannot be learnt", self.name);
            CommandError::new(Kind::Other, anyhow::Error::new(error).context(context))
        })?;
        debug!(name = self.name, %status, "ended");
        Ok(code(status))
    }

    /// Passes a signal on.
    pub(super) fn signal(&self, signal: Signal) {
        if signal != Signal::Interrupt || !self.shares_terminal {
            self.send(signal);
        }
    }

    /// Asks it to end, waits for a while, then kills it.
    pub(super) async fn end(mut self) {
        self.send(Signal::Terminate);
        if tokio::time::timeout(GRACE, self.status()).await.is_err() {
            debug!(name = self.name, "did not end in time");
        }
    }

    fn send(&self, signal: Signal) {
        let number = match signal {
            Signal::Hangup => rustix::process::Signal::HUP,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Terminate => rustix::process::Signal::TERM,
        };
        // A child that was waited for has no id: there is nobody to tell.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, number)) {
            debug!(name = self.name, %error, "the signal was not delivered");
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Command {
        let words = ["sh", "-c", script].map(OsString::from);
        Command::new(words.into()).unwrap()
    }

    #[tokio::test]
    async fn its_status_is_passed_on() {
        for (script, status) in [("exit 0", 0), ("exit 41", 41), ("kill -9 $$", 137)] {
            let mut running = run(script).start(&BTreeMap::new()).unwrap();
            assert_eq!(running.status().await.unwrap(), status, "{script}");
        }
    }

    #[tokio::test]
    async fn it_finds_its_variables() {
        let variables = BTreeMap::from([("CODERCTL_PORT".to_owned(), "4001".to_owned())]);
        let script = "test \"$CODERCTL_PORT\" = 4001";
        assert_eq!(run(script).start(&variables).unwrap().status().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_told_apart_from_what_is_not_there() {
        for (program, code) in [("/nowhere/at/all", 127), ("/dev/null", 126)] {
            let command = Command::new(vec![program.into()]).unwrap();
            let error = command.start(&BTreeMap::new()).unwrap_err();
            assert_eq!(error.kind.code(), code);
            assert!(error.to_string().starts_with(&format!("the command `{program}` cannot be")));
        }
    }

    #[tokio::test]
    async fn it_is_asked_to_end_before_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (ready, asked) = (directory.path().join("ready"), directory.path().join("asked"));
        let script = format!(
            "trap 'touch {}; exit 0' TERM; mkfifo {}; read x < {}",
            asked.display(),
            ready.display(),
            ready.display()
        );
        let mut running = run(&script).start(&BTreeMap::new()).unwrap();
        // The fifo is there once the trap is.
        while !ready.exists() {
            assert!(running.child.try_wait().unwrap().is_none());
            tokio::task::yield_now().await;
        }
        running.end().await;
        assert!(asked.exists());
    }
}
