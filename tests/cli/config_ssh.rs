//! `config-ssh`: one line in OpenSSH's configuration, a file of its own, and nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use crate::{
    server::{Answer, Server},
    support::{Home, assert_golden},
};

/// Somebody's configuration, with the `coder` client's section.
const THEIRS: &str = "# mine\r\nHost a\n\tPort 1\n\n# ------------START-CODER-----------\n\
                      Host coder.*\n# ------------END-CODER------------";

fn deployment() -> Server {
    Server::http(|line| match line {
        "GET /api/v2/deployment/ssh" => Answer::json(
            200,
            r#"{"hostname_prefix":"coder.","hostname_suffix":"coder","ssh_config_options":
                {"ForwardAgent":"yes","LocalCommand":"evil","User\nHost *":"x","LogLevel":"INFO"}}"#,
        ),
        _ => Answer::json(404, r#"{"message":"Route not found."}"#),
    })
}

fn with_config(server: &Server) -> Home {
    let home = Home::at(&server.url());
    fs::create_dir(home.path().join(".ssh")).unwrap();
    fs::write(home.path().join(".ssh/config"), THEIRS).unwrap();
    home
}

const BINARY: [&str; 2] = ["--coder-binary-path", "/opt/coder ctl/coderctl"];

#[test]
fn it_comes_and_goes_without_a_trace() {
    let server = deployment();
    let home = with_config(&server);
    let config = home.path().join(".ssh/config");
    let run = |arguments: &[&str]| {
        let all = [&["config-ssh"], &BINARY[..], arguments].concat();
        home.run(&all).naming(&server.url(), "$SERVER")
    };
    let options = ["-o", "ServerAliveInterval=15", "-o", "LogLevel=", "--wait=no"];
    let dry = run(&[&options[..], &["--dry-run", "--disable-autostart"]].concat());
    assert_eq!(fs::read_to_string(&config).unwrap(), THEIRS);
    let seen = [dry, run(&[]), run(&[]), run(&["--remove", "-n"]), run(&["--remove"])];
    assert_golden("config-ssh", &seen);
    assert_eq!(fs::read_to_string(&config).unwrap(), THEIRS);
    assert!(!home.path().join(".ssh/coderctl").exists());
    assert!(run(&["--remove"]).stderr.contains("No changes to make"));
}

#[test]
fn what_it_refuses() {
    let server = deployment();
    let home = with_config(&server);
    let seen = [
        &["config-ssh", "--hostname-suffix", "a b"][..],
        &["config-ssh", "-o", "=x"],
        &["config-ssh", "-o", "User=a\nHost *"],
        &["config-ssh", "--coder-binary-path", "coderctl"],
        &["config-ssh", "--ssh-config-file", "/a*/config"],
        &["config-ssh", "--ssh-config-file", "/dev/null/config"],
    ];
    assert_golden("config-ssh-refusals", &seen.map(|arguments| home.run(arguments)));
    assert_eq!(fs::read_to_string(home.path().join(".ssh/config")).unwrap(), THEIRS);
}

#[test]
fn a_configuration_that_is_a_link_stays_one() {
    let server = deployment();
    let home = Home::at(&server.url());
    let (dotfiles, ssh) = (home.path().join("dotfiles"), home.path().join(".ssh"));
    fs::create_dir(&ssh).unwrap();
    fs::write(&dotfiles, THEIRS).unwrap();
    fs::set_permissions(&dotfiles, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("../dotfiles", ssh.join("config")).unwrap();
    assert_eq!(home.run(&["config-ssh"]).code, Some(0));
    assert!(fs::symlink_metadata(ssh.join("config")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&dotfiles).unwrap().permissions().mode() & 0o777, 0o640);
    let line = format!("Include \"{}/coderctl/config\"\n", ssh.display());
    assert_eq!(fs::read_to_string(&dotfiles).unwrap(), format!("{line}{THEIRS}"));
    let mode = |path| fs::metadata(ssh.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("coderctl"), mode("coderctl/config")), (0o700, 0o600));
}

#[test]
fn openssh_understands_it() {
    let server = deployment();
    let home = with_config(&server).with("CODER_HEADER", "x-y=1 2");
    let config = home.path().join(".ssh/config");
    assert_eq!(home.run(&[&["config-ssh"], &BINARY[..]].concat()).code, Some(0));
    let Ok(output) =
        Command::new("ssh").arg("-F").arg(&config).args(["-G", "main.dev.bob.coderctl"]).output()
    else {
        return;
    };
    let read = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let known_hosts =
        format!("userknownhostsfile {}/coderctl/known_hosts", config.parent().unwrap().display());
    for line in [
        "proxycommand '/opt/coder ctl/coderctl' --header 'x-y=1 2' ssh --stdio --hostname-suffix coderctl %h",
        "stricthostkeychecking accept-new",
        "forwardagent yes",
        "loglevel INFO",
        &known_hosts,
    ] {
        assert!(read.lines().any(|found| found == line), "{line:?} is not in {read}");
    }
}
