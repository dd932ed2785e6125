//! Output of scripts on its way to the server (`codersdk/agentsdk/logs.go`).
//!
//! Lines wait in a bounded [`Queue`] until a second has passed, a batch is full or somebody asks
//! for them to go. Nothing runs while it is empty. What does not fit, because the server is away
//! for long, is dropped and counted; scripts are never held up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use coderctl_drpc::{
    Client, RpcError,
    proto::{agent as proto, rpc::agent as rpc},
};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

/// Bytes that may wait, and that may go at once, as the server's limit for an agent counts them.
const MAX_BYTES: usize = 1 << 20;

/// What a line costs beside its text (`logs.go`, `overheadPerLog`).
const OVERHEAD: usize = 21;

/// How long a line may wait for company.
const LINGER: Duration = Duration::from_secs(1);

/// Longest line that is sent as one, in bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    at: SystemTime,
    level: Level,
    text: String,
}

impl Line {
    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }

    fn to_proto(&self) -> proto::Log {
        let level = match self.level {
            Level::Info => proto::log::Level::Info,
            Level::Warn => proto::log::Level::Warn,
            Level::Error => proto::log::Level::Error,
        };
        proto::Log {
            created_at: Some(self.at.into()),
            output: self.text.clone(),
            level: level.into(),
        }
    }
}

/// Lines of one source.
#[derive(Debug, Default)]
struct Source {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that had no room since the last one that had.
    dropped: usize,
    /// When the lines go.
    due: Option<Instant>,
}

/// Lines of all sources.
#[derive(Debug, Default)]
struct Queue {
    sources: BTreeMap<Uuid, Source>,
    bytes: usize,
    /// The server takes no more of this agent's lines.
    closed: bool,
}

/// What goes in one call.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    source: Uuid,
    lines: usize,
    bytes: usize,
    request: Vec<proto::Log>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Send(Batch),
    WaitUntil(Instant),
    /// For more lines.
    Wait,
    Closed,
}

impl Queue {
    fn push(&mut self, source: Uuid, mut line: Line, now: Instant) {
        if self.closed {
            return;
        }
        // A database of text takes no NUL.
        if line.text.contains('\0') {
            line.text = line.text.replace('\0', "\u{fffd}");
        }
        let queue = self.sources.entry(source).or_default();
        let lost = (queue.dropped > 0).then(|| Line {
            at: line.at,
            level: Level::Warn,
            text: format!("{} lines were dropped: the server took them too slowly", queue.dropped),
        });
        let cost = line.cost() + lost.as_ref().map_or(0, Line::cost);
        if self.bytes + cost > MAX_BYTES {
            queue.dropped += 1;
            return;
        }
        queue.dropped = 0;
        self.bytes += cost;
        queue.bytes += cost;
        queue.lines.extend(lost.into_iter().chain([line]));
        let due = if queue.bytes >= MAX_BYTES / 2 { now } else { now + LINGER };
        queue.due = Some(queue.due.map_or(due, |before| before.min(due)));
    }

    /// The lines of this source need no company.
    fn flush(&mut self, source: Uuid, now: Instant) {
        if let Some(queue) = self.sources.get_mut(&source)
            && queue.due.is_some()
        {
            queue.due = Some(now);
        }
    }

    fn next(&self, now: Instant) -> Next {
        if self.closed {
            return Next::Closed;
        }
        let first = self.sources.iter().filter_map(|(id, queue)| Some((queue.due?, *id, queue)));
        let Some((due, source, queue)) = first.min_by_key(|(due, id, _)| (*due, *id)) else {
            return Next::Wait;
        };
        if due > now {
            return Next::WaitUntil(due);
        }
        let mut bytes = 0;
        let fits = queue.lines.iter().take_while(|line| {
            bytes += line.cost();
            bytes <= MAX_BYTES
        });
        let lines = fits.count();
        let sent = || queue.lines.iter().take(lines);
        Next::Send(Batch {
            source,
            lines,
            bytes: sent().map(Line::cost).sum(),
            request: sent().map(Line::to_proto).collect(),
        })
    }

    /// The server has taken the batch.
    fn sent(&mut self, batch: &Batch) {
        let Some(queue) = self.sources.get_mut(&batch.source) else { return };
        queue.lines.drain(..batch.lines.min(queue.lines.len()));
        queue.bytes = queue.bytes.saturating_sub(batch.bytes);
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        if queue.lines.is_empty() {
            queue.due = None;
            if queue.dropped == 0 {
                self.sources.remove(&batch.source);
            }
        }
    }

    /// The server takes no more.
    fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }
}

/// A queue that scripts write to and one task sends from.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    queue: Mutex<Queue>,
    /// There may be something to send.
    changed: Notify,
    /// Something was sent.
    progress: Notify,
}

impl Logs {
    pub(crate) fn push(&self, source: Uuid, level: Level, text: String) {
        let line = Line { at: SystemTime::now(), level, text };
        self.lock().push(source, line, Instant::now());
        self.changed.notify_one();
    }

    /// Lets the lines of this source go now.
    pub(crate) fn flush(&self, source: Uuid) {
        self.lock().flush(source, Instant::now());
        self.changed.notify_one();
    }

    /// Lets everything go now, and waits until it has been taken, or will never be.
    pub(crate) async fn drained(&self) {
        let now = Instant::now();
        {
            let mut queue = self.lock();
            let sources: Vec<Uuid> = queue.sources.keys().copied().collect();
            for source in sources {
                queue.flush(source, now);
            }
        }
        self.changed.notify_one();
        loop {
            let progress = self.progress.notified();
            if self.lock().bytes == 0 {
                return;
            }
            progress.await;
        }
    }

    /// Sends what there is, now and whenever there is more; for one task at a time. Returns
    /// quietly once the server has had enough.
    ///
    /// # Errors
    /// The first call that fails. Its lines stay.
    pub(crate) async fn send(&self, client: &Client) -> Result<(), RpcError> {
        loop {
            let changed = self.changed.notified();
            let next = self.lock().next(Instant::now());
            match next {
                Next::Send(batch) => self.send_batch(client, batch).await?,
                Next::WaitUntil(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = changed => {}
                    }
                }
                Next::Wait => changed.await,
                Next::Closed => return Ok(()),
            }
        }
    }

    async fn send_batch(&self, client: &Client, mut batch: Batch) -> Result<(), RpcError> {
        let request = proto::BatchCreateLogsRequest {
            log_source_id: batch.source.as_bytes().to_vec(),
            logs: std::mem::take(&mut batch.request),
        };
        let answer: proto::BatchCreateLogsResponse =
            client.unary(rpc::BATCH_CREATE_LOGS, &request).await?;
        if answer.log_limit_exceeded {
            tracing::warn!("the server takes no more logs of this agent: its limit is reached");
            self.lock().close();
        } else {
            self.lock().sent(&batch);
        }
        self.progress.notify_waiters();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn line(text: &str) -> Line {
        Line { at: SystemTime::UNIX_EPOCH, level: Level::Info, text: text.to_owned() }
    }

    fn batch(queue: &Queue, now: Instant) -> Batch {
        let next = queue.next(now);
        let Next::Send(batch) = next else { panic!("nothing to send: {next:?}") };
        batch
    }

    fn texts(batch: &Batch) -> Vec<&str> {
        batch.request.iter().map(|log| log.output.as_str()).collect()
    }

    #[test]
    fn lines_wait_for_company_and_go_in_order() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        assert_eq!(queue.next(start), Next::Wait);
        queue.push(A, line("one"), start);
        queue.push(A, line("two"), start + LINGER / 2);
        assert_eq!(queue.next(start), Next::WaitUntil(start + LINGER), "of the first line");
        let sent = batch(&queue, start + LINGER);
        assert_eq!((sent.source, texts(&sent)), (A, vec!["one", "two"]));
        queue.push(A, line("three"), start + LINGER);
        queue.sent(&sent);
        assert_eq!(texts(&batch(&queue, start + LINGER)), ["three"]);
    }

    #[test]
    fn a_flush_hurries_its_own_source() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(A, line("a"), now);
        queue.push(B, line("b"), now);
        queue.flush(B, now);
        let sent = batch(&queue, now);
        assert_eq!((sent.source, texts(&sent)), (B, vec!["b"]));
        queue.sent(&sent);
        assert_eq!(queue.next(now), Next::WaitUntil(now + LINGER));
        queue.flush(B, now);
        assert_eq!(queue.next(now), Next::WaitUntil(now + LINGER), "there is nothing of it");
    }

    #[test]
    fn what_has_no_room_is_counted_and_told() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let long = "x".repeat(MAX_LINE);
        for _ in 0..20 {
            queue.push(A, line(&long), now);
        }
        let kept = queue.sources[&A].lines.len();
        assert_eq!(kept, MAX_BYTES / (MAX_LINE + OVERHEAD));
        let sent = batch(&queue, now);
        assert!(sent.bytes <= MAX_BYTES && sent.lines == kept);
        queue.sent(&sent);
        queue.push(A, line("after"), now);
        let sent = batch(&queue, now + LINGER);
        let lost = format!("{} lines were dropped: the server took them too slowly", 20 - kept);
        assert_eq!(texts(&sent), [lost.as_str(), "after"]);
        queue.sent(&sent);
        assert_eq!((queue.bytes, queue.sources.len()), (0, 0));
    }

    #[test]
    fn after_the_limit_nothing_is_kept() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(A, line("a"), now);
        queue.close();
        queue.push(A, line("b"), now);
        assert_eq!((queue.next(now), queue.bytes), (Next::Closed, 0));
    }

    #[test]
    fn nul_does_not_reach_a_database() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(A, line("a\0b"), now);
        assert_eq!(texts(&batch(&queue, now + LINGER)), ["a\u{fffd}b"]);
    }
}
