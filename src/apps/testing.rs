//! What the tests of apps share: a tunnel that does what the test says, and the driver's side of an
//! app that runs.

use std::{
    io::{self, PipeReader, PipeWriter, Read},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::DuplexStream,
    net::TcpStream,
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    App, BoxFuture, Context, Datagrams, End, Event, Path, Spliced, Stream, Tunnel,
    local::{Local, Streams},
    streamed::{OnStreams, Streamed},
};
use crate::{
    error::CommandError,
    signal::Signal,
    ui::{self, Capture, Ui},
};

/// Bytes that a stream of the tunnel holds.
const HELD: usize = 64 << 10;

/// A tunnel that can be dialled, pinged, and asked for its path; as the test says.
pub(crate) struct Stub {
    dial: Box<dyn Fn(u16) -> io::Result<DuplexStream> + Send + Sync>,
    ping: Box<dyn Fn() -> BoxFuture<'static, io::Result<Duration>> + Send + Sync>,
    path: Box<dyn Fn() -> Path + Send + Sync>,
}

impl Stub {
    /// Whoever dials gets what this makes. Pings are answered at once; there is no path.
    pub(crate) fn dialled(
        dial: impl Fn(u16) -> io::Result<DuplexStream> + Send + Sync + 'static,
    ) -> Self {
        Self {
            dial: Box::new(dial),
            ping: Box::new(|| Box::pin(async { Ok(Duration::ZERO) })),
            path: Box::new(|| Path::None),
        }
    }

    /// Refuses everybody.
    pub(crate) fn refusing() -> Self {
        Self::dialled(|_| Err(io::ErrorKind::ConnectionRefused.into()))
    }

    /// Hands out the far ends of the streams that are dialled to this port, the only one.
    pub(crate) fn handing_out(port: u16) -> (Self, mpsc::UnboundedReceiver<DuplexStream>) {
        let (sender, streams) = mpsc::unbounded_channel();
        let stub = Self::dialled(move |dialled| {
            assert_eq!(dialled, port);
            let (near, far) = duplex();
            sender.send(far).unwrap();
            Ok(near)
        });
        (stub, streams)
    }

    pub(crate) fn pinged(
        self,
        ping: impl Fn() -> BoxFuture<'static, io::Result<Duration>> + Send + Sync + 'static,
    ) -> Self {
        Self { ping: Box::new(ping), ..self }
    }

    pub(crate) fn on_path(self, path: impl Fn() -> Path + Send + Sync + 'static) -> Self {
        Self { path: Box::new(path), ..self }
    }
}

/// Both ends of a stream.
pub(crate) fn duplex() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(HELD)
}

impl Tunnel for Stub {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let dialled = (self.dial)(port);
        Box::pin(async move { dialled.map(|stream| Box::new(stream) as Box<dyn Stream>) })
    }

    fn splice(&self, _: TcpStream, _: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn datagrams(&self, _: u16) -> io::Result<Box<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        (self.ping)()
    }

    fn path(&self) -> Path {
        (self.path)()
    }
}

/// An app that runs, and the driver's ends of its channels.
pub(crate) struct Running {
    pub(crate) app: JoinHandle<End>,
    pub(crate) tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
    pub(crate) close: watch::Sender<bool>,
    pub(crate) signals: mpsc::Sender<Signal>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) said: Capture,
}

impl Running {
    /// Without a tunnel.
    pub(crate) fn start(app: impl App + 'static) -> Self {
        let (ui, said) = Ui::captured(ui::Options::default());
        Self::speaking(app, ui, said)
    }

    /// Without a tunnel, and to somebody whom the app knows already.
    pub(crate) fn speaking(app: impl App + 'static, ui: Ui, said: Capture) -> Self {
        let (tunnel, tunnel_seen) = watch::channel(None);
        let (close, close_seen) = watch::channel(false);
        let (signals, signals_seen) = mpsc::channel(2);
        let (report, events) = mpsc::unbounded_channel();
        let context = Context {
            tunnel: tunnel_seen,
            close: close_seen,
            signals: signals_seen,
            events: report,
            ui,
        };
        let app = tokio::spawn(Box::new(app).run(context));
        Self { app, tunnel, close, signals, events, said }
    }

    pub(crate) fn attach(&self, tunnel: impl Tunnel + 'static) {
        self.tunnel.send_replace(Some(Arc::new(tunnel)));
    }

    pub(crate) fn detach(&self) {
        self.tunnel.send_replace(None);
    }

    pub(crate) async fn end(&mut self) -> End {
        (&mut self.app).await.unwrap()
    }

    /// With which it is done.
    pub(crate) async fn code(&mut self) -> u8 {
        match self.end().await {
            End::Done(code) => code,
            End::Failed(error) => panic!("{error:?}"),
        }
    }

    /// With which it failed.
    pub(crate) async fn error(&mut self) -> CommandError {
        match self.end().await {
            End::Done(code) => panic!("done with {code}"),
            End::Failed(error) => error,
        }
    }

    /// What it has reported so far; at least one event.
    pub(crate) async fn reported(&mut self) -> Vec<Event> {
        let mut events = vec![self.events.recv().await.unwrap()];
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        events
    }

    /// What it has written to standard output.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.said.stdout()).unwrap()
    }
}

/// The same with pipes for its standard streams.
pub(crate) struct Piped {
    pub(crate) driver: Running,
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) stderr: Option<PipeReader>,
}

impl Piped {
    pub(crate) fn start(what: impl OnStreams) -> Self {
        let (stdin_out, stdin) = io::pipe().unwrap();
        let (stdout, stdout_in) = io::pipe().unwrap();
        let (stderr, stderr_in) = io::pipe().unwrap();
        let streams = Streams {
            stdin: Local::reader(stdin_out.as_fd()).unwrap(),
            stdout: Local::writer(stdout_in.as_fd()).unwrap(),
            stderr: Local::writer(stderr_in.as_fd()).unwrap(),
        };
        Self {
            driver: Running::start(Streamed::on(what, streams)),
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }

    /// With which it is done once its input has ended.
    pub(crate) async fn code(&mut self) -> u8 {
        self.stdin.take();
        self.driver.code().await
    }

    /// With which it failed.
    pub(crate) async fn error(&mut self) -> CommandError {
        self.driver.error().await
    }

    /// The next bytes of its standard output, so many.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut stdout = self.stdout.take().unwrap();
        let read = spawn_blocking(move || {
            let mut bytes = vec![0; count];
            stdout.read_exact(&mut bytes).map(|()| (bytes, stdout))
        });
        let (bytes, stdout) = read.await.unwrap().unwrap();
        self.stdout = Some(stdout);
        bytes
    }

    /// Everything that comes out of both, until they are closed.
    pub(crate) async fn output(&mut self) -> (Vec<u8>, Vec<u8>) {
        let read = |pipe: Option<PipeReader>| {
            spawn_blocking(move || {
                let mut bytes = Vec::new();
                pipe.map(|mut pipe| pipe.read_to_end(&mut bytes)).transpose().unwrap();
                bytes
            })
        };
        let (out, err) = (read(self.stdout.take()), read(self.stderr.take()));
        (out.await.unwrap(), err.await.unwrap())
    }
}
