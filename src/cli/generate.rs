use std::{fs, path::PathBuf};

use clap_complete::Shell;

use super::command;
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

/// Write completions and man pages, as they are committed to the repository
#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory that gets `completions/` and `man/`
    directory: PathBuf,
}

/// The shells that completions are written for, and their files.
const COMPLETIONS: [(Shell, &str); 5] = [
    (Shell::Bash, "coderctl.bash"),
    (Shell::Zsh, "_coderctl"),
    (Shell::Fish, "coderctl.fish"),
    (Shell::PowerShell, "coderctl.ps1"),
    (Shell::Elvish, "coderctl.elv"),
];

pub(super) fn run(args: &Args, ui: &Ui) -> Result<u8, CommandError> {
    let failed = |error| CommandError::new(Kind::Other, anyhow::Error::new(error));
    let completions = args.directory.join("completions");
    fs::create_dir_all(&completions).map_err(failed)?;
    for (shell, file) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command(), "coderctl", &mut text);
        fs::write(completions.join(file), text).map_err(failed)?;
    }
    let man = args.directory.join("man");
    fs::create_dir_all(&man).map_err(failed)?;
    clap_mangen::generate_to(command(), &man).map_err(failed)?;
    ui.line(format_args!("wrote {}", args.directory.display()));
    Ok(0)
}
