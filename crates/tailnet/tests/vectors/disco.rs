use std::net::SocketAddr;

use coderctl_tailnet::disco::{
    DiscoBox, DiscoError, MAGIC, MAX_ENDPOINTS, Message, PADDED_LENGTH, TxId, is_disco,
    relay_address, sender,
};
use coderctl_tailnet::ids::RegionId;

use crate::{client_key, counting, disco_a, disco_b, hex, sha256, to_hex};

fn a_to_b() -> DiscoBox {
    DiscoBox::new(&disco_a(), disco_b().public())
}

fn b_to_a() -> DiscoBox {
    DiscoBox::new(&disco_b(), disco_a().public())
}

fn ping_message() -> Message {
    Message::Ping { tx: TxId(counting(0)), node: Some(client_key().public()) }
}

fn v4() -> SocketAddr {
    "198.51.100.7:41641".parse().unwrap()
}

#[test]
fn ping() {
    let plaintext = ping_message().to_plaintext();
    assert_eq!(plaintext.len(), 1232);
    let head = "0101000102030405060708090a0be7fdb00f70d9babab8053b923f8b48503573cd45a5316150cb93a893f6ad0225";
    assert_eq!(to_hex(&plaintext[..46]), head);
    assert_eq!(
        sha256(&plaintext),
        "41165c4943f2320ea907b2b9101d55582eb4ed053c1dabdb367f05c2702b71b7"
    );
    let packet = a_to_b().seal(&ping_message(), counting(0x30));
    assert_eq!(packet.len(), PADDED_LENGTH);
    assert_eq!(PADDED_LENGTH, 1310);
    assert_eq!(sha256(&packet), "1415e5f68be2bd64ba271d81203e84ffdba36547a3aa251add07b507350ec7f6");
    let middle = "032b57216d86373ccd81b009035d49c994c2d707d96c11118e112425a46fcc1b";
    assert_eq!(to_hex(&packet[62..94]), middle);
    assert!(is_disco(&packet));
    assert_eq!(sender(&packet), Some(disco_a().public()));
    assert_eq!(b_to_a().open(&packet), Ok(ping_message()));
}

#[test]
fn pong() {
    let pong = Message::Pong { tx: TxId(counting(0)), source: v4() };
    let plaintext = pong.to_plaintext();
    let head = "0201000102030405060708090a0b00000000000000000000ffffc6336407a2a9";
    assert_eq!(to_hex(&plaintext[..32]), head);
    assert_eq!(
        sha256(&plaintext),
        "87ef8b19f7e5888d6f340e4d710013905732a629c0c26b993c78b8d3f5a4c9a3"
    );
    assert_eq!(Message::parse(&plaintext), Ok(pong));
}

#[test]
fn call_me_maybe() {
    let endpoints = vec![v4(), "[2001:db8::5]:41641".parse().unwrap()];
    let message = Message::CallMeMaybe { endpoints };
    let plaintext = "030000000000000000000000ffffc6336407a2a920010db8000000000000000000000005a2a9";
    assert_eq!(to_hex(&message.to_plaintext()), plaintext);
    let packet = "5453f09f92ac 8fbdae4d11cd1f403c6757350df83b160c85af3d63c3ca36360a7166ef1e711d
        303132333435363738393a3b3c3d3e3f4041424344454647
        915d2941213b7ffb0a1293454a5d48e396c3d706db6f151488162c2c519bedd51e6a2e538f0f6dcbf64cc1d1bb1b45a3316fa1b3cdde";
    assert_eq!(a_to_b().seal(&message, counting(0x30)), hex(packet));
    assert_eq!(b_to_a().open(&hex(packet)), Ok(message));
}

#[test]
fn parsing_is_as_lenient_as_upstream() {
    let old_ping = [&[1, 0][..], &counting::<12>(0)].concat();
    let expected = Message::Ping { tx: TxId(counting(0)), node: None };
    assert_eq!(Message::parse(&old_ping), Ok(expected));
    let none = Ok(Message::CallMeMaybe { endpoints: Vec::new() });
    assert_eq!(Message::parse(&[3, 0]), none);
    assert_eq!(Message::parse(&[&[3, 1][..], &[0; 18]].concat()), none);
    assert_eq!(Message::parse(&[&[3, 0][..], &[0; 19]].concat()), none);
    let many = [&[3, 0][..], &[1; 18 * 500]].concat();
    let Ok(Message::CallMeMaybe { endpoints }) = Message::parse(&many) else {
        panic!("not a call-me-maybe");
    };
    assert_eq!(endpoints.len(), MAX_ENDPOINTS);
}

#[test]
fn messages_that_are_none() {
    assert_eq!(Message::parse(&[]), Err(DiscoError::Short));
    assert_eq!(Message::parse(&[1, 1, 0]), Err(DiscoError::Short));
    assert_eq!(Message::parse(&[&[2, 1][..], &[0; 29]].concat()), Err(DiscoError::Short));
    assert_eq!(Message::parse(&[9, 0]), Err(DiscoError::Unknown(9)));
    assert_eq!(b_to_a().open(&MAGIC), Err(DiscoError::NotFromPeer));
    let packet = a_to_b().seal(&ping_message(), counting(0));
    assert_eq!(a_to_b().open(&packet), Err(DiscoError::NotFromPeer));
    for length in [62, 77, 78, 1309] {
        assert_eq!(b_to_a().open(&packet[..length]), Err(DiscoError::Sealed), "{length}");
    }
}

#[test]
fn a_relay_path_has_an_address_of_its_own() {
    assert_eq!(relay_address(RegionId::EMBEDDED).to_string(), "127.3.3.40:999");
}
