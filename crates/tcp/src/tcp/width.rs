//! What the ways to other ends carry: told from outside, where packets longer than [`MTU`] are tried,
//! and asked for and doubted from here.

use std::net::Ipv6Addr;

use super::{Tcp, entry};
use crate::config::MTU;
use crate::event::{Id, WidthNews};
use crate::send;
use crate::time::Time;

impl Tcp {
    /// The way to `remote` carries IP packets of so many bytes from now on; [`MTU`] is always carried.
    pub fn set_width(&mut self, remote: Ipv6Addr, packet: usize, now: Time) {
        let known = match packet > MTU {
            true => self.widths.insert(remote, packet),
            false => self.widths.remove(&remote),
        };
        if known.unwrap_or(MTU) == packet.max(MTU) {
            return;
        }
        for id in self.all(|tuple| tuple.remote == remote) {
            self.widen(id, now);
            self.settle(id, now);
        }
    }

    /// Has a connection know what its way carries.
    pub(super) fn widen(&mut self, id: Id, now: Time) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let packet = self.widths.get(&entry.connection.tuple.remote).copied().unwrap_or(MTU);
        if let Some(flow) = entry.connection.flow_mut() {
            flow.set_width(packet, now);
        }
    }

    /// Notes what a connection has to tell of its way.
    pub(super) fn note_width(&mut self, id: Id) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let remote = entry.connection.tuple.remote;
        let news = entry.connection.flow_mut().and_then(|flow| flow.sender.width_news());
        self.width_news.extend(news.map(|news| match news {
            send::WidthNews::Wanted => WidthNews::Wanted(remote),
            send::WidthNews::Lost => WidthNews::Lost(remote),
        }));
    }

    /// What is to be known about the ways, to be called until `None`. Each connection tells each
    /// thing once, until [`Tcp::set_width`] says what became of it.
    pub fn poll_width(&mut self) -> Option<WidthNews> {
        self.width_news.pop_front()
    }
}
