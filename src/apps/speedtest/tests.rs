//! Speed tests against a scripted agent, in virtual time.

use std::{collections::VecDeque, sync::Mutex};

use tokio::{io::DuplexStream, sync::mpsc};

use super::*;
use crate::apps::testing::{Running, Stub};

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
    driver: Running,
    streams: mpsc::UnboundedReceiver<DuplexStream>,
}

/// Over these paths, one after the other, of which the last stays.
fn start(options: Options, paths: &[Path]) -> Run {
    let (stub, streams) = Stub::handing_out(PORT);
    let paths = Mutex::new(paths.iter().cloned().collect::<VecDeque<_>>());
    let path = move || {
        let mut paths = paths.lock().unwrap();
        if paths.len() > 1 { paths.pop_front().unwrap() } else { paths.front().unwrap().clone() }
    };
    let driver = Running::start(SpeedTest::new(options));
    driver.attach(stub.on_path(path));
    Run { driver, streams }
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
}

#[tokio::test(start_paused = true)]
async fn a_download_counts_what_comes() {
    let mut run = start(options(Direction::Down), &[relay(), direct()]);
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
    assert_eq!(run.driver.code().await, 0);
    assert_eq!(
        run.driver.stdout(),
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
    let mut run = start(Options { json: true, ..options(Direction::Up) }, &[relay()]);
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
    assert_eq!(run.driver.code().await, 0);
    let seen: serde_json::Value = serde_json::from_str(&run.driver.stdout()).unwrap();
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
    let mut run = start(Options { directions: both, ..options(Direction::Up) }, &[relay()]);
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
    assert_eq!(run.driver.code().await, 0);
    let seen = run.driver.stdout();
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
        let mut run = start(options(Direction::Down), &[relay()]);
        let (mut stream, _) = run.question().await;
        // Whoever reads no further than it must has the rest reset.
        let _ = stream.write_all(answer).await;
        drop(stream);
        let error = run.driver.error().await;
        assert_eq!(error.kind, kind, "{error}");
        let said = error.to_string();
        assert!(said.contains(text) && said.contains("no download could be measured"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_or_never_ends_is_given_up() {
    let mut run = start(options(Direction::Down), &[relay()]);
    let (_silent, _) = run.question().await;
    let error = run.driver.error().await;
    assert_eq!(error.kind, Kind::Tunnel, "{error}");

    let mut run = start(options(Direction::Down), &[relay()]);
    let (mut stream, _) = run.question().await;
    stream.write_all(b"{}\n").await.unwrap();
    let begun = Instant::now();
    let error = run.driver.error().await;
    assert_eq!((error.kind, begun.elapsed()), (Kind::Protocol, Duration::from_secs(10)));
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_refuses() {
    let mut driver = Running::start(SpeedTest::new(options(Direction::Up)));
    driver.attach(Stub::refusing());
    let error = driver.error().await;
    assert_eq!(error.kind, Kind::Remote);
    assert_eq!(error.hints.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_direct_path_is_waited_for_but_not_for_ever() {
    let direct_first = Options { direct: true, ..options(Direction::Down) };
    let mut run = start(direct_first.clone(), &[relay(), relay(), direct()]);
    let (mut stream, _) = run.question().await;
    stream.write_all(b"{}\n").await.unwrap();
    drop(stream);
    assert_eq!(run.driver.code().await, 0);
    assert!(run.driver.stdout().starts_with("download directly at 192.0.2.7:41641\n"));

    let mut run = start(direct_first, &[relay()]);
    let error = run.driver.error().await;
    assert_eq!(
        (error.kind, error.to_string()),
        (Kind::Timeout, "no direct path within 30 s".to_owned())
    );
}
