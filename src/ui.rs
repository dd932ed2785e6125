//! Who may speak: stdout is data, everything said goes through [`Ui`] to stderr.
//!
//! ```text
//! error ─┐
//! warn  ─┤                      ┌─ a terminal: live spinners, lines above them, colour
//! line  ─┼─► Ui ─► escape ─► stderr ─ a pipe or file: plain lines
//! log   ─┤     │                └─ -q: errors and warnings only
//! stage ─┘     └─► events: the same as JSON, instead of that or beside it
//! data  ───► stdout, unchanged, never anything else
//! ```
//!
//! Whatever is said is escaped here ([`escape()`]): text of a server, a build log or a user can
//! neither move the cursor nor pretend to be another line. While a shell owns the terminal
//! ([`Ui::suspend`]), spinners are hidden and lines end the way a raw terminal needs.

mod bar;
mod escape;
mod events;
mod output;
mod prompt;
mod stage;

use std::{
    fmt::Display,
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

pub use bar::{Bar, amount};
pub use escape::{escape, escape_json, plain, quoted};
pub use events::{Events, descriptor};
pub use output::Capture;
pub use prompt::{EchoOff, read_line};
pub use stage::Stage;

use crate::error::CommandError;
use events::{Ear, Event, Level};
use output::Sink;

/// How a [`Ui`] behaves. The default is that of a command without flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `-q`: nothing but errors and warnings.
    pub quiet: bool,
    /// `-v`: steps with their durations, causes of errors.
    pub verbose: bool,
    /// `--force-tty`: behave as if stdin, stdout and stderr were terminals.
    pub force_tty: bool,
    /// `--events`: where what happens is told as JSON.
    pub events: Option<Events>,
}

/// The way to the user. Cheap to clone; clones speak through the same mouth.
#[derive(Debug, Clone)]
pub struct Ui {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    sink: Sink,
    live: bool,
    colour: bool,
    bars: MultiProgress,
    ear: Ear,
    /// Held for one line at a time, so that lines never mix.
    mouth: Mutex<()>,
    suspended: AtomicUsize,
}

impl Default for Ui {
    fn default() -> Self {
        Self::on_stderr(Options::default(), Ear::Nobody)
    }
}

/// Says the last of a program that is broken: to stderr, past every lock, which the broken part
/// may hold.
pub fn last_words(text: &str) {
    let mut left = text.as_bytes();
    while let Ok(written @ 1..) = rustix::io::write(rustix::stdio::stderr(), left) {
        left = &left[written..];
    }
}

impl Ui {
    /// Speaks on the process's stderr, and tells events where the options say.
    ///
    /// # Errors
    /// The descriptor for events is not open for writing.
    pub fn new(options: Options) -> io::Result<Self> {
        Ok(Self::on_stderr(options, Ear::open(options.events)?))
    }

    fn on_stderr(options: Options, ear: Ear) -> Self {
        let terminal = options.force_tty || io::stderr().is_terminal();
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let dumb = matches!(variable("TERM").as_str(), "" | "dumb");
        let forced = !matches!(variable("CLICOLOR_FORCE").as_str(), "" | "0");
        let refused = !variable("NO_COLOR").is_empty() || variable("CLICOLOR") == "0";
        // What CI keeps is read later: nothing moves in it, even if it has a terminal.
        let kept = !matches!(variable("CI").as_str(), "" | "false" | "0");
        let live = terminal && !dumb && !kept && !options.quiet && !ear.is_instead();
        let colour = !refused && (forced || (terminal && !dumb));
        Self::with(options, Sink::Stderr, ear, live, colour)
    }

    /// Speaks into memory, as plain lines: for tests of what would be said.
    #[must_use]
    pub fn captured(options: Options) -> (Self, Capture) {
        let capture = Capture::default();
        let ear = if options.events == Some(Events::Stderr) { Ear::Instead } else { Ear::Nobody };
        (Self::with(options, Sink::Memory(capture.clone()), ear, false, false), capture)
    }

    fn with(options: Options, sink: Sink, ear: Ear, live: bool, colour: bool) -> Self {
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            inner: Arc::new(Inner {
                options,
                sink,
                live,
                colour,
                bars: MultiProgress::with_draw_target(target),
                ear,
                mouth: Mutex::new(()),
                suspended: AtomicUsize::new(0),
            }),
        }
    }

    /// Says one thing of interest; silent under `-q`.
    pub fn line(&self, text: impl Display) {
        self.said(Level::Info, "", "", &text.to_string());
    }

    /// Says what the user can do next; silent under `-q`.
    pub fn hint(&self, text: impl Display) {
        self.said(Level::Hint, "hint: ", CYAN, &text.to_string());
    }

    /// Says what is unexpected but does not end the command.
    pub fn warn(&self, text: impl Display) {
        self.said(Level::Warning, "warning: ", YELLOW, &text.to_string());
    }

    fn said(&self, level: Level, prefix: &str, colour: &str, text: &str) {
        let event = Event::Said { level, text };
        self.tell(&event);
        if event.matters() || !self.inner.options.quiet {
            self.say(prefix, colour, text);
        }
    }

    /// Tells an event to whoever wants to hear of events.
    fn tell(&self, event: &Event<'_>) {
        let inner = &self.inner;
        if inner.ear.is_there() && (event.matters() || !inner.options.quiet) {
            let _mouth = inner.mouth.lock().unwrap_or_else(PoisonError::into_inner);
            inner.ear.tell(event, &inner.sink);
        }
    }

    /// Tells programs that forwards are ready, as events, and which.
    pub fn ready(&self, workspace: &str, forwards: &impl Serialize) {
        // These are our own types, whose keys are strings.
        let forwards = serde_json::to_value(forwards).unwrap_or_default();
        self.tell(&Event::Ready { workspace, forwards });
    }

    /// Tells that the command is over, with its exit code.
    pub fn finished(&self, code: u8) {
        self.tell(&Event::Finished { code });
    }

    /// Says why the command ended, with its hints. With `-v` each cause has its own line.
    pub fn error(&self, error: &CommandError) {
        self.tell(&Event::error(error));
        if self.inner.options.verbose {
            let mut causes = error.source.chain();
            self.say("error: ", RED, &causes.next().map(ToString::to_string).unwrap_or_default());
            for cause in causes {
                self.say("  caused by: ", RED, &cause.to_string());
            }
        } else {
            self.say("error: ", RED, &error.to_string());
        }
        if !self.inner.options.quiet {
            error.hints.iter().for_each(|hint| self.say("hint: ", CYAN, hint));
        }
    }

    /// Shows one line of a log: `source` is `build` or the name of a start script. Colours in it
    /// are dropped, all other escapes made visible. Silent under `-q`.
    pub fn log(&self, source: &str, line: &str) {
        let text = escape::without_colours(line.trim_end());
        self.tell(&Event::Log { source, text: &text });
        if !self.inner.options.quiet {
            self.say(&format!("{} | ", escape(source)), DIM, &text);
        }
    }

    /// Shows one record of the debug log, however quiet the rest is: it was asked for.
    pub fn debug(&self, record: &str) {
        self.said(Level::Debug, "", "", record.trim_end());
    }

    /// Shows what clap says about wrong usage: several lines that keep their shape.
    pub fn usage(&self, text: &str) {
        // Whoever typed a hundred kilobytes knows them.
        const LONGEST: usize = 4000;
        for line in text.trim_end().split('\n') {
            let line: String = line.chars().take(LONGEST).collect();
            self.say("", "", &line);
        }
    }

    /// Shows how long a step took; only with `-v`.
    pub fn verbose(&self, step: impl Display, took: Duration) {
        if self.inner.options.verbose && !self.inner.options.quiet {
            self.say(&format!("{:>9}  ", stage::duration(took)), DIM, &step.to_string());
        }
    }

    /// Begins something that takes long enough to be told: a build, the wait for an agent. It is
    /// a spinner with a clock on a terminal, a line at its begin and one at its end elsewhere.
    #[must_use = "a stage that is dropped at once is told as broken off"]
    pub fn stage(&self, text: impl Display) -> Stage {
        Stage::begin(self, escape(&text.to_string()).into_owned(), true)
    }

    /// Begins something that is usually over at once (a connection): a spinner on a terminal that
    /// leaves no trace, a line with its duration with `-v`, nothing elsewhere.
    #[must_use = "a stage that is dropped at once is told as broken off"]
    pub fn brief(&self, text: impl Display) -> Stage {
        Stage::begin(self, escape(&text.to_string()).into_owned(), false)
    }

    /// Begins something whose progress is counted in bytes.
    #[must_use = "a bar that is dropped is gone"]
    pub fn bar(&self, text: impl Display) -> Bar {
        Bar::begin(self, escape(&text.to_string()).into_owned())
    }

    /// Gives the terminal to a shell until the guard is dropped: spinners vanish, and lines that
    /// are said meanwhile return the carriage themselves.
    #[must_use = "the terminal is taken back when the guard is dropped"]
    pub fn suspend(&self) -> Suspended {
        self.inner.suspended.fetch_add(1, Ordering::SeqCst);
        if self.inner.live {
            self.inner.bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Suspended { ui: self.clone() }
    }

    /// Writes data to stdout and flushes it.
    ///
    /// # Errors
    /// Those of stdout; `BrokenPipe` means that nobody wants more.
    pub fn data(&self, data: &[u8]) -> io::Result<()> {
        let _mouth = self.inner.mouth.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.bars.suspend(|| self.inner.sink.data(data))
    }

    /// Whether a person can be asked: stdin and stderr are terminals.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        let terminals = || io::stdin().is_terminal() && io::stderr().is_terminal();
        !self.inner.ear.is_instead() && (self.inner.options.force_tty || terminals())
    }

    /// Whether `-v` was given.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.inner.options.verbose
    }

    /// Whether `-q` was given.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.inner.options.quiet
    }

    /// Writes a question without ending the line.
    pub fn ask(&self, question: &str) {
        let _mouth = self.inner.mouth.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.bars.suspend(|| self.inner.sink.said(escape(question).as_bytes()));
    }

    /// The only way to stderr: escapes, indents what follows a line break under its first line,
    /// so that no text can pretend to be another line.
    fn say(&self, prefix: &str, colour: &str, text: &str) {
        let inner = &self.inner;
        if inner.ear.is_instead() {
            return;
        }
        let raw = inner.suspended.load(Ordering::SeqCst) > 0;
        let end = if raw { "\r\n" } else { "\n" };
        let indent = " ".repeat(prefix.chars().count().max(2));
        let mut lines = text.trim_end_matches(['\n', '\r']).split('\n');
        let first = lines.next().unwrap_or_default();
        let mut out = String::with_capacity(text.len() + prefix.len() + 16);
        if raw {
            out.push('\r');
        }
        if inner.colour && !prefix.is_empty() {
            out.extend([colour, prefix, RESET]);
        } else {
            out.push_str(prefix);
        }
        out.push_str(&escape(first.trim_end_matches('\r')));
        out.push_str(end);
        for line in lines {
            out.push_str(&indent);
            out.push_str(&escape(line.trim_end_matches('\r')));
            out.push_str(end);
        }
        let _mouth = inner.mouth.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bars.suspend(|| inner.sink.said(out.as_bytes()));
    }
}

/// While it lives, a shell owns the terminal.
#[derive(Debug)]
pub struct Suspended {
    ui: Ui,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        let inner = &self.ui.inner;
        if inner.suspended.fetch_sub(1, Ordering::SeqCst) == 1 && inner.live {
            inner.bars.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_server_text_cannot_pretend_to_be_a_hint() {
        let (ui, said) = Ui::captured(Options::default());
        ui.error(&CommandError::msg(Kind::Server, "no\nhint: run \x1b[2Jrm\u{202e}"));
        assert_eq!(said.stderr(), "error: no\n       hint: run \\x1b[2Jrm\\u{202e}\n");
    }

    #[test]
    fn quiet_leaves_errors_and_warnings() {
        let (ui, said) = Ui::captured(Options { quiet: true, ..Options::default() });
        ui.line("a line");
        ui.log("build", "a log line");
        ui.stage("a stage").finish();
        ui.warn("careful");
        ui.error(&CommandError::msg(Kind::Other, "broken").hint("repair"));
        assert_eq!(said.stderr(), "warning: careful\nerror: broken\n");
    }

    #[test]
    fn verbose_tells_each_cause() {
        let (ui, said) = Ui::captured(Options { verbose: true, ..Options::default() });
        let cause = anyhow::anyhow!("refused").context("cannot connect");
        ui.error(&CommandError::new(Kind::Server, cause).hint("wait"));
        assert_eq!(said.stderr(), "error: cannot connect\n  caused by: refused\nhint: wait\n");
    }

    #[test]
    fn log_lines_lose_their_colours_and_keep_their_text() {
        let (ui, said) = Ui::captured(Options::default());
        ui.log("build", "\x1b[1;32mApply complete!\x1b[0m\x1b]0;title\x07\r\n");
        assert_eq!(said.stderr(), "build | Apply complete!\\x1b]0;title\\x07\n");
    }

    #[test]
    fn events_stand_in_place_of_text() {
        let events = Some(Events::Stderr);
        let (ui, said) = Ui::captured(Options { quiet: true, events, ..Options::default() });
        ui.line("not this");
        ui.stage("nor this").finish();
        ui.warn("careful \x1b");
        ui.error(&CommandError::new(Kind::Timeout, anyhow::anyhow!("b").context("a")).hint("c"));
        ui.finished(207);
        let said = said.stderr();
        let lines: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["said", "error", "finished"]);
        assert_eq!(lines[0]["text"], "careful \u{1b}");
        let error = (&lines[1]["kind"], &lines[1]["text"], &lines[1]["causes"][0]);
        assert_eq!(error, (&"timeout".into(), &"a: b".into(), &"b".into()));
        assert_eq!(lines[1]["hints"][0], "c");
    }

    #[test]
    fn lines_in_a_raw_terminal_return_the_carriage() {
        let (ui, said) = Ui::captured(Options::default());
        let shell = ui.suspend();
        ui.line("one");
        drop(shell);
        ui.line("two");
        assert_eq!(said.stderr(), "\rone\r\ntwo\n");
    }
}
