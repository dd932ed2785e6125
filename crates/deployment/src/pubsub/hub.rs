//! The subscribers of this process, and their queues.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::{Event, PubsubError};

/// How many messages wait for a subscriber before it is told to resync (as upstream's
/// `BufferSize`, `coderd/database/pubsub/pubsub.go`).
pub const QUEUE: usize = 2_048;

/// The subscribers of this process.
pub(super) struct Hub {
    channels: Mutex<Channels>,
    /// Is told of channels that have lost a subscriber.
    left: Option<mpsc::UnboundedSender<String>>,
}

#[derive(Default)]
struct Channels {
    subscribers: HashMap<String, Vec<Arc<Queue>>>,
    closed: bool,
}

/// What waits for one subscriber.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    closed: bool,
}

/// A subscription; dropping it ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    channel: String,
    queue: Arc<Queue>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn new(left: Option<mpsc::UnboundedSender<String>>) -> Self {
        Self { channels: Mutex::default(), left }
    }

    pub(super) fn subscribe(self: &Arc<Self>, channel: &str) -> Result<Subscription, PubsubError> {
        let mut channels = lock(&self.channels);
        if channels.closed {
            return Err(PubsubError::Closed);
        }
        let queue = Arc::new(Queue::default());
        channels.subscribers.entry(channel.to_owned()).or_default().push(Arc::clone(&queue));
        Ok(Subscription { hub: Arc::clone(self), channel: channel.to_owned(), queue })
    }

    /// Puts a message into the queues of a channel. The lock is held until it is in all of them,
    /// so that all hear messages in one order.
    pub(super) fn deliver(&self, channel: &str, payload: &Bytes) -> Result<(), PubsubError> {
        let channels = lock(&self.channels);
        if channels.closed {
            return Err(PubsubError::Closed);
        }
        for queue in channels.subscribers.get(channel).into_iter().flatten() {
            queue.push(Event::Message(payload.clone()));
        }
        Ok(())
    }

    /// Tells everybody that messages may have been lost.
    pub(super) fn resync(&self) {
        let channels = lock(&self.channels);
        for queue in channels.subscribers.values().flatten() {
            queue.push(Event::Resync);
        }
    }

    /// Whether anybody is subscribed.
    pub(super) fn has(&self, channel: &str) -> bool {
        lock(&self.channels).subscribers.contains_key(channel)
    }

    pub(super) fn close(&self) {
        let mut channels = lock(&self.channels);
        channels.closed = true;
        for queue in channels.subscribers.values().flatten() {
            lock(&queue.state).closed = true;
            queue.ready.notify_one();
        }
    }

    fn leave(&self, channel: &str, queue: &Arc<Queue>) {
        let mut channels = lock(&self.channels);
        if let Some(queues) = channels.subscribers.get_mut(channel) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                channels.subscribers.remove(channel);
                drop(channels);
                if let Some(left) = &self.left {
                    // Nobody listens any more when all is shut down.
                    let _ = left.send(channel.to_owned());
                }
            }
        }
    }
}

impl Queue {
    fn push(&self, event: Event) {
        let mut state = lock(&self.state);
        if event == Event::Resync || state.events.len() >= QUEUE {
            // What waits is of the past: after reading the state again it says nothing new.
            state.events.clear();
            state.events.push_back(Event::Resync);
        } else {
            state.events.push_back(event);
        }
        drop(state);
        self.ready.notify_one();
    }
}

impl Subscription {
    /// The next event; waits for it. None once all is shut down. Nothing is lost if the wait is
    /// given up.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            {
                let mut state = lock(&self.queue.state);
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            // A push between here and the wait leaves a permit behind.
            self.queue.ready.notified().await;
        }
    }

    /// The channel's name.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.channel, &self.queue);
    }
}

/// A panic while the lock was held has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use futures_util::FutureExt as _;

    use super::*;

    fn message(text: &'static str) -> Event {
        Event::Message(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let hub = Arc::new(Hub::new(None));
        let mut subscription = hub.subscribe("news").unwrap();
        for _ in 0..3 {
            assert_eq!(subscription.recv().now_or_never(), None);
            // The event comes while a wait has been woken, but is not asked again.
            let mut wait = Box::pin(subscription.recv());
            assert!(wait.as_mut().now_or_never().is_none());
            hub.deliver("news", &Bytes::from_static(b"1")).unwrap();
            drop(wait);
            assert_eq!(subscription.recv().now_or_never(), Some(Some(message("1"))));
        }
    }

    #[tokio::test]
    async fn a_resync_takes_the_place_of_what_waits() {
        let hub = Arc::new(Hub::new(None));
        let mut subscription = hub.subscribe("news").unwrap();
        hub.deliver("news", &Bytes::from_static(b"old")).unwrap();
        hub.resync();
        hub.resync();
        hub.deliver("news", &Bytes::from_static(b"new")).unwrap();
        let mut heard = vec![];
        while let Some(event) = subscription.recv().now_or_never() {
            heard.push(event);
        }
        assert_eq!(heard, [Some(Event::Resync), Some(message("new"))]);
    }

    #[tokio::test]
    async fn what_waits_is_heard_before_the_end() {
        let hub = Arc::new(Hub::new(None));
        let mut subscription = hub.subscribe("news").unwrap();
        hub.deliver("news", &Bytes::from_static(b"last")).unwrap();
        hub.close();
        assert_eq!(subscription.recv().await, Some(message("last")));
        assert_eq!(subscription.recv().await, None);
        assert_eq!(subscription.recv().await, None);
    }

    #[tokio::test]
    async fn the_last_one_to_leave_says_so() {
        let (left_sender, mut left) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(Some(left_sender)));
        let first = hub.subscribe("news").unwrap();
        let second = hub.subscribe("news").unwrap();
        drop(first);
        assert!(left.try_recv().is_err());
        drop(second);
        assert_eq!(left.try_recv().unwrap(), "news");
        assert!(!hub.has("news"));
    }
}
