//! WebSocket as messages and as a byte stream.

use bytes::Bytes;
use coderctl_transport::{Error, Message, WebSocketOptions};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Wire,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::server::{Server, ask, head, says, serve, transport, value};

type Peer = WebSocketStream<TcpStream>;

/// A server that takes every WebSocket and hands it to `talk`.
async fn server<F, W>(talk: F) -> Server
where
    F: Fn(Peer) -> W + Send + Sync + Clone + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    serve(move |_, mut stream| {
        let talk = talk.clone();
        async move {
            let head = head(&mut stream).await;
            assert_eq!(value(&head, "origin"), None);
            assert_eq!(value(&head, "sec-websocket-extensions"), None);
            let key = value(&head, "sec-websocket-key").unwrap();
            let accept =
                tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            talk(WebSocketStream::from_raw_socket(stream, Role::Server, None).await).await;
        }
    })
    .await
}

fn close(code: u16, reason: &str) -> Wire {
    Wire::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() }))
}

async fn open(server: &Server) -> coderctl_transport::WebSocket {
    let request = ask(&server.url("ws", "/x"));
    transport().websocket(request, WebSocketOptions::default()).await.unwrap()
}

#[tokio::test]
async fn messages_pings_and_the_close_code_are_told() {
    let server = server(|mut peer| async move {
        peer.send(Wire::Text("hello".into())).await.unwrap();
        peer.send(Wire::Ping(Bytes::from_static(b"?"))).await.unwrap();
        assert_eq!(peer.next().await.unwrap().unwrap(), Wire::Pong(Bytes::from_static(b"?")));
        assert_eq!(peer.next().await.unwrap().unwrap(), Wire::Binary(Bytes::from_static(b"up")));
        peer.send(Wire::Binary(Bytes::from_static(b"down"))).await.unwrap();
        peer.send(close(1011, "out of order")).await.unwrap();
        let _ = peer.next().await;
    })
    .await;
    let mut socket = open(&server).await;
    assert_eq!(socket.next().await.unwrap(), Message::Text("hello".to_owned()));
    assert_eq!(socket.next().await.unwrap(), Message::Alive);
    socket.send(Bytes::from_static(b"up")).await.unwrap();
    assert_eq!(socket.next().await.unwrap(), Message::Binary(Bytes::from_static(b"down")));
    let error = socket.next().await.unwrap_err();
    assert!(
        matches!(&error, Error::Closed { code: 1011, reason, .. } if reason == "out of order"),
        "{error}"
    );
}

#[tokio::test]
async fn our_ping_is_answered_and_a_lost_connection_is_1006() {
    let server = server(|mut peer| async move {
        assert!(matches!(peer.next().await, Some(Ok(Wire::Ping(_)))));
        let _ = peer.flush().await;
    })
    .await;
    let mut socket = open(&server).await;
    socket.ping().await.unwrap();
    assert_eq!(socket.next().await.unwrap(), Message::Alive);
    let error = socket.next().await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: 1006, .. }), "{error}");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused() {
    let server = server(|mut peer| async move {
        let _ = peer.send(Wire::Binary(vec![0; 2000].into())).await;
        let _ = peer.next().await;
    })
    .await;
    let options = WebSocketOptions { max_message: 1999, ..WebSocketOptions::default() };
    let mut socket = transport().websocket(ask(&server.url("http", "/")), options).await.unwrap();
    let error = socket.next().await.unwrap_err();
    assert!(matches!(error, Error::WebSocket { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_to_another_question_is_refused() {
    let server = says(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: c3VyZWx5IG5vdA==\r\n\r\n",
    )
    .await;
    let request = ask(&server.url("ws", "/"));
    let error = transport().websocket(request, WebSocketOptions::default()).await.err().unwrap();
    assert!(matches!(error, Error::WebSocket { .. }), "{error}");
}

#[tokio::test]
async fn bytes_survive_any_message_boundaries_both_ways() {
    let sent: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    // Echoes in pieces of ever other sizes, empty ones and pings among them, then ends cleanly.
    let server = server(move |mut peer| {
        let total = expected.len();
        async move {
            let mut heard = Vec::new();
            while heard.len() < total {
                match peer.next().await.unwrap().unwrap() {
                    Wire::Binary(bytes) => heard.extend_from_slice(&bytes),
                    other => panic!("{other:?}"),
                }
            }
            let (mut at, mut size) = (0, 1);
            while at < total {
                let end = (at + size).min(total);
                peer.send(Wire::Binary(heard[at..end].to_vec().into())).await.unwrap();
                at = end;
                size = (size * 7 + 3) % 5000;
                if size % 5 == 0 {
                    peer.send(Wire::Binary(Bytes::new())).await.unwrap();
                    peer.send(Wire::Ping(Bytes::new())).await.unwrap();
                }
            }
            peer.send(close(1000, "")).await.unwrap();
            while let Some(Ok(_)) = peer.next().await {}
        }
    })
    .await;
    let (mut read, mut write) = tokio::io::split(open(&server).await.into_stream());
    let upload = async {
        let mut rest = sent.as_slice();
        let mut size = 1;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(size.min(rest.len()));
            write.write_all(now).await.unwrap();
            rest = later;
            size = (size * 11 + 1) % 70_000;
        }
        write.flush().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, download) = tokio::join!(upload, read.read_to_end(&mut back));
    download.unwrap();
    assert_eq!(back, sent);
}

#[tokio::test]
async fn what_is_written_before_a_flush_is_one_message_and_shutdown_says_goodbye() {
    let server = server(|mut peer| async move {
        let first = peer.next().await.unwrap().unwrap();
        assert_eq!(first, Wire::Binary(Bytes::from_static(b"abcdef")));
        let last = peer.next().await.unwrap().unwrap();
        assert!(matches!(&last, Wire::Close(Some(frame)) if frame.code == CloseCode::Normal));
        let _ = peer.flush().await;
    })
    .await;
    let mut stream = open(&server).await.into_stream();
    stream.write_all(b"abc").await.unwrap();
    stream.write_all(b"def").await.unwrap();
    stream.flush().await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn text_and_bad_ends_are_errors_of_the_stream() {
    for (last, words) in
        [(Wire::Text("no".into()), "text where bytes belong"), (close(1011, "database"), "1011")]
    {
        let server = server(move |mut peer| {
            let last = last.clone();
            async move {
                let _ = peer.send(last).await;
                let _ = peer.next().await;
            }
        })
        .await;
        let mut stream = open(&server).await.into_stream();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
