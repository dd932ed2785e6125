//! Carries bytes both ways between two streams, with memory only for those that are under way.
//!
//! Most forwarded connections wait most of the time: for a query, a keystroke, the next request. The
//! buffers that they would hold meanwhile are lent to those that have something to carry.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes carried at once in each direction.
const PIECE: usize = 64 * 1024;

/// Buffers that wait for the next one to need them: more than threads that read at the same time.
const MOST_SPARE: usize = 16;

/// They have all the same length.
static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

fn lend() -> Box<[u8]> {
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    spare.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.len() < MOST_SPARE {
        spare.push(buffer);
    }
}

/// Carries bytes until both directions have ended (half-close is kept); how many went from the first
/// to the second, and how many back.
///
/// # Errors
/// The first of either stream; nothing more is carried then.
pub(crate) async fn splice<A, B>(first: &mut A, second: &mut B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let (mut there, mut back) = (Direction::default(), Direction::default());
    std::future::poll_fn(|cx| {
        let sent = there.poll(cx, first, second)?;
        let received = back.poll(cx, second, first)?;
        match (sent, received) {
            (Poll::Ready(sent), Poll::Ready(received)) => Poll::Ready(Ok((sent, received))),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    })
    .await
}

/// One direction of it.
#[derive(Default)]
struct Direction {
    phase: Phase,
    /// Read, and not written yet.
    held: Option<Held>,
    /// Written, and perhaps not on its way yet.
    unflushed: bool,
    carried: u64,
}

#[derive(Default)]
enum Phase {
    #[default]
    Carrying,
    Ending,
    Ended,
}

struct Held {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<u64>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        loop {
            match self.phase {
                Phase::Carrying => match ready!(self.carry(cx, from, to))? {
                    0 => self.phase = Phase::Ending,
                    count => self.carried += count as u64,
                },
                Phase::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.phase = Phase::Ended;
                }
                Phase::Ended => return Poll::Ready(Ok(self.carried)),
            }
        }
    }

    /// Writes some of what is held, or reads: how much was written; 0 at the end of input.
    fn carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.held.is_none() {
            let mut buffer = lend();
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(from).poll_read(cx, &mut read);
            let end = read.filled().len();
            if polled.is_pending() || end == 0 {
                give_back(buffer);
                ready!(polled_or_flushed(polled, &mut self.unflushed, cx, to))?;
                return Poll::Ready(Ok(0));
            }
            self.held = Some(Held { buffer, start: 0, end });
        }
        let Some(held) = &mut self.held else { return Poll::Ready(Ok(0)) };
        let count = ready!(Pin::new(to).poll_write(cx, &held.buffer[held.start..held.end]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        held.start += count;
        if held.start == held.end
            && let Some(held) = self.held.take()
        {
            give_back(held.buffer);
        }
        Poll::Ready(Ok(count))
    }
}

/// While nothing more comes, what was written is not to wait either.
fn polled_or_flushed<W: AsyncWrite + Unpin + ?Sized>(
    polled: Poll<io::Result<()>>,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
    to: &mut W,
) -> Poll<io::Result<()>> {
    if polled.is_pending() && *unflushed {
        ready!(Pin::new(to).poll_flush(cx))?;
        *unflushed = false;
    }
    polled
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Two streams that are spliced, by their other ends.
    fn spliced() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<(u64, u64)>>) {
        let (here, mut first) = duplex(1000);
        let (mut second, there) = duplex(1000);
        let splicing = tokio::spawn(async move { splice(&mut first, &mut second).await });
        (here, there, splicing)
    }

    #[tokio::test]
    async fn both_directions_end_on_their_own() {
        let (mut here, mut there, splicing) = spliced();
        let much: Vec<u8> = (0..300_000_u32).map(|i| (i ^ (i >> 7)) as u8).collect();
        let question = async {
            here.write_all(&much).await.unwrap();
            here.shutdown().await.unwrap();
            let mut answer = Vec::new();
            here.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = async {
            let mut question = Vec::new();
            there.read_to_end(&mut question).await.unwrap();
            assert!(question == much);
            there.write_all(b"answer after the end").await.unwrap();
            there.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(question, answer);
        assert_eq!(answer, b"answer after the end");
        assert_eq!(splicing.await.unwrap().unwrap(), (300_000, 20));
    }

    #[tokio::test]
    async fn what_breaks_ends_it() {
        let (here, mut there, splicing) = spliced();
        drop(here);
        // Nobody reads any more.
        while there.write_all(&[1; 1000]).await.is_ok() && !splicing.is_finished() {
            tokio::task::yield_now().await;
        }
        let error = splicing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn whoever_waits_holds_no_memory() {
        let (mut here, mut first) = duplex(1000);
        let (mut second, _there) = duplex(1000);
        let mut direction = Direction::default();
        let poll = |direction: &mut Direction, first: &mut _, second: &mut _| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(direction.poll(&mut cx, first, second).is_pending());
        };
        poll(&mut direction, &mut first, &mut second);
        assert!(direction.held.is_none());
        // More than the other side takes.
        here.write_all(&[1; 1000]).await.unwrap();
        poll(&mut direction, &mut first, &mut second);
        assert!(direction.held.is_none() && direction.carried == 1000);
        here.write_all(&[2; 500]).await.unwrap();
        poll(&mut direction, &mut first, &mut second);
        assert_eq!(direction.held.as_ref().map(|held| held.end - held.start), Some(500));
    }
}
