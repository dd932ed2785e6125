//! The key exchange `curve25519-sha256` (RFC 8731) and the keys derived from it (RFC 4253
//! section 7.2).

use std::fmt;

use ring::{
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey},
    digest::{self, SHA256},
    rand::SecureRandom,
};
use zeroize::Zeroizing;

use crate::{
    error::Error,
    wire::{Put, Reader},
};

/// One side's share of one exchange. A trait, so that a recorded exchange can be replayed.
pub trait Exchange: Send {
    /// What the peer is sent.
    fn public(&self) -> [u8; 32];

    /// The secret shared with the peer who sent this.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a point of the wrong length or of small order.
    fn agree(self: Box<Self>, peer: &[u8]) -> Result<Shared, Error>;
}

/// An X25519 key pair for one exchange.
pub struct X25519 {
    private: EphemeralPrivateKey,
    public: [u8; 32],
}

impl X25519 {
    /// A fresh pair.
    ///
    /// # Errors
    /// [`Error::Entropy`] when the source fails.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, Error> {
        let private = EphemeralPrivateKey::generate(&agreement::X25519, random)
            .map_err(|_| Error::Entropy)?;
        let public = private.compute_public_key().map_err(|_| Error::Entropy)?;
        let public = *public.as_ref().first_chunk().ok_or(Error::Entropy)?;
        Ok(Self { private, public })
    }
}

impl Exchange for X25519 {
    fn public(&self) -> [u8; 32] {
        self.public
    }

    fn agree(self: Box<Self>, peer: &[u8]) -> Result<Shared, Error> {
        let peer = UnparsedPublicKey::new(&agreement::X25519, peer);
        agreement::agree_ephemeral(self.private, &peer, Shared::new)
            .map_err(|_| Error::Malformed("key exchange share"))
    }
}

/// The secret of one exchange, encoded as a multiple precision integer (RFC 8731 section 3.1).
pub struct Shared(Zeroizing<Vec<u8>>);

impl Shared {
    /// From the 32 bytes that X25519 gives.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        // Room for length and sign at once, so that no copy is left behind by growing.
        let mut encoded = Zeroizing::new(Vec::with_capacity(4 + 1 + bytes.len()));
        encoded.put_mpint(bytes);
        Self(encoded)
    }
}

/// Everything that the exchange hash covers, in its order (RFC 5656 section 4).
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    /// The client's version line, without its end.
    pub client_version: &'a [u8],
    /// The server's.
    pub server_version: &'a [u8],
    /// The payload of the client's KEXINIT.
    pub client_init: &'a [u8],
    /// The server's.
    pub server_init: &'a [u8],
    /// The host key.
    pub host_key: &'a [u8],
    /// The client's share.
    pub client_share: &'a [u8],
    /// The server's.
    pub server_share: &'a [u8],
}

impl Transcript<'_> {
    /// The exchange hash, which the server signs.
    #[must_use]
    pub fn hash(&self, shared: &Shared) -> [u8; 32] {
        let mut context = digest::Context::new(&SHA256);
        for part in [
            self.client_version,
            self.server_version,
            self.client_init,
            self.server_init,
            self.host_key,
            self.client_share,
            self.server_share,
        ] {
            context.update(&(part.len() as u32).to_be_bytes());
            context.update(part);
        }
        context.update(&shared.0);
        finish(context)
    }
}

/// What the keys of both directions are derived from.
pub struct Secrets {
    shared: Shared,
    hash: [u8; 32],
    session: [u8; 32],
}

impl Secrets {
    /// From an exchange, its hash, and the hash of the connection's first exchange.
    #[must_use]
    pub fn new(shared: Shared, hash: [u8; 32], session: [u8; 32]) -> Self {
        Self { shared, hash, session }
    }

    /// The derived value of this letter, this many bytes long.
    #[must_use]
    pub fn derive(&self, letter: u8, length: usize) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Vec::with_capacity(length + 32));
        while key.len() < length {
            let mut context = digest::Context::new(&SHA256);
            context.update(&self.shared.0);
            context.update(&self.hash);
            if key.is_empty() {
                context.update(&[letter]);
                context.update(&self.session);
            } else {
                context.update(&key);
            }
            key.extend_from_slice(&finish(context));
        }
        key.truncate(length);
        key
    }
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(redacted)")
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}

impl fmt::Debug for X25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("X25519(redacted)")
    }
}

/// The server's answer: its key, its share, its signature.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The host key.
    pub host_key: &'a [u8],
    /// The server's share.
    pub share: &'a [u8],
    /// The signature over the exchange hash.
    pub signature: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads a KEX_ECDH_REPLY.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload, "key exchange reply");
        reader.byte()?;
        Ok(Self {
            host_key: reader.string()?,
            share: reader.string()?,
            signature: reader.string()?,
        })
    }
}
