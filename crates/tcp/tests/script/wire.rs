//! Segments as a script writes them, and as they are on the wire. Written apart from the crate, so
//! that the one checks the other.
//!
//! `SA 0 ack 1 win 65535 mss 1220 wscale 7 sackok` — flags, place (`from:to` with bytes), fields.

use std::net::Ipv6Addr;

/// A segment, with sequence numbers relative to the first one of its direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) flags: String,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) window: Option<u16>,
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sackok: bool,
    pub(crate) sack: Vec<(u32, u32)>,
    pub(crate) stamps: Option<(u32, u32)>,
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    // Places before the first one are negative.
    let number = |it: &str| it.parse::<i64>().ok().map(|it| it as u32);
    Some((number(from)?, number(to)?))
}

impl Line {
    /// Reads `SA 0 ack 1 ...`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let flags = words.next()?.to_owned();
        let (from, to) = range(words.next()?)?;
        let mut line = Self { flags, from, to, ..Self::default() };
        while let Some(word) = words.next() {
            match word {
                "ack" => line.ack = Some(range(words.next()?)?.0),
                "win" => line.window = words.next()?.parse().ok(),
                "mss" => line.mss = words.next()?.parse().ok(),
                "wscale" => line.scale = words.next()?.parse().ok(),
                "sackok" => line.sackok = true,
                "sack" => line.sack.push(range(words.next()?)?),
                "ts" => line.stamps = range(words.next()?),
                _ => return None,
            }
        }
        Some(line)
    }

    /// Whether a segment that was made is as this line says. What the line leaves out may be
    /// anything, but for blocks: there are as many as it names.
    pub(crate) fn describes(&self, made: &Self) -> bool {
        let same = |wanted: Option<u32>, found: Option<u32>| wanted.is_none() || wanted == found;
        let flags = made.flags.replace('P', "");
        self.flags.replace('P', "") == flags
            && (self.from, self.to) == (made.from, made.to)
            && same(self.ack, made.ack)
            && same(self.window.map(u32::from), made.window.map(u32::from))
            && same(self.mss.map(u32::from), made.mss.map(u32::from))
            && same(self.scale.map(u32::from), made.scale.map(u32::from))
            && (!self.sackok || made.sackok)
            && self.sack == made.sack
            && (self.stamps.is_none() || self.stamps == made.stamps)
    }

    /// As bytes: `base` is the first number of its direction, `other` of the other one.
    pub(crate) fn bytes(
        &self,
        ends: (Ipv6Addr, Ipv6Addr),
        ports: (u16, u16),
        base: u32,
        other: u32,
    ) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        if self.sackok {
            options.extend([1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.stamps {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if !self.sack.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            for (from, to) in &self.sack {
                options.extend(other.wrapping_add(*from).to_be_bytes());
                options.extend(other.wrapping_add(*to).to_be_bytes());
            }
        }
        let flag = |(letter, bit)| if self.flags.contains(letter) { bit } else { 0_u8 };
        let flags = [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('A', 16)].map(flag).iter().sum();
        let mut bytes = Vec::new();
        bytes.extend(ports.0.to_be_bytes());
        bytes.extend(ports.1.to_be_bytes());
        bytes.extend(base.wrapping_add(self.from).to_be_bytes());
        bytes.extend(self.ack.map_or(0, |ack| other.wrapping_add(ack)).to_be_bytes());
        bytes.extend([((20 + options.len()) / 4 * 16) as u8, flags]);
        bytes.extend(self.window.unwrap_or(60_000).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        // Every byte tells its place.
        bytes.extend((self.from..self.to).map(|place| place as u8));
        let sum = checksum(ends, &bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// From bytes, as `bytes` makes them.
    pub(crate) fn read(bytes: &[u8], base: u32, other: u32) -> Self {
        let be16 = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
        let header = usize::from(bytes[12] >> 4) * 4;
        let bit = |(letter, bit): (char, u8)| (bytes[13] & bit != 0).then_some(letter);
        let flags: Vec<_> = [('S', 2), ('F', 1), ('R', 4), ('P', 8), ('A', 16)]
            .map(bit)
            .into_iter()
            .flatten()
            .collect();
        let from = be32(4).wrapping_sub(base);
        let mut line = Self {
            ack: flags.contains(&'A').then(|| be32(8).wrapping_sub(other)),
            flags: flags.into_iter().collect(),
            from,
            to: from.wrapping_add((bytes.len() - header) as u32),
            window: Some(be16(14)),
            ..Self::default()
        };
        let mut at = 20;
        while at < header {
            match bytes[at] {
                0 => break,
                1 => {
                    at += 1;
                    continue;
                }
                2 => line.mss = Some(be16(at + 2)),
                3 => line.scale = Some(bytes[at + 2]),
                4 => line.sackok = true,
                5 => {
                    let blocks = (usize::from(bytes[at + 1]) - 2) / 8;
                    let block = |it: usize| {
                        let start = at + 2 + 8 * it;
                        (be32(start).wrapping_sub(other), be32(start + 4).wrapping_sub(other))
                    };
                    line.sack = (0..blocks).map(block).collect();
                }
                8 => line.stamps = Some((be32(at + 2), be32(at + 6))),
                _ => {}
            }
            at += usize::from(bytes[at + 1]);
        }
        line
    }
}

fn checksum((from, to): (Ipv6Addr, Ipv6Addr), bytes: &[u8]) -> u16 {
    let mut all = Vec::new();
    all.extend(from.octets());
    all.extend(to.octets());
    all.extend((bytes.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, 6]);
    all.extend(bytes);
    all.resize(all.len().next_multiple_of(2), 0);
    let sum: u32 = all.chunks(2).map(|it| u32::from(u16::from_be_bytes([it[0], it[1]]))).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum + (sum >> 16)) as u16)
}
