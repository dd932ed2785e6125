//! The command line: one file per subcommand.

pub mod target;

use std::process::ExitCode;

/// What every command that talks to a deployment has: where it is and how to reach it.
pub struct Session {}

/// Parses, runs, maps the outcome to an exit code.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
