//! Something whose progress can be counted in bytes.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{Ui, events::Event, stage::TURN};

/// How often events tell of it: about as often as somebody looks.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A bar on a terminal, with the rate and the time that is left; events, where those are wanted;
/// nothing elsewhere. It goes when it is dropped.
#[derive(Debug)]
pub struct Bar {
    ui: Ui,
    step: String,
    shown: Option<ProgressBar>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    done: u64,
    total: u64,
    told: Option<Instant>,
}

impl Bar {
    pub(super) fn begin(ui: &Ui, step: String) -> Self {
        let shown = ui.inner.live.then(|| {
            let bar = ui.inner.bars.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template(
                "{spinner} {msg} [{bar:24}] {binary_bytes}/{binary_total_bytes} \
                 {binary_bytes_per_sec}, {eta} left",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(step.clone());
            bar.enable_steady_tick(TURN);
            bar
        });
        Self { ui: ui.clone(), step, shown, now: Mutex::default() }
    }

    /// So many more bytes are to come.
    pub fn expect(&self, bytes: u64) {
        let mut now = self.now();
        now.total = now.total.saturating_add(bytes);
        if let Some(bar) = &self.shown {
            bar.set_length(now.total);
        }
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        let mut now = self.now();
        now.done = now.done.saturating_add(bytes);
        if let Some(bar) = &self.shown {
            bar.set_position(now.done);
        }
        if now.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            now.told = Some(Instant::now());
            self.tell(&now);
        }
    }

    fn tell(&self, now: &Now) {
        let (step, done, total) = (&self.step, now.done, now.total);
        self.ui.tell(&Event::Progress { step, done, total });
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.tell(&self.now());
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// An amount of bytes for people: `1.50 MiB`.
#[must_use]
pub fn amount(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
