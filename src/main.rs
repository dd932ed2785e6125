//! `coderctl`: a tunneling client for Coder workspaces.

use std::process::ExitCode;

fn main() -> ExitCode {
    coderctl::cli::main()
}
