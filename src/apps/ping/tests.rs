//! Pings over a scripted tunnel, in virtual time.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    apps::testing::{Running, Stub},
    signal::Signal,
};

const MS: Duration = Duration::from_millis(1);

/// How a ping is answered.
#[derive(Clone)]
struct Row {
    after: Duration,
    outcome: Result<Duration, io::ErrorKind>,
    path: Path,
}

fn relay() -> Path {
    Path::Relay("coder\u{1b}[2J".to_owned())
}

fn direct() -> Path {
    Path::Direct(SocketAddr::from(([192, 0, 2, 7], 41641)))
}

fn pong(milliseconds: u32, path: Path) -> Row {
    Row { after: milliseconds * MS, outcome: Ok(milliseconds * MS), path }
}

fn options() -> Options {
    Options {
        workspace: "dev".to_owned(),
        count: None,
        timeout: 5000 * MS,
        wait: 1000 * MS,
        time: None,
        json: false,
    }
}

/// Each ping is answered as the next row says.
fn start(options: Options, rows: Vec<Row>) -> Running {
    let rows = Arc::new(Mutex::new(VecDeque::from(rows)));
    let next = Arc::clone(&rows);
    let stub = Stub::refusing()
        .pinged(move || {
            let row = next.lock().unwrap().front().cloned();
            Box::pin(async move {
                let Some(row) = row else { return std::future::pending().await };
                tokio::time::sleep(row.after).await;
                row.outcome.map_err(io::Error::from)
            })
        })
        .on_path(move || rows.lock().unwrap().pop_front().map_or(Path::None, |row| row.path));
    let run = Running::start(Ping::new(options));
    run.attach(stub);
    run
}

#[tokio::test(start_paused = true)]
async fn each_ping_is_a_line_and_the_summary_comes_last() {
    let silence = Row { after: 5000 * MS, outcome: Err(io::ErrorKind::TimedOut), path: relay() };
    let gone = Row { after: MS, outcome: Err(io::ErrorKind::NotConnected), path: Path::None };
    let rows = vec![pong(40, relay()), silence, gone, pong(2, direct()), pong(4, direct())];
    let mut run = start(Options { count: Some(5), ..options() }, rows);
    assert_eq!(run.code().await, 0);
    assert_eq!(
        run.stdout(),
        "pong from dev by relay coder\\x1b[2J in 40.000 ms
no pong from dev by relay coder\\x1b[2J: timed out
no pong from dev without a way to it: not connected (way found after 7.041 s)
pong from dev directly at 192.0.2.7:41641 in 2.000 ms (way found after 8.043 s)
pong from dev directly at 192.0.2.7:41641 in 4.000 ms
5 sent, 3 received, 40 % lost
min 2.000 ms, p50 4.000 ms, avg 15.333 ms, max 40.000 ms, stddev 17.461 ms
"
    );
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_it_with_what_there_is() {
    let mut run = start(options(), vec![pong(1, relay()); 3]);
    tokio::time::sleep(3500 * MS).await;
    run.signals.send(Signal::Interrupt).await.unwrap();
    assert_eq!(run.code().await, 0);
    assert!(run.stdout().contains("\n3 sent, 3 received, 0 % lost\n"), "{}", run.stdout());
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_it_is_a_failure() {
    let silence = Row { after: 3_600_000 * MS, outcome: Ok(MS), path: relay() };
    let mut run = start(Options { count: Some(2), ..options() }, vec![silence.clone(); 2]);
    let error = run.error().await;
    assert_eq!((error.kind, error.to_string()), (Kind::Remote, "no ping was answered".to_owned()));
    assert!(run.stdout().ends_with("2 sent, 0 received, 100 % lost\n"), "{}", run.stdout());

    let mut run = start(options(), vec![silence]);
    tokio::time::sleep(7000 * MS).await;
    run.signals.send(Signal::Terminate).await.unwrap();
    assert_eq!(run.code().await, 143);
}

#[tokio::test(start_paused = true)]
async fn asked_to_close_it_sums_up() {
    let mut run = start(options(), vec![pong(1, relay())]);
    tokio::time::sleep(100 * MS).await;
    run.close.send_replace(true);
    assert_eq!(run.code().await, 0);
    assert!(run.stdout().contains("1 sent, 1 received"), "{}", run.stdout());
}

#[tokio::test(start_paused = true)]
async fn as_json_it_is_one_document() {
    let silence = Row { after: MS, outcome: Err(io::ErrorKind::TimedOut), path: relay() };
    let rows = vec![pong(40, relay()), silence, pong(2, direct())];
    let mut run = start(Options { count: Some(3), json: true, ..options() }, rows);
    assert_eq!(run.code().await, 0);
    let seen: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    let by_relay = serde_json::json!({"kind": "relay", "relay": "coder\u{1b}[2J", "address": null});
    let directly =
        serde_json::json!({"kind": "direct", "relay": null, "address": "192.0.2.7:41641"});
    let found = |path: &serde_json::Value, after: f64| {
        let mut path = path.clone();
        path["found_after_ms"] = after.into();
        path
    };
    assert_eq!(
        seen,
        serde_json::json!({
            "workspace": "dev", "sent": 3, "received": 2,
            "min_ms": 2.0, "p50_ms": 2.0, "avg_ms": 21.0, "max_ms": 40.0, "stddev_ms": 19.0,
            "paths": [found(&by_relay, 40.0), found(&directly, 2043.0)],
            "pings": [
                {"number": 1, "latency_ms": 40.0, "error": null, "path": by_relay},
                {"number": 2, "latency_ms": null, "error": "timed out", "path": by_relay},
                {"number": 3, "latency_ms": 2.0, "error": null, "path": directly},
            ],
        })
    );
}

#[tokio::test(start_paused = true)]
async fn lines_may_begin_with_the_time() {
    let options = Options { count: Some(1), time: Some(TimeZone::UTC), ..options() };
    let mut run = start(options, vec![pong(1, relay())]);
    assert_eq!(run.code().await, 0);
    let seen = run.stdout();
    let (time, rest) = seen.split_once(' ').unwrap();
    assert!(time.ends_with("+00:00") && time.parse::<jiff::Timestamp>().is_ok(), "{seen}");
    assert!(rest.starts_with("pong from dev"), "{seen}");
}

#[test]
fn a_summary_of_nothing_and_of_one() {
    let nothing = Summary::of(0, 0, Vec::new());
    assert_eq!((nothing.p50_ms, nothing.text().as_str()), (None, "0 sent, 0 received, 0 % lost\n"));
    let one = Summary::of(1, 1, vec![3 * MS]);
    assert_eq!((one.min_ms, one.p50_ms, one.max_ms), (Some(3.0), Some(3.0), Some(3.0)));
    assert_eq!(one.stddev_ms, Some(0.0));
    let even = Summary::of(4, 4, vec![4 * MS, MS, 3 * MS, 2 * MS]);
    assert_eq!(even.p50_ms, Some(2.0));
}
