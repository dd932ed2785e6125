//! Files that are written in one step: a reader sees the old content or the new one.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Who may use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// This user alone.
    Private,
    /// Whom the umask leaves it to.
    Usual,
    /// Exactly these permissions.
    Exactly(u32),
}

/// Writes it, and has it on the disk before the name leads to it: for what is to be kept.
///
/// # Errors
/// It cannot be written; what was there stays.
pub(crate) fn keep(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    write(path, content, access, fs::File::sync_all)
}

/// Writes it: for what nobody needs after a crash.
///
/// # Errors
/// As [`keep`].
pub(crate) fn show(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    write(path, content, access, |_| Ok(()))
}

fn write(
    path: &Path,
    content: &[u8],
    access: Access,
    settle: fn(&fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let draft = path.with_file_name(name);
    let written = (|| {
        // What a crash of a process of the same number left behind.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mode = match access {
            Access::Private | Access::Exactly(_) => 0o600,
            Access::Usual => 0o666,
        };
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        if let Access::Exactly(mode) = access {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        file.write_all(content)?;
        settle(&file)?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_with_its_permissions_and_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        for (access, expected) in
            [(Access::Private, 0o600), (Access::Exactly(0o640), 0o640), (Access::Private, 0o600)]
        {
            keep(&path, b"kept", access).unwrap();
            assert_eq!(mode(), expected);
        }
        show(&path, b"shown", Access::Usual).unwrap();
        assert_eq!(mode() & 0o600, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"shown");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        let nowhere = home.path().join("none/file");
        assert_eq!(keep(&nowhere, b"", Access::Usual).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
