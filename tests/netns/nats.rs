//! What stands between a site and everybody else.

use super::namespace::Namespace;

/// What a router does (RFC 3489, 5, has these names).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but forwarding.
    Open,
    /// No translation; lets in who was sent to.
    Firewall,
    /// Lets anybody in.
    FullCone,
    /// Lets in who was sent to, from any port.
    Restricted,
    /// Lets in who was sent to.
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

    /// Whether hosts behind the router have addresses that everybody can reach.
    pub(crate) fn is_transparent(self) -> bool {
        matches!(self, Self::Open | Self::Firewall)
    }

    /// Whether ends behind these can meet: a symmetric NAT maps each destination anew, so the port
    /// that STUN saw is not the one that a peer would have to know. That is no harm if the other end
    /// lets in who comes from the right address.
    pub(crate) fn meets(self, other: Self) -> bool {
        let strict = |kind| matches!(kind, Self::Firewall | Self::PortRestricted | Self::Symmetric);
        // A transparent end can be named exactly, so only its own strictness counts.
        let blind = |one, other| one == Self::Symmetric && strict(other);
        !blind(self, other) && !blind(other, self)
    }

    /// Sets up a router between `lan`, with this host on it, and `wan`.
    pub(crate) fn set_up(self, router: &Namespace, host: &str) {
        let refuse_new = "iptables -A FORWARD -i wan -p udp -m conntrack --ctstate NEW -j DROP";
        // A probe for the router itself would take the place in its table that the host's own
        // probe is about to need.
        let translate = "iptables -A INPUT -i wan -p udp -j DROP
            iptables -t nat -A POSTROUTING -o wan -j MASQUERADE";
        let to_host = format!("-j DNAT --to-destination {host}");
        let script = match self {
            Self::Open => return,
            Self::Firewall => refuse_new.to_owned(),
            Self::FullCone => format!(
                "{translate}
                iptables -t nat -A PREROUTING -i wan -p udp {to_host}"
            ),
            Self::Restricted => format!(
                "{translate}
                iptables -A FORWARD -o wan -p udp -m recent --name sent --rdest --set
                iptables -t nat -A PREROUTING -i wan -p udp \
                    -m recent --name sent --rsource --rcheck {to_host}"
            ),
            Self::PortRestricted => translate.to_owned(),
            Self::Symmetric => format!("{translate} --random-fully"),
        };
        router.sh(&script);
    }
}
