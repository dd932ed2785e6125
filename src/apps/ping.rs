//! `ping`: round trips through the tunnel, and the way that they took.
//!
//! What is measured is what a forward would see: a packet through WireGuard to the agent's own
//! network stack and back, by the path in use at that moment.

use std::{collections::VecDeque, time::Duration};

use jiff::{Zoned, tz::TimeZone};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    App, BoxFuture, Context, End, Event, Path, Tunnel, report,
    session::{asked, attached, ended_by},
};
use crate::{
    error::{CommandError, Kind},
    ui::{Ui, escape},
};

/// Pings that are remembered, the last ones: a day of one each second.
const REMEMBERED: usize = 86_400;

/// What `ping` is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workspace as it was typed.
    pub workspace: String,
    /// So many, or until a signal.
    pub count: Option<u64>,
    /// How long each may take.
    pub timeout: Duration,
    /// The pause between two.
    pub wait: Duration,
    /// The zone of the time with which each line begins; `None` for no time.
    pub time: Option<TimeZone>,
    /// One JSON document at the end instead of lines.
    pub json: bool,
}

/// The app behind `ping`.
#[derive(Debug)]
pub struct Ping {
    options: Options,
}

impl Ping {
    /// Will ping as asked for.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }
}

impl App for Ping {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(self.options, context))
    }
}

async fn run(options: Options, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let tunnel = match attached(&mut tunnel).await {
        Ok(tunnel) => tunnel,
        Err(error) => return End::Failed(error),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = events.send(Event::Up);
    let mut record = Record::new();
    let ended = tokio::select! {
        done = pings(&options, &*tunnel, &mut record, &ui) => done.map(|()| None),
        () = asked(&mut close) => Ok(None),
        Some(signal) = signals.recv() => Ok(Some(signal)),
    };
    let ended = ended.and_then(|signal| conclude(&options, &record, &ui).map(|()| signal));
    match ended {
        Err(error) => End::Failed(error),
        Ok(_) if record.received > 0 => End::Done(0),
        Ok(Some(signal)) => End::Done(ended_by(signal)),
        Ok(None) => End::Failed(
            CommandError::msg(Kind::Remote, "no ping was answered")
                .hint("`coderctl netcheck` shows what this network lets through"),
        ),
    }
}

async fn pings(
    options: &Options,
    tunnel: &dyn Tunnel,
    record: &mut Record,
    ui: &Ui,
) -> Result<(), CommandError> {
    while options.count.is_none_or(|count| record.sent < count) {
        if record.sent > 0 {
            tokio::time::sleep(options.wait).await;
        }
        let answer = tokio::time::timeout(options.timeout, tunnel.ping()).await;
        let outcome = match answer {
            Ok(Ok(latency)) => Ok(latency),
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::TimedOut => {
                Err(error.to_string())
            }
            Ok(Err(_)) | Err(_) => Err("timed out".to_owned()),
        };
        let news = record.add(outcome, tunnel.path());
        if !options.json {
            let line = line(options, record.pings.back(), news);
            ui.data(line.as_bytes()).map_err(report::cannot_write)?;
        }
    }
    Ok(())
}

/// What one ping has to say.
fn line(options: &Options, ping: Option<&Pinged>, news: Option<Duration>) -> String {
    let mut line = String::new();
    if let Some(zone) = &options.time {
        let now = Zoned::now().with_time_zone(zone.clone());
        line += &now.strftime("%Y-%m-%dT%H:%M:%S%:z ").to_string();
    }
    let name = escape(&options.workspace);
    match ping.map(|ping| (&ping.outcome, &ping.path)) {
        Some((Ok(latency), path)) => {
            line += &format!("pong from {name} {path} in {}", milliseconds(*latency));
        }
        Some((Err(why), path)) => line += &format!("no pong from {name} {path}: {}", escape(why)),
        None => {}
    }
    if let Some(after) = news {
        line += &format!(" (way found after {:.3} s)", after.as_secs_f64());
    }
    line + "\n"
}

fn conclude(options: &Options, record: &Record, ui: &Ui) -> Result<(), CommandError> {
    let summary = record.summary();
    let text = if options.json {
        report::json(&record.document(&options.workspace, &summary))?
    } else {
        summary.text()
    };
    ui.data(text.as_bytes()).map_err(report::cannot_write)
}

/// One ping.
#[derive(Debug, Clone, PartialEq)]
struct Pinged {
    number: u64,
    outcome: Result<Duration, String>,
    path: Path,
}

/// All pings so far.
#[derive(Debug)]
struct Record {
    begun: Instant,
    sent: u64,
    received: u64,
    pings: VecDeque<Pinged>,
    /// The ways, in the order in which they were found, and when.
    paths: VecDeque<(Path, Duration)>,
}

impl Record {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            sent: 0,
            received: 0,
            pings: VecDeque::new(),
            paths: VecDeque::new(),
        }
    }

    /// Another ping; if it took another way than the one before, when that was found.
    fn add(&mut self, outcome: Result<Duration, String>, path: Path) -> Option<Duration> {
        self.sent += 1;
        self.received += u64::from(outcome.is_ok());
        let changed = self.paths.back().is_none_or(|(known, _)| *known != path);
        let known = !self.paths.is_empty();
        let after = self.begun.elapsed();
        if changed {
            remember(&mut self.paths, (path.clone(), after));
        }
        remember(&mut self.pings, Pinged { number: self.sent, outcome, path });
        (changed && known).then_some(after)
    }

    fn summary(&self) -> Summary {
        let latencies = self.pings.iter().filter_map(|ping| ping.outcome.as_ref().ok().copied());
        Summary::of(self.sent, self.received, latencies.collect())
    }

    fn document<'a>(&'a self, workspace: &'a str, summary: &'a Summary) -> Document<'a> {
        let ping = |ping: &'a Pinged| PingedDocument {
            number: ping.number,
            latency_ms: ping.outcome.as_ref().ok().copied().map(report::milliseconds),
            error: ping.outcome.as_ref().err().map(String::as_str),
            path: report::Path::of(&ping.path),
        };
        let path = |(path, after): &'a (Path, Duration)| PathDocument {
            path: report::Path::of(path),
            found_after_ms: report::milliseconds(*after),
        };
        Document {
            workspace,
            summary,
            paths: self.paths.iter().map(path).collect(),
            pings: self.pings.iter().map(ping).collect(),
        }
    }
}

fn remember<T>(list: &mut VecDeque<T>, one: T) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(one);
}

/// What all pings together say. Times are of those that are remembered.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    sent: u64,
    received: u64,
    min_ms: Option<f64>,
    p50_ms: Option<f64>,
    avg_ms: Option<f64>,
    max_ms: Option<f64>,
    stddev_ms: Option<f64>,
}

impl Summary {
    fn of(sent: u64, received: u64, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let all: Vec<f64> = latencies.into_iter().map(report::milliseconds).collect();
        let count = all.len() as f64;
        let avg = (!all.is_empty()).then(|| all.iter().sum::<f64>() / count);
        let deviation = |avg: f64| {
            let squares = all.iter().map(|one| (one - avg).powi(2));
            report::rounded((squares.sum::<f64>() / count).sqrt())
        };
        Self {
            sent,
            received,
            min_ms: all.first().copied(),
            p50_ms: all.get(all.len().saturating_sub(1) / 2).copied(),
            avg_ms: avg.map(report::rounded),
            max_ms: all.last().copied(),
            stddev_ms: avg.map(deviation),
        }
    }

    fn text(&self) -> String {
        let lost = self.sent - self.received;
        let share = if self.sent == 0 { 0.0 } else { 100.0 * lost as f64 / self.sent as f64 };
        let mut text =
            format!("{} sent, {} received, {share:.0} % lost\n", self.sent, self.received);
        if let (Some(min), Some(p50), Some(avg), Some(max), Some(stddev)) =
            (self.min_ms, self.p50_ms, self.avg_ms, self.max_ms, self.stddev_ms)
        {
            text += &format!(
                "min {min:.3} ms, p50 {p50:.3} ms, avg {avg:.3} ms, max {max:.3} ms, \
                 stddev {stddev:.3} ms\n"
            );
        }
        text
    }
}

#[derive(Serialize)]
struct Document<'a> {
    workspace: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
    paths: Vec<PathDocument<'a>>,
    pings: Vec<PingedDocument<'a>>,
}

#[derive(Serialize)]
struct PathDocument<'a> {
    #[serde(flatten)]
    path: report::Path<'a>,
    found_after_ms: f64,
}

#[derive(Serialize)]
struct PingedDocument<'a> {
    number: u64,
    latency_ms: Option<f64>,
    error: Option<&'a str>,
    path: report::Path<'a>,
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.3} ms", report::milliseconds(duration))
}

#[cfg(test)]
mod tests;
