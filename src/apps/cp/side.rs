//! The two sides of a copy: files here, and files in the workspace.
//!
//! Below what was named on the command line nothing is reached through a symbolic link, and no
//! name is more than one step: what the other side tells leads nowhere else.

use bytes::Bytes;

use super::spec::shown;
use crate::{apps::sftp::SftpError, error::CommandError};

/// A name in a directory: not empty, neither `.` nor `..`, without a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(Bytes);

/// Longest name, in bytes: more than any file system has.
const LONGEST: usize = 4096;

impl Name {
    /// `None` for what is no name.
    pub(super) fn new(name: Bytes) -> Option<Self> {
        let odd = matches!(&name[..], b"" | b"." | b"..")
            || name.len() > LONGEST
            || name.contains(&b'/')
            || name.contains(&0);
        (!odd).then_some(Self(name))
    }

    /// That of a file which is not whole yet.
    pub(super) fn part(id: u64) -> Self {
        Self(format!(".coderctl-{id:016x}.part").into())
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub(super) fn text(&self) -> String {
        shown(&self.0)
    }
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: Kind,
    /// In bytes; of a file only.
    pub size: u64,
    pub kept: Kept,
}

/// What may be preserved of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Read, write and execute, for owner, group and others: no more than nine bits.
    pub mode: u32,
    /// Last access and last change, in seconds since 1970.
    pub times: (u32, u32),
}

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    /// Sockets, devices and the like.
    Other,
}

impl Entry {
    /// From what a `stat` says.
    pub(super) fn new(mode: u32, size: u64, times: (u32, u32)) -> Self {
        let kind = match mode & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Link,
            _ => Kind::Other,
        };
        Self { kind, size, kept: Kept { mode: mode & 0o777, times } }
    }
}

/// Why something was not copied.
#[derive(Debug)]
pub(super) enum Failure {
    /// It alone; others may go better.
    One(String),
    /// Nothing more can be copied.
    All(CommandError),
}

impl From<SftpError> for Failure {
    fn from(error: SftpError) -> Self {
        match error {
            SftpError::Refused { .. } => Self::One(error.to_string()),
            SftpError::Lost(_) | SftpError::Broken(_) => Self::All(error.into()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::One(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        std::io::Error::from(error).into()
    }
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Files of one side. What is done is done without waiting for others, so many may be under way.
pub(super) trait Side: Send + Sync {
    /// A directory that was reached.
    type Place: Clone + Send + Sync;
    /// An open file.
    type File: Send + Sync;

    /// Most bytes of one read or write.
    fn chunk(&self) -> usize;

    /// Something in a directory, as messages have it.
    fn show(&self, at: &Self::Place, name: &Name) -> String;

    /// What is at a path that was typed; links are followed.
    fn look(&self, path: &[u8]) -> impl Future<Output = Result<Option<Entry>>> + Send;

    /// The directory at a path that was typed.
    fn place(&self, path: &[u8]) -> impl Future<Output = Result<Self::Place>> + Send;

    /// A directory in a directory.
    fn enter(
        &self,
        at: &Self::Place,
        name: &Name,
    ) -> impl Future<Output = Result<Self::Place>> + Send;

    /// What is in a directory, as it is: in no order, without `.` and `..`, and only so many.
    fn list(&self, at: &Self::Place) -> impl Future<Output = Result<Vec<(Name, Entry)>>> + Send;

    /// What has this name, a link itself; none if nothing has.
    fn find(
        &self,
        at: &Self::Place,
        name: &Name,
    ) -> impl Future<Output = Result<Option<Entry>>> + Send;

    /// Makes a directory, which may be there already, and enters it.
    fn make_directory(
        &self,
        at: &Self::Place,
        name: &Name,
        mode: u32,
    ) -> impl Future<Output = Result<Self::Place>> + Send;

    /// Opens a file to be read; `follow` one that was typed.
    fn open(
        &self,
        at: &Self::Place,
        name: &Name,
        follow: bool,
    ) -> impl Future<Output = Result<Self::File>> + Send;

    /// Some bytes of a file, none at its end.
    fn read(
        &self,
        file: &Self::File,
        offset: u64,
        length: usize,
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Makes a file to be written, with how many bytes it has: only one that is to be gone on with
    /// may be there already.
    fn create(
        &self,
        at: &Self::Place,
        name: &Name,
        mode: u32,
        go_on: bool,
    ) -> impl Future<Output = Result<(Self::File, u64)>> + Send;

    /// Writes bytes of a file.
    fn write(
        &self,
        file: &Self::File,
        offset: u64,
        data: Bytes,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Closes a file, after setting what is to be preserved.
    fn close(
        &self,
        file: Self::File,
        keep: Option<Kept>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Gives a file its last name, in place of what has it, or only if nothing has.
    fn rename(
        &self,
        at: &Self::Place,
        from: &Name,
        to: &Name,
        replace: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Removes a file.
    fn remove(&self, at: &Self::Place, name: &Name) -> impl Future<Output = Result<()>> + Send;

    /// Where a link leads.
    fn read_link(
        &self,
        at: &Self::Place,
        name: &Name,
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Makes a link.
    fn make_link(
        &self,
        at: &Self::Place,
        name: &Name,
        target: Bytes,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Preserves what was said of a directory.
    fn keep(&self, at: &Self::Place, keep: Kept) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["", ".", "..", "a/b", "/", "/etc/passwd", "../x", "a\0b"] {
            assert_eq!(Name::new(Bytes::from_static(name.as_bytes())), None, "{name:?}");
        }
        assert_eq!(Name::new(vec![b'x'; LONGEST + 1].into()), None);
        for name in [&b"a"[..], b"...", b"-rf", b"a\nb", b"\xff", b"~", b"$(x)"] {
            assert!(Name::new(Bytes::copy_from_slice(name)).is_some(), "{name:?}");
        }
    }
}
