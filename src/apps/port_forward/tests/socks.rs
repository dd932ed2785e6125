//! SOCKS.

use tokio::net::UdpSocket;

use super::*;

/// Says all of it, and reads as many bytes as are expected.
async fn socks(stream: &mut TcpStream, said: &[u8], expected: &[u8]) {
    stream.write_all(said).await.unwrap();
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, expected, "{said:?}");
}

const DONE: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";

#[tokio::test]
async fn socks_connects_by_name_from_the_workspace() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    assert!(forward.said().starts_with("Forwarding 'socks5://127.0.0.1:"));
    forward.attach();
    for (request, answer) in [
        (&b"\x05\x01\0\x03\x02db\x15\x38"[..], "db:hello"),
        (b"\x05\x01\0\x01\x7f\0\0\x01\0\x50", "80:hello"),
    ] {
        let mut stream = forward.connect().await;
        socks(&mut stream, b"\x05\x02\x01\0", b"\x05\0").await;
        socks(&mut stream, request, DONE).await;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, answer);
    }
}

#[tokio::test]
async fn socks_says_no_in_its_own_words() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    forward.attach();
    for (request, reply) in [
        // Nobody is there; port 0; BIND; an address of no kind; a name that is none.
        (&b"\x05\x01\0\x03\x01x\0\x50"[..], 5),
        (b"\x05\x01\0\x01\x7f\0\0\x01\0\0", 5),
        (b"\x05\x02\0\x01\x7f\0\0\x01\0\x50", 7),
        (b"\x05\x01\0\x09", 8),
        (b"\x05\x01\0\x03\x03a\x1bb\0\x50", 8),
    ] {
        let mut stream = forward.connect().await;
        socks(&mut stream, b"\x05\x01\0", b"\x05\0").await;
        let expected = [5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
        socks(&mut stream, request, &expected).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "{request:?}");
    }
    let mut stream = forward.connect().await;
    socks(&mut stream, b"\x05\x01\x02", b"\x05\xff").await;
    let error = {
        let mut stream = forward.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        stream.read_u8().await.unwrap_err()
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn socks_carries_datagrams_to_the_workspace_alone() {
    let forward = Running::with(Specs { dynamic: one("127.0.0.1:0"), ..Specs::default() }).await;
    forward.attach();
    let mut stream = forward.connect().await;
    socks(&mut stream, b"\x05\x01\0", b"\x05\0").await;
    stream.write_all(b"\x05\x03\0\x01\0\0\0\0\0\0").await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..8], *b"\x05\0\0\x01\x7f\0\0\x01");
    let port = u16::from_be_bytes([answer[8], answer[9]]);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = b"\0\0\0\x03\x03far\0\x35?";
    socket.send_to(far, ("127.0.0.1", port)).await.unwrap();
    forward.says("Failed to dial 'udp://far:53' in workspace: datagrams go to").await;
    let near = b"\0\0\0\x01\x7f\0\0\x01\0\x35question";
    socket.send_to(near, ("127.0.0.1", port)).await.unwrap();
    let mut buffer = [0; 100];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"\0\0\0\x01\x7f\0\0\x01\0\x3553:question");
    // The association ends with its connection.
    drop(stream);
    let gone = async {
        while UdpSocket::bind(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
}
