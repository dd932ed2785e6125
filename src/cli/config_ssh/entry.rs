//! Our own file: one entry for all workspaces. Pure: settings in, text out.

use std::path::Path;

use crate::ui::quoted;

/// What the entry is made of.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    /// The deployment, for whoever reads the file.
    pub url: &'a str,
    /// What is behind a workspace's name, without its dot.
    pub suffix: &'a str,
    /// The words of the command that OpenSSH runs, as far as they are the same for every host.
    pub proxy: &'a [String],
    /// Where the agents' host keys are pinned.
    pub known_hosts: &'a Path,
    /// Options, the most important first: of several of one name the first holds, and an empty one
    /// means that there is none.
    pub options: &'a [(String, String)],
}

/// Options that are there unless somebody says otherwise.
///
/// A workspace may take minutes to start, so OpenSSH's own clock must not run out. The tunnel has
/// authenticated the agent before OpenSSH sees it; its host key is pinned all the same, at the first
/// connection, in a file of our own.
fn defaults(known_hosts: &str) -> [(String, String); 4] {
    [
        ("ConnectTimeout", "0"),
        ("StrictHostKeyChecking", "accept-new"),
        ("UserKnownHostsFile", known_hosts),
        ("LogLevel", "ERROR"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

impl Entry<'_> {
    /// The file.
    ///
    /// # Errors
    /// Something has a line break or a quote where OpenSSH knows no way to write it.
    pub(super) fn text(&self) -> Result<String, String> {
        let Self { url, suffix, proxy, known_hosts, options } = self;
        let words: Vec<String> = proxy.iter().map(|word| shell_word(word)).collect();
        // OpenSSH replaces `%h`, and knows `%%` for the sign itself.
        let command = words.join(" ").replace('%', "%%");
        let known_hosts = quoted_path(known_hosts)?;
        let mut lines = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in options.iter().cloned().chain(defaults(&known_hosts)) {
            let key = name.to_ascii_lowercase();
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            if !value.is_empty() {
                lines.push(format!("    {name} {value}\n"));
            }
        }
        let text = format!(
            "# Written by `coderctl config-ssh`, and replaced by it: changes here are lost.\n\
             # {url}\n\
             Host *.{suffix}\n\
             {}    ProxyCommand {command} --stdio --hostname-suffix {suffix} %h\n",
            lines.concat(),
        );
        match text.chars().find(|c| c.is_control() && *c != '\n') {
            None if text.lines().count() == lines.len() + 4 => Ok(text),
            None | Some(_) => Err("a path or an option has a line break in it".to_owned()),
        }
    }
}

/// An option as it was typed: `Name=Value` or `Name Value`.
///
/// # Errors
/// It has no name.
pub(super) fn option(text: &str) -> Result<(String, String), String> {
    let text = text.trim();
    let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
    let (name, value) = text.split_at(end);
    let value = value.trim_start().trim_start_matches('=').trim();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("{} is not an option of OpenSSH's: write Name=Value", quoted(text)));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Options that make OpenSSH run or load something, or that begin something else: those are for
/// nobody but the user to say.
const OF_THE_USER: [&str; 12] = [
    "host",
    "match",
    "include",
    "proxycommand",
    "proxyjump",
    "localcommand",
    "permitlocalcommand",
    "remotecommand",
    "knownhostscommand",
    "pkcs11provider",
    "securitykeyprovider",
    "xauthlocation",
];

/// Whether a deployment may ask for this option.
pub(super) fn may_ask(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !OF_THE_USER.contains(&name.as_str())
}

/// Whether something can stand behind a host's name.
pub(super) fn is_suffix(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 200 && !text.starts_with('-') && text.split('.').all(label)
}

/// A word for the shell that OpenSSH runs the command with.
fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:,+@".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A path for OpenSSH itself, which knows quotes, but none within them, and replaces `%h` and
/// variables.
fn quoted_path(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n']));
    let text = text.ok_or_else(|| {
        let name = quoted(&path.to_string_lossy());
        format!("OpenSSH has no way to write the path {name}")
    })?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(proxy: &'a [String], options: &'a [(String, String)]) -> Entry<'a> {
        let known_hosts = Path::new("/home/b b/.ssh/coderctl/known_hosts");
        Entry { url: "https://x", suffix: "coderctl", proxy, known_hosts, options }
    }

    #[test]
    fn the_first_of_a_name_holds_and_an_empty_one_means_none() {
        let proxy = ["/opt/it's 100%/coderctl", "--header", "", "ssh"].map(str::to_owned);
        let options =
            ["ServerAliveInterval=5", "loglevel=", "ConnectTimeout 3", "connecttimeout 4"];
        let options = options.map(|text| option(text).unwrap());
        let expected = "\
# Written by `coderctl config-ssh`, and replaced by it: changes here are lost.
# https://x
Host *.coderctl
    ServerAliveInterval 5
    ConnectTimeout 3
    StrictHostKeyChecking accept-new
    UserKnownHostsFile \"/home/b b/.ssh/coderctl/known_hosts\"
    ProxyCommand '/opt/it'\\''s 100%%/coderctl' --header '' ssh --stdio --hostname-suffix coderctl %h
";
        assert_eq!(entry(&proxy, &options).text().unwrap(), expected);
    }

    #[test]
    fn no_line_can_be_smuggled_in() {
        let plain = ["coderctl".to_owned()];
        for value in ["x\nProxyCommand evil", "x\rHost *", "\u{0}"] {
            let option = [("User".to_owned(), value.to_owned())];
            assert!(entry(&plain, &option).text().is_err(), "{value:?}");
        }
        assert!(entry(&["a\nb".to_owned()], &[]).text().is_err());
        for text in ["", "=x", "a-b=c", "Us\ner x"] {
            assert!(option(text).is_err() || !option(text).unwrap().0.contains('\n'), "{text:?}");
        }
        for (name, allowed) in [
            ("User", true),
            ("ProxyCommand", false),
            ("localCommand", false),
            ("Match", false),
            ("a b", false),
        ] {
            assert_eq!(may_ask(name), allowed, "{name}");
        }
        for (suffix, good) in [
            ("coder", true),
            ("a.b-c", true),
            ("", false),
            ("*", false),
            ("a b", false),
            ("-a", false),
            ("a..b", false),
        ] {
            assert_eq!(is_suffix(suffix), good, "{suffix:?}");
        }
    }
}
