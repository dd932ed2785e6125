//! What can be wrong with received bytes.

/// What is wrong with received bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A number of more than ten bytes, or of more than 64 bits.
    #[error("a number does not fit in 64 bits")]
    Varint,
    /// A packet that is larger than any sender makes.
    #[error("a packet of {size} bytes or more is over the limit of {limit}")]
    TooLarge {
        /// Bytes that were announced.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A packet's number is 0 or lower than the one before.
    #[error("packet {stream}/{message} came out of order")]
    Order {
        /// The call's number.
        stream: u64,
        /// The packet's number.
        message: u64,
    },
    /// Frames of one packet with different kinds.
    #[error("a packet changed from {from:?} to {to:?}")]
    KindChange {
        /// Kind of its first frame.
        from: super::Kind,
        /// Kind of a later frame.
        to: super::Kind,
    },
    /// A packet of a kind that we do not know, without the bit that says it may be ignored.
    #[error("unknown packet kind {0}")]
    Kind(u8),
    /// A packet that does not belong where it came.
    #[error("unexpected {0:?} packet")]
    Unexpected(super::Kind),
    /// A call name that is not text.
    #[error("the name of the call is not UTF-8")]
    Name,
    /// Metadata that cannot be read.
    #[error("cannot read the metadata of the call")]
    Metadata,
    /// The stream ended inside a packet.
    #[error("the stream ended inside a packet")]
    Truncated,
}
