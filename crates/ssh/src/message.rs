//! Message numbers (RFC 4250 section 4.1.2, RFC 8308, RFC 5656).

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u8 = $number;)*
    };
}

numbers! {
    /// The sender takes its leave.
    DISCONNECT = 1;
    /// To be ignored.
    IGNORE = 2;
    /// A message was not understood.
    UNIMPLEMENTED = 3;
    /// Text for a log.
    DEBUG = 4;
    /// Asks for a service.
    SERVICE_REQUEST = 5;
    /// The service may be used.
    SERVICE_ACCEPT = 6;
    /// Extensions of the peer (RFC 8308).
    EXT_INFO = 7;
    /// The algorithms of one side.
    KEXINIT = 20;
    /// From the next packet on, the new keys are used.
    NEWKEYS = 21;
    /// The client's share of the key exchange.
    KEX_ECDH_INIT = 30;
    /// The server's share, its key and its signature.
    KEX_ECDH_REPLY = 31;
    /// Asks to be let in.
    USERAUTH_REQUEST = 50;
    /// Not let in.
    USERAUTH_FAILURE = 51;
    /// Let in.
    USERAUTH_SUCCESS = 52;
    /// Text to show before.
    USERAUTH_BANNER = 53;
    /// A request about the connection.
    GLOBAL_REQUEST = 80;
    /// It was granted.
    REQUEST_SUCCESS = 81;
    /// It was not.
    REQUEST_FAILURE = 82;
    /// Opens a channel.
    CHANNEL_OPEN = 90;
    /// The channel is open.
    CHANNEL_OPEN_CONFIRMATION = 91;
    /// The channel is refused.
    CHANNEL_OPEN_FAILURE = 92;
    /// More may be sent.
    CHANNEL_WINDOW_ADJUST = 93;
    /// Data.
    CHANNEL_DATA = 94;
    /// Data of another kind, such as standard error.
    CHANNEL_EXTENDED_DATA = 95;
    /// No more data follow.
    CHANNEL_EOF = 96;
    /// The channel ends.
    CHANNEL_CLOSE = 97;
    /// A request about the channel.
    CHANNEL_REQUEST = 98;
    /// It was granted.
    CHANNEL_SUCCESS = 99;
    /// It was not.
    CHANNEL_FAILURE = 100;
}
