//! A terminal, as a person at one sees it.

use std::{
    io::{Read, Write},
    path::Path,
    process::Child,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use pty_process::{
    Size,
    blocking::{self, Pty},
};

use super::{LONGEST, binary, running::wait_for_end};

/// A program on a terminal of its own. Killed when dropped.
pub struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// `coderctl` with these arguments and this environment, on a terminal of this size (rows,
    /// columns).
    pub fn start(
        home: &Path,
        environment: &[(&str, &str)],
        arguments: &[&str],
        (rows, columns): (u16, u16),
    ) -> Self {
        let (pty, pts) = blocking::open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let child = blocking::Command::new(binary())
            .args(arguments)
            .env_clear()
            .env("HOME", home)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .spawn(pts)
            .unwrap();
        let pty = Arc::new(pty);
        let (tell, output) = mpsc::channel();
        let screen = Arc::clone(&pty);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal's last program being gone is an error here, and the end.
            while let Ok(read @ 1..) = (&*screen).read(&mut bytes) {
                if tell.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, pty, output, seen: String::new() }
    }

    /// Types.
    #[track_caller]
    pub fn types(&self, text: &str) {
        (&*self.pty).write_all(text.as_bytes()).unwrap();
    }

    /// Makes the window larger or smaller.
    #[track_caller]
    pub fn resize(&self, (rows, columns): (u16, u16)) {
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    /// Waits until this is seen, after all that was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, needle: &str) {
        assert!(self.sees(needle, LONGEST), "{needle:?} is not in {:?}", self.seen);
    }

    /// Types the same again and again until this is seen: a signal that a shell gets just before it
    /// waits for its input may be lost on it.
    #[track_caller]
    pub fn types_until(&mut self, text: &str, needle: &str) {
        let begun = Instant::now();
        self.types(text);
        while !self.sees(needle, Duration::from_secs(1)) {
            assert!(begun.elapsed() < LONGEST, "{needle:?} is not in {:?}", self.seen);
            self.types(text);
        }
    }

    /// Whether this is seen within that time.
    fn sees(&mut self, needle: &str, within: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.find(needle) {
                self.seen.drain(..at + needle.len());
                return true;
            }
            match self.output.recv_timeout(within.saturating_sub(begun.elapsed())) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => return false,
            }
        }
    }

    /// Waits for the end; how it ended.
    #[track_caller]
    pub fn finish(mut self) -> Option<i32> {
        wait_for_end(&mut self.child).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
