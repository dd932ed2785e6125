//! `ssh --session NAME`: a terminal in the workspace that lives on when its client goes.
//!
//! It is the agent's reconnecting terminal (coder/coder: agent/reconnectingpty, codersdk/
//! workspacesdk/agentconn.go): port 2 of the tunnel takes a length and what is wanted as JSON, then
//! keys and sizes as JSON, and gives what the terminal shows. Whoever names the same id comes back to
//! the same terminal, and is shown the last of it again.
//!
//! Here it comes back by itself, over every tunnel that follows a lost one. An agent says no more of
//! the end than that there is one, so the status is 0.

use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    asked, attached,
    carry::{Terminal, unwritable},
    detached, ended_by,
    escape::{self, Escapes},
};
use crate::{
    apps::{
        App, BoxFuture, Context, End, Event, Stream, Tunnel,
        local::{self, Local, Streams},
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
    streams: Option<Streams>,
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
        Ok(Self { name: name.to_owned(), id: id(name)?, command, escape, streams: None })
    }

    /// Uses other streams than those of the process.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.streams = Some(streams);
        self
    }
}

impl App for Resumable {
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move { local::prepare(&mut self.streams) })
    }

    fn run(mut self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(async move {
            match local::take(&mut self.streams) {
                Ok(streams) => run(*self, streams, context).await,
                Err(error) => End::Failed(error),
            }
        })
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
    let mut here = Here {
        tunnel,
        close,
        signals,
        keys: Keys { stdin: streams.stdin, escapes, begun: Vec::new(), typed: Vec::new() },
        stdout: streams.stdout,
        terminal,
        ui: ui.clone(),
    };
    let end = here.keep(&app, &events).await;
    // Before anything more is said.
    drop(here);
    drop(suspended);
    match end {
        Over::Ended => End::Done(0),
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
    /// The terminal's program has ended.
    Ended,
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
                connected = connect(&mut self.tunnel, app) => connected,
                over = interrupted(&mut self.close, &mut self.signals, &mut self.keys, &self.ui) => {
                    return over;
                }
            };
            let mut stream = match connected {
                Ok(stream) => stream,
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
            let over = self.carry(&mut *stream).await;
            let _ = events.send(Event::Closed);
            match over {
                Some(over) => return over,
                None => self.ui.line("connection lost, coming back to the session"),
            }
            pause = FIRST_PAUSE;
        }
    }

    /// Carries one connection. `None` is its loss.
    async fn carry(&mut self, stream: &mut dyn Stream) -> Option<Over> {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut shown = vec![0; 16 * 1024];
        loop {
            let said = tokio::select! {
                read = from.read(&mut shown) => match read {
                    Ok(0) => return Some(Over::Ended),
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
            typed = keys.next(), if keys.escapes.is_some() => match typed {
                Typed::Text(_) => {}
                Typed::Help => keys.help(ui),
                Typed::Leave => return Over::Left,
            },
        }
    }
}

/// Waits for a tunnel, and connects to the terminal through it.
async fn connect(
    tunnel: &mut watch::Receiver<Option<Arc<dyn Tunnel>>>,
    app: &Resumable,
) -> Result<Box<dyn Stream>, CommandError> {
    let now = attached(tunnel).await?;
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
    let init = serde_json::to_vec(&Init { id: app.id, height, width, command: &app.command });
    let init = init.map_err(io::Error::from).map_err(failed)?;
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
    Ok(stream)
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

/// What is typed.
enum Typed {
    Text(String),
    Help,
    /// By an escape, or by the end of input.
    Leave,
}

/// Standard input.
struct Keys {
    stdin: Local,
    escapes: Option<Escapes>,
    /// The beginning of a character.
    begun: Vec<u8>,
    typed: Vec<u8>,
}

impl Keys {
    /// The next that is typed. Nothing is lost when dropped.
    async fn next(&mut self) -> Typed {
        let mut buffer = [0; 4096];
        loop {
            let count = match self.stdin.read(&mut buffer).await {
                Ok(0) => return Typed::Leave,
                Ok(count) => count,
                Err(error) => {
                    tracing::debug!(%error, "standard input");
                    return Typed::Leave;
                }
            };
            self.typed.clear();
            let asked = match &mut self.escapes {
                Some(escapes) => escapes.filter(&buffer[..count], &mut self.typed),
                None => {
                    self.typed.extend_from_slice(&buffer[..count]);
                    escape::Asked::Nothing
                }
            };
            match asked {
                escape::Asked::Disconnect => return Typed::Leave,
                escape::Asked::Help => return Typed::Help,
                escape::Asked::Nothing => {}
            }
            self.begun.extend_from_slice(&self.typed);
            let text = whole(&mut self.begun);
            if !text.is_empty() {
                return Typed::Text(text);
            }
        }
    }

    fn help(&self, ui: &Ui) {
        if let Some(escapes) = &self.escapes {
            ui.line(escapes.help());
        }
    }
}

/// Takes the whole characters off the front; what is none is replaced, since JSON has no bytes.
fn whole(bytes: &mut Vec<u8>) -> String {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let unfinished = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    let rest = if unfinished { last.len() } else { 0 };
    let rest = bytes.split_off(bytes.len() - rest);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests;
