//! What came from one client, cut into runs of packets for the same receiver and other frames.

use bytes::{Buf, BytesMut};
use coderctl_tailnet::{
    derp::frame::{Decoder, Frame, FrameError},
    keys::NodePublic,
};

use super::wire::{self, Head, MAX_FRAME};

/// Room for one read while a client says little, and when it says much.
const SMALL: usize = 4 << 10;
const LARGE: usize = 128 << 10;

/// The read buffer of one client.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: BytesMut,
    /// Bytes at its beginning that were handed out.
    taken: usize,
    /// Room for the next read.
    read: usize,
    from: NodePublic,
}

/// What is next.
#[derive(Debug, PartialEq)]
pub(super) enum Input<'a> {
    /// Packets for one receiver, as it is to get them.
    Packets(Run<'a>),
    /// Anything else.
    Frame(Frame),
}

/// Frames one behind the other, made for their receiver.
#[derive(Debug, PartialEq)]
pub(super) struct Run<'a> {
    pub(super) to: NodePublic,
    /// Whether they are disco packets; a run has no others then.
    pub(super) disco: bool,
    pub(super) count: u64,
    pub(super) frames: &'a [u8],
}

impl Inbox {
    /// What a client says, beginning with what was read after its login.
    pub(super) fn new(from: NodePublic, buffer: BytesMut) -> Self {
        Self { buffer, taken: 0, read: SMALL, from }
    }

    /// What is next, `None` when more has to be read.
    pub(super) fn next(&mut self) -> Result<Option<Input<'_>>, FrameError> {
        self.buffer.advance(std::mem::take(&mut self.taken));
        let Some(head) = Head::complete(&self.buffer)? else { return Ok(None) };
        if !head.is_packet() {
            let mut frame = self.buffer.split_to(head.total());
            return Ok(Decoder::new(MAX_FRAME).decode(&mut frame)?.map(Input::Frame));
        }
        Ok(self.run().map(Input::Packets))
    }

    /// The packets at the beginning that have the same receiver.
    fn run(&mut self) -> Option<Run<'_>> {
        let to = wire::key(&self.buffer)?;
        let (mut end, mut count, mut disco) = (0, 0, false);
        while let Some(frame) = self.buffer.get_mut(end..)
            // What is wrong with a frame is said when it is the first one.
            && let Ok(Some(head)) = Head::complete(frame)
            && head.is_packet()
            && let Some(frame) = frame.get_mut(..head.total())
            && wire::key(frame) == Some(to)
            && (count == 0 || wire::is_disco(frame) == disco)
        {
            disco = wire::is_disco(frame);
            wire::turn(frame, &self.from);
            end += head.total();
            count += 1;
        }
        self.taken = end;
        Some(Run { to, disco, count, frames: self.buffer.get(..end)? })
    }

    /// The buffer with room for a read. Larger reads after those that filled theirs.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let missing = Head::read(&self.buffer)
            .map_or(0, |head| head.total().saturating_sub(self.buffer.len()));
        // A frame that is longer still is refused.
        let wanted = self.read.max(missing.min(MAX_FRAME));
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// So much was read.
    pub(super) fn filled(&mut self, count: usize) {
        if count >= self.read {
            self.read = (4 * self.read).min(LARGE);
        }
    }

    /// Nothing came for a while: gives back memory.
    pub(super) fn shrink(&mut self) {
        self.read = SMALL;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use coderctl_tailnet::derp::frame::{MAX_PACKET, put_recv_packet, put_send_packet};
    use proptest::prelude::*;

    use super::*;

    const ME: NodePublic = NodePublic::from_bytes([1; 32]);
    const A: NodePublic = NodePublic::from_bytes([2; 32]);
    const B: NodePublic = NodePublic::from_bytes([3; 32]);

    fn sent(packets: &[(NodePublic, &[u8])]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for (to, packet) in packets {
            put_send_packet(&mut bytes, to, packet).unwrap();
        }
        bytes
    }

    fn received(packets: &[&[u8]]) -> BytesMut {
        let mut bytes = BytesMut::new();
        for packet in packets {
            put_recv_packet(&mut bytes, &ME, packet).unwrap();
        }
        bytes
    }

    fn disco() -> Vec<u8> {
        let mut packet = vec![0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
        packet.resize(62, 9);
        packet
    }

    #[test]
    fn a_run_has_one_receiver_and_is_made_for_it() {
        let mut inbox = Inbox::new(ME, sent(&[(A, b"one"), (A, b"two"), (B, b"three")]));
        let frames = &received(&[b"one", b"two"])[..];
        let run = Run { to: A, disco: false, count: 2, frames };
        assert_eq!(inbox.next().unwrap(), Some(Input::Packets(run)));
        let frames = &received(&[b"three"])[..];
        let run = Run { to: B, disco: false, count: 1, frames };
        assert_eq!(inbox.next().unwrap(), Some(Input::Packets(run)));
        assert_eq!(inbox.next().unwrap(), None);
    }

    #[test]
    fn disco_is_a_run_of_its_own() {
        let disco = disco();
        let mut inbox =
            Inbox::new(ME, sent(&[(A, b"one"), (A, &disco), (A, &disco), (A, &disco[..61])]));
        let mut runs = Vec::new();
        while let Some(Input::Packets(run)) = inbox.next().unwrap() {
            runs.push((run.disco, run.count));
        }
        assert_eq!(runs, [(false, 1), (true, 2), (false, 1)]);
    }

    #[test]
    fn other_frames_end_a_run() {
        let mut bytes = sent(&[(A, b"one")]);
        Frame::Ping(*b"pingpong").encode(&mut bytes);
        bytes.unsplit(sent(&[(A, b"two")]));
        let mut inbox = Inbox::new(ME, bytes);
        assert!(matches!(inbox.next().unwrap(), Some(Input::Packets(Run { count: 1, .. }))));
        assert_eq!(inbox.next().unwrap(), Some(Input::Frame(Frame::Ping(*b"pingpong"))));
        assert!(matches!(inbox.next().unwrap(), Some(Input::Packets(Run { count: 1, .. }))));
        assert_eq!(inbox.next().unwrap(), None);
    }

    #[test]
    fn a_packet_without_a_whole_key_is_skipped() {
        let mut bytes = BytesMut::from(&[4, 0, 0, 0, 31][..]);
        bytes.extend_from_slice(&[2; 31]);
        let mut inbox = Inbox::new(ME, bytes);
        assert!(matches!(
            inbox.next().unwrap(),
            Some(Input::Frame(Frame::Unknown { kind: 4, .. }))
        ));
    }

    #[test]
    fn a_packet_that_is_too_long_ends_it() {
        let longest = vec![7; MAX_PACKET];
        let mut bytes = sent(&[(A, &longest)]);
        bytes.extend_from_slice(&[4, 0, 1, 0, 33]);
        let mut inbox = Inbox::new(ME, bytes);
        assert!(matches!(inbox.next().unwrap(), Some(Input::Packets(Run { count: 1, .. }))));
        assert!(inbox.next().is_err());
    }

    proptest! {
        /// However the bytes arrive, the same packets come out; garbage ends in an error or waits.
        #[test]
        fn reads_may_end_anywhere(
            packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..30),
            sizes in prop::collection::vec(1usize..300, 1..100),
        ) {
            let packets: Vec<(NodePublic, &[u8])> =
                packets.iter().map(|(a, packet)| (if *a { A } else { B }, &packet[..])).collect();
            let bytes = sent(&packets);
            let mut inbox = Inbox::new(ME, BytesMut::new());
            let (mut out, mut count) = (Vec::new(), 0);
            let (mut rest, mut sizes) = (&bytes[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                inbox.room().extend_from_slice(now);
                inbox.filled(now.len());
                rest = later;
                while let Some(input) = inbox.next().unwrap() {
                    let Input::Packets(run) = input else { panic!("{input:?}") };
                    count += run.count;
                    out.extend_from_slice(run.frames);
                }
            }
            let all: Vec<&[u8]> = packets.iter().map(|(_, packet)| *packet).collect();
            prop_assert_eq!(&out[..], &received(&all)[..]);
            prop_assert_eq!(count as usize, packets.len());
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut inbox = Inbox::new(ME, BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = inbox.next() {}
            prop_assert!(inbox.room().capacity() <= MAX_FRAME + 2 * LARGE);
        }
    }
}
