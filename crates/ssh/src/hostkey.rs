//! Host keys and their signatures (RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709).

use std::fmt;

use ring::{
    digest,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};

use crate::{
    error::Error,
    wire::{Put, Reader},
};

/// The host key algorithm of our own keys.
pub const ED25519: &str = "ssh-ed25519";
/// The host key algorithms that can be verified, the preferred first.
pub const ALGORITHMS: [&str; 4] = ["rsa-sha2-512", "rsa-sha2-256", ED25519, "ecdsa-sha2-nistp256"];

/// Verifies the signature that a host key of the negotiated `algorithm` made over `message`.
///
/// # Errors
/// [`Error::HostKey`] for a key of another type, of a weak size, or of a wrong form;
/// [`Error::Signature`] when the signature is wrong.
pub fn verify(algorithm: &str, key: &[u8], signature: &[u8], message: &[u8]) -> Result<(), Error> {
    let mut signature = Reader::new(signature, "signature");
    if signature.string()? != algorithm.as_bytes() {
        return Err(Error::HostKey("its signature is not of the negotiated algorithm"));
    }
    let signature = signature.string()?;
    let mut key = Reader::new(key, "host key");
    let kind = key.text()?;
    let expected = if algorithm.starts_with("rsa-") { "ssh-rsa" } else { algorithm };
    if kind != expected {
        return Err(Error::HostKey("its type is not the negotiated one"));
    }
    match algorithm {
        "rsa-sha2-256" | "rsa-sha2-512" => {
            let e = key.mpint()?;
            let n = key.mpint()?;
            // 2048 bits: RFC 8332 section 3 leaves the floor to us; ring knows nothing smaller.
            if n.len() < 256 || n.len() > 1024 {
                return Err(Error::HostKey("its RSA key has not 2048 to 8192 bits"));
            }
            let parameters = match algorithm {
                "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                _ => &RSA_PKCS1_2048_8192_SHA512,
            };
            // RFC 8332 section 3: some send a signature without its leading zeros.
            let mut padded = vec![0; n.len().saturating_sub(signature.len())];
            padded.extend_from_slice(signature);
            RsaPublicKeyComponents { n, e }.verify(parameters, message, &padded)
        }
        ED25519 => {
            UnparsedPublicKey::new(&signature::ED25519, key.string()?).verify(message, signature)
        }
        "ecdsa-sha2-nistp256" => {
            if key.string()? != b"nistp256" {
                return Err(Error::HostKey("its curve is not the negotiated one"));
            }
            let mut parts = Reader::new(signature, "signature");
            let mut fixed = [0; 64];
            for half in fixed.chunks_exact_mut(32) {
                let number = parts.mpint()?;
                let start = 32usize.checked_sub(number.len()).ok_or(Error::Signature)?;
                half[start..].copy_from_slice(number);
            }
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.string()?).verify(message, &fixed)
        }
        _ => return Err(Error::HostKey("its algorithm is unknown")),
    }
    .map_err(|_| Error::Signature)
}

/// The key of a server of ours.
pub struct HostKey {
    pair: Ed25519KeyPair,
    public: Vec<u8>,
}

impl HostKey {
    /// The Ed25519 key of this seed.
    ///
    /// # Errors
    /// [`Error::HostKey`], never for a seed of the right length.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| Error::HostKey("its seed is unusable"))?;
        let public = strings(&[ED25519.as_bytes(), pair.public_key().as_ref()]);
        Ok(Self { pair, public })
    }

    /// The public key, as on the wire.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The signature over `message`, as on the wire.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        strings(&[ED25519.as_bytes(), self.pair.sign(message).as_ref()])
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKey").field(&fingerprint(&self.public)).finish()
    }
}

fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.put_string(part);
    }
    out
}

/// A host key's fingerprint as OpenSSH prints it: `SHA256:` and base64 without padding.
#[must_use]
pub fn fingerprint(key: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = digest::digest(&digest::SHA256, key);
    let mut text = String::from("SHA256:");
    for chunk in hash.as_ref().chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..=chunk.len() {
            let index = (group >> (18 - 6 * place)) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };

    use super::*;

    #[test]
    fn ed25519_signatures_are_verified() {
        let host_key = HostKey::from_seed(&[7; 32]).unwrap();
        let (key, signature) = (host_key.public(), host_key.sign(b"hash"));
        assert_eq!(verify("ssh-ed25519", key, &signature, b"hash"), Ok(()));
        assert_eq!(verify("ssh-ed25519", key, &signature, b"other"), Err(Error::Signature));
        assert!(matches!(verify("rsa-sha2-256", key, &signature, b"hash"), Err(Error::HostKey(_))));
    }

    #[test]
    fn p256_signatures_are_verified() {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let secret = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, secret.as_ref(), &random).unwrap();
        let name = b"ecdsa-sha2-nistp256";
        let key = strings(&[name, b"nistp256", pair.public_key().as_ref()]);
        // Many, so that halves with leading zeros and with the sign bit set occur.
        for message in 0..300u32 {
            let message = message.to_be_bytes();
            let fixed = pair.sign(&random, &message).unwrap();
            let (r, s) = fixed.as_ref().split_at(32);
            let mut halves = Vec::new();
            halves.put_mpint(r);
            halves.put_mpint(s);
            let signature = strings(&[name, &halves]);
            assert_eq!(verify("ecdsa-sha2-nistp256", &key, &signature, &message), Ok(()));
            assert_eq!(
                verify("ecdsa-sha2-nistp256", &key, &signature, b"else"),
                Err(Error::Signature)
            );
        }
    }

    /// `ssh-keygen -lf` of the same key.
    #[test]
    fn a_fingerprint_is_printed_as_openssh_does() {
        let key = HostKey::from_seed(&[7; 32]).unwrap();
        assert_eq!(fingerprint(key.public()), FINGERPRINT);
        assert_eq!(format!("{key:?}"), format!("HostKey({FINGERPRINT:?})"));
    }

    const FINGERPRINT: &str = "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE";
}
