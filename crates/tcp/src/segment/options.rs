//! TCP's options: MSS and window scale, SACK (RFC 2018) and timestamps (RFC 7323).

use bytes::{BufMut as _, BytesMut};

const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const STAMPS: u8 = 8;

/// A window is scaled by at most this shift (RFC 7323, 2.3).
const MOST_SHIFT: u8 = 14;

/// Room for options in a header, in bytes: its length is told in four bits, in words.
const ROOM: usize = 40;

/// The options that are understood; others are skipped (RFC 9293, MUST-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) window_shift: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) stamps: Option<Stamps>,
    pub(crate) sack: SackBlocks,
}

/// The timestamps option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamps {
    pub(crate) value: u32,
    /// Only meaningful in segments with the ACK flag.
    pub(crate) echo: u32,
}

/// Up to four blocks of the SACK option, as the wire names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SackBlocks {
    blocks: [(u32, u32); SackBlocks::MOST],
    count: u8,
}

impl SackBlocks {
    /// What fits beside nothing else; beside timestamps one less (RFC 2018, 3).
    pub(crate) const MOST: usize = 4;

    /// Adds a block, if there is room.
    pub(crate) fn push(&mut self, block: (u32, u32)) {
        if let Some(place) = self.blocks.get_mut(usize::from(self.count)) {
            *place = block;
            self.count += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[(u32, u32)] {
        &self.blocks[..usize::from(self.count)]
    }
}

impl Options {
    /// Reads what is well-formed up to the first thing that is not.
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            let (kind, value, rest) = match bytes {
                [] | [END, ..] => return options,
                [NOTHING, rest @ ..] => {
                    bytes = rest;
                    continue;
                }
                [kind, length, rest @ ..] => {
                    let length = usize::from(*length).checked_sub(2);
                    let Some((value, rest)) = length.and_then(|it| rest.split_at_checked(it))
                    else {
                        return options;
                    };
                    (*kind, value, rest)
                }
                [_] => return options,
            };
            bytes = rest;
            options.take(kind, value);
        }
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, [high, low]) => self.mss = Some(u16::from_be_bytes([*high, *low])),
            (SCALE, [shift]) => self.window_shift = Some((*shift).min(MOST_SHIFT)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (STAMPS, [a, b, c, d, e, f, g, h]) => {
                let value = u32::from_be_bytes([*a, *b, *c, *d]);
                let echo = u32::from_be_bytes([*e, *f, *g, *h]);
                self.stamps = Some(Stamps { value, echo });
            }
            (SACK, value) => {
                let (blocks, rest) = value.as_chunks::<8>();
                if rest.is_empty() {
                    for [a, b, c, d, e, f, g, h] in blocks {
                        let start = u32::from_be_bytes([*a, *b, *c, *d]);
                        self.sack.push((start, u32::from_be_bytes([*e, *f, *g, *h])));
                    }
                }
            }
            (_, _) => {}
        }
    }

    /// How many bytes [`Options::emit`] writes, a multiple of four.
    pub(crate) fn length(&self) -> usize {
        let mut length = 0;
        length += if self.mss.is_some() { 4 } else { 0 };
        length += if self.window_shift.is_some() { 4 } else { 0 };
        length += if self.sack_permitted { 4 } else { 0 };
        length += if self.stamps.is_some() { 12 } else { 0 };
        length + self.sack_length(length)
    }

    /// The SACK option takes what room the others leave.
    fn sack_length(&self, others: usize) -> usize {
        match self.sack_fitting(others) {
            0 => 0,
            blocks => 4 + 8 * blocks,
        }
    }

    fn sack_fitting(&self, others: usize) -> usize {
        usize::from(self.sack.count).min((ROOM - others - 4) / 8)
    }

    pub(crate) fn emit(&self, out: &mut BytesMut) {
        let begin = out.len();
        if let Some(mss) = self.mss {
            out.put_slice(&[MSS, 4]);
            out.put_u16(mss);
        }
        if let Some(shift) = self.window_shift {
            out.put_slice(&[NOTHING, SCALE, 3, shift]);
        }
        if self.sack_permitted {
            out.put_slice(&[NOTHING, NOTHING, SACK_PERMITTED, 2]);
        }
        if let Some(Stamps { value, echo }) = self.stamps {
            out.put_slice(&[NOTHING, NOTHING, STAMPS, 10]);
            out.put_u32(value);
            out.put_u32(echo);
        }
        let blocks = self.sack_fitting(out.len() - begin);
        if blocks > 0 {
            out.put_slice(&[NOTHING, NOTHING, SACK, 2 + 8 * blocks as u8]);
            for (start, end) in &self.sack.blocks[..blocks] {
                out.put_u32(*start);
                out.put_u32(*end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_are_read_back() {
        let mut syn = Options { mss: Some(1220), window_shift: Some(7), ..Options::default() };
        syn.sack_permitted = true;
        syn.stamps = Some(Stamps { value: 1, echo: 2 });
        let mut ack = Options::default();
        (0..4).for_each(|block| ack.sack.push((block, block + 1)));
        for options in [syn, ack] {
            let mut out = BytesMut::new();
            options.emit(&mut out);
            assert_eq!(out.len(), options.length());
            assert_eq!(out.len() % 4, 0);
            assert_eq!(Options::parse(&out), options);
        }
    }

    #[test]
    fn beside_timestamps_three_blocks_fit() {
        let mut options = Options { stamps: Some(Stamps::default()), ..Options::default() };
        (0..4).for_each(|block| options.sack.push((block, block + 1)));
        let mut out = BytesMut::new();
        options.emit(&mut out);
        assert_eq!(out.len(), ROOM);
        assert_eq!(Options::parse(&out).sack.as_slice(), [(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn what_is_damaged_or_unknown_is_skipped() {
        let cases: [(&[u8], Options); 7] = [
            (&[MSS, 4, 1, 0], Options { mss: Some(256), ..Options::default() }),
            (&[SCALE, 3, 200], Options { window_shift: Some(14), ..Options::default() }),
            (&[30, 4, 9, 9, MSS, 4, 1, 0], Options { mss: Some(256), ..Options::default() }),
            (&[END, MSS, 4, 1, 0], Options::default()),
            (&[MSS, 0, 1, 0], Options::default()),
            (&[STAMPS, 6, 1, 2, 3, 4], Options::default()),
            (&[SACK, 9, 1, 2, 3, 4, 5, 6, 7, 8], Options::default()),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Options::parse(bytes), expected, "{bytes:?}");
        }
    }
}
