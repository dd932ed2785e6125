//! The requests done on the file system. Everything here blocks.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, ReadDir},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use coderctl_ssh::sftp::{Code, DATA, Flags, Name, PACKET, Request, Response};
use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::attributes::{self, long_name};

/// Most files and directories that one client may have open (OpenSSH: what the system allows).
const HANDLES: usize = 1024;
/// Entries of a directory in one answer (OpenSSH: `sftp-server.c`).
const ENTRIES: usize = 100;

/// What a client has open, and where it is.
#[derive(Debug)]
pub(super) struct Files {
    /// What relative paths are relative to.
    directory: PathBuf,
    home: PathBuf,
    open: HashMap<u32, Handle>,
    next: u32,
}

#[derive(Debug)]
enum Handle {
    File(File),
    Directory {
        path: PathBuf,
        /// `.` and `..`, which the library does not give.
        dots: Vec<&'static str>,
        entries: ReadDir,
    },
}

/// What a request comes to.
type Done = io::Result<Response>;

impl Files {
    pub(super) fn new(directory: PathBuf, home: PathBuf) -> Self {
        Self { directory, home, open: HashMap::new(), next: 0 }
    }

    /// Does a request and appends the answer.
    pub(super) fn handle(&mut self, id: u32, request: Request, out: &mut BytesMut) {
        self.perform(request).unwrap_or_else(|error| failed(&error)).write(id, out);
    }

    fn perform(&mut self, request: Request) -> Done {
        match request {
            Request::Init => return Ok(Response::version()),
            Request::Unknown => {
                return Ok(Response::status(Code::Unsupported, "unknown request"));
            }
            Request::Open { path, flags, attributes } => {
                let mut options = OpenOptions::new();
                let (write, append) = (flags.has(Flags::WRITE), flags.has(Flags::APPEND));
                options.read(flags.has(Flags::READ)).write(write).append(append);
                options.create(flags.has(Flags::CREATE));
                options.create_new(flags.has(Flags::CREATE) && flags.has(Flags::EXCLUSIVE));
                options.truncate(flags.has(Flags::TRUNCATE) && write && !append);
                let file =
                    options.mode(attributes::mode(&attributes, 0o666)).open(self.path(&path))?;
                return self.insert(Handle::File(file));
            }
            Request::Close { handle } => {
                self.open.remove(&number(&handle)?).ok_or_else(no_handle)?;
            }
            Request::Read { handle, offset, length } => {
                let mut data = vec![0; length.min(DATA) as usize];
                let count = self.file(&handle)?.read_at(&mut data, offset)?;
                if count == 0 && length > 0 {
                    return Ok(end());
                }
                data.truncate(count);
                return Ok(Response::Data(data.into()));
            }
            Request::Write { handle, offset, data } => {
                self.file(&handle)?.write_all_at(&data, offset)?;
            }
            Request::Stat { path, follow } => {
                let path = self.path(&path);
                let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
                return Ok(Response::Attributes(attributes::of(&found?)));
            }
            Request::HandleStat { handle } => {
                let found = match self.handle_of(&handle)? {
                    Handle::File(file) => file.metadata()?,
                    Handle::Directory { path, .. } => fs::metadata(path)?,
                };
                return Ok(Response::Attributes(attributes::of(&found)));
            }
            Request::SetStat { path, attributes, follow } => {
                attributes::set_at(&attributes, &self.path(&path), follow)?;
            }
            Request::HandleSetStat { handle, attributes } => match self.handle_of(&handle)? {
                Handle::File(file) => attributes::set(&attributes, file)?,
                Handle::Directory { path, .. } => attributes::set_at(&attributes, path, true)?,
            },
            Request::OpenDirectory { path } => {
                let path = self.path(&path);
                let entries = fs::read_dir(&path)?;
                return self.insert(Handle::Directory { path, dots: vec!["..", "."], entries });
            }
            Request::ReadDirectory { handle } => return self.read_directory(&handle),
            Request::Remove { path } => {
                let path = self.path(&path);
                // As a request of its own; the system's word for it would be another.
                if fs::symlink_metadata(&path)?.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                fs::remove_file(path)?;
            }
            Request::MakeDirectory { path, attributes } => {
                let mode = attributes::mode(&attributes, 0o777);
                DirBuilder::new().mode(mode).create(self.path(&path))?;
            }
            Request::RemoveDirectory { path } => fs::remove_dir(self.path(&path))?,
            Request::RealPath { path, expand } => {
                let path = if expand { self.expanded(&path) } else { self.path(&path) };
                return Ok(Response::path(real(&path).into_os_string().into_vec()));
            }
            Request::Rename { from, to, replace } => {
                let (from, to) = (self.path(&from), self.path(&to));
                // Section 6.5: it is an error if there is something with the new name.
                if !replace && fs::symlink_metadata(&to).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(from, to)?;
            }
            Request::ReadLink { path } => {
                let target = fs::read_link(self.path(&path))?;
                return Ok(Response::path(target.into_os_string().into_vec()));
            }
            Request::SymbolicLink { target, link } => {
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), self.path(&link))?;
            }
            Request::HardLink { from, to } => fs::hard_link(self.path(&from), self.path(&to))?,
            Request::Sync { handle } => self.file(&handle)?.sync_all()?,
            Request::FileSystem { path } => {
                return Ok(file_system(&rustix::fs::statvfs(self.path(&path))?));
            }
            Request::HandleFileSystem { handle } => {
                return Ok(file_system(&match self.handle_of(&handle)? {
                    Handle::File(file) => rustix::fs::fstatvfs(file)?,
                    Handle::Directory { path, .. } => rustix::fs::statvfs(&**path)?,
                }));
            }
            // OpenSSH PROTOCOL section 4.8.
            Request::Limits => {
                return Ok(numbers(&[PACKET as u64, DATA.into(), DATA.into(), HANDLES as u64]));
            }
        }
        Ok(Response::status(Code::Ok, ""))
    }

    fn read_directory(&mut self, handle: &Bytes) -> Done {
        let Some(Handle::Directory { path, dots, entries }) = self.open.get_mut(&number(handle)?)
        else {
            return Err(no_handle());
        };
        let mut names = Vec::new();
        while names.len() < ENTRIES {
            let name = match dots.pop() {
                Some(dot) => dot.into(),
                None => match entries.next() {
                    Some(entry) => entry?.file_name(),
                    None => break,
                },
            };
            // It may have gone since.
            let Ok(metadata) = fs::symlink_metadata(path.join(&name)) else { continue };
            let name = name.into_vec();
            let long = long_name(&name, &metadata).into();
            let attributes = attributes::of(&metadata);
            names.push(Name { name: name.into(), long, attributes });
        }
        Ok(if names.is_empty() { end() } else { Response::Names(names) })
    }

    fn insert(&mut self, handle: Handle) -> Done {
        if self.open.len() == HANDLES {
            return Err(io::Error::other("too many open files"));
        }
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, handle);
        Ok(Response::Handle(Bytes::copy_from_slice(&number.to_be_bytes())))
    }

    fn handle_of(&self, handle: &[u8]) -> io::Result<&Handle> {
        self.open.get(&number(handle)?).ok_or_else(no_handle)
    }

    fn file(&self, handle: &[u8]) -> io::Result<&File> {
        match self.handle_of(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Directory { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.directory.join(OsStr::from_bytes(path))
    }

    /// With `~` as home; other users' homes are not known here.
    fn expanded(&self, path: &[u8]) -> PathBuf {
        let rest = match path {
            b"~" => b"",
            [b'~', b'/', rest @ ..] => rest,
            _ => return self.path(path),
        };
        self.home.join(OsStr::from_bytes(rest))
    }
}

/// The path without links and dots; of what is not there, as far as the words go.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn end() -> Response {
    Response::status(Code::Eof, "end of file")
}

fn number(handle: &[u8]) -> io::Result<u32> {
    handle.try_into().map(u32::from_be_bytes).map_err(|_| no_handle())
}

fn no_handle() -> io::Error {
    io::Error::other("no such handle")
}

/// An error of the system.
fn failed(error: &io::Error) -> Response {
    // The rest is more than version 3 can tell apart; the words do.
    let codes = [
        (io::ErrorKind::NotFound, Code::NoSuchFile),
        (io::ErrorKind::PermissionDenied, Code::PermissionDenied),
        (io::ErrorKind::Unsupported, Code::Unsupported),
    ];
    let code = codes.iter().find(|(kind, _)| *kind == error.kind());
    let code = code.map_or(Code::Failure, |(_, code)| *code);
    Response::status(code, &error.to_string())
}

/// What is said of a file system (OpenSSH PROTOCOL section 4.4).
fn file_system(found: &StatVfs) -> Response {
    let flags = found.f_flag;
    let flag = |flag, bit| if flags.contains(flag) { bit } else { 0u64 };
    numbers(&[
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        flag(StatVfsMountFlags::RDONLY, 1) | flag(StatVfsMountFlags::NOSUID, 2),
        found.f_namemax,
    ])
}

fn numbers(numbers: &[u64]) -> Response {
    Response::Extended(numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
}
