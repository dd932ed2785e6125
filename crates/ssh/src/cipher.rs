//! The three authenticated ciphers, on packets in place.
//!
//! AES-GCM is as OpenSSH does it (PROTOCOL section 1.6, RFC 5647): the length is in the clear and
//! authenticated, the nonce is the derived IV whose last eight bytes count packets. ChaCha20 is
//! `chacha20-poly1305@openssh.com`: the length is encrypted under a key of its own, the nonce is
//! the packet's sequence number.

use std::fmt;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, Tag, UnboundKey,
    chacha20_poly1305_openssh as chacha,
};

use crate::{error::Error, kex::Secrets};

/// Bytes of an authentication tag, for every cipher here.
pub const TAG: usize = 16;

/// A cipher with its integrity check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com`
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com`
    ChaCha20Poly1305,
}

impl Cipher {
    /// All, the preferred first: AES where the processor has instructions for it (with ring two
    /// to three times as fast as ChaCha20 there), ChaCha20 elsewhere.
    #[must_use]
    pub fn preferred() -> [Self; 3] {
        if has_aes() {
            [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305]
        } else {
            [Self::ChaCha20Poly1305, Self::Aes128Gcm, Self::Aes256Gcm]
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
        }
    }

    /// Bytes of key to derive.
    fn key_length(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
            Self::ChaCha20Poly1305 => chacha::KEY_LEN,
        }
    }

    /// What a packet's length (without the length field) must be a multiple of.
    fn block(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 16,
            Self::ChaCha20Poly1305 => 8,
        }
    }

    fn gcm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Which of the six derived values (RFC 4253 section 7.2) belong to a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Values A and C.
    ClientToServer,
    /// Values B and D.
    ServerToClient,
}

/// Seals packets of one direction under one set of keys.
pub struct Sealer(Keyed<chacha::SealingKey>);

/// Opens packets of one direction under one set of keys.
pub struct Opener(Keyed<chacha::OpeningKey>);

enum Keyed<K> {
    Plain,
    Gcm(Box<LessSafeKey>, Iv),
    ChaCha(Box<K>),
}

/// Twelve bytes: four fixed, eight that count (RFC 5647 section 7.1).
struct Iv {
    fixed: [u8; 4],
    counter: u64,
}

impl Iv {
    fn next(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl<K> Keyed<K> {
    fn new(
        cipher: Cipher,
        direction: Direction,
        secrets: &Secrets,
        chacha: impl FnOnce(&[u8; chacha::KEY_LEN]) -> K,
    ) -> Result<Self, Error> {
        let (iv, key) = match direction {
            Direction::ClientToServer => (b'A', b'C'),
            Direction::ServerToClient => (b'B', b'D'),
        };
        let key = secrets.derive(key, cipher.key_length());
        if let Cipher::ChaCha20Poly1305 = cipher {
            let key = key.first_chunk().ok_or(Error::Malformed("key"))?;
            return Ok(Self::ChaCha(Box::new(chacha(key))));
        }
        let iv = secrets.derive(iv, 12);
        let (fixed, counter) = iv.split_first_chunk::<4>().ok_or(Error::Malformed("key"))?;
        let counter = counter.first_chunk().ok_or(Error::Malformed("key"))?;
        let key = UnboundKey::new(cipher.gcm(), &key).map_err(|_| Error::Malformed("key"))?;
        let iv = Iv { fixed: *fixed, counter: u64::from_be_bytes(*counter) };
        Ok(Self::Gcm(Box::new(LessSafeKey::new(key)), iv))
    }

    fn block(&self) -> usize {
        match self {
            Self::Plain | Self::ChaCha(_) => Cipher::ChaCha20Poly1305.block(),
            Self::Gcm(..) => Cipher::Aes128Gcm.block(),
        }
    }

    fn tag(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Gcm(..) | Self::ChaCha(_) => TAG,
        }
    }
}

impl Sealer {
    /// Before the first keys: no encryption.
    #[must_use]
    pub fn plain() -> Self {
        Self(Keyed::Plain)
    }

    /// Under derived keys.
    ///
    /// # Errors
    /// Never with secrets made by [`crate::kex`].
    pub fn new(cipher: Cipher, direction: Direction, secrets: &Secrets) -> Result<Self, Error> {
        Keyed::new(cipher, direction, secrets, chacha::SealingKey::new).map(Self)
    }

    /// Bytes of padding that a payload of this length needs: at least four, so that the
    /// packet is a multiple of the block (RFC 4253 section 6), with or without its length
    /// field as the cipher wants.
    #[must_use]
    pub fn padding(&self, payload: usize) -> usize {
        let block = self.0.block();
        let counted = 1 + payload + if let Keyed::Plain = self.0 { 4 } else { 0 };
        let padding = block - counted % block;
        if padding < 4 { padding + block } else { padding }
    }

    /// Bytes of tag after each packet.
    #[must_use]
    pub fn tag(&self) -> usize {
        self.0.tag()
    }

    /// Encrypts a packet (length, padding length, payload, padding, room for the tag) in place.
    ///
    /// # Errors
    /// [`Error::Malformed`] when there is no room for length and tag, which is a local mistake.
    pub fn seal(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Error> {
        const LOCAL: Error = Error::Malformed("packet of our own");
        match &mut self.0 {
            Keyed::Plain => Ok(()),
            Keyed::Gcm(key, iv) => {
                let (length, rest) = packet.split_first_chunk_mut::<4>().ok_or(LOCAL)?;
                let (body, room) = rest.split_last_chunk_mut::<TAG>().ok_or(LOCAL)?;
                let tag = key
                    .seal_in_place_separate_tag(iv.next(), Aad::from(*length), body)
                    .map_err(|_| LOCAL)?;
                room.copy_from_slice(tag.as_ref());
                Ok(())
            }
            Keyed::ChaCha(key) => {
                let (body, tag) = packet.split_last_chunk_mut::<TAG>().ok_or(LOCAL)?;
                if body.len() < 4 {
                    return Err(LOCAL);
                }
                key.seal_in_place(sequence, body, tag);
                Ok(())
            }
        }
    }
}

impl Opener {
    /// Before the first keys: no encryption.
    #[must_use]
    pub fn plain() -> Self {
        Self(Keyed::Plain)
    }

    /// Under derived keys.
    ///
    /// # Errors
    /// Never with secrets made by [`crate::kex`].
    pub fn new(cipher: Cipher, direction: Direction, secrets: &Secrets) -> Result<Self, Error> {
        Keyed::new(cipher, direction, secrets, chacha::OpeningKey::new).map(Self)
    }

    /// The length of a packet (without its length field and tag), from its first four bytes. It
    /// is not authenticated yet.
    #[must_use]
    pub fn length(&self, sequence: u32, first: [u8; 4]) -> u32 {
        u32::from_be_bytes(match &self.0 {
            Keyed::Plain | Keyed::Gcm(..) => first,
            Keyed::ChaCha(key) => key.decrypt_packet_length(sequence, first),
        })
    }

    /// Whether an honest packet can have this length.
    #[must_use]
    pub fn is_aligned(&self, length: usize) -> bool {
        let field = if let Keyed::Plain = self.0 { 4 } else { 0 };
        (length + field).is_multiple_of(self.0.block())
    }

    /// Bytes of tag after each packet.
    #[must_use]
    pub fn tag(&self) -> usize {
        self.0.tag()
    }

    /// Verifies and decrypts a packet (length field, body, tag) in place; afterwards the bytes
    /// between length field and tag are plain.
    ///
    /// # Errors
    /// [`Error::Tampered`] when the tag is wrong.
    pub fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Error> {
        match &mut self.0 {
            Keyed::Plain => Ok(()),
            Keyed::Gcm(key, iv) => {
                let (length, rest) = packet.split_first_chunk_mut::<4>().ok_or(Error::Tampered)?;
                let (body, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Error::Tampered)?;
                let tag = Tag::from(*tag);
                key.open_in_place_separate_tag(iv.next(), Aad::from(*length), tag, body, 0..)
                    .map_err(|_| Error::Tampered)?;
                Ok(())
            }
            Keyed::ChaCha(key) => {
                let (body, tag) = packet.split_last_chunk_mut::<TAG>().ok_or(Error::Tampered)?;
                key.open_in_place(sequence, body, tag).map_err(|_| Error::Tampered)?;
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(redacted)")
    }
}
