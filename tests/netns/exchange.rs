//! Bytes both ways at once, and how long none came.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ring::digest::{Context, Digest, SHA256};

use super::support::noise;

/// What is sent over and over: a prime number of bytes, so that no two segments or windows that
/// could be taken for each other look alike.
const PATTERN: usize = 1_048_583;

/// Nothing for this long is the end: a connection that is dead and does not say so.
const DEAD: Duration = Duration::from_secs(120);

/// An exchange under way.
pub(crate) struct Exchange {
    began: Instant,
    total: u64,
    received: [Arc<AtomicU64>; 2],
    senders: Vec<JoinHandle<io::Result<Digest>>>,
    receivers: Vec<JoinHandle<io::Result<(Digest, Duration)>>>,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// The longest time in which an end received nothing, until it had everything.
    pub(crate) gap: Duration,
}

impl Exchange {
    /// Sends `total` bytes from each end of a connection to the other.
    pub(crate) fn start(ends: [TcpStream; 2], total: u64) -> Self {
        let received = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (index, end) in ends.into_iter().enumerate() {
            end.set_read_timeout(Some(DEAD)).unwrap();
            end.set_write_timeout(Some(DEAD)).unwrap();
            let (count, sender) = (Arc::clone(&received[index]), end.try_clone().unwrap());
            senders.push(thread::spawn(move || send(sender, index as u64, total)));
            receivers.push(thread::spawn(move || receive(end, total, &count)));
        }
        Self { began: Instant::now(), total, received, senders, receivers }
    }

    /// What the end that is behind has received.
    fn received(&self) -> u64 {
        self.received.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Waits until an end has received this part of everything: the other, which may be slower, is in
    /// the middle as well.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: f64) {
        let wanted = (self.total as f64 * part) as u64;
        let ahead =
            || self.received.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0);
        let mut last = (ahead(), Instant::now());
        while last.0 < wanted {
            thread::park_timeout(Duration::from_millis(5));
            let now = ahead();
            if now > last.0 {
                last = (now, Instant::now());
            }
            assert!(last.1.elapsed() < DEAD, "{now} of {} bytes, and no more", self.total);
        }
    }

    /// Waits until nothing has come for so long.
    #[track_caller]
    pub(crate) fn wait_for_silence(&self, time: Duration) {
        let mut last = (self.received(), Instant::now());
        while last.1.elapsed() < time {
            thread::park_timeout(Duration::from_millis(5));
            let now = self.received();
            assert!(now < self.total, "it was not silent before it was over");
            if now > last.0 {
                last = (now, Instant::now());
            }
        }
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn finish(self) -> Outcome {
        let joined = |thread: JoinHandle<_>| thread.join().unwrap();
        let sent: Result<Vec<Digest>, _> = self.senders.into_iter().map(joined).collect();
        let joined = |thread: JoinHandle<_>| thread.join().unwrap();
        let received: Result<Vec<_>, _> = self.receivers.into_iter().map(joined).collect();
        let counts = self.received.map(|count| count.load(Ordering::Relaxed));
        let (sent, received) = match (sent, received) {
            (Ok(sent), Ok(received)) => (sent, received),
            (sent, received) => {
                let (sent, received) = (sent.err(), received.err());
                panic!(
                    "the connection died ({sent:?}, {received:?}) with {counts:?} bytes received"
                )
            }
        };
        let mut gap = Duration::ZERO;
        for ((received, longest), sent) in received.into_iter().zip(sent.iter().rev()) {
            assert_eq!(received.as_ref(), sent.as_ref(), "what came is not what was sent");
            gap = gap.max(longest);
        }
        Outcome { took: self.began.elapsed(), gap }
    }
}

fn send(mut end: TcpStream, seed: u64, total: u64) -> io::Result<Digest> {
    let pattern = noise(seed, PATTERN);
    let (mut digest, mut left) = (Context::new(&SHA256), total);
    while left > 0 {
        let piece = &pattern[..PATTERN.min(usize::try_from(left).unwrap())];
        end.write_all(piece)?;
        digest.update(piece);
        left -= piece.len() as u64;
    }
    Ok(digest.finish())
}

/// Receives so many bytes. Nobody waits for an end of the stream: not every agent keeps a connection of
/// which one half is over.
fn receive(mut end: TcpStream, total: u64, count: &AtomicU64) -> io::Result<(Digest, Duration)> {
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 64 << 10]);
    let (mut last, mut gap) = (None, Duration::ZERO);
    loop {
        let length = match end.read(&mut buffer) {
            // A read with a time limit is not taken up again after a stop of this process.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        let now = Instant::now();
        if let Some(last) = last.replace(now) {
            gap = gap.max(now - last);
        }
        digest.update(&buffer[..length]);
        let before = count.fetch_add(length as u64, Ordering::Relaxed);
        if before + length as u64 >= total {
            return Ok((digest.finish(), gap));
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
