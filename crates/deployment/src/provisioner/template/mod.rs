//! A template: what a workspace is made of, as a TOML file.
//!
//! A workspace is a directory; its agents run there. The file says which agents, which scripts,
//! how a build goes, which builds go wrong, and which workspaces are built ahead. Every key is
//! optional except the names, the texts of scripts and errors, and what a table would be empty
//! without. A key that is not in this description is an error, which names its line. A workspace
//! without agents, which nobody can connect to, is asked for by `agents = []`.
//!
//! ```toml
//! # What people see; neither changes what is built.
//! description = "A project with a database"
//! icon = "/icon/database.svg"
//!
//! # An agent: letters, digits and single dashes, at most 32 characters.
//! [[agents]]
//! name = "main"
//! directory = "project"              # below the workspace's directory; sessions begin here
//! environment = { EDITOR = "vi" }    # for sessions and scripts; $VAR is expanded by the agent
//! motd = "motd.txt"                  # a file whose text greets interactive shells
//! connection_timeout = "2m"          # after that, an agent that never connected has timed out
//! troubleshooting_url = "https://example.com/help"
//!
//! # A script, run by `sh -c` (or by the interpreter of its first line, `#!…`). It runs at the
//! # start unless `on = "stop"` or a `cron` says otherwise.
//! [[agents.scripts]]
//! name = "install"
//! run = "echo installing"
//! on = "start"                       # "start" or "stop"
//! blocks_login = true                # `ssh` waits for it; only for scripts of the start
//! timeout = "30s"                    # none by default
//!
//! [[agents.scripts]]
//! name = "sweep"
//! run = "find tmp -mtime +1 -delete"
//! cron = "0 */5 * * * *"             # five fields, or six with seconds first; in place of `on`
//!
//! # A value that the agent reports again and again.
//! [[agents.metadata]]
//! key = "load"                       # letters, digits, dashes, underscores
//! name = "Load average"              # for people; the key by default
//! run = "cut -d' ' -f1 /proc/loadavg"
//! interval = "10s"
//! timeout = "2s"
//!
//! # An application, shown beside the workspace, and checked where it has a healthcheck.
//! [[agents.apps]]
//! slug = "web"
//! name = "Web"
//! url = "http://localhost:8080"      # or `command = "top"`, which opens in a terminal
//! healthcheck = { url = "http://localhost:8080/healthz", interval = "5s", threshold = 3 }
//!
//! # The steps of a build: of one that starts, stops or deletes a workspace. Without steps a build
//! # has none but the work itself. A step writes its log lines at once, then takes its time.
//! [[start]]
//! stage = "Planning"
//! duration = "250ms"
//! log = [
//!     "an info line",
//!     { level = "warn", text = "trace, debug, info, warn or error" },
//! ]
//!
//! [[stop]]
//! stage = "Cleaning up"
//!
//! # A failure: the build ends with this error. `step` counts from 1 and fails before the step's
//! # time is over; without it the build fails after its last step. `kind` limits it to ordinary
//! # builds, builds ahead ("prebuild") or claims; `build` to one build number of each workspace.
//! [[failures]]
//! transition = "start"
//! step = 1
//! kind = "claim"
//! build = 2
//! error = "no capacity left"
//!
//! # A parameter, seen by sessions and scripts as the variable `PARAMETER_` + its name in capitals.
//! [[parameters]]
//! name = "size"
//! description = "How large"
//! default = "small"                  # without one, whoever creates a workspace must name a value
//! options = ["small", "large"]       # any text by default
//! mutable = true                     # a later build may change it; false by default
//!
//! # A named set of parameters, and how many workspaces are kept built ahead for it.
//! [[presets]]
//! name = "small"
//! default = true                     # at most one; marked for people
//! parameters = { size = "small" }
//! prebuilds = 2                      # none by default
//! ```
//!
//! Durations are Go's: `1h30m`, `250ms`, `10s`.

mod check;
mod values;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{LogLevel, PrebuildStage, Transition};

pub use check::TemplateError;
pub use values::{Cron, Name, Span};

/// Bytes of a template file, 256 KiB: a hundred times the longest example.
pub const MAX_TEMPLATE: usize = 256 * 1024;

/// The template of `demo` and `--workspace`: one agent, `main`, without scripts.
pub const BUILT_IN: &str =
    "description = \"One agent, no scripts\"\n\n[[agents]]\nname = \"main\"\n";

/// The built-in template's name.
pub const BUILT_IN_NAME: &str = "built-in";

/// A template.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people: a path or URL.
    #[serde(default)]
    pub icon: String,
    /// What a started workspace has.
    pub agents: Vec<Agent>,
    /// Steps of a build that starts.
    #[serde(default)]
    pub start: Vec<Step>,
    /// Steps of a build that stops.
    #[serde(default)]
    pub stop: Vec<Step>,
    /// Steps of a build that deletes.
    #[serde(default)]
    pub delete: Vec<Step>,
    /// Builds that go wrong.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// What may be chosen.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Named choices, and how many workspaces are built ahead.
    #[serde(default)]
    pub presets: Vec<Preset>,
}

/// An agent of a workspace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name.
    pub name: Name,
    /// Where its sessions begin, below the workspace's directory.
    #[serde(default)]
    pub directory: String,
    /// Variables of its sessions and scripts.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// A file that greets interactive shells; empty means none.
    #[serde(default)]
    pub motd: String,
    /// When an agent that never connected has timed out.
    #[serde(default = "values::two_minutes")]
    pub connection_timeout: Span,
    /// Where people find help when it does not connect.
    #[serde(default)]
    pub troubleshooting_url: String,
    /// What it runs.
    #[serde(default)]
    pub scripts: Vec<Script>,
    /// What it reports.
    #[serde(default)]
    pub metadata: Vec<Metadata>,
    /// What is shown beside it.
    #[serde(default)]
    pub apps: Vec<App>,
}

/// When a script runs, besides cron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// When the agent starts.
    #[default]
    Start,
    /// When it shuts down.
    Stop,
}

/// A script of an agent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// For people, and the name of its log.
    pub name: String,
    /// The script.
    pub run: String,
    /// When it runs; not together with `cron`.
    pub on: Option<Occasion>,
    /// A schedule; not together with `on`.
    pub cron: Option<Cron>,
    /// Whether a login waits for it.
    #[serde(default)]
    pub blocks_login: bool,
    /// How long it may take; zero means as long as it likes.
    #[serde(default)]
    pub timeout: Span,
}

impl Script {
    /// When it runs; `None` is on its schedule only.
    #[must_use]
    pub fn occasion(&self) -> Option<Occasion> {
        match self.cron {
            Some(_) => None,
            None => Some(self.on.unwrap_or_default()),
        }
    }
}

/// A value that an agent reports.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Its key.
    pub key: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// The script whose output it is.
    pub run: String,
    /// Time between two runs.
    #[serde(default = "values::ten_seconds")]
    pub interval: Span,
    /// How long a run may take.
    #[serde(default = "values::ten_seconds")]
    pub timeout: Span,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name in URLs.
    pub slug: Name,
    /// For people; the slug by default.
    #[serde(default)]
    pub name: String,
    /// Where it listens.
    #[serde(default)]
    pub url: String,
    /// What a terminal runs.
    #[serde(default)]
    pub command: String,
    /// How its health is found out.
    pub healthcheck: Option<Healthcheck>,
}

/// How an application's health is found out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healthcheck {
    /// What is asked for.
    pub url: String,
    /// Time between two checks.
    #[serde(default = "values::ten_seconds")]
    pub interval: Span,
    /// Failures in a row that are forgiven.
    #[serde(default = "values::three")]
    pub threshold: u16,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, under which its lines are shown.
    pub stage: String,
    /// What it says, at once.
    #[serde(default)]
    pub log: Vec<Line>,
    /// How long it takes afterwards.
    #[serde(default)]
    pub duration: Span,
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "values::AnyLine")]
pub struct Line {
    /// How loud.
    pub level: LogLevel,
    /// What.
    pub text: String,
}

/// Why a build is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody asked for it.
    Ordinary,
    /// Nobody has asked for it yet.
    Prebuild,
    /// Somebody asked for a workspace that was built ahead.
    Claim,
}

impl From<PrebuildStage> for Kind {
    fn from(stage: PrebuildStage) -> Self {
        match stage {
            PrebuildStage::None => Self::Ordinary,
            PrebuildStage::Create => Self::Prebuild,
            PrebuildStage::Claim => Self::Claim,
        }
    }
}

/// A build that goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Builds with this transition.
    pub transition: Transition,
    /// The step at which it fails, from 1; after the last one when absent.
    pub step: Option<usize>,
    /// Builds of this kind; all when absent.
    pub kind: Option<Kind>,
    /// Builds with this number; all when absent.
    pub build: Option<i32>,
    /// The build's error.
    pub error: String,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its value when none is named.
    pub default: Option<String>,
    /// The only values it may have; any when empty.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether a later build may change it.
    #[serde(default)]
    pub mutable: bool,
}

impl Parameter {
    /// The variable under which sessions and scripts see it.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.name.chars().map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_ascii_uppercase(),
            _ => '_',
        });
        format!("PARAMETER_{}", name.collect::<String>())
    }
}

/// A named choice of parameters.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// The one that is offered first.
    #[serde(default)]
    pub default: bool,
    /// Values of parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// How many workspaces are kept built ahead.
    #[serde(default)]
    pub prebuilds: usize,
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        check::parse(text)
    }

    /// The steps of a build.
    #[must_use]
    pub fn steps(&self, transition: Transition) -> &[Step] {
        match transition {
            Transition::Start => &self.start,
            Transition::Stop => &self.stop,
            Transition::Delete => &self.delete,
        }
    }

    /// How this build fails, if it does: the number of the step, from 0 (the number of steps
    /// means after the last one), and the error.
    #[must_use]
    pub fn failure(&self, transition: Transition, kind: Kind, build: i32) -> Option<(usize, &str)> {
        let steps = self.steps(transition).len();
        self.failures
            .iter()
            .filter(|failure| {
                failure.transition == transition
                    && failure.kind.is_none_or(|wanted| wanted == kind)
                    && failure.build.is_none_or(|wanted| wanted == build)
            })
            .map(|failure| {
                (failure.step.map_or(steps, |step| step.saturating_sub(1)), failure.error.as_str())
            })
            .min_by_key(|(step, _)| *step)
    }

    /// The value of every parameter, from what was named; the named ones must be
    /// [checked](Self::check_parameters) before.
    #[must_use]
    pub fn parameter_values(&self, named: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        self.parameters
            .iter()
            .filter_map(|parameter| {
                let value = named.get(&parameter.name).or(parameter.default.as_ref())?;
                Some((parameter.name.clone(), value.clone()))
            })
            .collect()
    }

    /// Whether these values are all that a workspace needs, and no others.
    ///
    /// # Errors
    /// The first that is unknown, missing, or not among its options.
    pub fn check_parameters(&self, named: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        check::parameters(self, named)
    }
}

#[cfg(test)]
mod tests;
