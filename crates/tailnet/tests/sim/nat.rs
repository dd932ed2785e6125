//! What may stand between a host and everybody else.

/// What a router translates and what it lets in (RFC 3489, 5, has the names of the four that
/// translate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but forwarding.
    Open,
    /// No translation; lets in only who was sent to.
    Firewall,
    /// Lets anybody in.
    FullCone,
    /// Lets in who was sent to, from any port.
    Restricted,
    /// Lets in only who was sent to.
    PortRestricted,
    /// As before, and has another port for each destination.
    Symmetric,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Open,
        Self::Firewall,
        Self::FullCone,
        Self::Restricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];

    /// Whether hosts behind it have addresses that everybody can reach.
    pub(crate) fn is_transparent(self) -> bool {
        matches!(self, Self::Open | Self::Firewall)
    }

    /// Whether ends behind these can meet. A symmetric NAT maps each destination anew, so the port
    /// that STUN saw is not the one that a peer would have to know; that is no harm if the other end
    /// lets in who comes from the right address.
    pub(crate) fn meets(self, other: Self) -> bool {
        let strict = |kind| matches!(kind, Self::Firewall | Self::PortRestricted | Self::Symmetric);
        let blind = |one, other| one == Self::Symmetric && strict(other);
        !blind(self, other) && !blind(other, self)
    }
}
