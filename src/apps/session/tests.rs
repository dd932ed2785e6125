//! Sessions over an in-memory tunnel whose other end is the SSH test server.

#[path = "../../../crates/ssh/tests/server/mod.rs"]
mod server;

use std::{
    io::{Read, Write},
    sync::Mutex,
};

use server::{Config, Seen, serve};
use tokio::{
    io::DuplexStream,
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use super::*;
use crate::apps::testing::{self, Piped, Stub};

#[tokio::test]
async fn a_command_has_its_streams_apart_and_its_status() {
    let mut run = Run::start(exec("split"), Twin::default());
    run.attach();
    assert_eq!(run.output().await, ("out\n".into(), "err\n".into()));
    assert_eq!(run.code().await, 0);
    assert_eq!(run.events().await, [Event::Up, Event::Opened, Event::Closed]);
    let mut run = Run::start(exec("exit 42"), Twin::default());
    run.attach();
    assert_eq!(run.code().await, 42);
    let mut run = Run::start(exec("exit 256"), Twin::default());
    run.attach();
    assert_eq!(run.code().await, 255, "never turned into a success");
}

#[tokio::test]
async fn input_is_carried_binary_clean_to_its_end() {
    let mut run = Run::start(exec("cat"), Twin::default());
    run.attach();
    let mut stdin = run.piped.stdin.take().unwrap();
    let much: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    let sent = much.clone();
    let writing = spawn_blocking(move || stdin.write_all(&sent));
    let mut stdout = run.piped.stdout.take().unwrap();
    let reading = spawn_blocking(move || {
        let mut back = Vec::new();
        stdout.read_to_end(&mut back).map(|_| back)
    });
    assert_eq!(run.code().await, 0);
    writing.await.unwrap().unwrap();
    assert!(reading.await.unwrap().unwrap() == much);
    assert!(run.seen().await.eof);
}

#[tokio::test]
async fn a_session_waits_for_its_tunnel_and_brings_its_variables() {
    let app = Remote::command("env", false).with_env(vec![("A".into(), "b c".into())]);
    let mut run = Run::start(app, Twin::default());
    tokio::task::yield_now().await;
    assert!(run.piped.driver.events.try_recv().is_err());
    run.attach();
    assert_eq!(run.output().await.0, "A=b c\n");
    assert_eq!(run.seen().await.term, None, "no terminal without asking");
}

#[tokio::test]
async fn a_shell_has_a_terminal_and_piped_input_ends_it() {
    let mut run = Run::start(Remote::shell(true), Twin::default());
    run.attach();
    run.piped.stdin.take().unwrap().write_all(b"echo hi").unwrap();
    assert_eq!(run.output().await.0, "echo hi\x04\x04");
    assert_eq!(run.code().await, 0);
    let (term, cols, rows) = run.seen().await.term.unwrap();
    assert!(!term.is_empty() && cols > 0 && rows > 0);
}

#[tokio::test]
async fn the_first_signal_is_passed_on_and_decides_the_status() {
    let mut run = Run::start(exec("signal"), Twin::default());
    run.attach();
    run.ready().await;
    run.signal(Signal::Terminate).await;
    assert_eq!(run.code().await, 143);
    assert_eq!(run.seen().await.signals, ["TERM"]);
}

#[tokio::test]
async fn the_second_signal_ends_at_once() {
    let mut run = Run::start(exec("hold"), Twin::default());
    run.attach();
    run.ready().await;
    run.signal(Signal::Interrupt).await;
    run.signal(Signal::Interrupt).await;
    assert_eq!(run.code().await, 130);
    assert_eq!(run.seen().await.signals, ["INT"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ignores_a_signal_has_five_seconds() {
    let mut run = Run::start(exec("hold"), Twin::default());
    run.attach();
    run.events().await;
    let began = Instant::now();
    run.signal(Signal::Hangup).await;
    assert_eq!(run.code().await, 129);
    assert_eq!(began.elapsed().as_secs(), carry::GRACE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_falls_silent_is_given_up_after_a_minute() {
    let mut run = Run::start(exec("hold"), Twin::default());
    run.attach();
    run.events().await;
    let began = Instant::now();
    let error = run.error().await;
    assert_eq!(error.kind, Kind::Lost);
    assert!(error.to_string().contains("took too long"), "{error}");
    let silences = began.elapsed().as_secs() / KEEP_ALIVE.as_secs();
    assert!((4..=5).contains(&silences), "{:?}", began.elapsed());
    assert_eq!(run.seen().await.questions, 3);
}

#[tokio::test]
async fn a_lost_tunnel_is_told_in_one_line() {
    let mut run = Run::start(exec("hold"), Twin::default());
    run.attach();
    run.ready().await;
    run.piped.driver.detach();
    let error = run.error().await;
    assert_eq!((error.kind, error.to_string()), (Kind::Lost, "connection lost".into()));
    assert_eq!(run.events().await, [Event::Up, Event::Opened, Event::Closed]);
}

#[tokio::test]
async fn a_session_without_a_status_and_a_broken_stream_are_lost() {
    let mut run = Run::start(exec("vanish"), Twin::default());
    run.attach();
    assert_eq!(run.error().await.kind, Kind::Lost);
    let mut run = Run::start(exec("drop"), Twin::default());
    run.attach();
    assert_eq!(run.output().await.0, "begun\n", "what came before is written");
    let error = run.error().await;
    assert_eq!(error.kind, Kind::Lost);
    assert!(error.to_string().starts_with("connection lost: "), "{error}");
}

#[tokio::test]
async fn asked_to_close_it_closes_the_session() {
    let mut run = Run::start(exec("hold"), Twin::default());
    run.attach();
    run.ready().await;
    run.piped.driver.close.send_replace(true);
    assert_eq!(run.code().await, 0);
    assert!(run.seen().await.disconnected);
    let mut run = Run::start(exec("hold"), Twin::default());
    run.piped.driver.close.send_replace(true);
    assert_eq!(run.code().await, 0, "before there was a tunnel");
}

#[tokio::test]
async fn closed_standard_output_ends_it_as_a_broken_pipe_does() {
    let mut run = Run::start(exec("flood out 50000000"), Twin::default());
    drop(run.piped.stdout.take());
    run.attach();
    assert_eq!(run.code().await, 141);
}

#[tokio::test]
async fn closed_standard_error_is_nothing_to_end_for() {
    let mut run = Run::start(exec("flood err 9000000"), Twin::default());
    drop(run.piped.stderr.take());
    run.attach();
    assert_eq!(run.output().await.0, "after\n");
    assert_eq!(run.code().await, 0);
}

#[tokio::test]
async fn a_server_that_numbers_channels_otherwise_is_dialled_again() {
    let twin = Twin { config: Config { number: 3, ..Config::default() }, ..Twin::default() };
    let mut run = Run::start(exec("split"), twin);
    run.attach();
    assert_eq!(run.output().await.0, "out\n");
    assert_eq!(run.code().await, 0);
}

#[tokio::test]
async fn what_keeps_a_session_from_beginning_has_its_own_kind() {
    for (error, kind) in [
        (io::ErrorKind::ConnectionRefused, Kind::Remote),
        (io::ErrorKind::TimedOut, Kind::Timeout),
        (io::ErrorKind::NotConnected, Kind::Tunnel),
    ] {
        let mut run = Run::start(exec("cat"), Twin { refuse: Some(error), ..Twin::default() });
        run.attach();
        assert_eq!(run.error().await.kind, kind);
    }
    for (config, kind) in [
        (Config { auth: false, ..Config::default() }, Kind::Remote),
        (Config { forge: true, ..Config::default() }, Kind::Protocol),
        (Config { greeting: b"HTTP/1.1 200 OK\r\n", ..Config::default() }, Kind::Protocol),
    ] {
        let mut run = Run::start(exec("cat"), Twin { config, ..Twin::default() });
        run.attach();
        assert_eq!(run.error().await.kind, kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let mut run = Run::start(exec("cat"), Twin { mute: true, ..Twin::default() });
    run.attach();
    let error = run.error().await;
    assert_eq!(error.kind, Kind::Timeout);
    assert!(error.to_string().contains("SSH session"), "{error}");
}

fn exec(command: &str) -> Remote {
    Remote::command(command, false)
}

/// What is behind port 1: the test server.
#[derive(Default)]
struct Twin {
    config: Config,
    refuse: Option<io::ErrorKind>,
    mute: bool,
    serving: Mutex<Vec<JoinHandle<Seen>>>,
    silent: Mutex<Vec<DuplexStream>>,
}

impl Twin {
    fn dial(&self, port: u16) -> io::Result<DuplexStream> {
        assert_eq!(port, PORT);
        if let Some(error) = self.refuse {
            return Err(error.into());
        }
        let (near, far) = testing::duplex();
        if self.mute {
            self.silent.lock().unwrap().push(far);
        } else {
            let serving = serve(far, self.config.clone());
            let serving = async { serving.await.unwrap_or_default() };
            self.serving.lock().unwrap().push(tokio::spawn(serving));
        }
        Ok(near)
    }
}

/// A session that runs, and its server.
struct Run {
    piped: Piped,
    twin: Arc<Twin>,
}

impl Run {
    fn start(app: Remote, twin: Twin) -> Self {
        Self { piped: Piped::start(app), twin: Arc::new(twin) }
    }

    fn attach(&self) {
        let twin = Arc::clone(&self.twin);
        self.piped.driver.attach(Stub::dialled(move |port| twin.dial(port)));
    }

    async fn code(&mut self) -> u8 {
        self.piped.code().await
    }

    async fn error(&mut self) -> CommandError {
        self.piped.stdin.take();
        self.piped.error().await
    }

    /// Everything that comes out, once all has gone in.
    async fn output(&mut self) -> (String, String) {
        self.piped.stdin.take();
        let (out, err) = self.piped.output().await;
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    /// Waits for the line `ready`.
    async fn ready(&mut self) {
        assert_eq!(self.piped.bytes(6).await, b"ready\n");
    }

    async fn events(&mut self) -> Vec<Event> {
        self.piped.driver.reported().await
    }

    async fn signal(&self, signal: Signal) {
        self.piped.driver.signals.send(signal).await.unwrap();
    }

    async fn seen(&mut self) -> Seen {
        let serving = self.twin.serving.lock().unwrap().pop().unwrap();
        serving.await.unwrap()
    }
}
