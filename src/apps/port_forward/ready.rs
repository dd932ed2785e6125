//! Whether everything stands, and what is said about that.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    report::{self, Forwarded},
    reverse::{Reverse, Word},
    way::Way,
};
use crate::{apps::Tunnel, ui::Ui};

/// Whether everything stands.
pub(super) struct Ready {
    pub(super) ways: watch::Sender<Option<Arc<Way>>>,
    /// Ways so far.
    pub(super) count: u64,
    /// Whether the listeners in the workspace stand; they do where there are none.
    pub(super) reverse_up: bool,
    /// Whether the remote ends have answered; they need not where nobody asked for that.
    pub(super) answered: bool,
    /// All that is known of the forwards.
    pub(super) forwards: Vec<Forwarded>,
    /// Whether a session tells how the tunnel is.
    pub(super) beside: bool,
    /// Whether nothing is said of listeners.
    pub(super) silent: bool,
    pub(super) was: Was,
}

/// What a turn brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Everything stands for the first time.
    Ready,
    /// Nothing that anybody waits for.
    Other,
}

/// Whether everything stands, or stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    Never,
    Now,
    Before,
}

impl Ready {
    pub(super) fn attach(&mut self, tunnel: Option<Arc<dyn Tunnel>>) {
        self.count += 1;
        self.ways.send_replace(tunnel.map(|tunnel| Arc::new(Way::new(self.count, tunnel))));
    }

    /// A word about the listeners in the workspace; one about an earlier way comes too late. With
    /// the tunnel, whose loss is told by others, they are lost anyway.
    pub(super) fn heard(&mut self, word: Word, tunnel_stands: bool, ui: &Ui) {
        match word {
            Word::Up(way, forwards) if way == self.count => {
                self.reverse_up = true;
                if self.was == Was::Never {
                    self.forwards.extend(report::reverse(&forwards));
                    for Reverse { listen, to } in forwards.iter().filter(|_| !self.silent) {
                        ui.line(format_args!(
                            "Forwarding '{}' in the workspace to '{}' locally",
                            listen.url(),
                            to.url()
                        ));
                    }
                }
            }
            Word::Down(way, why) if way == self.count => {
                self.reverse_up = false;
                if tunnel_stands {
                    ui.warn(format_args!(
                        "the listeners in the workspace are lost ({why}); asking for them again"
                    ));
                }
            }
            Word::Up(..) | Word::Down(..) | Word::Failed(_) => {}
        }
    }

    /// Says what changed.
    pub(super) fn turn(&mut self, ui: &Ui) -> Turn {
        let up = self.ways.borrow().is_some() && self.reverse_up && self.answered;
        let mut turn = Turn::Other;
        self.was = match (self.was, up) {
            (Was::Never, false) => Was::Never,
            (Was::Never, true) => {
                if !self.beside {
                    ui.line("Ready!");
                }
                turn = Turn::Ready;
                Was::Now
            }
            (Was::Now, true) => Was::Now,
            (Was::Now | Was::Before, false) => Was::Before,
            (Was::Before, true) => {
                ui.line("Ready again");
                Was::Now
            }
        };
        turn
    }

    /// What programs are told.
    pub(super) fn line(&self, workspace: &str) -> String {
        let forwards = &self.forwards;
        let version = report::VERSION;
        report::json(&report::Ready { version, event: "ready", workspace, forwards })
    }
}
