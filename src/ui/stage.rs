//! Something that takes a while, told while it lasts.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    Ui,
    events::{Event, Outcome},
};

/// How often a spinner turns: smooth to the eye, nothing to the processor.
pub(super) const TURN: Duration = Duration::from_millis(100);

/// How long something brief stays untold: what is over by then is not worth a flicker.
const PATIENCE: Duration = Duration::from_millis(300);

/// Something that has begun; [`finish`](Stage::finish) or [`fail`](Stage::fail) ends it. A stage
/// that is dropped was broken off and is not told any more.
#[derive(Debug)]
pub struct Stage {
    ui: Ui,
    text: String,
    begun: Instant,
    spinner: Spinner,
    told: bool,
    outcome: Outcome,
}

impl Stage {
    pub(super) fn begin(ui: &Ui, text: String, told: bool) -> Self {
        let spinner = match Handle::try_current() {
            _ if !ui.inner.live => Spinner::None,
            Ok(runtime) if !told => Spinner::later(ui.clone(), text.clone(), &runtime),
            Ok(_) | Err(_) => Spinner::Now(spin(ui, &text)),
        };
        ui.tell(&Event::Began { step: &text });
        if told && !ui.inner.live && !ui.is_quiet() {
            ui.say("", "", &format!("==> {text}"));
        }
        let outcome = Outcome::BrokenOff;
        Self { ui: ui.clone(), text, begun: Instant::now(), spinner, told, outcome }
    }

    /// It is done.
    pub fn finish(self) {
        self.end(Outcome::Done);
    }

    /// It failed; the reason is told by whoever ends the command.
    pub fn fail(self) {
        self.end(Outcome::Failed);
    }

    fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.spinner.clear();
        let (took, step, outcome) = (self.begun.elapsed(), &self.text, self.outcome);
        self.ui.tell(&Event::Ended { step, outcome, seconds: took.as_secs_f64() });
        let mark = match outcome {
            Outcome::Done => "✔",
            Outcome::Failed => "✘",
            Outcome::BrokenOff => return,
        };
        if !self.told {
            self.ui.verbose(step, took);
        } else if !self.ui.is_quiet() {
            self.ui.say("", "", &format!("=== {mark} {step} [{}]", duration(took)));
        }
    }
}

/// The live line of a stage.
#[derive(Debug)]
enum Spinner {
    None,
    Now(ProgressBar),
    /// A task that waits, and what it shows once it has waited.
    Later(JoinHandle<()>, Arc<Mutex<Option<ProgressBar>>>),
}

impl Spinner {
    fn later(ui: Ui, text: String, runtime: &Handle) -> Self {
        let shown = Arc::new(Mutex::new(None));
        let place = Arc::clone(&shown);
        let waiting = runtime.spawn(
            async move {
                tokio::time::sleep(PATIENCE).await;
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(spin(&ui, &text));
            }
            .boxed(),
        );
        Self::Later(waiting, shown)
    }

    fn clear(&mut self) {
        let bar = match std::mem::replace(self, Self::None) {
            Self::None => None,
            Self::Now(bar) => Some(bar),
            Self::Later(waiting, shown) => {
                waiting.abort();
                shown.lock().unwrap_or_else(PoisonError::into_inner).take()
            }
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }
}

fn spin(ui: &Ui, text: &str) -> ProgressBar {
    let bar = ui.inner.bars.add(ProgressBar::new_spinner());
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(TURN);
    bar
}

/// A duration for people: `940us`, `12ms`, `3.4s`, `2m 05s`.
pub(super) fn duration(took: Duration) -> String {
    match took {
        _ if took < Duration::from_millis(1) => format!("{}us", took.as_micros()),
        _ if took < Duration::from_secs(1) => format!("{}ms", took.as_millis()),
        _ if took < Duration::from_secs(60) => format!("{:.1}s", took.as_secs_f64()),
        _ => format!("{}m {:02}s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Options;

    #[test]
    fn durations_read_well() {
        let shown =
            [900, 12_000, 3_400_000, 125_000_000].map(|us| duration(Duration::from_micros(us)));
        assert_eq!(shown, ["900us", "12ms", "3.4s", "2m 05s"]);
    }

    #[test]
    fn without_a_terminal_a_stage_is_a_line_at_each_end() {
        let (ui, said) = Ui::captured(Options::default());
        ui.stage("Building \x1b[2J").finish();
        ui.brief("Connecting").finish();
        drop(ui.stage("Waiting"));
        let said = said.stderr();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], "==> Building \\x1b[2J");
        assert!(lines[1].starts_with("=== ✔ Building \\x1b[2J ["), "{said}");
        assert_eq!(lines[2..], ["==> Waiting"]);
    }
}
