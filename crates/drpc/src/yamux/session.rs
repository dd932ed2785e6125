//! A session, as its owner sees it.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

use super::{
    CloseReason, Config, OpenError, Stream,
    core::{Core, Role},
    driver::Driver,
    shared::{Ending, Shared},
};

/// A yamux session over one byte stream.
///
/// Its driver is one task, which owns the byte stream; it is aborted when the session is dropped,
/// and every stream fails then. [`close`](Self::close) sends what is queued first.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl Session {
    /// A session whose own streams have odd numbers: the side that dialed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn client<T>(io: T, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(Role::Client, io, config)
    }

    /// A session whose own streams have even numbers: the side that was dialed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn server<T>(io: T, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(Role::Server, io, config)
    }

    fn start<T>(role: Role, io: T, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let stuck_after = config.write_timeout;
        let core = Core::new(role, config, Instant::now().into_std());
        let shared = Arc::new(Shared::new(core));
        let driver = tokio::spawn(Driver::new(io, shared.clone(), stuck_after));
        Self { shared, driver }
    }

    /// Opens a stream. Data may be written to it at once; while 256 streams wait for their
    /// acknowledgement, this waits too.
    ///
    /// # Errors
    /// When the session has ended, or the other side takes no new streams.
    pub async fn open(&self) -> Result<Stream, OpenError> {
        loop {
            let changed = self.shared.opening.notified();
            let now = Instant::now().into_std();
            if let Some(id) = self.shared.with(|inner| inner.core.open(now))? {
                return Ok(Stream::new(id, self.shared.clone()));
            }
            changed.await;
        }
    }

    /// Waits for a stream of the other side and acknowledges it; `None` when the session has
    /// ended. Cancel safe.
    pub async fn accept(&self) -> Option<Stream> {
        loop {
            let changed = self.shared.incoming.notified();
            let (id, closed) =
                self.shared.with(|inner| (inner.core.accept(), inner.core.closed().is_some()));
            if let Some(id) = id {
                return Some(Stream::new(id, self.shared.clone()));
            }
            if closed {
                return None;
            }
            changed.await;
        }
    }

    /// Sends a ping and waits for its answer: the round trip through both ends' sessions.
    ///
    /// # Errors
    /// When the session ends first. How long to wait is the caller's business.
    pub async fn ping(&self) -> Result<Duration, CloseReason> {
        self.pinger().ping().await
    }

    /// Sends pings for somebody who does not have the session.
    pub fn pinger(&self) -> Pinger {
        Pinger(Arc::clone(&self.shared))
    }

    /// Asks the other side to open no new streams; those that are open go on.
    pub fn go_away(&self) {
        self.shared.with(|inner| inner.core.go_away());
    }

    /// Waits until the session has ended and says why.
    pub async fn closed(&self) -> CloseReason {
        closed(&self.shared).await
    }

    /// Ends the session: no more reading, what is queued is sent, the byte stream is shut down.
    /// Takes no longer than the write timeout; says why the session ended, which may be
    /// another reason than this call.
    pub async fn close(&self) -> CloseReason {
        self.shared.with(|inner| inner.core.close(CloseReason::Local));
        wait(&self.shared, |ending| match ending {
            Ending::Open | Ending::Closed(_) => None,
            Ending::Done(reason) => Some(reason.clone()),
        })
        .await
    }
}

/// Sends pings over a session. It does not keep the session alive.
#[derive(Debug, Clone)]
pub struct Pinger(Arc<Shared>);

impl Pinger {
    /// As [`Session::ping`].
    ///
    /// # Errors
    /// When the session ends first.
    pub async fn ping(&self) -> Result<Duration, CloseReason> {
        let shared = &self.0;
        let (answer, answered) = oneshot::channel();
        let now = Instant::now().into_std();
        let value = shared.with(|inner| {
            let value = inner.core.ping(now)?;
            inner.pings.insert(value, answer);
            Ok::<_, CloseReason>(value)
        })?;
        let _forget = ForgetPing { shared, value };
        match answered.await {
            Ok(after) => Ok(after),
            Err(_) => Err(closed(shared).await),
        }
    }
}

async fn closed(shared: &Shared) -> CloseReason {
    wait(shared, |ending| match ending {
        Ending::Open => None,
        Ending::Closed(reason) | Ending::Done(reason) => Some(reason.clone()),
    })
    .await
}

async fn wait(shared: &Shared, until: impl Fn(&Ending) -> Option<CloseReason>) -> CloseReason {
    let mut ending = shared.ending.subscribe();
    loop {
        if let Some(reason) = until(&ending.borrow_and_update()) {
            return reason;
        }
        if ending.changed().await.is_err() {
            return CloseReason::Local;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.with(|inner| inner.core.close(CloseReason::Local));
    }
}

/// Removes a ping that nobody waits for any more.
struct ForgetPing<'a> {
    shared: &'a Shared,
    value: u32,
}

impl Drop for ForgetPing<'_> {
    fn drop(&mut self) {
        self.shared.with(|inner| {
            inner.pings.remove(&self.value);
            inner.core.forget_ping(self.value);
        });
    }
}
