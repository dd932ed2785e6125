//! Keys: three kinds of X25519 pairs, each a type of its own so that none is taken for another.
//!
//! | pair | what for | text |
//! |---|---|---|
//! | [`NodePrivate`], [`NodePublic`] | WireGuard, and who we are to a relay | `nodekey:` + hex |
//! | [`DiscoPrivate`], [`DiscoPublic`] | disco boxes, which find and measure paths | `discokey:` + hex |
//! | [`RelayPrivate`], [`RelayPublic`] | a relay's own identity, for its login boxes | bare hex |
//!
//! Private keys are clamped when they are made (NaCl requires it), zeroed when dropped, and print
//! as redacted; the one way to their bytes is `expose_bytes`. Hex is written in lower case and
//! read in either (coder/tailscale: types/key).

use std::fmt;
use std::str::FromStr;

use crypto_box::SalsaBox;
use zeroize::Zeroizing;

/// Length of every key, public or private, in bytes.
pub const KEY_LENGTH: usize = 32;

/// The two bytes before the public key in a coordinator's `Node.key`.
const NODE_KEY_PREFIX: [u8; 2] = *b"np";

macro_rules! key_pair {
    (
        $(#[$private_doc:meta])* $private:ident,
        $(#[$public_doc:meta])* $public:ident, $prefix:literal
    ) => {
        $(#[$private_doc])*
        #[derive(Clone)]
        pub struct $private {
            secret: Zeroizing<[u8; KEY_LENGTH]>,
            public: $public,
        }

        impl $private {
            /// A key from 32 random bytes.
            pub fn new(entropy: [u8; KEY_LENGTH]) -> Self {
                let secret = Zeroizing::new(clamp(entropy));
                let point = crypto_box::SecretKey::from_bytes(*secret).public_key();
                $private { secret, public: $public(point.to_bytes()) }
            }

            /// A key from the system's random numbers.
            ///
            /// # Errors
            ///
            /// [`NoEntropy`] when the system has none to give.
            pub fn random() -> Result<Self, NoEntropy> {
                let mut entropy = Zeroizing::new([0; KEY_LENGTH]);
                getrandom::fill(entropy.as_mut()).map_err(|_| NoEntropy)?;
                Ok($private::new(*entropy))
            }

            /// The public half.
            pub fn public(&self) -> $public {
                self.public
            }

            /// The secret itself. Never to be logged or stored.
            pub fn expose_bytes(&self) -> Zeroizing<[u8; KEY_LENGTH]> {
                self.secret.clone()
            }

            /// The box between this key and someone else's public one.
            fn box_with(&self, other: &[u8; KEY_LENGTH]) -> SalsaBox {
                SalsaBox::new(
                    &crypto_box::PublicKey::from_bytes(*other),
                    &crypto_box::SecretKey::from_bytes(*self.secret),
                )
            }
        }

        impl fmt::Debug for $private {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($private), "(redacted, public {:?})"), self.public)
            }
        }

        $(#[$public_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $public([u8; KEY_LENGTH]);

        impl $public {
            /// What stands before the hex digits in text.
            pub const PREFIX: &'static str = $prefix;

            /// A key as it travels.
            pub const fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
                $public(bytes)
            }

            /// Reads a key.
            ///
            /// # Errors
            ///
            /// [`KeyError::Length`] unless there are exactly 32 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
                bytes.try_into().map($public).map_err(|_| KeyError::Length(bytes.len()))
            }

            /// The key as it travels.
            pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
                &self.0
            }

            /// Whether all bytes are zero, which is how some messages say "no key".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; KEY_LENGTH]
            }
        }

        impl fmt::Display for $public {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        /// The short form that logs of other implementations use: `[5/2wD]`.
        impl fmt::Debug for $public {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "[{}]", short(&self.0))
            }
        }

        impl FromStr for $public {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let digits = text.strip_prefix($prefix).ok_or(KeyError::Prefix($prefix))?;
                hex(digits).map($public)
            }
        }
    };
}

key_pair!(
    /// Our WireGuard key, which is our identity to relays too. New for each connection.
    NodePrivate,
    /// A peer's WireGuard key and its identity to relays.
    NodePublic,
    "nodekey:"
);
key_pair!(
    /// Our key for disco messages. New for each connection, and stable while it lives: a peer that
    /// sees it change throws its WireGuard session away.
    DiscoPrivate,
    /// A peer's key for disco messages.
    DiscoPublic,
    "discokey:"
);
key_pair!(
    /// A relay's key.
    RelayPrivate,
    /// The key by which a relay introduces itself.
    RelayPublic,
    ""
);

impl NodePrivate {
    /// The box for a login at a relay.
    pub fn box_with_relay(&self, relay: &RelayPublic) -> SalsaBox {
        self.box_with(&relay.0)
    }
}

impl RelayPrivate {
    /// The relay's side of a login.
    pub fn box_with_node(&self, node: &NodePublic) -> SalsaBox {
        self.box_with(&node.0)
    }
}

impl DiscoPrivate {
    /// The box for messages to and from one peer. Worth keeping: it costs a curve multiplication.
    pub fn box_with_peer(&self, peer: &DiscoPublic) -> SalsaBox {
        self.box_with(&peer.0)
    }
}

impl NodePublic {
    /// The 34 bytes of a coordinator's `Node.key`: `np` and the key.
    pub fn to_prefixed(self) -> [u8; KEY_LENGTH + 2] {
        let mut bytes = [0; KEY_LENGTH + 2];
        bytes[..2].copy_from_slice(&NODE_KEY_PREFIX);
        bytes[2..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads a coordinator's `Node.key`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless it is `np` and 32 bytes.
    pub fn from_prefixed(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = bytes.strip_prefix(&NODE_KEY_PREFIX).ok_or(KeyError::Prefix("np"))?;
        NodePublic::from_slice(key)
    }
}

fn clamp(mut bytes: [u8; KEY_LENGTH]) -> [u8; KEY_LENGTH] {
    bytes[0] &= 248;
    bytes[31] = (bytes[31] & 127) | 64;
    bytes
}

/// The first five characters of the key in base64.
fn short(key: &[u8; KEY_LENGTH]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let [a, b, c, d, ..] = *key;
    let bits = u32::from_be_bytes([a, b, c, d]);
    (0..5).map(|i| char::from(ALPHABET[(bits >> (26 - 6 * i)) as usize & 63])).collect()
}

fn hex(digits: &str) -> Result<[u8; KEY_LENGTH], KeyError> {
    if digits.len() != 2 * KEY_LENGTH {
        return Err(KeyError::Digits(digits.len()));
    }
    let mut key = [0; KEY_LENGTH];
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |i: usize| char::from(pair[i]).to_digit(16).ok_or(KeyError::NotHex);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Ok(key)
}

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It begins with something else.
    #[error("a key that does not begin with `{0}`")]
    Prefix(&'static str),
    /// Not 32 bytes.
    #[error("a key has 32 bytes, this one has {0}")]
    Length(usize),
    /// Not 64 digits.
    #[error("a key has 64 hexadecimal digits, this one has {0}")]
    Digits(usize),
    /// A character that is no hexadecimal digit.
    #[error("a key with a character that is no hexadecimal digit")]
    NotHex,
}

/// The system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers, without which no key can be made")]
pub struct NoEntropy;
