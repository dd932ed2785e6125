//! Bytes as text.

use std::fmt::Write as _;

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads hexadecimal digits, of either case; `None` when there is anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_pairs() {
        for (text, bytes) in [
            ("", Some(vec![])),
            ("00ffAb", Some(vec![0, 0xff, 0xab])),
            ("0", None),
            ("0g", None),
            ("+1", None),
            ("ä", None),
        ] {
            assert_eq!(unhex(text), bytes, "{text}");
        }
        assert_eq!(hex(&[0, 0xff, 0xab]), "00ffab");
    }
}
