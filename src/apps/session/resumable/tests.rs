use std::{io::Write as _, os::fd::AsFd as _, sync::Mutex};

use tokio::{io::DuplexStream, net::TcpStream};

use super::*;
use crate::{
    apps::{Datagrams, Path, Spliced},
    ui,
};

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

/// A tunnel whose port 2 hands its other ends out.
#[derive(Default)]
struct Far(Mutex<Vec<DuplexStream>>);

impl Tunnel for Far {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            assert_eq!(port, PORT);
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            self.0.lock().unwrap().push(theirs);
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
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

    fn path(&self) -> Path {
        Path::None
    }
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

#[tokio::test]
async fn it_comes_back_over_the_next_tunnel_and_shows_everything_anew() {
    let (stdin_out, mut stdin) = io::pipe().unwrap();
    let (stdout, stdout_in) = io::pipe().unwrap();
    let streams = Streams {
        stdin: Local::reader(stdin_out.as_fd()).unwrap(),
        stdout: Local::writer(stdout_in.as_fd()).unwrap(),
        stderr: Local::writer(stdout_in.as_fd()).unwrap(),
    };
    drop(stdout_in);
    let mut stdout = Local::reader(stdout.as_fd()).unwrap();
    let (tunnel, tunnel_out) = watch::channel(None);
    let (_close, close) = watch::channel(false);
    let (_signals, signals) = mpsc::channel(1);
    let (events, mut heard) = mpsc::unbounded_channel();
    let (ui, said) = Ui::captured(ui::Options::default());
    let context = Context { tunnel: tunnel_out, close, signals, events, ui };
    let app = Resumable::new("work", "top".into(), Some(b'~')).unwrap().with_streams(streams);
    let app = tokio::spawn(Box::new(app).run(context));

    let far = Arc::new(Far::default());
    for round in 0..2 {
        tunnel.send_replace(Some(Arc::clone(&far) as Arc<dyn Tunnel>));
        assert_eq!(heard.recv().await, Some(Event::Up));
        assert_eq!(heard.recv().await, Some(Event::Opened));
        let mut there = far.0.lock().unwrap().pop().unwrap();
        let init = init(&mut there).await;
        assert_eq!(init["ID"], "776f726b-0000-0000-0000-000000000000");
        assert_eq!(init["Command"], "top");
        let height = init["Height"].as_u64().unwrap();
        let end = format!("{{\"height\":{height},\"width\":{}}}", init["Width"]);
        let drawn = read_until(&mut there, &end).await;
        assert!(drawn.starts_with(&format!("{{\"height\":{}", height - 1)));
        there.write_all(b"shown.").await.unwrap();
        let expected = if round == 0 { "shown." } else { "\x1b[H\x1b[2J\x1b[3Jshown." };
        assert_eq!(read_until(&mut stdout, ".").await, expected);
        stdin.write_all(b"typed").unwrap();
        assert_eq!(read_until(&mut there, "}").await, "{\"data\":\"typed\"}");
        if round == 1 {
            // Its program ends.
            there.shutdown().await.unwrap();
            break;
        }
        tunnel.send_replace(None);
        assert_eq!(heard.recv().await, Some(Event::Closed));
    }
    assert!(matches!(app.await.unwrap(), End::Done(0)));
    assert!(said.stderr().contains("connection lost, coming back"), "{}", said.stderr());
}
