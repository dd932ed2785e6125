use std::{path::PathBuf, time::Duration};

use super::{
    Environment, Session,
    global::{Headers, Output},
    spelling,
    target::Target,
};
use crate::{
    apps::speedtest::{Column, Direction, Options, SpeedTest},
    error::{CommandError, Kind},
    tunnel::{self, Request},
    ui::quoted,
};

/// Longest test: agents refuse more, and what thirty seconds do not show, more do not either
/// (tailscale: net/speedtest, `MaxDuration`).
const LONGEST: Duration = Duration::from_secs(30);

/// Shortest test: below, the start of a connection is all that is measured.
const SHORTEST: Duration = Duration::from_millis(100);

/// Measure how much the tunnel to a workspace carries
///
/// One TCP stream in each direction, by the path in use: a relay, or directly. The workspace is
/// not started.
///
/// With -o json it is one object: workspace, download and upload, each null or an object of path
/// (kind, relay, address), path_at_end, overall, and intervals, an array; overall and each interval
/// are start_time_seconds, end_time_seconds and throughput_mbits. Fields may be added, never
/// removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// What to measure
    #[arg(long, value_enum, default_value = "both", value_name = "DIRECTION")]
    direction: DirectionArg,

    /// How long each direction is measured, up to 30s
    #[arg(short, long, default_value = "5s", value_name = "DURATION",
          value_parser = spelling::duration)]
    time: Duration,

    /// Wait for a direct path first, up to half a minute
    #[arg(short, long)]
    direct: bool,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    /// Columns of the table, separated by commas
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',', value_parser = column,
          default_value = "interval,throughput")]
    column: Vec<Column>,

    /// Capture of packets; not supported
    #[arg(long, value_name = "FILE", hide = true)]
    pcap_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) headers: Headers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DirectionArg {
    Down,
    Up,
    Both,
}

fn column(text: &str) -> Result<Column, String> {
    match text.trim().to_lowercase().as_str() {
        "interval" => Ok(Column::Interval),
        "throughput" => Ok(Column::Throughput),
        _ => Err(format!("{} is none of interval, throughput", quoted(text))),
    }
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    if args.pcap_file.is_some() {
        return Err(CommandError::msg(Kind::Usage, "--pcap-file is not supported"));
    }
    if !(SHORTEST..=LONGEST).contains(&args.time) {
        return Err(CommandError::msg(
            Kind::Usage,
            format!("--time is between {SHORTEST:?} and {LONGEST:?}, not {:?}", args.time),
        ));
    }
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let app = SpeedTest::new(Options {
        workspace: args.workspace,
        directions: match args.direction {
            DirectionArg::Down => vec![Direction::Down],
            DirectionArg::Up => vec![Direction::Up],
            DirectionArg::Both => vec![Direction::Down, Direction::Up],
        },
        time: args.time,
        direct: args.direct,
        json: args.output == Output::Json,
        columns: args.column,
    });
    tunnel::run(&session, &environment.ui, Request::look(target, Box::new(app))).await
}
