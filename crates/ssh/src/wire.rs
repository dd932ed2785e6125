//! The data types of RFC 4251 section 5: reading them with limits, writing them.

use bytes::{BufMut, BytesMut};

use crate::error::Error;

/// Reads fields from a message. Every failure names the message.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`, which are a `what`.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Error::Malformed(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] at the end.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let (head, rest) = self.rest.split_first().ok_or(Error::Malformed(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// A boolean: anything but zero is true.
    ///
    /// # Errors
    /// [`Error::Malformed`] at the end.
    pub fn boolean(&mut self) -> Result<bool, Error> {
        Ok(self.byte()? != 0)
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// [`Error::Malformed`] when fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, Error> {
        let (head, rest) = self.rest.split_first_chunk::<4>().ok_or(Error::Malformed(self.what))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// A string: arbitrary bytes with their length before them.
    ///
    /// # Errors
    /// [`Error::Malformed`] when its length goes past the end.
    pub fn string(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A string that must be UTF-8.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is not.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.string()?).map_err(|_| Error::Malformed(self.what))
    }

    /// A multiple precision integer that is not negative, without leading zeros.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is negative or goes past the end.
    pub fn mpint(&mut self) -> Result<&'a [u8], Error> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Error::Malformed(self.what));
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(&bytes[zeros..])
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Writes fields into a buffer.
pub trait Put: BufMut {
    /// A boolean.
    fn put_boolean(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    /// A string with its length. It is the caller who keeps it below 4 GiB; everything written
    /// here is below 256 KiB.
    fn put_string(&mut self, value: &[u8]) {
        self.put_u32(value.len() as u32);
        self.put_slice(value);
    }

    /// A non-negative integer, given by its big-endian bytes.
    fn put_mpint(&mut self, value: &[u8]) {
        let zeros = value.iter().take_while(|byte| **byte == 0).count();
        let value = &value[zeros..];
        let sign = value.first().is_some_and(|first| first & 0x80 != 0);
        self.put_u32((value.len() + usize::from(sign)) as u32);
        if sign {
            self.put_u8(0);
        }
        self.put_slice(value);
    }
}

impl Put for BytesMut {}
impl Put for Vec<u8> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4251 section 5, as far as they are not negative.
    #[test]
    fn mpints_of_the_rfc() {
        for (value, encoded) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (
                &[0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
                &[0, 0, 0, 8, 0x09, 0xa3, 0x78, 0xf9, 0xb2, 0xe3, 0x32, 0xa7],
            ),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut out = Vec::new();
            out.put_mpint(value);
            assert_eq!(out, encoded);
            assert_eq!(Reader::new(&out, "number").mpint().unwrap(), value);
        }
        assert_eq!(
            Reader::new(&[0, 0, 0, 1, 0x80], "number").mpint(),
            Err(Error::Malformed("number")),
            "negative"
        );
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut reader = Reader::new(&[0, 0, 0, 5, 1, 2], "thing");
        assert_eq!(reader.string(), Err(Error::Malformed("thing")));
        assert_eq!(Reader::new(&[0, 0], "thing").u32(), Err(Error::Malformed("thing")));
        assert_eq!(Reader::new(&[], "thing").byte(), Err(Error::Malformed("thing")));
        assert_eq!(
            Reader::new(&[0xff; 8], "thing").string(),
            Err(Error::Malformed("thing")),
            "a length near 4 GiB"
        );
    }
}
