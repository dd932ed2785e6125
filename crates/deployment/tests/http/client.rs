//! A server for one test, and ways to talk to it.

use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use coderctl_deployment::{
    Config,
    config::{Limits, Storage},
    http::serve::Listener,
};
use coderctl_transport::{Options, Transport, WebSocket, WebSocketOptions};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something, not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("within the patience of a test")
}

/// A configuration on a free port of loopback.
pub fn config() -> Config {
    Config::new(Storage::Memory, "/nowhere")
}

/// A server; `stop` ends it gracefully, dropping it at once.
pub struct Server {
    pub url: String,
    pub authority: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Serves these routes.
pub async fn serve(config: &Config, router: Router) -> Server {
    let listener = Listener::bind(config).await.unwrap();
    let authority = listener.address().to_string();
    let url = listener.access_url().as_str().trim_end_matches('/').to_owned();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(listener.serve(router, async {
        let _ = stopped.await;
    }));
    Server { url, authority, stop: Some(stop), task }
}

/// Serves these routes with the usual configuration, but these limits.
pub async fn serve_with(limits: Limits, router: Router) -> Server {
    serve(&Config { limits, ..config() }, router).await
}

impl Server {
    /// Asks it to stop.
    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until it has.
    pub async fn ended(&mut self) {
        soon(&mut self.task).await.unwrap();
    }

    /// A connection without a protocol.
    pub async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.authority).await.unwrap()
    }

    /// A WebSocket.
    pub async fn websocket(&self, path: &str, token: &str) -> WebSocket {
        self.try_websocket(path, token).await.unwrap()
    }

    pub async fn try_websocket(
        &self,
        path: &str,
        token: &str,
    ) -> Result<WebSocket, coderctl_transport::Error> {
        let request = Request::get(format!("{}{path}", self.url))
            .header("coder-session-token", token)
            .body(())
            .unwrap();
        soon(transport().websocket(request, WebSocketOptions::default())).await
    }

    /// One call without a token.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "", Bytes::new()).await
    }

    /// One call.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Bytes) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("coder-session-token", token)
            .body(body)
            .unwrap();
        let (transport, limits) = (transport(), coderctl_transport::Limits::default());
        let response = soon(transport.request(request, limits)).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn transport() -> Transport {
    Transport::new(Options::default()).unwrap()
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends text as it is and reads to the end of the connection.
pub async fn exchange(mut stream: TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    rest(stream).await
}

/// What comes until the connection ends, well or not.
pub async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
