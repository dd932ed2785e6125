//! Who owns the tasks that outlive a request.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

/// The tasks of upgraded connections, owned by the listener and told when the server stops.
///
/// The listener puts one into the extensions of every request.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` once the server stops: nothing new begins then.
    set: Mutex<Option<JoinSet<()>>>,
    stopping: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self(Arc::new(Inner {
            set: Mutex::new(Some(JoinSet::new())),
            stopping: watch::Sender::new(false),
        }))
    }
}

impl Tasks {
    /// Runs `task` until it ends by itself or the server's patience with it does. Does nothing
    /// when the server is stopping.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = set.as_mut() else { return };
        while let Some(ended) = set.try_join_next() {
            report(ended);
        }
        set.spawn(task);
    }

    /// When the server stops.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        Stopping(self.0.stopping.subscribe())
    }

    /// Tells all tasks that the server stops; they have `patience` to end, then they are ended.
    pub async fn stop(&self, patience: Duration) {
        self.0.stopping.send_replace(true);
        let set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut set) = set else { return };
        let all = async {
            while let Some(ended) = set.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::debug!(count = set.len(), "connections cut off as the server stops");
            set.shutdown().await;
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    match ended {
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection's task panicked"),
        Err(_) | Ok(()) => {}
    }
}

/// When the server stops.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Whether it stops already.
    #[must_use]
    pub fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it does.
    pub async fn requested(&mut self) {
        // The sender gone means that nothing is left to be stopped gracefully.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}
