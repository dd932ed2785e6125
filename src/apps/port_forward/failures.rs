//! Failed dials, told without flooding.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::ui::Ui;

/// One line per port in this time: a program that retries ten times a second stays readable.
const QUIET: Duration = Duration::from_secs(5);

/// When a failure of each port was last told. Bounded by the number of forwards.
#[derive(Debug, Default)]
pub(super) struct Failures {
    told: Mutex<BTreeMap<u16, Told>>,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    untold: u32,
}

impl Failures {
    /// Says that `port` of the workspace could not be dialled, or counts it for the next time.
    pub(super) fn tell(&self, ui: &Ui, port: u16, error: &io::Error) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = match told.get_mut(&port) {
            Some(told) if now.duration_since(told.last) < QUIET => {
                told.untold = told.untold.saturating_add(1);
                return;
            }
            Some(told) => told.untold,
            None => 0,
        };
        told.insert(port, Told { last: now, untold: 0 });
        drop(told);
        let more = if untold == 0 { String::new() } else { format!(" ({untold} more before)") };
        ui.line(format_args!(
            "Failed to dial 'tcp://127.0.0.1:{port}' in workspace: {error}{more}"
        ));
    }
}
