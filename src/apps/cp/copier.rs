//! The copy itself, from one side to the other, whichever they are: many files under way at once,
//! and of each many pieces.
//!
//! A file is written under another name and gets its own when it is whole. What is begun anew has
//! a random one; what is to be gone on with later has one that is made of the file's name, size
//! and time, so that only the same file goes on with it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::sync::Semaphore;

use super::side::{Entry, Failure, Kept, Kind, Name, Result, Side};
use crate::{
    error::CommandError,
    ui::{Bar, Ui},
};

/// Files and directories under way at once: enough that round trips do not count, few enough for
/// any limit of open files (OpenSSH's server has 100 at least).
const FILES: usize = 64;
/// Bytes of one file under way at once: what a path of 1 Gbit/s and 60 ms holds. A file that is
/// gone on with is read again from so far back, for pieces may have been written in any order.
const WINDOW: usize = 8 << 20;
/// Bytes of all files under way at once.
const ROOM: usize = 16 << 20;
/// How deep directories may be nested; paths end at about as many.
const DEEPEST: usize = 256;
/// Most that is read of a file that claims to be empty, as those of `/proc` do, in bytes.
const UNSIZED: u64 = 64 << 20;
/// How many failures are told one by one.
const TOLD: u64 = 20;

/// How to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Directories with all that is in them.
    pub recursive: bool,
    /// Permissions and times too.
    pub preserve: bool,
    /// Go on where an earlier copy ended. Times are preserved, which tell what is whole.
    pub resume: bool,
    /// Replace files that are there.
    pub force: bool,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub links: AtomicU64,
    /// Files that were there already, whole.
    pub skipped: AtomicU64,
    pub failed: AtomicU64,
    /// Of files, not counting what was there already.
    pub bytes: AtomicU64,
}

fn count(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

/// A directory whose contents are under way, on both sides.
pub(super) struct Directory<F: Side, T: Side> {
    pub from: F::Place,
    pub to: T::Place,
    /// What to set when all in it is done.
    keep: Option<Kept>,
    up: Option<Arc<Self>>,
    depth: usize,
}

impl<F: Side, T: Side> Directory<F, T> {
    /// One that nothing is above of.
    pub(super) fn top(from: F::Place, to: T::Place) -> Arc<Self> {
        Arc::new(Self { from, to, keep: None, up: None, depth: 0 })
    }
}

/// Something to do.
pub(super) enum Step<F: Side, T: Side> {
    /// To copy what has this name.
    Thing(Thing<F, T>),
    /// To copy all that is in a directory; whether the destination was just made.
    Contents { of: Arc<Directory<F, T>>, fresh: bool },
}

/// Something in a directory.
pub(super) struct Thing<F: Side, T: Side> {
    pub within: Arc<Directory<F, T>>,
    pub name: Name,
    /// What it is to be called.
    pub as_name: Name,
    pub entry: Entry,
    /// What has that name already.
    pub there: Option<Entry>,
    /// It was named itself: a link is followed.
    pub named: bool,
}

/// A copy that is under way.
pub(super) struct Copier<'a, F: Side, T: Side> {
    pub from: &'a F,
    pub to: &'a T,
    options: Options,
    /// Nothing else was named, so why it failed is why all failed.
    alone: bool,
    ui: &'a Ui,
    bar: &'a Bar,
    chunk: usize,
    room: Semaphore,
    pub tally: Tally,
    /// The first thing that failed, and why.
    failure: Mutex<Option<String>>,
    /// Files that have not got their own names yet.
    parts: Mutex<HashMap<Name, T::Place>>,
}

impl<'a, F: Side, T: Side> Copier<'a, F, T> {
    pub(super) fn new(
        from: &'a F,
        to: &'a T,
        options: Options,
        alone: bool,
        ui: &'a Ui,
        bar: &'a Bar,
    ) -> Self {
        let chunk = from.chunk().min(to.chunk()).max(1);
        Self {
            from,
            to,
            options,
            alone,
            ui,
            bar,
            chunk,
            room: Semaphore::new((ROOM / chunk).max(1)),
            tally: Tally::default(),
            failure: Mutex::default(),
            parts: Mutex::default(),
        }
    }

    /// Copies all of it. What fails alone is told and counted.
    pub(super) async fn run(
        &self,
        mut steps: Vec<Step<F, T>>,
    ) -> std::result::Result<(), CommandError> {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < FILES
                && let Some(step) = steps.pop()
            {
                running.push(self.perform(step));
            }
            match running.next().await {
                Some(more) => steps.extend(more?),
                None => return Ok(()),
            }
        }
    }

    /// Removes what is not whole and cannot be gone on with.
    pub(super) async fn tidy(&self) {
        if self.options.resume {
            return;
        }
        let parts = std::mem::take(&mut *self.parts());
        let removed = parts.iter().map(|(part, at)| self.to.remove(at, part));
        // What cannot be removed now is a hidden file that says what it is.
        let _ = futures_util::future::join_all(removed).await;
    }

    /// Why the first that failed did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells that something was not copied.
    pub(super) fn fail(&self, what: &str, why: &str) {
        let text = format!("cannot copy {what}: {why}");
        let before = self.tally.failed.fetch_add(1, Ordering::Relaxed);
        if self.alone {
            tracing::debug!(%text);
        } else if before < TOLD {
            self.ui.warn(&text);
        } else if before == TOLD {
            self.ui.warn("there are more of these; they are only counted");
        }
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(text);
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, HashMap<Name, T::Place>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeps(&self) -> bool {
        self.options.preserve || self.options.resume
    }

    async fn perform(
        &self,
        step: Step<F, T>,
    ) -> std::result::Result<Vec<Step<F, T>>, CommandError> {
        let (within, name) = match &step {
            Step::Thing(thing) => (Arc::clone(&thing.within), Some(thing.name.clone())),
            Step::Contents { of, .. } => (Arc::clone(of), None),
        };
        let done = match step {
            Step::Thing(thing) => self.thing(thing).await,
            Step::Contents { of, fresh } => self.contents(of, fresh).await,
        };
        let more = match done {
            Ok(more) => more,
            Err(Failure::All(error)) => return Err(error),
            Err(Failure::One(why)) => {
                let what = match name {
                    Some(name) => self.from.show(&within.from, &name),
                    None => "the contents of a directory".to_owned(),
                };
                self.fail(&what, &why);
                Vec::new()
            }
        };
        self.leave(within).await?;
        Ok(more)
    }

    /// Whoever leaves a directory last sets what is to be preserved of it.
    async fn leave(
        &self,
        directory: Arc<Directory<F, T>>,
    ) -> std::result::Result<(), CommandError> {
        let mut next = Arc::into_inner(directory);
        while let Some(Directory { to, keep, up, .. }) = next {
            if let Some(keep) = keep {
                match self.to.keep(&to, keep).await {
                    Ok(()) => {}
                    Err(Failure::All(error)) => return Err(error),
                    Err(Failure::One(why)) => {
                        self.fail("a directory's permissions and times", &why)
                    }
                }
            }
            next = up.and_then(Arc::into_inner);
        }
        Ok(())
    }

    async fn thing(&self, thing: Thing<F, T>) -> Result<Vec<Step<F, T>>> {
        match thing.entry.kind {
            Kind::File => self.file(&thing).await.map(|()| Vec::new()),
            Kind::Link => self.link(&thing).await.map(|()| Vec::new()),
            Kind::Directory => self.directory(&thing).await.map(|step| vec![step]),
            Kind::Other => {
                Err(Failure::One("it is neither a file nor a directory nor a link".to_owned()))
            }
        }
    }

    async fn contents(&self, of: Arc<Directory<F, T>>, fresh: bool) -> Result<Vec<Step<F, T>>> {
        let mut there: HashMap<Name, Entry> = match fresh {
            true => HashMap::new(),
            false => self.to.list(&of.to).await?.into_iter().collect(),
        };
        let listed = self.from.list(&of.from).await?;
        let sizes = listed.iter().map(|(_, entry)| match entry.kind {
            Kind::File => entry.size,
            Kind::Directory | Kind::Link | Kind::Other => 0,
        });
        self.bar.expect(sizes.fold(0, u64::saturating_add));
        let mut seen = std::collections::HashSet::with_capacity(listed.len());
        if let Some((twice, _)) = listed.iter().find(|(name, _)| !seen.insert(name)) {
            return Err(Failure::One(format!("{} is listed twice in it", twice.text())));
        }
        let step = |(name, entry): (Name, Entry)| {
            Step::Thing(Thing {
                within: Arc::clone(&of),
                there: there.remove(&name),
                as_name: name.clone(),
                name,
                entry,
                named: false,
            })
        };
        Ok(listed.into_iter().map(step).collect())
    }

    /// The contents of a directory that was named itself.
    pub(super) async fn top(
        &self,
        from: F::Place,
        at: &T::Place,
        as_name: &Name,
        entry: Entry,
        there: Option<Entry>,
    ) -> Result<Step<F, T>> {
        let (to, fresh) = self.make_directory(at, as_name, entry, there).await?;
        let keep = self.keeps().then_some(entry.kept);
        let of = Directory { from, to, keep, up: None, depth: 0 };
        Ok(Step::Contents { of: Arc::new(of), fresh })
    }

    async fn directory(&self, thing: &Thing<F, T>) -> Result<Step<F, T>> {
        let within = &thing.within;
        if within.depth == DEEPEST {
            let why = format!("directories are nested more than {DEEPEST} deep");
            return Err(Failure::One(why));
        }
        let from = self.from.enter(&within.from, &thing.name).await?;
        let Thing { as_name, entry, there, .. } = thing;
        let (to, fresh) = self.make_directory(&within.to, as_name, *entry, *there).await?;
        let keep = self.keeps().then_some(thing.entry.kept);
        let (up, depth) = (Some(Arc::clone(within)), within.depth + 1);
        Ok(Step::Contents { of: Arc::new(Directory { from, to, keep, up, depth }), fresh })
    }

    /// Enters a directory at the destination, or makes it; whether it did.
    async fn make_directory(
        &self,
        at: &T::Place,
        name: &Name,
        entry: Entry,
        there: Option<Entry>,
    ) -> Result<(T::Place, bool)> {
        count(&self.tally.directories, 1);
        match there.map(|there| there.kind) {
            // What is copied into it has to be written.
            None => Ok((self.to.make_directory(at, name, entry.kept.mode | 0o700).await?, true)),
            Some(Kind::Directory) => Ok((self.to.enter(at, name).await?, false)),
            Some(Kind::File | Kind::Link | Kind::Other) => {
                let in_the_way = self.to.show(at, name);
                Err(Failure::One(format!("{in_the_way} is there already, and is no directory")))
            }
        }
    }

    /// Whether something may be replaced, or is there as it should be.
    fn may_replace(&self, thing: &Thing<F, T>) -> Result<bool> {
        let Some(there) = &thing.there else { return Ok(false) };
        let in_the_way = || self.to.show(&thing.within.to, &thing.as_name);
        match there.kind {
            Kind::Directory => {
                Err(Failure::One(format!("{} is a directory already", in_the_way())))
            }
            Kind::File | Kind::Link | Kind::Other if self.options.force => Ok(true),
            Kind::File | Kind::Link | Kind::Other => {
                let why = format!("{} is there already; --force replaces it", in_the_way());
                Err(Failure::One(why))
            }
        }
    }

    async fn link(&self, thing: &Thing<F, T>) -> Result<()> {
        let target = self.from.read_link(&thing.within.from, &thing.name).await?;
        let to = &thing.within.to;
        if thing.there.is_some_and(|there| there.kind == Kind::Link)
            && self.to.read_link(to, &thing.as_name).await? == target
        {
            count(&self.tally.skipped, 1);
            return Ok(());
        }
        if self.may_replace(thing)? {
            self.to.remove(to, &thing.as_name).await?;
        }
        self.to.make_link(to, &thing.as_name, target).await?;
        count(&self.tally.links, 1);
        Ok(())
    }

    async fn file(&self, thing: &Thing<F, T>) -> Result<()> {
        let entry = &thing.entry;
        let whole = |there: Entry| {
            there.kind == Kind::File
                && there.size == entry.size
                && there.kept.times.1 == entry.kept.times.1
        };
        if self.options.resume && thing.there.is_some_and(whole) {
            count(&self.tally.skipped, 1);
            self.bar.advance(entry.size);
            return Ok(());
        }
        let replace = self.may_replace(thing)?;
        let to = &thing.within.to;
        let source = self.from.open(&thing.within.from, &thing.name, thing.named).await?;
        let part = self.part(thing);
        // Before it is there: the copy may be over before the answer says that it is.
        self.parts().insert(part.clone(), to.clone());
        let made = self.to.create(to, &part, entry.kept.mode, self.options.resume).await;
        let (target, have) = match made {
            Ok(made) => made,
            Err(failure) => {
                self.parts().remove(&part);
                self.from.close(source, None).await?;
                return Err(failure);
            }
        };
        let copied = self.pour(thing, &source, &target, have).await;
        let keep = self.keeps().then_some(entry.kept);
        // Both are closed, however it went.
        let closed = (self.to.close(target, keep).await, self.from.close(source, None).await);
        let (bytes, grown) = match (copied, closed.0.and(closed.1)) {
            (Ok(copied), Ok(())) => copied,
            (Err(failure), _) | (Ok(_), Err(failure)) => {
                self.discard(to, &part).await;
                return Err(failure);
            }
        };
        if let Err(failure) = self.to.rename(to, &part, &thing.as_name, replace).await {
            self.discard(to, &part).await;
            return Err(failure);
        }
        self.parts().remove(&part);
        count(&self.tally.files, 1);
        count(&self.tally.bytes, bytes);
        if grown {
            let why = format!(
                "it has more than the {} bytes that it had at first; those were copied",
                entry.size
            );
            return Err(Failure::One(why));
        }
        Ok(())
    }

    /// Removes a part that is of no use to anybody.
    async fn discard(&self, at: &T::Place, part: &Name) {
        if !self.options.resume {
            // What is left of it is a hidden file that says what it is.
            let _ = self.to.remove(at, part).await;
        }
        self.parts().remove(part);
    }

    /// The name of a file until it is whole.
    fn part(&self, thing: &Thing<F, T>) -> Name {
        let id = if self.options.resume {
            let mut hasher = DefaultHasher::new();
            let Entry { size, kept, .. } = thing.entry;
            (thing.as_name.bytes(), size, kept.times.1).hash(&mut hasher);
            hasher.finish()
        } else {
            uuid::Uuid::new_v4().as_u64_pair().0
        };
        Name::part(id)
    }

    /// Copies what is in a file from where an earlier copy ended; how much that was, and whether
    /// there would be more than there was at first.
    async fn pour(
        &self,
        thing: &Thing<F, T>,
        source: &F::File,
        target: &T::File,
        have: u64,
    ) -> Result<(u64, bool)> {
        let size = thing.entry.size;
        if size == 0 {
            return self.pour_unsized(source, target).await.map(|bytes| (bytes, false));
        }
        if have > size {
            let why = "what an earlier copy left is longer than it; remove the .coderctl-*.part";
            return Err(Failure::One(why.to_owned()));
        }
        let from = have.saturating_sub(WINDOW as u64);
        self.bar.advance(from);
        let chunk = self.chunk as u64;
        let pieces = (from..=size).step_by(self.chunk).map(|offset| async move {
            let length = chunk.min(size - offset);
            // One byte more than there should be, where it costs nothing to look.
            let more = usize::from(length < chunk);
            let room = self.room.acquire().await;
            let grown = self.piece(source, target, offset, length as usize, more).await?;
            drop(room);
            self.bar.advance(length);
            Ok(grown)
        });
        // In their order, so that what is written has no gaps further back than this.
        let grown = stream::iter(pieces)
            .buffered((WINDOW / self.chunk).max(1))
            .try_fold(false, |grown, more| async move { Ok::<_, Failure>(grown | more) })
            .await?;
        Ok((size - from, grown))
    }

    /// Copies one piece of a file; whether there was more than that.
    async fn piece(
        &self,
        source: &F::File,
        target: &T::File,
        mut offset: u64,
        mut length: usize,
        more: usize,
    ) -> Result<bool> {
        while length + more > 0 {
            let mut data = self.from.read(source, offset, length + more).await?;
            if data.is_empty() {
                if length == 0 {
                    return Ok(false);
                }
                let why = format!("it ended at {offset} bytes; it has become shorter");
                return Err(Failure::One(why));
            }
            let grown = data.len() > length;
            data.truncate(length);
            let read = data.len();
            if read > 0 {
                self.to.write(target, offset, data).await?;
            }
            if grown {
                return Ok(true);
            }
            offset += read as u64;
            length -= read;
            // A server that gives less than it was asked for has no more, or gives the rest.
            if length == 0 && read > 0 {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Copies a file that claims to be empty.
    async fn pour_unsized(&self, source: &F::File, target: &T::File) -> Result<u64> {
        let mut offset = 0;
        loop {
            let data = self.from.read(source, offset, self.chunk).await?;
            if data.is_empty() {
                return Ok(offset);
            }
            let length = data.len() as u64;
            if offset + length > UNSIZED {
                let why = format!("it claims to be empty, and has more than {UNSIZED} bytes");
                return Err(Failure::One(why));
            }
            self.to.write(target, offset, data).await?;
            self.bar.expect(length);
            self.bar.advance(length);
            offset += length;
        }
    }
}
