//! dRPC on one stream.

/// Longest error text that is kept.
pub const MAX_ERROR_TEXT: usize = 4096;

/// What is wrong with received bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A number of more than ten bytes.
    #[error("a number is longer than 10 bytes")]
    LongVarint,
}

/// Key and value pairs that go before an Invoke.
pub type Metadata = std::collections::BTreeMap<String, String>;
