//! Something that takes a while, told while it lasts.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Ui;

/// How often a spinner turns: smooth to the eye, nothing to the processor.
const TURN: Duration = Duration::from_millis(100);

/// Something that has begun; [`finish`](Stage::finish) or [`fail`](Stage::fail) ends it. A stage
/// that is dropped was broken off and is not told any more.
#[derive(Debug)]
pub struct Stage {
    ui: Ui,
    text: String,
    begun: Instant,
    bar: Option<ProgressBar>,
    told: bool,
}

impl Stage {
    pub(super) fn begin(ui: &Ui, text: String, told: bool) -> Self {
        let bar = ui.inner.live.then(|| {
            let bar = ui.inner.bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(text.clone());
            bar.enable_steady_tick(TURN);
            bar
        });
        if told && bar.is_none() {
            ui.line(format_args!("==> {text}"));
        }
        Self { ui: ui.clone(), text, begun: Instant::now(), bar, told }
    }

    /// It is done.
    pub fn finish(self) {
        self.end("✔");
    }

    /// It failed; the reason is told by whoever ends the command.
    pub fn fail(self) {
        self.end("✘");
    }

    fn end(mut self, mark: &str) {
        self.clear();
        let took = self.begun.elapsed();
        if self.told {
            self.ui.line(format_args!("=== {mark} {} [{}]", self.text, duration(took)));
        } else {
            self.ui.verbose(&self.text, took);
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.ui.inner.bars.remove(&bar);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear();
    }
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
