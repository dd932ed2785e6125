//! The process's own standard streams, read and written without blocking the runtime.
//!
//! Tokio's standard input reads on a thread that cannot be stopped: it delays the end of the
//! program and swallows what was typed ahead for whoever reads next. So readiness is awaited on a
//! descriptor of our own, and nothing is read before it is wanted.
//!
//! * Pipes and terminals are opened anew (`/proc/self/fd/N`), which gives a description of our own
//!   that can be non-blocking. To set that on the inherited one would change it under the feet
//!   of every process that shares it, the calling shell among them.
//! * Where that fails (no `/proc`, another user's terminal, sockets), a duplicate is asked by
//!   poll(2) before each call, and written in pieces that a writable pipe takes whole.
//! * Files and `/dev/null` cannot be waited for and need not be.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// Bytes that a pipe takes without blocking once it is writable at all (PIPE_BUF of Linux).
const PIECE: usize = 4096;

/// A standard stream of this process, or what stands for it in a test.
#[derive(Debug)]
pub struct Local(Kind);

#[derive(Debug)]
enum Kind {
    /// A description of our own, non-blocking.
    Own(AsyncFd<OwnedFd>),
    /// One that is shared, and may block.
    Shared(AsyncFd<OwnedFd>),
    /// A file: never waits.
    Plain(OwnedFd),
}

/// The three standard streams.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: Local,
    /// Standard output.
    pub stdout: Local,
    /// Standard error.
    pub stderr: Local,
}

impl Streams {
    /// Those of this process. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn standard() -> io::Result<Self> {
        Ok(Self {
            stdin: Local::reader(rustix::stdio::stdin())?,
            stdout: Local::writer(rustix::stdio::stdout())?,
            stderr: Local::writer(rustix::stdio::stderr())?,
        })
    }
}

impl Local {
    /// To read from.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn reader(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::open(fd, OFlags::RDONLY, Interest::READABLE)
    }

    /// To write to.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn writer(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::open(fd, OFlags::WRONLY, Interest::WRITABLE)
    }

    #[expect(
        deprecated,
        reason = "the successor is unsafe for types that may change their descriptor; an OwnedFd \
                  cannot"
    )]
    fn open(fd: BorrowedFd<'_>, access: OFlags, interest: Interest) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        if kind == FileType::Fifo || rustix::termios::isatty(fd) {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            if let Ok(own) = rustix::fs::open(path, flags, Mode::empty())
                && let Ok(own) = AsyncFd::with_interest(own, interest)
            {
                return Ok(Self(Kind::Own(own)));
            }
        }
        let shared = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        Ok(Self(match AsyncFd::try_with_interest(shared, interest) {
            Ok(shared) => Kind::Shared(shared),
            // Linux cannot wait for files.
            Err(error) => Kind::Plain(error.into_parts().0),
        }))
    }
}

/// Whether a call would not block now. An end or an error counts: the call tells.
fn is_ready(fd: &OwnedFd, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, flags)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
}

impl AsyncRead for Local {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (fd, shared) = match &self.0 {
            Kind::Own(fd) => (fd, false),
            Kind::Shared(fd) => (fd, true),
            Kind::Plain(fd) => {
                let count = retry(|| rustix::io::read(fd, buffer.initialize_unfilled()))?;
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
        };
        loop {
            let mut guard = ready!(fd.poll_read_ready(cx))?;
            if shared && !is_ready(fd.get_ref(), PollFlags::IN) {
                guard.clear_ready();
                continue;
            }
            match retry(|| rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Local {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (fd, shared) = match &self.0 {
            Kind::Own(fd) => (fd, false),
            Kind::Shared(fd) => (fd, true),
            Kind::Plain(fd) => return Poll::Ready(Ok(retry(|| rustix::io::write(fd, data))?)),
        };
        let data = if shared { &data[..data.len().min(PIECE)] } else { data };
        loop {
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            if shared && !is_ready(fd.get_ref(), PollFlags::OUT) {
                guard.clear_ready();
                continue;
            }
            match retry(|| rustix::io::write(fd.get_ref(), data)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_read_to_its_end_and_stays_blocking_for_others() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut local = Local::reader(reader.as_fd()).unwrap();
        assert!(matches!(local.0, Kind::Own(_)), "{local:?}");
        io::Write::write_all(&mut writer, b"one").unwrap();
        let mut buffer = [0; 10];
        assert_eq!(local.read(&mut buffer).await.unwrap(), 3);
        let flags = rustix::fs::fcntl_getfl(&reader).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
        drop(writer);
        assert_eq!(local.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_full_pipe_waits_without_blocking_and_a_closed_one_says_so() {
        let (reader, writer) = io::pipe().unwrap();
        let mut local = Local::writer(writer.as_fd()).unwrap();
        let much = vec![7; 1 << 20];
        let writing = local.write_all(&much);
        let reading = tokio::task::spawn_blocking(move || {
            let mut back = vec![0; 1 << 20];
            io::Read::read_exact(&mut { reader }, &mut back).map(|()| back)
        });
        let (written, back) = tokio::join!(writing, reading);
        written.unwrap();
        assert!(back.unwrap().unwrap() == much);
        drop(writer);
        let error = local.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_socket_that_is_shared_never_blocks() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut reader = Local::reader(ours.as_fd()).unwrap();
        let mut writer = Local::writer(theirs.as_fd()).unwrap();
        assert!(matches!(reader.0, Kind::Shared(_)), "{reader:?}");
        let much = vec![9; 1 << 20];
        let mut back = vec![0; 1 << 20];
        let (written, read) = tokio::join!(writer.write_all(&much), reader.read_exact(&mut back));
        written.unwrap();
        read.unwrap();
        assert!(back == much);
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, reader.read(&mut back)).await.is_err());
        drop((writer, theirs));
        assert_eq!(reader.read(&mut back).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn files_and_dev_null_are_read_and_written() {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let mut reader = Local::reader(null.as_fd()).unwrap();
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        Local::writer(null.as_fd()).unwrap().write_all(b"gone").await.unwrap();
        let file = tempfile::tempfile().unwrap();
        Local::writer(file.as_fd()).unwrap().write_all(b"kept").await.unwrap();
        io::Seek::rewind(&mut &file).unwrap();
        let mut text = String::new();
        Local::reader(file.as_fd()).unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "kept");
    }
}
