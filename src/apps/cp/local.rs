//! Files here.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps},
    io::Errno,
};

use super::{
    side::{Entry, Failure, Kept, Name, Result, Side},
    spec::shown_path,
};

/// Most bytes of one read or write: what a workspace takes at most at once.
const CHUNK: usize = coderctl_ssh::sftp::DATA as usize;

/// The file system of this machine.
pub(super) struct Local;

/// An open directory. What is done in it stays in it, whatever becomes of the path that led there.
#[derive(Clone)]
pub(super) struct Place {
    directory: Arc<OwnedFd>,
    path: Arc<Path>,
}

impl Place {
    fn new(directory: OwnedFd, path: PathBuf) -> Self {
        Self { directory: Arc::new(directory), path: path.into() }
    }

    fn join(&self, name: &Name) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.bytes()))
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Does what blocks where it holds up nobody.
async fn block<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::One(error.to_string())),
    }
}

/// A number of seconds that version 3 of the protocol can say.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

fn entry(stat: &Stat) -> Entry {
    let times = (seconds(stat.st_atime), seconds(stat.st_mtime));
    Entry::new(stat.st_mode, u64::try_from(stat.st_size).unwrap_or(0), times)
}

fn times(keep: &Kept) -> Timestamps {
    let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    let (accessed, changed) = keep.times;
    Timestamps { last_access: time(accessed), last_modification: time(changed) }
}

fn found<T>(result: rustix::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Side for Local {
    type Place = Place;
    type File = Arc<File>;

    fn chunk(&self) -> usize {
        CHUNK
    }

    fn show(&self, at: &Place, name: &Name) -> String {
        shown_path(&at.join(name))
    }

    async fn look(&self, path: &[u8]) -> Result<Option<Entry>> {
        let path = path.to_vec();
        block(move || Ok(found(rustix::fs::stat(&path))?.map(|stat| entry(&stat)))).await
    }

    async fn place(&self, path: &[u8]) -> Result<Place> {
        let path = PathBuf::from(OsStr::from_bytes(path));
        block(move || Ok(Place::new(rustix::fs::open(&path, DIRECTORY, Mode::empty())?, path)))
            .await
    }

    async fn enter(&self, at: &Place, name: &Name) -> Result<Place> {
        let (at, name) = (at.clone(), name.clone());
        block(move || enter(&at, &name)).await
    }

    async fn list(&self, at: &Place) -> Result<Vec<(Name, Entry)>> {
        let at = at.clone();
        block(move || {
            let mut all = Vec::new();
            for listed in rustix::fs::Dir::read_from(&at.directory)? {
                let listed = listed?;
                let name = Bytes::copy_from_slice(listed.file_name().to_bytes());
                let Some(name) = Name::new(name) else { continue };
                // It may have gone since.
                if let Some(stat) = find(&at, &name)? {
                    all.push((name, stat));
                }
            }
            Ok(all)
        })
        .await
    }

    async fn find(&self, at: &Place, name: &Name) -> Result<Option<Entry>> {
        let (at, name) = (at.clone(), name.clone());
        block(move || find(&at, &name)).await
    }

    async fn make_directory(&self, at: &Place, name: &Name, mode: u32) -> Result<Place> {
        let (at, name) = (at.clone(), name.clone());
        block(move || {
            let mode = Mode::from_raw_mode(mode);
            match rustix::fs::mkdirat(&at.directory, &name.bytes()[..], mode) {
                Ok(()) | Err(Errno::EXIST) => enter(&at, &name),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn open(&self, at: &Place, name: &Name, follow: bool) -> Result<Self::File> {
        let (at, name) = (at.clone(), name.clone());
        block(move || {
            // Not to wait for a writer, should it have become a pipe.
            let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            flags.set(OFlags::NOFOLLOW, !follow);
            let file = rustix::fs::openat(&at.directory, &name.bytes()[..], flags, Mode::empty())?;
            let file = File::from(file);
            match file.metadata()?.is_file() {
                true => Ok(Arc::new(file)),
                false => Err(Failure::One("it is no file any more".to_owned())),
            }
        })
        .await
    }

    async fn read(&self, file: &Self::File, offset: u64, length: usize) -> Result<Bytes> {
        let file = Arc::clone(file);
        block(move || {
            let mut data = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match file.read_at(&mut data[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            data.truncate(filled);
            Ok(data.into())
        })
        .await
    }

    async fn create(
        &self,
        at: &Place,
        name: &Name,
        mode: u32,
        go_on: bool,
    ) -> Result<(Self::File, u64)> {
        let (at, name) = (at.clone(), name.clone());
        block(move || {
            let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            flags.set(OFlags::EXCL, !go_on);
            let mode = Mode::from_raw_mode(mode);
            let file =
                File::from(rustix::fs::openat(&at.directory, &name.bytes()[..], flags, mode)?);
            let length = file.metadata()?.size();
            Ok((Arc::new(file), length))
        })
        .await
    }

    async fn write(&self, file: &Self::File, offset: u64, data: Bytes) -> Result<()> {
        let file = Arc::clone(file);
        block(move || Ok(file.write_all_at(&data, offset)?)).await
    }

    async fn close(&self, file: Self::File, keep: Option<Kept>) -> Result<()> {
        let Some(keep) = keep else { return Ok(()) };
        block(move || {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(keep.mode))?;
            Ok(rustix::fs::futimens(&file, &times(&keep))?)
        })
        .await
    }

    async fn rename(&self, at: &Place, from: &Name, to: &Name, replace: bool) -> Result<()> {
        let (at, from, to) = (at.clone(), from.clone(), to.clone());
        block(move || Ok(rename(at.directory.as_fd(), &from, &to, replace)?)).await
    }

    async fn remove(&self, at: &Place, name: &Name) -> Result<()> {
        let (at, name) = (at.clone(), name.clone());
        block(move || Ok(rustix::fs::unlinkat(&at.directory, &name.bytes()[..], AtFlags::empty())?))
            .await
    }

    async fn read_link(&self, at: &Place, name: &Name) -> Result<Bytes> {
        let (at, name) = (at.clone(), name.clone());
        block(move || {
            let target: CString =
                rustix::fs::readlinkat(&at.directory, &name.bytes()[..], Vec::new())?;
            Ok(target.into_bytes().into())
        })
        .await
    }

    async fn make_link(&self, at: &Place, name: &Name, target: Bytes) -> Result<()> {
        let (at, name) = (at.clone(), name.clone());
        block(move || Ok(rustix::fs::symlinkat(&target[..], &at.directory, &name.bytes()[..])?))
            .await
    }

    async fn keep(&self, at: &Place, keep: Kept) -> Result<()> {
        let at = at.clone();
        block(move || {
            rustix::fs::fchmod(&at.directory, Mode::from_raw_mode(keep.mode))?;
            Ok(rustix::fs::futimens(&at.directory, &times(&keep))?)
        })
        .await
    }
}

fn enter(at: &Place, name: &Name) -> Result<Place> {
    let flags = DIRECTORY | OFlags::NOFOLLOW;
    let directory = rustix::fs::openat(&at.directory, &name.bytes()[..], flags, Mode::empty())?;
    Ok(Place::new(directory, at.join(name)))
}

fn find(at: &Place, name: &Name) -> Result<Option<Entry>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = found(rustix::fs::statat(&at.directory, &name.bytes()[..], flags))?;
    Ok(stat.map(|stat| entry(&stat)))
}

fn rename(at: impl AsFd + Copy, from: &Name, to: &Name, replace: bool) -> rustix::io::Result<()> {
    let (from, to) = (&from.bytes()[..], &to.bytes()[..]);
    if replace {
        return rustix::fs::renameat(at, from, at, to);
    }
    match rustix::fs::renameat_with(at, from, at, to, RenameFlags::NOREPLACE) {
        // Not every file system can; that nothing is there has been seen before.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rustix::fs::renameat(at, from, at, to),
        renamed => renamed,
    }
}

/// What stands at a path before anything is connected to; links are followed.
pub(super) fn look(path: &Path) -> io::Result<Option<Entry>> {
    match rustix::fs::statat(CWD, path, AtFlags::empty()) {
        Ok(stat) => Ok(Some(entry(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
