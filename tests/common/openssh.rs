//! How OpenSSH's programs, and those that call them, are led through `coderctl ssh --stdio`.

/// For hosts that are known by their tunnel.
pub(crate) const OPTIONS: [&str; 4] =
    ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];

fn proxy() -> String {
    format!("ProxyCommand={} ssh --stdio %h", env!("CARGO_BIN_EXE_coderctl"))
}

/// OpenSSH's command line, for programs that take one.
pub(crate) fn ssh_line() -> String {
    let mut line = format!("ssh -F none -o '{}'", proxy());
    for option in OPTIONS {
        line += &format!(" -o {option}");
    }
    line
}

/// What comes before a program's own arguments; nothing where it is none of OpenSSH's.
pub(crate) fn options(program: &str) -> Vec<String> {
    if !matches!(program, "ssh" | "scp" | "sftp") {
        return Vec::new();
    }
    let mut options = vec!["-F".into(), "none".into(), "-o".into(), proxy()];
    options.extend(OPTIONS.iter().flat_map(|option| ["-o".into(), (*option).into()]));
    options
}
