//! Who owns the tasks that outlive a request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::faults::Cuttable;

/// The tasks of upgraded connections, owned by the listener and told when the server stops.
///
/// The listener puts one into the extensions of every request.
#[derive(Clone, Debug)]
pub struct Tasks {
    inner: Arc<Inner>,
    /// Ends the next task early; only where faults are injected.
    cut: Option<Arc<Mutex<Option<Cuttable>>>>,
}

#[derive(Debug)]
struct Inner {
    /// `None` once the server stops: nothing new begins then.
    set: Mutex<Option<JoinSet<()>>>,
    stopping: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        let inner =
            Inner { set: Mutex::new(Some(JoinSet::new())), stopping: watch::Sender::new(false) };
        Self { inner: Arc::new(inner), cut: None }
    }
}

impl Tasks {
    /// Runs `task` until it ends by itself or the server's patience with it does. Does nothing
    /// when the server is stopping.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // In a box, or each kind of connection would have its own copy of all below.
        self.spawn_boxed(Box::pin(task));
    }

    fn spawn_boxed(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut set = self.inner.set.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = set.as_mut() else { return };
        while let Some(ended) = set.try_join_next() {
            report(ended);
        }
        let cut = self.cut.as_ref();
        match cut.and_then(|cut| cut.lock().unwrap_or_else(PoisonError::into_inner).take()) {
            None => set.spawn(task),
            Some(mut cut) => set.spawn(async move {
                tokio::select! {
                    () = task => {}
                    () = cut.cut() => tracing::debug!("a connection was cut, as asked for"),
                }
            }),
        };
    }

    /// The same, whose next task ends when `cut` says so.
    #[must_use]
    pub(crate) fn cut_by(&self, cut: Cuttable) -> Self {
        Self { inner: Arc::clone(&self.inner), cut: Some(Arc::new(Mutex::new(Some(cut)))) }
    }

    /// When the server stops.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        Stopping(self.inner.stopping.subscribe())
    }

    /// Tells all tasks that the server stops; they have `patience` to end, then they are ended.
    pub async fn stop(&self, patience: Duration) {
        self.inner.stopping.send_replace(true);
        let set = self.inner.set.lock().unwrap_or_else(PoisonError::into_inner).take();
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

/// Ends all tasks when it is dropped: they hold `Tasks` themselves, so that they would outlive a
/// server that is dropped instead of stopped.
#[derive(Debug)]
pub(super) struct EndWith(pub(super) Tasks);

impl Drop for EndWith {
    fn drop(&mut self) {
        drop(self.0.inner.set.lock().unwrap_or_else(PoisonError::into_inner).take());
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
