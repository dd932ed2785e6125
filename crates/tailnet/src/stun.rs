//! STUN: asks a server from which address our datagrams reach it (RFC 8489).
//!
//! ```text
//!   0      2        4        8             20
//!   | type | length | cookie | transaction | attributes: type, length, value, padding to 4
//! ```
//!
//! A [`request`] has the two attributes without which servers of relays do not answer, SOFTWARE
//! and FINGERPRINT (coder/tailscale: net/stun/stun.go). An answer says what it says: nobody
//! signed it, so only one with a [`Transaction`] that is waited for may be believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Length of a [`request`], in bytes.
pub const REQUEST_LENGTH: usize = 40;

/// The port of servers that name none (RFC 8489, 18.6).
pub const DEFAULT_PORT: u16 = 3478;

/// Longest answer that is looked at, in bytes: one that needs no fragments anywhere (RFC 8489,
/// 6.1, for IPv4, which is the smaller).
pub const MAX_ANSWER: usize = 548;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];

const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// What some servers used before the other had a number (coder/tailscale: net/stun/stun.go).
const XOR_MAPPED_ADDRESS_OLD: u16 = 0x8020;
const SOFTWARE: [u8; 2] = [0x80, 0x22];
const FINGERPRINT: [u8; 2] = [0x80, 0x28];

/// Servers of relays look for exactly this name.
const SOFTWARE_NAME: [u8; 8] = *b"tailnode";
/// `STUN`, so that a fingerprint is no checksum of another protocol (RFC 8489, 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Matches an answer to its request. Random, so that nobody off the path can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 12]);

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Of the request.
    pub transaction: Transaction,
    /// Where the request came from, as the server saw it.
    pub address: SocketAddr,
}

/// Why a datagram is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Not STUN, or longer than any answer.
    #[error("not a STUN message")]
    NotStun,
    /// A request, an error, or another method.
    #[error("a STUN message other than an answer to a binding request")]
    NotAnswer,
    /// Lengths that do not fit each other.
    #[error("a STUN answer that is cut off")]
    Malformed,
    /// Nothing in it says an address and a port.
    #[error("a STUN answer without an address")]
    NoAddress,
}

/// A binding request.
#[must_use]
pub fn request(transaction: Transaction) -> [u8; REQUEST_LENGTH] {
    let mut request = [0; REQUEST_LENGTH];
    request[0..2].copy_from_slice(&BINDING_REQUEST);
    request[2..4].copy_from_slice(&((REQUEST_LENGTH - HEADER) as u16).to_be_bytes());
    request[4..8].copy_from_slice(&COOKIE);
    request[8..20].copy_from_slice(&transaction.0);
    request[20..22].copy_from_slice(&SOFTWARE);
    request[22..24].copy_from_slice(&(SOFTWARE_NAME.len() as u16).to_be_bytes());
    request[24..32].copy_from_slice(&SOFTWARE_NAME);
    let fingerprint = crc32(&request[..32]) ^ FINGERPRINT_XOR;
    request[32..34].copy_from_slice(&FINGERPRINT);
    request[34..36].copy_from_slice(&4_u16.to_be_bytes());
    request[36..40].copy_from_slice(&fingerprint.to_be_bytes());
    request
}

/// Whether a datagram is STUN rather than disco or WireGuard: the first two bits are zero and the
/// cookie is there (RFC 8489, 6.3). WireGuard has 28 random bits where the cookie would be.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] & 0xc0 == 0 && datagram[4..8] == COOKIE
}

/// Reads a server's answer. The address hidden by XOR is preferred, for some routers rewrite the
/// other (RFC 8489, 14.2).
///
/// # Errors
///
/// [`StunError`]; the datagram is to be dropped.
pub fn parse(datagram: &[u8]) -> Result<Answer, StunError> {
    if !is_stun(datagram) || datagram.len() > MAX_ANSWER {
        return Err(StunError::NotStun);
    }
    let (header, rest) = datagram.split_first_chunk::<HEADER>().ok_or(StunError::NotStun)?;
    let [kind_high, kind_low, length_high, length_low, mask @ ..] = header;
    if [*kind_high, *kind_low] != BINDING_SUCCESS {
        return Err(StunError::NotAnswer);
    }
    let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
    let mut attributes = rest.get(..length).ok_or(StunError::Malformed)?;
    let (mut hidden, mut plain) = (None, None);
    while !attributes.is_empty() {
        let (kind, value, rest) = attribute(attributes).ok_or(StunError::Malformed)?;
        match kind {
            XOR_MAPPED_ADDRESS | XOR_MAPPED_ADDRESS_OLD => hidden = hidden.or(address(value, mask)),
            MAPPED_ADDRESS => plain = plain.or(address(value, &[0; 16])),
            // None of the others changes what these mean.
            _ => {}
        }
        attributes = rest;
    }
    let address = hidden.or(plain).ok_or(StunError::NoAddress)?;
    let [_, _, _, _, transaction @ ..] = *mask;
    Ok(Answer { transaction: Transaction(transaction), address })
}

/// The first attribute: its type, its value, and what follows its padding.
fn attribute(attributes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[kind_high, kind_low, length_high, length_low], rest) = attributes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let value = rest.get(..length)?;
    // Some servers leave out the padding of the last one.
    let rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_be_bytes([kind_high, kind_low]), value, rest))
}

/// An address of either family, hidden by `mask` (RFC 8489, 14.1 and 14.2).
fn address(value: &[u8], mask: &[u8; 16]) -> Option<SocketAddr> {
    let (&[_, family, port_high, port_low], octets) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([port_high ^ mask[0], port_low ^ mask[1]]);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from(unhidden::<4>(octets, mask)?)),
        2 => IpAddr::V6(Ipv6Addr::from(unhidden::<16>(octets, mask)?)),
        _ => return None,
    };
    // No datagram came from there, so none can be sent to it.
    (port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip.to_canonical(), port))
}

fn unhidden<const N: usize>(octets: &[u8], mask: &[u8; 16]) -> Option<[u8; N]> {
    let octets: &[u8; N] = octets.try_into().ok()?;
    Some(std::array::from_fn(|i| octets[i] ^ mask[i]))
}

/// CRC-32 as in ITU V.42 (RFC 8489, 14.7). Of 32 bytes, now and then: no table is worth it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
