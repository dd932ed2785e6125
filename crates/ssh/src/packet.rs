//! Packets (RFC 4253 section 6): length, padding, encryption, sequence numbers.

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    cipher::{Opener, Sealer},
    error::Error,
};

/// Longest packet accepted, in bytes without tag: what OpenSSH and Go's library accept too.
pub const LIMIT: usize = 256 * 1024;

/// Fewest bytes of padding (RFC 4253 section 6).
const PADDING: usize = 4;

/// Where padding and cookies come from.
pub trait Entropy: Send {
    /// Fills with random bytes.
    ///
    /// # Errors
    /// [`Error::Entropy`] when the source fails.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error>;

    /// A fresh key pair for one exchange.
    ///
    /// # Errors
    /// [`Error::Entropy`] when the source fails.
    fn exchange(&mut self) -> Result<Box<dyn crate::kex::Exchange>, Error>;
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl Default for SystemEntropy {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for SystemEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes).map_err(|_| Error::Entropy)
    }

    fn exchange(&mut self) -> Result<Box<dyn crate::kex::Exchange>, Error> {
        Ok(Box::new(crate::kex::X25519::generate(&self.0)?))
    }
}

/// Turns payloads into packets.
pub struct Writer {
    sealer: Sealer,
    sequence: u32,
    /// Random bytes for padding, drawn many at a time: a system call for each packet would cost
    /// as much as its encryption.
    pool: [u8; 1024],
    used: usize,
}

impl Writer {
    /// Without encryption, as every connection begins.
    #[must_use]
    pub fn new() -> Self {
        Self { sealer: Sealer::plain(), sequence: 0, pool: [0; 1024], used: 1024 }
    }

    /// Uses new keys from the next packet on; `reset` starts the sequence numbers again (strict
    /// key exchange).
    pub fn rekey(&mut self, sealer: Sealer, reset: bool) {
        self.sealer = sealer;
        if reset {
            self.sequence = 0;
        }
    }

    /// Appends a packet to `out` whose payload are these parts, one after the other.
    ///
    /// # Errors
    /// [`Error::Entropy`]; [`Error::TooLong`] for a payload beyond [`LIMIT`], a local mistake.
    pub fn write(
        &mut self,
        entropy: &mut dyn Entropy,
        parts: &[&[u8]],
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let padding = self.sealer.padding(payload);
        let length = 1 + payload + padding;
        if length > LIMIT {
            return Err(Error::TooLong { what: "packet of our own", length, limit: LIMIT });
        }
        if self.used + padding > self.pool.len() {
            entropy.fill(&mut self.pool)?;
            self.used = 0;
        }
        let start = out.len();
        out.reserve(4 + length + self.sealer.tag());
        out.put_u32(length as u32);
        out.put_u8(padding as u8);
        for part in parts {
            out.put_slice(part);
        }
        out.put_slice(&self.pool[self.used..self.used + padding]);
        self.used += padding;
        out.put_bytes(0, self.sealer.tag());
        self.sealer.seal(self.sequence, &mut out[start..])?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// Turns packets into payloads.
#[derive(Debug)]
pub struct Reader {
    opener: Opener,
    sequence: u32,
    /// The length of the packet at the front of the input, once known.
    length: Option<usize>,
}

impl Reader {
    /// Without encryption, as every connection begins.
    #[must_use]
    pub fn new() -> Self {
        Self { opener: Opener::plain(), sequence: 0, length: None }
    }

    /// Uses new keys from the next packet on; `reset` starts the sequence numbers again (strict
    /// key exchange).
    pub fn rekey(&mut self, opener: Opener, reset: bool) {
        self.opener = opener;
        if reset {
            self.sequence = 0;
        }
    }

    /// The sequence number of the packet read last.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.sequence.wrapping_sub(1)
    }

    /// Takes one packet off `input` and gives its payload, decrypted where it lay. `None` asks
    /// for more bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Malformed`] and [`Error::Tampered`]; the connection cannot
    /// go on after any of them.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<BytesMut>, Error> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(first) = input.first_chunk::<4>() else { return Ok(None) };
                let length = self.opener.length(self.sequence, *first) as usize;
                if length > LIMIT {
                    return Err(Error::TooLong { what: "packet", length, limit: LIMIT });
                }
                if length < 1 + 1 + PADDING || !self.opener.is_aligned(length) {
                    return Err(Error::Malformed("packet length"));
                }
                self.length = Some(length);
                length
            }
        };
        let whole = 4 + length + self.opener.tag();
        if input.len() < whole {
            return Ok(None);
        }
        self.length = None;
        let mut packet = input.split_to(whole);
        self.opener.open(self.sequence, &mut packet)?;
        self.sequence = self.sequence.wrapping_add(1);
        packet.truncate(4 + length);
        packet.advance(4);
        let padding = packet.get_u8() as usize;
        if padding < PADDING || padding >= packet.len() {
            return Err(Error::Malformed("padding"));
        }
        packet.truncate(packet.len() - padding);
        Ok(Some(packet))
    }

    /// How many bytes the packet at the front still needs, as far as known; at least one.
    #[must_use]
    pub fn missing(&self, input: usize) -> usize {
        let whole = self.length.map_or(4, |length| 4 + length + self.opener.tag());
        whole.saturating_sub(input).max(1)
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}
