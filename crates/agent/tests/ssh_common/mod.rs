//! A server with a home of its own, reached in memory by our client or over loopback by others.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use coderctl_agent::ssh::{
    Blocks, Connection, Server, SessionEnvironment, SessionObserver, Settings,
};
use coderctl_ssh::{Exit, Options, Pty, Request, Session, client::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

/// Far more than anything here takes.
pub const LONG: Duration = Duration::from_secs(60);

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("within the time limit")
}

/// What the observer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Connected(Connection),
    Disconnected(Connection, i32, String),
}

#[derive(Debug)]
struct Ear(Mutex<mpsc::UnboundedSender<Told>>);

impl SessionObserver for Ear {
    fn connected(&self, connection: Connection) {
        // A test that does not listen has dropped the other end.
        let _ = self.0.lock().unwrap().send(Told::Connected(connection));
    }

    fn disconnected(&self, connection: Connection, code: i32, reason: &str) {
        let told = Told::Disconnected(connection, code, reason.to_owned());
        let _ = self.0.lock().unwrap().send(told);
    }
}

pub struct Agent {
    pub server: Server,
    pub home: tempfile::TempDir,
    pub told: mpsc::UnboundedReceiver<Told>,
}

/// What a workspace has that is called dev.
pub fn environment() -> SessionEnvironment {
    SessionEnvironment {
        workspace_name: "dev".into(),
        workspace_id: "6a2d5c1e-0000-0000-0000-000000000000".into(),
        owner_name: "me".into(),
        agent_name: "main".into(),
        agent_token: "hush".into(),
        ..SessionEnvironment::default()
    }
}

impl Agent {
    pub fn new() -> Self {
        Self::with(Settings::default(), |environment| environment)
    }

    pub fn blocking(blocks: Blocks) -> Self {
        Self::with(Settings { blocks, ..Settings::default() }, |environment| environment)
    }

    pub fn with(
        settings: Settings,
        change: impl FnOnce(SessionEnvironment) -> SessionEnvironment,
    ) -> Self {
        let agent = Self::without_manifest(settings);
        agent.server.set_environment(change(environment()));
        agent
    }

    pub fn without_manifest(settings: Settings) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        // What tests run with, in a home of its own.
        let mut process: Vec<(OsString, OsString)> =
            std::env::vars_os().filter(|(name, _)| name != "HOME").collect();
        process.push(("HOME".into(), home.path().into()));
        process.push(("FROM_THE_AGENT".into(), "agent".into()));
        let settings = Settings {
            process_environment: process,
            observer: Arc::new(Ear(Mutex::new(sender))),
            ..settings
        };
        Self { server: Server::new(settings), home, told }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// A connection in memory.
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = self.server.clone();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        tokio::spawn(async move { server.serve(theirs, peer).await });
        ours
    }

    pub async fn open(&self, options: Options) -> (Client, Session) {
        within(coderctl_ssh::open(self.connect(), options)).await.unwrap()
    }

    /// Runs something without input: output, second output, exit.
    pub async fn output(&self, options: Options) -> (String, String, Exit) {
        let (_client, Session { mut stdin, mut stdout, mut stderr, control }) =
            self.open(options).await;
        stdin.shutdown().await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ends = within(async {
            tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err))
        });
        let (out_end, err_end) = ends.await;
        out_end.unwrap();
        err_end.unwrap();
        let exit = within(control.exit()).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err), exit)
    }

    /// The output of a command that succeeds and says nothing on its second output.
    pub async fn run(&self, command: &str) -> String {
        let (out, err, exit) = self.output(exec(command)).await;
        assert_eq!((&err[..], exit), ("", Exit::Status(0)), "{out}");
        out
    }

    /// Serves on loopback: the port.
    pub async fn listen(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = self.server.clone();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream, peer).await });
            }
        });
        port
    }
}

pub fn exec(command: &str) -> Options {
    Options::new(Request::Exec(command.into()))
}

pub fn on_terminal(options: Options) -> Options {
    let modes = coderctl_ssh::Modes::default();
    Options {
        pty: Some(Pty { term: "xterm-256color".into(), cols: 97, rows: 31, modes }),
        ..options
    }
}

/// Waits until a condition of the outside world holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Whether a process runs (and is not merely waited for).
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}
