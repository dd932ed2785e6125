use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::*;
use crate::{
    apps::{Spliced, Stream, forward_spec},
    ui::{Capture, Options},
};

#[tokio::test]
async fn listeners_stand_before_the_tunnel_and_early_connections_wait_for_it() {
    let mut forward = Running::start("0:80").await;
    assert!(forward.said.stderr().starts_with("Forwarding 'tcp://"), "{}", forward.said.stderr());
    let mut early = forward.connect().await;
    early.write_all(b"early").await.unwrap();
    assert_eq!(forward.events.try_recv(), Err(mpsc::error::TryRecvError::Empty));

    forward.attach();
    early.shutdown().await.unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "80:early");
    assert!(forward.said.stderr().ends_with("\nReady!\n"));
    assert_eq!(forward.events().await, [Event::Up, Event::Opened, Event::Closed]);
}

#[tokio::test]
async fn a_closed_remote_port_resets_that_connection_and_says_one_line() {
    let forward = Running::start("0:1").await;
    forward.attach();
    for _ in 0..3 {
        let error = forward.connect().await.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let said = forward.said.stderr();
    let line = "Failed to dial 'tcp://127.0.0.1:1' in workspace: refused";
    assert_eq!(said.matches(line).count(), 1, "{said}");
}

#[tokio::test]
async fn detached_and_attached_again_it_goes_on() {
    let forward = Running::start("0:80").await;
    forward.attach();
    assert_eq!(forward.ask("one").await, "80:one");
    forward.detach();
    let mut waiting = forward.connect().await;
    waiting.write_all(b"two").await.unwrap();
    waiting.shutdown().await.unwrap();
    forward.attach();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "80:two");
    assert!(forward.said.stderr().ends_with("Ready!\nReady again\n"));
}

#[tokio::test]
async fn a_signal_ends_a_ready_forward_with_success_and_closes_its_listeners() {
    let mut forward = Running::start("0:80").await;
    forward.attach();
    assert_eq!(forward.ask("one").await, "80:one");
    forward.signals.send(Signal::Interrupt).await.unwrap();
    let end = (&mut forward.app).await.unwrap();
    assert!(matches!(end, End::Done(0)), "{end:?}");
    let error = TcpStream::connect(forward.local).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_signal_before_it_was_ready_is_the_exit_code() {
    let mut forward = Running::start("0:80").await;
    forward.signals.send(Signal::Terminate).await.unwrap();
    let end = (&mut forward.app).await.unwrap();
    assert!(matches!(&end, End::Failed(error) if error.kind.code() == 143), "{end:?}");
}

#[tokio::test]
async fn an_open_connection_is_given_a_moment_and_then_ended() {
    let mut forward = Running::start("0:80").await;
    forward.attach();
    let mut open = forward.connect().await;
    open.write_all(b"x").await.unwrap();
    assert_eq!(forward.events.recv().await, Some(Event::Up));
    assert_eq!(forward.events.recv().await, Some(Event::Opened));
    tokio::time::pause();
    forward.close.send_replace(true);
    let end = (&mut forward.app).await.unwrap();
    assert!(matches!(end, End::Done(0)), "{end:?}");
    assert_eq!(forward.events.recv().await, Some(Event::Closed));
}

#[tokio::test]
async fn an_early_connection_does_not_wait_for_ever() {
    let mut forward = Running::start("0:80").await;
    let mut early = forward.connect().await;
    tokio::time::pause();
    let error = early.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(forward.said.stderr().contains("was not reachable for 30 seconds"));
    assert!(forward.events.try_recv().is_err());
}

#[test]
fn on_a_shared_host_a_forward_does_not_lead_to_itself() {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let refused = |bound: &[(u16, u16)]| {
        let bound: Vec<_> = bound.iter().map(|(local, to)| (address(*local), *to)).collect();
        refuse_loops(&bound, &[80]).is_err()
    };
    assert!(refused(&[(8080, 8080)]));
    assert!(refused(&[(9000, 9001), (9001, 9002)]));
    assert!(!refused(&[(8080, 8081), (9000, 22)]));
    assert!(!refused(&[(80, 80)]));
}

#[tokio::test]
async fn a_free_port_is_the_same_on_both_loopbacks() {
    let (ui, said) = Ui::captured(Options::default());
    let mut app = PortForward::new(forward_spec::parse(&["0:80"]).unwrap());
    app.prepare(&ui).await.unwrap();
    let ports: Vec<_> = app.bound().iter().map(|(local, _)| local.port()).collect();
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert!(said.stderr().contains(&format!("'tcp://127.0.0.1:{}' locally", ports[0])));
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_said_to_be_forwarded() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (ui, said) = Ui::captured(Options::default());
    let spec = format!("0:80,127.0.0.1:{port}:80");
    let mut app = PortForward::new(forward_spec::parse(&[spec]).unwrap());
    let error = app.prepare(&ui).await.unwrap_err();
    assert_eq!(error.kind.code(), 210);
    assert!(
        error.to_string().starts_with(&format!("listen 'tcp://127.0.0.1:{port}': ")),
        "{error}"
    );
    assert_eq!(said.stderr(), "");
}

/// A forward that runs, and the driver's ends of its channels.
struct Running {
    local: SocketAddr,
    app: JoinHandle<End>,
    tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
    close: watch::Sender<bool>,
    signals: mpsc::Sender<Signal>,
    events: mpsc::UnboundedReceiver<Event>,
    said: Capture,
}

impl Running {
    async fn start(spec: &str) -> Self {
        let (ui, said) = Ui::captured(Options::default());
        let mut app = PortForward::new(forward_spec::parse(&[spec]).unwrap());
        app.prepare(&ui).await.unwrap();
        let local = app.bound().last().unwrap().0;
        let (tunnel, tunnel_seen) = watch::channel(None);
        let (close, close_seen) = watch::channel(false);
        let (signals, signals_seen) = mpsc::channel(1);
        let (report, events) = mpsc::unbounded_channel();
        let context = Context {
            tunnel: tunnel_seen,
            close: close_seen,
            signals: signals_seen,
            events: report,
            ui,
        };
        let app = tokio::spawn(Box::new(app).run(context));
        Self { local, app, tunnel, close, signals, events, said }
    }

    fn attach(&self) {
        self.tunnel.send_replace(Some(Arc::new(Echo)));
    }

    fn detach(&self) {
        self.tunnel.send_replace(None);
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.local).await.unwrap()
    }

    async fn ask(&self, question: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(question.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Asks it to close, and all that it reported.
    async fn events(&mut self) -> Vec<Event> {
        self.close.send_replace(true);
        (&mut self.app).await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = self.events.recv().await {
            events.push(event);
        }
        events
    }
}

/// Answers on port 80 with the port and what was said, once all was said; refuses all else.
struct Echo;

impl Tunnel for Echo {
    fn dial(&self, _: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn splice(&self, mut local: TcpStream, port: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async move {
            if port != 80 {
                local.set_zero_linger()?;
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
            }
            let mut said = Vec::new();
            local.read_to_end(&mut said).await?;
            local.write_all(b"80:").await?;
            local.write_all(&said).await?;
            Ok(Spliced { sent: said.len() as u64, received: said.len() as u64 + 3 })
        })
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(async { Ok(Duration::ZERO) })
    }

    fn path(&self) -> crate::apps::Path {
        crate::apps::Path::None
    }
}
