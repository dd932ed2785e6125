//! Unsigned LEB128 numbers of up to ten bytes.

use super::WireError;

/// Bytes of the longest number.
pub(crate) const MAX_LEN: usize = 10;

pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front of `bytes`; `None` when it is not complete.
pub(crate) fn take(bytes: &mut &[u8]) -> Result<Option<u64>, WireError> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(MAX_LEN).enumerate() {
        // The tenth byte has room for one bit.
        if i == MAX_LEN - 1 && *byte > 1 {
            return Err(WireError::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert!(bytes.len() <= MAX_LEN);
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), Ok(None));
            let mut rest = &bytes[..];
            assert_eq!(take(&mut rest), Ok(Some(value)));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn long_numbers_are_refused() {
        assert_eq!(take(&mut &[0x80; 9][..]), Ok(None));
        assert_eq!(take(&mut &[0x80; 10][..]), Err(WireError::Varint));
        assert_eq!(take(&mut &[&[0xff; 9][..], &[2]].concat()[..]), Err(WireError::Varint));
    }
}
