//! Runs `coderctl server`, and `coderctl` against it.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

/// Longer than this nothing takes, on a loaded machine either.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A command in a home directory of its own, with nothing else of our environment.
pub fn coderctl(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coderctl"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null());
    command
}

/// What a run of the binary left.
#[derive(Debug)]
pub struct Seen {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Seen {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let seen = Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        assert!(!seen.stderr.contains("panicked"), "{}", seen.stderr);
        seen
    }

    /// It ended like this.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// Waits for the end of a program; one that hangs is killed, and fails the test.
pub fn run(command: &mut Command) -> Seen {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let id = Pid::from_raw(child.id().cast_signed()).unwrap();
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if end.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Gone in this very moment is as well.
            let _ = kill_process(id, Signal::KILL);
        }
    });
    let (stdout, stderr) = (read(stdout), read(stderr));
    let status = child.wait().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let seen = Seen::of(Output { status, stdout, stderr });
    assert!(began.elapsed() < LONGEST, "it hung: {seen:?}");
    seen
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// What a server writes when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub url: String,
    pub token: String,
    pub agent_token: Option<String>,
}

/// A `coderctl server` that ends with the test.
pub struct Server {
    child: Child,
    pub ready: Ready,
    pub state: PathBuf,
    said: Option<JoinHandle<String>>,
    home: TempDir,
}

impl Server {
    /// One with a workspace `dev` of the built-in template.
    pub fn with_dev() -> Self {
        Self::start(&["--workspace", "dev"])
    }

    /// One on a state of its own.
    pub fn start(arguments: &[&str]) -> Self {
        let home = TempDir::new().unwrap();
        let state = home.path().join("state");
        Self::on(home, state, arguments)
    }

    fn on(home: TempDir, state: PathBuf, arguments: &[&str]) -> Self {
        let file = home.path().join("ready.json");
        let mut child = coderctl(home.path())
            .args(["server", "--listen", "127.0.0.1:0", "--state"])
            .arg(&state)
            .arg("--ready-file")
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let Some(line) = lines.next() else { panic!("the server ended: {said}") };
            said += &format!("{}\n", line.unwrap());
            if said.ends_with("Ready!\n") {
                break;
            }
        }
        let said = std::thread::spawn(move || {
            for line in lines {
                said += &format!("{}\n", line.unwrap());
            }
            said
        });
        let ready = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        Self { child, ready, state, said: Some(said), home }
    }

    /// Another one on the same state, once this one has been killed without a warning.
    pub fn crash_and_restart(mut self, arguments: &[&str]) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let home = std::mem::replace(&mut self.home, TempDir::new().unwrap());
        Self::on(home, self.state.clone(), arguments)
    }

    /// A client's command, logged in.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = coderctl(self.home.path());
        command
            .args(arguments)
            .env("CODER_URL", &self.ready.url)
            .env("CODER_SESSION_TOKEN", &self.ready.token);
        command
    }

    /// Runs a client's command.
    pub fn run(&self, arguments: &[&str]) -> Seen {
        let seen = run(&mut self.command(arguments));
        let token = &self.ready.token;
        assert!(!format!("{}{}", seen.stdout, seen.stderr).contains(token), "{seen:?}");
        seen
    }

    /// A template in a file of this name.
    pub fn template(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Asks it to end; answers what it said on stderr.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        (status.code(), self.said.take().unwrap().join().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
