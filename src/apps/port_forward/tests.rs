use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use coderctl_ssh::{
    client::{self, Channel},
    hostkey::HostKey,
    server::{Config, Global, Incoming, Opener, Outgoing, Policy, Target, serve},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{bind::Local, *};
use crate::{
    apps::{
        Datagrams, Spliced, Stream, Tunnel,
        forward_spec::{self, Specs},
    },
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

#[tokio::test]
async fn on_a_shared_host_a_forward_does_not_lead_to_itself() {
    let free = || {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bound.local_addr().unwrap().port()
    };
    let (one, other) = (free(), free());
    let list = |spec: String| vec![spec];
    let to_localhost = list(format!("{one}:localhost:{one}"));
    let reverse = list(format!("{one}:{one}"));
    for (specs, is_fine) in [
        (tcp(&format!("{one}")), false),
        (tcp(&format!("{one}:{other},{other}:1")), false),
        (tcp(&format!("{one}:{other},{other}:22")), false),
        (tcp(&format!("{one}:80,{other}:22")), true),
        (Specs { local: to_localhost, ..Specs::default() }, false),
        (Specs { remote: reverse, ..Specs::default() }, false),
        (Specs { local: list(format!("{one}:db:{one}")), ..Specs::default() }, true),
    ] {
        let (ui, _) = Ui::captured(Options::default());
        let mut app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev");
        app = app.on_shared_host(&[80]);
        assert_eq!(app.prepare(&ui).await.is_ok(), is_fine, "{specs:?}");
    }
}

#[tokio::test]
async fn a_free_port_is_the_same_on_both_loopbacks() {
    let (ui, said) = Ui::captured(Options::default());
    let mut app = PortForward::new(forward_spec::parse(&tcp("0:80")).unwrap(), "dev");
    app.prepare(&ui).await.unwrap();
    let ports: Vec<_> = app.bound.listeners.iter().map(|one| one.local.port().unwrap()).collect();
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert!(said.stderr().contains(&format!("'tcp://127.0.0.1:{}' locally", ports[0])));
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_said_to_be_forwarded() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (ui, said) = Ui::captured(Options::default());
    let spec = format!("0:80,127.0.0.1:{port}:80");
    let mut app = PortForward::new(forward_spec::parse(&tcp(&spec)).unwrap(), "dev");
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
        Self::with(tcp(spec)).await
    }

    async fn with(specs: Specs) -> Self {
        let (ui, said) = Ui::captured(Options::default());
        Self::of(PortForward::new(forward_spec::parse(&specs).unwrap(), "dev"), ui, said).await
    }

    async fn of(mut app: PortForward, ui: Ui, said: Capture) -> Self {
        app.prepare(&ui).await.unwrap();
        let tcp = app.bound.listeners.last().and_then(|one| match one.local {
            Local::Tcp(address) => Some(address),
            Local::Unix(_) => None,
        });
        let udp = app.bound.datagrams.last().map(|one| one.local);
        let local = tcp.or(udp).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
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

    /// A tunnel to an [`Echo`], which is returned.
    fn attach(&self) -> Arc<Echo> {
        let echo = Arc::<Echo>::default();
        self.tunnel.send_replace(Some(Arc::clone(&echo) as Arc<dyn Tunnel>));
        echo
    }

    /// Waits until it has said this.
    async fn says(&self, needle: &str) {
        let said = async {
            while !self.said.stderr().contains(needle) {
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(60), said).await;
        assert!(said.is_ok(), "{needle:?} is not in {}", self.said.stderr());
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

fn tcp(spec: &str) -> Specs {
    Specs { tcp: vec![spec.to_owned()], ..Specs::default() }
}

/// Answers on port 80 with the port and what was said, once all was said; refuses all else. Its SSH
/// server reaches a host `db` and a socket `/run/s`, which do so, too, and listens everywhere but at
/// port 1. Its UDP ports send back what they get.
#[derive(Default)]
struct Echo {
    /// SSH connections so far, the last one's way to open channels, and their tasks.
    ssh: Arc<Mutex<(usize, Option<Opener>)>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Echo {
    fn connections(&self) -> usize {
        self.ssh.lock().unwrap().0
    }

    fn opener(&self) -> Opener {
        self.ssh.lock().unwrap().1.clone().unwrap()
    }

    /// Breaks all SSH connections off.
    fn break_ssh(&self) {
        self.tasks.lock().unwrap().abort_all();
    }
}

async fn answer(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), name: &str) {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    stream.write_all(&[name.as_bytes(), b":", &said].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn ssh_server(io: tokio::io::DuplexStream, ssh: Arc<Mutex<(usize, Option<Opener>)>>) {
    let host_key = Arc::new(HostKey::from_seed(&[7; 32]).unwrap());
    let config = Config { host_key, policy: Policy::default(), keep_alive: None };
    let mut connection = serve(io, config).unwrap();
    {
        let mut ssh = ssh.lock().unwrap();
        *ssh = (ssh.0 + 1, Some(connection.opener()));
    }
    let mut channels = JoinSet::new();
    while let Some(incoming) = connection.next().await {
        match incoming {
            Incoming::Direct(direct) => {
                let name = match direct.target() {
                    Target::Tcp { host, port: 5432 } if host == "db" => "db",
                    Target::Unix { path } if path == b"/run/s" => "socket",
                    Target::Tcp { .. } | Target::Unix { .. } => continue,
                };
                let mut channel: Channel = direct.accept();
                channels.spawn(async move { answer(&mut channel, name).await });
            }
            Incoming::Forward(forward) => match forward.request() {
                Global::Listen(listen) => {
                    let port = match listen {
                        client::Listen::Tcp { port: 0, .. } => Some(4321),
                        client::Listen::Tcp { port: 1, .. } => continue,
                        client::Listen::Tcp { .. } | client::Listen::Unix { .. } => None,
                    };
                    forward.grant(port);
                }
                Global::Cancel(_) => forward.refuse(),
            },
            Incoming::Session(session) => panic!("{session:?}"),
        }
    }
}

impl Tunnel for Echo {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let mut tasks = self.tasks.lock().unwrap();
            match port {
                1 => tasks.spawn(ssh_server(theirs, Arc::clone(&self.ssh))),
                80 => tasks.spawn(async move { answer(&mut theirs, "80").await }),
                _ => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused")),
            };
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
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

    fn datagrams(&self, port: u16) -> io::Result<Box<dyn Datagrams>> {
        let (sent, back) = mpsc::unbounded_channel();
        Ok(Box::new(Twin { port, sent, back: Mutex::new(back) }))
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(async { Ok(Duration::ZERO) })
    }

    fn path(&self) -> crate::apps::Path {
        crate::apps::Path::None
    }
}

/// Sends back what it gets, with its port before it.
struct Twin {
    port: u16,
    sent: mpsc::UnboundedSender<BytesMut>,
    back: Mutex<mpsc::UnboundedReceiver<BytesMut>>,
}

impl Datagrams for Twin {
    fn send(&self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > 1200 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long"));
        }
        let answer = [format!("{}:", self.port).as_bytes(), payload].concat();
        self.sent.send(BytesMut::from(&answer[..])).map_err(io::Error::other)
    }

    fn poll_recv(&self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<BytesMut>> {
        self.back.lock().unwrap().poll_recv(cx).map(|payload| Ok(payload.unwrap()))
    }
}

fn one(spec: impl Into<String>) -> Vec<String> {
    vec![spec.into()]
}

#[tokio::test]
async fn hosts_and_sockets_behind_the_workspace_share_one_ssh_connection() {
    let forward =
        Running::with(Specs { local: vec!["0:db:5432".into()], ..Specs::default() }).await;
    assert!(forward.said.stderr().contains("' locally to 'tcp://db:5432' in the workspace"));
    let echo = forward.attach();
    let answers = tokio::join!(forward.ask("one"), forward.ask("two"), forward.ask("three"));
    assert_eq!(answers, ("db:one".into(), "db:two".into(), "db:three".into()));
    assert_eq!(echo.connections(), 1);
    // A lost one is made anew.
    echo.break_ssh();
    assert_eq!(forward.ask("four").await, "db:four");
    assert_eq!(echo.connections(), 2);
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_resets_that_connection_and_says_why() {
    let forward = Running::with(Specs { local: one("0:nowhere:1"), ..Specs::default() }).await;
    forward.attach();
    let error = forward.connect().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    forward.says("Failed to dial 'tcp://nowhere:1' in workspace: the other side refused").await;
}

/// A private directory's socket, and a way to ask there.
async fn ask_at(path: &Path, question: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(question.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_local_socket_is_this_users_alone_and_goes_with_the_forward() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (socket, plain) = (directory.path().join("s"), directory.path().join("p"));
    // What a forward left behind that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let specs = Specs {
        local: vec![format!("{}:/run/s", socket.display()), format!("{}:80", plain.display())],
        ..Specs::default()
    };
    let mut forward = Running::with(specs).await;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    forward.attach();
    assert_eq!(ask_at(&socket, "one").await, "socket:one");
    assert_eq!(ask_at(&plain, "two").await, "80:two");
    forward.events().await;
    assert!(!socket.exists() && !plain.exists());
}

#[tokio::test]
async fn a_path_that_somebody_else_uses_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let _taken = std::os::unix::net::UnixListener::bind(at("taken")).unwrap();
    std::fs::write(at("file"), "kept").unwrap();
    for (name, why) in [
        ("taken", "another program listens there"),
        ("file", "there is a file of that name, and it is no socket"),
        ("missing/s", "No such file or directory (os error 2)"),
    ] {
        let (ui, said) = Ui::captured(Options::default());
        let specs = Specs { local: one(format!("{}:80", at(name).display())), ..Specs::default() };
        let mut app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev");
        let error = app.prepare(&ui).await.unwrap_err();
        assert_eq!(error.kind.code(), 210, "{error}");
        assert_eq!(error.to_string(), format!("listen 'unix://{}': {why}", at(name).display()));
        assert_eq!((error.hints.len(), said.stderr()), (1, String::new()), "{error}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "kept");
}

#[tokio::test]
async fn datagrams_find_their_senders_and_a_silent_flow_is_forgotten() {
    let specs = Specs { udp: one("127.0.0.1:0:53"), ..Specs::default() };
    let mut forward = Running::with(specs).await;
    let udp = async || {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(forward.local).await.unwrap();
        socket
    };
    let (one, other) = (udp().await, udp().await);
    let hear = async |socket: &UdpSocket| {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    forward.attach();
    forward.says("Ready!").await;
    one.send(b"a").await.unwrap();
    other.send(b"b").await.unwrap();
    assert_eq!((hear(&one).await, hear(&other).await), ("53:a".into(), "53:b".into()));
    one.send(&[b'x'; 1500]).await.unwrap();
    forward.says("Failed to dial 'udp://127.0.0.1:53' in workspace: too long").await;
    let opened: Vec<_> = std::iter::from_fn(|| forward.events.try_recv().ok()).collect();
    assert_eq!(opened, [Event::Up, Event::Opened, Event::Opened]);

    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(119)).await;
    one.send(b"c").await.unwrap();
    assert_eq!(hear(&one).await, "53:c");
    tokio::time::sleep(Duration::from_secs(119)).await;
    let closed: Vec<_> = std::iter::from_fn(|| forward.events.try_recv().ok()).collect();
    assert_eq!(closed, [Event::Closed], "the silent one's");
}

/// Says all of it, and reads as many bytes as are expected.
async fn socks(stream: &mut TcpStream, said: &[u8], expected: &[u8]) {
    stream.write_all(said).await.unwrap();
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, expected, "{said:?}");
}

const DONE: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";

#[tokio::test]
async fn socks_connects_by_name_from_the_workspace() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    assert!(forward.said.stderr().starts_with("Forwarding 'socks5://127.0.0.1:"));
    forward.attach();
    for (request, answer) in [
        (&b"\x05\x01\0\x03\x02db\x15\x38"[..], "db:hello"),
        (b"\x05\x01\0\x01\x7f\0\0\x01\0\x50", "80:hello"),
    ] {
        let mut stream = forward.connect().await;
        socks(&mut stream, b"\x05\x02\x01\0", b"\x05\0").await;
        socks(&mut stream, request, DONE).await;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, answer);
    }
}

#[tokio::test]
async fn socks_says_no_in_its_own_words() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    forward.attach();
    for (request, reply) in [
        // Nobody is there; port 0; BIND; an address of no kind; a name that is none.
        (&b"\x05\x01\0\x03\x01x\0\x50"[..], 5),
        (b"\x05\x01\0\x01\x7f\0\0\x01\0\0", 5),
        (b"\x05\x02\0\x01\x7f\0\0\x01\0\x50", 7),
        (b"\x05\x01\0\x09", 8),
        (b"\x05\x01\0\x03\x03a\x1bb\0\x50", 8),
    ] {
        let mut stream = forward.connect().await;
        socks(&mut stream, b"\x05\x01\0", b"\x05\0").await;
        let expected = [5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
        socks(&mut stream, request, &expected).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "{request:?}");
    }
    let mut stream = forward.connect().await;
    socks(&mut stream, b"\x05\x01\x02", b"\x05\xff").await;
    let error = {
        let mut stream = forward.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        stream.read_u8().await.unwrap_err()
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn socks_carries_datagrams_to_the_workspace_alone() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    forward.attach();
    let mut stream = forward.connect().await;
    socks(&mut stream, b"\x05\x01\0", b"\x05\0").await;
    stream.write_all(b"\x05\x03\0\x01\0\0\0\0\0\0").await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..8], *b"\x05\0\0\x01\x7f\0\0\x01");
    let port = u16::from_be_bytes([answer[8], answer[9]]);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = b"\0\0\0\x03\x03far\0\x35?";
    socket.send_to(far, ("127.0.0.1", port)).await.unwrap();
    forward.says("Failed to dial 'udp://far:53' in workspace: datagrams go to").await;
    let near = b"\0\0\0\x01\x7f\0\0\x01\0\x35question";
    socket.send_to(near, ("127.0.0.1", port)).await.unwrap();
    let mut buffer = [0; 100];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"\0\0\0\x01\x7f\0\0\x01\0\x3553:question");
    // The association ends with its connection.
    drop(stream);
    let gone = async {
        while UdpSocket::bind(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
}

/// A service here that answers with a name.
async fn service() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "here").await;
        }
    });
    (port, serving)
}

async fn from_workspace(echo: &Echo, port: u16) -> String {
    let address = "localhost".to_owned();
    let origin = ("127.0.0.1".to_owned(), 9);
    let outgoing = Outgoing::ForwardedTcp { address, port, origin };
    let mut channel = echo.opener().open(outgoing).await.unwrap();
    channel.write_all(b"hello").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut said = String::new();
    channel.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn a_listener_in_the_workspace_leads_here_and_comes_back_by_its_number() {
    let (port, _service) = service().await;
    let specs = Specs { remote: one(format!("0:localhost:{port}")), ..Specs::default() };
    let forward = Running::with(specs).await;
    let echo = forward.attach();
    forward.says("Ready!").await;
    let line = format!(
        "Forwarding 'tcp://127.0.0.1:4321' in the workspace to 'tcp://localhost:{port}' locally"
    );
    assert_eq!(forward.said.stderr(), format!("{line}\nReady!\n"));
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
    let unasked = Outgoing::ForwardedUnix { path: b"/s".to_vec() };
    assert!(echo.opener().open(unasked).await.is_err());

    echo.break_ssh();
    forward.says("Ready again").await;
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
    forward.detach();
    let echo = forward.attach();
    forward.says("Ready again\nReady again").await;
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
}

#[tokio::test]
async fn a_listener_that_the_workspace_refuses_ends_it() {
    let mut forward = Running::with(Specs { remote: one("1:80"), ..Specs::default() }).await;
    forward.attach();
    let end = (&mut forward.app).await.unwrap();
    let End::Failed(error) = end else { panic!("{end:?}") };
    assert_eq!(error.kind.code(), 211);
    let said =
        "listen 'tcp://127.0.0.1:1' in the workspace: the SSH server refused to listen there";
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn it_is_ready_once_the_remote_ends_have_answered() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ready");
    let (ui, said) = Ui::captured(Options::default());
    let specs =
        Specs { tcp: one("127.0.0.1:0:80"), local: one("127.0.0.1:0:db:5432"), ..Specs::default() };
    let announce = Announce { file: Some(file.clone()), stdout: true, ..Announce::default() };
    let app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev")
        .announcing(announce)
        .waiting_for_remote(Some(Duration::from_secs(60)));
    let mut forward = Running::of(app, ui, said).await;
    forward.detach();
    assert!(!file.exists());
    let echo = forward.attach();
    forward.says("Ready!").await;
    assert_eq!(echo.connections(), 1, "for the host");
    let line = std::fs::read_to_string(&file).unwrap();
    assert_eq!(forward.said.stdout(), line.as_bytes());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["forwards"][0]["remote"], serde_json::json!({"host": "127.0.0.1", "port": 80}));
    assert_eq!(line["forwards"][1]["local"]["port"], forward.local.port());
    assert_eq!((&line["version"], &line["workspace"]), (&1.into(), &"dev".into()));
    forward.events().await;
    assert!(!file.exists());
}

#[tokio::test(start_paused = true)]
async fn a_remote_end_that_does_not_answer_ends_it() {
    let (ui, said) = Ui::captured(Options::default());
    let app = PortForward::new(forward_spec::parse(&tcp("0:81")).unwrap(), "dev")
        .waiting_for_remote(Some(Duration::from_secs(5)));
    let mut forward = Running::of(app, ui, said).await;
    // The time begins with the first tunnel.
    tokio::time::sleep(Duration::from_secs(60)).await;
    forward.attach();
    let end = (&mut forward.app).await.unwrap();
    let End::Failed(error) = end else { panic!("{end:?}") };
    assert_eq!(error.kind.code(), 211);
    let why = "'tcp://127.0.0.1:81' in the workspace did not answer within 5 s: refused";
    assert_eq!(error.to_string(), why);
    assert!(!forward.said.stderr().contains("Ready"));
}
