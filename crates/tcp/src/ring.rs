//! A ring of bytes that grows while it is used and can give its memory back.

/// The first allocation of a ring, in bytes: a few segments, enough for a prompt.
const FIRST: usize = 8 * 1024;

/// Bytes in order. Behind the last of them others may already lie, at a distance
/// ([`Ring::put_ahead`]): segments that arrived before their turn.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    head: usize,
    length: usize,
}

impl Ring {
    /// Bytes in order.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Memory held, in bytes.
    pub(crate) const fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Gives the memory back; the ring must be empty.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Makes room for so many bytes altogether. Doubling keeps the copies rare; the memory comes
    /// zeroed from the system and is only touched as it is used.
    pub(crate) fn reserve(&mut self, total: usize) {
        if total <= self.bytes.len() {
            return;
        }
        let mut bytes = vec![0; total.next_power_of_two().max(FIRST)].into_boxed_slice();
        // What lies ahead moves, too: everything, in order from the head.
        let (first, second) = self.bytes.split_at(self.head);
        bytes[..second.len()].copy_from_slice(second);
        bytes[second.len()..second.len() + first.len()].copy_from_slice(first);
        self.bytes = bytes;
        self.head = 0;
    }

    /// The first bytes, as many as lie together.
    pub(crate) fn front(&self) -> &[u8] {
        self.slices(0, self.length).0
    }

    /// Removes the first bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        self.head = self.at(count);
    }

    /// Bytes from `offset` on.
    pub(crate) fn slices(&self, offset: usize, count: usize) -> (&[u8], &[u8]) {
        let count = count.min(self.length.saturating_sub(offset));
        if count == 0 {
            return (&[], &[]);
        }
        let start = self.at(offset);
        let together = count.min(self.bytes.len() - start);
        (&self.bytes[start..start + together], &self.bytes[..count - together])
    }

    /// Free room behind the last byte, as much as lies together and at most so much; to be
    /// followed by [`Ring::advance`].
    pub(crate) fn vacant(&mut self, most: usize) -> &mut [u8] {
        let free = (self.bytes.len() - self.length).min(most);
        if free == 0 {
            return &mut [];
        }
        let start = self.at(self.length);
        let together = free.min(self.bytes.len() - start);
        &mut self.bytes[start..start + together]
    }

    /// So many bytes behind the last one count from now on.
    pub(crate) fn advance(&mut self, count: usize) {
        self.length = (self.length + count).min(self.bytes.len());
    }

    /// Puts bytes at a distance behind the last one, without counting them.
    pub(crate) fn put_ahead(&mut self, distance: usize, bytes: &[u8]) {
        self.reserve(self.length + distance + bytes.len());
        if bytes.is_empty() {
            return;
        }
        let start = self.at(self.length + distance);
        let together = bytes.len().min(self.bytes.len() - start);
        self.bytes[start..start + together].copy_from_slice(&bytes[..together]);
        self.bytes[..bytes.len() - together].copy_from_slice(&bytes[together..]);
    }

    /// Where the byte at `offset` is; sizes are powers of two.
    const fn at(&self, offset: usize) -> usize {
        (self.head + offset) & self.bytes.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize),
        Read(usize),
        Ahead(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000_usize).prop_map(Step::Write),
            (0..20_000_usize).prop_map(Step::Read),
            (0..5_000_usize, 0..5_000_usize).prop_map(|(at, count)| Step::Ahead(at, count)),
        ]
    }

    /// The byte at a place of the stream.
    fn byte(place: usize) -> u8 {
        (place % 251) as u8
    }

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(steps in prop::collection::vec(step(), 1..50)) {
            let mut ring = Ring::default();
            let (mut read, mut written) = (0, 0);
            for step in steps {
                match step {
                    Step::Write(count) => {
                        ring.reserve(ring.len() + count);
                        let mut left = count;
                        while left > 0 {
                            let room = ring.vacant(left);
                            let took = room.len();
                            for (at, place) in room.iter_mut().enumerate() {
                                *place = byte(written + at);
                            }
                            ring.advance(took);
                            written += took;
                            left -= took;
                        }
                    }
                    Step::Read(count) => {
                        let (first, second) = ring.slices(0, count);
                        for (at, found) in first.iter().chain(second).enumerate() {
                            prop_assert_eq!(*found, byte(read + at));
                        }
                        let took = first.len() + second.len();
                        prop_assert_eq!(took, count.min(written - read));
                        ring.consume(took);
                        read += took;
                    }
                    Step::Ahead(distance, count) => {
                        let start = written + distance;
                        let bytes: Vec<u8> = (start..start + count).map(byte).collect();
                        ring.put_ahead(distance, &bytes);
                        // Its turn comes.
                        let gap: Vec<u8> = (written..start).map(byte).collect();
                        ring.put_ahead(0, &gap);
                        ring.advance(distance + count);
                        written = start + count;
                    }
                }
                prop_assert_eq!(ring.len(), written - read);
            }
        }
    }

    #[test]
    fn an_empty_ring_gives_its_memory_back() {
        let mut ring = Ring::default();
        ring.put_ahead(0, b"abc");
        ring.advance(3);
        ring.release();
        assert_eq!(ring.capacity(), FIRST);
        ring.consume(3);
        ring.release();
        assert_eq!(ring.capacity(), 0);
    }
}
