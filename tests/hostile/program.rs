//! Runs the binary against a deployment and looks at all that it says.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::deployment::Deployment;

/// A token in the form of one.
const TOKEN: &str = "abcdefghij-abcdefghijklmnopqrstuv";

/// Longer than this no run takes, whatever does not answer.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// A short limit for what does not answer on the way to an agent. It is right on a loaded machine,
/// too, because in these runs nothing on that way is to succeed.
pub(crate) const SHORT: [(&str, &str); 1] = [("CODERCTL_DIAL_TIMEOUT", "0.2")];

/// One run of the binary.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A binary that runs.
pub(crate) struct Program {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Lines<BufReader<ChildStderr>>,
    said: String,
    began: Instant,
    _home: TempDir,
}

impl Deployment {
    /// Starts the binary here.
    pub(crate) fn start_program(&self, arguments: &[&str]) -> Program {
        self.start_with(arguments, &[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let home = TempDir::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_coderctl"))
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CODER_URL", self.url())
            .env("CODER_SESSION_TOKEN", TOKEN)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Program {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
            said: String::new(),
            began: Instant::now(),
            _home: home,
        }
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Seen {
        self.start_program(arguments).end().await
    }

    /// Runs `ssh dev -- exit 0`, which must end with this code and say these words.
    pub(crate) async fn ssh_fails(&self, code: i32, words: &[&str]) -> Seen {
        self.run(&["ssh", "dev", "--", "exit", "0"]).await.fails(code, words)
    }

    /// The same with a short limit for what does not answer.
    pub(crate) async fn ssh_gives_up(&self, code: i32, words: &[&str]) -> Seen {
        let program = self.start_with(&["ssh", "dev", "--", "exit", "0"], &SHORT);
        program.end().await.fails(code, words)
    }

    /// Runs `ssh dev -- exit 3`, which must work without a word.
    pub(crate) async fn ssh_works(&self) -> Seen {
        let seen = self.run(&["ssh", "dev", "--", "exit", "3"]).await;
        assert_eq!(seen.code, Some(3), "{seen:?}");
        seen
    }
}

impl Program {
    /// Waits for a line on stderr that contains this.
    pub(crate) async fn until_said(&mut self, words: &str) -> String {
        let waiting = async {
            loop {
                let line = self.stderr.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("ended without {words:?}: {}", self.said));
                self.said += &line;
                self.said.push('\n');
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(LONGEST, waiting).await.expect("said in time")
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).await.unwrap();
    }

    /// What comes next on stdout, this many bytes.
    pub(crate) async fn hear(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        let reading = self.stdout.as_mut().unwrap().read_exact(&mut bytes);
        tokio::time::timeout(LONGEST, reading).await.expect("heard in time").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Nobody reads stdout any more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// As [`Program::end`], without reading stdout any further.
    pub(crate) async fn end_unread(mut self) -> Seen {
        let unread = self.stdout.take();
        let seen = self.end().await;
        drop(unread);
        seen
    }

    /// Ends its input and waits for its end.
    pub(crate) async fn end(mut self) -> Seen {
        drop(self.stdin.take());
        let mut stdout = Vec::new();
        let out = async {
            if let Some(pipe) = &mut self.stdout {
                pipe.read_to_end(&mut stdout).await.unwrap();
            }
        };
        let err = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                self.said += &line;
                self.said.push('\n');
            }
        };
        let all = async { tokio::join!(out, err, self.child.wait()) };
        let Ok(((), (), status)) = tokio::time::timeout(LONGEST, all).await else {
            panic!("no end within {LONGEST:?}; it said: {}", self.said)
        };
        let seen = Seen {
            code: status.unwrap().code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: self.said,
        };
        seen.is_clean();
        let took = self.began.elapsed();
        assert!(took < LONGEST, "{took:?}: {seen:?}");
        seen
    }
}

impl Seen {
    fn is_clean(&self) {
        let Self { stdout, stderr, .. } = self;
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(!format!("{stdout}{stderr}").contains(TOKEN), "the token was shown: {stderr}");
        let stray = stderr.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert_eq!(stray, None, "a control character reached the terminal: {stderr:?}");
        // A debug log was asked for.
        let most = if stderr.contains("DEBUG") { 2_000_000 } else { 20_000 };
        assert!(stderr.len() < most, "{} bytes of stderr", stderr.len());
    }

    /// It ended with this code, an error, and these words in what it said.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        self
    }
}
