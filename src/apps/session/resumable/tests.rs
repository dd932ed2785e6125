use std::io::Write as _;

use tokio::io::DuplexStream;

use super::{keys::whole, *};
use crate::apps::testing::{self, Piped, Stub};

#[test]
fn a_name_is_its_own_id() {
    for name in ["w", "work-2.b_C", "0123456789abcdef"] {
        let id = id(name).unwrap();
        assert_eq!(id.as_bytes().split(|b| *b == 0).next().unwrap(), name.as_bytes());
        assert_eq!(super::name(id), name);
    }
    let uuid = "0d95f7a2-1f5a-4a4e-8f0f-0e8f8f5a5d11";
    assert_eq!(id(uuid).unwrap().to_string(), uuid);
    for name in ["", "0123456789abcdefg", "a b", "ä", "a/b", "a\u{1b}"] {
        assert_eq!(id(name), Err(NameError), "{name:?}");
    }
}

#[test]
fn an_id_that_nobody_has_named_is_its_own_name() {
    for text in [&b""[..], b"a\0b", b"a b", b"\x1b[2J", &[0xff; 16]] {
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        let uuid = Uuid::from_bytes(bytes);
        assert_eq!(name(uuid), uuid.to_string());
        assert_eq!(id(&name(uuid)), Ok(uuid));
    }
}

#[test]
fn characters_come_whole_and_in_small_messages() {
    let mut bytes = "aä".as_bytes()[..2].to_vec();
    assert_eq!(whole(&mut bytes), "a");
    bytes.push(0xa4);
    assert_eq!((whole(&mut bytes), bytes.len()), ("ä".to_owned(), 0));
    let mut wrong = vec![0xff, b'b', 0xc3];
    assert_eq!((whole(&mut wrong), wrong), ("\u{fffd}b".to_owned(), vec![0xc3]));
    let text = "ä\n".repeat(1000);
    let said = pieces(&text);
    let parsed = serde_json::Deserializer::from_slice(&said).into_iter::<serde_json::Value>();
    let mut whole = String::new();
    for message in parsed {
        let message = message.unwrap();
        let data = message["data"].as_str().unwrap();
        assert!(data.len() <= PIECE);
        whole += data;
    }
    assert_eq!(whole, text);
}

/// What a client says at first.
async fn init(stream: &mut DuplexStream) -> serde_json::Value {
    let mut text = vec![0; stream.read_u16_le().await.unwrap().into()];
    stream.read_exact(&mut text).await.unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Reads until this has come.
async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await.unwrap()));
    }
    text
}

/// What an agent's HTTP API answers.
const RUNS: &str = "200 OK\r\n\r\n{\"running\": true, \"exit_code\": null}";
const ENDED: &str = "200 OK\r\n\r\n{\"running\": false, \"exit_code\": 7}";
const NOT_FOUND: &str = "404 Not Found\r\n\r\n404 page not found";

/// A tunnel that hands out the streams to terminals, and whose agent answers every question like
/// this.
fn agent(answer: &'static str) -> (Stub, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, streams) = mpsc::unbounded_channel();
    let stub = Stub::dialled(move |port| {
        let (near, mut far) = testing::duplex();
        match port {
            PORT => sender.send(far).unwrap(),
            4 => drop(tokio::spawn(async move {
                read_until(&mut far, "\r\n\r\n").await;
                far.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
            })),
            port => panic!("port {port}"),
        }
        Ok(near)
    });
    (stub, streams)
}

async fn up(run: &mut Piped) {
    assert_eq!(run.driver.events.recv().await, Some(Event::Up));
    assert_eq!(run.driver.events.recv().await, Some(Event::Opened));
}

fn top() -> Piped {
    Piped::start(Resumable::new("work", "top".into(), Some(b'~')).unwrap())
}

#[tokio::test]
async fn it_comes_back_over_the_next_tunnel_and_shows_everything_anew() {
    let mut run = top();
    let mut stdin = run.stdin.take().unwrap();
    for round in 0..2 {
        let (stub, mut dialled) = agent(if round == 0 { RUNS } else { NOT_FOUND });
        run.driver.attach(stub);
        up(&mut run).await;
        let mut there = dialled.recv().await.unwrap();
        let init = init(&mut there).await;
        assert_eq!(init["ID"], "776f726b-0000-0000-0000-000000000000");
        assert_eq!((&init["Command"], init.get("container")), (&"top".into(), None));
        let height = init["Height"].as_u64().unwrap();
        let end = format!("{{\"height\":{height},\"width\":{}}}", init["Width"]);
        let drawn = read_until(&mut there, &end).await;
        assert!(drawn.starts_with(&format!("{{\"height\":{}", height - 1)));
        there.write_all(b"shown.").await.unwrap();
        let expected = if round == 0 { "shown." } else { "\x1b[H\x1b[2J\x1b[3Jshown." };
        assert_eq!(run.bytes(expected.len()).await, expected.as_bytes());
        stdin.write_all(b"typed").unwrap();
        assert_eq!(read_until(&mut there, "}").await, "{\"data\":\"typed\"}");
        if round == 1 {
            // Its program ends.
            there.shutdown().await.unwrap();
            break;
        }
        run.driver.detach();
        assert_eq!(run.driver.events.recv().await, Some(Event::Closed));
    }
    assert_eq!(run.driver.code().await, 0);
    let said = run.driver.said.stderr();
    assert!(said.contains("connection lost, coming back to the session"), "{said}");
    assert!(said.ends_with("does not tell how, so the exit code is 0\n"), "{said}");
}

#[tokio::test]
async fn its_end_is_told_by_the_agent() {
    let mut run = top();
    let (stub, mut dialled) = agent(ENDED);
    run.driver.attach(stub);
    up(&mut run).await;
    drop(dialled.recv().await.unwrap());
    assert_eq!(run.driver.code().await, 7);
    assert_eq!(run.driver.said.stderr(), "");
}

#[tokio::test]
async fn a_program_that_ended_meanwhile_is_not_begun_again() {
    let mut run = top();
    let (stub, mut dialled) = agent(RUNS);
    run.driver.attach(stub);
    up(&mut run).await;
    let there = dialled.recv().await.unwrap();
    run.driver.detach();
    assert_eq!(run.driver.events.recv().await, Some(Event::Closed));
    drop(there);
    let (stub, mut dialled) = agent(ENDED);
    run.driver.attach(stub);
    assert_eq!(run.driver.code().await, 7);
    assert!(dialled.try_recv().is_err(), "nobody has asked for a terminal");
}

#[tokio::test]
async fn a_stream_that_ends_while_the_program_runs_is_a_lost_one() {
    let mut run = top();
    let (stub, mut dialled) = agent(RUNS);
    run.driver.attach(stub);
    up(&mut run).await;
    drop(dialled.recv().await.unwrap());
    assert_eq!(run.driver.events.recv().await, Some(Event::Closed));
    up(&mut run).await;
    init(&mut dialled.recv().await.unwrap()).await;
}
