//! SYNs and flows that wait for a decision, and the addresses they are for.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Instant;

use bytes::BytesMut;
use smoltcp::iface::Interface;
use smoltcp::wire::{IpAddress, IpCidr, IpListenEndpoint};

use super::super::connection::Tuple;
use super::super::device::Door;
use super::super::forwarder::Kept;
use super::super::{CloseReason, ConnectionId, MAX_OWN_ADDRESSES, StackError, SynId};
use super::SmolStack;
use crate::packet::{self, Packet, Upper};

impl SmolStack {
    /// Holds a SYN that nobody listens for.
    pub(super) fn hold_syn(&mut self, tuple: Tuple, packet: &[u8]) {
        let id = SynId(self.id());
        match self.forwarder.hold(id, tuple, packet) {
            Kept::New | Kept::Again => {}
            Kept::Overflow => self.stats.overflow += 1,
        }
    }

    pub(super) fn accept_held(&mut self, id: SynId, now: Instant) -> Option<ConnectionId> {
        let (tuple, packet) = self.forwarder.take(id)?;
        let packet = Packet::parse(&packet).ok()?;
        let Upper::Tcp(segment) = packet.upper else { return None };
        let id = self.add(tuple, None, now);
        let here = IpListenEndpoint { addr: Some(IpAddress::Ipv6(tuple.local)), port: tuple.port };
        let listens = self.connections.get_mut(&id)?.socket_mut().listen(here).is_ok();
        if !listens {
            self.remove(id);
            return None;
        }
        self.feed(id, &packet, &segment, now);
        Some(id)
    }

    pub(super) fn refuse_held(&mut self, id: SynId, now: Instant) {
        let Some((_, packet)) = self.forwarder.take(id) else { return };
        if let Ok(packet) = Packet::parse(&packet) {
            self.refuse(&packet, now);
        }
    }

    /// Answers a segment of no connection, as smoltcp does: with a RST, unless it is one.
    pub(super) fn refuse(&mut self, packet: &Packet<'_>, now: Instant) {
        let clock = self.clock(now);
        let mut door = Door::incoming(packet.bytes);
        self.interface.poll_ingress_single(clock, &mut door, &mut self.nobody);
        if let Some(answer) = door.outgoing {
            self.answer(packet.source, answer);
        }
    }

    pub(super) fn change_addresses(
        &mut self,
        addresses: &[Ipv6Addr],
        now: Instant,
    ) -> Result<(), StackError> {
        if addresses.is_empty() || !addresses.iter().all(packet::is_tunnel_address) {
            return Err(StackError::Unaddressable);
        }
        if addresses.len() > MAX_OWN_ADDRESSES {
            return Err(StackError::TooMany);
        }
        let kept = |address: &Ipv6Addr| addresses.contains(address);
        self.forwarder.forget(|tuple| !kept(&tuple.local));
        let gone = self.connections.iter().filter(|(_, connection)| !kept(&connection.tuple.local));
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.fail(id, CloseReason::Reset, now);
            self.reset_at_once(id, now);
        }
        self.addresses = addresses.to_vec();
        set_addresses(&mut self.interface, addresses);
        Ok(())
    }

    /// Makes a connection's RST now: smoltcp makes none for an address that is no longer ours.
    fn reset_at_once(&mut self, id: ConnectionId, now: Instant) {
        let clock = self.clock(now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let to = connection.tuple.remote;
        let mut door = Door::outgoing(BytesMut::new());
        self.interface.poll_egress(clock, &mut door, connection.sockets());
        if let Some(packet) = door.outgoing {
            self.answer(to, packet);
        }
        self.settle(id, now);
    }

    pub(super) fn open_connections(&self) -> Vec<(u16, SocketAddrV6)> {
        let open = self.connections.values().filter(|it| it.established && it.ended.is_none());
        open.map(|it| (it.tuple.port, it.remote())).collect()
    }
}

pub(super) fn set_addresses(interface: &mut Interface, addresses: &[Ipv6Addr]) {
    interface.update_ip_addrs(|list| {
        list.clear();
        for address in addresses {
            // The list has room for as many as we ever have.
            let _ = list.push(IpCidr::new(IpAddress::Ipv6(*address), 128));
        }
    });
}
