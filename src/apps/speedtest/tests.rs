//! Speed tests against a scripted agent, in virtual time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::DuplexStream,
    net::TcpStream,
    sync::{mpsc, watch},
};

use super::*;
use crate::{
    apps::{Datagrams, Spliced},
    ui::{self, Capture},
};

/// A tunnel whose port 3 is the test's own.
struct Agent {
    streams: mpsc::UnboundedSender<DuplexStream>,
    paths: Mutex<VecDeque<Path>>,
    refuse: Option<io::ErrorKind>,
}

impl Tunnel for Agent {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            assert_eq!(port, 3);
            if let Some(kind) = self.refuse {
                return Err(kind.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            self.streams.send(theirs).unwrap();
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn splice(&self, _: TcpStream, _: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn datagrams(&self, _: u16) -> io::Result<Box<dyn Datagrams>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(async { Err(io::ErrorKind::TimedOut.into()) })
    }

    fn path(&self) -> Path {
        let mut paths = self.paths.lock().unwrap();
        if paths.len() > 1 { paths.pop_front().unwrap() } else { paths.front().unwrap().clone() }
    }
}

fn relay() -> Path {
    Path::Relay("coder".to_owned())
}

fn direct() -> Path {
    Path::Direct(([192, 0, 2, 7], 41641).into())
}

fn options(direction: Direction) -> Options {
    Options {
        workspace: "dev".to_owned(),
        directions: vec![direction],
        time: Duration::from_secs(2),
        direct: false,
        json: false,
        columns: vec![Column::Interval, Column::Throughput],
    }
}

struct Run {
    app: tokio::task::JoinHandle<End>,
    streams: mpsc::UnboundedReceiver<DuplexStream>,
    said: Capture,
    _close: watch::Sender<bool>,
    _signals: mpsc::Sender<crate::signal::Signal>,
    _tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
}

fn start(options: Options, paths: &[Path], refuse: Option<io::ErrorKind>) -> Run {
    let (sender, streams) = mpsc::unbounded_channel();
    let paths = Mutex::new(paths.iter().cloned().collect());
    let agent: Arc<dyn Tunnel> = Arc::new(Agent { streams: sender, paths, refuse });
    let (tunnel, tunnel_out) = watch::channel(Some(agent));
    let (close, close_out) = watch::channel(false);
    let (signals, signals_out) = mpsc::channel(2);
    let (events, _) = mpsc::unbounded_channel();
    let (ui, said) = Ui::captured(ui::Options::default());
    let context =
        Context { tunnel: tunnel_out, close: close_out, signals: signals_out, events, ui };
    let app = tokio::spawn(Box::new(SpeedTest::new(options)).run(context));
    Run { app, streams, said, _close: close, _signals: signals, _tunnel: tunnel }
}

impl Run {
    /// The next test: its stream and its question.
    async fn question(&mut self) -> (DuplexStream, String) {
        let mut stream = self.streams.recv().await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(line).unwrap())
    }

    async fn error(self) -> CommandError {
        match self.app.await.unwrap() {
            End::Failed(error) => error,
            End::Done(code) => panic!("done with {code}"),
        }
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.said.stdout()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_counts_what_comes() {
    let mut run = start(options(Direction::Down), &[relay(), direct()], None);
    let (mut stream, question) = run.question().await;
    assert_eq!(question, "{\"version\":2,\"time\":2000000000,\"direction\":0}\n");
    // Data follows the answer in the same segment.
    let mut first = b"{}\n".to_vec();
    first.resize(3 + 1000, 7);
    stream.write_all(&first).await.unwrap();
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        stream.write_all(&[7; 50_000]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    assert_eq!(
        run.stdout(),
        "download by relay coder, at the end directly at 192.0.2.7:41641
  INTERVAL                  THROUGHPUT
  0.00-1.00 s              0.41 Mbit/s
  1.00-2.00 s              0.40 Mbit/s
  total 0.00-2.00 s        0.40 Mbit/s
"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_counts_until_the_last_byte_was_taken() {
    let mut run = start(Options { json: true, ..options(Direction::Up) }, &[relay()], None);
    let (mut stream, question) = run.question().await;
    assert_eq!(question, "{\"version\":2,\"time\":2000000000,\"direction\":1}\n");
    stream.write_all(b"{}\n").await.unwrap();
    let mut taken = 0;
    let mut piece = vec![0; 10_000];
    // Slower than it is sent, so that something is under way when the time is over.
    loop {
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            count => taken += count,
        }
        sleep(Duration::from_millis(100)).await;
    }
    drop(stream);
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    let seen: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    assert_eq!((&seen["workspace"], &seen["download"]), (&"dev".into(), &serde_json::Value::Null));
    let upload = &seen["upload"];
    assert_eq!(
        upload["path"],
        serde_json::json!({"kind": "relay", "relay": "coder", "address": null})
    );
    let overall = &upload["overall"];
    let seconds = overall["end_time_seconds"].as_f64().unwrap();
    assert!((2.1..3.5).contains(&seconds), "{overall}");
    let expected = taken as f64 * 8.0 / 1e6 / seconds;
    let said = overall["throughput_mbits"].as_f64().unwrap();
    assert!((said - expected).abs() < 0.01, "{said} is not {expected}");
    assert!(upload["intervals"].as_array().unwrap().len() >= 2, "{upload}");
}

#[tokio::test(start_paused = true)]
async fn both_directions_follow_each_other() {
    let both = vec![Direction::Down, Direction::Up];
    let mut run = start(Options { directions: both, ..options(Direction::Up) }, &[relay()], None);
    for direction in 0..2 {
        let (mut stream, question) = run.question().await;
        assert!(question.contains(&format!("\"direction\":{direction}")), "{question}");
        stream.write_all(b"{}\n").await.unwrap();
        if direction == 1 {
            // The clock goes on only while nobody has anything to do.
            while stream.read(&mut [0; 4096]).await.unwrap() > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    let seen = run.stdout();
    let (down, up) = (seen.find("download by relay"), seen.find("upload by relay"));
    assert!(down.is_some() && down < up, "{seen}");
}

#[tokio::test(start_paused = true)]
async fn what_the_agent_may_answer_instead() {
    let rows: [(&[u8], Kind, &str); 5] = [
        (b"{\"error\":\"busy\x1b[2J\"}\n", Kind::Protocol, "is not one of a speed test"),
        (
            b"{\"error\":\"busy \\u001b[2J\"}\n",
            Kind::Remote,
            "refuses the speed test: busy \\x1b[2J",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Kind::Protocol, "`HTTP/1.1 400 Bad Request`"),
        (b"", Kind::Protocol, "is not one of a speed test"),
        (&[b'x'; 10_000], Kind::Protocol, "is not one of a speed test"),
    ];
    for (answer, kind, text) in rows {
        let mut run = start(options(Direction::Down), &[relay()], None);
        let (mut stream, _) = run.question().await;
        // Whoever reads no further than it must has the rest reset.
        let _ = stream.write_all(answer).await;
        drop(stream);
        let error = run.error().await;
        assert_eq!(error.kind, kind, "{error}");
        let said = error.to_string();
        assert!(said.contains(text) && said.contains("no download could be measured"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_or_never_ends_is_given_up() {
    let mut run = start(options(Direction::Down), &[relay()], None);
    let (_silent, _) = run.question().await;
    let error = run.error().await;
    assert_eq!(error.kind, Kind::Tunnel, "{error}");

    let mut run = start(options(Direction::Down), &[relay()], None);
    let (mut stream, _) = run.question().await;
    stream.write_all(b"{}\n").await.unwrap();
    let begun = Instant::now();
    let error = run.error().await;
    assert_eq!((error.kind, begun.elapsed()), (Kind::Protocol, Duration::from_secs(10)));
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_refuses() {
    let refuse = Some(io::ErrorKind::ConnectionRefused);
    let run = start(options(Direction::Up), &[relay()], refuse);
    let error = run.error().await;
    assert_eq!(error.kind, Kind::Remote);
    assert_eq!(error.hints.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_direct_path_is_waited_for_but_not_for_ever() {
    let direct_first = Options { direct: true, ..options(Direction::Down) };
    let mut run = start(direct_first.clone(), &[relay(), relay(), direct()], None);
    let (mut stream, _) = run.question().await;
    stream.write_all(b"{}\n").await.unwrap();
    drop(stream);
    assert!(matches!((&mut run.app).await.unwrap(), End::Done(0)));
    assert!(run.stdout().starts_with("download directly at 192.0.2.7:41641\n"));

    let run = start(direct_first, &[relay()], None);
    let error = run.error().await;
    assert_eq!(
        (error.kind, error.to_string()),
        (Kind::Timeout, "no direct path within 30 s".to_owned())
    );
}
