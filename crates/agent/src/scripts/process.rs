//! One process and everything it starts, from beginning to end.

use std::{future::Future, io, process::ExitStatus, process::Stdio, time::Duration};

use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{ChildStderr, ChildStdout, Command},
    time::Instant,
};

/// How long a process that is told to go may take, and how long the pipes of one that has gone may
/// stay open (`agent/agentscripts/agentscripts.go`, `WaitDelay`).
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Bytes read at once.
const CHUNK: usize = 8 * 1024;

/// Which of its streams a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Takes what a process writes.
pub(crate) trait Sink: Send {
    /// Takes a piece.
    fn write(&mut self, stream: Stream, data: &[u8]) -> impl Future<Output = ()> + Send;
}

/// How a process ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, with this status: 128 + n for signal n.
    Exited(i32),
    /// With success, but something that it started keeps its pipes open.
    PipesLeftOpen,
    /// It took too long and was told to go.
    TimedOut,
    /// It was not wanted any more and was told to go.
    Canceled,
}

/// Runs a command as leader of its own session, without standard input. Dropping the future kills
/// the whole group; a process that has ended may leave others behind, which is how scripts start
/// services.
///
/// # Errors
/// When it cannot be started, or not be waited for.
pub(crate) async fn run(
    mut command: Command,
    timeout: Option<Duration>,
    canceled: impl Future<Output = ()> + Send,
    sink: &mut impl Sink,
) -> io::Result<End> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, group) = spawn(command)?;
    let mut pipes = Pipes { out: child.stdout().take(), err: child.stderr().take() };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);

    let end = {
        let exited = async {
            let status = child.wait().await;
            group.disarm();
            status
        };
        tokio::pin!(exited, canceled);
        let why = loop {
            tokio::select! {
                status = &mut exited => break Some(status?),
                () = until(deadline) => break None,
                () = &mut canceled => break None,
                Some((stream, data)) = pipes.read() => sink.write(stream, &data).await,
            }
        };
        match why {
            Some(status) => Some(status),
            None => {
                group.signal(Signal::HUP);
                let patience = Instant::now() + GRACE;
                loop {
                    tokio::select! {
                        _ = &mut exited => break,
                        () = until(Some(patience)) => {
                            group.signal(Signal::KILL);
                            exited.await?;
                            break;
                        }
                        Some((stream, data)) = pipes.read() => sink.write(stream, &data).await,
                    }
                }
                None
            }
        }
    };
    let patience = Instant::now() + GRACE;
    let drained = loop {
        tokio::select! {
            piece = pipes.read() => match piece {
                Some((stream, data)) => sink.write(stream, &data).await,
                None => break true,
            },
            () = until(Some(patience)) => break false,
        }
    };
    Ok(match end {
        Some(status) if status.success() && !drained => End::PipesLeftOpen,
        Some(status) => End::Exited(code(status)),
        None if deadline.is_some_and(|deadline| deadline <= Instant::now()) => End::TimedOut,
        None => End::Canceled,
    })
}

/// Starts a command as leader of a session of its own.
fn spawn(command: Command) -> io::Result<(Box<dyn ChildWrapper>, Group)> {
    let wrapped = CommandWrap::from(command).wrap(ProcessSession).spawn()?;
    // The wrapper would wait for the whole group, and a script may leave services behind.
    let child = wrapped.into_inner();
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok((child, Group { pid: std::sync::Mutex::new(pid) }))
}

/// The status as a shell tells it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// A process group, killed when it is dropped, unless its leader has been waited for: from then on
/// its number may mean somebody else.
struct Group {
    pid: std::sync::Mutex<Option<Pid>>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        let pid = self.pid.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pid) = *pid {
            // It may have gone by itself.
            let _ = kill_process_group(pid, signal);
        }
    }

    fn disarm(&self) {
        *self.pid.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The streams of a process that are still open.
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Pipes {
    fn is_closed(&self) -> bool {
        self.out.is_none() && self.err.is_none()
    }

    /// The next piece; `None` when all streams have ended. Cancel safe.
    async fn read(&mut self) -> Option<(Stream, Vec<u8>)> {
        while !self.is_closed() {
            let (stream, piece) = tokio::select! {
                piece = chunk(&mut self.out) => (Stream::Out, piece),
                piece = chunk(&mut self.err) => (Stream::Err, piece),
            };
            match (piece, stream) {
                (Some(data), _) => return Some((stream, data)),
                (None, Stream::Out) => self.out = None,
                (None, Stream::Err) => self.err = None,
            }
        }
        None
    }
}

/// The next piece of a stream, `None` at its end.
async fn chunk(stream: &mut Option<impl AsyncRead + Unpin>) -> Option<Vec<u8>> {
    let Some(stream) = stream else { return std::future::pending().await };
    let mut data = Vec::with_capacity(CHUNK);
    match stream.read_buf(&mut data).await {
        Ok(count) if count > 0 => Some(data),
        Ok(_) | Err(_) => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::future::pending;

    use super::*;

    #[derive(Default)]
    struct Kept {
        out: Vec<u8>,
        err: Vec<u8>,
    }

    impl Sink for Kept {
        async fn write(&mut self, stream: Stream, data: &[u8]) {
            match stream {
                Stream::Out => self.out.extend_from_slice(data),
                Stream::Err => self.err.extend_from_slice(data),
            }
        }
    }

    /// Cancels as soon as something was written.
    struct Canceler<'a>(&'a mut Kept, Option<tokio::sync::oneshot::Sender<()>>);

    impl Sink for Canceler<'_> {
        async fn write(&mut self, stream: Stream, data: &[u8]) {
            self.0.write(stream, data).await;
            self.1.take();
        }
    }

    fn shell(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(text);
        command
    }

    async fn ended(text: &str) -> (End, Kept) {
        let mut kept = Kept::default();
        let end = run(shell(text), None, pending(), &mut kept).await.unwrap();
        (end, kept)
    }

    #[tokio::test]
    async fn status_and_both_streams() {
        let (end, kept) = ended("echo out; echo err >&2; exit 3").await;
        assert!(matches!(end, End::Exited(3)), "{end:?}");
        assert_eq!((kept.out.as_slice(), kept.err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        let (end, _) = ended("kill -KILL $$").await;
        assert!(matches!(end, End::Exited(137)), "{end:?}");
    }

    #[tokio::test]
    async fn much_output_is_all_there() {
        let (end, kept) = ended("head -c 3000000 /dev/zero").await;
        assert!(matches!(end, End::Exited(0)), "{end:?}");
        assert_eq!(kept.out.len(), 3_000_000);
    }

    #[tokio::test]
    async fn it_leads_a_session_and_has_no_input() {
        let (_, kept) = ended("ps -o pid=,sid= -p $$; cat").await;
        let text = String::from_utf8(kept.out).unwrap();
        let ids: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(ids.len(), 2, "{text}");
        assert_eq!(ids[0], ids[1]);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_told_to_go() {
        let mut kept = Kept::default();
        let limit = Some(Duration::from_millis(50));
        let text = "trap 'echo bye; exit 0' HUP; echo up; while :; do sleep 0.01; done";
        let end = run(shell(text), limit, pending(), &mut kept).await.unwrap();
        assert!(matches!(end, End::TimedOut), "{end:?}");
    }

    #[tokio::test]
    async fn what_is_not_wanted_any_more_is_told_to_go_with_all_its_children() {
        let mut kept = Kept::default();
        let (cancel, canceled) = tokio::sync::oneshot::channel::<()>();
        let mut sink = Canceler(&mut kept, Some(cancel));
        let canceled = async {
            let _ = canceled.await;
        };
        let text = "sleep 1000 & echo $!; wait";
        let end = run(shell(text), None, canceled, &mut sink).await.unwrap();
        assert!(matches!(end, End::Canceled), "{end:?}");
        let child = String::from_utf8(kept.out).unwrap();
        assert!(gone(child.trim().parse().unwrap()).await, "its child lives on");
    }

    /// The clock is wound forward whenever everybody waits, so the ten seconds pass at once.
    #[tokio::test(start_paused = true)]
    async fn pipes_that_stay_open_are_not_waited_for() {
        let begun = Instant::now();
        let (end, kept) = ended("sleep 1000 & echo $!").await;
        let child = String::from_utf8(kept.out).unwrap();
        let pid = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        assert!(matches!(end, End::PipesLeftOpen), "{end:?}");
        assert_eq!(begun.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_is_killed() {
        let mut kept = Kept::default();
        let begun = Instant::now();
        // Told once it has said that it does not listen.
        let text = "trap '' HUP; echo up; while :; do sleep 0.01; done";
        let (cancel, canceled) = tokio::sync::oneshot::channel::<()>();
        let mut sink = Canceler(&mut kept, Some(cancel));
        let canceled = async {
            let _ = canceled.await;
        };
        let end = run(shell(text), None, canceled, &mut sink).await.unwrap();
        assert!(matches!(end, End::Canceled), "{end:?}");
        assert_eq!(kept.out, b"up\n");
        assert!(begun.elapsed() >= GRACE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn dropping_it_kills_the_group() {
        let (say, said) = tokio::sync::oneshot::channel();
        struct Say(Vec<u8>, Option<tokio::sync::oneshot::Sender<i32>>);
        impl Sink for Say {
            async fn write(&mut self, _: Stream, data: &[u8]) {
                self.0.extend_from_slice(data);
                let text = String::from_utf8_lossy(&self.0);
                if let Some(line) = text.strip_suffix('\n')
                    && let Some(say) = self.1.take()
                {
                    say.send(line.parse().unwrap()).unwrap();
                }
            }
        }
        let mut sink = Say(Vec::new(), Some(say));
        let child = {
            let text = "trap '' HUP; (trap '' HUP; sleep 1000) & echo $!; wait";
            let running = run(shell(text), None, pending(), &mut sink);
            tokio::select! {
                end = running => panic!("it ended: {end:?}"),
                child = said => child.unwrap(),
            }
        };
        assert!(gone(child).await, "its child lives on");
    }

    /// Whether a process that was killed is gone, or dead and not waited for.
    async fn gone(pid: i32) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }
}
