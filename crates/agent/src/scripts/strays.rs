//! What scripts have left running, and its end.
//!
//! Start scripts start services: whatever they leave behind goes on, also when the agent starts
//! over, as it does under the Go agent. When the agent itself ends, nothing may be left. Children
//! of children are found by a variable in their environment, since they may have left every group
//! that we know.

use std::ffi::OsString;

use tokio::process::Command;
use uuid::Uuid;

/// The variable.
const NAME: &str = "CODERCTL_AGENT_RUN";

/// What the scripts of one agent have left running; ended when dropped.
#[derive(Debug)]
pub(crate) struct Strays {
    run: Uuid,
}

impl Strays {
    pub(crate) fn new() -> Self {
        Self { run: Uuid::new_v4() }
    }

    /// Marks a command, and with it what it starts.
    pub(crate) fn mark(&self, command: &mut Command) {
        command.env(NAME, self.run.to_string());
    }

    /// Kills them all. Only where processes show their environment (Linux).
    pub(crate) fn end(&self) {
        let mark = format!("{NAME}={}", self.run).into_bytes();
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        for name in processes.filter_map(Result::ok).map(|entry| entry.file_name()) {
            let Some(pid) = pid(&name) else { continue };
            // Those of other users cannot be read, and those that have ended have none.
            let Ok(environment) = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
            else {
                continue;
            };
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
                // It may have gone meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Strays {
    fn drop(&mut self) {
        self.end();
    }
}

fn pid(name: &OsString) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(name.to_str()?.parse().ok()?)
}
