//! A WebSocket on which the server speaks and the client listens.

use std::{io, ops::ControlFlow, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::http::tasks::{Stopping, Tasks};

/// How often the client is asked whether it is there (`coderd/httpapi/websocket.go`).
const PING: Duration = Duration::from_secs(15);

/// How long it may take to answer, and how long a message may take to be sent.
const PONG: Duration = Duration::from_secs(15);

/// How long the client may take to answer a farewell; Go's library has the same.
const FAREWELL: Duration = Duration::from_secs(5);

/// Messages that wait to be sent before their producer has to wait.
const QUEUE: usize = 64;

/// The client has nothing to say here, so that nothing longer than a close frame is read: RFC
/// 6455 allows 125 bytes in control frames; a data message is refused, whatever its length.
const MAX_INCOMING: usize = 4096;

/// How a socket ends: a close code (RFC 6455, 7.4) and a reason of at most 123 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason; cut off at 123 bytes.
    pub reason: String,
}

impl Close {
    /// With this code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// 1000 without a reason.
    #[must_use]
    pub fn normal() -> Self {
        Self::new(1000, "")
    }

    fn frame(&self) -> CloseFrame {
        let mut end = self.reason.len().min(123);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        CloseFrame { code: self.code.into(), reason: self.reason[..end].into() }
    }
}

/// The client went away, or was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Gone;

/// Where the messages go. A client that does not read them holds up its own producer, nobody else.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<String>);

impl Events {
    /// Sends `text` as one message.
    ///
    /// # Errors
    /// When there is no client any more.
    pub async fn send(&self, text: String) -> Result<(), Gone> {
        self.0.send(text).await.map_err(|_| Gone)
    }
}

/// An upgrade that is under way: once the response is out, a socket for messages.
#[must_use = "nothing runs until `run` is called"]
pub struct EventsUpgrade {
    upgrade: OnUpgrade,
    tasks: Tasks,
    /// The code with which a client is sent away that sends a data message.
    talked: u16,
}

impl EventsUpgrade {
    /// A client that talks breaks a policy (1008), as on most of upstream's sockets.
    pub(super) fn new(upgrade: OnUpgrade, tasks: Tasks) -> Self {
        Self { upgrade, tasks, talked: 1008 }
    }

    /// A client that talks is told this code instead.
    pub fn talked(mut self, code: u16) -> Self {
        self.talked = code;
        self
    }

    /// Runs `produce` in a task that the listener owns, until it says how the socket closes or the
    /// client goes away; it is dropped then. What it has sent is sent first. It should end soon
    /// after `Stopping` says so.
    pub fn run<F, W>(self, produce: F)
    where
        F: FnOnce(Events, Stopping) -> W + Send + 'static,
        W: Future<Output = Close> + Send + 'static,
    {
        let stopping = self.tasks.stopping();
        self.tasks.spawn(
            async move {
                let upgraded = match self.upgrade.await {
                    Ok(upgraded) => upgraded,
                    Err(error) => return tracing::debug!(%error, "an upgrade was abandoned"),
                };
                let mut config = WebSocketConfig::default();
                config.max_message_size = Some(MAX_INCOMING);
                config.max_frame_size = Some(MAX_INCOMING);
                // Watches are many and idle; the library's 128 KiB each would be most of them.
                config.read_buffer_size = MAX_INCOMING;
                config.write_buffer_size = 0;
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                let (sender, queue) = mpsc::channel(QUEUE);
                let mut pump = Pump { socket, queue, asked: false, talked: self.talked };
                let why = pump.run(produce(Events(sender), stopping)).await;
                if let Err(error) = why {
                    tracing::debug!(%error, "a watching client is gone");
                }
            }
            .boxed(),
        );
    }
}

struct Pump<S> {
    socket: WebSocketStream<S>,
    queue: mpsc::Receiver<String>,
    /// A ping has no answer yet.
    asked: bool,
    talked: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    async fn run(
        &mut self,
        produce: impl Future<Output = Close>,
    ) -> Result<(), tungstenite::Error> {
        let mut produce = std::pin::pin!(produce);
        let mut tick = tokio::time::interval_at(Instant::now() + PING, PING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What was said before the farewell goes out before it.
                biased;
                Some(text) = self.queue.recv() => self.send(Message::text(text)).await?,
                close = &mut produce => {
                    while let Ok(text) = self.queue.try_recv() {
                        self.send(Message::text(text)).await?;
                    }
                    return self.close(&close).await;
                }
                message = self.socket.next() => {
                    if self.heard(message).await?.is_break() {
                        return Ok(());
                    }
                }
                _ = tick.tick() => {
                    if self.asked {
                        return self.close(&Close::new(1001, "liveness probe failed")).await;
                    }
                    self.asked = true;
                    self.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    async fn heard(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<ControlFlow<()>, tungstenite::Error> {
        match message {
            Some(Ok(Message::Pong(_))) => self.asked = false,
            // The library has its answers ready; they leave with a flush.
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {
                within(PONG, self.socket.flush()).await?
            }
            Some(Ok(Message::Close(_))) => {
                within(PONG, self.socket.flush()).await?;
                return Ok(ControlFlow::Break(()));
            }
            Some(Ok(Message::Text(_) | Message::Binary(_)))
            | Some(Err(tungstenite::Error::Capacity(_))) => {
                self.close(&Close::new(self.talked, "unexpected data message")).await?;
                return Ok(ControlFlow::Break(()));
            }
            Some(Err(error)) => return Err(error),
            None => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        within(PONG, self.socket.send(message)).await
    }

    /// Says goodbye and hears the client's, so that a reset does not swallow what was said last.
    async fn close(&mut self, close: &Close) -> Result<(), tungstenite::Error> {
        within(PONG, self.socket.close(Some(close.frame()))).await?;
        within(FAREWELL, async {
            while let Some(message) = self.socket.next().await {
                message?;
            }
            Ok(())
        })
        .await
    }
}

/// Neither a client that does not read nor one that does not hang up holds on to a task.
async fn within(
    limit: Duration,
    step: impl Future<Output = Result<(), tungstenite::Error>>,
) -> Result<(), tungstenite::Error> {
    match tokio::time::timeout(limit, step).await {
        Ok(Err(tungstenite::Error::ConnectionClosed)) => Ok(()),
        Ok(done) => done,
        Err(_) => Err(tungstenite::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    async fn pair() -> (Pump<DuplexStream>, WebSocketStream<DuplexStream>, mpsc::Sender<String>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let socket = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let (sender, queue) = mpsc::channel(QUEUE);
        (Pump { socket, queue, asked: false, talked: 1008 }, client, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_pings_stays() {
        let (mut pump, mut client, _sender) = pair().await;
        let listen = async {
            for round in 1..=4 {
                let began = Instant::now();
                let ping = client.next().await.unwrap().unwrap();
                assert_eq!(ping, Message::Ping(Bytes::new()), "{round}");
                assert_eq!(began.elapsed(), PING, "{round}");
                client.flush().await.unwrap();
            }
        };
        tokio::select! {
            ended = pump.run(std::future::pending()) => panic!("{ended:?}"),
            () = listen => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_is_sent_away() {
        let (mut pump, mut client, _sender) = pair().await;
        let began = Instant::now();
        // Frames as they are: the library would answer the ping.
        let listen = async {
            let client = client.get_mut();
            let mut ping = [0; 2];
            client.read_exact(&mut ping).await.unwrap();
            assert_eq!((ping, began.elapsed()), ([0x89, 0], PING));
            let reason = b"liveness probe failed";
            let mut close = [0; 25];
            client.read_exact(&mut close).await.unwrap();
            assert_eq!((&close[..4], &close[4..]), (&[0x88, 23, 3, 233][..], &reason[..]));
            assert_eq!(began.elapsed(), PING + PONG);
        };
        let (ended, ()) = tokio::join!(pump.run(std::future::pending()), listen);
        // Nor does it hang up.
        ended.unwrap_err();
        assert_eq!(began.elapsed(), PING + PONG + FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_holds_nobody_up() {
        let (mut pump, _client, sender) = pair().await;
        let produce = async {
            while sender.send("x".repeat(1 << 12)).await.is_ok() {}
            Close::normal()
        };
        let began = Instant::now();
        let error = pump.run(produce).await.unwrap_err();
        assert!(
            matches!(&error, tungstenite::Error::Io(error)
            if error.kind() == io::ErrorKind::TimedOut),
            "{error}"
        );
        assert_eq!(began.elapsed(), PONG);
    }
}
