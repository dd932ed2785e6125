//! What is typed into a terminal that the agent keeps.

use tokio::io::AsyncReadExt as _;

use crate::{
    apps::{
        local::Local,
        session::escape::{self, Escapes},
    },
    ui::Ui,
};

/// What is typed.
pub(super) enum Typed {
    Text(String),
    Help,
    /// By an escape, or by the end of input.
    Leave,
}

/// Standard input.
pub(super) struct Keys {
    stdin: Local,
    escapes: Option<Escapes>,
    /// Whether its end is not the end of the session for us.
    stays: bool,
    /// The beginning of a character.
    begun: Vec<u8>,
    typed: Vec<u8>,
}

impl Keys {
    /// Of this stream. It `stays` when its end is not ours.
    pub(super) fn new(stdin: Local, escapes: Option<Escapes>, stays: bool) -> Self {
        Self { stdin, escapes, stays, begun: Vec::new(), typed: Vec::new() }
    }

    /// Whether something that is typed may be meant for us.
    pub(super) fn has_escapes(&self) -> bool {
        self.escapes.is_some()
    }

    /// The next that is typed. Nothing is lost when dropped.
    pub(super) async fn next(&mut self) -> Typed {
        let mut buffer = [0; 4096];
        loop {
            let count = match self.stdin.read(&mut buffer).await {
                Ok(0) if self.stays => std::future::pending().await,
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

    /// Says what can be typed to us.
    pub(super) fn help(&self, ui: &Ui) {
        if let Some(escapes) = &self.escapes {
            ui.line(escapes.help());
        }
    }
}

/// Takes the whole characters off the front; what is none is replaced, since JSON has no bytes.
pub(super) fn whole(bytes: &mut Vec<u8>) -> String {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let unfinished = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    let rest = if unfinished { last.len() } else { 0 };
    let rest = bytes.split_off(bytes.len() - rest);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}
