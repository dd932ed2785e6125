//! UDP.

use tokio::net::UdpSocket;

use super::*;

#[tokio::test]
async fn datagrams_find_their_senders_and_a_silent_flow_is_forgotten() {
    let specs = Specs { udp: one("127.0.0.1:0:53"), ..Specs::default() };
    let mut forward = Running::with(specs).await;
    let udp = async || {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(forward.local).await.unwrap();
        socket
    };
    let (one, other) = (udp().await, udp().await);
    let hear = async |socket: &UdpSocket| {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    forward.attach();
    forward.says("Ready!").await;
    one.send(b"a").await.unwrap();
    other.send(b"b").await.unwrap();
    assert_eq!((hear(&one).await, hear(&other).await), ("53:a".into(), "53:b".into()));
    one.send(&[b'x'; 1500]).await.unwrap();
    forward.says("Failed to dial 'udp://127.0.0.1:53' in workspace: too long").await;
    let opened: Vec<_> = std::iter::from_fn(|| forward.driver.events.try_recv().ok()).collect();
    assert_eq!(opened, [Event::Up, Event::Opened, Event::Opened]);

    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(119)).await;
    one.send(b"c").await.unwrap();
    assert_eq!(hear(&one).await, "53:c");
    tokio::time::sleep(Duration::from_secs(119)).await;
    let closed: Vec<_> = std::iter::from_fn(|| forward.driver.events.try_recv().ok()).collect();
    assert_eq!(closed, [Event::Closed], "the silent one's");
}
