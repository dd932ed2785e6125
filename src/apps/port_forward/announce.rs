//! Telling other programs that the forwards are ready.
//!
//! | to whom | how |
//! |---|---|
//! | whoever reads standard output (`-o json`) | one JSON line |
//! | whoever looks for a file (`--ready-file`) | that line in it, whole from the first moment; removed at the end |
//! | whoever reads a descriptor (`--ready-fd`) | that line |
//! | systemd (`NOTIFY_SOCKET`, sd_notify(3)) | `READY=1`, and `STOPPING=1` at the end |

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use crate::{
    error::{CommandError, Kind},
    ui::{self, Ui},
    whole::{self, Access},
};

/// Whom to tell.
#[derive(Debug, Clone, Default)]
pub struct Announce {
    /// Standard output.
    pub stdout: bool,
    /// A file to be made.
    pub file: Option<PathBuf>,
    /// A descriptor that was inherited.
    pub descriptor: Option<u32>,
    /// systemd's socket; a name that begins with `@` is an abstract one.
    pub systemd: Option<OsString>,
}

/// Where it is told, found to be there.
#[derive(Debug)]
pub(super) struct Announcer {
    announce: Announce,
    descriptor: Option<File>,
    systemd: Option<UnixDatagram>,
    told: bool,
}

impl Announcer {
    /// Makes sure that all can be told before anything else is done. What an earlier run left of
    /// the file is removed: nobody is to take it for this one's.
    pub(super) fn prepare(announce: Announce) -> Result<Self, CommandError> {
        if let Some(path) = &announce.file {
            clear(path)?;
        }
        let descriptor = announce.descriptor.map(open_descriptor).transpose()?;
        let systemd = match &announce.systemd {
            Some(name) => Some(connect(name).map_err(|error| {
                let what = format!("NOTIFY_SOCKET names {}", name.display());
                CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
                    .hint("it is set by systemd; unset it if that did not start this")
            })?),
            None => None,
        };
        Ok(Self { announce, descriptor, systemd, told: false })
    }

    /// Tells everybody. `line` has no end of line.
    pub(super) fn ready(&mut self, line: &str, ui: &Ui) -> Result<(), CommandError> {
        self.told = true;
        let line = format!("{line}\n");
        if self.announce.stdout {
            ui.data(line.as_bytes()).map_err(|error| cannot("write to standard output", error))?;
        }
        if let Some(path) = &self.announce.file {
            whole::show(path, line.as_bytes(), Access::Usual)
                .map_err(|error| cannot(&format!("write {}", path.display()), error))?;
        }
        if let Some(descriptor) = &mut self.descriptor {
            descriptor
                .write_all(line.as_bytes())
                .map_err(|error| cannot("write to the descriptor of --ready-fd", error))?;
        }
        // Whoever reads to the end is not to wait for ours.
        self.descriptor = None;
        self.notify("READY=1");
        Ok(())
    }

    fn notify(&self, state: &str) {
        if let Some(systemd) = &self.systemd
            && let Err(error) = systemd.send(state.as_bytes())
        {
            tracing::warn!(%error, state, "systemd was not told");
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        if !self.told {
            return;
        }
        self.notify("STOPPING=1");
        if let Some(path) = &self.announce.file
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "the ready file stays");
        }
    }
}

fn cannot(what: &str, error: io::Error) -> CommandError {
    CommandError::new(Kind::Local, anyhow::Error::new(error).context(format!("cannot {what}")))
}

fn clear(path: &Path) -> Result<(), CommandError> {
    let named = |error| cannot(&format!("use {} as the ready file", path.display()), error);
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => fs::remove_file(path).map_err(named),
        Ok(_) => {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is there and no file");
            Err(named(error).hint("choose another path"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            match fs::metadata(directory.unwrap_or(Path::new("."))) {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(named(io::ErrorKind::NotADirectory.into())),
                Err(error) => Err(named(error).hint("the directory has to be there already")),
            }
        }
        Err(error) => Err(named(error)),
    }
}

fn open_descriptor(number: u32) -> Result<File, CommandError> {
    ui::descriptor(number).map_err(|error| {
        cannot(&format!("write to descriptor {number} of --ready-fd"), error)
            .hint("open it for writing in the calling shell, e.g. 3>ready or 3> >(reader)")
    })
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = name.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        return Ok(socket);
    }
    socket.connect(name)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Options;

    fn ui() -> Ui {
        Ui::captured(Options::default()).0
    }

    #[test]
    fn the_file_is_there_from_ready_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready");
        fs::write(&path, "of another run").unwrap();
        let announce = Announce { file: Some(path.clone()), ..Announce::default() };
        let mut announcer = Announcer::prepare(announce.clone()).unwrap();
        assert!(!path.exists(), "nobody takes the old one for ours");
        announcer.ready("{}", &ui()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(announcer);
        assert!(!path.exists());
        // What was never ready leaves alone what somebody else has made meanwhile.
        let announcer = Announcer::prepare(announce).unwrap();
        fs::write(&path, "kept").unwrap();
        drop(announcer);
        assert!(path.exists());
    }

    #[test]
    fn what_cannot_be_told_is_found_out_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(directory.path().join(name));
        fs::write(at("file").unwrap(), "").unwrap();
        for (announce, why) in [
            (Announce { file: at("missing/f"), ..Announce::default() }, "No such file"),
            (Announce { file: at("file/f"), ..Announce::default() }, "Not a directory"),
            (Announce { file: at(""), ..Announce::default() }, "it is there and no file"),
            (Announce { descriptor: Some(4_000_000), ..Announce::default() }, "No such file"),
            (Announce { systemd: Some("/nowhere".into()), ..Announce::default() }, "No such file"),
        ] {
            let error = Announcer::prepare(announce).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.kind.code(), 210, "{error}");
        }
    }

    #[test]
    fn systemd_hears_of_the_beginning_and_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let announce = Announce { systemd: Some(path.into()), ..Announce::default() };
        let mut announcer = Announcer::prepare(announce).unwrap();
        let hear = || {
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        announcer.ready("{}", &ui()).unwrap();
        assert_eq!(hear(), "READY=1");
        drop(announcer);
        assert_eq!(hear(), "STOPPING=1");
    }
}
