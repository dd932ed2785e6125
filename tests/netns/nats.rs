//! Routers of every kind, made of `iptables`.

use super::{namespace::Namespace, nat::Kind};

/// Sets up a router between `lan`, with this host on it, and `wan`.
pub(crate) fn set_up(kind: Kind, router: &Namespace, host: &str) {
    let refuse_new = "iptables -A FORWARD -i wan -p udp -m conntrack --ctstate NEW -j DROP";
    // A probe for the router itself would take the place in its table that the host's own
    // probe is about to need.
    let translate = "iptables -A INPUT -i wan -p udp -j DROP
        iptables -t nat -A POSTROUTING -o wan -j MASQUERADE";
    let to_host = format!("-j DNAT --to-destination {host}");
    let script = match kind {
        Kind::Open => return,
        Kind::Firewall => refuse_new.to_owned(),
        Kind::FullCone => format!(
            "{translate}
            iptables -t nat -A PREROUTING -i wan -p udp {to_host}"
        ),
        Kind::Restricted => format!(
            "{translate}
            iptables -A FORWARD -o wan -p udp -m recent --name sent --rdest --set
            iptables -t nat -A PREROUTING -i wan -p udp \
                -m recent --name sent --rsource --rcheck {to_host}"
        ),
        Kind::PortRestricted => translate.to_owned(),
        Kind::Symmetric => format!("{translate} --random-fully"),
    };
    router.sh(&script);
}
