//! Templates on their way: uploaded files, and versions that no template has yet.
//!
//! Coder makes a template in three calls: a file is uploaded, a version is made of it, and then a
//! template of the version. What lies between two of them is kept in memory, for some minutes: a
//! client that finds it gone begins anew.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::model::Timestamp;

/// How long a draft is kept.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// How many are kept of each kind; the oldest makes room. At most 256 KiB each.
const MOST: usize = 64;

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub id: Uuid,
    pub by: Uuid,
    pub text: String,
}

/// A version.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub id: Uuid,
    pub by: Uuid,
    /// Of this template; none for one that is to be made.
    pub template_id: Option<Uuid>,
    pub name: String,
    pub text: String,
    /// Why it is no template.
    pub error: Option<String>,
    pub made_at: Timestamp,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    files: Mutex<Kept<File>>,
    versions: Mutex<Kept<Version>>,
}

#[derive(Debug)]
struct Kept<T>(VecDeque<(Instant, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Kept<T> {
    fn put(&mut self, draft: T) {
        self.forget();
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((Instant::now(), draft));
    }

    fn forget(&mut self) {
        let now = Instant::now();
        self.0.retain(|(at, _)| now.duration_since(*at) < KEPT);
    }
}

impl Drafts {
    pub(super) fn put_file(&self, file: File) {
        lock(&self.files).put(file);
    }

    /// A file of this user.
    pub(super) fn file(&self, id: Uuid, by: Uuid) -> Option<File> {
        let mut files = lock(&self.files);
        files.forget();
        let found = files.0.iter().find(|(_, file)| file.id == id && file.by == by);
        found.map(|(_, file)| file.clone())
    }

    pub(super) fn put_version(&self, version: Version) {
        lock(&self.versions).put(version);
    }

    /// A version of this user.
    pub(super) fn version(&self, id: Uuid, by: Uuid) -> Option<Version> {
        let mut versions = lock(&self.versions);
        versions.forget();
        let found = versions.0.iter().find(|(_, version)| version.id == id && version.by == by);
        found.map(|(_, version)| version.clone())
    }

    /// A version became a template's.
    pub(super) fn forget_version(&self, id: Uuid) {
        lock(&self.versions).0.retain(|(_, version)| version.id != id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: u128, by: u128) -> File {
        File { id: Uuid::from_u128(id), by: Uuid::from_u128(by), text: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn drafts_are_their_makers_and_are_forgotten() {
        let drafts = Drafts::default();
        let found = |id, by| drafts.file(Uuid::from_u128(id), Uuid::from_u128(by)).is_some();
        drafts.put_file(file(1, 1));
        assert!(found(1, 1) && !found(1, 2) && !found(2, 1));
        for id in 2..=64 {
            drafts.put_file(file(id, 1));
        }
        assert!(found(1, 1) && found(64, 1));
        drafts.put_file(file(65, 1));
        assert!(!found(1, 1) && found(2, 1) && found(65, 1));
        tokio::time::advance(KEPT).await;
        assert!(!found(65, 1));
    }
}
