//! Something to wait for.

use std::{
    fmt,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::OFlags;

/// The name of a pipe that nobody writes to: whoever reads it waits until this is dropped, and ends
/// then, whosever child it has become meanwhile.
pub struct Never(PathBuf);

impl Never {
    /// One in this directory, which has no other.
    pub fn within(directory: &Path) -> Self {
        let path = directory.join("never");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl Drop for Never {
    fn drop(&mut self) {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        // It fails when nobody reads.
        let _ = OpenOptions::new().write(true).custom_flags(flags).open(&self.0);
    }
}
