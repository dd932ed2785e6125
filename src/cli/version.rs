use std::{ffi::OsString, process::ExitCode};

use super::{global::TextOrJson, write_data};
use crate::{error::CommandError, ui::Ui};

/// Show the version
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: TextOrJson,
}

/// Answers `--version` alone, the question that scripts ask most, before the whole command line
/// is set up for it: that takes as long as everything else (measured).
pub(super) fn asked_alone(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let alone = arguments.next()? == "--version" && arguments.next().is_none();
    if !alone {
        return None;
    }
    let outcome = run(&Args { output: TextOrJson::Text }, &Ui::default());
    Some(ExitCode::from(outcome.unwrap_or_else(|error| error.kind.code())))
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<u8, CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    match args.output {
        TextOrJson::Text => write_data(ui, &format!("coderctl {version}\n")),
        TextOrJson::Json => {
            write_data(ui, &format!("{}\n", serde_json::json!({ "version": version })))
        }
    }
}
