//! `--stdio` over an in-memory tunnel whose other end is the test's own.

use std::io::Write;

use tokio::io::DuplexStream;

use super::*;
use crate::apps::{
    session::PORT,
    testing::{Piped, Stub},
};

#[tokio::test]
async fn bytes_go_through_and_half_close_is_kept() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    let mut stdin = run.stdin.take().unwrap();
    stdin.write_all(b"SSH-2.0-\0\xff\r\n").unwrap();
    drop(stdin);
    let mut got = Vec::new();
    agent.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"SSH-2.0-\0\xff\r\n", "and then the end");
    agent.write_all(b"still \0 here").await.unwrap();
    drop(agent);
    assert_eq!(run.output().await.0, b"still \0 here");
    assert_eq!(run.code().await, 0);
    assert_eq!(run.driver.events.recv().await, Some(Event::Up));
    assert_eq!(run.driver.events.recv().await, Some(Event::Opened));
    assert_eq!(run.driver.events.recv().await, Some(Event::Closed));
}

#[tokio::test]
async fn the_end_of_the_agent_is_the_end_though_input_stays_open() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    agent.write_all(b"bye").await.unwrap();
    drop(agent);
    assert!(matches!(run.driver.end().await, End::Done(0)));
    assert_eq!(run.output().await.0, b"bye");
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_agent() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    let much = vec![5; 8 << 20];
    let wait = Duration::from_millis(100);
    assert!(timeout(wait, agent.write_all(&much)).await.is_err(), "nobody reads");
    drop(agent);
    // A pipe, two buffers and the stream itself.
    let held = run.output().await.0.len();
    assert!((1..1 << 20).contains(&held), "{held}");
}

#[tokio::test]
async fn hangup_after_bytes_is_openssh_saying_goodbye() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    agent.write_all(b"x").await.unwrap();
    run.bytes(1).await;
    run.driver.signals.send(Signal::Hangup).await.unwrap();
    assert_eq!(run.code().await, 0);

    let mut run = Piped::start(Stdio);
    let _agent = attach(&run).await;
    run.driver.signals.send(Signal::Hangup).await.unwrap();
    assert_eq!(run.code().await, 129, "before any");

    let mut run = Piped::start(Stdio);
    run.driver.signals.send(Signal::Terminate).await.unwrap();
    assert_eq!(run.code().await, 143, "before there was a tunnel");
}

#[tokio::test]
async fn a_broken_tunnel_is_a_lost_connection() {
    let mut run = Piped::start(Stdio);
    let _agent = attach(&run).await;
    run.driver.detach();
    let error = run.error().await;
    assert_eq!((error.kind.code(), error.to_string()), (255, "connection lost".into()));
}

#[tokio::test]
async fn closed_output_ends_quietly() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    drop(run.stdout.take());
    agent.write_all(b"x").await.unwrap();
    assert_eq!(run.code().await, 0);
}

#[tokio::test]
async fn asked_to_close_it_closes() {
    let mut run = Piped::start(Stdio);
    let mut agent = attach(&run).await;
    run.driver.close.send_replace(true);
    assert!(matches!(run.driver.end().await, End::Done(0)));
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
}

/// Attaches a tunnel and gives the agent's end of the stream that is dialled.
async fn attach(run: &Piped) -> DuplexStream {
    let (stub, mut dialled) = Stub::handing_out(PORT);
    run.driver.attach(stub);
    dialled.recv().await.unwrap()
}
