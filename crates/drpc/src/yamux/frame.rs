//! The header of a frame: twelve bytes, big-endian (hashicorp/yamux: spec.md).
//!
//! ```text
//!   version 1 | type 1 | flags 2 | stream 4 | length 4
//! ```

use super::ProtocolError;

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;

/// The only version.
const VERSION: u8 = 0;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `length` bytes of payload follow.
    Data,
    /// `length` more bytes may be sent on the stream.
    WindowUpdate,
    /// `length` is an opaque value; answered with the same one.
    Ping,
    /// `length` is a [code](GO_AWAY_NORMAL).
    GoAway,
}

/// A bit of the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream, or asks for the answer to a ping.
    pub const SYN: Self = Self(1);
    /// Accepts a stream, or answers a ping.
    pub const ACK: Self = Self(2);
    /// Ends the sender's direction of a stream.
    pub const FIN: Self = Self(4);
    /// Ends a stream at once.
    pub const RST: Self = Self(8);

    /// All of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Go-away: no new streams, the open ones are finished.
pub const GO_AWAY_NORMAL: u32 = 0;
/// Go-away: the receiver of it broke the protocol.
pub const GO_AWAY_PROTOCOL: u32 = 1;
/// Go-away: the sender of it failed.
pub const GO_AWAY_INTERNAL: u32 = 2;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Its flags; unknown bits are kept.
    pub flags: Flags,
    /// Its stream, 0 for a ping or a go-away.
    pub stream: u32,
    /// Depends on the kind.
    pub length: u32,
}

impl Header {
    /// The header as bytes.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = match self.kind {
            Kind::Data => 0,
            Kind::WindowUpdate => 1,
            Kind::Ping => 2,
            Kind::GoAway => 3,
        };
        bytes[2..4].copy_from_slice(&self.flags.0.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`ProtocolError::Version`] and [`ProtocolError::Type`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, ProtocolError> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *bytes;
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(ProtocolError::Type(other)),
        };
        Ok(Self {
            kind,
            flags: Flags(u16::from_be_bytes([f0, f1])),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as recorded from the Go implementation.
    #[test]
    fn headers_are_the_recorded_bytes() {
        let table = [
            ("000100010000000100000000", Kind::WindowUpdate, Flags::SYN, 1, 0),
            ("000100020000000100000000", Kind::WindowUpdate, Flags::ACK, 1, 0),
            ("000000000000000100000038", Kind::Data, Flags::NONE, 1, 56),
            ("000100040000000100000000", Kind::WindowUpdate, Flags::FIN, 1, 0),
            ("000100080000000100000000", Kind::WindowUpdate, Flags::RST, 1, 0),
            ("000200010000000000000000", Kind::Ping, Flags::SYN, 0, 0),
            ("000200020000000000000000", Kind::Ping, Flags::ACK, 0, 0),
            ("000300000000000000000000", Kind::GoAway, Flags::NONE, 0, GO_AWAY_NORMAL),
        ];
        for (hex, kind, flags, stream, length) in table {
            let header = Header { kind, flags, stream, length };
            let bytes = header.encode();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, hex);
            assert_eq!(Header::decode(&bytes), Ok(header));
        }
    }

    #[test]
    fn other_versions_and_types_are_refused() {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 1;
        assert_eq!(Header::decode(&bytes), Err(ProtocolError::Version(1)));
        bytes[0] = 0;
        bytes[1] = 4;
        assert_eq!(Header::decode(&bytes), Err(ProtocolError::Type(4)));
    }
}
