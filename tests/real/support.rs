//! The deployment under test, and how to run the binary against it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};

pub(crate) use crate::services::{local_port, noise, service};

/// Tests that only use the deployment share it; one that disturbs it (stops a workspace, restarts
/// the server) has it alone.
static DEPLOYMENT: RwLock<()> = RwLock::new(());

pub(crate) struct Deployment<G> {
    url: String,
    token: String,
    _guard: G,
}

pub(crate) fn shared() -> Option<Deployment<RwLockReadGuard<'static, ()>>> {
    let (url, token) = credentials()?;
    Some(Deployment { url, token, _guard: DEPLOYMENT.read().unwrap_or_else(|e| e.into_inner()) })
}

pub(crate) fn alone() -> Option<Deployment<RwLockWriteGuard<'static, ()>>> {
    let (url, token) = credentials()?;
    Some(Deployment { url, token, _guard: DEPLOYMENT.write().unwrap_or_else(|e| e.into_inner()) })
}

fn credentials() -> Option<(String, String)> {
    Some((variable("CODERCTL_TEST_URL")?, variable("CODERCTL_TEST_TOKEN")?))
}

/// The variable, or `None` after saying loudly (past the test harness's capture) what is skipped.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        skipped(&format!("{name} is not set"));
    }
    value
}

/// Says so past the test harness's capture.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Runs a host command of the environment, as `sh -c COMMAND sh ARGUMENT`.
pub(crate) fn host(command: &str, argument: &str) {
    let status = Command::new("sh").args(["-c", command, "sh", argument]).status().unwrap();
    assert!(status.success(), "host command `{command}` {argument}: {status}");
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_coderctl")
}

impl<G> Deployment<G> {
    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The binary with the deployment's environment and nothing else of ours.
    pub(crate) fn coderctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.equip(&mut command);
        command
    }

    /// Gives `command` the deployment's environment.
    pub(crate) fn equip(&self, command: &mut Command) {
        command
            .env("CODER_URL", &self.url)
            .env("CODER_SESSION_TOKEN", &self.token)
            .env("CODER_DISABLE_DIRECT_CONNECTIONS", "true")
            .env("CODER_CONFIG_DIR", "/nonexistent")
            .stdin(Stdio::null());
    }

    /// Runs to the end with this input.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        feed(self.coderctl(arguments), input)
    }

    /// A `port-forward` that has said `Ready!`.
    pub(crate) fn forward(&self, arguments: &[&str]) -> Running {
        let mut all = vec!["port-forward"];
        all.extend_from_slice(arguments);
        let mut running = Running::start(self.coderctl(&all));
        running.wait_for("Ready!");
        running
    }
}

/// Runs `command` to its end with this input.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The command may end without reading it all.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// A command that runs in the background; its standard error is read line by line.
pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) seen: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, seen: String::new() }
    }

    /// Reads standard error until a line has `needle`; that line.
    pub(crate) fn wait_for(&mut self, needle: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before it said {needle:?}:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(needle) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end; the exit code and all of standard error.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        let _ = self.stderr.read_to_string(&mut rest);
        (status.code(), std::mem::take(&mut self.seen) + &rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
