//! What is said of a file (section 5).

use bytes::{BufMut, BytesMut};

use super::u64;
use crate::{error::Error, wire::Reader};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What is said of a file; nothing of what is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// In bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Permissions and, in answers, the kind of file, as `st_mode` has them.
    pub permissions: Option<u32>,
    /// Last access and last change of the contents, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    /// Reads them. Extended ones are passed over.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let flags = reader.u32()?;
        let has = |flag| flags & flag != 0;
        let mut said = Self::default();
        if has(SIZE) {
            said.size = Some(u64(reader)?);
        }
        if has(OWNER) {
            said.owner = Some((reader.u32()?, reader.u32()?));
        }
        if has(PERMISSIONS) {
            said.permissions = Some(reader.u32()?);
        }
        if has(TIMES) {
            said.times = Some((reader.u32()?, reader.u32()?));
        }
        if has(EXTENDED) {
            for _ in 0..reader.u32()? {
                reader.string()?;
                reader.string()?;
            }
        }
        Ok(said)
    }

    /// Writes them.
    pub fn write(&self, out: &mut BytesMut) {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        out.put_u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.permissions.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((user, group)) = self.owner {
            out.put_u32(user);
            out.put_u32(group);
        }
        if let Some(permissions) = self.permissions {
            out.put_u32(permissions);
        }
        if let Some((accessed, changed)) = self.times {
            out.put_u32(accessed);
            out.put_u32(changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_wire() {
        let all = Attributes {
            size: Some(1 << 40),
            owner: Some((1000, 0)),
            permissions: Some(1000),
            times: Some((5, 6)),
        };
        for which in 0..16 {
            let one = Attributes {
                size: all.size.filter(|_| which & 1 != 0),
                owner: all.owner.filter(|_| which & 2 != 0),
                permissions: all.permissions.filter(|_| which & 4 != 0),
                times: all.times.filter(|_| which & 8 != 0),
            };
            let mut out = BytesMut::new();
            one.write(&mut out);
            let mut reader = Reader::new(&out, "attributes");
            assert_eq!(Attributes::read(&mut reader), Ok(one));
            assert!(reader.rest().is_empty(), "{one:?}");
        }
        let extended = b"\x80\0\0\0\0\0\0\x01\0\0\0\x01a\0\0\0\x01b";
        let mut reader = Reader::new(extended, "attributes");
        assert_eq!(Attributes::read(&mut reader), Ok(Attributes::default()));
        assert!(reader.rest().is_empty());
    }
}
