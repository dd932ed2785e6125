//! Failed dials, told without flooding.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::ui::Ui;

/// One line per place in this time: a program that retries ten times a second stays readable.
const QUIET: Duration = Duration::from_secs(5);

/// Places that are remembered at once; with SOCKS there is no end of them.
const MOST: usize = 1024;

/// When a failure of each place was last told.
#[derive(Debug, Default)]
pub(super) struct Failures {
    told: Mutex<BTreeMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    untold: u32,
}

impl Failures {
    /// Says that a place (as a URL, and on which side) could not be reached, or counts it for the
    /// next time.
    pub(super) fn tell(&self, ui: &Ui, place: &str, error: &io::Error) {
        let now = Instant::now();
        let is_recent = |told: &Told| now.duration_since(told.last) < QUIET;
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = match all.get_mut(place) {
            Some(told) if is_recent(told) => {
                told.untold = told.untold.saturating_add(1);
                return;
            }
            Some(told) => told.untold,
            None => 0,
        };
        if all.len() >= MOST {
            all.retain(|_, told| is_recent(told));
        }
        if all.len() >= MOST {
            return;
        }
        all.insert(place.to_owned(), Told { last: now, untold: 0 });
        drop(all);
        let more = if untold == 0 { String::new() } else { format!(" ({untold} more before)") };
        ui.line(format_args!("Failed to dial {place}: {error}{more}"));
    }
}
