//! `ssh --session NAME`: a terminal in the workspace that lives on when its client goes.
//!
//! It is the agent's reconnecting terminal (coder/coder: agent/reconnectingpty, codersdk/
//! workspacesdk/agentconn.go): port 2 of the tunnel takes a length and what is wanted as JSON, then
//! keys and sizes as JSON, and gives what the terminal shows. Whoever names the same id comes back to
//! the same terminal, and is shown the last of it again.
//!
//! Here it comes back by itself, over every tunnel that follows a lost one. The protocol says no more
//! of the end than that there is one. The agent of this repository is asked how the program ended
//! (`GET /api/v0/terminals/ID`): its status is passed on, and what has ended while the connection was
//! lost is not begun again. Where another agent runs, the status is 0, and who ran a command is told
//! that it may not be its own.

mod fate;
mod keys;

use std::{future::Future, io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use self::{
    fate::{Fate, fate},
    keys::{Keys, Typed},
};
use super::{
    asked, attached,
    carry::{Terminal, unwritable},
    detached, ended_by,
    escape::Escapes,
};
use crate::{
    apps::{
        Context, End, Event, Stream, Tunnel,
        containers::Container,
        local::{Local, Streams},
        streamed::OnStreams,
        terminal,
    },
    error::{CommandError, Kind},
    signal::Signal,
    ui::Ui,
};

/// The agent's port for terminals (coder/coder: `AgentReconnectingPTYPort`).
const PORT: u16 = 2;

/// How long the agent may take to be connected to.
const DIAL: Duration = Duration::from_secs(30);

/// Pauses before a connection that broke over a tunnel that stands is made again, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Longest text in one message, in bytes: upstream's agent reads a message at once, and what is
/// longer than a packet of the tunnel comes in two.
const PIECE: usize = 512;

/// Clears the screen, before what it showed is shown again.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";

/// A terminal that can be come back to.
#[derive(Debug)]
pub struct Resumable {
    name: String,
    id: Uuid,
    command: String,
    escape: Option<u8>,
    container: Option<Container>,
}

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session's name is 1 to 16 letters, digits, dots, dashes or underscores, or a UUID")]
pub struct NameError;

/// The id of a name: the name itself, so that who lists ids can tell the names.
fn id(name: &str) -> Result<Uuid, NameError> {
    if let Ok(id) = Uuid::try_parse(name) {
        return Ok(id);
    }
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if name.is_empty() || !name.bytes().all(fine) {
        return Err(NameError);
    }
    let mut bytes = [0; 16];
    bytes.get_mut(..name.len()).ok_or(NameError)?.copy_from_slice(name.as_bytes());
    Ok(Uuid::from_bytes(bytes))
}

/// The name of an id, which leads back to it: the id itself where it is no other name's.
#[must_use]
pub fn name(of: Uuid) -> String {
    let text = String::from_utf8_lossy(of.as_bytes());
    let text = text.trim_end_matches('\0');
    if id(text) == Ok(of) { text.to_owned() } else { of.to_string() }
}

impl Resumable {
    /// The terminal of this name; where there is none, one with this command, or a login shell.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn new(name: &str, command: String, escape: Option<u8>) -> Result<Self, NameError> {
        Ok(Self { name: name.to_owned(), id: id(name)?, command, escape, container: None })
    }

    /// Begins in this container of the workspace.
    #[must_use]
    pub fn in_container(mut self, container: Option<Container>) -> Self {
        self.container = container;
        self
    }
}

impl OnStreams for Resumable {
    fn run(self, streams: Streams, context: Context) -> impl Future<Output = End> + Send {
        run(self, streams, context)
    }
}

/// How a session begins. The keys are upstream's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Init<'a> {
    #[serde(rename = "ID")]
    id: Uuid,
    height: u16,
    width: u16,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(rename = "ContainerUser", skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

/// What is said then.
#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Keys { data: &'a str },
    Size { height: u16, width: u16 },
}

/// The local terminal's size: rows and columns.
fn size() -> (u16, u16) {
    let (cols, rows) = terminal::size();
    let fits = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    (fits(rows), fits(cols))
}

async fn run(app: Resumable, streams: Streams, context: Context) -> End {
    let Context { tunnel, close, signals, events, ui } = context;
    let suspended = ui.suspend();
    let terminal = match Terminal::enter(true) {
        Ok(terminal) => terminal,
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot take over the terminal");
            return End::Failed(CommandError::new(Kind::Local, error));
        }
    };
    let escapes = app.escape.filter(|_| terminal.is_raw()).map(Escapes::new);
    // A script waits for its command, whatever its own input is.
    let stays = !app.command.is_empty() && !terminal.is_raw();
    let mut here = Here {
        tunnel,
        close,
        signals,
        keys: Keys::new(streams.stdin, escapes, stays),
        stdout: streams.stdout,
        terminal,
        ui: ui.clone(),
    };
    let end = here.keep(&app, &events).await;
    // Before anything more is said.
    drop(here);
    drop(suspended);
    match end {
        Over::Ended(Some(code)) => End::Done(code),
        Over::Ended(None) => {
            if !app.command.is_empty() {
                ui.warn(
                    "the command has ended; this workspace's agent does not tell how, so the exit \
                     code is 0",
                );
            }
            End::Done(0)
        }
        Over::Left => {
            let name = &app.name;
            ui.line(format_args!("left the session; it goes on for a while: --session {name}"));
            End::Done(0)
        }
        Over::Signal(signal) => End::Done(ended_by(signal)),
        Over::Failed(error) => End::Failed(error),
        Over::Unwritable(error) => unwritable(error),
    }
}

/// Why it is over.
enum Over {
    /// The terminal's program has ended, with this exit code where the agent tells it.
    Ended(Option<u8>),
    /// It goes on without us.
    Left,
    Signal(Signal),
    Failed(CommandError),
    Unwritable(io::Error),
}

/// Our side of it.
struct Here {
    tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    close: watch::Receiver<bool>,
    signals: mpsc::Receiver<Signal>,
    keys: Keys,
    stdout: Local,
    terminal: Terminal,
    ui: Ui,
}

impl Here {
    /// Connects again and again, until it is over.
    async fn keep(&mut self, app: &Resumable, events: &mpsc::UnboundedSender<Event>) -> Over {
        let (mut before, mut pause) = (false, FIRST_PAUSE);
        loop {
            let connected = tokio::select! {
                connected = connect(&mut self.tunnel, app, !before) => connected,
                over = interrupted(&mut self.close, &mut self.signals, &mut self.keys, &self.ui) => {
                    return over;
                }
            };
            let mut stream = match connected {
                Ok(Connected::Stream(stream)) => stream,
                Ok(Connected::TooLate(code)) => return Over::Ended(Some(code)),
                Err(error) if !before => return Over::Failed(error),
                Err(error) => {
                    tracing::debug!(%error, "the session's terminal");
                    tokio::select! {
                        () = sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
                        over = interrupted(
                            &mut self.close, &mut self.signals, &mut self.keys, &self.ui,
                        ) => return over,
                    }
                    continue;
                }
            };
            if before && let Err(error) = self.stdout.write_all(CLEAR).await {
                return Over::Unwritable(error);
            }
            before = true;
            // The driver may be gone, and with it the one who listens.
            let _ = events.send(Event::Up);
            let _ = events.send(Event::Opened);
            let over = match self.carry(&mut *stream).await {
                Some(Over::Ended(_)) => self.how_it_ended(app.id).await,
                over => over,
            };
            let _ = events.send(Event::Closed);
            match over {
                Some(over) => return over,
                None => self.ui.line("connection lost, coming back to the session"),
            }
            pause = FIRST_PAUSE;
        }
    }

    /// What the end of a connection was. `None` is its loss: the program runs, or its agent is gone
    /// as well.
    async fn how_it_ended(&mut self, id: Uuid) -> Option<Over> {
        let now = self.tunnel.borrow().clone()?;
        tokio::select! {
            fate = fate(&*now, id) => match fate {
                Ok(Fate::Runs) => None,
                Ok(Fate::Ended(code)) => Some(Over::Ended(Some(code))),
                Ok(Fate::Unknown) => Some(Over::Ended(None)),
                Err(error) => {
                    tracing::debug!(%error, "the end of the session");
                    None
                }
            },
            () = asked(&mut self.close) => Some(Over::Left),
            Some(signal) = self.signals.recv() => Some(Over::Signal(signal)),
            () = detached(&mut self.tunnel) => None,
        }
    }

    /// Carries one connection. `None` is its loss.
    async fn carry(&mut self, stream: &mut dyn Stream) -> Option<Over> {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut shown = vec![0; 16 * 1024];
        loop {
            let said = tokio::select! {
                read = from.read(&mut shown) => match read {
                    Ok(0) => return Some(Over::Ended(None)),
                    Ok(count) => {
                        let written = async {
                            self.stdout.write_all(&shown[..count]).await?;
                            self.stdout.flush().await
                        };
                        if let Err(error) = written.await {
                            return Some(Over::Unwritable(error));
                        }
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the session's terminal");
                        return None;
                    }
                },
                change = self.terminal.change() => {
                    self.terminal.settle(change);
                    let (height, width) = size();
                    encode(&Message::Size { height, width })
                }
                typed = self.keys.next() => match typed {
                    Typed::Text(text) => pieces(&text),
                    Typed::Help => {
                        self.keys.help(&self.ui);
                        continue;
                    }
                    Typed::Leave => return Some(Over::Left),
                },
                () = asked(&mut self.close) => return Some(Over::Left),
                Some(signal) = self.signals.recv() => return Some(Over::Signal(signal)),
                () = detached(&mut self.tunnel) => return None,
            };
            if let Err(error) = to.write_all(&said).await {
                tracing::debug!(%error, "the session's terminal");
                return None;
            }
        }
    }
}

/// What ends it while there is no connection. Keys that are typed meanwhile are lost, but for
/// escapes.
async fn interrupted(
    close: &mut watch::Receiver<bool>,
    signals: &mut mpsc::Receiver<Signal>,
    keys: &mut Keys,
    ui: &Ui,
) -> Over {
    loop {
        tokio::select! {
            () = asked(close) => return Over::Left,
            Some(signal) = signals.recv() => return Over::Signal(signal),
            // What is typed ahead into a pipe waits.
            typed = keys.next(), if keys.has_escapes() => match typed {
                Typed::Text(_) => {}
                Typed::Help => keys.help(ui),
                Typed::Leave => return Over::Left,
            },
        }
    }
}

/// What comes of connecting.
enum Connected {
    Stream(Box<dyn Stream>),
    /// The program has ended meanwhile, with this exit code.
    TooLate(u8),
}

/// Waits for a tunnel, and connects to the terminal through it. At first its container is looked
/// for; the terminal may outlive it. Later it is asked whether there still is something to come back
/// to: whoever names an id that is free begins anew.
async fn connect(
    tunnel: &mut watch::Receiver<Option<Arc<dyn Tunnel>>>,
    app: &Resumable,
    at_first: bool,
) -> Result<Connected, CommandError> {
    let now = attached(tunnel).await?;
    if !at_first && let Fate::Ended(code) = fate(&*now, app.id).await? {
        return Ok(Connected::TooLate(code));
    }
    if let Some(container) = app.container.as_ref().filter(|_| at_first) {
        container.find(&*now).await?;
    }
    let failed = |error: io::Error| {
        let kind = match error.kind() == io::ErrorKind::ConnectionRefused {
            true => Kind::Remote,
            false => Kind::Tunnel,
        };
        let what = "cannot reach the agent's terminals";
        CommandError::new(kind, anyhow::Error::new(error).context(what)).hint(super::BUSY)
    };
    let dialled = timeout(DIAL, now.dial(PORT)).await.map_err(io::Error::from).flatten();
    let mut stream = dialled.map_err(failed)?;
    let (height, width) = size();
    let container = app.container.as_ref();
    let init = Init {
        id: app.id,
        height,
        width,
        command: &app.command,
        container: container.map(|container| container.name.as_str()),
        user: container.and_then(|container| container.user.as_deref()),
    };
    let init = serde_json::to_vec(&init).map_err(io::Error::from).map_err(failed)?;
    let length = u16::try_from(init.len()).map_err(|_| {
        CommandError::msg(Kind::Usage, "the command is too long for a session's terminal")
    })?;
    // All at once, since upstream's agent reads it so. A size that changes has programs draw anew.
    let mut first = length.to_le_bytes().to_vec();
    first.extend(init);
    stream.write_all(&first).await.map_err(failed)?;
    for height in [height.saturating_sub(1).max(1), height] {
        stream.write_all(&encode(&Message::Size { height, width })).await.map_err(failed)?;
    }
    Ok(Connected::Stream(stream))
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    // Strings and numbers only: there is nothing that could fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Text in messages that upstream's agent reads whole.
fn pieces(mut text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    while !text.is_empty() {
        let end = text.floor_char_boundary(PIECE);
        let (head, rest) = text.split_at(end);
        out.extend(encode(&Message::Keys { data: head }));
        text = rest;
    }
    out
}

#[cfg(test)]
mod tests;
