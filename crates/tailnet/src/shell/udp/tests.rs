use std::{future::poll_fn, time::Duration};

use super::*;

fn at(port: Option<u16>) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port.expect("an IPv4 socket")).into()
}

/// What comes in until there are `count` datagrams.
async fn receive(udp: &mut Udp, count: usize) -> Vec<(SocketAddr, BytesMut)> {
    let mut all = Vec::new();
    let everything = async {
        while all.len() < count {
            poll_fn(|cx| udp.poll_ready(cx)).await;
            udp.receive(|from, datagram| all.push((from, datagram)));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), everything).await.expect("datagrams");
    all
}

#[test]
fn a_batch_is_of_one_address_and_one_length() {
    let (a, b) = (at(Some(1)), at(Some(2)));
    let mut batch = Batch::default();
    assert!(batch.takes(a, 5, 3));
    batch.push(a, b"12345");
    assert!(batch.takes(a, 5, 3));
    assert!(!batch.takes(b, 5, 3));
    assert!(!batch.takes(a, 6, 3));
    assert!(!batch.takes(a, 5, 1));
    assert!(batch.takes(a, 4, 3));
    batch.push(a, b"1234");
    // A shorter one is the last.
    assert!(!batch.takes(a, 4, 3));
    batch.clear();
    assert!(batch.takes(b, 6, 3));
}

#[tokio::test]
async fn datagrams_arrive_whole_and_in_order_however_they_travel() {
    let (mut a, mut b) = (Udp::bind(), Udp::bind());
    let (from, to) = (at(a.ports().v4), at(b.ports().v4));
    let long = WIDEST + OVERHEAD;
    let short = [1312, 1312, 1312, 40, 1312, 7, 7, 1400, 1312];
    let lengths = [&short[..], &[long; 9], &short].concat();
    for (number, length) in lengths.iter().copied().enumerate() {
        assert!(a.admit(&to));
        a.send(to, BytesMut::from(&vec![number as u8; length][..]));
    }
    a.flush();
    let received = receive(&mut b, lengths.len()).await;
    for (number, (length, (source, datagram))) in lengths.iter().copied().zip(&received).enumerate()
    {
        assert_eq!(*source, from);
        assert_eq!(datagram[..], vec![number as u8; length]);
    }
    assert_eq!(received.len(), lengths.len());
}

#[tokio::test]
async fn an_address_without_a_socket_loses_what_is_sent_there() {
    let mut udp = Udp { v6: None, ..Udp::bind() };
    let nowhere = "[2001:db8::1]:9".parse().expect("an address");
    for _ in 0..1000 {
        assert!(udp.admit(&nowhere));
        udp.send(nowhere, BytesMut::from(&b"lost"[..]));
    }
    udp.flush();
}

#[tokio::test]
async fn a_datagram_that_the_system_refuses_for_its_length_is_told() {
    let (mut a, b) = (Udp::bind(), Udp::bind());
    let to = at(b.ports().v4);
    a.send(to, BytesMut::zeroed(WIDEST));
    a.flush();
    assert_eq!(a.too_long(), None);
    // More than an IPv4 packet can have.
    a.send(to, BytesMut::zeroed(65_536));
    a.flush();
    assert_eq!(a.too_long(), Some((to, 65_536)));
    assert_eq!(a.too_long(), None, "it is told once");
}
