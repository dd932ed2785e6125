//! The scripts of a workspace: at its start, at its stop, by the clock.
//!
//! Each run streams its output to the server and to a file, and its duration is told to the
//! server. Scripts of one occasion run side by side (`agent/agentscripts/agentscripts.go`).

mod output;
pub(crate) mod process;
mod schedule;
mod strays;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use coderctl_drpc::proto::agent as proto;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    fs::{DirBuilder, File, OpenOptions},
    sync::watch,
};

pub(crate) use self::strays::Strays;
use self::{
    output::Output,
    process::{End, GRACE},
    schedule::Schedule,
};
use crate::{
    environment::{Environment, expand, home, lookup},
    logs::{Level, Logs},
    manifest::Script,
    reports::Timings,
};

/// Longest sleep until a script is due: how late a clock that was set can make one.
const MAX_SLEEP: Duration = Duration::from_secs(15 * 60);

/// Why a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Start,
    Stop,
    Cron,
}

/// How the scripts of one occasion ended, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    TimedOut,
    Failed,
}

/// Where scripts keep things.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    logs: PathBuf,
    data: PathBuf,
}

impl Directories {
    /// Logs under the one, `coder-script-data` under the other.
    pub(crate) fn new(logs: PathBuf, data: &Path) -> Self {
        Self { logs, data: data.join("coder-script-data") }
    }

    /// Where scripts put programs for everybody.
    pub(crate) fn bin(&self) -> PathBuf {
        self.data.join("bin")
    }
}

/// Runs the scripts of one manifest.
#[derive(Debug)]
pub(crate) struct Runner {
    scripts: Vec<Script>,
    directories: Directories,
    process: Arc<[(std::ffi::OsString, std::ffi::OsString)]>,
    logs: Arc<Logs>,
    timings: Arc<Timings>,
    strays: Arc<Strays>,
}

impl Runner {
    pub(crate) fn new(
        scripts: Vec<Script>,
        directories: Directories,
        process: Arc<[(std::ffi::OsString, std::ffi::OsString)]>,
        logs: Arc<Logs>,
        timings: Arc<Timings>,
        strays: Arc<Strays>,
    ) -> Self {
        Self { scripts, directories, process, logs, timings, strays }
    }

    /// Runs the scripts of an occasion side by side to their end; the first one that fails says
    /// how. What still runs when `canceled` is done is told to go.
    pub(crate) async fn execute(
        &self,
        stage: Stage,
        environment: &Environment,
        canceled: &watch::Receiver<bool>,
    ) -> Outcome {
        let wanted = |script: &&Script| match stage {
            Stage::Start => script.run_on_start,
            Stage::Stop => script.run_on_stop,
            Stage::Cron => !script.cron.is_empty(),
        };
        let mut running: FuturesUnordered<_> = self
            .scripts
            .iter()
            .filter(wanted)
            .map(|script| self.run(script, stage, environment, is_true(canceled.clone())))
            .collect();
        let mut outcome = Outcome::Done;
        while let Some(one) = running.next().await {
            if outcome == Outcome::Done {
                outcome = one;
            }
        }
        outcome
    }

    /// Runs scripts by the clock, each at most once at a time, until the future is dropped.
    pub(crate) async fn by_the_clock(&self, environment: &watch::Receiver<Option<Environment>>) {
        let mut running: FuturesUnordered<_> = self
            .scripts
            .iter()
            .filter(|script| !script.cron.is_empty())
            .filter_map(|script| match Schedule::parse(&script.cron) {
                Ok(schedule) => Some(self.repeat(script, schedule, environment)),
                Err(error) => {
                    tracing::error!(script = %script.display_name, %error, "not scheduled");
                    self.logs.push(script.log_source_id, Level::Error, error.to_string());
                    self.logs.flush(script.log_source_id);
                    None
                }
            })
            .collect();
        while running.next().await.is_some() {}
    }

    async fn repeat(
        &self,
        script: &Script,
        schedule: Schedule,
        environment: &watch::Receiver<Option<Environment>>,
    ) {
        while let Some(due) = schedule.next_after(Timestamp::now()) {
            // Looked at again and again, since the clock may be set meanwhile.
            loop {
                let left = due.duration_since(Timestamp::now());
                let Ok(left) = Duration::try_from(left) else { break };
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(MAX_SLEEP)).await;
            }
            let now = environment.borrow().clone();
            if let Some(environment) = now {
                self.run(script, Stage::Cron, &environment, std::future::pending()).await;
            }
        }
    }

    /// Runs one script and tells what came of it.
    async fn run(
        &self,
        script: &Script,
        stage: Stage,
        environment: &Environment,
        canceled: impl Future<Output = ()> + Send,
    ) -> Outcome {
        let name = script.display_name.as_str();
        tracing::info!(script = %name, ?stage, "running a script");
        let data = self.directories.data.join(script.log_source_id.to_string());
        let (file, problem) = self.open_log(script).await;
        let mut output = Output::new(Arc::clone(&self.logs), script.log_source_id, file);
        if let Some(problem) = problem {
            output.note(Level::Warn, &problem).await;
        }
        for directory in [&self.directories.bin(), &data] {
            if let Err(error) =
                DirBuilder::new().recursive(true).mode(0o700).create(directory).await
            {
                output.note(Level::Warn, &format!("cannot create {directory:?}: {error}")).await;
            }
        }
        let mut command = environment.command(&script.text);
        command.env("CODER_SCRIPT_DATA_DIR", &data);
        command.env("CODER_SCRIPT_BIN_DIR", self.directories.bin());
        self.strays.mark(&mut command);

        let timeout = Some(script.timeout).filter(|timeout| !timeout.is_zero());
        let start = SystemTime::now();
        let end = process::run(command, timeout, canceled, &mut output).await;
        let (status, exit_code, outcome) = match &end {
            Ok(End::Exited(0)) => (proto::timing::Status::Ok, 0, Outcome::Done),
            Ok(End::Exited(code)) => (proto::timing::Status::ExitFailure, *code, Outcome::Failed),
            Ok(End::PipesLeftOpen) => {
                output.note(Level::Warn, &pipes_left_open()).await;
                // Upstream counts it as a failure of the start as well.
                (proto::timing::Status::PipesLeftOpen, 255, Outcome::Failed)
            }
            Ok(End::TimedOut) => {
                let text = format!("the script took longer than its limit of {:?}", script.timeout);
                output.note(Level::Error, &text).await;
                (proto::timing::Status::TimedOut, 255, Outcome::TimedOut)
            }
            Ok(End::Canceled) => (proto::timing::Status::ExitFailure, 255, Outcome::Failed),
            Err(error) => {
                output.note(Level::Error, &format!("cannot run the script: {error}")).await;
                (proto::timing::Status::ExitFailure, 255, Outcome::Failed)
            }
        };
        output.finish().await;
        tracing::info!(script = %name, ?stage, ?outcome, exit_code, "a script has ended");
        let timing = proto::Timing {
            script_id: script.id.as_bytes().to_vec(),
            start: Some(start.into()),
            // Never before the start, whatever the clock does.
            end: Some(SystemTime::now().max(start).into()),
            exit_code,
            stage: match stage {
                Stage::Start => proto::timing::Stage::Start,
                Stage::Stop => proto::timing::Stage::Stop,
                Stage::Cron => proto::timing::Stage::Cron,
            }
            .into(),
            status: status.into(),
        };
        if !script.id.is_nil() && !self.timings.push(timing) {
            tracing::debug!("a script's timing is not reported: too many wait");
        }
        outcome
    }

    /// The script's log file, emptied; or why there is none.
    async fn open_log(&self, script: &Script) -> (Option<File>, Option<String>) {
        let path = log_path(script, &self.directories.logs, |name| match name {
            "HOME" => Some(home(&self.process).to_string_lossy().into_owned()),
            other => lookup(&self.process, other),
        });
        if let Some(parent) = path.parent()
            && let Err(error) = DirBuilder::new().recursive(true).create(parent).await
        {
            return (None, Some(format!("cannot create {parent:?} for the log: {error}")));
        }
        let opened = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .await;
        match opened {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("cannot write the log {path:?}: {error}"))),
        }
    }
}

/// Where a script's output goes.
fn log_path(script: &Script, logs: &Path, value: impl Fn(&str) -> Option<String>) -> PathBuf {
    if script.log_path.is_empty() {
        return logs.join(format!("coder-script-{}.log", script.log_source_id));
    }
    let path = match script.log_path.strip_prefix('~') {
        Some(rest) => format!("$HOME/{}", rest.trim_start_matches('/')),
        None => script.log_path.clone(),
    };
    // Joining an absolute path leaves that.
    logs.join(expand(&path, value))
}

fn pipes_left_open() -> String {
    format!(
        "WARNING: the script has ended, but after {GRACE:?} something that it started still keeps \
         its output open. That may now fail to write. Redirect its output, or start it by a script \
         of its own."
    )
}

async fn is_true(mut flag: watch::Receiver<bool>) {
    // Nobody can cancel any more.
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
