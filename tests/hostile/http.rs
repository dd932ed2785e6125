//! As much of HTTP as a scripted server needs: one request on each connection.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

/// A request as it was received, its body read.
pub(crate) struct Request {
    /// `GET /api/v2/…`, without its query.
    pub(crate) line: String,
    key: Option<String>,
}

/// What is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// JSON with this status.
    Json(u16, String),
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// These bytes, and no end.
    Stall(&'static [u8]),
    /// Nothing, for ever.
    Silence,
    /// A WebSocket on which this is said; then it stays open.
    Socket(Vec<Say>),
}

/// What is said on a WebSocket.
#[derive(Clone)]
pub(crate) enum Say {
    Text(String),
    Binary(Vec<u8>),
    /// Bytes below the framing.
    Raw(Vec<u8>),
    Close(u16),
    /// The end, without a goodbye.
    Cut,
}

impl Request {
    /// Whether it asks for a WebSocket.
    pub(crate) fn wants_websocket(&self) -> bool {
        self.key.is_some()
    }
}

impl Reply {
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::Json(status, serde_json::json!({ "message": message }).to_string())
    }
}

pub(crate) async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.strip_suffix(" HTTP/1.1")?;
    let (line, _) = line.split_once('?').unwrap_or((line, ""));
    let header = |name: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let length = header("content-length").map_or(0, |value| value.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let key = header("sec-websocket-key").map(str::to_owned);
    Some(Request { line: line.to_owned(), key })
}

pub(crate) async fn answer(mut stream: TcpStream, request: &Request, reply: Reply) {
    // The client may be gone by now; that is its own test's business.
    let _ = match reply {
        Reply::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n\
                 X-Coder-Build-Version: v2.35.0\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await
        }
        Reply::Bytes(bytes) => stream.write_all(&bytes).await,
        Reply::Stall(bytes) => match stream.write_all(bytes).await {
            Ok(()) => stay(stream).await,
            Err(error) => Err(error),
        },
        Reply::Silence => stay(stream).await,
        Reply::Socket(script) => {
            let Some(mut socket) = websocket(stream, request).await else { return };
            for say in script {
                let sent = match say {
                    Say::Text(text) => socket.send(Message::text(text)).await,
                    Say::Binary(bytes) => socket.send(Message::binary(bytes)).await,
                    Say::Raw(bytes) => socket.get_mut().write_all(&bytes).await.map_err(Into::into),
                    Say::Cut => return,
                    Say::Close(code) => {
                        let code = CloseCode::from(code);
                        socket.close(Some(CloseFrame { code, reason: "".into() })).await
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = socket.next().await {}
            Ok(())
        }
    };
}

/// Reads until the client leaves.
pub(crate) async fn stay(mut stream: impl AsyncRead + Unpin) -> std::io::Result<()> {
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

/// Accepts an upgrade to another protocol.
pub(crate) async fn upgrade(stream: &mut TcpStream, protocol: &str, more: &str) -> bool {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await.is_ok()
}

pub(crate) async fn websocket(
    mut stream: TcpStream,
    request: &Request,
) -> Option<WebSocketStream<TcpStream>> {
    let key = derive_accept_key(request.key.as_deref()?.as_bytes());
    let more = format!("Sec-WebSocket-Accept: {key}\r\n");
    if !upgrade(&mut stream, "websocket", &more).await {
        return None;
    }
    Some(WebSocketStream::from_raw_socket(stream, Role::Server, None).await)
}

/// Carries the bytes of a WebSocket's messages until either side ends.
pub(crate) async fn carry(mut socket: WebSocketStream<TcpStream>, bytes: DuplexStream) {
    let (mut reader, mut writer) = tokio::io::split(bytes);
    let mut buffer = vec![0; 64 << 10];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if writer.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            read = reader.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    let bytes = buffer[..count].to_vec();
                    if socket.send(Message::binary(bytes)).await.is_err() {
                        break;
                    }
                }
            },
        }
    }
    let _ = socket.close(None).await;
}
