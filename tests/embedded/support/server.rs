//! A `coderctl server` of the test's own.

use std::{
    io::{BufRead, BufReader},
    ops::Deref,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use super::{Client, Faults, LONGEST, coderctl, running::wait_for_end};

/// What a server writes when it is ready.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub url: String,
    pub token: String,
    pub agent_token: Option<String>,
}

/// How a server is started.
#[derive(Default, Clone)]
pub struct Options {
    arguments: Vec<String>,
    faults: bool,
    errors_expected: bool,
}

impl Options {
    /// With a workspace `dev` of the built-in template.
    pub fn dev(self) -> Self {
        self.with(&["--workspace", "dev"])
    }

    /// Whose agents are started by hand.
    pub fn external(self) -> Self {
        self.with(&["--external-agent"])
    }

    /// With further arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// That can be asked for faults.
    pub fn faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Whose log may tell of errors, where those are what the test is about.
    pub fn errors_expected(mut self) -> Self {
        self.errors_expected = true;
        self
    }

    /// Starts it on a state of its own.
    pub fn start(self) -> Server {
        let home = Arc::new(TempDir::new().unwrap());
        let state = home.path().join("state");
        Server::on(home, state, self)
    }
}

/// A `coderctl server` that ends with the test, and its first user as a client.
pub struct Server {
    child: Child,
    client: Client,
    pub ready: Ready,
    pub state: PathBuf,
    /// What is its own, where several servers have one home.
    own: PathBuf,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    options: Options,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// One with a workspace `dev` of the built-in template.
    pub fn with_dev() -> Self {
        Options::default().dev().start()
    }

    /// One without a workspace.
    pub fn empty() -> Self {
        Options::default().start()
    }

    fn on(home: Arc<TempDir>, state: PathBuf, options: Options) -> Self {
        let own =
            tempfile::Builder::new().prefix("server-").tempdir_in(home.path()).unwrap().keep();
        let ready_file = own.join("ready.json");
        let mut command = coderctl(home.path());
        command
            .args(["server", "--listen", "127.0.0.1:0", "--state"])
            .arg(&state)
            .arg("--ready-file")
            .arg(&ready_file)
            .args(&options.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if options.faults {
            command.arg("--fault-socket").arg(own.join("faults"));
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).split(b'\n');
        let said = Arc::new(Mutex::new(String::new()));
        let (up, is_up) = mpsc::channel();
        let reader = std::thread::spawn({
            let said = Arc::clone(&said);
            move || {
                for line in lines {
                    let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                    *said.lock().unwrap() += &format!("{line}\n");
                    if line == "Ready!" {
                        // Whoever waits for it may have given up.
                        let _ = up.send(());
                    }
                }
            }
        });
        if is_up.recv_timeout(LONGEST).is_err() {
            // It may have ended by itself.
            let _ = child.kill();
            panic!("the server is not up: {}", said.lock().unwrap());
        }
        let ready: Ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        let client = Client { home, url: ready.url.clone(), token: ready.token.clone() };
        Self { child, client, ready, state, own, said, reader: Some(reader), options }
    }

    /// Another one on the same state, at the same time.
    pub fn beside(&self, options: Options) -> Self {
        Self::on(Arc::clone(&self.client.home), self.state.clone(), options)
    }

    /// Another one on the same state, once this one has been killed without a warning.
    pub fn crash_and_restart(mut self, options: Options) -> Self {
        self.kill();
        Self::on(Arc::clone(&self.client.home), self.state.clone(), options)
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    /// Where it is asked for faults.
    pub fn faults(&self) -> Faults {
        Faults::at(&self.own.join("faults"))
    }

    /// A file in the directory of a workspace.
    #[track_caller]
    pub fn file(&self, workspace: &str, name: &str) -> PathBuf {
        let id = super::api::id(&self.api().workspace(workspace));
        self.state.join("workspaces").join(id).join(name)
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Asks it to end; how it did, and what it said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = wait_for_end(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code(), self.said())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.said();
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- the server said:\n{said}").as_bytes(),
            );
        } else {
            assert!(!said.contains("panicked"), "{said}");
            assert!(self.options.errors_expected || !said.contains(" ERROR "), "{said}");
        }
    }
}
