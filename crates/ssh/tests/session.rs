//! Whole sessions against the server in `server/`.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod cat;
mod server;

use std::time::{Duration, Instant};

use cat::there_and_back;
use coderctl_ssh::{
    Error, Exit, Modes, Options, Pty, Request, Session,
    cipher::Cipher,
    client::{self, Client, Core},
    packet::SystemEntropy,
};
use server::{Config, Seen, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

fn exec(command: &str) -> Options {
    Options::new(Request::Exec(command.into()))
}

/// When a session is asked for.
#[derive(Clone, Copy)]
enum When {
    /// At once, so that it goes out with the login.
    Early,
    /// After the login.
    Late,
}

async fn open(io: DuplexStream, when: When, options: Options) -> Result<(Client, Session), Error> {
    match when {
        When::Early => coderctl_ssh::open(io, options).await,
        When::Late => {
            let client = client::connect(io, None).await?;
            let session = client.session(options).await?;
            Ok((client, session))
        }
    }
}

/// A session over a pipe of this many bytes each way, and what the server saw of it.
async fn start(
    pipe: usize,
    config: Config,
    options: Options,
) -> (Result<(Client, Session), Error>, JoinHandle<Seen>) {
    let (ours, theirs) = tokio::io::duplex(pipe);
    let server = tokio::spawn(async { serve(theirs, config).await.unwrap() });
    (coderctl_ssh::open(ours, options).await, server)
}

/// Runs a command without input: standard output, standard error, exit.
async fn output(config: Config, options: Options) -> (Vec<u8>, Vec<u8>, Exit, Seen) {
    output_when(When::Early, config, options).await
}

async fn output_when(
    when: When,
    config: Config,
    options: Options,
) -> (Vec<u8>, Vec<u8>, Exit, Seen) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = tokio::spawn(async { serve(theirs, config).await.unwrap() });
    let (client, session) = open(ours, when, options).await.unwrap();
    let Session { stdin, mut stdout, mut stderr, control } = session;
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (out_end, err_end) =
        tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    let exit = control.exit().await;
    assert_eq!(out_end.is_err(), matches!(exit, Exit::Lost(_)) && out_end.is_err());
    assert_eq!(out_end.is_err(), err_end.is_err());
    client.close().await;
    (out, err, exit, server.await.unwrap())
}

async fn refused(config: Config) -> Error {
    let (session, server) = start(1 << 16, config, exec("exit 0")).await;
    let error = session.unwrap_err();
    server.abort();
    error
}

#[tokio::test]
async fn output_error_and_status_are_apart() {
    let (out, err, exit, seen) = output(Config::default(), exec("split")).await;
    assert_eq!((&out[..], &err[..], exit), (&b"out\n"[..], &b"err\n"[..], Exit::Status(0)));
    assert_eq!(seen.user, "coder", "which an agent ignores");
    assert!(seen.disconnected, "the client takes its leave");
    let (_, _, exit, _) = output(Config::default(), exec("exit 4242")).await;
    assert_eq!(exit, Exit::Status(4242));
}

#[tokio::test]
async fn every_cipher_with_and_without_strictness() {
    for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        for strict in [true, false] {
            let config = Config { cipher, strict, ..Config::default() };
            let (out, _, exit, _) = output(config, exec("flood out 300000")).await;
            assert_eq!((out.len(), exit), (300_000, Exit::Status(0)), "{cipher:?} {strict}");
        }
    }
}

#[tokio::test]
async fn a_command_costs_the_server_two_waits() {
    let (_, _, _, pipelined) = output(Config::default(), exec("exit 0")).await;
    let late = output_when(When::Late, Config::default(), exec("exit 0")).await;
    assert_eq!(late.2, Exit::Status(0));
    // The first write is waited for with the version line and not counted; the second brings
    // the command; the last CLOSE, and DISCONNECT with it or behind it.
    let waits = pipelined.waits_for_command;
    assert_eq!(waits, 1, "{pipelined:?}");
    assert_eq!(late.3.waits_for_command, 3, "login, channel, command: {:?}", late.3);
}

#[tokio::test]
async fn variables_and_terminal_come_before_the_command() {
    let env = vec![("A".to_owned(), "1".to_owned()), ("B".into(), "two words\n".into())];
    for when in [When::Early, When::Late] {
        let options = Options { env: env.clone(), ..exec("env") };
        let (out, _, _, seen) = output_when(when, Config::default(), options).await;
        assert_eq!(seen.env, env);
        assert_eq!(out, b"A=1\nB=two words\n\n");
    }
    let pty = Pty { term: "dumb".into(), cols: 80, rows: 25, modes: Modes::default().with(1, 3) };
    let options = Options { pty: Some(pty), ..exec("tty") };
    let (session, server) = start(4096, Config::default(), options).await;
    let (client, mut session) = session.unwrap();
    session.control.window_change(100, 50);
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "Some((\"dumb\", 80, 25))\n[(100, 50)]\n");
    assert_eq!(session.exit().await, Exit::Status(0));
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn input_is_echoed_through_small_windows_across_new_keys() {
    let config = Config {
        window: 70_000,
        max_packet: 20_000,
        rekey_packets: Some(700),
        ..Config::default()
    };
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let server = tokio::spawn(async { serve(theirs, config).await.unwrap() });
    let entropy = Box::new(SystemEntropy::default());
    let mut core = Core::client(None, entropy, Instant::now()).unwrap();
    core.transport().set_rekey_bytes(9 << 20);
    let client = client::begin_core(ours, core);
    there_and_back(client.session(exec("cat")).await.unwrap(), 64).await;
    client.close().await;
    let seen = server.await.unwrap();
    assert!(seen.exchanges > 6, "{seen:?}");
}

#[tokio::test]
async fn the_end_of_input_leaves_the_output_open() {
    let (session, server) = start(1000, Config::default(), exec("half")).await;
    let (client, Session { mut stdin, mut stdout, control, .. }) = session.unwrap();
    assert_eq!(&stdout.chunk().await.unwrap().unwrap()[..], b"ready\n");
    stdin.write_all(&[0; 12345]).await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(&stdout.chunk().await.unwrap().unwrap()[..], b"done 12345\n");
    assert_eq!(control.exit().await, Exit::Status(0));
    client.close().await;
    assert!(server.await.unwrap().eof);
}

#[tokio::test]
async fn an_output_that_nobody_reads_stops_at_the_window() {
    // Within the window, what nobody reads does not hold up the other output.
    let (session, _server) = start(4096, Config::default(), exec("flood err 4000000")).await;
    let (_client, mut session) = session.unwrap();
    assert_eq!(&session.stdout.chunk().await.unwrap().unwrap()[..], b"after\n");
    // Beyond it, it does, until it is read or dropped.
    let (session, _server) = start(4096, Config::default(), exec("flood err 6000000")).await;
    let (_client, Session { mut stdout, stderr, control, .. }) = session.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), stdout.chunk()).await;
    assert!(early.is_err(), "{early:?}");
    drop(stderr);
    assert_eq!(&stdout.chunk().await.unwrap().unwrap()[..], b"after\n");
    assert_eq!(control.exit().await, Exit::Status(0));
}

#[tokio::test]
async fn a_signal_goes_there_and_an_exit_signal_comes_back() {
    let (session, server) = start(4096, Config::default(), exec("signal")).await;
    let (client, mut session) = session.unwrap();
    session.stdout.chunk().await.unwrap();
    session.control.signal("TERM");
    let exit = session.exit().await;
    let Exit::Signal { name, core, message } = &exit else { panic!("{exit:?}") };
    assert_eq!((&name[..], core, &message[..]), ("TERM", &true, "killed\\u{7}"));
    assert_eq!(session.exit().await, exit, "asked again");
    client.close().await;
    assert_eq!(server.await.unwrap().signals, ["TERM"]);
}

#[tokio::test]
async fn an_end_without_a_status_is_a_loss() {
    let (_, _, exit, _) = output(Config::default(), exec("vanish")).await;
    assert_eq!(exit, Exit::Lost(Error::NoStatus));
    let (session, _server) = start(4096, Config::default(), exec("drop")).await;
    let (_client, mut session) = session.unwrap();
    let mut out = Vec::new();
    let end = session.stdout.read_to_end(&mut out).await.unwrap_err();
    assert_eq!((&out[..], end.kind()), (&b"begun\n"[..], std::io::ErrorKind::ConnectionReset));
    assert_eq!(session.exit().await, Exit::Lost(Error::Ended("without taking its leave")));
}

#[tokio::test]
async fn closing_ends_a_command_that_goes_on() {
    let (session, server) = start(4096, Config::default(), exec("hold")).await;
    let (client, mut session) = session.unwrap();
    session.stdout.chunk().await.unwrap();
    session.control.close();
    assert_eq!(session.exit().await, Exit::Lost(Error::NoStatus));
    client.close().await;
    assert!(server.await.unwrap().disconnected);
    // Leaving without closing first does it too.
    let (session, server) = start(4096, Config::default(), exec("hold")).await;
    let (client, mut session) = session.unwrap();
    session.stdout.chunk().await.unwrap();
    client.close().await;
    assert_eq!(session.exit().await, Exit::Lost(Error::NoStatus));
    assert!(server.await.unwrap().disconnected);
}

#[tokio::test]
async fn noise_is_borne_and_answered() {
    let config = Config {
        noisy: true,
        strict: false,
        greeting: b"Welcome\r\nto this host\r\n",
        ..Config::default()
    };
    let (out, _, exit, seen) = output(config, exec("split")).await;
    assert_eq!((&out[..], exit), (&b"out\n"[..], Exit::Status(0)));
    assert_eq!(seen.answers, [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_wrong_guess_of_the_server_is_ignored() {
    let config = Config { wrong_guess: true, ..Config::default() };
    let (_, _, exit, _) = output(config, exec("exit 9")).await;
    assert_eq!(exit, Exit::Status(9));
}

#[tokio::test]
async fn another_channel_number_is_found_out_and_works_after_the_login() {
    let config = Config { number: 5, ..Config::default() };
    let (ours, theirs) = tokio::io::duplex(4096);
    let server = tokio::spawn({
        let config = config.clone();
        async move {
            // It is irritated by requests to a channel 0 that it does not have.
            let _ = serve(theirs, config).await;
        }
    });
    let error = coderctl_ssh::open(ours, exec("exit 1")).await.unwrap_err();
    assert_eq!(error, Error::ChannelNumber(5));
    assert!(error.is_pipelining());
    server.abort();
    let (_, _, exit, _) = output_when(When::Late, config, exec("exit 1")).await;
    assert_eq!(exit, Exit::Status(1));
}

#[tokio::test]
async fn refusals_say_what_was_refused() {
    let config = Config { auth: false, ..Config::default() };
    let error = refused(config).await;
    assert_eq!(error.to_string(), "the SSH server wants a login by publickey,password");
    let config = Config { accept_channel: false, ..Config::default() };
    let error = refused(config).await.to_string();
    assert_eq!(error, "the SSH server refused a session: no more\\u{1b} sessions (reason 1)");
    let config = Config { accept_command: false, ..Config::default() };
    assert_eq!(refused(config).await, Error::RequestRefused("the command"));
    let config = Config { forge: true, ..Config::default() };
    assert_eq!(refused(config).await, Error::Signature);
    let config = Config { kex: "diffie-hellman-group1-sha1", ..Config::default() };
    assert!(matches!(refused(config).await, Error::NoCommon { what: "key exchange", .. }));
    let config = Config { greeting: b"HTTP/1.1 400 Bad Request\r\n", ..Config::default() };
    assert!(matches!(refused(config).await, Error::Identification(_)));
    let config = Config { version: "SSH-1.5-old", ..Config::default() };
    assert!(matches!(refused(config).await, Error::Identification(_)));
}

#[tokio::test]
async fn a_command_that_is_too_long_is_not_sent() {
    let (ours, _theirs) = tokio::io::duplex(4096);
    let error = coderctl_ssh::open(ours, exec(&"x".repeat(200 * 1024))).await.unwrap_err();
    assert!(matches!(error, Error::Request { what: "remote command", .. }));
}

#[tokio::test(start_paused = true)]
async fn keys_are_renewed_after_an_hour() {
    let (session, server) = start(4096, Config::default(), exec("cat")).await;
    let (client, Session { mut stdin, mut stdout, control, .. }) = session.unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 3600 + 60)).await;
    stdin.write_all(b"still here").await.unwrap();
    assert_eq!(&stdout.chunk().await.unwrap().unwrap()[..], b"still here");
    drop(stdin);
    assert_eq!(control.exit().await, Exit::Status(0));
    client.close().await;
    assert_eq!(server.await.unwrap().exchanges, 4);
}
