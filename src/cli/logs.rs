use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use super::{
    Environment, Session,
    global::{Headers, TextOrJson},
    target::Target,
    until_signal, write_data,
};
use crate::{
    api::{Agent, Build, Client, LogLine, Workspace},
    error::{CommandError, Kind},
    tunnel::{choose, resolve, why_over},
    ui::{Ui, escape_json, plain, quoted},
};

/// Show the logs of a workspace's build and of its agents' scripts
///
/// With --follow it goes on as they are written: the build's log to its end, then the agents' until
/// the workspace is built anew.
///
/// With -o json each line is one object: time (RFC 3339 or null), source (build or agent), agent
/// (its name, or null), stage (of the build) or script (its name), level and text. Fields may be
/// added, never removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent (that agent's log alone) or id
    workspace: String,

    /// Go on as they are written
    #[arg(short, long)]
    follow: bool,

    /// Number of the build; 0 is the latest, -1 the one before
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        default_value = "0",
        allow_negative_numbers = true
    )]
    build_number: i64,

    /// How to show them
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: TextOrJson,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let printer = Printer::new(&environment.ui, args.output);
    until_signal(async {
        let client = session.api();
        let mut workspace = resolve(client, &target).await?;
        if let Some(number) = number(args.build_number, workspace.latest_build.build_number)? {
            workspace.latest_build = build(client, &workspace, number).await?;
        }
        let logs = Logs { client, workspace, agent: target.agent };
        if args.follow {
            logs.follow(&printer).await?;
        } else {
            logs.print(&printer).await?;
        }
        printer.end()
    })
    .await
}

/// Which build is meant; `None` for the latest.
fn number(asked: i64, latest: u64) -> Result<Option<u64>, CommandError> {
    let found = match asked {
        0 => return Ok(None),
        1.. => Some(asked.unsigned_abs()),
        _ => latest.checked_sub(asked.unsigned_abs()).filter(|number| *number > 0),
    };
    let none = || {
        let why = format!("there is no build {asked} before build {latest}, which is the latest");
        CommandError::msg(Kind::Usage, why)
    };
    found.map(Some).ok_or_else(none)
}

async fn build(client: &Client, workspace: &Workspace, number: u64) -> Result<Build, CommandError> {
    client.build_by_number(workspace, number).await.map_err(|error| {
        if error.is(http::StatusCode::NOT_FOUND) {
            let name = quoted(&workspace.name);
            let latest = workspace.latest_build.build_number;
            let why = format!("workspace {name} has no build {number}; the latest is {latest}");
            return CommandError::msg(Kind::Usage, why);
        }
        error.into()
    })
}

/// The logs of one build.
struct Logs<'a> {
    client: &'a Client,
    workspace: Workspace,
    /// The agent that was named.
    agent: Option<String>,
}

impl Logs<'_> {
    /// All that there is, in the order in which it was written.
    async fn print(&self, printer: &Printer<'_>) -> Result<(), CommandError> {
        let mut lines = Vec::new();
        if self.agent.is_none() {
            let build = self.client.build_log(self.workspace.latest_build.id).await?;
            lines.extend(build.into_iter().map(|line| (None, line)));
        }
        for agent in self.agents(&self.workspace)? {
            let found = self.client.agent_log(agent.id, &agent.log_names()).await?;
            lines.extend(found.into_iter().map(|line| (Some(agent.name.as_str()), line)));
        }
        lines.sort_by_key(|(_, line)| line.time);
        for (agent, line) in lines {
            printer.print(agent, &line);
        }
        Ok(())
    }

    /// What there is and what comes; ends when nothing can come any more, or nobody reads it.
    async fn follow(&self, printer: &Printer<'_>) -> Result<(), CommandError> {
        let follow = async {
            let mut workspace = self.workspace.clone();
            let build = workspace.latest_build.id;
            if self.agent.is_none() {
                self.client.follow_build_log(build, |line| printer.print(None, &line)).await?;
                // Its agents are known once it is done.
                workspace.latest_build = self.client.build(build).await?;
            }
            let agents = self.agents(&workspace)?.into_iter().map(|agent| async {
                let say = |line: LogLine| printer.print(Some(&agent.name), &line);
                self.client.follow_agent_log(agent.id, &agent.log_names(), say).await
            });
            try_join_all(agents).await?;
            Ok(())
        };
        tokio::select! {
            biased;
            () = printer.failed.notified() => Ok(()),
            result = follow => result,
        }
    }

    fn agents<'w>(&self, workspace: &'w Workspace) -> Result<Vec<&'w Agent>, CommandError> {
        let Some(name) = &self.agent else { return Ok(workspace.agents().collect()) };
        choose(workspace, Some(name)).map(|agent| vec![agent]).map_err(|problem| {
            let unknown = || CommandError::msg(Kind::Agent, "there is no such agent");
            why_over((&problem).into(), &workspace.name).unwrap_or_else(unknown)
        })
    }
}

/// Writes lines until one cannot be written.
struct Printer<'a> {
    ui: &'a Ui,
    output: TextOrJson,
    error: Mutex<Option<CommandError>>,
    failed: Notify,
}

/// A line, as `-o json` shows it.
#[derive(Serialize)]
struct Document<'a> {
    time: Option<Timestamp>,
    source: &'static str,
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<&'a str>,
    level: &'a str,
    text: &'a str,
}

impl<'a> Printer<'a> {
    fn new(ui: &'a Ui, output: TextOrJson) -> Self {
        Self { ui, output, error: Mutex::new(None), failed: Notify::new() }
    }

    fn print(&self, agent: Option<&str>, line: &LogLine) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_some() {
            return;
        }
        let text = match self.output {
            TextOrJson::Text => Ok(text(agent, line)),
            TextOrJson::Json => json(agent, line),
        };
        if let Err(failed) = text.and_then(|text| write_data(self.ui, &text)) {
            *error = Some(failed);
            self.failed.notify_one();
        }
    }

    fn end(&self) -> Result<u8, CommandError> {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(0),
        }
    }
}

/// `2026-11-20T08:30:12.123Z [build|Planning] [info] text`
fn text(agent: Option<&str>, line: &LogLine) -> String {
    let time = line.time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ ").to_string());
    let time = time.unwrap_or_default();
    let who = agent.map_or("build".to_owned(), |agent| format!("agent.{agent}"));
    let said = format!("{time}[{who}|{}] [{}] {}", line.source, line.level, line.output);
    format!("{}\n", plain(&said))
}

fn json(agent: Option<&str>, line: &LogLine) -> Result<String, CommandError> {
    let document = Document {
        time: line.time,
        source: if agent.is_some() { "agent" } else { "build" },
        agent,
        stage: agent.is_none().then_some(&line.source),
        script: agent.is_some().then_some(&line.source),
        level: &line.level,
        text: line.output.trim_end(),
    };
    let json =
        serde_json::to_string(&document).map_err(|error| CommandError::new(Kind::Other, error))?;
    Ok(format!("{}\n", escape_json(&json)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_counted_from_both_ends() {
        for (asked, found) in
            [(0, Some(None)), (2, Some(Some(2))), (-1, Some(Some(4))), (-4, Some(Some(1)))]
        {
            assert_eq!(number(asked, 5).ok(), found, "{asked}");
        }
        for asked in [-5, -6, i64::MIN] {
            assert_eq!(number(asked, 5).unwrap_err().kind, Kind::Usage, "{asked}");
        }
    }
}
