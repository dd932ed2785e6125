//! The door between smoltcp and the rest: one packet in, one packet out.

use bytes::BytesMut;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::packet::MTU;

/// What one step of smoltcp may take and make.
#[derive(Debug, Default)]
pub(super) struct Door<'p> {
    /// The packet to take in.
    pub(super) incoming: Option<&'p [u8]>,
    /// The buffer for a packet to be made; without one nothing is made on smoltcp's own account.
    pub(super) buffer: Option<BytesMut>,
    /// The packet that was made.
    pub(super) outgoing: Option<BytesMut>,
}

impl<'p> Door<'p> {
    /// To take one packet in. An answer to it may be made.
    pub(super) fn incoming(packet: &'p [u8]) -> Self {
        Self { incoming: Some(packet), ..Self::default() }
    }

    /// To make one packet.
    pub(super) fn outgoing(buffer: BytesMut) -> Self {
        Self { buffer: Some(buffer), ..Self::default() }
    }
}

impl Device for Door<'_> {
    type RxToken<'a>
        = Arrived<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Leaving<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived<'_>, Leaving<'_>)> {
        let packet = self.incoming.take()?;
        let leaving = Leaving { buffer: &mut self.buffer, outgoing: &mut self.outgoing };
        Some((Arrived(packet), leaving))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Leaving<'_>> {
        self.buffer.as_ref()?;
        Some(Leaving { buffer: &mut self.buffer, outgoing: &mut self.outgoing })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// The packet that came.
#[derive(Debug)]
pub(super) struct Arrived<'a>(&'a [u8]);

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// The place for the packet that goes.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    buffer: &'a mut Option<BytesMut>,
    outgoing: &'a mut Option<BytesMut>,
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        // An answer to an arriving packet comes without a buffer.
        let mut packet = self.buffer.take().unwrap_or_default();
        packet.resize(len, 0);
        let result = write(&mut packet);
        *self.outgoing = Some(packet);
        result
    }
}
