//! What is said of a file, and how it is set.

use std::{
    fs::Metadata,
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

use coderctl_ssh::sftp::Attributes;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};

pub(super) fn of(metadata: &Metadata) -> Attributes {
    // Times before 1970 and after 2106 cannot be said.
    let fit = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    Attributes {
        size: Some(metadata.size()),
        owner: Some((metadata.uid(), metadata.gid())),
        permissions: Some(metadata.mode()),
        times: Some((fit(metadata.atime()), fit(metadata.mtime()))),
    }
}

/// The permissions alone, with a default.
pub(super) fn mode(said: &Attributes, default: u32) -> u32 {
    said.permissions.unwrap_or(default) & 0o7777
}

/// Sets what is said on an open file.
pub(super) fn set(said: &Attributes, file: &std::fs::File) -> io::Result<()> {
    if let Some(size) = said.size {
        file.set_len(size)?;
    }
    if said.permissions.is_some() {
        file.set_permissions(std::fs::Permissions::from_mode(mode(said, 0)))?;
    }
    if let Some(times) = timestamps(said) {
        rustix::fs::futimens(file.as_fd(), &times)?;
    }
    if let Some((user, group)) = said.owner {
        std::os::unix::fs::fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// Sets what is said on what is at a path; `follow` a symbolic link there, or set its own.
pub(super) fn set_at(said: &Attributes, path: &Path, follow: bool) -> io::Result<()> {
    let at = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    if let Some(size) = said.size {
        if !follow {
            return Err(io::ErrorKind::Unsupported.into());
        }
        std::fs::OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if said.permissions.is_some() {
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode(said, 0)), at)?;
    }
    if let Some(times) = timestamps(said) {
        rustix::fs::utimensat(CWD, path, &times, at)?;
    }
    if let Some((user, group)) = said.owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(CWD, path, Some(user), Some(group), at)?;
    }
    Ok(())
}

fn timestamps(said: &Attributes) -> Option<Timestamps> {
    let (accessed, changed) = said.times?;
    let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    Some(Timestamps { last_access: time(accessed), last_modification: time(changed) })
}

/// A line about a file as `ls -l` has it, which clients show.
pub(super) fn long_name(name: &[u8], metadata: &Metadata) -> Vec<u8> {
    let mode = metadata.mode();
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, set, unset) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => set,
            (false, true) => unset,
        });
    }
    let (user, group, size) = (metadata.uid(), metadata.gid(), metadata.size());
    let date = date(metadata.mtime());
    let mut line = format!("{text} {:>4} {user:<8} {group:<8} {size:>8} {date} ", metadata.nlink())
        .into_bytes();
    line.extend_from_slice(name);
    line
}

/// Month, day and year. The clock time that `ls` has for young files would be in another zone
/// than the client's.
fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(date) => date.strftime("%b %e  %Y").to_string(),
        Err(_) => String::from("?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_ls_has_them() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        let said = Attributes {
            permissions: Some(0o4750),
            times: Some((0, 1_000_000_000)),
            ..Attributes::default()
        };
        set_at(&said, &file, true).unwrap();
        let line = long_name(b"f", &std::fs::metadata(&file).unwrap());
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("-rwsr-x---    1 "), "{line}");
        assert!(line.ends_with("        5 Sep  9  2001 f"), "{line}");
        let directory = long_name(b"d", &std::fs::metadata(home.path()).unwrap());
        assert!(directory.starts_with(b"drwx"));
    }
}
