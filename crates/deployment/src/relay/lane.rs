//! Frames that wait for one client, in order, no more than so many bytes.
//!
//! They lie one behind the other in chunks of about 64 KiB, and each chunk is one write: many
//! packets share a write exactly when there are many, and no packet has memory of its own.
//!
//! When there is no room the **oldest** frames go, as upstream's do (coder/tailscale:
//! derp/derp_server.go, `sendPkt`): what is fresh is worth more, and a TCP sender inside the
//! tunnel learns of the loss one queue earlier than if its newest segment were the one dropped.

use std::collections::VecDeque;

use super::wire::{self, Head};

/// Bytes that are written at once: as many as a read brings, four TLS records.
pub(super) const CHUNK: usize = 64 << 10;

/// Room that a new chunk begins with.
const FIRST: usize = 2 << 10;

/// Frames that wait for one client.
#[derive(Debug)]
pub(super) struct Lane {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    limit: usize,
    /// A written chunk, to be filled again.
    spare: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// What lies before it was dropped.
    start: usize,
}

impl Lane {
    pub(super) fn new(limit: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, limit, spare: None }
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Appends whole frames. Says how many frames were dropped for them.
    pub(super) fn push(&mut self, frames: &[u8]) -> u64 {
        let mut dropped = 0;
        while self.bytes + frames.len() > self.limit && self.drop_oldest() {
            dropped += 1;
        }
        if frames.len() > self.limit {
            // More than can wait at all: the newest of it, frame by frame.
            return wire::frames(frames).fold(dropped, |dropped, frame| {
                if frame.len() > self.limit { dropped + 1 } else { dropped + self.push(frame) }
            });
        }
        self.bytes += frames.len();
        let mut rest = frames;
        while !rest.is_empty() {
            let room =
                self.chunks.back().map_or(0, |chunk| CHUNK.saturating_sub(chunk.bytes.len()));
            let mut now = fitting(rest, room);
            if now == 0 {
                self.begin_chunk(rest.len());
                // One frame may be a little longer than a chunk.
                let first = Head::read(rest).map_or(rest.len(), Head::total);
                now = fitting(rest, CHUNK).max(first).min(rest.len());
            }
            let (now, later) = rest.split_at(now);
            if let Some(chunk) = self.chunks.back_mut() {
                chunk.bytes.extend_from_slice(now);
            }
            rest = later;
        }
        dropped
    }

    fn begin_chunk(&mut self, expected: usize) {
        let mut bytes = self.spare.take().unwrap_or_default();
        bytes.clear();
        bytes.reserve(expected.clamp(FIRST, CHUNK));
        self.chunks.push_back(Chunk { bytes, start: 0 });
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return false };
        let waiting = chunk.bytes.get(chunk.start..).unwrap_or_default();
        let length = Head::read(waiting).map_or(waiting.len(), Head::total).min(waiting.len());
        chunk.start += length;
        self.bytes -= length;
        if chunk.start >= chunk.bytes.len()
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.spare = Some(chunk.bytes);
        }
        true
    }

    /// The oldest chunk, to be written: the bytes from the index on.
    pub(super) fn take(&mut self) -> Option<(Vec<u8>, usize)> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.bytes.len() - chunk.start;
        Some((chunk.bytes, chunk.start))
    }

    /// Takes back what was written, to be filled again.
    pub(super) fn recycle(&mut self, chunk: Vec<u8>) {
        if chunk.capacity() <= 2 * CHUNK {
            self.spare = Some(chunk);
        }
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        self.spare = None;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
        self.spare = None;
    }
}

/// How many bytes of whole frames fit into the room.
fn fitting(frames: &[u8], room: usize) -> usize {
    if frames.len() <= room {
        return frames.len();
    }
    let mut end = 0;
    for frame in wire::frames(frames) {
        if end + frame.len() > room {
            break;
        }
        end += frame.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![number];
        frame.extend_from_slice(&(length as u32).to_be_bytes());
        frame.extend(std::iter::repeat_n(number, length));
        frame
    }

    fn all(lane: &mut Lane) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some((bytes, start)) = lane.take() {
            all.extend_from_slice(&bytes[start..]);
        }
        all
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut lane = Lane::new(1 << 20);
        let frames = [frame(1, 10), frame(2, 0), frame(3, 1400)];
        for frame in &frames {
            assert_eq!(lane.push(frame), 0);
        }
        assert_eq!(lane.len(), frames.concat().len());
        assert_eq!(all(&mut lane), frames.concat());
        assert_eq!(lane.len(), 0);
    }

    #[test]
    fn the_oldest_go_first_and_one_by_one() {
        let mut lane = Lane::new(100);
        for number in 0..4 {
            assert_eq!(lane.push(&frame(number, 20)), 0);
        }
        assert_eq!(lane.push(&frame(4, 20)), 1);
        assert_eq!(lane.push(&frame(5, 40)), 2);
        assert_eq!(all(&mut lane), [frame(3, 20), frame(4, 20), frame(5, 40)].concat());
    }

    #[test]
    fn a_frame_that_can_never_wait_is_dropped_alone() {
        let mut lane = Lane::new(100);
        lane.push(&frame(1, 50));
        assert_eq!(lane.push(&[frame(2, 90), frame(3, 96)].concat()), 2);
        assert_eq!(all(&mut lane), frame(2, 90));
    }

    #[test]
    fn a_chunk_ends_between_frames() {
        let mut lane = Lane::new(1 << 20);
        let run: Vec<u8> = (0..100).flat_map(|number| frame(number, 1400)).collect();
        lane.push(&run);
        let mut together = Vec::new();
        while let Some((bytes, start)) = lane.take() {
            assert!(bytes.len() <= CHUNK);
            assert!(wire::frames(&bytes[start..]).map(<[u8]>::len).sum::<usize>() == bytes.len());
            together.extend(bytes);
        }
        assert_eq!(together, run);
    }

    proptest! {
        /// Whatever is pushed, taken and dropped: what comes out are whole frames in order, never
        /// more than the limit waits, and nothing is lost that was not counted.
        #[test]
        fn frames_stay_whole(
            runs in prop::collection::vec(prop::collection::vec(0usize..3000, 1..20), 1..40),
            takes in prop::collection::vec(any::<bool>(), 40),
            limit in 1usize..40_000,
        ) {
            let mut lane = Lane::new(limit);
            let (mut pushed, mut dropped, mut out) = (0u64, 0, Vec::new());
            for (run, take) in runs.iter().zip(takes) {
                let bytes: Vec<u8> = run
                    .iter()
                    .flat_map(|length| {
                        pushed += 1;
                        frame(pushed as u8, *length)
                    })
                    .collect();
                dropped += lane.push(&bytes);
                prop_assert!(lane.len() <= limit);
                if take && let Some((bytes, start)) = lane.take() {
                    out.extend_from_slice(&bytes[start..]);
                    lane.recycle(bytes);
                }
            }
            out.extend(all(&mut lane));
            let numbers: Vec<u8> = wire::frames(&out).map(|frame| frame[0]).collect();
            prop_assert_eq!(numbers.len() as u64 + dropped, pushed);
            prop_assert_eq!(wire::frames(&out).map(<[u8]>::len).sum::<usize>(), out.len());
        }
    }
}
