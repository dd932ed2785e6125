//! What the agent's own commands (scripts, metadata, terminals) find: variables, shell, directory.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::process::Command;

use crate::ssh::SessionEnvironment;

/// A shell that is always there.
const FALLBACK_SHELL: &str = "/bin/sh";

/// What commands find. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// The agent's own variables.
    process: Arc<[(OsString, OsString)]>,
    session: Arc<SessionEnvironment>,
}

impl Environment {
    pub(crate) fn new(
        process: Arc<[(OsString, OsString)]>,
        session: Arc<SessionEnvironment>,
    ) -> Self {
        Self { process, session }
    }

    /// Where it comes from.
    pub(crate) fn session(&self) -> &SessionEnvironment {
        &self.session
    }

    /// The variables of a command that no client asks for.
    pub(crate) fn variables(&self) -> BTreeMap<OsString, OsString> {
        self.variables_with([])
    }

    /// The variables, from the lowest precedence to the highest: the agent's own; the client's;
    /// the user's; who and where we are; the manifest's, expanded; the user's secrets; the
    /// scripts' directory before `PATH` (`agent/agent.go`, `updateCommandEnv`).
    pub(crate) fn variables_with(
        &self,
        client: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<OsString, OsString> {
        let session = &self.session;
        let inherited = self.process.iter().filter(|(key, _)| key != "GOTRACEBACK").cloned();
        let mut all: BTreeMap<OsString, OsString> = inherited.chain(client).collect();
        if let Some(user) = self.user() {
            all.insert("USER".into(), user.clone().into());
            all.insert("LOGNAME".into(), user.into());
        }
        all.insert("SHELL".into(), self.shell().into());
        let mut set = |key: &str, value: &str| {
            all.insert(key.into(), value.into());
        };
        set("CODER", "true");
        set("CODER_WORKSPACE_NAME", &session.workspace_name);
        set("CODER_WORKSPACE_AGENT_NAME", &session.agent_name);
        set("CODER_WORKSPACE_OWNER_NAME", &session.owner_name);
        set("CODER_WORKSPACE_ID", &session.workspace_id);
        set("CODER_AGENT_TOKEN", &session.agent_token);
        // code-server says less about itself then.
        set("CS_DISABLE_GETTING_STARTED_OVERRIDE", "true");
        if let Some(uri) = &session.vscode_proxy_uri {
            set("VSCODE_PROXY_URI", uri);
        }
        for (key, value) in &session.variables {
            set(key, &expand(value, |name| lookup(&self.process, name)));
        }
        for (key, value) in &session.secrets {
            set(key, value);
        }
        if let Some(bin) = &session.script_bin_dir {
            let mut path = bin.clone().into_os_string();
            if let Some(rest) = all.get(OsStr::new("PATH")).filter(|rest| !rest.is_empty()) {
                path.push(":");
                path.push(rest);
            }
            all.insert("PATH".into(), path);
        }
        // A name that no process can have would fail every command.
        all.retain(|key, value| is_variable(key) && !contains_nul(value));
        all
    }

    /// Who the commands run as, if that user has a name.
    fn user(&self) -> Option<String> {
        field_of(&passwd(), uid(), 0).or_else(|| lookup(&self.process, "USER"))
    }

    /// The login shell (`agent/usershell`).
    pub(crate) fn shell(&self) -> PathBuf {
        field_of(&passwd(), uid(), 6)
            .map(PathBuf::from)
            .or_else(|| lookup(&self.process, "SHELL").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(FALLBACK_SHELL))
    }

    /// The home directory: `HOME`, else what the user's entry says, else `/`.
    pub(crate) fn home(&self) -> PathBuf {
        lookup(&self.process, "HOME")
            .or_else(|| field_of(&passwd(), uid(), 5))
            .map_or_else(|| PathBuf::from("/"), PathBuf::from)
    }

    /// The manifest's directory if there is one, else home.
    pub(crate) fn directory(&self) -> PathBuf {
        let directory = expand_directory(&self.session.directory, &self.process);
        if !directory.is_empty() && Path::new(&directory).is_dir() {
            return directory.into();
        }
        self.home()
    }

    /// Whether sessions may be in containers (`cli/agent.go`: they may unless it is said).
    pub(crate) fn has_containers(&self) -> bool {
        let said = lookup(&self.process, "CODER_AGENT_DEVCONTAINERS_ENABLE");
        // Go's strconv.ParseBool.
        let no = ["0", "f", "F", "false", "FALSE", "False"];
        !said.is_some_and(|said| no.contains(&said.as_str()))
    }

    /// The command that runs this text: by the shell, or by the interpreter that its first line
    /// names. Without streams and process group.
    pub(crate) fn command(&self, text: &str) -> Command {
        let mut command = match interpreter(text) {
            Some(words) => {
                let mut words = words.into_iter();
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
            None => Command::new(self.shell()),
        };
        command.arg("-c").arg(text);
        self.equip(&mut command);
        command
    }

    /// Gives a command its variables and directory.
    pub(crate) fn equip(&self, command: &mut Command) {
        command.env_clear().envs(self.variables()).current_dir(self.directory());
    }
}

/// The words of a `#!` line.
fn interpreter(text: &str) -> Option<Vec<&str>> {
    let line = text.trim().strip_prefix("#!")?.lines().next()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    (!words.is_empty()).then_some(words)
}

fn passwd() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A field of a user's line, counted from 0: name, home (5), shell (6).
fn field_of(passwd: &str, uid: u32, field: usize) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.as_str()))?;
    line.split(':').nth(field).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The value of a variable that is set to some text.
pub(crate) fn lookup(process: &[(OsString, OsString)], name: &str) -> Option<String> {
    let found = process.iter().rev().find(|(key, _)| key == name);
    found.and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// The home directory: `HOME`, else `/`.
pub(crate) fn home(process: &[(OsString, OsString)]) -> PathBuf {
    lookup(process, "HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// A directory as templates write it: `~` first is home, variables are expanded, and what is not
/// absolute then is under home. Empty stays empty (`agent/agent.go`, `expandDirectory`).
pub(crate) fn expand_directory(directory: &str, process: &[(OsString, OsString)]) -> String {
    if directory.is_empty() {
        return String::new();
    }
    let home = home(process);
    let tilde = directory.strip_prefix('~').map(|rest| {
        let rest = rest.trim_start_matches('/');
        home.join(rest).to_string_lossy().into_owned()
    });
    let expanded = expand(tilde.as_deref().unwrap_or(directory), |name| lookup(process, name));
    // Joining an absolute path leaves that.
    home.join(expanded).to_string_lossy().into_owned()
}

/// Replaces `$NAME` and `${NAME}`; what is unset becomes nothing, a `$` that names nothing stays
/// (as Go's `os.Expand`).
pub(crate) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = if let Some(braced) = after.strip_prefix('{') {
            match braced.find('}') {
                Some(end) => (&braced[..end], end + 2),
                // Never closed: nothing of it stays.
                None => ("", 1),
            }
        } else {
            let end =
                after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            (&after[..end], end)
        };
        if length == 0 {
            expanded.push('$');
        } else if let Some(value) = value(name) {
            expanded.push_str(&value);
        }
        rest = &after[length..];
    }
    expanded.push_str(rest);
    expanded
}

fn is_variable(key: &OsStr) -> bool {
    let key = key.as_encoded_bytes();
    !key.is_empty() && !key.contains(&b'=') && !key.contains(&0)
}

fn contains_nul(value: &OsStr) -> bool {
    value.as_encoded_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Arc<[(OsString, OsString)]> {
        [
            ("HOME", "/home/me"),
            ("PATH", "/bin"),
            ("CODER", "no"),
            ("GOTRACEBACK", "none"),
            ("A", "a"),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into()
    }

    #[test]
    fn variables_expand_as_in_go() {
        let value = |name: &str| (name == "A_1").then(|| "x".to_owned());
        for (text, expected) in [
            ("plain", "plain"),
            ("$A_1", "x"),
            ("${A_1}b", "xb"),
            ("$A_1/$A_1", "x/x"),
            ("$UNSET.", "."),
            ("${UNSET}", ""),
            ("a$", "a$"),
            ("a$ b", "a$ b"),
            ("a$-b", "a$-b"),
            ("${A_1", "A_1"),
            ("${}", ""),
            ("größe$A_1", "größex"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
    }

    #[test]
    fn directories_are_expanded() {
        for (directory, expected) in [
            ("", ""),
            ("~", "/home/me/"),
            ("~/src", "/home/me/src"),
            ("/srv/$A", "/srv/a"),
            ("src", "/home/me/src"),
            ("$HOME/x", "/home/me/x"),
        ] {
            assert_eq!(expand_directory(directory, &process()), expected, "{directory}");
        }
    }

    #[test]
    fn precedence_of_variables() {
        let session = SessionEnvironment {
            workspace_name: "dev".to_owned(),
            agent_token: "hush".to_owned(),
            variables: vec![
                ("PATH".to_owned(), "/opt:$PATH".to_owned()),
                ("CODER_WORKSPACE_NAME".to_owned(), "mine".to_owned()),
                ("S".to_owned(), "manifest".to_owned()),
                ("bad=name".to_owned(), String::new()),
                ("NUL".to_owned(), "a\0b".to_owned()),
            ],
            secrets: vec![("S".to_owned(), "$A".to_owned())],
            script_bin_dir: Some("/data/bin".into()),
            ..SessionEnvironment::default()
        };
        let all = Environment::new(process(), Arc::new(session)).variables();
        let get = |key: &str| all.get(OsStr::new(key)).and_then(|value| value.to_str());
        assert_eq!(get("CODER"), Some("true"), "who we are comes before what is inherited");
        assert_eq!(get("CODER_WORKSPACE_NAME"), Some("mine"), "the manifest before who we are");
        assert_eq!(get("CODER_AGENT_TOKEN"), Some("hush"));
        assert_eq!(get("PATH"), Some("/data/bin:/opt:/bin"));
        assert_eq!(get("S"), Some("$A"), "a secret, unexpanded");
        assert_eq!(get("GOTRACEBACK"), None);
        assert_eq!(get("VSCODE_PROXY_URI"), None);
        assert!(!all.contains_key(OsStr::new("bad=name")) && !all.contains_key(OsStr::new("NUL")));
    }

    #[test]
    fn texts_name_their_interpreter() {
        for (text, expected) in [
            ("echo hi", None),
            ("#!/bin/bash -e\necho hi", Some(vec!["/bin/bash", "-e"])),
            ("\n  #!/usr/bin/env python3\nprint(1)", Some(vec!["/usr/bin/env", "python3"])),
            ("#!\necho", None),
        ] {
            assert_eq!(interpreter(text), expected, "{text}");
        }
    }

    #[test]
    fn entries_of_users() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/zsh\nno:x:7:7::/:\n";
        assert_eq!(field_of(passwd, 1000, 6).as_deref(), Some("/bin/zsh"));
        assert_eq!(field_of(passwd, 1000, 0).as_deref(), Some("me"));
        assert_eq!(field_of(passwd, 0, 5).as_deref(), Some("/root"));
        assert_eq!(field_of(passwd, 7, 6), None);
        assert_eq!(field_of(passwd, 8, 6), None);
    }
}
