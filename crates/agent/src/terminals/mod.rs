//! Reconnecting terminals, the web terminal's other side (`agent/reconnectingpty`).
//!
//! A terminal lives on when its clients go, for a while, and whoever names its id comes back to
//! it: to its last 64 KiB, and to everything from then on. Several may look at one terminal and
//! type into it. Upstream has a second kind, around `screen`; here all are of this kind, whichever
//! the client asks for.

mod protocol;
mod screen;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use uuid::Uuid;

use self::{
    protocol::{Init, Messages},
    screen::{Piece, Screen, Viewer},
};
use crate::{
    containers::Inside,
    environment::Environment,
    pty::{Attached, Control, Input, Size, Terminal as Pty},
    sessions::Sessions,
};

/// How long a terminal lives without anybody (`agent/agent.go`, `reconnectingPTYTimeout`).
const IDLE: Duration = Duration::from_secs(5 * 60);

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client may take nothing before it is given up, so that it does not hold up others.
const STUCK: Duration = Duration::from_secs(30);

/// Terminals at a time.
const MAX_TERMINALS: usize = 256;

/// Of so many terminals it is known how they ended, the last ones that began.
const REMEMBERED: usize = 2 * MAX_TERMINALS;

/// How long it may take from the end of what a program shows to its own.
const ENDING: Duration = Duration::from_secs(5);

/// Bytes read from a terminal, or written to a client, at once.
const CHUNK: usize = 16 * 1024;

/// All terminals of an agent.
pub(crate) struct Terminals {
    environment: watch::Receiver<Option<Environment>>,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<Uuid, Arc<Terminal>>,
    /// How those that began last have ended; `None` while they run.
    ends: VecDeque<(Uuid, watch::Receiver<Option<i32>>)>,
    programs: JoinSet<()>,
    closed: bool,
}

/// One terminal, as its viewers know it.
struct Terminal {
    /// Empty for a login shell.
    command: String,
    created_at: Timestamp,
    screen: Mutex<Screen>,
    /// Something was shown, seen, or is over.
    changed: Notify,
    input: tokio::sync::Mutex<Input>,
    control: Control,
}

/// A terminal, as those are told who could come back to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    id: Uuid,
    /// Empty for a login shell.
    command: String,
    created_at: Timestamp,
    /// Clients that look at it.
    attached: usize,
}

/// How a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    running: bool,
    /// As a shell tells it; none while it runs, or where the system does not say.
    exit_code: Option<i32>,
}

impl Terminals {
    pub(crate) fn new(
        environment: watch::Receiver<Option<Environment>>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self { environment, sessions, state: Mutex::default() }
    }

    /// Serves one client to its end.
    pub(crate) async fn serve<S>(self: &Arc<Self>, mut stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let _session = self.sessions.terminal(peer.ip());
        if let Err(error) = self.attach(&mut stream).await {
            tracing::debug!(%peer, %error, "a terminal's client has gone");
        }
        // It may have gone already.
        let _ = stream.shutdown().await;
    }

    /// All terminals whose programs run.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let state = self.lock();
        let listed = |(id, terminal): (&Uuid, &Arc<Terminal>)| {
            let screen = terminal.screen();
            (!screen.has_ended()).then(|| Listed {
                id: *id,
                command: terminal.command.clone(),
                created_at: terminal.created_at,
                attached: screen.viewers(),
            })
        };
        state.open.iter().filter_map(listed).collect()
    }

    /// How one of them is, or has ended; `None` for one that is not known.
    pub(crate) async fn status(&self, id: Uuid) -> Option<Status> {
        let (running, mut end) = {
            let state = self.lock();
            let running = state.open.get(&id).is_some_and(|one| !one.screen().has_ended());
            let (_, end) = state.ends.iter().find(|(known, _)| *known == id)?;
            (running, end.clone())
        };
        if running {
            return Some(Status { running, exit_code: None });
        }
        // Viewers hear of the end a moment before the system does.
        let exit_code = match timeout(ENDING, end.wait_for(Option::is_some)).await {
            Ok(Ok(code)) => *code,
            Ok(Err(_)) | Err(_) => None,
        };
        Some(Status { running, exit_code })
    }

    /// Ends all terminals; no new ones can be opened.
    pub(crate) async fn close(&self) {
        let mut programs = {
            let mut state = self.lock();
            state.closed = true;
            state.open.clear();
            std::mem::take(&mut state.programs)
        };
        programs.shutdown().await;
    }

    async fn attach<S>(self: &Arc<Self>, stream: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let init = timeout(PATIENCE, read_init(stream)).await??;
        let terminal = match self.find_or_begin(&init).await {
            Ok(terminal) => terminal,
            Err(error) => {
                // The client shows what it gets, and knows no other way to hear of it.
                stream.write_all(format!("{error}\r\n").as_bytes()).await?;
                return Err(error);
            }
        };
        terminal.resize(init.height, init.width);
        let viewer = Watching::begin(&terminal);
        let (mut from, mut to) = tokio::io::split(stream);
        tokio::select! {
            result = show(&terminal, viewer.id, &mut to) => result,
            result = type_in(&terminal, &mut from) => result,
        }
    }

    async fn find_or_begin(self: &Arc<Self>, init: &Init) -> io::Result<Arc<Terminal>> {
        let is_open = self.lock().open.get(&init.id).is_some_and(|one| !one.screen().has_ended());
        let inside = match init.container.as_str() {
            container if !container.is_empty() && !is_open => {
                let environment = self.environment()?;
                let inside = Inside::enter(&environment, container, &init.user).await;
                Some(inside.map_err(io::Error::other)?)
            }
            _ => None,
        };
        self.find_or_open(init, inside.as_ref())
    }

    fn environment(&self) -> io::Result<Environment> {
        let environment = self.environment.borrow().clone();
        environment.ok_or_else(|| io::Error::other("the agent is not set up yet"))
    }

    fn find_or_open(
        self: &Arc<Self>,
        init: &Init,
        inside: Option<&Inside>,
    ) -> io::Result<Arc<Terminal>> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::Error::other("the workspace is shutting down"));
        }
        if let Some(terminal) = state.open.get(&init.id)
            && !terminal.screen().has_ended()
        {
            return Ok(Arc::clone(terminal));
        }
        if state.open.len() >= MAX_TERMINALS {
            return Err(io::Error::other(format!("there are {MAX_TERMINALS} terminals already")));
        }
        let environment = self.environment()?;
        let pty = Pty::open(size(init.height, init.width).unwrap_or(DEFAULT_SIZE))?;
        let Attached { input, output, control, child } =
            pty.spawn(command(&environment, init, inside))?;
        let terminal = Arc::new(Terminal {
            command: init.command.clone(),
            created_at: Timestamp::now(),
            screen: Mutex::default(),
            changed: Notify::new(),
            input: tokio::sync::Mutex::new(input),
            control,
        });
        state.open.insert(init.id, Arc::clone(&terminal));
        let (told, end) = watch::channel(None);
        state.ends.retain(|(known, _)| *known != init.id);
        state.ends.push_back((init.id, end));
        if state.ends.len() > REMEMBERED {
            state.ends.pop_front();
        }
        // Those that have ended leave no more than this behind.
        while state.programs.try_join_next().is_some() {}
        let program = Program { _group: Group::of(&child), child };
        let (all, id) = (Arc::downgrade(self), init.id);
        let running = Arc::clone(&terminal);
        state.programs.spawn(
            async move {
                // Nobody may want to know.
                let _ = told.send(run(&running, output, program).await);
                forget(&all, id, &running);
            }
            .boxed(),
        );
        Ok(terminal)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size of a terminal whose client does not say one.
const DEFAULT_SIZE: Size = Size { cols: 80, rows: 24 };

fn size(height: u16, width: u16) -> Option<Size> {
    (height > 0 && width > 0).then_some(Size { cols: width, rows: height })
}

fn forget(all: &Weak<Terminals>, id: Uuid, ended: &Arc<Terminal>) {
    let Some(all) = all.upgrade() else { return };
    let mut state = all.lock();
    // A successor may have its id.
    if state.open.get(&id).is_some_and(|open| Arc::ptr_eq(open, ended)) {
        state.open.remove(&id);
    }
}

/// What runs in a terminal.
fn command(environment: &Environment, init: &Init, inside: Option<&Inside>) -> Command {
    const TERM: (&str, &str) = ("TERM", "xterm-256color");
    if let Some(inside) = inside {
        let term = [(TERM.0.into(), TERM.1.into())];
        let mut command = inside.command(environment, init.command.as_ref(), true, term);
        command.kill_on_drop(true);
        return command;
    }
    let mut command = if init.command.is_empty() {
        let mut command = Command::new(environment.shell());
        command.arg("-l");
        environment.equip(&mut command);
        command
    } else {
        environment.command(&init.command)
    };
    command.env(TERM.0, TERM.1);
    let variables = environment.variables();
    let locale = |name: &str| {
        let value = variables.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str());
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    if needs_utf8(locale) {
        command.env("LC_CTYPE", "C.UTF-8");
    }
    command.kill_on_drop(true);
    command
}

/// Whether the locale would garble what the client sends, which is UTF-8, and may be set right.
fn needs_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    if variable("LC_ALL").is_some() {
        return false;
    }
    let locale = variable("LC_CTYPE").or_else(|| variable("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    !locale.contains("utf-8") && !locale.contains("utf8")
}

/// A terminal's program, killed with its whole session when dropped.
struct Program {
    child: Child,
    _group: Group,
}

struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Its leader has not been waited for, so the number is still its own.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Shows what the program writes until it ends, or nobody has looked for too long. With which
/// status it ended, as a shell tells it.
async fn run(terminal: &Terminal, mut output: crate::pty::Output, program: Program) -> Option<i32> {
    let mut chunk = vec![0; CHUNK];
    let mut watched = Instant::now();
    loop {
        let changed = terminal.changed.notified();
        let (room, alone) = {
            let screen = terminal.screen();
            (screen.has_room(), screen.viewers() == 0)
        };
        if !alone {
            watched = Instant::now();
        }
        tokio::select! {
            read = output.read(&mut chunk), if room => match read {
                Ok(count) if count > 0 => {
                    terminal.screen().show(&chunk[..count]);
                    terminal.changed.notify_waiters();
                }
                Ok(_) | Err(_) => break,
            },
            () = tokio::time::sleep_until(watched + IDLE), if alone => {
                tracing::debug!("a terminal without clients ends");
                break;
            }
            () = changed => {}
        }
    }
    terminal.screen().end();
    terminal.changed.notify_waiters();
    let Program { mut child, _group } = program;
    drop(_group);
    match child.wait().await {
        Ok(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)),
        Err(error) => {
            tracing::debug!(%error, "a terminal's program cannot be waited for");
            None
        }
    }
}

impl Terminal {
    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self, height: u16, width: u16) {
        if let Some(size) = size(height, width)
            && let Err(error) = self.control.resize(size)
        {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    }
}

/// A viewer, until it is dropped.
struct Watching<'a> {
    terminal: &'a Terminal,
    id: Viewer,
}

impl<'a> Watching<'a> {
    fn begin(terminal: &'a Terminal) -> Self {
        let id = terminal.screen().attach();
        terminal.changed.notify_waiters();
        Self { terminal, id }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.terminal.screen().detach(self.id);
        self.terminal.changed.notify_waiters();
    }
}

/// Two bytes of length, least significant first, and that many bytes of JSON.
async fn read_init(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Init> {
    let length = stream.read_u16_le().await?;
    let mut text = vec![0; length.into()];
    stream.read_exact(&mut text).await?;
    Init::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Passes on what is shown.
async fn show(
    terminal: &Terminal,
    viewer: Viewer,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let changed = terminal.changed.notified();
        let piece = terminal.screen().take(viewer, CHUNK);
        match piece {
            Piece::Data(data) => {
                terminal.changed.notify_waiters();
                timeout(STUCK, to.write_all(&data)).await??;
            }
            Piece::Wait => {
                to.flush().await?;
                changed.await;
            }
            Piece::End => return to.flush().await,
        }
    }
}

/// Passes on what is typed.
async fn type_in(terminal: &Terminal, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let (mut messages, mut chunk) = (Messages::default(), vec![0; CHUNK]);
    loop {
        let count = from.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        let parsed = messages.push(&chunk[..count]);
        for message in parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            terminal.resize(message.height, message.width);
            if !message.data.is_empty() {
                terminal.input.lock().await.write_all(message.data.as_bytes()).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
