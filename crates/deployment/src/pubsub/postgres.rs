//! LISTEN and NOTIFY.
//!
//! One task owns the connection that listens. It puts what it hears into the queues of this
//! process; when the connection is lost it makes another, listens to everything again, and only
//! then tells the subscribers to resync: what happens after they have read is heard.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    PubsubError,
    hub::{Hub, Subscription},
};

/// How long a publisher or a subscriber waits for PostgreSQL.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection on which nothing happens is asked whether it is alive.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// The pauses between tries to connect: from this,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// doubling, to this.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Connections for publishing, beside the one that listens.
const PUBLISHERS: u32 = 2;

/// The side of publishers and subscribers.
pub(super) struct Remote {
    pool: PgPool,
    subscribe: mpsc::UnboundedSender<Subscribe>,
    listener: AbortHandle,
}

struct Subscribe {
    channel: String,
    reply: oneshot::Sender<Result<Subscription, PubsubError>>,
}

/// The task that listens.
struct Listener {
    url: String,
    hub: Arc<Hub>,
    subscribe: mpsc::UnboundedReceiver<Subscribe>,
    left: mpsc::UnboundedReceiver<String>,
    /// The channels that the connection listens to.
    listening: BTreeSet<String>,
}

/// Why a connection was given up.
enum Ended {
    /// It was lost.
    Lost(String),
    /// Nobody is left to hear anything.
    Shutdown,
}

pub(super) async fn connect(url: &str) -> Result<(Arc<Hub>, Remote), PubsubError> {
    let pool = PgPoolOptions::new()
        .max_connections(PUBLISHERS)
        .acquire_timeout(ANSWER_TIMEOUT)
        .connect(url)
        .await
        .map_err(unavailable)?;
    let connection = listen(url, &BTreeSet::new()).await?;
    let (left_sender, left) = mpsc::unbounded_channel();
    let (subscribe_sender, subscribe) = mpsc::unbounded_channel();
    let hub = Arc::new(Hub::new(Some(left_sender)));
    let listener = Listener {
        url: url.to_owned(),
        hub: Arc::clone(&hub),
        subscribe,
        left,
        listening: BTreeSet::new(),
    };
    let remote = Remote {
        pool,
        subscribe: subscribe_sender,
        listener: tokio::spawn(listener.run(connection).boxed()).abort_handle(),
    };
    Ok((hub, remote))
}

impl Remote {
    pub(super) async fn publish(&self, channel: &str, payload: &str) -> Result<(), PubsubError> {
        let query =
            sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload).execute(&self.pool);
        match timeout(ANSWER_TIMEOUT, query).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(sqlx::Error::PoolClosed)) => Err(PubsubError::Closed),
            Ok(Err(error)) => Err(unavailable(error)),
            Err(_) => Err(no_answer()),
        }
    }

    pub(super) async fn subscribe(&self, channel: &str) -> Result<Subscription, PubsubError> {
        let (reply, answer) = oneshot::channel();
        let command = Subscribe { channel: channel.to_owned(), reply };
        self.subscribe.send(command).map_err(|_| PubsubError::Closed)?;
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PubsubError::Closed),
            Err(_) => Err(no_answer()),
        }
    }

    pub(super) async fn close(&self) {
        self.listener.abort();
        // It waits for what is being published, but not for a PostgreSQL that is gone.
        let _ = timeout(ANSWER_TIMEOUT, self.pool.close()).await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Listener {
    async fn run(mut self, mut connection: PgListener) {
        loop {
            match self.serve(&mut connection).await {
                Ended::Shutdown => return,
                Ended::Lost(reason) => {
                    tracing::warn!(reason, "the connection that listens to PostgreSQL is lost");
                }
            }
            drop(connection);
            match self.reconnect().await {
                Some(again) => connection = again,
                None => return,
            }
            self.hub.resync();
        }
    }

    /// Serves until the connection is lost.
    async fn serve(&mut self, connection: &mut PgListener) -> Ended {
        let mut probe = Instant::now() + PROBE_INTERVAL;
        loop {
            tokio::select! {
                // Losing this future in the middle loses nothing: what was read of a message
                // stays in the connection's buffer.
                heard = connection.try_recv() => match heard {
                    Ok(Some(message)) => {
                        probe = Instant::now() + PROBE_INTERVAL;
                        let payload = Bytes::copy_from_slice(message.payload().as_bytes());
                        if self.hub.deliver(message.channel(), &payload).is_err() {
                            return Ended::Shutdown;
                        }
                    }
                    Ok(None) => return Ended::Lost("it was closed".to_owned()),
                    Err(error) => return Ended::Lost(error.to_string()),
                },
                command = self.subscribe.recv() => {
                    let Some(command) = command else {
                        return Ended::Shutdown;
                    };
                    if let Err(reason) = self.subscribe(connection, command).await {
                        return Ended::Lost(reason);
                    }
                }
                left = self.left.recv() => {
                    // The hub holds the other end.
                    let Some(channel) = left else {
                        return Ended::Shutdown;
                    };
                    if let Err(reason) = self.unlisten(connection, channel).await {
                        return Ended::Lost(reason);
                    }
                }
                () = sleep_until(probe) => {
                    let query = sqlx::query("SELECT 1").execute(&mut *connection);
                    match timeout(ANSWER_TIMEOUT, query).await {
                        Ok(Ok(_)) => probe = Instant::now() + PROBE_INTERVAL,
                        Ok(Err(error)) => return Ended::Lost(error.to_string()),
                        Err(_) => return Ended::Lost("it does not answer".to_owned()),
                    }
                }
            }
        }
    }

    /// Subscribes once PostgreSQL has confirmed that it is listened to. An error is that of the
    /// connection.
    async fn subscribe(
        &mut self,
        connection: &mut PgListener,
        command: Subscribe,
    ) -> Result<(), String> {
        let subscription = match self.hub.subscribe(&command.channel) {
            Ok(subscription) => subscription,
            Err(error) => {
                let _ = command.reply.send(Err(error));
                return Ok(());
            }
        };
        if !self.listening.contains(&command.channel) {
            // In the set before it is so: if the connection is lost now, the next one listens.
            self.listening.insert(command.channel.clone());
            if let Err(reason) = answered(connection.listen(&command.channel)).await {
                let _ = command.reply.send(Err(PubsubError::Unavailable(reason.clone())));
                return Err(reason);
            }
        }
        // A subscriber that has given up drops the subscription, and with it all of the above.
        let _ = command.reply.send(Ok(subscription));
        Ok(())
    }

    async fn unlisten(
        &mut self,
        connection: &mut PgListener,
        channel: String,
    ) -> Result<(), String> {
        // Somebody may have subscribed again meanwhile.
        if self.hub.has(&channel) || !self.listening.remove(&channel) {
            return Ok(());
        }
        answered(connection.unlisten(&channel)).await
    }

    /// Connects again, however long that takes. None if nobody is left to hear anything.
    async fn reconnect(&mut self) -> Option<PgListener> {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.subscribe.is_closed() {
                return None;
            }
            self.listening.retain(|channel| self.hub.has(channel));
            match timeout(ANSWER_TIMEOUT, listen(&self.url, &self.listening)).await {
                Ok(Ok(connection)) => return Some(connection),
                Ok(Err(error)) => tracing::debug!(%error, "PostgreSQL is not back yet"),
                Err(_) => tracing::debug!("PostgreSQL does not answer yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// A new connection that listens to these channels.
async fn listen(url: &str, channels: &BTreeSet<String>) -> Result<PgListener, PubsubError> {
    let mut connection = PgListener::connect(url).await.map_err(unavailable)?;
    // A lost connection is to be noticed here, not mended behind our back.
    connection.eager_reconnect(false);
    if !channels.is_empty() {
        connection.listen_all(channels.iter().map(String::as_str)).await.map_err(unavailable)?;
    }
    Ok(connection)
}

async fn answered(call: impl Future<Output = Result<(), sqlx::Error>>) -> Result<(), String> {
    match timeout(ANSWER_TIMEOUT, call).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

fn unavailable(error: sqlx::Error) -> PubsubError {
    PubsubError::Unavailable(error.to_string())
}

fn no_answer() -> PubsubError {
    PubsubError::Unavailable(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))
}
