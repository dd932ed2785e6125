//! What a session is to run, and what it finds.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use coderctl_ssh::server::{Program, Start};
use tokio::process::Command;

use super::SessionKind;
use crate::environment::Environment;

/// The variable by which a client says what its session is for.
const KIND: &[u8] = b"CODER_SSH_SESSION_TYPE";
/// Those by which it says that it is for a container, and for whom there
/// (`agent/agentssh/agentssh.go`).
const CONTAINER: &[u8] = b"CODER_CONTAINER";
const CONTAINER_USER: &[u8] = b"CODER_CONTAINER_USER";
/// Programs that carry files (`agent/agentssh/agentssh.go`, `BlockedFileTransferCommands`).
const CARRIERS: [&[u8]; 4] = [b"nc", b"rsync", b"scp", b"sftp"];

/// What a client says of its session by variables.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// What the session is for.
    pub kind: SessionKind,
    /// The container that it is to be in; empty for none.
    pub container: String,
    /// The user to be there; empty for the container's own.
    pub user: String,
    /// What is left for the program.
    pub variables: Vec<(OsString, OsString)>,
}

/// Takes what speaks to the agent off the client's variables.
pub(super) fn sort(env: Vec<(Vec<u8>, Vec<u8>)>) -> Said {
    let said = |wanted: &[u8]| {
        let found = env.iter().rev().find(|(name, _)| name == wanted);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let kind = match said(KIND).to_ascii_lowercase().as_str() {
        "" | "ssh" => SessionKind::Ssh,
        "vscode" => SessionKind::VsCode,
        "jetbrains" => SessionKind::JetBrains,
        _ => SessionKind::Unknown,
    };
    let (container, user) = (said(CONTAINER), said(CONTAINER_USER));
    let spoken = [KIND, CONTAINER, CONTAINER_USER];
    let rest = env.into_iter().filter(|(name, _)| !spoken.contains(&&name[..]));
    let rest = rest.map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)));
    Said { kind, container, user, variables: rest.collect() }
}

/// Whether this is a shell to work in, not a command.
pub(super) fn is_login(program: &Program) -> bool {
    match program {
        Program::Shell => true,
        Program::Exec(text) => text.is_empty(),
        Program::Subsystem(_) => false,
    }
}

/// Whether this is for carrying files.
pub(super) fn carries_files(program: &Program) -> bool {
    match program {
        Program::Shell => false,
        Program::Subsystem(name) => name == "sftp",
        Program::Exec(text) => {
            let text = text.trim_ascii_start();
            let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            let quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\');
            let word: Vec<u8> = text[..end].iter().copied().filter(|byte| !quote(byte)).collect();
            let base = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            CARRIERS.contains(&base)
        }
    }
}

/// The command of a session: the login shell, or the shell or interpreter with the text. Without
/// streams.
pub(super) fn command(
    environment: &Environment,
    start: &Start,
    client: Vec<(OsString, OsString)>,
    extra: impl IntoIterator<Item = (&'static str, OsString)>,
) -> Command {
    let mut command = match &start.program {
        Program::Exec(text) if !text.is_empty() => match std::str::from_utf8(text) {
            Ok(text) => environment.command(text),
            Err(_) => {
                let mut command = Command::new(environment.shell());
                command.arg("-c").arg(OsStr::from_bytes(text));
                command
            }
        },
        Program::Shell | Program::Exec(_) | Program::Subsystem(_) => {
            let mut command = Command::new(environment.shell());
            command.arg("-l");
            command
        }
    };
    command.env_clear().envs(environment.variables_with(client));
    // Some editors look for these; there is no address of the client to tell.
    command.env("SSH_CLIENT", "0.0.0.0 0 0").env("SSH_CONNECTION", "0.0.0.0 0 0.0.0.0 0");
    command.envs(extra).current_dir(environment.directory());
    command
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ssh::SessionEnvironment;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .collect()
    }

    #[test]
    fn what_a_session_is_for_is_taken_off() {
        for (said, expected) in [
            (&[][..], SessionKind::Ssh),
            (&["vscode"], SessionKind::VsCode),
            (&["jetbrains", "SSH"], SessionKind::Ssh),
            (&["", "JetBrains"], SessionKind::JetBrains),
            (&["emacs"], SessionKind::Unknown),
            (&[""], SessionKind::Ssh),
        ] {
            let mut env = pairs(&[("A", "1"), ("CODER_CONTAINER", "x")]);
            for value in said {
                env.extend(pairs(&[("CODER_SSH_SESSION_TYPE", value)]));
            }
            env.extend(pairs(&[("CODER_CONTAINER_USER", "y")]));
            let variables = vec![(OsString::from("A"), OsString::from("1"))];
            let (container, user) = ("x".to_owned(), "y".to_owned());
            let expected = Said { kind: expected, container, user, variables };
            assert_eq!(sort(env), expected, "{said:?}");
        }
    }

    #[test]
    fn programs_that_carry_files_are_known_by_their_first_word() {
        let exec = |text: &str| carries_files(&Program::Exec(text.into()));
        for text in ["scp -t .", " /usr/bin/rsync --server", "'nc' h 1", "sftp", "\"scp\"\t-f x"] {
            assert!(exec(text), "{text}");
        }
        for text in ["", "echo scp", "scpx", "scp2 a", "/scp/ls", "FOO=1 scp"] {
            assert!(!exec(text), "{text}");
        }
        assert!(carries_files(&Program::Subsystem("sftp".into())));
        assert!(!carries_files(&Program::Shell));
    }

    fn start(program: Program) -> Start {
        Start { env: Vec::new(), pty: None, x11: None, agent: false, program }
    }

    fn environment() -> Environment {
        let process = [("A", "agent"), ("B", "agent"), ("CODER", "agent")];
        let process: Vec<_> = process.map(|(k, v)| (k.into(), v.into())).into();
        let session = SessionEnvironment {
            workspace_name: "dev".into(),
            variables: vec![("M".into(), "$A".into()), ("C".into(), "manifest".into())],
            ..SessionEnvironment::default()
        };
        Environment::new(process.into(), Arc::new(session))
    }

    #[test]
    fn clients_set_what_nobody_else_does() {
        let client = [
            ("B", "client"),
            ("C", "client"),
            ("CODER", "client"),
            ("USER", "client"),
            ("SSH_CONNECTION", "client"),
            ("TERM", "client"),
        ];
        let client = client.map(|(k, v)| (k.into(), v.into())).into();
        let extra = [("TERM", OsString::from("xterm"))];
        let exec = start(Program::Exec(b"true".to_vec()));
        let command = command(&environment(), &exec, client, extra);
        let get = |name: &str| {
            let mut all = command.as_std().get_envs();
            all.find(|(key, _)| *key == name).and_then(|(_, value)| value?.to_str())
        };
        assert_eq!(get("A"), Some("agent"));
        assert_eq!(get("B"), Some("client"));
        assert_eq!(get("C"), Some("manifest"));
        assert_eq!(get("M"), Some("agent"), "expanded by the agent's own variables");
        assert_eq!(get("CODER"), Some("true"));
        assert_eq!(get("CODER_WORKSPACE_NAME"), Some("dev"));
        assert_eq!(get("SSH_CONNECTION"), Some("0.0.0.0 0 0.0.0.0 0"));
        assert_eq!(get("SSH_CLIENT"), Some("0.0.0.0 0 0"));
        assert_eq!(get("TERM"), Some("xterm"));
        assert_ne!(get("USER"), Some("client"));
        assert_eq!(get("GIT_SSH_COMMAND"), None);
    }

    #[test]
    fn words_of_the_command() {
        let shell = environment().shell().to_str().unwrap().to_owned();
        let bytes = b"cat \xff".to_vec();
        for (program, expected) in [
            (Program::Shell, vec![&shell[..], "-l"]),
            (Program::Exec(Vec::new()), vec![&shell, "-l"]),
            (Program::Exec(b"a 'b c'".to_vec()), vec![&shell, "-c", "a 'b c'"]),
            (
                Program::Exec(b"#!/usr/bin/env python3\nprint(1)".to_vec()),
                vec!["/usr/bin/env", "python3", "-c", "#!/usr/bin/env python3\nprint(1)"],
            ),
        ] {
            let command = command(&environment(), &start(program), Vec::new(), []);
            let command = command.as_std();
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            assert_eq!(words.collect::<Vec<_>>(), expected);
        }
        let command = command(&environment(), &start(Program::Exec(bytes.clone())), Vec::new(), []);
        assert_eq!(command.as_std().get_args().last(), Some(OsStr::from_bytes(&bytes)));
    }
}
