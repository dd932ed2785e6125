//! Pseudo-terminals: a child with a terminal of its own, and the side that we hold.
//!
//! ```text
//!   Input ──►  kernel: echo, line editing, ^C  ──► child (session leader, its controlling terminal)
//!   Output ◄──                                 ◄──
//!   Control: size, mode
//! ```
//!
//! The parts may be used from different tasks. The terminal hangs up (SIGHUP to the child's
//! foreground group) once all three are dropped; [`Child`] is apart.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::termios::{self, OptionalActions, Termios};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, Command},
};

/// Longest terminal device name accepted in [`Terminal::name`], in bytes: `/dev/pts/` and a number
/// fit many times.
const NAME: usize = 64;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// A terminal that has no child yet. Its attributes can be set through [`Self::set_modes`].
pub struct Terminal {
    pty: pty_process::Pty,
    pts: pty_process::Pts,
    name: String,
}

impl Terminal {
    /// Opens a terminal of this size. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's, such as `ENOSPC` when there are no more terminals.
    pub fn open(size: Size) -> io::Result<Self> {
        let (pty, pts) = pty_process::open().map_err(system)?;
        resize(pty.as_fd(), size)?;
        let name = termios::ttyname(&pts, Vec::with_capacity(NAME))?;
        let name = name.to_string_lossy().into_owned();
        Ok(Self { pty, pts, name })
    }

    /// The path of the device that the child sees, for `SSH_TTY`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes the terminal's attributes.
    ///
    /// # Errors
    /// The system's.
    pub fn set_modes(&self, change: impl FnOnce(&mut Termios)) -> io::Result<()> {
        let mut attributes = termios::tcgetattr(&self.pts)?;
        change(&mut attributes);
        termios::tcsetattr(&self.pts, OptionalActions::Now, &attributes)?;
        Ok(())
    }

    /// Starts the command on the terminal: as leader of a new session whose controlling terminal
    /// it is, with all three standard streams connected to it.
    ///
    /// # Errors
    /// The system's, such as `ENOENT` when there is no such program.
    pub fn spawn(self, command: Command) -> io::Result<Attached> {
        let control = Control(self.pty.as_fd().try_clone_to_owned()?);
        let child = pty_process::Command::from(command).spawn(self.pts).map_err(system)?;
        let (output, input) = self.pty.into_split();
        Ok(Attached { input: Input(input), output: Output(output), control, child })
    }
}

/// A terminal with its child.
#[derive(Debug)]
pub struct Attached {
    /// What is typed.
    pub input: Input,
    /// What is shown.
    pub output: Output,
    /// Its size.
    pub control: Control,
    /// The process. It leads a process group and a session that both have its id. Not killed
    /// when dropped, unless the command says so.
    pub child: Child,
}

/// What is typed on a terminal. There is no end of input but the end-of-file key: shutting this
/// down has no effect.
pub struct Input(pty_process::OwnedWritePty);

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is shown on a terminal. Ends when every process on it has closed it; what they wrote
/// before that is all there first.
pub struct Output(pty_process::OwnedReadPty);

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            // How Linux says that nobody has the other side open (`tty_io.c`).
            Err(error) if error.raw_os_error() == Some(EIO) => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Changes a terminal that is in use.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Sets the size; the foreground processes get SIGWINCH if it differs.
    ///
    /// # Errors
    /// The system's.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        resize(self.0.as_fd(), size)
    }
}

fn resize(fd: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size =
        termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(termios::tcsetwinsize(fd, size)?)
}

fn system(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        // Only of the halves of two terminals.
        error @ pty_process::Error::Unsplit(..) => io::Error::other(error),
        pty_process::Error::TokioAsyncFd(error) => io::Error::other(error.to_string()),
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

#[cfg(test)]
mod tests {
    use rustix::termios::LocalModes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        signal::unix::SignalKind,
    };

    use super::*;

    const SIZE: Size = Size { cols: 97, rows: 31 };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_child_has_the_terminal_as_its_own() {
        let terminal = Terminal::open(SIZE).unwrap();
        let name = terminal.name().to_owned();
        let script = "stty size; tty; echo to the terminal >/dev/tty; exit 3";
        let mut attached = terminal.spawn(shell(script)).unwrap();
        let mut text = String::new();
        attached.output.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, format!("31 97\r\n{name}\r\nto the terminal\r\n"));
        assert_eq!(attached.child.wait().await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn keys_are_signals_and_sizes_change() {
        // The test runner's parent may ignore SIGINT, which a shell cannot take back. What is handled
        // here is not ignored there.
        let _handled = tokio::signal::unix::signal(SignalKind::interrupt()).unwrap();
        let terminal = Terminal::open(SIZE).unwrap();
        terminal.set_modes(|modes| modes.local_modes.remove(LocalModes::ECHO)).unwrap();
        let script = "trap 'stty size; exit 4' INT; echo up; read line; echo got $line; read line";
        let mut attached = terminal.spawn(shell(script)).unwrap();
        let mut text = [0; 4];
        attached.output.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"up\r\n");
        attached.input.write_all(b"words\n").await.unwrap();
        let mut text = [0; 11];
        attached.output.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"got words\r\n", "and no echo");
        attached.control.resize(Size { cols: 61, rows: 17 }).unwrap();
        attached.input.write_all(b"\x03").await.unwrap();
        let mut rest = String::new();
        attached.output.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("17 61\r\n"), "{rest:?}");
        assert_eq!(attached.child.wait().await.unwrap().code(), Some(4));
    }

    #[tokio::test]
    async fn much_output_of_a_child_that_is_gone_is_all_there() {
        for _ in 0..20 {
            let terminal = Terminal::open(SIZE).unwrap();
            let mut attached = terminal.spawn(shell("head -c 3000 /dev/zero")).unwrap();
            attached.child.wait().await.unwrap();
            let mut bytes = Vec::new();
            attached.output.read_to_end(&mut bytes).await.unwrap();
            assert_eq!(bytes.len(), 3000);
        }
    }

    #[tokio::test]
    async fn dropping_the_terminal_hangs_up() {
        use std::os::unix::process::ExitStatusExt as _;
        let terminal = Terminal::open(SIZE).unwrap();
        // The test runner's parent may ignore SIGHUP, and a shell cannot take that back.
        let mut attached = terminal.spawn(shell("echo up; read line")).unwrap();
        let mut text = [0; 4];
        attached.output.read_exact(&mut text).await.unwrap();
        drop((attached.input, attached.output, attached.control));
        let status = attached.child.wait().await.unwrap();
        assert!(status.signal() == Some(1) || status.code() == Some(1), "{status}");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let terminal = Terminal::open(SIZE).unwrap();
        let error = terminal.spawn(Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
