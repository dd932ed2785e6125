//! What may stand before a deployment: it answers some requests itself, and passes on the rest.

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use super::namespace::Namespace;

/// Longest head of a request.
const HEAD: usize = 16 << 10;

/// Whether a request is turned away, by its head in small letters.
pub(crate) type Closed = fn(&str) -> bool;

/// One that ends with the test.
pub(crate) struct Front {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What it does.
struct Rules {
    target: SocketAddr,
    /// How agents are reached, in the deployment's place.
    info: String,
    closed: Closed,
}

impl Front {
    /// Listens at an address of this namespace, before the deployment at `target`.
    pub(crate) fn start(
        namespace: &Namespace,
        at: SocketAddr,
        target: SocketAddr,
        info: &Value,
        closed: Closed,
    ) -> Self {
        let rules = Arc::new(Rules { target, info: info.to_string(), closed });
        let (end, ended) = oneshot::channel();
        let listener = namespace.within(|| std::net::TcpListener::bind(at).unwrap());
        listener.set_nonblocking(true).unwrap();
        // What it opens is in the namespace as well.
        let thread = namespace.within(|| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    tokio::select! {
                        _ = ended => {}
                        never = serve(TcpListener::from_std(listener).unwrap(), rules) => match never {},
                    }
                });
            })
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, rules: Arc<Rules>) -> std::convert::Infallible {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let rules = Arc::clone(&rules);
        // Either side may end it as it likes.
        connections.spawn(async move { drop(rules.handle(stream).await) });
    }
}

impl Rules {
    async fn handle(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
            head.push(client.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).to_lowercase();
        if text.starts_with("get /api/v2/workspaceagents/connection ") {
            return answer(&mut client, "200 OK", &self.info).await;
        }
        if (self.closed)(&text) {
            return answer(&mut client, "403 Forbidden", "").await;
        }
        let mut server = TcpStream::connect(self.target).await?;
        let (request, rest) = head.split_at(head.len() - 2);
        server.write_all(request).await?;
        if !text.contains("\r\nupgrade:") {
            // So that the next request is looked at, too.
            server.write_all(b"Connection: close\r\n").await?;
        }
        server.write_all(rest).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }
}

async fn answer(client: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}
