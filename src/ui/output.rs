//! Where words and data go.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Debug)]
pub(super) enum Sink {
    Stderr,
    Memory(Capture),
}

impl Sink {
    /// A closed stderr silences us, and there is nobody to tell: the error is dropped.
    pub(super) fn said(&self, text: &[u8]) {
        match self {
            Self::Stderr => {
                let mut stderr = io::stderr().lock();
                let _ = stderr.write_all(text).and_then(|()| stderr.flush());
            }
            Self::Memory(capture) => capture.push(|kept| &mut kept.stderr, text),
        }
    }

    pub(super) fn data(&self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(data)?;
                stdout.flush()
            }
            Self::Memory(capture) => {
                capture.push(|kept| &mut kept.stdout, data);
                Ok(())
            }
        }
    }
}

/// What a captured [`Ui`](super::Ui) said and wrote.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    stderr: Vec<u8>,
    stdout: Vec<u8>,
}

impl Capture {
    /// What was said so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.lock().stderr).into_owned()
    }

    /// The data written so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.lock().stdout.clone()
    }

    fn push(&self, which: impl Fn(&mut Kept) -> &mut Vec<u8>, bytes: &[u8]) {
        which(&mut self.lock()).extend_from_slice(bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
