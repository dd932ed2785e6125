//! Requests (section 6).

use bytes::{BufMut, Bytes, BytesMut};

use super::{Attributes, VERSION, packet, shared, u64};
use crate::{
    error::Error,
    wire::{Put, Reader},
};

/// How a file is to be opened (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// For reading.
    pub const READ: u32 = 1;
    /// For writing.
    pub const WRITE: u32 = 2;
    /// All that is written goes to the end.
    pub const APPEND: u32 = 4;
    /// Made if it is not there.
    pub const CREATE: u32 = 8;
    /// Emptied.
    pub const TRUNCATE: u32 = 16;
    /// It must not be there yet.
    pub const EXCLUSIVE: u32 = 32;

    /// Whether it has this one.
    #[must_use]
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To begin; all clients have our version.
    Init,
    /// To open a file.
    Open {
        /// Which.
        path: Bytes,
        /// How.
        flags: Flags,
        /// What it gets if it is made.
        attributes: Attributes,
    },
    /// To close a file or directory.
    Close {
        /// Which.
        handle: Bytes,
    },
    /// To read from a file.
    Read {
        /// Which.
        handle: Bytes,
        /// From where, in bytes.
        offset: u64,
        /// How much; less may come.
        length: u32,
    },
    /// To write to a file.
    Write {
        /// Which.
        handle: Bytes,
        /// To where, in bytes.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// What is there.
    Stat {
        /// Where.
        path: Bytes,
        /// What a symbolic link leads to, or the link itself.
        follow: bool,
    },
    /// What is said of an open file.
    HandleStat {
        /// Which.
        handle: Bytes,
    },
    /// To set what is said of a file.
    SetStat {
        /// Which.
        path: Bytes,
        /// What.
        attributes: Attributes,
        /// Of what a symbolic link leads to, or of the link itself.
        follow: bool,
    },
    /// To set what is said of an open file.
    HandleSetStat {
        /// Which.
        handle: Bytes,
        /// What.
        attributes: Attributes,
    },
    /// To open a directory.
    OpenDirectory {
        /// Which.
        path: Bytes,
    },
    /// The next entries of a directory.
    ReadDirectory {
        /// Which.
        handle: Bytes,
    },
    /// To remove a file.
    Remove {
        /// Which.
        path: Bytes,
    },
    /// To make a directory.
    MakeDirectory {
        /// Where.
        path: Bytes,
        /// What it gets.
        attributes: Attributes,
    },
    /// To remove an empty directory.
    RemoveDirectory {
        /// Which.
        path: Bytes,
    },
    /// A path from the root, without links and dots.
    RealPath {
        /// Of what.
        path: Bytes,
        /// Whether `~` is somebody's home.
        expand: bool,
    },
    /// To give something another name.
    Rename {
        /// What.
        from: Bytes,
        /// Which.
        to: Bytes,
        /// Whether what is there may be replaced.
        replace: bool,
    },
    /// Where a symbolic link leads.
    ReadLink {
        /// Which.
        path: Bytes,
    },
    /// To make a symbolic link. In the order in which OpenSSH has it, which is not the draft's.
    SymbolicLink {
        /// Where it leads.
        target: Bytes,
        /// Where it is.
        link: Bytes,
    },
    /// To give a file a second name.
    HardLink {
        /// The first.
        from: Bytes,
        /// The second.
        to: Bytes,
    },
    /// To have what was written on the disk.
    Sync {
        /// Of which file.
        handle: Bytes,
    },
    /// What is said of a file system.
    FileSystem {
        /// Of something on it.
        path: Bytes,
    },
    /// What is said of the file system of an open file.
    HandleFileSystem {
        /// Which.
        handle: Bytes,
    },
    /// What the server can do in one go.
    Limits,
    /// Something that we do not know.
    Unknown,
}

impl Request {
    /// Reads a packet: the request's number and what it is.
    ///
    /// # Errors
    /// The number of one that makes no sense, 0 when that is not known.
    pub fn parse(packet: Bytes) -> Result<(u32, Self), u32> {
        let mut reader = Reader::new(&packet, "sftp request");
        let (Ok(kind), Ok(id)) = (reader.byte(), reader.u32()) else { return Err(0) };
        if kind == 1 {
            // The number is the version of the client; all have ours.
            return Ok((0, Self::Init));
        }
        Self::fields(kind, &mut reader, &packet).map(|request| (id, request)).map_err(|_| id)
    }

    /// Appends this request under this number. One that we do not know is sent as one that nobody
    /// knows.
    pub fn write(&self, id: u32, out: &mut BytesMut) {
        let mut strings = |kind, strings: &[&[u8]]| {
            packet(out, kind, id, |out| strings.iter().for_each(|text| out.put_string(text)));
        };
        match self {
            Self::Init => packet(out, 1, VERSION, |_| {}),
            Self::Open { path, flags, attributes } => packet(out, 3, id, |out| {
                out.put_string(path);
                out.put_u32(flags.0);
                attributes.write(out);
            }),
            Self::Close { handle } => strings(4, &[handle]),
            Self::Read { handle, offset, length } => packet(out, 5, id, |out| {
                out.put_string(handle);
                out.put_u64(*offset);
                out.put_u32(*length);
            }),
            Self::Write { handle, offset, data } => packet(out, 6, id, |out| {
                out.put_string(handle);
                out.put_u64(*offset);
                out.put_string(data);
            }),
            Self::Stat { path, follow } => strings(if *follow { 17 } else { 7 }, &[path]),
            Self::HandleStat { handle } => strings(8, &[handle]),
            Self::SetStat { path, attributes, follow } => {
                packet(out, if *follow { 9 } else { 200 }, id, |out| {
                    if !follow {
                        out.put_string(b"lsetstat@openssh.com");
                    }
                    out.put_string(path);
                    attributes.write(out);
                });
            }
            Self::HandleSetStat { handle, attributes } => packet(out, 10, id, |out| {
                out.put_string(handle);
                attributes.write(out);
            }),
            Self::OpenDirectory { path } => strings(11, &[path]),
            Self::ReadDirectory { handle } => strings(12, &[handle]),
            Self::Remove { path } => strings(13, &[path]),
            Self::MakeDirectory { path, attributes } => packet(out, 14, id, |out| {
                out.put_string(path);
                attributes.write(out);
            }),
            Self::RemoveDirectory { path } => strings(15, &[path]),
            Self::RealPath { path, expand: false } => strings(16, &[path]),
            Self::RealPath { path, expand: true } => {
                strings(200, &[b"expand-path@openssh.com", path]);
            }
            Self::Rename { from, to, replace: false } => strings(18, &[from, to]),
            Self::Rename { from, to, replace: true } => {
                strings(200, &[b"posix-rename@openssh.com", from, to]);
            }
            Self::ReadLink { path } => strings(19, &[path]),
            Self::SymbolicLink { target, link } => strings(20, &[target, link]),
            Self::HardLink { from, to } => strings(200, &[b"hardlink@openssh.com", from, to]),
            Self::Sync { handle } => strings(200, &[b"fsync@openssh.com", handle]),
            Self::FileSystem { path } => strings(200, &[b"statvfs@openssh.com", path]),
            Self::HandleFileSystem { handle } => {
                strings(200, &[b"fstatvfs@openssh.com", handle]);
            }
            Self::Limits => strings(200, &[b"limits@openssh.com"]),
            Self::Unknown => strings(0, &[]),
        }
    }

    fn fields(kind: u8, reader: &mut Reader<'_>, packet: &Bytes) -> Result<Self, Error> {
        let mut string = || shared(reader, packet);
        Ok(match kind {
            3 => Self::Open {
                path: string()?,
                flags: Flags(reader.u32()?),
                attributes: Attributes::read(reader)?,
            },
            4 => Self::Close { handle: string()? },
            5 => Self::Read { handle: string()?, offset: u64(reader)?, length: reader.u32()? },
            6 => Self::Write {
                handle: string()?,
                offset: u64(reader)?,
                data: shared(reader, packet)?,
            },
            7 => Self::Stat { path: string()?, follow: false },
            8 => Self::HandleStat { handle: string()? },
            9 => Self::SetStat {
                path: string()?,
                attributes: Attributes::read(reader)?,
                follow: true,
            },
            10 => Self::HandleSetStat { handle: string()?, attributes: Attributes::read(reader)? },
            11 => Self::OpenDirectory { path: string()? },
            12 => Self::ReadDirectory { handle: string()? },
            13 => Self::Remove { path: string()? },
            14 => Self::MakeDirectory { path: string()?, attributes: Attributes::read(reader)? },
            15 => Self::RemoveDirectory { path: string()? },
            16 => Self::RealPath { path: string()?, expand: false },
            17 => Self::Stat { path: string()?, follow: true },
            18 => Self::Rename { from: string()?, to: string()?, replace: false },
            19 => Self::ReadLink { path: string()? },
            20 => Self::SymbolicLink { target: string()?, link: string()? },
            200 => match &string()?[..] {
                b"posix-rename@openssh.com" => {
                    Self::Rename { from: string()?, to: string()?, replace: true }
                }
                b"hardlink@openssh.com" => Self::HardLink { from: string()?, to: string()? },
                b"fsync@openssh.com" => Self::Sync { handle: string()? },
                b"statvfs@openssh.com" => Self::FileSystem { path: string()? },
                b"fstatvfs@openssh.com" => Self::HandleFileSystem { handle: string()? },
                b"lsetstat@openssh.com" => Self::SetStat {
                    path: string()?,
                    attributes: Attributes::read(reader)?,
                    follow: false,
                },
                b"limits@openssh.com" => Self::Limits,
                b"expand-path@openssh.com" => Self::RealPath { path: string()?, expand: true },
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sftp::split;

    #[test]
    fn malformed_requests_have_their_number() {
        let parse = |bytes: &'static [u8]| Request::parse(Bytes::from_static(bytes));
        assert_eq!(parse(b"\x01\0\0\0\x03"), Ok((0, Request::Init)));
        assert_eq!(parse(b"\x0b\0\0\0\x07\0\0\0\x09/"), Err(7));
        assert_eq!(parse(b"\x0b\0\0"), Err(0));
        assert_eq!(parse(b"\xc8\0\0\0\x07\0\0\0\x01x"), Ok((7, Request::Unknown)));
        assert_eq!(parse(b"\x63\0\0\0\x07"), Ok((7, Request::Unknown)));
        let path = Bytes::from_static(b"/\xff");
        let stat = Request::Stat { path, follow: true };
        assert_eq!(parse(b"\x11\0\0\0\x07\0\0\0\x02/\xff"), Ok((7, stat)));
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn request() -> impl Strategy<Value = Request> {
        let attributes = || {
            any::<(Option<u64>, Option<u32>)>().prop_map(|(size, permissions)| Attributes {
                size,
                permissions,
                ..Attributes::default()
            })
        };
        let two = || (bytes(), bytes(), any::<bool>());
        prop_oneof![
            Just(Request::Limits),
            (bytes(), 0u32..64, attributes()).prop_map(|(path, flags, attributes)| {
                Request::Open { path, flags: Flags(flags), attributes }
            }),
            (bytes(), any::<u64>(), any::<u32>())
                .prop_map(|(handle, offset, length)| Request::Read { handle, offset, length }),
            (bytes(), any::<u64>(), bytes()).prop_map(|(handle, offset, data)| Request::Write {
                handle,
                offset,
                data
            }),
            (bytes(), attributes(), any::<bool>()).prop_map(|(path, attributes, follow)| {
                Request::SetStat { path, attributes, follow }
            }),
            (bytes(), attributes())
                .prop_map(|(handle, attributes)| Request::HandleSetStat { handle, attributes }),
            (bytes(), attributes())
                .prop_map(|(path, attributes)| Request::MakeDirectory { path, attributes }),
            two().prop_map(|(from, to, replace)| Request::Rename { from, to, replace }),
            two().prop_map(|(target, link, _)| Request::SymbolicLink { target, link }),
            two().prop_map(|(from, to, _)| Request::HardLink { from, to }),
            two().prop_map(|(path, _, follow)| Request::Stat { path, follow }),
            two().prop_map(|(path, _, expand)| Request::RealPath { path, expand }),
            bytes().prop_map(|path| Request::ReadLink { path }),
            bytes().prop_map(|path| Request::Remove { path }),
            bytes().prop_map(|path| Request::RemoveDirectory { path }),
            bytes().prop_map(|path| Request::OpenDirectory { path }),
            bytes().prop_map(|path| Request::FileSystem { path }),
            bytes().prop_map(|handle| Request::ReadDirectory { handle }),
            bytes().prop_map(|handle| Request::HandleStat { handle }),
            bytes().prop_map(|handle| Request::HandleFileSystem { handle }),
            bytes().prop_map(|handle| Request::Sync { handle }),
            bytes().prop_map(|handle| Request::Close { handle }),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(id in any::<u32>(), request in request()) {
            let mut out = BytesMut::new();
            request.write(id, &mut out);
            let packet = split(&mut out).unwrap().unwrap();
            prop_assert!(out.is_empty());
            prop_assert_eq!(Request::parse(packet), Ok((id, request)));
        }

        #[test]
        fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(Bytes::from(bytes));
        }
    }
}
