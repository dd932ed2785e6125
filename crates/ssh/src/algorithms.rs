//! What is offered, and what is agreed upon (RFC 4253 section 7.1).

use crate::{
    cipher::Cipher,
    error::{Error, Text},
    hostkey, message,
    wire::{Put, Reader},
};

/// The one key exchange, under its two names. Only one may be offered: the share is sent before
/// the server's list is known.
pub const KEX: [&str; 2] = ["curve25519-sha256", "curve25519-sha256@libssh.org"];
/// Says that the client understands EXT_INFO (RFC 8308).
pub const EXT_INFO: &str = "ext-info-c";
/// Strict key exchange, as the client says it (OpenSSH PROTOCOL section 1.10).
pub const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
/// Strict key exchange, as the server says it.
pub const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";

/// The name lists of a KEXINIT, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// Key exchanges.
    pub kex: String,
    /// Host key algorithms.
    pub host_key: String,
    /// Ciphers from client to server.
    pub to_server: String,
    /// Ciphers from server to client.
    pub to_client: String,
    /// Compressions from client to server.
    pub compression_to_server: String,
    /// Compressions from server to client.
    pub compression_to_client: String,
    /// Whether a guessed packet follows.
    pub follows: bool,
}

impl Lists {
    /// What this client offers.
    #[must_use]
    pub fn client() -> Self {
        let ciphers = Cipher::preferred().map(Cipher::name).join(",");
        Self {
            kex: [KEX[0], KEX[1], EXT_INFO, STRICT_CLIENT].join(","),
            host_key: hostkey::ALGORITHMS.join(","),
            to_server: ciphers.clone(),
            to_client: ciphers,
            compression_to_server: "none".into(),
            compression_to_client: "none".into(),
            follows: false,
        }
    }

    /// What this server offers.
    #[must_use]
    pub fn server() -> Self {
        Self {
            kex: [KEX[0], KEX[1], STRICT_SERVER].join(","),
            host_key: hostkey::ED25519.into(),
            ..Self::client()
        }
    }

    /// The payload of a KEXINIT with these lists.
    #[must_use]
    pub fn encode(&self, cookie: [u8; 16]) -> Vec<u8> {
        // Never used, as every cipher here brings its own; but a list may not be missing.
        const MAC: &str = "hmac-sha2-256";
        let mut out = Vec::with_capacity(512);
        out.push(message::KEXINIT);
        out.extend_from_slice(&cookie);
        for list in [
            &self.kex,
            &self.host_key,
            &self.to_server,
            &self.to_client,
            MAC,
            MAC,
            &self.compression_to_server,
            &self.compression_to_client,
            "",
            "",
        ] {
            out.put_string(list.as_bytes());
        }
        out.put_boolean(self.follows);
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// Reads a KEXINIT.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload, "KEXINIT");
        reader.take(1 + 16)?;
        let mut list = || reader.text().map(str::to_owned);
        let lists = Self {
            kex: list()?,
            host_key: list()?,
            to_server: list()?,
            to_client: list()?,
            compression_to_server: {
                list()?;
                list()?;
                list()?
            },
            compression_to_client: list()?,
            follows: {
                list()?;
                list()?;
                reader.boolean()?
            },
        };
        reader.u32()?;
        Ok(lists)
    }

    /// Whether this name, such as [`STRICT_SERVER`], is among the key exchanges.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        has(&self.kex, name)
    }
}

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who dialled.
    Client,
    /// Who answered.
    Server,
}

/// What both sides use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The host key algorithm.
    pub host_key: &'static str,
    /// The cipher from client to server.
    pub to_server: Cipher,
    /// The cipher from server to client.
    pub to_client: Cipher,
    /// Whether the other side's next packet was a wrong guess, to be ignored.
    pub ignore_next: bool,
}

impl Agreed {
    /// List by list, the first of the client's that the server has too.
    ///
    /// # Errors
    /// [`Error::NoCommon`] names the list in which nothing is common, with the offer of the side
    /// that is not `us`.
    pub fn between(us: Side, client: &Lists, server: &Lists) -> Result<Self, Error> {
        let pick = |what, list: fn(&Lists) -> &str, known: &[&'static str]| {
            let (client, server) = (list(client), list(server));
            let common = client.split(',').filter(|name| has(server, name));
            // No extension's name that both happen to say.
            let mut usable = common.filter_map(|name| known.iter().copied().find(|k| *k == name));
            usable.next().ok_or_else(|| match us {
                Side::Client => none(what, server),
                Side::Server => none(what, client),
            })
        };
        let ciphers = Cipher::preferred();
        let names = ciphers.map(Cipher::name);
        let cipher = |list| {
            let name = pick("cipher", list, &names)?;
            let same = ciphers.into_iter().find(|cipher| cipher.name() == name);
            same.ok_or(Error::Malformed("cipher list"))
        };
        pick("key exchange", |lists| &lists.kex, &KEX)?;
        let host_key = pick("host key algorithm", |lists| &lists.host_key, &hostkey::ALGORITHMS)?;
        let to_server = cipher(|lists| &lists.to_server)?;
        let to_client = cipher(|lists| &lists.to_client)?;
        pick("compression", |lists| &lists.compression_to_server, &["none"])?;
        pick("compression", |lists| &lists.compression_to_client, &["none"])?;
        // RFC 4253 section 7.1: the guess is right if both sides prefer the same of both lists.
        let head = |list: &str| list.split(',').next().map(str::to_owned);
        let right = head(&client.kex) == head(&server.kex)
            && head(&client.host_key) == head(&server.host_key);
        let guessed = match us {
            Side::Client => server.follows,
            Side::Server => client.follows,
        };
        Ok(Self { host_key, to_server, to_client, ignore_next: guessed && !right })
    }
}

fn none(what: &'static str, theirs: &str) -> Error {
    Error::NoCommon { what, theirs: Text::new(theirs.as_bytes()) }
}

fn has(list: &str, name: &str) -> bool {
    list.split(',').any(|entry| entry == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the agent's SSH server offers (a Go agent of July 2026, measured).
    fn agent() -> Lists {
        Lists {
            kex: "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,\
                  ecdh-sha2-nistp256,kex-strict-s-v00@openssh.com"
                .into(),
            host_key: "rsa-sha2-256,rsa-sha2-512,ssh-rsa".into(),
            to_server: "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr".into(),
            to_client: "aes256-gcm@openssh.com".into(),
            compression_to_server: "none".into(),
            compression_to_client: "none".into(),
            follows: false,
        }
    }

    fn with(theirs: &Lists) -> Result<Agreed, Error> {
        Agreed::between(Side::Client, &Lists::client(), theirs)
    }

    #[test]
    fn our_preference_wins() {
        let agreed = with(&agent()).unwrap();
        assert_eq!(agreed.host_key, "rsa-sha2-512");
        assert_eq!(agreed.to_client, Cipher::Aes256Gcm);
        assert!(!agreed.ignore_next);
        assert!(agent().names(STRICT_SERVER));
    }

    #[test]
    fn a_wrong_guess_of_the_server_is_to_be_ignored() {
        let follows = Lists { follows: true, ..agent() };
        assert!(with(&follows).unwrap().ignore_next);
        let right = Lists { follows: true, ..Lists::client() };
        assert!(!with(&right).unwrap().ignore_next);
    }

    #[test]
    fn a_server_follows_the_client() {
        let client = Lists {
            kex: format!("mlkem768x25519-sha256,{STRICT_SERVER},{},{EXT_INFO}", KEX[1]),
            host_key: "rsa-sha2-512,ssh-ed25519".into(),
            to_server: "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com".into(),
            to_client: "aes128-ctr,aes256-gcm@openssh.com".into(),
            follows: true,
            ..Lists::client()
        };
        let agreed = Agreed::between(Side::Server, &client, &Lists::server()).unwrap();
        assert_eq!(agreed.host_key, "ssh-ed25519");
        assert_eq!(agreed.to_server, Cipher::ChaCha20Poly1305);
        assert_eq!(agreed.to_client, Cipher::Aes256Gcm);
        assert!(agreed.ignore_next, "it guessed a key exchange that we do not have");
        let plain = Lists { host_key: "rsa-sha2-512".into(), ..client };
        let error = Agreed::between(Side::Server, &plain, &Lists::server()).unwrap_err();
        assert!(error.to_string().ends_with("offers rsa-sha2-512"), "{error}");
        let names = Lists { kex: STRICT_SERVER.into(), ..Lists::client() };
        assert!(Agreed::between(Side::Server, &names, &Lists::server()).is_err());
    }

    #[test]
    fn nothing_in_common_names_the_list() {
        let old = Lists { kex: "diffie-hellman-group14-sha1".into(), ..agent() };
        let error = with(&old).unwrap_err().to_string();
        assert!(error.contains("key exchange") && error.contains("group14"), "{error}");
        let old = Lists { to_client: "3des-cbc".into(), ..agent() };
        assert!(matches!(with(&old), Err(Error::NoCommon { what: "cipher", .. })));
    }

    #[test]
    fn lists_survive_the_wire() {
        let payload = agent().encode([3; 16]);
        assert_eq!(Lists::parse(&payload).unwrap(), agent());
        for end in 0..payload.len() {
            assert!(Lists::parse(&payload[..end]).is_err(), "cut at {end}");
        }
    }
}
