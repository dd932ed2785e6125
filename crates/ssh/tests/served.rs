//! The server over streams: with our own client, and with one that says what it is told to.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod cat;
mod raw;

use std::{future::Future, time::Duration};

use cat::there_and_back;
use coderctl_ssh::{
    Error, Exit, Modes, Options, Pty, Request, client, message as m,
    packet::SystemEntropy,
    server::{
        self, Change, Channel, Config, Connection, Global, Incoming, OpenError, Outgoing, Program,
        Reason, Session, Target, WINDOW,
    },
};
use raw::{
    Message, Raw, bytes_of, config, core, data, global, numbers, open_direct, open_session, request,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy},
    task::JoinHandle,
    time::timeout,
};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn exec(command: &str) -> Options {
    Options::new(Request::Exec(command.into()))
}

/// Serves one client by the programs and hosts below, to its end.
async fn serve(mut connection: Connection) -> Result<(), Error> {
    while let Some(incoming) = connection.next().await {
        match incoming {
            Incoming::Session(session) => drop(tokio::spawn(run(session))),
            Incoming::Direct(direct) => match direct.target().clone() {
                Target::Tcp { host, .. } if host == "echo" => {
                    tokio::spawn(echo(direct.accept()));
                }
                // Accepted, and never read.
                Target::Tcp { host, .. } if host == "sloth" => {
                    let channel = direct.accept();
                    tokio::spawn(async move {
                        std::future::pending::<()>().await;
                        drop(channel);
                    });
                }
                Target::Tcp { host, .. } if host == "flood" => {
                    tokio::spawn(flood(direct.accept()));
                }
                Target::Tcp { .. } => direct.refuse(Reason::ConnectFailed, "no such host"),
                Target::Unix { .. } => drop(direct),
            },
            Incoming::Forward(forward) => match forward.request() {
                Global::Listen(_) => {
                    forward.grant(Some(4321));
                    let opener = connection.opener();
                    tokio::spawn(async move {
                        let outgoing = Outgoing::ForwardedTcp {
                            address: "localhost".into(),
                            port: 4321,
                            origin: ("::1".into(), 9),
                        };
                        match opener.open(outgoing).await {
                            Ok(mut channel) => channel.write_all(b"hello").await.unwrap(),
                            Err(error) => assert!(matches!(error, OpenError::Refused { .. })),
                        }
                    });
                }
                Global::Cancel(_) => forward.refuse(),
            },
        }
    }
    connection.ended().unwrap()
}

async fn echo(channel: Channel) {
    let Channel { mut reader, mut writer } = channel;
    // A client that goes in the middle is no concern of ours.
    let _ = copy(&mut reader, &mut writer).await;
}

async fn flood(mut channel: Channel) {
    while channel.write_all(&[7; 50_000]).await.is_ok() {}
}

async fn run(session: Session) {
    let Session { start, mut stdin, mut stdout, mut stderr, mut control } = session;
    let Program::Exec(command) = &start.program else { panic!("{:?}", start.program) };
    let command = String::from_utf8(command.clone()).unwrap();
    let mut words = command.split(' ');
    let exit = match words.next().unwrap() {
        "cat" => {
            copy(&mut stdin, &mut stdout).await.unwrap();
            Exit::Status(0)
        }
        "half" => {
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).await.unwrap();
            stdout.write_all(format!("done {}", bytes.len()).as_bytes()).await.unwrap();
            Exit::Status(0)
        }
        "split" => {
            stdout.write_all(b"out\n").await.unwrap();
            stderr.write_all(b"err\n").await.unwrap();
            Exit::Status(0)
        }
        "env" => {
            let env: Vec<_> =
                start.env.iter().map(|(name, value)| [&name[..], value].join(&b'=')).collect();
            stdout.write_all(&env.join(&b'\n')).await.unwrap();
            Exit::Status(0)
        }
        "size" => {
            stdout.write_all(b"up").await.unwrap();
            let change = control.changed().await.unwrap();
            stdout.write_all(format!("{change:?}").as_bytes()).await.unwrap();
            Exit::Status(0)
        }
        "signal" => {
            stdout.write_all(b"up").await.unwrap();
            let Some(Change::Signal(name)) = control.changed().await else { panic!("no signal") };
            Exit::Signal { name, core: true, message: "killed".into() }
        }
        "closed" => {
            stdout.write_all(b"up").await.unwrap();
            assert_eq!(control.changed().await, None);
            assert_eq!(stdin.read(&mut [0; 9]).await.unwrap(), 0);
            let end = stdout.write_all(b"x").await.unwrap_err();
            assert_eq!(end.kind(), std::io::ErrorKind::BrokenPipe);
            Exit::Status(0)
        }
        "drop" => return,
        other => Exit::Status(other.parse().unwrap()),
    };
    control.finish(&exit);
}

fn start(pipe: usize, config: Config) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
    let (ours, theirs) = tokio::io::duplex(pipe);
    (ours, tokio::spawn(serve(server::serve(theirs, config).unwrap())))
}

/// Runs a command with this input: output, second output, exit.
async fn output(options: Options, input: &[u8]) -> (Vec<u8>, Vec<u8>, Exit) {
    let (io, server) = start(1 << 14, config());
    let (client, session) = coderctl_ssh::open(io, options).await.unwrap();
    let coderctl_ssh::Session { mut stdin, mut stdout, mut stderr, control } = session;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let send = async {
        stdin.write_all(input).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (_, out_end, err_end) =
        tokio::join!(send, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    let exit = control.exit().await;
    if !matches!(exit, Exit::Lost(_)) {
        out_end.unwrap();
        err_end.unwrap();
    }
    client.close().await;
    let left = within(server).await.unwrap();
    assert!(matches!(left, Err(Error::Disconnected { reason: 11, .. })), "{left:?}");
    (out, err, exit)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("within the time limit")
}

#[tokio::test]
async fn sessions_of_our_own_client() {
    let (out, err, exit) = output(exec("split"), b"").await;
    assert_eq!((&out[..], &err[..], exit), (&b"out\n"[..], &b"err\n"[..], Exit::Status(0)));
    let (out, _, exit) = output(exec("half"), &[1; 100_000]).await;
    assert_eq!((&out[..], exit), (&b"done 100000"[..], Exit::Status(0)));
    let (_, _, exit) = output(exec("7"), b"").await;
    assert_eq!(exit, Exit::Status(7));
    let (_, _, exit) = output(exec("drop"), b"").await;
    assert_eq!(exit, Exit::Lost(Error::NoStatus));
    let env = vec![("A".into(), "1".into()), ("B".into(), "ü".into())];
    let (out, ..) = output(Options { env, ..exec("env") }, b"").await;
    assert_eq!(out, "A=1\nB=ü".as_bytes());
}

/// Sessions, and connections beside them, share one connection.
#[tokio::test]
async fn many_sessions_of_one_client() {
    let (io, server) = start(1 << 14, config());
    let client = client::begin(io, None).unwrap();
    let (first, second, third) = within(async {
        tokio::join!(
            client.session(exec("half")),
            client.session(exec("split")),
            client.session(exec("cat")),
        )
    })
    .await;
    let (first, mut second, third) = (first.unwrap(), second.unwrap(), third.unwrap());
    let mut echo = client
        .opener()
        .open(Outgoing::Direct(Target::Tcp { host: "echo".into(), port: 7 }))
        .await
        .unwrap();
    let mut text = String::new();
    within(second.stderr.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "err\n");
    drop(third);
    let coderctl_ssh::Session { mut stdin, mut stdout, control, .. } = first;
    stdin.write_all(&[0; 9]).await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut text = String::new();
    within(stdout.read_to_string(&mut text)).await.unwrap();
    assert_eq!((&text[..], within(control.exit()).await), ("done 9", Exit::Status(0)));
    assert_eq!(within(second.exit()).await, Exit::Status(0));
    // It outlives them all.
    echo.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    within(echo.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"still here");
    client.close().await;
    assert!(matches!(within(server).await.unwrap(), Err(Error::Disconnected { .. })));
}

#[tokio::test]
async fn what_is_said_to_a_running_program() {
    let (io, _server) = start(1 << 14, config());
    let pty = Pty { term: "dumb".into(), cols: 80, rows: 24, modes: Modes::default() };
    let (_client, mut session) =
        coderctl_ssh::open(io, Options { pty: Some(pty), ..exec("size") }).await.unwrap();
    let mut up = [0; 2];
    session.stdout.read_exact(&mut up).await.unwrap();
    session.control.window_change(61, 17);
    let mut text = String::new();
    session.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "Size(61, 17)");

    let (io, _server) = start(1 << 14, config());
    let (_client, mut session) = coderctl_ssh::open(io, exec("signal")).await.unwrap();
    session.stdout.read_exact(&mut up).await.unwrap();
    session.control.signal("USR1");
    let exit = Exit::Signal { name: "USR1".into(), core: true, message: "killed".into() };
    assert_eq!(session.exit().await, exit);

    let (io, _server) = start(1 << 14, config());
    let (_client, mut session) = coderctl_ssh::open(io, exec("closed")).await.unwrap();
    session.stdout.read_exact(&mut up).await.unwrap();
    session.control.close();
    assert_eq!(session.exit().await, Exit::Lost(Error::NoStatus));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn much_goes_both_ways_across_new_keys_of_both_sides() {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let mut core = core(config());
    core.transport().set_rekey_bytes(3 << 20);
    let server = tokio::spawn(serve(server::serve_core(theirs, core)));
    let entropy = Box::new(SystemEntropy::default());
    let mut core = client::Core::client(None, entropy, std::time::Instant::now()).unwrap();
    core.transport().set_rekey_bytes(5 << 20);
    let client = client::begin_core(ours, core);
    let session = client.session(exec("cat")).await.unwrap();
    within(there_and_back(session, 32)).await;
    client.close().await;
    assert!(matches!(within(server).await.unwrap(), Err(Error::Disconnected { .. })));
}

#[tokio::test]
async fn a_slow_reader_of_one_channel_holds_up_no_other() {
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    let sloth = client.open(&open_direct(0, "sloth", 1 << 20)).await;
    let echo = client.open(&open_direct(1, "echo", 1 << 20)).await;
    // Nobody there reads: the window is used up.
    for _ in 0..WINDOW / (32 * 1024) {
        client.send(&data(sloth, &[1; 32 * 1024])).await;
    }
    for round in 0..100u8 {
        client.send(&data(echo, &[round; 1000])).await;
        assert_eq!(bytes_of(&client.expect(m::CHANNEL_DATA).await), [round; 1000]);
    }
    // One byte more is more than was granted.
    client.send(&data(sloth, b"x")).await;
    assert!(within(client.next()).await.is_none(), "the connection is over");
}

#[tokio::test]
async fn a_client_that_does_not_take_one_channel_gets_the_others() {
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    client.open(&open_direct(0, "flood", 100_000)).await;
    let echo = client.open_among(&open_direct(1, "echo", 1 << 20)).await;
    client.send(&data(echo, b"still here")).await;
    let mut flooded = client.aside;
    loop {
        let message = client.expect(m::CHANNEL_DATA).await;
        match numbers::<1>(&message) {
            [0] => flooded += bytes_of(&message).len(),
            _ => break assert_eq!(bytes_of(&message), b"still here"),
        }
    }
    assert!(flooded <= 100_000, "{flooded}");
    // When it takes them again, they go on.
    let grant = Message::new(m::CHANNEL_WINDOW_ADJUST).number(0).number(1000);
    client.send(&grant).await;
    while flooded < 101_000 {
        flooded += bytes_of(&client.expect(m::CHANNEL_DATA).await).len();
    }
    assert_eq!(flooded, 101_000);
}

/// On several threads, so that nobody's waking is lost between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_channels_share_the_connection() {
    const CHANNELS: u32 = 200;
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    client.transport.set_rekey_bytes(1 << 20);
    for number in 0..CHANNELS {
        assert_eq!(client.open(&open_direct(number, "echo", u32::MAX)).await, number);
    }
    let mut back = vec![0; CHANNELS as usize];
    for round in 0..20u8 {
        for number in 0..CHANNELS {
            client.send(&data(number, &[round; 2000])).await;
        }
        while back.iter().any(|bytes| *bytes < 2000 * (usize::from(round) + 1)) {
            let message = client.next().await.unwrap();
            if message[0] == m::CHANNEL_DATA {
                back[numbers::<1>(&message)[0] as usize] += bytes_of(&message).len();
            }
        }
    }
    assert!(back.iter().all(|bytes| *bytes == 40_000));
    // The end of data comes back, too, and the channel is closed.
    client.send(&Message::new(m::CHANNEL_EOF).number(17)).await;
    assert_eq!(numbers(&client.expect(m::CHANNEL_EOF).await), [17]);
    assert_eq!(numbers(&client.expect(m::CHANNEL_CLOSE).await), [17]);
    client.send(&Message::new(m::CHANNEL_CLOSE).number(17)).await;
    assert_eq!(client.open(&open_direct(999, "echo", 100)).await, 17, "it is used again");
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    let session = client.open(&open_session(0)).await;
    client.send(&request(session, "exec", true).string("half")).await;
    client.expect(m::CHANNEL_SUCCESS).await;
    client.send(&data(session, b"12345")).await;
    client.send(&Message::new(m::CHANNEL_EOF).number(session)).await;
    assert_eq!(bytes_of(&client.expect(m::CHANNEL_DATA).await), b"done 5");
    client.expect(m::CHANNEL_EOF).await;
    let status = client.expect(m::CHANNEL_REQUEST).await;
    assert_eq!(&status[5..], b"\0\0\0\x0bexit-status\0\0\0\0\0");
    client.expect(m::CHANNEL_CLOSE).await;
}

#[tokio::test]
async fn channels_are_refused_with_words() {
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    client.send(&open_direct(3, "elsewhere", 100)).await;
    let refusal = client.expect(m::CHANNEL_OPEN_FAILURE).await;
    assert_eq!(numbers(&refusal), [3, 2]);
    assert_eq!(&refusal[9..], b"\0\0\0\x0cno such host\0\0\0\0");
    let unix = Message::new(m::CHANNEL_OPEN).string("direct-streamlocal@openssh.com");
    client.send(&unix.number(4).number(9).number(9).string("/s").string("").number(0)).await;
    let refusal = client.expect(m::CHANNEL_OPEN_FAILURE).await;
    assert_eq!(numbers(&refusal), [4, 2], "nobody took it");
}

#[tokio::test]
async fn the_server_opens_channels_too() {
    let (io, _server) = start(1 << 14, config());
    let mut client = Raw::new(io).await;
    let listen = global("tcpip-forward", true).string("localhost").number(0);
    client.send(&listen).await;
    assert_eq!(numbers(&client.expect(m::REQUEST_SUCCESS).await), [4321]);
    let open = client.expect(m::CHANNEL_OPEN).await;
    assert_eq!(&open[1..20], b"\0\0\0\x0fforwarded-tcpip");
    let confirm = Message::new(m::CHANNEL_OPEN_CONFIRMATION).number(0).number(77);
    client.send(&confirm.number(3).number(1000)).await;
    let first = client.expect(m::CHANNEL_DATA).await;
    assert_eq!((numbers(&first), bytes_of(&first)), ([77], &b"hel"[..]));
    client.send(&Message::new(m::CHANNEL_WINDOW_ADJUST).number(0).number(100)).await;
    assert_eq!(bytes_of(&client.expect(m::CHANNEL_DATA).await), b"lo");
    assert_eq!(numbers(&client.expect(m::CHANNEL_EOF).await), [77]);
    client.expect(m::CHANNEL_CLOSE).await;
    client.send(&Message::new(m::CHANNEL_CLOSE).number(0)).await;

    client.send(&listen).await;
    client.expect(m::REQUEST_SUCCESS).await;
    client.expect(m::CHANNEL_OPEN).await;
    let refuse = Message::new(m::CHANNEL_OPEN_FAILURE).number(0).number(1);
    client.send(&refuse.string("no").string("")).await;
    let cancel = global("cancel-tcpip-forward", true).string("localhost").number(4321);
    client.send(&cancel).await;
    client.expect(m::REQUEST_FAILURE).await;
}

#[tokio::test]
async fn a_server_that_closes_takes_its_leave() {
    let (ours, theirs) = tokio::io::duplex(1 << 14);
    let mut connection = server::serve(theirs, config()).unwrap();
    let client = tokio::spawn(coderctl_ssh::open(ours, exec("cat")));
    let Some(Incoming::Session(mut session)) = within(connection.next()).await else {
        panic!("no session");
    };
    let (_client, ours) = within(client).await.unwrap().unwrap();
    within(connection.close()).await;
    let exit = within(ours.exit()).await;
    let Exit::Lost(Error::Disconnected { reason: 11, text }) = exit else { panic!("{exit:?}") };
    assert_eq!(text.to_string(), "closing");
    assert_eq!(within(session.control.changed()).await, None);
    let end = session.stdout.write_all(b"x").await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_heard_of_everywhere() {
    let (ours, theirs) = tokio::io::duplex(1 << 14);
    let mut connection = server::serve(theirs, config()).unwrap();
    let client = tokio::spawn(coderctl_ssh::open(ours, exec("cat")));
    let Some(Incoming::Session(mut session)) = within(connection.next()).await else {
        panic!("no session");
    };
    let opener = connection.opener();
    let opening = tokio::spawn(async move { opener.open(Outgoing::Agent).await });
    drop(within(client).await.unwrap().unwrap());
    assert!(within(connection.next()).await.is_none());
    assert!(connection.ended().unwrap().is_err());
    assert_eq!(within(session.control.changed()).await, None);
    let end = session.stdin.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    let opened = within(opening).await.unwrap();
    assert!(matches!(opened, Err(OpenError::Closed | OpenError::Refused { .. })), "{opened:?}");
    let late = connection.opener().open(Outgoing::Agent).await;
    assert!(matches!(late, Err(OpenError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_without_a_word_is_given_up() {
    let keep_alive = Some(Duration::from_secs(24 * 3600));
    let (io, server) = start(1 << 14, Config { keep_alive, ..config() });
    let mut client = Raw::new(io).await.into_io();
    // It takes everything that comes and answers nothing.
    let listening = tokio::spawn(async move { copy(&mut client, &mut tokio::io::sink()).await });
    let end = server.await.unwrap();
    assert!(matches!(end, Err(Error::Silent(_))), "{end:?}");
    listening.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn our_client_answers_and_stays() {
    let keep_alive = Some(Duration::from_secs(10));
    let (io, _server) = start(1 << 14, Config { keep_alive, ..config() });
    let (_client, mut session) = coderctl_ssh::open(io, exec("cat")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    session.stdin.write_all(b"still here").await.unwrap();
    assert_eq!(&session.stdout.chunk().await.unwrap().unwrap()[..], b"still here");
}
