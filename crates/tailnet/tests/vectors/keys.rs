use coderctl_tailnet::keys::{DiscoPublic, KeyError, NodePrivate, NodePublic, RelayPublic};

use crate::{agent_key, client_key, disco_a, disco_b, hex, relay_key, to_hex};

#[test]
fn private_keys_are_clamped_and_public_keys_follow() {
    let pairs = [
        (
            to_hex(&*client_key().expose_bytes()),
            to_hex(client_key().public().as_bytes()),
            "a8a22af41e3157c6b7683ebf2ba68dad56d413690bda090523099434bce3f97a",
            "e7fdb00f70d9babab8053b923f8b48503573cd45a5316150cb93a893f6ad0225",
        ),
        (
            to_hex(&*agent_key().expose_bytes()),
            to_hex(agent_key().public().as_bytes()),
            "0882294b4a2b63320e8f2123c546eeb4a7460587eb7f7705d1c3e8f7b5188f5f",
            "e131c757df2d4c7d26f3110152768f46c7eb287ac7c795ee31ccbf5c4ad9b506",
        ),
        (
            to_hex(&*relay_key().expose_bytes()),
            to_hex(relay_key().public().as_bytes()),
            "b08bb9bfee8a481b8fad7861cded5d4e7a108a8794344b7e56a1fa58f0d7f646",
            "b302b54da83d465c7e274ff8f2640bc1cade98dcad2f944adcd76fe9bace967b",
        ),
        (
            to_hex(&*disco_a().expose_bytes()),
            to_hex(disco_a().public().as_bytes()),
            "88ef9029d23a8fa79f8b7dac9fc413ee314a898e147d93692090de78e8a48f71",
            "8fbdae4d11cd1f403c6757350df83b160c85af3d63c3ca36360a7166ef1e711d",
        ),
        (
            to_hex(&*disco_b().expose_bytes()),
            to_hex(disco_b().public().as_bytes()),
            "1017f7a53ff1c3c982ec51d0d071f22d2d13ed1cf36e9d9ed85b96f928f3a052",
            "94db17fb0c4f5b411063402af9e2ae79bb1cdac096b853c28e0ea48215641519",
        ),
    ];
    for (private, public, expected_private, expected_public) in pairs {
        assert_eq!(private, expected_private);
        assert_eq!(public, expected_public);
    }
}

#[test]
fn spellings() {
    let node = client_key().public();
    let text = "nodekey:e7fdb00f70d9babab8053b923f8b48503573cd45a5316150cb93a893f6ad0225";
    assert_eq!(node.to_string(), text);
    assert_eq!(format!("{node:?}"), "[5/2wD]");
    assert_eq!(text.parse(), Ok(node));
    assert_eq!(text.to_uppercase().replace("NODEKEY:", "nodekey:").parse(), Ok(node));

    let prefixed = hex("6e70e7fdb00f70d9babab8053b923f8b48503573cd45a5316150cb93a893f6ad0225");
    assert_eq!(node.to_prefixed()[..], prefixed);
    assert_eq!(NodePublic::from_prefixed(&prefixed), Ok(node));

    let disco = disco_a().public();
    let text = "discokey:8fbdae4d11cd1f403c6757350df83b160c85af3d63c3ca36360a7166ef1e711d";
    assert_eq!(disco.to_string(), text);
    assert_eq!(text.parse(), Ok(disco));

    let relay = relay_key().public();
    let text = "b302b54da83d465c7e274ff8f2640bc1cade98dcad2f944adcd76fe9bace967b";
    assert_eq!(relay.to_string(), text);
    assert_eq!(text.parse(), Ok(relay));
}

#[test]
fn malformed_keys() {
    let digits = "8fbdae4d11cd1f403c6757350df83b160c85af3d63c3ca36360a7166ef1e711d";
    let disco = |text: &str| text.parse::<DiscoPublic>();
    assert_eq!(disco(digits), Err(KeyError::Prefix("discokey:")));
    assert_eq!(disco(&format!("nodekey:{digits}")), Err(KeyError::Prefix("discokey:")));
    assert_eq!(disco(&format!("discokey:{digits}0")), Err(KeyError::Digits(65)));
    assert_eq!(disco(&format!("discokey:+{}", &digits[1..])), Err(KeyError::NotHex));
    assert_eq!(disco(&format!("discokey:{}é", &digits[2..])), Err(KeyError::NotHex));
    assert_eq!("".parse::<RelayPublic>(), Err(KeyError::Digits(0)));
    assert_eq!(NodePublic::from_prefixed(&[7; 32]), Err(KeyError::Prefix("np")));
    assert_eq!(NodePublic::from_prefixed(b"np"), Err(KeyError::Length(0)));
}

#[test]
fn private_keys_print_as_redacted() {
    let text = format!("{:?}", client_key());
    assert_eq!(text, "NodePrivate(redacted, public [5/2wD])");
}

#[test]
fn random_keys_differ() {
    let (one, other) = (NodePrivate::random().unwrap(), NodePrivate::random().unwrap());
    assert_ne!(one.public(), other.public());
}
