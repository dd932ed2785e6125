//! Answers (section 7).

use bytes::{BufMut, Bytes, BytesMut};

use super::{Attributes, VERSION, packet, shared, u64};
use crate::{
    error::Error,
    wire::{Put, Reader},
};

/// How a request ended, as version 3 can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Well.
    Ok,
    /// There is no more to be read.
    Eof,
    /// There is nothing of that name.
    NoSuchFile,
    /// It is not allowed.
    PermissionDenied,
    /// Something else; the words say more.
    Failure,
    /// The request makes no sense.
    BadMessage,
    /// The server does not know the request.
    Unsupported,
    /// Any other number.
    Other(u32),
}

impl Code {
    fn number(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Eof => 1,
            Self::NoSuchFile => 2,
            Self::PermissionDenied => 3,
            Self::Failure => 4,
            Self::BadMessage => 5,
            Self::Unsupported => 8,
            Self::Other(number) => number,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Eof,
            2 => Self::NoSuchFile,
            3 => Self::PermissionDenied,
            4 => Self::Failure,
            5 => Self::BadMessage,
            8 => Self::Unsupported,
            number => Self::Other(number),
        }
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its name, or the path that was asked for.
    pub name: Bytes,
    /// A line to show, as `ls -l` has it.
    pub long: Bytes,
    /// What is said of it.
    pub attributes: Attributes,
}

/// What a server can do in one go (OpenSSH PROTOCOL section 4.8); 0 where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest packet.
    pub packet: u64,
    /// Most bytes of one read.
    pub read: u64,
    /// Most bytes of one write.
    pub write: u64,
    /// Most open handles.
    pub handles: u64,
}

impl Limits {
    /// Reads the fields of the answer to [`super::Request::Limits`].
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn read(fields: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(fields, "sftp limits");
        let mut next = || u64(&mut reader);
        Ok(Self { packet: next()?, read: next()?, write: next()?, handles: next()? })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`super::Request::Init`]: the version, and names and versions of extensions.
    Version {
        /// The server's version.
        version: u32,
        /// What it knows beyond that.
        extensions: Vec<(Bytes, Bytes)>,
    },
    /// How the request ended.
    Status {
        /// How.
        code: Code,
        /// The server's words. Not to be printed unescaped.
        text: Bytes,
    },
    /// Something was opened.
    Handle(Bytes),
    /// Bytes of a file.
    Data(Bytes),
    /// Entries of a directory, or one path.
    Names(Vec<Name>),
    /// What is said of a file.
    Attributes(Attributes),
    /// The fields of an answer to a request beyond version 3.
    Extended(Bytes),
}

impl Response {
    /// The end of a request.
    #[must_use]
    pub fn status(code: Code, text: &str) -> Self {
        Self::Status { code, text: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// The answer to a request for one path.
    #[must_use]
    pub fn path(path: Vec<u8>) -> Self {
        let name = Bytes::from(path);
        let long = name.clone();
        Self::Names(vec![Name { name, long, attributes: Attributes::default() }])
    }

    /// Reads a packet: the request's number and its answer.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what makes no sense or is no answer.
    pub fn parse(packet: &Bytes) -> Result<(u32, Self), Error> {
        let mut reader = Reader::new(packet, "sftp answer");
        let (kind, id) = (reader.byte()?, reader.u32()?);
        let reader = &mut reader;
        let answer = match kind {
            2 => {
                let mut extensions = Vec::new();
                while !reader.rest().is_empty() {
                    extensions.push((shared(reader, packet)?, shared(reader, packet)?));
                }
                return Ok((0, Self::Version { version: id, extensions }));
            }
            101 => {
                let code = Code::of(reader.u32()?);
                // Old servers leave the words out.
                let wordless = reader.rest().is_empty();
                let text = if wordless { Bytes::new() } else { shared(reader, packet)? };
                Self::Status { code, text }
            }
            102 => Self::Handle(shared(reader, packet)?),
            103 => Self::Data(shared(reader, packet)?),
            104 => {
                let count = reader.u32()?;
                let mut names = Vec::new();
                for _ in 0..count {
                    let (name, long) = (shared(reader, packet)?, shared(reader, packet)?);
                    names.push(Name { name, long, attributes: Attributes::read(reader)? });
                }
                Self::Names(names)
            }
            105 => Self::Attributes(Attributes::read(reader)?),
            201 => Self::Extended(packet.slice_ref(reader.rest())),
            _ => return Err(Error::Malformed("sftp answer")),
        };
        Ok((id, answer))
    }

    /// Appends the answer to a request of this number.
    pub fn write(&self, id: u32, out: &mut BytesMut) {
        match self {
            Self::Version { version, extensions } => packet(out, 2, *version, |out| {
                for (name, version) in extensions {
                    out.put_string(name);
                    out.put_string(version);
                }
            }),
            Self::Status { code, text } => packet(out, 101, id, |out| {
                out.put_u32(code.number());
                out.put_string(text);
                out.put_string(b"");
            }),
            Self::Handle(handle) => packet(out, 102, id, |out| out.put_string(handle)),
            Self::Data(data) => packet(out, 103, id, |out| out.put_string(data)),
            Self::Names(names) => packet(out, 104, id, |out| {
                out.put_u32(names.len() as u32);
                for Name { name, long, attributes } in names {
                    out.put_string(name);
                    out.put_string(long);
                    attributes.write(out);
                }
            }),
            Self::Attributes(attributes) => packet(out, 105, id, |out| attributes.write(out)),
            Self::Extended(fields) => packet(out, 201, id, |out| out.extend_from_slice(fields)),
        }
    }

    /// The answer of a server of ours to [`super::Request::Init`] (OpenSSH PROTOCOL section 4).
    #[must_use]
    pub fn version() -> Self {
        let extensions = [
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "2"),
            ("fstatvfs@openssh.com", "2"),
            ("hardlink@openssh.com", "1"),
            ("fsync@openssh.com", "1"),
            ("lsetstat@openssh.com", "1"),
            ("limits@openssh.com", "1"),
            ("expand-path@openssh.com", "1"),
        ];
        let extension = |(name, version): (&'static str, &'static str)| {
            (Bytes::from_static(name.as_bytes()), Bytes::from_static(version.as_bytes()))
        };
        Self::Version { version: VERSION, extensions: extensions.map(extension).to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sftp::split;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn answer() -> impl Strategy<Value = Response> {
        let attributes = any::<(Option<u64>, Option<u32>, Option<(u32, u32)>)>().prop_map(
            |(size, permissions, times)| Attributes { size, permissions, times, owner: None },
        );
        let name = (bytes(), bytes(), attributes.clone())
            .prop_map(|(name, long, attributes)| Name { name, long, attributes });
        prop_oneof![
            (any::<u32>(), "[a-z ]{0,20}")
                .prop_map(|(code, text)| { Response::status(Code::of(code), &text) }),
            bytes().prop_map(Response::Handle),
            bytes().prop_map(Response::Data),
            prop::collection::vec(name, 0..4).prop_map(Response::Names),
            attributes.prop_map(Response::Attributes),
            bytes().prop_map(Response::Extended),
        ]
    }

    proptest! {
        #[test]
        fn answers_survive_the_wire(id in any::<u32>(), answer in answer()) {
            let mut out = BytesMut::new();
            answer.write(id, &mut out);
            let packet = split(&mut out).unwrap().unwrap();
            prop_assert!(out.is_empty());
            prop_assert_eq!(Response::parse(&packet), Ok((id, answer)));
        }

        #[test]
        fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Response::parse(&Bytes::from(bytes));
        }
    }

    #[test]
    fn the_version_is_told_without_a_number() {
        let mut out = BytesMut::new();
        Response::version().write(7, &mut out);
        let packet = split(&mut out).unwrap().unwrap();
        assert_eq!(Response::parse(&packet), Ok((0, Response::version())));
        // Some tell no extensions, some no words.
        let parse = |bytes: &'static [u8]| Response::parse(&Bytes::from_static(bytes));
        let bare = Response::Version { version: 3, extensions: Vec::new() };
        assert_eq!(parse(b"\x02\0\0\0\x03"), Ok((0, bare)));
        let eof = Response::status(Code::Eof, "");
        assert_eq!(parse(b"\x65\0\0\0\x07\0\0\0\x01"), Ok((7, eof)));
    }

    #[test]
    fn counts_that_lie_are_refused() {
        let names = b"\x68\0\0\0\x07\xff\xff\xff\xff\0\0\0\x01a\0\0\0\0\0\0\0\0";
        assert!(Response::parse(&Bytes::from_static(names)).is_err());
        let limits = Limits { packet: 1, read: 2, write: 3, handles: 4 };
        let fields: Vec<u8> = (1u64..5).flat_map(u64::to_be_bytes).collect();
        assert_eq!(Limits::read(&fields), Ok(limits));
        assert!(Limits::read(&fields[..31]).is_err());
    }
}
