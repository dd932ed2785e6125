use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    Environment, Session,
    global::{Headers, Output},
    spelling,
    target::Target,
};
use crate::{
    apps::ping::{Options, Ping},
    error::CommandError,
    tunnel::{self, Request},
};

/// Measure round trips to a workspace, and show the way they take
///
/// Each ping goes through the tunnel to the workspace's agent and back, by a relay or directly. The
/// workspace is not started. The exit code is 0 when at least one ping was answered, 211 when none
/// was.
///
/// With -o json it is one object, at the end: workspace, sent, received, min_ms, p50_ms, avg_ms,
/// max_ms, stddev_ms (null without an answer); paths, an array of the ways in the order in which
/// they were found: kind (relay, direct or none), relay, address, found_after_ms; and pings, an array of
/// number, latency_ms, error and path. Fields may be added, never removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// How many pings; without it until interrupted
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    num: Option<u64>,

    /// Time limit of each ping
    #[arg(short, long, default_value = "5s", value_name = "DURATION",
          value_parser = spelling::duration)]
    timeout: Duration,

    /// Pause between two pings
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = spelling::duration)]
    wait: Duration,

    /// Begin each line with the local time
    #[arg(long)]
    time: bool,

    /// Begin each line with the time, in UTC
    #[arg(long)]
    utc: bool,

    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let app = Ping::new(Options {
        workspace: args.workspace,
        count: args.num,
        timeout: args.timeout,
        wait: args.wait,
        time: match (args.utc, args.time) {
            (true, _) => Some(TimeZone::UTC),
            (false, true) => Some(TimeZone::system()),
            (false, false) => None,
        },
        json: args.output == Output::Json,
    });
    tunnel::run(&session, &environment.ui, Request::look(target, Box::new(app))).await
}
