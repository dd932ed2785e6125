//! The client for any number of channels, against our own server.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod raw;

use std::time::Duration;

use coderctl_ssh::{
    Error,
    client::{self, Client, Listen, ListenError, OpenError, Origin, Outgoing, Reason, Target},
    server::{self, Global, Incoming, Opener},
};
use raw::config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

/// A server that connects to `echo`, refuses everything else, and listens on every port but 1.
async fn serve(io: DuplexStream, openers: mpsc::UnboundedSender<Opener>) -> Result<(), Error> {
    let mut connection = server::serve(io, config()).unwrap();
    let mut echoes = JoinSet::new();
    while let Some(incoming) = connection.next().await {
        match incoming {
            Incoming::Direct(direct) => match direct.target() {
                Target::Tcp { host, port: 7 } if host == "echo" => {
                    let client::Channel { mut reader, mut writer } = direct.accept();
                    echoes.spawn(async move {
                        copy(&mut reader, &mut writer).await.unwrap();
                        writer.shutdown().await.unwrap();
                    });
                }
                Target::Unix { path } if path == b"/lost" => drop(direct),
                Target::Tcp { .. } | Target::Unix { .. } => {
                    direct.refuse(Reason::ConnectFailed, "no\u{1b} such host");
                }
            },
            Incoming::Forward(forward) => match forward.request() {
                Global::Listen(Listen::Tcp { port: 1, .. }) => forward.refuse(),
                Global::Listen(Listen::Tcp { port: 0, .. }) => {
                    forward.grant(Some(4321));
                    openers.send(connection.opener()).unwrap();
                }
                Global::Listen(_) => forward.grant(None),
                Global::Cancel(_) => forward.refuse(),
            },
            Incoming::Session(session) => panic!("{session:?}"),
        }
    }
    connection.ended().unwrap()
}

async fn start() -> (Client, mpsc::UnboundedReceiver<Opener>, JoinHandle<Result<(), Error>>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (openers, opener) = mpsc::unbounded_channel();
    let server = tokio::spawn(serve(theirs, openers));
    (client::connect(ours, Some(Duration::from_secs(15))).await.unwrap(), opener, server)
}

fn tcp(host: &str, port: u16) -> Outgoing {
    Outgoing::Direct(Target::Tcp { host: host.into(), port })
}

#[tokio::test]
async fn many_channels_carry_their_own_bytes_at_once() {
    let (client, _openers, server) = start().await;
    let mut all = JoinSet::new();
    for index in 0..50_u8 {
        let opener = client.opener();
        all.spawn(async move {
            let mut channel = opener.open(tcp("echo", 7)).await.unwrap();
            let sent = vec![index; 5_000 * usize::from(index)];
            let (mut reader, mut writer) = tokio::io::split(&mut channel);
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut back = Vec::new();
            let (_, read) = tokio::join!(send, reader.read_to_end(&mut back));
            read.unwrap();
            assert!(back == sent, "channel {index}");
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
    client.close().await;
    assert!(matches!(server.await.unwrap(), Err(Error::Disconnected { reason: 11, .. })));
}

#[tokio::test]
async fn a_refusal_is_that_channels_own_and_harmless_to_print() {
    let (client, ..) = start().await;
    let error = client.opener().open(tcp("nowhere", 80)).await.unwrap_err();
    let said = "the other side refused the channel: no\\u{1b} such host (reason 2)";
    assert_eq!(error.to_string(), said);
    let unix = Outgoing::Direct(Target::Unix { path: b"/lost".to_vec() });
    let error = client.opener().open(unix).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { reason: 2, .. }), "{error}");
    client.opener().open(tcp("echo", 7)).await.unwrap();
}

#[tokio::test]
async fn listeners_are_granted_or_refused_and_tell_who_connects() {
    let (client, mut openers, _server) = start().await;
    let listen = |port| Listen::Tcp { address: "localhost".into(), port };
    assert_eq!(client.listen(listen(1)).await, Err(ListenError::Refused));
    assert_eq!(client.listen(listen(9000)).await, Ok(Some(9000)));
    assert_eq!(client.listen(Listen::Unix { path: b"/s".to_vec() }).await, Ok(None));
    assert_eq!(client.listen(listen(0)).await, Ok(Some(4321)));

    let opener = openers.recv().await.unwrap();
    let outgoing = |port| Outgoing::ForwardedTcp {
        address: "localhost".into(),
        port,
        origin: ("::1".into(), 9),
    };
    let connect = tokio::spawn(async move {
        let mut channel = opener.open(outgoing(4321)).await.unwrap();
        channel.write_all(b"hello").await.unwrap();
        let refused = opener.open(outgoing(80)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Refused { reason: 1, .. }), "{refused}");
    });
    let forwarded = client.next().await.unwrap();
    assert_eq!(forwarded.target(), &Origin::Listen(listen(4321)));
    let mut channel = forwarded.accept();
    let unasked = client.next().await.unwrap();
    assert_eq!(unasked.target(), &Origin::Listen(listen(80)));
    unasked.refuse(Reason::Prohibited, "not asked for");
    let mut said = [0; 5];
    channel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
    connect.await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_ends_everything_that_waits_for_it() {
    let (client, _openers, server) = start().await;
    let mut channel = client.opener().open(tcp("echo", 7)).await.unwrap();
    server.abort();
    let end = channel.read_u8().await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(client.next().await.is_none());
    assert!(client.ended().await.is_err());
    assert_eq!(client.opener().open(tcp("echo", 7)).await.unwrap_err(), OpenError::Closed);
    let listen = Listen::Unix { path: b"/s".to_vec() };
    assert_eq!(client.listen(listen).await, Err(ListenError::Closed));
}

#[tokio::test]
async fn what_does_not_speak_ssh_is_no_server() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error = client::connect(ours, None).await.unwrap_err();
    assert!(matches!(error, Error::Identification(_)), "{error}");
    let (ours, theirs) = tokio::io::duplex(4096);
    drop(theirs);
    assert!(client::connect(ours, None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_given_up() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    // All that the server says goes through here, until it is told to hold its tongue.
    let (near, far) = tokio::io::duplex(1 << 16);
    let (openers, _) = mpsc::unbounded_channel();
    let server = tokio::spawn(serve(far, openers));
    let (mut from_client, mut to_client) = tokio::io::split(theirs);
    let (mut from_server, mut to_server) = tokio::io::split(near);
    let up = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let down =
        tokio::spawn(
            async move { copy(&mut from_server, &mut to_client).await.map(|_| to_client) },
        );
    let client = client::connect(ours, Some(Duration::from_secs(15))).await.unwrap();
    // While it answers, it may be idle for as long as it likes.
    assert!(tokio::time::timeout(Duration::from_secs(600), client.ended()).await.is_err());
    down.abort();
    let silent = tokio::time::timeout(Duration::from_secs(90), client.ended()).await;
    assert!(silent.is_ok_and(|ended| ended.is_err()));
    up.abort();
    server.abort();
}
