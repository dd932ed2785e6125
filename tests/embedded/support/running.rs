//! Programs that go on: what they say is waited for.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};

use super::LONGEST;

/// A program in the background; its standard error is read line by line. Killed when dropped.
pub struct Running {
    pub child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts it. Its standard input and output are whatever the command says.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                // Read to the end, whether or not anybody listens: it must not block.
                let _ = tell.send(line);
            }
        });
        Self { child, lines, seen: String::new() }
    }

    /// The next line that has this, on standard error.
    #[track_caller]
    pub fn wait_for(&mut self, needle: &str) -> String {
        let begun = Instant::now();
        loop {
            let left = LONGEST.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen += &line;
                    self.seen.push('\n');
                    if line.contains(needle) {
                        return line;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("not within {LONGEST:?}: {needle:?}:\n{}", self.seen)
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = wait_for_end(&mut self.child);
                    panic!("it ended ({status}) before it said {needle:?}:\n{}", self.seen)
                }
            }
        }
    }

    /// All that was waited for so far.
    pub fn seen(&self) -> &str {
        &self.seen
    }

    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// All that it says until it ends.
    pub fn rest(&mut self) -> &str {
        // Somebody else may have inherited the pipe, and hold it open: not for ever.
        while let Ok(line) = self.lines.recv_timeout(LONGEST) {
            self.seen += &line;
            self.seen.push('\n');
        }
        &self.seen
    }

    /// Waits for the end; how it ended, and all of standard error.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let status = wait_for_end(&mut self.child);
        let seen = self.rest().to_owned();
        assert!(!seen.contains("panicked"), "{seen}");
        (status.code(), seen)
    }

    /// Kills it unless what is returned is dropped in time, so that nobody waits for ever for what
    /// it prints.
    pub fn deadline(&self) -> mpsc::Sender<()> {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            if is_done.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Gone in this very moment is as well.
                let _ = kill_process(id, Signal::KILL);
            }
        });
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a program; one that hangs is killed, and fails the test.
#[track_caller]
pub fn wait_for_end(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end within {LONGEST:?}");
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}
