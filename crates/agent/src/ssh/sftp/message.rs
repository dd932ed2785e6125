//! Requests and answers on the wire.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use coderctl_ssh::{
    Error,
    wire::{Put, Reader},
};

use super::attributes::Attributes;

/// Longest packet accepted, in bytes without its length (OpenSSH: `SFTP_MAX_MSG_LENGTH`).
pub(super) const PACKET: usize = 256 * 1024;
/// Most bytes of a file in one packet: what leaves room for the rest (OpenSSH:
/// `SFTP_MAX_READ_LENGTH`).
pub(super) const DATA: u32 = 255 * 1024;

/// What went wrong, as version 3 can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// How a file is to be opened (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u32);

impl Flags {
    pub(super) const READ: u32 = 1;
    pub(super) const WRITE: u32 = 2;
    pub(super) const APPEND: u32 = 4;
    pub(super) const CREATE: u32 = 8;
    pub(super) const TRUNCATE: u32 = 16;
    pub(super) const EXCLUSIVE: u32 = 32;

    pub(super) fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// What a client asks for. Paths are bytes, as the file system has them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Init,
    Open {
        path: Bytes,
        flags: Flags,
        attributes: Attributes,
    },
    Close {
        handle: Bytes,
    },
    Read {
        handle: Bytes,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Bytes,
        offset: u64,
        data: Bytes,
    },
    Stat {
        path: Bytes,
        follow: bool,
    },
    HandleStat {
        handle: Bytes,
    },
    SetStat {
        path: Bytes,
        attributes: Attributes,
        follow: bool,
    },
    HandleSetStat {
        handle: Bytes,
        attributes: Attributes,
    },
    OpenDirectory {
        path: Bytes,
    },
    ReadDirectory {
        handle: Bytes,
    },
    Remove {
        path: Bytes,
    },
    MakeDirectory {
        path: Bytes,
        attributes: Attributes,
    },
    RemoveDirectory {
        path: Bytes,
    },
    RealPath {
        path: Bytes,
        expand: bool,
    },
    Rename {
        from: Bytes,
        to: Bytes,
        replace: bool,
    },
    ReadLink {
        path: Bytes,
    },
    /// In the order in which OpenSSH has it, which is not the draft's.
    SymbolicLink {
        target: Bytes,
        link: Bytes,
    },
    HardLink {
        from: Bytes,
        to: Bytes,
    },
    Sync {
        handle: Bytes,
    },
    FileSystem {
        path: Bytes,
    },
    HandleFileSystem {
        handle: Bytes,
    },
    Limits,
    /// Something that we do not know.
    Unknown,
}

/// Takes one packet, without its length, off the front of the input.
pub(super) fn split(input: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 || length > PACKET {
        let text = format!("a packet of {length} bytes; 1 to {PACKET} are accepted");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length).freeze()))
}

impl Request {
    /// Reads a packet: the request's number and what it is.
    ///
    /// # Errors
    /// The number of one that makes no sense, 0 when that is not known.
    pub(super) fn parse(packet: Bytes) -> Result<(u32, Self), u32> {
        let mut reader = Reader::new(&packet, "sftp request");
        let (Ok(kind), Ok(id)) = (reader.byte(), reader.u32()) else { return Err(0) };
        if kind == 1 {
            // The number is the version of the client; all have ours.
            return Ok((0, Self::Init));
        }
        Self::fields(kind, &mut reader, &packet).map(|request| (id, request)).map_err(|_| id)
    }

    fn fields(kind: u8, reader: &mut Reader<'_>, packet: &Bytes) -> Result<Self, Error> {
        let mut string = || reader.string().map(|bytes| packet.slice_ref(bytes));
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
                data: packet.slice_ref(reader.string()?),
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

/// A 64-bit number.
pub(super) fn u64(reader: &mut Reader<'_>) -> Result<u64, Error> {
    Ok(u64::from(reader.u32()?) << 32 | u64::from(reader.u32()?))
}

/// Appends a packet of this kind; the fields follow its kind and number.
pub(super) fn packet(out: &mut BytesMut, kind: u8, id: u32, fields: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    out.put_u32(id);
    fields(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The answer to [`Request::Init`]: our version and what we have beyond it (OpenSSH PROTOCOL
/// section 4).
pub(super) fn version(out: &mut BytesMut) {
    packet(out, 2, 3, |out| {
        for (name, version) in [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("hardlink@openssh.com", "1"),
            ("fsync@openssh.com", "1"),
            ("lsetstat@openssh.com", "1"),
            ("limits@openssh.com", "1"),
            ("expand-path@openssh.com", "1"),
        ] {
            out.put_string(name.as_bytes());
            out.put_string(version.as_bytes());
        }
    });
}

/// How a request ended.
pub(super) fn status(out: &mut BytesMut, id: u32, code: Code, text: &str) {
    packet(out, 101, id, |out| {
        out.put_u32(code as u32);
        out.put_string(text.as_bytes());
        out.put_string(b"");
    });
}

/// An error of the system.
pub(super) fn error(out: &mut BytesMut, id: u32, error: &io::Error) {
    // The rest is more than version 3 can tell apart; the words do.
    let codes = [
        (io::ErrorKind::NotFound, Code::NoSuchFile),
        (io::ErrorKind::PermissionDenied, Code::PermissionDenied),
        (io::ErrorKind::Unsupported, Code::Unsupported),
    ];
    let code = codes.iter().find(|(kind, _)| *kind == error.kind());
    let code = code.map_or(Code::Failure, |(_, code)| *code);
    status(out, id, code, &error.to_string());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_are_taken_one_by_one() {
        let mut input = BytesMut::from(&b"\0\0\0\x02ab\0\0\0\x01c\0\0"[..]);
        assert_eq!(&split(&mut input).unwrap().unwrap()[..], b"ab");
        assert_eq!(&split(&mut input).unwrap().unwrap()[..], b"c");
        assert_eq!(split(&mut input).unwrap(), None);
        assert!(split(&mut BytesMut::from(&[0; 4][..])).is_err());
        assert!(split(&mut BytesMut::from(&[0, 4, 0, 1][..])).is_err());
    }

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

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(Bytes::from(bytes));
        }
    }
}
