//! `--stdio` over an in-memory tunnel whose other end is the test's own.

use std::{
    io::{PipeReader, PipeWriter, Read, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex},
};

use tokio::{
    io::DuplexStream,
    net::TcpStream,
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
};

use super::*;
use crate::{
    apps::{Datagrams, Spliced, Tunnel, session::PORT},
    ui::{self, Ui},
};

#[tokio::test]
async fn bytes_go_through_and_half_close_is_kept() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"SSH-2.0-\0\xff\r\n").unwrap();
    drop(stdin);
    let mut got = Vec::new();
    agent.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"SSH-2.0-\0\xff\r\n", "and then the end");
    agent.write_all(b"still \0 here").await.unwrap();
    drop(agent);
    assert_eq!(run.output().await, b"still \0 here");
    assert_eq!(run.code().await, 0);
    assert_eq!(run.events.recv().await, Some(Event::Up));
    assert_eq!(run.events.recv().await, Some(Event::Opened));
    assert_eq!(run.events.recv().await, Some(Event::Closed));
}

#[tokio::test]
async fn the_end_of_the_agent_is_the_end_though_input_stays_open() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    agent.write_all(b"bye").await.unwrap();
    drop(agent);
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    assert_eq!(run.output().await, b"bye");
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_agent() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    let much = vec![5; 8 << 20];
    let wait = Duration::from_millis(100);
    assert!(timeout(wait, agent.write_all(&much)).await.is_err(), "nobody reads");
    drop(agent);
    // A pipe, two buffers and the stream itself.
    let held = run.output().await.len();
    assert!((1..1 << 20).contains(&held), "{held}");
}

#[tokio::test]
async fn hangup_after_bytes_is_openssh_saying_goodbye() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    agent.write_all(b"x").await.unwrap();
    run.byte().await;
    run.signals.send(Signal::Hangup).await.unwrap();
    assert_eq!(run.code().await, 0);

    let mut run = Run::start();
    let _agent = run.attach().await;
    run.signals.send(Signal::Hangup).await.unwrap();
    assert_eq!(run.code().await, 129, "before any");

    let mut run = Run::start();
    run.signals.send(Signal::Terminate).await.unwrap();
    assert_eq!(run.code().await, 143, "before there was a tunnel");
}

#[tokio::test]
async fn a_broken_tunnel_is_a_lost_connection() {
    let mut run = Run::start();
    let _agent = run.attach().await;
    run.tunnel.send_replace(None);
    let End::Failed(error) = (&mut run.app).await.unwrap() else { panic!("no error") };
    assert_eq!((error.kind.code(), error.to_string()), (255, "connection lost".into()));
}

#[tokio::test]
async fn closed_output_ends_quietly() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    drop(run.stdout.take());
    agent.write_all(b"x").await.unwrap();
    assert_eq!(run.code().await, 0);
}

#[tokio::test]
async fn asked_to_close_it_closes() {
    let mut run = Run::start();
    let mut agent = run.attach().await;
    run.close.send_replace(true);
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
}

/// A tunnel that hands the far end of each stream to the test.
struct Twin(Mutex<mpsc::UnboundedSender<DuplexStream>>);

impl Tunnel for Twin {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        assert_eq!(port, PORT);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.0.lock().unwrap().send(theirs).unwrap();
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
    }

    fn splice(&self, _: TcpStream, _: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn datagrams(&self, _: u16) -> io::Result<Box<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(async { Ok(Duration::ZERO) })
    }

    fn path(&self) -> crate::apps::Path {
        crate::apps::Path::None
    }
}

struct Run {
    app: JoinHandle<End>,
    tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
    close: watch::Sender<bool>,
    signals: mpsc::Sender<Signal>,
    events: mpsc::UnboundedReceiver<Event>,
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
}

impl Run {
    fn start() -> Self {
        let (stdin_out, stdin) = io::pipe().unwrap();
        let (stdout, stdout_in) = io::pipe().unwrap();
        let streams = Streams {
            stdin: Local::reader(stdin_out.as_fd()).unwrap(),
            stdout: Local::writer(stdout_in.as_fd()).unwrap(),
            stderr: Local::writer(stdout_in.as_fd()).unwrap(),
        };
        let (tunnel, tunnel_out) = watch::channel(None);
        let (close, close_out) = watch::channel(false);
        let (signals, signals_out) = mpsc::channel(2);
        let (events_in, events) = mpsc::unbounded_channel();
        let context = Context {
            tunnel: tunnel_out,
            close: close_out,
            signals: signals_out,
            events: events_in,
            ui: Ui::captured(ui::Options::default()).0,
        };
        let app = tokio::spawn(Box::new(Stdio::new().with_streams(streams)).run(context));
        Self { app, tunnel, close, signals, events, stdin: Some(stdin), stdout: Some(stdout) }
    }

    /// Attaches a tunnel and gives the agent's end of the stream that is dialled.
    async fn attach(&self) -> DuplexStream {
        let (sender, mut dialled) = mpsc::unbounded_channel();
        self.tunnel.send_replace(Some(Arc::new(Twin(Mutex::new(sender)))));
        dialled.recv().await.unwrap()
    }

    async fn code(&mut self) -> u8 {
        match (&mut self.app).await.unwrap() {
            End::Done(code) => code,
            End::Failed(error) => panic!("{error:?}"),
        }
    }

    async fn byte(&mut self) {
        let mut stdout = self.stdout.take().unwrap();
        let read = spawn_blocking(move || stdout.read_exact(&mut [0]).map(|()| stdout));
        self.stdout = Some(read.await.unwrap().unwrap());
    }

    async fn output(&mut self) -> Vec<u8> {
        let mut stdout = self.stdout.take().unwrap();
        let read = spawn_blocking(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        read.await.unwrap().unwrap()
    }
}
