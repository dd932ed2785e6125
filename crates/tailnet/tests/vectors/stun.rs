use std::net::SocketAddr;

use coderctl_tailnet::stun::{
    Answer, MAX_ANSWER, REQUEST_LENGTH, StunError, Transaction, is_stun, parse, request,
};
use proptest::prelude::*;

use crate::{counting, hex, to_hex};

/// Says 198.51.100.7:41641.
const ANSWER: &str = "0101000c2112a442a0a1a2a3a4a5a6a7a8a9aaab00200008000183bbe721c045";

fn transaction() -> Transaction {
    Transaction(counting(0xa0))
}

fn v4() -> SocketAddr {
    "198.51.100.7:41641".parse().unwrap()
}

/// An answer with these attributes.
fn answer(attributes: &str) -> Vec<u8> {
    let attributes = hex(attributes);
    let mut answer = hex("01010000 2112a442 a0a1a2a3a4a5a6a7a8a9aaab");
    answer[2..4].copy_from_slice(&(attributes.len() as u16).to_be_bytes());
    [answer, attributes].concat()
}

fn address(attributes: &str) -> Result<SocketAddr, StunError> {
    parse(&answer(attributes)).map(|answer| answer.address)
}

#[test]
fn a_request_is_as_upstream_makes_it() {
    let expected =
        "000100142112a442a0a1a2a3a4a5a6a7a8a9aaab802200087461696c6e6f64658028000428a54bbb";
    let request = request(transaction());
    assert_eq!(request.len(), REQUEST_LENGTH);
    assert_eq!(to_hex(&request), expected);
    assert!(is_stun(&request));
    assert_eq!(parse(&request), Err(StunError::NotAnswer));
}

#[test]
fn an_answer_says_an_address() {
    let expected = Answer { transaction: transaction(), address: v4() };
    assert_eq!(parse(&hex(ANSWER)), Ok(expected));
}

#[test]
fn the_answers_of_rfc_5769() {
    // Sections 2.2 and 2.3: with SOFTWARE, MESSAGE-INTEGRITY and FINGERPRINT around the address.
    let transaction = Transaction(hex("b7e7a701bc34d686fa87dfae").try_into().unwrap());
    let v4 = hex("0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220
        00200008 0001a147 e112a643 00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
        80280004 c07d4c96");
    let address = "192.0.2.1:32853".parse().unwrap();
    assert_eq!(parse(&v4), Ok(Answer { transaction, address }));
    let v6 = hex("01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220
        00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9
        00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c");
    let address = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
    assert_eq!(parse(&v6), Ok(Answer { transaction, address }));
}

#[test]
fn the_hidden_address_is_preferred() {
    let hidden = "00200008 000183bb e721c045";
    let old = "80200008 000183bb e721c045";
    let plain = "00010008 00010050 c0000201";
    assert_eq!(address(plain), Ok("192.0.2.1:80".parse().unwrap()));
    assert_eq!(address(old), Ok(v4()));
    assert_eq!(address(&format!("{plain}{hidden}")), Ok(v4()));
    assert_eq!(address(&format!("{hidden}{plain}")), Ok(v4()));
}

#[test]
fn answers_that_say_nothing() {
    let cases = [
        ("no attribute", "", StunError::NoAddress),
        ("an unknown family", "00010008 00030050 c0000201", StunError::NoAddress),
        ("too short for its family", "00010006 00020050 c000 0000", StunError::NoAddress),
        ("port 0", "00010008 00010000 c0000201", StunError::NoAddress),
        ("no host", "00010008 00010050 00000000", StunError::NoAddress),
        ("an attribute that runs over", "00010009 00010050 c0000201", StunError::Malformed),
        ("half an attribute", "0001", StunError::Malformed),
    ];
    for (what, attributes, error) in cases {
        assert_eq!(address(attributes), Err(error), "{what}");
    }
    let mut longer = hex(ANSWER);
    longer[3] += 4;
    assert_eq!(parse(&longer), Err(StunError::Malformed));
    assert_eq!(parse(&hex(ANSWER)[..19]), Err(StunError::NotStun));
    let mut flood = answer("8022ff00");
    flood.resize(MAX_ANSWER + 1, 0);
    assert_eq!(parse(&flood), Err(StunError::NotStun));
    // The first two bits are those of WireGuard or disco.
    let mut other = hex(ANSWER);
    other[0] = 0x41;
    assert!(!is_stun(&other));
}

proptest! {
    #[test]
    fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
        // Behind a header that fits.
        let mut answer = hex("01010000 2112a442 a0a1a2a3a4a5a6a7a8a9aaab");
        answer[2..4].copy_from_slice(&(bytes.len() as u16).to_be_bytes());
        answer.extend_from_slice(&bytes);
        if let Ok(answer) = parse(&answer) {
            prop_assert!(answer.address.port() != 0);
        }
    }
}
