//! Metadata of a call: what an InvokeMetadata packet carries.

use std::collections::BTreeMap;

use prost::Message;

use super::WireError;

/// Key and value pairs that go before an Invoke.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metadata {
    /// The pairs. On the wire they are a protobuf map with number 1
    /// (storj/drpc: drpcmetadata/metadata.go).
    #[prost(btree_map = "string, string", tag = "1")]
    pub entries: BTreeMap<String, String>,
}

impl Metadata {
    /// No pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads the data of an InvokeMetadata packet.
    ///
    /// # Errors
    /// [`WireError::Metadata`].
    pub fn parse(data: &[u8]) -> Result<Self, WireError> {
        Self::decode(data).map_err(|_| WireError::Metadata)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let entries = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { entries }
    }
}
