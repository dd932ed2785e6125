//! STUN: tells a client from which address its datagram came (RFC 8489).
//!
//! Only binding requests are answered that are well formed and carry a right FINGERPRINT, as those
//! of upstream's clients do (coder/tailscale: net/stun/stun.go). An answer is at most four bytes
//! longer than its request, so that nobody can be flooded through here with more than the attacker
//! sends.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::net::UdpSocket;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_RESPONSE: [u8; 2] = [0x01, 0x01];
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// From here on a receiver may ignore attributes that it does not know (RFC 8489, 14).
const OPTIONAL: u16 = 0x8000;
/// `STUN`, so that a fingerprint is no checksum of another protocol (RFC 8489, 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Longest request that is looked at; one with what is known has 40 bytes.
const MAX_REQUEST: usize = 548;

/// By how much an answer may be longer than its request.
const MAX_EXCESS: usize = 4;

/// A STUN server.
#[derive(Debug)]
pub struct Stun {
    socket: UdpSocket,
}

impl Stun {
    /// Binds a server; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(address).await? })
    }

    /// Where it answers.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn serve(&self) -> std::convert::Infallible {
        let mut buffer = [0; MAX_REQUEST + 1];
        loop {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // What an earlier answer met on its way; a socket that is broken for good must
                    // not keep a processor busy.
                    tracing::debug!(%error, "STUN: no datagram");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Some(request) = buffer.get(..length) else { continue };
            if let Some(answer) = answer(request, from)
                && let Err(error) = self.socket.send_to(&answer, from).await
            {
                tracing::debug!(%error, "STUN: an answer could not be sent");
            }
        }
    }
}

/// The answer to a datagram, if it deserves one.
#[must_use]
pub fn answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let transaction = parse(request)?;
    let answer = response(transaction, from);
    (answer.len() <= request.len() + MAX_EXCESS).then_some(answer)
}

/// The transaction of a proper binding request.
fn parse(request: &[u8]) -> Option<[u8; 12]> {
    if request.len() > MAX_REQUEST {
        return None;
    }
    let (header, mut attributes) = request.split_at_checked(HEADER)?;
    let [a, b, c, d, cookie_and_transaction @ ..] = header else { return None };
    let length = usize::from(u16::from_be_bytes([*c, *d]));
    let transaction = cookie_and_transaction.strip_prefix(&COOKIE)?;
    if [*a, *b] != BINDING_REQUEST || length != attributes.len() || length % 4 != 0 {
        return None;
    }
    loop {
        let before = request.len() - attributes.len();
        let (&[a, b, c, d], rest) = attributes.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([a, b]);
        let length = usize::from(u16::from_be_bytes([c, d]));
        let value = rest.get(..length)?;
        attributes = rest.get(length.next_multiple_of(4)..)?;
        match kind {
            FINGERPRINT => {
                let given = u32::from_be_bytes(value.try_into().ok()?);
                let right = crc32(request.get(..before)?) ^ FINGERPRINT_XOR;
                // It is the last attribute.
                let fits = given == right && attributes.is_empty();
                return if fits { transaction.try_into().ok() } else { None };
            }
            // One who asks for more than an address (credentials, say) is mistaken here.
            0..OPTIONAL => return None,
            OPTIONAL.. => {}
        }
    }
}

fn response(transaction: [u8; 12], from: SocketAddr) -> Vec<u8> {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE);
    mask[4..].copy_from_slice(&transaction);
    let port = from.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
    // A socket for both families spells IPv4 as IPv6.
    let (family, mut address) = match from.ip().to_canonical() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    for (byte, mask) in address.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    let length = 4 + address.len() as u16;
    let mut response = Vec::with_capacity(HEADER + 24);
    response.extend_from_slice(&BINDING_RESPONSE);
    response.extend_from_slice(&(4 + length).to_be_bytes());
    response.extend_from_slice(&mask);
    response.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    response.extend_from_slice(&length.to_be_bytes());
    response.extend_from_slice(&[0, family]);
    response.extend_from_slice(&port.to_be_bytes());
    response.append(&mut address);
    response
}

/// CRC-32 as in ITU V.42 (RFC 8489, 14.7). Forty bytes, now and then: no table is worth it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// As upstream's clients make them.
    const REQUEST: &str =
        "000100142112a442a0a1a2a3a4a5a6a7a8a9aaab802200087461696c6e6f64658028000428a54bbb";

    #[test]
    fn a_request_is_answered_with_its_address() {
        let from = "198.51.100.7:41641".parse().unwrap();
        let right = hex("0101000c2112a442a0a1a2a3a4a5a6a7a8a9aaab00200008000183bbe721c045");
        assert_eq!(answer(&hex(REQUEST), from), Some(right.clone()));
        let mapped = "[::ffff:198.51.100.7]:41641".parse().unwrap();
        assert_eq!(answer(&hex(REQUEST), mapped), Some(right));
    }

    #[test]
    fn ipv6_is_hidden_behind_the_transaction_too() {
        // RFC 5769, 2.3 has these words.
        let mut request = hex("000100142112a442b7e7a701bc34d686fa87dfae802200087461696c6e6f6465");
        let crc = crc32(&request) ^ FINGERPRINT_XOR;
        request.extend_from_slice(&hex("80280004"));
        request.extend_from_slice(&crc.to_be_bytes());
        let from = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let answer = answer(&request, from).unwrap();
        assert_eq!(answer[HEADER..], hex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"));
    }

    #[test]
    fn what_is_no_proper_request_gets_no_answer() {
        let from = "198.51.100.7:41641".parse().unwrap();
        let right = hex(REQUEST);
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut request = right.clone();
            change(&mut request);
            request
        };
        let cases: [(&str, Vec<u8>); 9] = [
            ("nothing", Vec::new()),
            ("a bare header", hex("000100002112a442a0a1a2a3a4a5a6a7a8a9aaab")),
            ("an answer", changed(&|request| request[0] = 1)),
            ("another cookie", changed(&|request| request[4] = 0)),
            ("a wrong length", changed(&|request| request[3] = 16)),
            ("a wrong fingerprint", changed(&|request| request[39] ^= 1)),
            ("a required attribute", changed(&|request| request[20] = 0)),
            ("bytes behind it", changed(&|request| request.push(0))),
            ("an attribute that runs over", changed(&|request| request[23] = 200)),
        ];
        for (what, request) in cases {
            assert_eq!(answer(&request, from), None, "{what}");
        }
    }

    #[test]
    fn nobody_is_flooded() {
        // Only a fingerprint: enough for a short address, not for a long one.
        let mut request = hex("000100082112a442a0a1a2a3a4a5a6a7a8a9aaab");
        let crc = crc32(&request) ^ FINGERPRINT_XOR;
        request.extend_from_slice(&hex("80280004"));
        request.extend_from_slice(&crc.to_be_bytes());
        assert!(answer(&request, "198.51.100.7:1".parse().unwrap()).is_some());
        assert!(answer(&request, "[2001:db8::1]:1".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn over_a_socket() {
        let server = Stun::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(server.address().unwrap()).await.unwrap();
        client.send(b"rubbish").await.unwrap();
        client.send(&hex(REQUEST)).await.unwrap();
        let mut buffer = [0; 100];
        let length = tokio::select! {
            never = server.serve() => match never {},
            received = client.recv(&mut buffer) => received.unwrap(),
        };
        let own = client.local_addr().unwrap();
        assert_eq!(Some(buffer[..length].to_vec()), answer(&hex(REQUEST), own));
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let from = "198.51.100.7:41641".parse().unwrap();
            prop_assert!(answer(&bytes, from).is_none_or(|answer| answer.len() <= bytes.len() + 4));
        }
    }
}
