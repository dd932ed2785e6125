//! The file of `--log-dir`.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    apps::network_info,
    error::{CommandError, Kind},
};

/// Its name. Editor extensions find it by that: the parent of a ProxyCommand is the `ssh` that they
/// look for.
pub(in crate::cli) fn named(directory: &Path, of_parent: bool) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let letters: String =
        uuid::Uuid::new_v4().as_bytes()[..5].iter().map(|b| char::from(b'a' + b % 26)).collect();
    let parent = if of_parent { format!("-{}", network_info::parent()) } else { String::new() };
    directory.join(format!("coder-ssh-{now}-{letters}{parent}.log"))
}

/// Creates it, for this user alone.
pub(in crate::cli) fn create(path: &Path) -> Result<fs::File, CommandError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| {
        let what = format!("cannot create the log file {}", path.display());
        CommandError::new(Kind::Other, anyhow::Error::new(error).context(what))
            .hint("--log-dir names a directory that exists and can be written")
    })
}
