//! Runs `coderctl server`, and `coderctl` and others against it.

mod api;
mod balancer;
mod client;
mod faults;
mod half_close;
mod never;
pub mod postgres;
mod run;
pub mod running;
mod server;
#[path = "../../common/services.rs"]
mod services;
mod terminal;

use std::{io::Write, path::Path, process::Command, time::Duration};

pub use self::{
    api::{Api, agents, id, token_of},
    balancer::Balancer,
    client::{Client, start_agent},
    faults::Faults,
    half_close::{ask, reverse},
    never::Never,
    run::{Seen, feed, run},
    running::Running,
    server::{Options, Server},
    terminal::Terminal,
};
pub(crate) use services::{local_port, noise, service};

/// The agent of a template, whose start script notes in `~/owners` for whom it runs.
pub const GREETER: &str = r#"
[[agents]]
name = "main"
[[agents.scripts]]
name = "greet"
blocks_login = true
run = "echo for $CODER_WORKSPACE_OWNER_NAME in $CODER_WORKSPACE_NAME >> $HOME/owners"
"#;

/// Longer than this nothing takes, on a loaded machine either.
pub const LONGEST: Duration = Duration::from_secs(60);

/// The binary.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_coderctl")
}

/// A command in a home directory of its own, with nothing else of our environment.
pub fn coderctl(home: &Path) -> Command {
    let mut command = Command::new(binary());
    clean(&mut command, home);
    command.stdin(std::process::Stdio::null());
    command
}

/// Gives any program an environment of its own.
pub fn clean(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("SHELL", "/bin/sh");
}

/// Says so past the test harness's capture.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    // Nobody listens: then nobody needs to know.
    let _ = writeln!(std::io::stderr(), "\n!!! SKIPPED: {test}: {why}\n");
}

/// Whether a program is installed; says loudly when it is not.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// Looks again and again until there is something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LONGEST, "not within {LONGEST:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
