//! Bytes of dRPC as the Go implementation makes them.

use coderctl_drpc::{
    Metadata, RpcError,
    proto::{rpc, tailnet},
    wire::{self, Decoder, Kind, Packet, WireError},
};
use prost::Message;

use super::support::{hex, unhex};

/// Name, bytes, kind, number, data.
fn vectors() -> Vec<(&'static str, Kind, u64, Vec<u8>)> {
    vec![
        (
            "0301012c2f636f6465722e7461696c6e65742e76322e5461696c6e65742f52656672657368526573756d65546f6b656e",
            Kind::Invoke,
            1,
            rpc::tailnet::REFRESH_RESUME_TOKEN.into(),
        ),
        (
            "030101242f636f6465722e7461696c6e65742e76322e5461696c6e65742f436f6f7264696e617465",
            Kind::Invoke,
            1,
            rpc::tailnet::COORDINATE.into(),
        ),
        (
            "030101282f636f6465722e7461696c6e65742e76322e5461696c6e65742f53747265616d444552504d617073",
            Kind::Invoke,
            1,
            rpc::tailnet::STREAM_DERP_MAPS.into(),
        ),
        ("05010200", Kind::Message, 2, vec![]),
        ("0d010300", Kind::CloseSend, 3, vec![]),
        ("0b010400", Kind::Close, 4, vec![]),
        ("89010500", Kind::Cancel, 5, vec![]),
        ("050109021200", Kind::Message, 9, vec![0x12, 0]),
        (
            "07010115000000000000000c556e696d706c656d656e746564",
            Kind::Error,
            1,
            [&[0, 0, 0, 0, 0, 0, 0, 12], &b"Unimplemented"[..]].concat(),
        ),
        ("0f0101080a060a016b120176", Kind::InvokeMetadata, 1, unhex("0a060a016b120176")),
    ]
}

#[test]
fn packets_are_the_go_bytes() {
    for (bytes, kind, message, data) in vectors() {
        let mut encoded = Vec::new();
        wire::encode(&mut encoded, kind, 1, message, &data);
        assert_eq!(hex(&encoded), bytes);
        let packet = Packet { kind, stream: 1, message, data: data.into() };
        assert_eq!(decode(&unhex(bytes)), Ok(vec![packet]));
    }
}

#[test]
fn a_packet_may_come_in_several_frames() {
    let packets = decode(&unhex("04010203414141 050102024242")).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!(&packets[0].data[..], b"AAABB");
}

#[test]
fn long_packets_are_split_at_64_kib() {
    let data = vec![7; 150_000];
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, Kind::Message, 1, 1, &data);
    let header = |control: &str, length: &str| unhex(&format!("{control}0101{length}"));
    assert_eq!(&bytes[..6], header("04", "808004"));
    assert_eq!(&bytes[6 + 65536..][..6], header("04", "808004"));
    assert_eq!(&bytes[2 * (6 + 65536)..][..6], header("05", "f09301"));
    let packets = decode(&bytes).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].data, data);
}

#[test]
fn a_new_number_drops_what_was_incomplete() {
    let packets = decode(&unhex("04010203414141 0b010300")).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].kind, Kind::Close);
}

#[test]
fn numbers_never_go_back() {
    let order = |stream, message| Err(WireError::Order { stream, message });
    assert_eq!(decode(&unhex("05010300 05010200")), order(1, 2));
    assert_eq!(decode(&unhex("05010300 05010300")), order(1, 3));
    assert_eq!(decode(&unhex("05000100")), order(0, 1));
    assert_eq!(decode(&unhex("05010000")), order(1, 0));
    assert_eq!(decode(&unhex("05020100")).unwrap().len(), 1);
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let max = "ffffffffffffffffff01";
    let last = decode(&unhex(&format!("05{max}{max}00"))).unwrap();
    assert_eq!((last[0].stream, last[0].message), (u64::MAX, u64::MAX));
    let next = decode(&unhex(&format!("0501{max}00 05010100")));
    assert_eq!(next, Err(WireError::Order { stream: 1, message: 1 }));
    assert_eq!(decode(&unhex(&format!("0501{max}00 05020100"))).unwrap().len(), 2);
}

#[test]
fn unknown_kinds_are_ignored_only_as_control() {
    assert_eq!(decode(&unhex("11010100")), Err(WireError::Kind(8)));
    let packets = decode(&unhex("91010103616263 83010100 05010100")).unwrap();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].kind, Kind::Message);
}

#[test]
fn a_packet_keeps_its_kind() {
    let change = WireError::KindChange { from: Kind::Message, to: Kind::Invoke };
    assert_eq!(decode(&unhex("0401020141 0301020142")), Err(change));
}

#[test]
fn packets_over_4_mib_are_refused_when_announced() {
    let size = 4 * 1024 * 1024 + 1;
    let refused = Err(WireError::TooLarge { size, limit: 4 * 1024 * 1024 });
    assert_eq!(decode(&unhex("050101818080 02")), refused);
    // Spread over frames, the sum counts.
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, Kind::Message, 1, 1, &vec![0; size as usize]);
    assert_eq!(decode(&bytes), refused);
    assert_eq!(
        decode(&unhex("050101ffffffffffffffffff01")),
        Err(WireError::TooLarge { size: u64::MAX, limit: 4 * 1024 * 1024 })
    );
}

#[test]
fn errors_are_read_with_and_without_a_code() {
    let text = "protocol error: unknown rpc: \"/coder.tailnet.v2.Tailnet/RefreshResumeToken\"";
    let unknown = "07010153000000000000000070726f746f636f6c206572726f723a20756e6b6e6f776e207270633a20222f636f6465722e7461696c6e65742e76322e5461696c6e65742f52656672657368526573756d65546f6b656e22";
    let packets = decode(&unhex(unknown)).unwrap();
    let (code, message) = wire::parse_error(&packets[0].data);
    assert_eq!((code, message.as_str()), (0, text));
    assert!(RpcError::remote(code, message).is_unimplemented());
    assert!(RpcError::remote(12, "Unimplemented").is_unimplemented());
    assert!(!RpcError::remote(0, "no").is_unimplemented());
    assert_eq!(wire::parse_error(b"short"), (0, "short".to_owned()));
    assert_eq!(wire::parse_error(&[b'x'; 9000]).1.len(), wire::MAX_ERROR_TEXT + "…".len());
    let mut bytes = Vec::new();
    wire::encode_error(&mut bytes, 1, 1, 12, "Unimplemented");
    assert_eq!(hex(&bytes), "07010115000000000000000c556e696d706c656d656e746564");
}

#[test]
fn metadata_is_the_go_bytes() {
    let metadata: Metadata = [("k", "v")].into_iter().collect();
    assert_eq!(hex(&metadata.encode_to_vec()), "0a060a016b120176");
    assert_eq!(Metadata::parse(&unhex("0a060a016b120176")), Ok(metadata));
    assert_eq!(Metadata::parse(&[0x0a, 9]), Err(WireError::Metadata));
}

#[test]
fn messages_are_the_go_bytes() {
    let peer = unhex("9f3b6c7014e24d58b6a951c07e38d2f4");
    let answer = tailnet::RefreshResumeTokenResponse {
        token: "eyJ.test.token".to_owned(),
        refresh_in: Some(prost_types::Duration { seconds: 43200, nanos: 0 }),
        // 2025-01-02T00:00:00Z
        expires_at: Some(prost_types::Timestamp { seconds: 1_735_776_000, nanos: 0 }),
        peer_id: peer,
    };
    let mut bytes = Vec::new();
    wire::encode_message(&mut bytes, 1, 1, &answer).unwrap();
    assert_eq!(
        hex(&bytes),
        "050101300a0e65794a2e746573742e746f6b656e120408c0d1021a060880aed7bb0622109f3b6c7014e24d58b6a951c07e38d2f4"
    );
    let agent = unhex("2e7c5a1d90b44f638a1e0d5b7c9e4f21");
    let add = tailnet::CoordinateRequest {
        add_tunnel: Some(tailnet::coordinate_request::Tunnel { id: agent.clone() }),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    wire::encode_message(&mut bytes, 1, 2, &add).unwrap();
    assert_eq!(hex(&bytes), "050102141a120a102e7c5a1d90b44f638a1e0d5b7c9e4f21");
    let ready = tailnet::CoordinateResponse {
        peer_updates: vec![tailnet::coordinate_response::PeerUpdate {
            id: agent,
            kind: tailnet::coordinate_response::peer_update::Kind::ReadyForHandshake.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut bytes = Vec::new();
    wire::encode_message(&mut bytes, 1, 2, &ready).unwrap();
    assert_eq!(hex(&bytes), "050102160a140a102e7c5a1d90b44f638a1e0d5b7c9e4f211804");
}

#[test]
fn a_node_is_the_go_bytes() {
    let bytes = "0af9010af601088cda9c8ef8c7abab49120b08808bd2bb061080e59a771a226e70e7fdb00f70d9babab8053b923f8b48
        503573cd45a5316150cb93a893f6ad02252249646973636f6b65793a3866626461653464313163643166343033633637
        353733353064663833623136306338356166336436336333636133363336306137313636656631653731316428e70732
        110a063939392d7634119a9999999999893f422b666436303a363237613a613432623a346435383a623661393a353163
        303a376533383a643266342f3132384a2b666436303a363237613a613432623a346435383a623661393a353163303a37
        6533383a643266342f313238";
    let bytes = unhex(bytes);
    assert_eq!(bytes.len(), 252);
    let update = tailnet::CoordinateRequest::decode(&bytes[..]).unwrap();
    let node = update.update_self.clone().unwrap().node.unwrap();
    assert_eq!(node.preferred_derp, 999);
    assert_eq!(node.key.len(), 34);
    assert_eq!(node.derp_latency["999-v4"], 0.0125);
    assert_eq!(node.addresses, node.allowed_ips);
    assert_eq!(update.encode_to_vec(), bytes);
}

fn decode(bytes: &[u8]) -> Result<Vec<Packet>, WireError> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_packet().transpose()).collect()
}
