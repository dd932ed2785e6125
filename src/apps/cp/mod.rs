//! Copies files into a workspace and out of it.
//!
//! ```text
//!   Plan ─► Copier ─┬─ from: Side ─┐    Local: this machine's files, reached by descriptors
//!                   └─ to:   Side ─┴─── Remote: the workspace's, by requests of `apps/sftp`
//! ```
//!
//! * `spec`: what was typed, read and printed.
//! * `side`: what both sides can do; names that lead nowhere else.
//! * `copier`: directories, files in pieces, what is there already, what failed.

mod copier;
mod local;
mod remote;
mod side;
pub mod spec;
#[cfg(test)]
mod tests;

use std::{
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use coderctl_ssh::Request;
use serde::Serialize;
use tokio::time::timeout;

pub use self::copier::Options;
use self::{
    copier::{Copier, Directory, Step, Tally, Thing},
    local::Local,
    remote::Remote,
    side::{Entry, Failure, Kind as Sort, Name, Side},
    spec::{Plan, Way, shown, shown_path, split},
};
use crate::{
    apps::{
        App, BoxFuture, Context, End, Event, report,
        session::{self, asked, attached, detached, lost},
        sftp::{Sftp, SftpError},
    },
    error::{CommandError, Kind},
    ui::{Ui, amount},
};

/// How long the first answers of the workspace's sftp server may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long what is not whole may take to be removed at an early end.
const TIDY: Duration = Duration::from_secs(2);

/// A copy.
pub struct Copy {
    plan: Plan,
    options: Options,
    json: bool,
}

impl Copy {
    /// Copies this in this way; `json` says what became of it on standard output.
    #[must_use]
    pub fn new(plan: Plan, options: Options, json: bool) -> Self {
        Self { plan, options, json }
    }
}

impl From<SftpError> for CommandError {
    fn from(error: SftpError) -> Self {
        match error {
            SftpError::Refused { .. } => Self::new(Kind::Other, error),
            SftpError::Lost(_) => Self::new(Kind::Lost, error),
            SftpError::Broken(_) => Self::new(Kind::Protocol, error)
                .hint("compare the versions of the workspace's agent and of coderctl"),
        }
    }
}

impl App for Copy {
    /// What is wrong here is told before a workspace is started for it.
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            match &self.plan.way {
                Way::Up { from, .. } => {
                    from.iter().try_for_each(|path| check_source(path, self.options.recursive))
                }
                Way::Down { from, to } => check_destination(to, from.len() > 1),
            }
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(*self, context))
    }
}

fn check_source(path: &Path, recursive: bool) -> Result<(), CommandError> {
    let name = shown_path(path);
    let fail = |why: String| CommandError::msg(Kind::Local, format!("cannot copy {name}: {why}"));
    match local::look(path) {
        Ok(Some(Entry { kind: Sort::Directory, .. })) if !recursive => {
            Err(fail("it is a directory".to_owned()).hint("-r copies it with all that is in it"))
        }
        Ok(Some(Entry { kind: Sort::Other, .. })) => {
            Err(fail("it is neither a file nor a directory".to_owned()))
        }
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(fail("there is no such file or directory".to_owned())),
        Err(error) => Err(fail(error.to_string())),
    }
}

fn check_destination(path: &Path, several: bool) -> Result<(), CommandError> {
    let name = shown_path(path);
    let fail = |why: &str| CommandError::msg(Kind::Local, format!("cannot copy to {name}: {why}"));
    let kind = |path: &Path| local::look(path).map(|found| found.map(|entry| entry.kind));
    match kind(path) {
        Ok(Some(Sort::Directory)) => Ok(()),
        Ok(Some(_)) if several => Err(fail("it is no directory, and there are several sources")),
        Ok(Some(_)) => Ok(()),
        Ok(None) if several => Err(fail("there is no such directory")),
        Ok(None) => {
            let (above, _) = split(path.as_os_str().as_bytes());
            match kind(Path::new(std::ffi::OsStr::from_bytes(above))) {
                Ok(Some(Sort::Directory)) => Ok(()),
                Ok(_) => Err(fail("the directory that it would be in does not exist")),
                Err(error) => Err(fail(&error.to_string())),
            }
        }
        Err(error) => Err(fail(&error.to_string())),
    }
}

async fn run(copy: Copy, mut context: Context) -> End {
    let opening = async {
        let tunnel = attached(&mut context.tunnel).await?;
        let asked = coderctl_ssh::Options::new(Request::Subsystem("sftp".to_owned()));
        session::open(&*tunnel, asked).await
    };
    let (client, session) = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => opened,
            Err(error) => return End::Failed(error),
        },
        () = asked(&mut context.close) => return End::Done(0),
        Some(signal) = context.signals.recv() => return End::Failed(interrupted(signal.number())),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = context.events.send(Event::Up);
    let _ = context.events.send(Event::Opened);
    // What the server says on its second stream is for its own log.
    drop(session.stderr);
    let began = timeout(HANDSHAKE, Sftp::begin(session.stdout, session.stdin)).await;
    let end = match began {
        Ok(Ok(sftp)) => copy.carry(&Remote { sftp }, &mut context).await,
        Ok(Err(error)) => End::Failed(error.into()),
        Err(_) => {
            let after = HANDSHAKE.as_secs();
            let why = format!("the workspace's sftp server did not answer within {after} s");
            End::Failed(CommandError::msg(Kind::Timeout, why))
        }
    };
    session::finish(Some(client)).await;
    let _ = context.events.send(Event::Closed);
    end
}

fn interrupted(signal: u8) -> CommandError {
    CommandError::msg(Kind::Signal(signal), "interrupted before it was done")
}

impl Copy {
    async fn carry(&self, there: &Remote, context: &mut Context) -> End {
        match &self.plan.way {
            Way::Up { from, to } => {
                let from: Vec<_> = from.iter().map(|path| path.as_os_str().as_bytes()).collect();
                self.between(&Local, &from, there, to, context).await
            }
            Way::Down { from, to } => {
                let from: Vec<_> = from.iter().map(Vec::as_slice).collect();
                self.between(there, &from, &Local, to.as_os_str().as_bytes(), context).await
            }
        }
    }

    async fn between<F: Side, T: Side>(
        &self,
        from: &F,
        sources: &[&[u8]],
        to: &T,
        destination: &[u8],
        context: &mut Context,
    ) -> End {
        let begun = Instant::now();
        let bar = context.ui.bar("Copying");
        let copier = Copier::new(from, to, self.options, self.is_alone(), &context.ui, &bar);
        let copying = async {
            let steps = plan(&copier, self.options, sources, destination, &bar).await?;
            copier.run(steps).await
        };
        let stopped = tokio::select! {
            copied = copying => copied.err(),
            () = detached(&mut context.tunnel) => broken_off(),
            () = asked(&mut context.close) => broken_off(),
            Some(signal) = context.signals.recv() => Some(interrupted(signal.number())),
        };
        if let Some(error) = stopped {
            // A connection that is gone takes no more requests, and says so at once.
            let _ = timeout(TIDY, copier.tidy()).await;
            let begun = matches!(error.kind, Kind::Lost | Kind::Signal(_));
            return End::Failed(match (begun, self.options.resume) {
                (false, _) => error,
                (true, true) => error.hint("the same command goes on where it ended"),
                (true, false) => {
                    error.hint("a copy with --resume can be gone on with when it is broken off")
                }
            });
        }
        match self.tell(&copier.tally, begun.elapsed(), copier.failure(), &context.ui) {
            Ok(()) => End::Done(0),
            Err(error) => End::Failed(error),
        }
    }

    /// Whether it is about one file.
    fn is_alone(&self) -> bool {
        let sources = match &self.plan.way {
            Way::Up { from, .. } => from.len(),
            Way::Down { from, .. } => from.len(),
        };
        sources == 1 && !self.options.recursive
    }

    /// Says what became of it.
    fn tell(
        &self,
        tally: &Tally,
        took: Duration,
        failure: Option<String>,
        ui: &Ui,
    ) -> Result<(), CommandError> {
        let report = Report::new(tally, took);
        if self.json {
            ui.data(report::json(&report)?.as_bytes()).map_err(report::cannot_write)?;
        }
        match failure {
            None => {
                ui.line(report.sentence());
                Ok(())
            }
            Some(why) if report.failed == 1 && (self.is_alone() || report.total() == 0) => {
                Err(CommandError::msg(Kind::Other, why))
            }
            Some(_) => {
                ui.line(report.sentence());
                let why = format!("{} could not be copied", things(report.failed, "thing"));
                Err(CommandError::msg(Kind::Other, why).hint("the warnings above say why"))
            }
        }
    }
}

fn broken_off() -> Option<CommandError> {
    match lost(None) {
        End::Failed(error) => Some(error),
        End::Done(_) => None,
    }
}

/// What was named, as what is to be done.
async fn plan<F: Side, T: Side>(
    copier: &Copier<'_, F, T>,
    options: Options,
    sources: &[&[u8]],
    destination: &[u8],
    bar: &crate::ui::Bar,
) -> Result<Vec<Step<F, T>>, CommandError> {
    let (from, to) = (copier.from, copier.to);
    let fail = |what: &str, path: &[u8], failure: Failure| match failure {
        Failure::All(error) => error,
        Failure::One(why) => {
            CommandError::msg(Kind::Other, format!("cannot copy {what}{}: {why}", shown(path)))
        }
    };
    let one = |why: &str| Failure::One(why.to_owned());
    let wrong = |failure| fail("to ", destination, failure);
    let there = to.look(destination).await.map_err(wrong)?;
    let into = there.is_some_and(|there| there.kind == Sort::Directory);
    if sources.len() > 1 && !into {
        let why = "it is no directory, and there are several sources";
        return Err(wrong(one(why)));
    }
    let (above, last) = split(destination);
    let last = last.and_then(|name| Name::new(bytes::Bytes::copy_from_slice(name)));
    let place = to.place(if into { destination } else { above }).await.map_err(wrong)?;
    let mut steps = Vec::new();
    for path in sources.iter().copied() {
        let wrong = |failure| fail("", path, failure);
        let entry = from.look(path).await.map_err(wrong)?;
        let entry = entry.ok_or_else(|| wrong(one("there is no such file or directory there")))?;
        let is_directory = entry.kind == Sort::Directory;
        if is_directory && !options.recursive {
            return Err(wrong(one("it is a directory")).hint("-r copies it with all that is in it"));
        }
        if !is_directory && !into && destination.ends_with(b"/") {
            return Err(fail("to ", destination, one("there is no such directory")));
        }
        let (within, name) = split(path);
        let name = name.and_then(|name| Name::new(bytes::Bytes::copy_from_slice(name)));
        let as_name = if into { name.clone() } else { last.clone() };
        let Some(as_name) = as_name else {
            // `.` and the like: what is in it goes into what is there.
            let of = Directory::top(from.place(path).await.map_err(wrong)?, place.clone());
            steps.push(Step::Contents { of, fresh: false });
            continue;
        };
        let there = to.find(&place, &as_name).await.map_err(wrong)?;
        let step = match (is_directory, name) {
            (true, _) => {
                let source = from.place(path).await.map_err(wrong)?;
                copier.top(source, &place, &as_name, entry, there).await.map_err(wrong)?
            }
            (false, Some(name)) => {
                let source = from.place(within).await.map_err(wrong)?;
                bar.expect(entry.size);
                let within = Directory::top(source, place.clone());
                Step::Thing(Thing { within, name, as_name, entry, there, named: true })
            }
            (false, None) => return Err(wrong(one("it is no directory"))),
        };
        steps.push(step);
    }
    Ok(steps)
}

/// What became of it, as `-o json` shows it.
#[derive(Serialize)]
struct Report {
    files: u64,
    directories: u64,
    links: u64,
    skipped: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

impl Report {
    fn new(tally: &Tally, took: Duration) -> Self {
        let number = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Self {
            files: number(&tally.files),
            directories: number(&tally.directories),
            links: number(&tally.links),
            skipped: number(&tally.skipped),
            failed: number(&tally.failed),
            bytes: number(&tally.bytes),
            seconds: report::rounded(took.as_secs_f64()),
        }
    }

    /// How much of it there is now.
    fn total(&self) -> u64 {
        self.files + self.directories + self.links + self.skipped
    }

    fn sentence(&self) -> String {
        let mut text = format!("Copied {}, {}", things(self.files, "file"), amount(self.bytes));
        if self.skipped > 0 {
            text += &format!(" ({} there already)", self.skipped);
        }
        // Below a millisecond the clock says more about itself.
        let rate = self.bytes as f64 / self.seconds.max(0.001);
        text + &format!(", in {:.1} s ({}/s)", self.seconds, amount(rate as u64))
    }
}

fn things(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
