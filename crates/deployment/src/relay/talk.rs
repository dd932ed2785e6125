//! A connection's reader and writer, whoever is at the other end.

use std::{sync::Arc, time::Duration};

use coderctl_tailnet::derp::Frame;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{Inner, inbox::Inbox, outbox::Outbox, session::Ended};

/// What the reader of a connection does with it.
pub(super) trait Talk {
    /// Handles everything that was read.
    fn handle(&mut self, inbox: &mut Inbox) -> Result<(), Ended>;

    /// Looks after the connection, on which something came since the last time, or not.
    fn look(&mut self, now: Instant, quiet: bool) -> Result<(), Ended>;
}

/// Reads and writes until the connection ends, and says why it did.
pub(super) async fn converse<S>(
    inner: &Arc<Inner>,
    talk: &mut impl Talk,
    outbox: Arc<Outbox>,
    stream: S,
    mut inbox: Inbox,
    ping: bool,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    // A task of its own, so that a client's reading and writing do not wait for each other.
    let mut writer = Aborted(tokio::spawn(write(inner.clone(), outbox, writer, ping).boxed()));
    tokio::select! {
        ended = read(inner, talk, reader, &mut inbox) => ended,
        ended = &mut writer.0 => ended.unwrap_or(Ended::Left),
    }
}

async fn read(
    inner: &Inner,
    talk: &mut impl Talk,
    mut reader: impl AsyncRead + Unpin,
    inbox: &mut Inbox,
) -> Ended {
    let every = inner.limits.look;
    let mut look = interval_at(Instant::now() + every, every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = true;
    loop {
        if let Err(ended) = talk.handle(inbox) {
            return ended;
        }
        inner.thawed().await;
        tokio::select! {
            read = reader.read_buf(inbox.room()) => match read {
                Ok(0) => return Ended::Left,
                Ok(count) => {
                    inbox.filled(count);
                    quiet = false;
                }
                Err(error) => return error.into(),
            },
            now = look.tick() => {
                if let Err(ended) = talk.look(now, quiet) {
                    return ended;
                }
                if quiet {
                    inbox.shrink();
                }
                quiet = true;
            }
        }
    }
}

/// When something was heard last of one who answers pings.
#[derive(Debug)]
pub(super) struct Life {
    heard: Instant,
}

impl Life {
    pub(super) fn new() -> Self {
        Self { heard: Instant::now() }
    }

    /// Two pings and their answers may be missed; one may be late.
    pub(super) fn look(&mut self, now: Instant, quiet: bool, every: Duration) -> Result<(), Ended> {
        if !quiet {
            self.heard = now;
        }
        let limit = 3 * every;
        if now.saturating_duration_since(self.heard) >= limit {
            return Err(Ended::Silent(limit));
        }
        Ok(())
    }
}

async fn write(
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    mut writer: impl AsyncWrite + Unpin,
    ping: bool,
) -> Ended {
    let every = inner.limits.keep_alive;
    // Not all clients at the same moment; upstream adds up to 5 s to its 60.
    let mut random = [0];
    let _ = getrandom::fill(&mut random);
    let every = every + every.mul_f64(f64::from(random[0]) / (256.0 * 12.0));
    let mut keep_alive = interval_at(Instant::now() + every, every);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let chunk = tokio::select! {
            chunk = outbox.take() => chunk,
            _ = keep_alive.tick() => {
                outbox.tell(&Frame::KeepAlive);
                if ping {
                    outbox.tell(&Frame::Ping(*b"coderctl"));
                }
                continue;
            }
        };
        let Some(chunk) = chunk else { return Ended::Replaced };
        inner.thawed().await;
        let limit = inner.limits.write_time;
        let mut rest = chunk.bytes();
        while !rest.is_empty() {
            match timeout(limit, writer.write(rest)).await {
                Ok(Ok(0)) => return Ended::Left,
                Ok(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
                Ok(Err(error)) => return error.into(),
                Err(_) => return Ended::Stuck(limit),
            }
        }
        match timeout(limit, writer.flush()).await {
            Ok(Ok(())) => outbox.recycle(chunk),
            Ok(Err(error)) => return error.into(),
            Err(_) => return Ended::Stuck(limit),
        }
    }
}

/// A task that ends with its owner.
struct Aborted(JoinHandle<Ended>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
