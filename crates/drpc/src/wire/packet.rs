//! A packet, and what its kinds carry.

use bytes::{Buf, Bytes};

use super::WireError;

/// Bytes of data in a packet (coder/coder: codersdk/drpcsdk/transport.go `MaxMessageSize`, which is
/// the default of storj/drpc too).
pub const MAX_PACKET: usize = 4 * 1024 * 1024;

/// Bytes of data in a frame; senders split there (storj/drpc: drpcwire/split.go).
pub const MAX_FRAME: usize = 64 * 1024;

/// Bytes of an error's text that are kept. Enough to be read, too little to fill a log.
pub const MAX_ERROR_TEXT: usize = 4096;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Begins a call; its data is the name.
    Invoke,
    /// An encoded message.
    Message,
    /// Ends a call with an error.
    Error,
    /// Ends a call because its result is not wanted. Sent as a control packet.
    Cancel,
    /// Ends a call in both directions.
    Close,
    /// Ends one direction of a call.
    CloseSend,
    /// Goes before an Invoke.
    InvokeMetadata,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Invoke,
        Self::Message,
        Self::Error,
        Self::Cancel,
        Self::Close,
        Self::CloseSend,
        Self::InvokeMetadata,
    ];

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Invoke => 1,
            Self::Message => 2,
            Self::Error => 3,
            Self::Cancel => 4,
            Self::Close => 5,
            Self::CloseSend => 6,
            Self::InvokeMetadata => 7,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// One step of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// Number of the call on its connection.
    pub stream: u64,
    /// Number of the packet in its direction.
    pub message: u64,
    /// What it carries.
    pub data: Bytes,
}

/// Reads the data of an Error packet: eight bytes of code and the text. Without room for a code
/// everything is text, with code 0.
pub fn parse_error(mut data: &[u8]) -> (u64, String) {
    let code = if data.len() < 8 { 0 } else { data.get_u64() };
    let mut text = String::from_utf8_lossy(&data[..data.len().min(MAX_ERROR_TEXT)]).into_owned();
    if data.len() > MAX_ERROR_TEXT {
        text.push('…');
    }
    (code, text)
}

impl Packet {
    /// The name of the call that an Invoke packet begins.
    ///
    /// # Errors
    /// [`WireError::Name`] when it is not text.
    pub fn name(&self) -> Result<&str, WireError> {
        std::str::from_utf8(&self.data).map_err(|_| WireError::Name)
    }
}
