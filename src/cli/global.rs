//! Flags that every command takes, anywhere on the line until `--`.

use std::path::PathBuf;

use clap::ArgAction;

use super::spelling;
use crate::{
    api::Token,
    error::{CommandError, Kind},
    ui::{self, Ui},
};

/// The flags themselves, as typed.
#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// URL of the Coder deployment
    #[arg(long, env = "CODER_URL", global = true, value_name = "URL")]
    pub url: Option<String>,

    /// Session token; the variable keeps it out of the process list
    #[arg(long, env = "CODER_SESSION_TOKEN", global = true, value_name = "TOKEN")]
    pub token: Option<Token>,

    /// Directory of the login, shared with the `coder` client
    #[arg(long, env = "CODER_CONFIG_DIR", global = true, value_name = "DIR")]
    pub global_config: Option<PathBuf>,

    /// Command that prints further headers, one NAME=VALUE per line; run with `sh -c`
    #[arg(long, env = "CODER_HEADER_COMMAND", global = true, value_name = "COMMAND")]
    pub header_command: Option<String>,

    /// Certificates (PEM) to trust instead of the system's
    #[arg(long, env = "CODER_CLIENT_TLS_CA_FILE", global = true, value_name = "FILE")]
    pub client_tls_ca_file: Option<PathBuf>,

    /// Certificate (PEM) to show to the server
    #[arg(long, env = "CODER_CLIENT_TLS_CERT_FILE", global = true, value_name = "FILE")]
    pub client_tls_cert_file: Option<PathBuf>,

    /// Key (PEM) of that certificate
    #[arg(long, env = "CODER_CLIENT_TLS_KEY_FILE", global = true, value_name = "FILE")]
    pub client_tls_key_file: Option<PathBuf>,

    /// Use the relay only, never a direct path
    #[arg(long, env = "CODER_DISABLE_DIRECT_CONNECTIONS", global = true, hide_short_help = true)]
    pub disable_direct_connections: bool,

    /// Accepted; no telemetry is ever sent
    #[arg(long, env = "CODER_DISABLE_NETWORK_TELEMETRY", global = true, hide_short_help = true)]
    pub disable_network_telemetry: bool,

    /// Do not warn about a server that is too old
    #[arg(long, env = "CODER_NO_VERSION_WARNING", global = true, hide_short_help = true)]
    pub no_version_warning: bool,

    /// Do not show warnings about the server's licence
    #[arg(long, env = "CODER_NO_FEATURE_WARNING", global = true, hide_short_help = true)]
    pub no_feature_warning: bool,

    /// Accepted; logins are kept in files only
    #[arg(
        long,
        env = "CODER_USE_KEYRING",
        global = true,
        hide_short_help = true,
        default_value = "true"
    )]
    pub use_keyring: bool,

    /// Behave as if stdin, stdout and stderr were terminals
    #[arg(long, env = "CODER_FORCE_TTY", global = true, hide_short_help = true)]
    pub force_tty: bool,

    /// Never open a browser
    #[arg(long, env = "CODER_NO_OPEN", global = true, hide = true)]
    pub no_open: bool,

    /// Show steps with their durations; twice for debug logs
    #[arg(short, long, env = "CODER_VERBOSE", global = true,
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide_possible_values = true, value_parser = spelling::boolean, value_name = "BOOL",
          action = ArgAction::Append)]
    pub verbose: Vec<bool>,

    /// Say nothing but warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Tell what happens as JSON, one object on a line, instead of text (docs/events.schema.json)
    #[arg(
        long,
        env = "CODERCTL_EVENTS",
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_short_help = true
    )]
    pub events: Option<EventFormat>,

    /// Inherited descriptor for that; text stays on stderr then
    #[arg(long, global = true, value_name = "NUMBER", requires = "events", hide_short_help = true)]
    pub events_fd: Option<u32>,

    /// Time limit of each request to the server
    #[arg(long, env = "CODERCTL_HTTP_TIMEOUT", global = true, hide = true, value_name = "DURATION",
          value_parser = spelling::duration)]
    pub http_timeout: Option<std::time::Duration>,
}

impl Global {
    /// 0, 1 for `-v`, 2 for `-vv`; `--verbose=false` starts over.
    pub(super) fn verbosity(&self) -> usize {
        self.verbose.iter().rev().take_while(|on| **on).count()
    }

    /// How to speak to the user.
    pub(super) fn ui_options(&self) -> ui::Options {
        let events = self.events.map(|EventFormat::Json| match self.events_fd {
            Some(number) => ui::Events::Descriptor(number),
            None => ui::Events::Stderr,
        });
        let (quiet, verbose) = (self.quiet, self.verbosity() > 0);
        ui::Options { quiet, verbose, force_tty: self.force_tty, events }
    }

    /// The way to the user.
    pub(super) fn ui(&self) -> Result<Ui, CommandError> {
        Ui::new(self.ui_options()).map_err(|error| {
            let number = self.events_fd.unwrap_or_default();
            let what = format!("cannot write to descriptor {number} of --events-fd");
            CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
                .hint("open it for writing in the calling shell, e.g. 3>events")
        })
    }
}

/// What events are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EventFormat {
    /// One object on a line
    Json,
}

/// Headers for every request, a list that grows wherever on the line it is given.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Global options")]
pub(super) struct Headers {
    /// Header for every request, as `name=value`; repeatable [env: CODER_HEADER]
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub header: Vec<String>,
}

/// `-o`: how data is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    #[default]
    Table,
    Json,
}

/// `-o` where there is no table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TextOrJson {
    #[default]
    Text,
    Json,
}

/// The variable behind a list, which adds to the list; not UTF-8 is wrong usage.
pub(super) fn list(name: &str, occurrences: &[String]) -> Result<Vec<String>, CommandError> {
    let usage = |why: String| CommandError::msg(Kind::Usage, why);
    let variable = match std::env::var(name) {
        Ok(value) => Some(value),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(usage(format!("variable {name} is not UTF-8")));
        }
    };
    spelling::list(variable.as_deref(), occurrences)
        .map_err(|why| usage(format!("invalid list in {name} or its flag: {why}")))
}
