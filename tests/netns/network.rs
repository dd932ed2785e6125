//! Two sites, a server, and what connects them.

use super::{
    link::LinkConfig,
    namespace::{Namespace, cable},
    nat::Kind,
    nats,
    wire::Wire,
};

/// Where the server is (RFC 2544's range for tests, which nobody takes for private).
pub(crate) const SERVER: &str = "198.18.0.2";

/// An address that the server has, too.
pub(crate) const OTHER_SERVER: &str = "198.18.0.3";

/// A host and its router.
pub(crate) struct Site {
    pub(crate) host: Namespace,
    router: Namespace,
    kind: Kind,
    /// Its number.
    index: usize,
}

/// The whole.
pub(crate) struct Network {
    pub(crate) server: Namespace,
    pub(crate) sites: [Site; 2],
    core: Namespace,
    /// Between the first site's router and the core, if it is no plain cable.
    _wire: Option<Wire>,
}

impl Site {
    fn new(index: usize, kind: Kind) -> Self {
        let site = Self {
            host: Namespace::new(&format!("host{index}")),
            router: Namespace::new(&format!("router{index}")),
            kind,
            index,
        };
        cable((&site.host, "lan"), (&site.router, "lan"));
        site.router.sh(&format!("ip address add {}/24 dev lan; ip link set lan up", site.at(1)));
        site.move_to(2);
        nats::set_up(kind, &site.router, &site.at(2));
        site
    }

    /// An address in its network.
    fn at(&self, number: u8) -> String {
        let Self { index, kind, .. } = self;
        match kind.is_transparent() {
            true => format!("198.18.1{index}.{number}"),
            false => format!("10.0.{index}.{number}"),
        }
    }

    /// Takes the host's interface down, and up with another address.
    pub(crate) fn move_to(&self, number: u8) {
        let (address, router) = (self.at(number), self.at(1));
        self.host.sh(&format!(
            "ip link set lan down; ip address flush dev lan
            ip address add {address}/24 dev lan; ip link set lan up
            ip route add default via {router}"
        ));
    }
}

impl Network {
    /// With this between the first site and the rest.
    pub(crate) fn new(kinds: [Kind; 2], link: Option<LinkConfig>) -> Self {
        let (core, server) = (Namespace::new("core"), Namespace::new("server"));
        cable((&core, "server"), (&server, "core"));
        core.sh("ip address add 198.18.0.1/24 dev server; ip link set server up");
        server.sh(&format!(
            "ip address add {SERVER}/24 dev core; ip address add {OTHER_SERVER}/24 dev core
            ip link set core up
            ip route add default via 198.18.0.1"
        ));
        let [one, other] = kinds;
        let sites = [Site::new(0, one), Site::new(1, other)];
        let wire = link.map(|link| Wire::start((&sites[0].router, "wan"), (&core, "site0"), link));
        for (index, site) in sites.iter().enumerate() {
            if index == 1 || wire.is_none() {
                cable((&site.router, "wan"), (&core, &format!("site{index}")));
            }
            let (router, gateway) = (format!("198.18.2{index}.2"), format!("198.18.2{index}.1"));
            site.router.sh(&format!(
                "ip address add {router}/24 dev wan; ip link set wan up
                ip route add default via {gateway}"
            ));
            core.sh(&format!(
                "ip address add {gateway}/24 dev site{index}; ip link set site{index} up
                ip route add 198.18.1{index}.0/24 via {router}"
            ));
        }
        Self { server, sites, core, _wire: wire }
    }

    /// What the sites are behind.
    pub(crate) fn kinds(&self) -> [Kind; 2] {
        self.sites.each_ref().map(|site| site.kind)
    }

    /// Nothing passes by UDP any more.
    pub(crate) fn block_udp(&self) {
        self.core.sh("iptables -I FORWARD -p udp -j DROP");
    }

    /// It does again.
    pub(crate) fn unblock_udp(&self) {
        self.core.sh("iptables -D FORWARD -p udp -j DROP");
    }

    /// The first site's way to the rest takes packets of so many bytes only.
    pub(crate) fn set_mtu(&self, bytes: u16) {
        self.sites[0].router.sh(&format!("ip link set wan mtu {bytes}"));
        self.core.sh(&format!("ip link set site0 mtu {bytes}"));
    }
}
