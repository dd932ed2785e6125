//! Names for what a stack holds.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) u64);
    };
}

id! {
    /// A port that accepts TCP connections.
    ListenerId
}
id! {
    /// A SYN that waits for a decision.
    SynId
}
id! {
    /// A UDP socket.
    UdpId
}
id! {
    /// A ping under way.
    PingId
}
