//! `speedtest`: how many bytes the path in use carries, in each direction.
//!
//! It speaks the speed test of the agent's port 3, version 2 (tailscale: net/speedtest): a question
//! in JSON, an answer in JSON, then bytes of whoever sends until the time is over. An upload counts
//! from the first byte until the agent has taken the last one, so that what lies in buffers here
//! does not count as sent.

use std::{fmt, io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::{Instant, sleep, timeout_at},
};

use super::{App, BoxFuture, Context, End, Path, Stream, Tunnel, once, report};
use crate::{
    error::{CommandError, Kind},
    ui::{Ui, escape},
};

mod meter;

use meter::{Interval, Measured, Meter};

/// The agent's port for speed tests (coder/coder: codersdk/workspacesdk/agentconn.go).
const PORT: u16 = 3;

/// The version of the protocol.
const VERSION: u32 = 2;

/// Longest answer to the question, in bytes.
const MAX_ANSWER: u64 = 4096;

/// Bytes that are read or written at once. Only zeroes are sent: the tunnel encrypts and does not
/// compress.
const PIECE: usize = 256 << 10;

/// How long the answer may take, and the end of an upload beyond the test's own time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a direct path is waited for, and how often it is looked for.
const DIRECT_WITHIN: Duration = Duration::from_secs(30);
const DIRECT_CHECK: Duration = Duration::from_millis(200);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The agent.
    Down,
    /// We.
    Up,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "download",
            Self::Up => "upload",
        })
    }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// From which second to which.
    Interval,
    /// How much was carried.
    Throughput,
}

/// What `speedtest` is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The workspace as it was typed.
    pub workspace: String,
    /// What to measure, in this order.
    pub directions: Vec<Direction>,
    /// How long each direction.
    pub time: Duration,
    /// Whether to wait for a direct path first.
    pub direct: bool,
    /// One JSON document instead of a table.
    pub json: bool,
    /// Columns of the table.
    pub columns: Vec<Column>,
}

/// The app behind `speedtest`.
#[derive(Debug)]
pub struct SpeedTest {
    options: Options,
}

impl SpeedTest {
    /// Will measure as asked for.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }
}

impl App for SpeedTest {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(once::run(context, async move |tunnel, ui| {
            tests(&self.options, &*tunnel, &ui).await.map(|()| 0)
        }))
    }
}

async fn tests(options: &Options, tunnel: &dyn Tunnel, ui: &Ui) -> Result<(), CommandError> {
    if options.direct {
        await_direct(tunnel, ui).await?;
    }
    let mut done = Vec::new();
    for direction in &options.directions {
        let before = tunnel.path();
        let seconds = options.time.as_secs_f64();
        let stage = ui.stage(format_args!("{seconds:.0} s {direction} {before}"));
        let measured = test(tunnel, *direction, options.time).await;
        let measured = measured.map_err(|error| explain(error, *direction))?;
        stage.finish();
        let test = Test { direction: *direction, before, after: tunnel.path(), measured };
        if !options.json {
            ui.data(test.table(&options.columns).as_bytes()).map_err(report::cannot_write)?;
        }
        done.push(test);
    }
    if options.json {
        let found = |direction| {
            let test = done.iter().find(|test| test.direction == direction);
            test.map(Test::document)
        };
        let document = Document {
            workspace: &options.workspace,
            download: found(Direction::Down),
            upload: found(Direction::Up),
        };
        ui.data(report::json(&document)?.as_bytes()).map_err(report::cannot_write)?;
    }
    Ok(())
}

/// Waits for a direct path; pings keep the search for one going.
async fn await_direct(tunnel: &dyn Tunnel, ui: &Ui) -> Result<(), CommandError> {
    let stage = ui.stage("Waiting for a direct path");
    let found = async {
        while !matches!(tunnel.path(), Path::Direct(_)) {
            // A lost ping is no news: the path is.
            let _ = tunnel.ping().await;
            sleep(DIRECT_CHECK).await;
        }
    };
    match tokio::time::timeout(DIRECT_WITHIN, found).await {
        Ok(()) => {
            stage.finish();
            Ok(())
        }
        Err(_) => {
            stage.fail();
            let within = DIRECT_WITHIN.as_secs();
            Err(CommandError::msg(Kind::Timeout, format!("no direct path within {within} s"))
                .hint("without --direct the path in use is measured, which is a relay here")
                .hint("`coderctl netcheck` shows what this network lets through"))
        }
    }
}

#[derive(Serialize)]
struct Question {
    version: u32,
    /// In nanoseconds.
    time: u64,
    direction: u8,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
}

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("cannot reach the agent's speed test")]
    Dial(#[source] io::Error),
    #[error("the agent refuses the speed test: {0}")]
    Refused(String),
    #[error("the agent's answer is not one of a speed test: {0}")]
    Answer(String),
    #[error("the speed test broke off")]
    Broken(#[source] io::Error),
    #[error("the agent does not end its speed test")]
    Endless,
}

fn explain(error: TestError, direction: Direction) -> CommandError {
    let kind = match &error {
        TestError::Dial(cause) if cause.kind() == io::ErrorKind::TimedOut => Kind::Timeout,
        TestError::Dial(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => Kind::Remote,
        TestError::Dial(_) | TestError::Broken(_) => Kind::Tunnel,
        TestError::Refused(_) => Kind::Remote,
        TestError::Answer(_) | TestError::Endless => Kind::Protocol,
    };
    let hint = match &error {
        TestError::Dial(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
            Some("agents since 2022 have one on port 3: the workspace may have a firewall")
        }
        TestError::Dial(_)
        | TestError::Refused(_)
        | TestError::Answer(_)
        | TestError::Broken(_)
        | TestError::Endless => None,
    };
    let error = anyhow::Error::new(error).context(format!("no {direction} could be measured"));
    let error = CommandError::new(kind, error);
    hint.into_iter().fold(error, CommandError::hint)
}

/// One test in one direction.
async fn test(
    tunnel: &dyn Tunnel,
    direction: Direction,
    time: Duration,
) -> Result<Measured, TestError> {
    let stream = tunnel.dial(PORT).await.map_err(TestError::Dial)?;
    let mut stream = BufReader::with_capacity(PIECE, stream);
    ask(&mut stream, direction, time).await?;
    match direction {
        Direction::Down => download(&mut stream, time).await,
        Direction::Up => upload(&mut stream, time).await,
    }
}

async fn ask(
    stream: &mut BufReader<Box<dyn Stream>>,
    direction: Direction,
    time: Duration,
) -> Result<(), TestError> {
    let question = Question {
        version: VERSION,
        time: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        direction: match direction {
            Direction::Down => 0,
            Direction::Up => 1,
        },
    };
    let broken = TestError::Broken;
    let mut line = serde_json::to_vec(&question).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    let answered = async {
        stream.write_all(&line).await?;
        stream.flush().await?;
        line.clear();
        // What follows the line is data already, and stays in the buffer.
        (&mut *stream).take(MAX_ANSWER).read_until(b'\n', &mut line).await
    };
    let answered = timeout_at(Instant::now() + PATIENCE, answered).await;
    answered.map_err(|_| broken(io::ErrorKind::TimedOut.into()))?.map_err(broken)?;
    let answer: Answer = serde_json::from_slice(&line).map_err(|error| {
        let shown = String::from_utf8_lossy(&line[..line.len().min(64)]).into_owned();
        TestError::Answer(format!("{error} in {}", crate::ui::quoted(shown.trim_end())))
    })?;
    if answer.error.is_empty() {
        return Ok(());
    }
    Err(TestError::Refused(escape(answer.error.lines().next().unwrap_or_default()).into_owned()))
}

async fn download(
    stream: &mut BufReader<Box<dyn Stream>>,
    time: Duration,
) -> Result<Measured, TestError> {
    let mut meter = Meter::start(Instant::now());
    // As long as upstream waits for the sender to end.
    let deadline = Instant::now() + (4 * time).max(PATIENCE);
    loop {
        let read = timeout_at(deadline, stream.fill_buf()).await;
        let read = read.map_err(|_| TestError::Endless)?.map_err(TestError::Broken)?.len();
        if read == 0 {
            return Ok(meter.end(Instant::now()));
        }
        stream.consume(read);
        meter.add(read, Instant::now());
    }
}

async fn upload(
    stream: &mut BufReader<Box<dyn Stream>>,
    time: Duration,
) -> Result<Measured, TestError> {
    let mut meter = Meter::start(Instant::now());
    let (end, piece) = (Instant::now() + time, vec![0; PIECE]);
    while let Ok(wrote) = timeout_at(end, stream.write(&piece)).await {
        meter.add(wrote.map_err(TestError::Broken)?, Instant::now());
        if Instant::now() >= end {
            break;
        }
    }
    let last = Instant::now() + (4 * time).max(PATIENCE);
    let taken = async {
        stream.shutdown().await?;
        // The agent closes when it has read everything. How it closes does not matter: what we
        // sent was acknowledged before.
        match stream.read(&mut [0; 1]).await {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    };
    timeout_at(last, taken).await.map_err(|_| TestError::Endless)?.map_err(TestError::Broken)?;
    Ok(meter.end(Instant::now()))
}

/// A direction that was measured.
struct Test {
    direction: Direction,
    before: Path,
    after: Path,
    measured: Measured,
}

impl Test {
    fn table(&self, columns: &[Column]) -> String {
        let moved = match self.before == self.after {
            true => String::new(),
            false => format!(", at the end {}", self.after),
        };
        let mut text = format!("{} {}{moved}\n", self.direction, self.before);
        let row = |cells: [String; 2]| {
            let chosen = columns.iter().map(|column| match column {
                Column::Interval => format!("{:<18}", cells[0]),
                Column::Throughput => format!("{:>16}", cells[1]),
            });
            format!("  {}\n", chosen.collect::<Vec<_>>().join("  ").trim_end())
        };
        text += &row(["INTERVAL".to_owned(), "THROUGHPUT".to_owned()]);
        for interval in &self.measured.intervals {
            text += &row(cells("", interval));
        }
        text + &row(cells("total ", &self.measured.overall))
    }

    fn document(&self) -> TestDocument<'_> {
        TestDocument {
            path: report::Path::of(&self.before),
            path_at_end: report::Path::of(&self.after),
            overall: IntervalDocument::of(&self.measured.overall),
            intervals: self.measured.intervals.iter().map(IntervalDocument::of).collect(),
        }
    }
}

fn cells(prefix: &str, interval: &Interval) -> [String; 2] {
    let (start, end) = (interval.start.as_secs_f64(), interval.end.as_secs_f64());
    [
        format!("{prefix}{start:.2}-{end:.2} s"),
        format!("{:.2} Mbit/s", interval.megabits_per_second()),
    ]
}

#[derive(Serialize)]
struct Document<'a> {
    workspace: &'a str,
    download: Option<TestDocument<'a>>,
    upload: Option<TestDocument<'a>>,
}

#[derive(Serialize)]
struct TestDocument<'a> {
    path: report::Path<'a>,
    path_at_end: report::Path<'a>,
    overall: IntervalDocument,
    intervals: Vec<IntervalDocument>,
}

#[derive(Serialize)]
struct IntervalDocument {
    start_time_seconds: f64,
    end_time_seconds: f64,
    throughput_mbits: f64,
}

impl IntervalDocument {
    fn of(interval: &Interval) -> Self {
        Self {
            start_time_seconds: interval.start.as_secs_f64(),
            end_time_seconds: interval.end.as_secs_f64(),
            throughput_mbits: interval.megabits_per_second(),
        }
    }
}

#[cfg(test)]
mod tests;
