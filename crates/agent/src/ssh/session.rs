//! One session: a program with its streams, from its start to its exit status.

use std::{
    ffi::{OsStr, OsString},
    io,
    net::SocketAddr,
    os::unix::ffi::OsStrExt as _,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use coderctl_ssh::{
    Exit, Pty,
    server::{Change, Control, Opener, Program, Reader, Session, Start, Writer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink},
    process::Command,
    time::timeout,
};
use uuid::Uuid;

use super::{
    Connection, SessionKind, SessionObserver, auth_agent, banner, command, modes,
    process::{self, Fate, Process},
    server::Shared,
    sftp,
};
use crate::{
    containers::Inside,
    environment::Environment,
    pty::{self, Size, Terminal},
};

/// The status of a session that could not be set up (`agent/agentssh/agentssh.go`,
/// `MagicSessionErrorCode`).
const SET_UP_FAILED: u32 = 229;
/// The status of a blocked file transfer (`BlockedFileTransferErrorCode`).
const BLOCKED: u32 = 65;
/// What is said then: an scp client takes the first byte for a fatal error's sign.
const BLOCKED_TEXT: &[u8] = b"\x02File transfer has been disabled.\n";

/// Bytes carried at a time: what a pipe holds.
const BUFFER: usize = 64 * 1024;
/// How long the terminal of a program that has ended may be silent before its output counts as
/// complete, although somebody in the background still has it open.
const QUIET: Duration = Duration::from_millis(250);
/// Most output that is awaited then: what may lie in the kernel, four times.
const REST: usize = 256 * 1024;

/// How a session ended.
struct End {
    /// What the client is told; nothing when the server closes or the client has gone.
    exit: Option<Exit>,
    /// For the report.
    code: i32,
    reason: String,
}

impl End {
    fn exit(exit: Exit) -> Self {
        let reason = match &exit {
            Exit::Status(0) => String::new(),
            Exit::Status(status) => format!("the program ended with status {status}"),
            Exit::Signal { name, .. } => format!("the program was killed by SIG{name}"),
            Exit::Lost(error) => error.to_string(),
        };
        Self { code: process::code_of(&exit), exit: Some(exit), reason }
    }

    fn status(status: u32, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::exit(Exit::Status(status)) }
    }

    fn without_exit(reason: &str) -> Self {
        Self { exit: None, code: 1, reason: reason.into() }
    }
}

/// The streams to the client.
struct Streams {
    stdin: Reader,
    stdout: Writer,
    stderr: Writer,
}

/// Runs a session to its end.
pub(super) async fn run(server: Arc<Shared>, opener: Opener, session: Session, peer: SocketAddr) {
    let mut closing = server.closing.subscribe();
    if *closing.borrow() {
        return;
    }
    let Session { mut start, stdin, stdout, stderr, mut control } = session;
    let said = command::sort(std::mem::take(&mut start.env));
    let report = Report::begin(Arc::clone(&server.settings.observer), said.kind, peer);
    let streams = Streams { stdin, stdout, stderr };
    let end = tokio::select! {
        biased;
        _ = closing.wait_for(|closing| *closing) => {
            End::without_exit("the agent is shutting down")
        }
        end = attend(&server, &opener, &start, said, streams, &mut control) => end,
    };
    if let Some(exit) = &end.exit {
        control.finish(exit);
    }
    report.end(end);
}

async fn attend(
    server: &Arc<Shared>,
    opener: &Opener,
    start: &Start,
    said: command::Said,
    mut streams: Streams,
    control: &mut Control,
) -> End {
    if server.settings.blocks.file_transfer && command::carries_files(&start.program) {
        if let Program::Exec(_) = start.program {
            // A client that is gone needs no words.
            let _ = streams.stdout.write_all(BLOCKED_TEXT).await;
        }
        return End::status(BLOCKED, "file transfer is disabled");
    }
    let Some(environment) = server.environment() else {
        return failed(start, &mut streams, "the agent does not know its workspace yet").await;
    };
    let inside = match said.container.as_str() {
        "" => None,
        container => match Inside::enter(&environment, container, &said.user).await {
            Ok(inside) => Some(inside),
            Err(error) => return failed(start, &mut streams, &error.to_string()).await,
        },
    };
    if let Program::Subsystem(_) = start.program {
        if inside.is_some() {
            return failed(start, &mut streams, "there is no sftp in containers").await;
        }
        let Streams { mut stdin, mut stdout, .. } = streams;
        let place = (environment.directory(), environment.home());
        return tokio::select! {
            end = gone(control) => end,
            end = sftp::serve(&mut stdin, &mut stdout, place) => match end {
                Ok(()) => End::exit(Exit::Status(0)),
                Err(error) => End::status(1, format!("sftp: {error}")),
            },
        };
    }
    // Both listen until the session is over.
    let mut extra = Vec::new();
    let _agent = if start.agent {
        match auth_agent::listen(opener.clone()) {
            Ok(socket) => {
                extra.push(("SSH_AUTH_SOCK", socket.path().as_os_str().to_owned()));
                Some(socket)
            }
            Err(error) => {
                let text = format!("cannot forward the authentication agent: {error}");
                return failed(start, &mut streams, &text).await;
            }
        }
    } else {
        None
    };
    let _display = match &start.x11 {
        Some(request) => match server.displays.listen(request, opener, &environment).await {
            Ok(display) => {
                extra.push(("DISPLAY", display.name().into()));
                Some(display)
            }
            Err(error) => {
                say(start, &mut streams, &format!("cannot forward the display: {error}")).await;
                return End::status(1, format!("x11: {error}"));
            }
        },
        None => None,
    };
    let (environment, client) = (&environment, said.variables);
    let setting = Setting { server, environment, start, inside, client, extra };
    let result = match &start.pty {
        Some(pty) => setting.on_terminal(pty, &mut streams, control).await,
        None => setting.on_pipes(&mut streams, control).await,
    };
    match result {
        Ok(end) => end,
        Err(error) => {
            let text = format!("cannot start the program: {error}");
            failed(start, &mut streams, &text).await
        }
    }
}

/// A session that cannot be set up: the client sees why.
async fn failed(start: &Start, streams: &mut Streams, text: &str) -> End {
    say(start, streams, text).await;
    End::status(SET_UP_FAILED, text)
}

async fn say(start: &Start, streams: &mut Streams, text: &str) {
    let line = format!("coderctl agent: {text}\r\n");
    let stream = if start.pty.is_some() { &mut streams.stdout } else { &mut streams.stderr };
    // A client that is gone needs no words.
    let _ = stream.write_all(line.as_bytes()).await;
}

/// What it takes to start a program.
struct Setting<'a> {
    server: &'a Arc<Shared>,
    environment: &'a Environment,
    start: &'a Start,
    inside: Option<Inside>,
    client: Vec<(OsString, OsString)>,
    extra: Vec<(&'static str, OsString)>,
}

impl Setting<'_> {
    /// The program, without streams.
    fn command(self) -> Command {
        let Self { environment, start, client, extra, .. } = self;
        let Some(inside) = self.inside else {
            return command::command(environment, start, client, extra);
        };
        let text = match &start.program {
            Program::Exec(text) => OsStr::from_bytes(text),
            Program::Shell | Program::Subsystem(_) => OsStr::new(""),
        };
        // The sockets are out here, and so is the terminal's name.
        let term = extra.into_iter().filter(|(name, _)| *name == "TERM");
        let variables = client.into_iter().chain(term.map(|(name, value)| (name.into(), value)));
        inside.command(environment, text, start.pty.is_some(), variables)
    }

    async fn on_terminal(
        mut self,
        pty: &Pty,
        streams: &mut Streams,
        control: &mut Control,
    ) -> io::Result<End> {
        let terminal = Terminal::open(size(pty.cols, pty.rows))?;
        terminal.set_modes(|attributes| modes::apply(&pty.modes, attributes))?;
        self.extra.push(("TERM", pty.term.clone().into()));
        self.extra.push(("SSH_TTY", terminal.name().into()));
        if command::is_login(&self.start.program) && self.inside.is_none() {
            let greeting = self.environment.greeting().await;
            streams.stdout.write_all(greeting.as_bytes()).await?;
        }
        let server = self.server;
        let pty::Attached { mut input, mut output, control: resizer, child } =
            terminal.spawn(self.command())?;
        let process = Process::keep(child, server, Fate::Ends);
        let Streams { stdin, stdout, .. } = streams;
        let typed = async {
            // A terminal has no end of input; what cannot be typed any more is dropped.
            let _ = carry(stdin, &mut input).await;
            std::future::pending::<()>().await
        };
        Ok(tokio::select! {
            // What is typed after a change of size is for a terminal of that size.
            biased;
            end = follow(control, &process, |cols, rows| resizer.resize(size(cols, rows))) => end,
            exit = shown(&mut output, stdout, &process) => End::exit(exit),
            () = typed => End::without_exit(""),
        })
    }

    async fn on_pipes(self, streams: &mut Streams, control: &mut Control) -> io::Result<End> {
        let server = self.server;
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(command)?;
        let (input, output, errors) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let process = Process::keep(child, server, Fate::GoesOn);
        let (Some(mut input), Some(mut output), Some(mut errors)) = (input, output, errors) else {
            return Err(io::Error::other("the program has no streams"));
        };
        let Streams { stdin, stdout, stderr } = streams;
        let typed = async {
            // It may close its input at any time, and the client need not know.
            let _ = carry(stdin, &mut input).await;
            drop(input);
            let _ = copy(stdin, &mut sink()).await;
            std::future::pending::<()>().await
        };
        let shown = async {
            let ends = tokio::join!(carry(&mut output, stdout), carry(&mut errors, stderr));
            if let (Err(error), _) | (_, Err(error)) = ends {
                tracing::debug!(%error, "output of a program");
            }
            process.exit().await
        };
        Ok(tokio::select! {
            end = follow(control, &process, |_, _| Ok(())) => end,
            exit = shown => End::exit(exit),
            () = typed => End::without_exit(""),
        })
    }
}

fn size(cols: u32, rows: u32) -> Size {
    let fit = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Size { cols: fit(cols), rows: fit(rows) }
}

/// Carries bytes until they end.
async fn carry<R, W>(from: &mut R, to: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

/// Carries what a terminal shows, until all have closed it or its program has ended and nothing
/// more comes: how the program ended.
async fn shown(output: &mut pty::Output, stdout: &mut Writer, process: &Process) -> Exit {
    let mut buffer = vec![0; BUFFER];
    let mut exit = std::pin::pin!(process.exit());
    let mut ended = None;
    let mut rest = REST;
    while rest > 0 {
        let count = if ended.is_none() {
            tokio::select! {
                read = output.read(&mut buffer) => read,
                exit = &mut exit => {
                    ended = Some(exit);
                    continue;
                }
            }
        } else {
            timeout(QUIET, output.read(&mut buffer)).await.unwrap_or(Ok(0))
        };
        let Ok(count @ 1..) = count else { break };
        if stdout.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        if ended.is_some() {
            rest = rest.saturating_sub(count);
        }
    }
    match ended {
        Some(exit) => exit,
        None => exit.await,
    }
}

/// Passes on what the client says meanwhile, until it goes.
async fn follow(
    control: &mut Control,
    process: &Process,
    resize: impl Fn(u32, u32) -> io::Result<()>,
) -> End {
    while let Some(change) = control.changed().await {
        match change {
            Change::Size(cols, rows) => {
                if let Err(error) = resize(cols, rows) {
                    tracing::debug!(%error, cols, rows, "a terminal takes no size");
                }
            }
            Change::Signal(name) => process.signal(process::signal_of(&name)).await,
        }
    }
    End::without_exit("the client went away")
}

async fn gone(control: &mut Control) -> End {
    while control.changed().await.is_some() {}
    End::without_exit("the client went away")
}

impl Environment {
    /// What a login shell on a terminal begins with.
    async fn greeting(&self) -> String {
        let session = self.session();
        let motd = banner::message_of_the_day(&session.motd_file, &self.home()).await;
        banner::announcements(&session.banners) + &motd
    }
}

/// Tells the observer of a session, also of one whose task is cut off.
struct Report {
    observer: Arc<dyn SessionObserver>,
    connection: Connection,
    ended: bool,
}

impl Report {
    fn begin(observer: Arc<dyn SessionObserver>, kind: SessionKind, peer: SocketAddr) -> Self {
        let connection = Connection { id: Uuid::new_v4(), kind, peer };
        observer.connected(connection);
        Self { observer, connection, ended: false }
    }

    fn end(mut self, end: End) {
        self.ended = true;
        self.observer.disconnected(self.connection, end.code, &end.reason);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.ended {
            self.observer.disconnected(self.connection, 1, "the session was cut off");
        }
    }
}
