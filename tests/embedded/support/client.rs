//! Somebody who is logged in to a server.

use std::{path::Path, process::Command, sync::Arc};

use tempfile::TempDir;

use super::{Api, Running, Seen, Terminal, clean, coderctl, feed, local_port, run};

/// A user at a URL, with a home directory.
#[derive(Clone)]
pub struct Client {
    pub home: Arc<TempDir>,
    pub url: String,
    pub token: String,
}

impl Client {
    /// Somebody else at the same server.
    pub fn as_user(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same user by another way.
    pub fn by(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [("CODER_URL", &self.url), ("CODER_SESSION_TOKEN", &self.token)]
    }

    /// A command.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = coderctl(self.home.path());
        command.args(arguments).envs(self.variables());
        command
    }

    /// Any other program, which may run `coderctl` logged in.
    pub fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(name);
        clean(&mut command, self.home.path());
        command.args(arguments).envs(self.variables());
        command
    }

    /// Runs a command.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Seen {
        let seen = run(&mut self.command(arguments));
        let said = format!("{}{}", seen.stdout, seen.stderr);
        assert!(!said.contains(&self.token), "the token was shown: {said}");
        seen
    }

    /// The same, where the token is too short to be looked for in what is said.
    #[track_caller]
    pub fn run_unchecked(&self, arguments: &[&str]) -> Seen {
        run(&mut self.command(arguments))
    }

    /// Runs a command with this input.
    #[track_caller]
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Seen {
        feed(&mut self.command(arguments), input)
    }

    /// A command that goes on; its standard output is nobody's concern.
    pub fn background(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments).stdout(std::process::Stdio::null()))
    }

    /// A command on a terminal.
    pub fn terminal(&self, arguments: &[&str], size: (u16, u16)) -> Terminal {
        Terminal::start(self.home.path(), &self.variables(), arguments, size)
    }

    /// A forward to a port of a workspace, once it is ready, and its local port.
    #[track_caller]
    pub fn forward(&self, workspace: &str, remote: u16) -> (Running, u16) {
        let spec = format!("127.0.0.1:0:{remote}");
        let mut forward = self.background(&["port-forward", workspace, "--tcp", &spec]);
        let local = local_port(&forward.wait_for("Forwarding"));
        forward.wait_for("Ready!");
        (forward, local)
    }

    /// The REST interface.
    pub fn api(&self) -> Api {
        Api::new(&self.url, &self.token)
    }

    /// A template in a file of this name.
    pub fn template_file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Makes a workspace of a template, which gets the workspace's name, and waits until it is
    /// built.
    #[track_caller]
    pub fn create(&self, name: &str, text: &str) {
        let file = self.template_file(name, text);
        self.run(&["create", name, "--template", &file]).ends(0);
    }

    /// An agent that was started by hand, with a home of its own.
    pub fn agent(&self, token: &str) -> (Running, TempDir) {
        let home = TempDir::new().unwrap();
        let running = start_agent(&self.url, token, home.path());
        (running, home)
    }
}

/// An agent that is started by hand.
pub fn start_agent(url: &str, token: &str, home: &Path) -> Running {
    let mut command = coderctl(home);
    command.arg("agent").env("CODER_AGENT_URL", url).env("CODER_AGENT_TOKEN", token);
    Running::start(command.stdout(std::process::Stdio::null()))
}
