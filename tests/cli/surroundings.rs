//! Surroundings that are odd, and work; or do not, and are named.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    process::Stdio,
};

use crate::{
    server::{Answer, Server},
    support::{Home, assert_golden},
};

fn deployment() -> Server {
    Server::http(|_| Answer::json(200, r#"{"workspaces":[],"count":0}"#))
}

#[test]
fn a_login_that_cannot_be_read_is_named() {
    let server = deployment();
    let named = |home: Home| home.run(&["list"]).naming(&server.url(), "$SERVER");
    let directory = Home::new();
    fs::create_dir_all(directory.config("url")).unwrap();
    let not_text = Home::new().logged_in(&server.url());
    not_text.write_config("session", b"\xff\xfe");
    let no_scheme = Home::new().logged_in("coder.example.com");
    let empty = Home::new().logged_in(" \n");
    let odd_token = Home::new().logged_in(&server.url());
    odd_token.write_config("session", b"a\nb\x1b[2J");
    assert_golden("odd-logins", &[directory, not_text, no_scheme, empty, odd_token].map(named));
}

#[test]
fn an_odd_but_usable_home_says_nothing() {
    let server = deployment();
    let home = Home::new().logged_in(&server.url());
    for file in ["url", "session"] {
        fs::set_permissions(home.config(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(home.config(""), fs::Permissions::from_mode(0o500)).unwrap();
    let seen = home.run(&["list", "-o", "json"]);
    fs::set_permissions(home.config(""), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((seen.code, seen.stdout.as_str(), seen.stderr.as_str()), (Some(0), "[]\n", ""));
}

#[test]
fn without_a_home_variables_are_enough() {
    let server = deployment();
    let home = Home::at(&server.url());
    let output = home.command(&["list"]).env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let server = deployment();
    let home = Home::at(&server.url());
    for arguments in [&["list", "-o", "json"][..], &["--help"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(arguments).stdout(OwnedFd::from(writer)).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let server = deployment();
    let home = Home::at(&server.url());
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = home.command(&["list", "-o", "json"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}

#[test]
fn closed_streams_do_not_matter() {
    let server = deployment();
    let home = Home::at(&server.url());
    let output = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" list -o json <&- 2>&-", env!("CARGO_BIN_EXE_coderctl")])
        .env_clear()
        .envs([("CODER_URL", server.url()), ("CODER_SESSION_TOKEN", "x".to_owned())])
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"[]\n"[..]),
        "{output:?}"
    );
}

#[test]
fn a_log_directory_gets_a_private_file_that_an_editor_finds() {
    let home = Home::new();
    let logs = home.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let log_dir = logs.to_str().unwrap();
    let missing = home.run(&["ssh", "dev", "-l", "/nonexistent"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("cannot create the log file /nonexistent/"), "{missing:?}");
    home.output(&["ssh", "--stdio", "dev", "--log-dir", log_dir]);
    let files: Vec<_> = fs::read_dir(&logs).unwrap().map(Result::unwrap).collect();
    let name = files[0].file_name().into_string().unwrap();
    let parent = format!("-{}.log", std::process::id());
    assert!(
        files.len() == 1 && name.starts_with("coder-ssh-") && name.ends_with(&parent),
        "{name}"
    );
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_port_in_use_is_told_before_anything_is_asked_of_the_server() {
    let server = deployment();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = Home::at(&server.url());
    let seen = home.run(&["port-forward", "dev", "--tcp", &format!("127.0.0.1:{port}:80")]);
    assert_golden("port-in-use", &[seen.naming(&port, "$PORT")]);
}
