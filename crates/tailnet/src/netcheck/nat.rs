//! What STUN answers say about the address translator before us (RFC 4787, 4.1).

use std::net::SocketAddr;

/// How our address looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// As it is: nothing translates it.
    None,
    /// Translated, and to the same for every destination: peers can be told where we are
    /// (endpoint-independent mapping).
    Easy,
    /// Translated, and to something else for each destination: what one server sees is of no use
    /// to a peer (address-dependent mapping).
    Hard,
    /// Too few servers answered to tell.
    Unknown,
}

/// One server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whom we asked.
    pub server: SocketAddr,
    /// The address that the question came from, as we know it.
    pub local: SocketAddr,
    /// The same as the server saw it.
    pub mapped: SocketAddr,
}

impl Nat {
    /// Reads it from answers to questions of one socket, of one family.
    #[must_use]
    pub fn of(seen: &[Seen]) -> Nat {
        let Some(first) = seen.first() else { return Nat::Unknown };
        if seen.iter().any(|other| other.mapped != first.mapped) {
            return Nat::Hard;
        }
        if seen.iter().all(|one| one.mapped == one.local) {
            return Nat::None;
        }
        // Two ports of one server are one destination to most translators.
        let two = seen.iter().any(|other| other.server.ip() != first.server.ip());
        if two { Nat::Easy } else { Nat::Unknown }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_answers_say() {
        let here = "192.168.1.5:4711";
        let rows: [(&[(&str, &str)], Nat); 7] = [
            (&[], Nat::Unknown),
            (&[("203.0.113.1:3478", here)], Nat::None),
            (&[("203.0.113.1:3478", here), ("203.0.113.2:3478", here)], Nat::None),
            (&[("203.0.113.1:3478", "198.51.100.7:4711")], Nat::Unknown),
            (
                &[("203.0.113.1:3478", "198.51.100.7:9"), ("203.0.113.1:3479", "198.51.100.7:9")],
                Nat::Unknown,
            ),
            (
                &[("203.0.113.1:3478", "198.51.100.7:9"), ("203.0.113.2:3478", "198.51.100.7:9")],
                Nat::Easy,
            ),
            (
                &[("203.0.113.1:3478", "198.51.100.7:9"), ("203.0.113.2:3478", "198.51.100.7:10")],
                Nat::Hard,
            ),
        ];
        for (answers, expected) in rows {
            let seen: Vec<Seen> = answers
                .iter()
                .map(|(server, mapped)| Seen {
                    server: server.parse().unwrap(),
                    local: here.parse().unwrap(),
                    mapped: mapped.parse().unwrap(),
                })
                .collect();
            assert_eq!(Nat::of(&seen), expected, "{answers:?}");
        }
    }
}
