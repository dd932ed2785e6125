//! Files in the workspace.

use bytes::Bytes;
use coderctl_ssh::sftp::{Attributes, Flags, Request};

use super::{
    side::{Entry, Failure, Kept, Kind, Name, Result, Side},
    spec::shown,
};
use crate::apps::sftp::{Sftp, SftpError};

/// Most entries of a directory: a million, far beyond what people can work with.
const MOST: usize = 1 << 20;

/// The workspace's file system, by way of its agent.
pub(super) struct Remote {
    pub(super) sftp: Sftp,
}

fn entry(said: &Attributes) -> Option<Entry> {
    // A server that does not tell what kind of thing it is has not said enough.
    let mode = said.permissions?;
    Some(Entry::new(mode, said.size.unwrap_or(0), said.times.unwrap_or_default()))
}

fn attributes(keep: &Kept) -> Attributes {
    let (permissions, times) = (Some(keep.mode), Some(keep.times));
    Attributes { permissions, times, ..Attributes::default() }
}

fn mode(mode: u32) -> Attributes {
    Attributes { permissions: Some(mode), ..Attributes::default() }
}

fn broken(why: String) -> Failure {
    SftpError::Broken(why).into()
}

fn join(at: &Bytes, name: &Name) -> Bytes {
    let slash: &[u8] = if at.ends_with(b"/") { b"" } else { b"/" };
    [at, slash, name.bytes()].concat().into()
}

impl Remote {
    async fn stat(&self, path: Bytes, follow: bool) -> Result<Option<Entry>> {
        let request = Request::Stat { path: path.clone(), follow };
        let Some(said) = self.sftp.attributes(&request).await? else { return Ok(None) };
        match entry(&said) {
            Some(entry) => Ok(Some(entry)),
            None => Err(broken(format!("does not say what {} is", shown(&path)))),
        }
    }

    async fn open_at(&self, path: Bytes, flags: u32, attributes: Attributes) -> Result<Bytes> {
        let flags = Flags(flags);
        Ok(self.sftp.handle(&Request::Open { path, flags, attributes }).await?)
    }

    async fn close_handle(&self, handle: Bytes) -> Result<()> {
        Ok(self.sftp.done(&Request::Close { handle }).await?)
    }

    /// All entries of an open directory.
    async fn entries(&self, handle: &Bytes, at: &Bytes) -> Result<Vec<(Name, Entry)>> {
        let mut all = Vec::new();
        let request = Request::ReadDirectory { handle: handle.clone() };
        while let Some(names) = self.sftp.names(&request).await? {
            if names.is_empty() {
                return Err(broken(format!("lists {} without an end", shown(at))));
            }
            for listed in names {
                if matches!(&listed.name[..], b"." | b"..") {
                    continue;
                }
                let Some(name) = Name::new(listed.name.clone()) else {
                    let (name, at) = (shown(&listed.name), shown(at));
                    return Err(broken(format!("lists {name} in {at}, which is no name")));
                };
                let Some(entry) = entry(&listed.attributes) else {
                    let (name, at) = (name.text(), shown(at));
                    return Err(broken(format!("does not say what {name} in {at} is")));
                };
                all.push((name, entry));
            }
            if all.len() > MOST {
                let why = format!("it has more than {MOST} entries");
                return Err(Failure::One(why));
            }
        }
        Ok(all)
    }
}

impl Side for Remote {
    /// Its path.
    type Place = Bytes;
    /// Its handle.
    type File = Bytes;

    fn chunk(&self) -> usize {
        self.sftp.chunk()
    }

    fn show(&self, at: &Bytes, name: &Name) -> String {
        shown(&join(at, name))
    }

    async fn look(&self, path: &[u8]) -> Result<Option<Entry>> {
        self.stat(self.expanded(path).await?, true).await
    }

    async fn place(&self, path: &[u8]) -> Result<Bytes> {
        let path = self.expanded(path).await?;
        match self.stat(path.clone(), true).await? {
            Some(Entry { kind: Kind::Directory, .. }) => Ok(path),
            Some(_) => Err(Failure::One("it is no directory".to_owned())),
            None => Err(Failure::One("there is no such directory there".to_owned())),
        }
    }

    async fn enter(&self, at: &Bytes, name: &Name) -> Result<Bytes> {
        Ok(join(at, name))
    }

    async fn list(&self, at: &Bytes) -> Result<Vec<(Name, Entry)>> {
        let request = Request::OpenDirectory { path: at.clone() };
        let handle = self.sftp.handle(&request).await?;
        let listed = self.entries(&handle, at).await;
        self.close_handle(handle).await?;
        listed
    }

    async fn find(&self, at: &Bytes, name: &Name) -> Result<Option<Entry>> {
        self.stat(join(at, name), false).await
    }

    async fn make_directory(&self, at: &Bytes, name: &Name, bits: u32) -> Result<Bytes> {
        let path = join(at, name);
        let make = Request::MakeDirectory { path: path.clone(), attributes: mode(bits) };
        match self.sftp.done(&make).await {
            Ok(()) => Ok(path),
            // Version 3 has no word for what is there already.
            Err(refused @ SftpError::Refused { .. }) => match self.find(at, name).await? {
                Some(Entry { kind: Kind::Directory, .. }) => Ok(path),
                Some(_) | None => Err(refused.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, at: &Bytes, name: &Name, _: bool) -> Result<Bytes> {
        self.open_at(join(at, name), Flags::READ, Attributes::default()).await
    }

    async fn read(&self, file: &Bytes, offset: u64, length: usize) -> Result<Bytes> {
        let request = Request::Read { handle: file.clone(), offset, length: length as u32 };
        let Some(data) = self.sftp.data(&request).await? else { return Ok(Bytes::new()) };
        if data.is_empty() || data.len() > length {
            let why = format!("sent {} bytes where {length} were asked for", data.len());
            return Err(broken(why));
        }
        Ok(data)
    }

    async fn create(
        &self,
        at: &Bytes,
        name: &Name,
        bits: u32,
        go_on: bool,
    ) -> Result<(Bytes, u64)> {
        let exclusive = if go_on { 0 } else { Flags::EXCLUSIVE };
        let flags = Flags::WRITE | Flags::CREATE | exclusive;
        let handle = self.open_at(join(at, name), flags, mode(bits)).await?;
        if !go_on {
            return Ok((handle, 0));
        }
        let request = Request::HandleStat { handle: handle.clone() };
        let said = self.sftp.attributes(&request).await?;
        Ok((handle, said.and_then(|said| said.size).unwrap_or(0)))
    }

    async fn write(&self, file: &Bytes, offset: u64, data: Bytes) -> Result<()> {
        Ok(self.sftp.done(&Request::Write { handle: file.clone(), offset, data }).await?)
    }

    async fn close(&self, file: Bytes, keep: Option<Kept>) -> Result<()> {
        if let Some(keep) = keep {
            let handle = file.clone();
            let request = Request::HandleSetStat { handle, attributes: attributes(&keep) };
            self.sftp.done(&request).await?;
        }
        self.close_handle(file).await
    }

    async fn rename(&self, at: &Bytes, from: &Name, to: &Name, replace: bool) -> Result<()> {
        let (from, to) = (join(at, from), join(at, to));
        let at_once = replace && self.sftp.can("posix-rename@openssh.com");
        if replace && !at_once {
            // Nothing better is left: for a moment there is neither.
            self.sftp.done(&Request::Remove { path: to.clone() }).await?;
        }
        Ok(self.sftp.done(&Request::Rename { from, to, replace: at_once }).await?)
    }

    async fn remove(&self, at: &Bytes, name: &Name) -> Result<()> {
        Ok(self.sftp.done(&Request::Remove { path: join(at, name) }).await?)
    }

    async fn read_link(&self, at: &Bytes, name: &Name) -> Result<Bytes> {
        Ok(self.sftp.path(&Request::ReadLink { path: join(at, name) }).await?)
    }

    async fn make_link(&self, at: &Bytes, name: &Name, target: Bytes) -> Result<()> {
        let (link, wanted) = (join(at, name), target.clone());
        self.sftp.done(&Request::SymbolicLink { target, link }).await?;
        // A Go agent's makes it absolute.
        let made = self.read_link(at, name).await?;
        if made != wanted {
            let (made, wanted) = (shown(&made), shown(&wanted));
            let why = format!("the workspace's sftp server made it lead to {made}, not {wanted}");
            return Err(Failure::One(why));
        }
        Ok(())
    }

    async fn keep(&self, at: &Bytes, keep: Kept) -> Result<()> {
        let (path, attributes) = (at.clone(), attributes(&keep));
        Ok(self.sftp.done(&Request::SetStat { path, attributes, follow: true }).await?)
    }
}

impl Remote {
    /// A path that was typed, where `~` is the home.
    async fn expanded(&self, path: &[u8]) -> Result<Bytes> {
        let rest = match path {
            b"~" => &b"."[..],
            [b'~', b'/', rest @ ..] => rest,
            _ => return Ok(Bytes::copy_from_slice(path)),
        };
        if !self.sftp.can("expand-path@openssh.com") {
            // Sessions of such servers begin there.
            return Ok(Bytes::copy_from_slice(if rest.is_empty() { b"." } else { rest }));
        }
        let request = Request::RealPath { path: Bytes::copy_from_slice(path), expand: true };
        Ok(self.sftp.path(&request).await?)
    }
}
