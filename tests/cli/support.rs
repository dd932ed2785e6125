//! Runs the binary in a clean environment and compares what it says.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A home directory of its own, and nothing else of the environment of the tests.
pub struct Home {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    pub fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// Logged in to this server, by variables.
    pub fn at(url: &str) -> Self {
        Self::new().with("CODER_URL", url).with("CODER_SESSION_TOKEN", TOKEN)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the stored login.
    pub fn config(&self, file: &str) -> PathBuf {
        self.path().join(".config/coderv2").join(file)
    }

    /// Stores a login as the `coder` client does.
    pub fn logged_in(self, url: &str) -> Self {
        self.write_config("url", url.as_bytes());
        self.write_config("session", TOKEN.as_bytes());
        self
    }

    pub fn write_config(&self, file: &str, content: &[u8]) {
        let path = self.config(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coderctl"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn output<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it and gives all that was seen as one text.
    pub fn run(&self, arguments: &[&str]) -> Seen {
        let output = self.output(arguments);
        let stdout = self.normal(&output.stdout);
        let stderr = self.normal(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        let typed: Vec<_> = arguments.iter().map(|one| one.escape_debug().to_string()).collect();
        assert!(!format!("{stdout}{stderr}").contains(TOKEN), "the token was shown: {stderr}");
        Seen {
            arguments: self.normal(typed.join(" ").as_bytes()),
            code: output.status.code(),
            stdout,
            stderr,
        }
    }

    /// What differs from run to run gets a name. Control characters must not have come through.
    fn normal(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let stray = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
        assert_eq!(stray, None, "a control character reached the terminal: {text:?}");
        text.replace(&*self.path().to_string_lossy(), "$HOME")
            .replace(env!("CARGO_PKG_VERSION"), "$VERSION")
    }
}

/// A token in the form of one.
pub const TOKEN: &str = "abcdefghij-abcdefghijklmnopqrstuv";

/// One run of the binary.
#[derive(Debug)]
pub struct Seen {
    pub arguments: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Seen {
    /// Gives what is different in each run a name.
    pub fn naming(mut self, what: &str, name: &str) -> Self {
        for text in [&mut self.arguments, &mut self.stdout, &mut self.stderr] {
            *text = text.replace(what, name);
        }
        self
    }

    fn text(&self) -> String {
        let code = self.code.map_or("none: killed".to_owned(), |code| code.to_string());
        let mut text = format!("$ coderctl {}\nstatus: {code}\n", self.arguments);
        for (name, said) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !said.is_empty() {
                // Blanks at the end of a line are clap's, and no editor keeps them.
                let lines = said.lines().map(|line| format!("{}\n", line.trim_end()));
                text.push_str(&format!("--- {name}\n{}", lines.collect::<String>()));
            }
        }
        text
    }
}

/// Holds these runs to `golden/NAME.txt`.
pub fn assert_golden(name: &str, seen: &[Seen]) {
    let text = seen.iter().map(Seen::text).collect::<Vec<_>>().join("\n");
    assert_file(&Path::new("tests/cli/golden").join(format!("{name}.txt")), &text);
}

/// Holds a text to a file of the repository.
pub fn assert_file(path: &Path, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("CODERCTL_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; CODERCTL_BLESS=1 cargo test --test cli rewrites it.\n{}",
        path.display(),
        difference(&expected, text)
    );
}

fn difference(expected: &str, text: &str) -> String {
    let mut lines = expected.lines().zip(text.lines()).enumerate();
    match lines.find(|(_, (expected, seen))| expected != seen) {
        Some((number, (expected, seen))) => {
            format!("line {}:\n  expected: {expected}\n  seen:     {seen}", number + 1)
        }
        None => "one of them is longer".to_owned(),
    }
}
