use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_tailnet::derp::frame::{
    Decoder, Frame, FrameError, MAX_CLIENT_FRAME, MAX_PACKET, PeerGone, put_recv_packet,
    put_send_packet,
};
use coderctl_tailnet::derp::login::{self, ClientInfo, LoginError, ServerInfo};
use coderctl_tailnet::derp::{Client, ClientError, Event, Limiter};

use crate::{agent_key, client_key, counting, hex, relay_key};

const AGENT: &str = "e131c757df2d4c7d26f3110152768f46c7eb287ac7c795ee31ccbf5c4ad9b506";
const SERVER_KEY: &str =
    "010000002844455250f09f9491b302b54da83d465c7e274ff8f2640bc1cade98dcad2f944adcd76fe9bace967b";
const CLIENT_INFO: &str = "0200000068 e7fdb00f70d9babab8053b923f8b48503573cd45a5316150cb93a893f6ad0225
    000102030405060708090a0b0c0d0e0f1011121314151617
    89c2501099bcaea77364675de2be11dd9312608bcdf6074693ba25cb97c78b717b7216f7074830773dc086a8227099a7";
const SERVER_INFO: &str = "0300000035 18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f
    df8f91e73ea70a8f0d6a8a3a2e0bd786d28a9176fc7ae0e005cf5338ed";

fn decode(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = Decoder::new(MAX_CLIENT_FRAME).decode(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    frame
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

#[test]
fn frames_as_the_reference_has_them() {
    let agent = agent_key().public();
    let payload = || BytesMut::from(&hex("0400000001020304")[..]);
    let frames = [
        (SERVER_KEY.to_owned(), Frame::ServerKey { key: relay_key().public() }),
        (
            format!("0400000028 {AGENT} 0400000001020304"),
            Frame::SendPacket { to: agent, payload: payload() },
        ),
        (
            format!("0500000028 {AGENT} 0400000001020304"),
            Frame::RecvPacket { from: agent, payload: payload() },
        ),
        ("070000000101".to_owned(), Frame::NotePreferred(true)),
        ("12000000084142434445464748".to_owned(), Frame::Ping(*b"ABCDEFGH")),
        ("13000000084142434445464748".to_owned(), Frame::Pong(*b"ABCDEFGH")),
        (
            format!("0800000021 {AGENT} 01"),
            Frame::PeerGone { peer: agent, reason: PeerGone::NotHere },
        ),
        ("0600000000".to_owned(), Frame::KeepAlive),
        (
            "1500000008000005dc00001388".to_owned(),
            Frame::Restarting {
                reconnect_in: Duration::from_millis(1500),
                try_for: Duration::from_millis(5000),
            },
        ),
    ];
    for (bytes, frame) in frames {
        assert_eq!(decode(&hex(&bytes)), frame);
        assert_eq!(encode(&frame), hex(&bytes), "{frame:?}");
    }
}

#[test]
fn packets_are_appended_as_frames() {
    let mut out = BytesMut::new();
    put_send_packet(&mut out, &agent_key().public(), &[4, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    put_recv_packet(&mut out, &agent_key().public(), &[4, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    let both = format!("0400000028{AGENT}0400000001020304 0500000028{AGENT}0400000001020304");
    assert_eq!(out, hex(&both));
    let long = vec![0; MAX_PACKET + 1];
    let refused = put_send_packet(&mut out, &agent_key().public(), &long);
    assert_eq!(refused, Err(FrameError::PacketTooLong(MAX_PACKET + 1)));
    assert_eq!(out, hex(&both));
}

#[test]
fn the_login_of_a_client() {
    let (client, relay) = (client_key(), relay_key());
    let plaintext = serde_json::to_string(&ClientInfo::default()).unwrap();
    assert_eq!(plaintext, r#"{"version":2,"CanAckPings":true}"#);
    let frame = login::client_info(&client, &relay.public(), &ClientInfo::default(), counting(0));
    assert_eq!(encode(&frame), hex(CLIENT_INFO));
    let Frame::ClientInfo { node, nonce, sealed } = decode(&hex(CLIENT_INFO)) else {
        panic!("not client info");
    };
    let opened = login::open_client_info(&relay, &node, &nonce, &sealed);
    assert_eq!(opened, Ok(ClientInfo::default()));
    let stranger = agent_key().public();
    let refused = login::open_client_info(&relay, &stranger, &nonce, &sealed);
    assert_eq!(refused, Err(LoginError::Sealed));
}

#[test]
fn the_login_of_a_relay() {
    let (client, relay) = (client_key(), relay_key());
    let frame =
        login::server_info(&relay, &client.public(), &ServerInfo::default(), counting(0x18));
    assert_eq!(encode(&frame), hex(SERVER_INFO));
    let Frame::ServerInfo { nonce, sealed } = decode(&hex(SERVER_INFO)) else {
        panic!("not server info");
    };
    let opened = login::open_server_info(&client, &relay.public(), &nonce, &sealed);
    assert_eq!(opened, Ok(ServerInfo::default()));
}

#[test]
fn a_client_introduces_itself_in_one_write() {
    let mut client = Client::new(client_key(), true, counting(0));
    let mut buffer = BytesMut::from(&hex(SERVER_KEY)[..]);
    let welcome = client.handle_input(&mut buffer);
    assert_eq!(welcome, Ok(Some(Event::Welcome(relay_key().public()))));
    assert!(client.is_open());
    assert_eq!(client.output(), hex(&format!("{CLIENT_INFO} 070000000101")));
    assert!(client.output().is_empty());

    buffer.extend_from_slice(&hex(SERVER_INFO));
    let info = client.handle_input(&mut buffer);
    assert_eq!(info, Ok(Some(Event::LoggedIn(ServerInfo::default()))));
}

#[test]
fn a_client_away_from_home_does_not_prefer() {
    let mut client = Client::new(client_key(), false, counting(0));
    client.handle_input(&mut BytesMut::from(&hex(SERVER_KEY)[..])).unwrap();
    assert_eq!(client.output(), hex(CLIENT_INFO));
}

#[test]
fn a_client_answers_pings() {
    let mut client = opened();
    let mut buffer = BytesMut::from(&hex("12000000084142434445464748 0600000000")[..]);
    assert_eq!(client.handle_input(&mut buffer), Ok(Some(Event::Pinged)));
    assert_eq!(client.handle_input(&mut buffer), Ok(Some(Event::Other)));
    assert_eq!(client.handle_input(&mut buffer), Ok(None));
    assert_eq!(client.output(), hex("13000000084142434445464748"));
}

#[test]
fn pings_without_end_do_not_fill_the_memory() {
    let mut client = opened();
    for _ in 0..10_000 {
        client.handle_input(&mut BytesMut::from(&hex("12000000084142434445464748")[..])).unwrap();
    }
    assert_eq!(client.output().len(), 64 * 13);
}

#[test]
fn a_server_that_is_no_relay() {
    for bytes in
        ["0600000000", "01000000200000000000000000000000000000000000000000000000000000000000000000"]
    {
        let mut client = Client::new(client_key(), true, counting(0));
        let refused = client.handle_input(&mut BytesMut::from(&hex(bytes)[..]));
        assert_eq!(refused, Err(ClientError::NotARelay));
    }
    let mut client = Client::new(client_key(), true, counting(0));
    let refused = client.handle_input(&mut BytesMut::from(&b"HTTP/1.1 200 OK"[..]));
    assert!(matches!(refused, Err(ClientError::Frame(FrameError::TooLong { .. }))), "{refused:?}");
}

#[test]
fn a_relay_with_another_key_than_it_names() {
    let mut client = opened();
    let mut info = hex(SERVER_INFO);
    *info.last_mut().unwrap() ^= 1;
    let refused = client.handle_input(&mut BytesMut::from(&info[..]));
    assert_eq!(refused, Err(ClientError::Login(LoginError::Sealed)));
}

#[test]
fn health_is_cut_and_cleared() {
    let mut client = opened();
    let problem = Frame::Health("é".repeat(4000));
    let Ok(Some(Event::Health(Some(text)))) = client.handle_input(&mut bytes(&problem)) else {
        panic!("no problem");
    };
    assert_eq!(text.len(), 1024);
    let cleared = client.handle_input(&mut bytes(&Frame::Health(String::new())));
    assert_eq!(cleared, Ok(Some(Event::Health(None))));
}

#[test]
fn frames_longer_than_a_megabyte_are_refused() {
    let mut client = opened();
    let mut buffer = BytesMut::from(&hex("0500100001")[..]);
    let refused = client.handle_input(&mut buffer);
    assert!(matches!(refused, Err(ClientError::Frame(FrameError::TooLong { .. }))), "{refused:?}");
}

#[test]
fn a_relays_rate_is_kept() {
    let info = ServerInfo { bytes_per_second: 10_000, bytes_burst: 5_000, ..ServerInfo::default() };
    let start = Instant::now();
    let mut limiter = Limiter::new(&info, start).unwrap();
    assert!(limiter.take_packet(5_000 - 37, start));
    assert!(!limiter.take_packet(1, start));
    assert!(limiter.take_packet(1_000 - 37, start + Duration::from_millis(100)));
    assert!(!limiter.take_packet(1, start + Duration::from_millis(100)));
    let later = start + Duration::from_secs(3600);
    assert!(limiter.take(5_000, later));
    assert!(!limiter.take(1, later));
    assert!(Limiter::new(&ServerInfo::default(), start).is_none());
}

fn opened() -> Client {
    let mut client = Client::new(client_key(), true, counting(0));
    client.handle_input(&mut BytesMut::from(&hex(SERVER_KEY)[..])).unwrap();
    client.output();
    client
}

fn bytes(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out
}
