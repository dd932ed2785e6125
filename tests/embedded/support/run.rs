//! Programs that end by themselves.

use std::{
    io::{Read, Write},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};

use super::LONGEST;

/// What a run left.
pub struct Seen {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Standard output as it was.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout: String = self.stdout.chars().take(4000).collect();
        write!(f, "{:?}\n--- stdout:\n{stdout}\n--- stderr:\n{}", self.code, self.stderr)
    }
}

impl Seen {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let seen = Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            bytes: output.stdout,
        };
        assert!(!seen.stderr.contains("panicked"), "{}", seen.stderr);
        assert!(!seen.stderr.contains(" ERROR "), "{}", seen.stderr);
        seen
    }

    /// It ended like this.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// It said so, on standard error.
    #[track_caller]
    pub fn says(self, needle: &str) -> Self {
        assert!(self.stderr.contains(needle), "{needle:?} is not in {self:?}");
        self
    }

    /// It said nothing at all, on standard error.
    #[track_caller]
    pub fn says_nothing(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }

    /// It did not.
    #[track_caller]
    pub fn says_not(self, needle: &str) -> Self {
        assert!(!self.stderr.contains(needle), "{needle:?} is in {self:?}");
        self
    }

    /// Its standard output was this.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "{self:?}");
        self
    }
}

/// Waits for the end of a program; one that hangs is killed, and fails the test.
pub fn run(command: &mut Command) -> Seen {
    perform(command.stdin(Stdio::null()), None)
}

/// The same with this as its input.
pub fn feed(command: &mut Command, input: &[u8]) -> Seen {
    perform(command.stdin(Stdio::piped()), Some(input.to_vec()))
}

fn perform(command: &mut Command, input: Option<Vec<u8>>) -> Seen {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let id = Pid::from_raw(child.id().cast_signed()).unwrap();
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if end.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Gone in this very moment is as well.
            let _ = kill_process(id, Signal::KILL);
        }
    });
    let (stdout, stderr) = (read(stdout), read(stderr));
    let writer = input.map(|input| {
        let mut stdin = child.stdin.take().unwrap();
        std::thread::spawn(move || {
            // It may end without reading it all.
            let _ = stdin.write_all(&input);
        })
    });
    let status = child.wait().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    if let Some(writer) = writer {
        writer.join().unwrap();
    }
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let seen = Seen::of(Output { status, stdout, stderr });
    assert!(began.elapsed() < LONGEST, "{command:?} hung: {seen:?}");
    seen
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
