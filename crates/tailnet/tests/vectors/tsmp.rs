use coderctl_tailnet::ids::PeerId;
use coderctl_tailnet::tsmp::{Message, Packet, TsmpError, ping};

use crate::hex;

const PING: &str = "6000000000096340fd60627aa42b4d58b6a951c07e38d2f4fd7a115ca1e04f638a1e0d5b7c9e4f21701122334455667788";
const PONG: &str = "600fffff000b6340fd7a115ca1e04f638a1e0d5b7c9e4f21fd60627aa42b4d58b6a951c07e38d2f46f11223344556677880000";
const DATA: [u8; 8] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];

#[test]
fn ping_and_pong() {
    let peer: PeerId = "9f3b6c70-14e2-4d58-b6a9-51c07e38d2f4".parse().unwrap();
    let agent: PeerId = "2e7c5a1d-90b4-4f63-8a1e-0d5b7c9e4f21".parse().unwrap();
    let (us, them) = (peer.client_address(), agent.agent_address());
    assert_eq!(ping(us, them, DATA)[..], hex(PING));

    let parsed = Packet::parse(&hex(PING)).unwrap();
    assert_eq!((parsed.source, parsed.destination), (us, them));
    assert_eq!(parsed.message, Message::Ping { data: DATA });
    assert_eq!(parsed.respond().unwrap()[..], hex(PONG));

    let parsed = Packet::parse(&hex(PONG)).unwrap();
    assert_eq!((parsed.source, parsed.destination), (them, us));
    assert_eq!(parsed.message, Message::Pong { data: DATA, port: 0 });
    assert_eq!(parsed.respond(), None);
}

#[test]
fn rejected() {
    let refused = |flags: &[u8]| {
        let mut packet = hex(PING)[..40].to_vec();
        packet.extend_from_slice(&[b'!', 6, b'A', 0x12, 0x34, 0, 80]);
        packet.extend_from_slice(flags);
        packet[5] = (packet.len() - 40) as u8;
        Packet::parse(&packet).unwrap().message
    };
    let expected = |maybe_broken| Message::Rejected {
        protocol: 6,
        reason: b'A',
        source_port: 0x1234,
        destination_port: 80,
        maybe_broken,
    };
    assert_eq!(refused(&[]), expected(false));
    assert_eq!(refused(&[1]), expected(true));
    assert_eq!(refused(&[2]), expected(false));
}

#[test]
fn packets_that_are_none() {
    let ping = hex(PING);
    for length in 0..40 {
        assert_eq!(Packet::parse(&ping[..length]), Err(TsmpError::NotTsmp));
    }
    for length in 40..ping.len() {
        assert_eq!(Packet::parse(&ping[..length]), Err(TsmpError::Short));
    }
    let with = |at: usize, byte: u8| {
        let mut packet = ping.clone();
        packet[at] = byte;
        Packet::parse(&packet)
    };
    assert_eq!(with(0, 0x45), Err(TsmpError::NotTsmp));
    assert_eq!(with(6, 17), Err(TsmpError::NotTsmp));
    assert_eq!(with(5, 8), Err(TsmpError::Short));
    assert_eq!(with(40, b'z'), Err(TsmpError::Unknown(b'z')));
}

#[test]
fn padding_behind_the_packet_does_not_count() {
    let mut padded = hex(PING);
    padded.extend_from_slice(&[0; 15]);
    assert_eq!(Packet::parse(&padded), Packet::parse(&hex(PING)));
}
