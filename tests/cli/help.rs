//! Help of every command, and what wrong usage says.

use crate::support::{Home, assert_golden};

const COMMANDS: [&str; 24] = [
    "login",
    "logout",
    "whoami",
    "list",
    "show",
    "ssh",
    "sessions",
    "port-forward",
    "cp",
    "config-ssh",
    "ping",
    "speedtest",
    "netcheck",
    "create",
    "start",
    "stop",
    "restart",
    "delete",
    "wait",
    "logs",
    "demo",
    "server",
    "agent",
    "version",
];

#[test]
fn help_of_every_command() {
    let home = Home::new();
    for command in COMMANDS {
        let seen = [home.run(&[command, "-h"]), home.run(&[command, "--help"])];
        assert_golden(&format!("help-{command}"), &seen);
    }
    assert_golden("help", &[home.run(&[]), home.run(&["-h"]), home.run(&["--help"])]);
}

#[test]
fn help_never_shows_what_a_variable_holds() {
    let home = Home::at("https://coder.example.com").with("CODER_HEADER_COMMAND", "secret");
    for arguments in [&["--help"][..], &["ssh", "--help"]] {
        let seen = home.run(arguments);
        assert!(!seen.stdout.contains("secret") && !seen.stdout.contains("example"), "{seen:?}");
    }
}

#[test]
fn the_version_is_a_flag_and_a_command() {
    let home = Home::new();
    let seen = [&["--version"][..], &["-V"], &["version"], &["version", "-o", "json"]];
    assert_golden("version", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn wrong_usage_is_2_and_says_what_is_wrong() {
    let home = Home::at("http://127.0.0.1:1");
    let seen = [
        &["--nope"][..],
        &["nope"],
        &["ssh"],
        &["list", "surplus"],
        &["list", "-o", "yaml"],
        &["ssh", "dev", "--wait=maybe"],
        &["--quiet=maybe", "list"],
        &["ssh", "--stdio=\u{1b}[2J", "dev"],
        &["ssh", "dev", "--network-info-interval", "5"],
        &["ssh", "dev", "-e", "NOVALUE"],
        &["sessions"],
        &["sessions", "dev", "-o", "yaml"],
        &["ping", "dev", "-n", "0"],
        &["ping", "dev", "--timeout", "soon"],
        &["speedtest", "dev", "-t", "31s"],
        &["speedtest", "dev", "--direction", "sideways"],
        &["speedtest", "dev", "-c", "cost"],
        &["speedtest", "dev", "--pcap-file", "x"],
        &["ssh", "dev", "-e", "\"A=1"],
        &["--header", "novalue", "list"],
        &["ssh", "dev", "-G", "--session", "work"],
        &["ssh", "dev", "-R", "0.0.0.0:80"],
        &["ssh", "-N", "dev"],
        &["ssh", "dev", "--session", "not/one"],
        &["ssh", "dev", "--session", "work", "-A"],
        &["ssh", "-N", "dev", "-D", "1080", "--", "true"],
        &["ssh", "dev", "--escape-char", "ab"],
        &["ssh", "dev", "--env-file", "/nonexistent"],
        &[
            "vscodessh",
            "--network-info-dir",
            "i",
            "--session-token-file",
            "t",
            "--url-file",
            "u",
            "x",
        ],
        &["ssh", "dev", "-N", "-c", "box"],
        &["ssh", "dev", "--container-user", "ann"],
        &["ssh", "--stdio", "dev", "-R", "8080:localhost:80"],
        &["port-forward", "dev"],
        &["create", "dev", "-t", "nowhere.toml"],
        &["start", "dev", "--parameter", "novalue"],
        &["stop", "dev", "--timeout", "soon"],
    ];
    assert_golden("wrong-usage", &seen.map(|arguments| home.run(arguments)));
}

#[test]
fn bad_forwards_are_named() {
    let home = Home::at("http://127.0.0.1:1");
    let forward = |flag, spec: &str| home.run(&["port-forward", "dev", flag, spec]);
    let ports = ["0", "70000", "9-8", "80:80-81", "8080,8080", "localhost:80", "", "80:0", "x\n"];
    let mut seen = Vec::from(ports.map(|spec| forward("--tcp", spec)));
    seen.push(forward("--udp", "53:53-54"));
    let long = format!("/{}:80", "x".repeat(150));
    let ends = ["80", ":80:db:80", "80:::1:80", "80:81:82", "80:d\u{1b}b:80", "./s:80", &long];
    seen.extend(ends.map(|spec| forward("-L", spec)));
    seen.push(forward("-R", "0.0.0.0:80"));
    seen.push(forward("-D", "/tmp/s"));
    assert_golden("bad-forwards", &seen);
}

#[test]
fn variables_count_as_flags() {
    for (name, value, code) in [
        ("CODER_VERBOSE", "maybe", 2),
        ("CODER_PORT_FORWARD_TCP", "9-8", 2),
        ("CODER_PORT_FORWARD_UDP", "9-8", 2),
        ("CODER_HEADER", "novalue", 2),
    ] {
        let home = Home::at("http://127.0.0.1:1").with(name, value);
        let seen = home.run(&["port-forward", "dev"]);
        assert_eq!(seen.code, Some(code), "{name}: {seen:?}");
    }
    // Set to the empty string is set: no such time to wait.
    let home = Home::at("http://127.0.0.1:1").with("CODER_SSH_WAIT", "");
    assert_eq!(home.run(&["ssh", "dev"]).code, Some(2));
}
