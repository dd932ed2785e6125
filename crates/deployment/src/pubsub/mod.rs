//! Publish and subscribe: in process, or PostgreSQL's LISTEN and NOTIFY.
//!
//! What both keep:
//!
//! * A subscription hears what is published once [`Pubsub::subscribe`] has returned: subscribe,
//!   then read the state, and nothing is missed.
//! * Messages of one channel come in the order in which they were published, to each subscriber
//!   all of them, or else [`Event::Resync`]: messages may have been lost (the connection to
//!   PostgreSQL was, or the subscriber did not keep up): read the state again.
//! * Nobody waits for a slow subscriber: its queue holds [`QUEUE`] messages.
//! * A payload is text without NUL of at most [`MAX_PAYLOAD`] bytes, which is what NOTIFY can carry;
//!   more is an error, in process, too. Publish an id, and let those who hear it read the rest.
//!
//! A message says that something has changed, so it is published once the change is committed.

pub mod channels;
pub mod claims;
mod hub;
mod postgres;

use std::sync::{Arc, RwLock};

use bytes::Bytes;

use self::hub::Hub;
pub use self::hub::{QUEUE, Subscription};
use crate::config::Storage;

/// The most bytes of a payload: PostgreSQL's limit is 8000, exclusive (its documentation of
/// NOTIFY).
pub const MAX_PAYLOAD: usize = 7_999;

/// The most bytes of a channel's name: PostgreSQL's identifiers hold 63 (`NAMEDATALEN` - 1).
pub const MAX_CHANNEL: usize = 63;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message: its payload.
    Message(Bytes),
    /// Messages may have been lost: read the state again.
    Resync,
}

/// Why nothing was published, or subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum PubsubError {
    /// The deployment is being shut down.
    #[error("publish and subscribe is shut down")]
    Closed,
    /// The payload is too long.
    #[error("a message of {bytes} bytes is longer than {MAX_PAYLOAD}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// What PostgreSQL cannot carry: an empty or too long name, or a NUL.
    #[error("{what} cannot be carried: {why}")]
    Unfit {
        /// The name, or the payload.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// PostgreSQL does not answer; try again.
    #[error("PostgreSQL does not answer: {0}")]
    Unavailable(String),
}

/// What becomes of a message that is published; anything but `Deliver` is a fault to be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is delivered.
    Deliver,
    /// It is lost; the publisher does not notice.
    Drop,
    /// It is delivered twice.
    Duplicate,
}

/// Says what becomes of each message: of its channel and payload.
pub type Fault = Arc<dyn Fn(&str, &str) -> Fate + Send + Sync>;

/// Channels. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Pubsub {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Arc<Hub>,
    postgres: Option<postgres::Remote>,
    fault: RwLock<Option<Fault>>,
}

impl std::fmt::Debug for Pubsub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pubsub")
            .field("postgres", &self.shared.postgres.is_some())
            .finish_non_exhaustive()
    }
}

impl Pubsub {
    /// The one that goes with a storage: in process, or through the PostgreSQL that several
    /// processes share.
    ///
    /// # Errors
    ///
    /// PostgreSQL does not answer.
    pub async fn open(storage: &Storage) -> Result<Self, PubsubError> {
        match storage {
            Storage::Memory | Storage::Directory(_) => Ok(Self::in_process()),
            Storage::Postgres(url) => Self::postgres(url.expose()).await,
        }
    }

    /// Within this process.
    #[must_use]
    pub fn in_process() -> Self {
        Self::new(Arc::new(Hub::new(None)), None)
    }

    async fn postgres(url: &str) -> Result<Self, PubsubError> {
        let (hub, remote) = postgres::connect(url).await?;
        Ok(Self::new(hub, Some(remote)))
    }

    fn new(hub: Arc<Hub>, postgres: Option<postgres::Remote>) -> Self {
        Self { shared: Arc::new(Shared { hub, postgres, fault: RwLock::new(None) }) }
    }

    /// Publishes a message. When this returns well, all who are subscribed will hear it (within
    /// this process: it is in their queues).
    ///
    /// # Errors
    ///
    /// See [`PubsubError`]. What the message is about has been committed already: log the error
    /// and go on.
    pub async fn publish(&self, channel: &str, payload: &str) -> Result<(), PubsubError> {
        check_channel(channel)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(PubsubError::TooLong { bytes: payload.len() });
        }
        if payload.contains('\0') {
            return Err(PubsubError::Unfit { what: "a message", why: "it holds a NUL" });
        }
        let times = match self.fate(channel, payload) {
            Fate::Drop => 0,
            Fate::Deliver => 1,
            Fate::Duplicate => 2,
        };
        for _ in 0..times {
            match &self.shared.postgres {
                None => {
                    let payload = Bytes::copy_from_slice(payload.as_bytes());
                    self.shared.hub.deliver(channel, &payload)?;
                }
                Some(postgres) => postgres.publish(channel, payload).await?,
            }
        }
        Ok(())
    }

    /// Subscribes. From the moment that this returns, everything published is heard.
    ///
    /// # Errors
    ///
    /// See [`PubsubError`].
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, PubsubError> {
        check_channel(channel)?;
        match &self.shared.postgres {
            None => self.shared.hub.subscribe(channel),
            Some(postgres) => postgres.subscribe(channel).await,
        }
    }

    /// Ends all subscriptions, and refuses what comes.
    pub async fn close(&self) {
        self.shared.hub.close();
        if let Some(postgres) = &self.shared.postgres {
            postgres.close().await;
        }
    }

    /// Sets what becomes of messages from now on; none for nothing special. For tests.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut current =
            self.shared.fault.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = fault;
    }

    fn fate(&self, channel: &str, payload: &str) -> Fate {
        let fault =
            self.shared.fault.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        fault.map_or(Fate::Deliver, |fault| fault(channel, payload))
    }
}

fn check_channel(channel: &str) -> Result<(), PubsubError> {
    let why = if channel.is_empty() {
        "it is empty"
    } else if channel.len() > MAX_CHANNEL {
        "it is longer than 63 bytes"
    } else if channel.contains('\0') {
        "it holds a NUL"
    } else {
        return Ok(());
    };
    Err(PubsubError::Unfit { what: "the name of a channel", why })
}
