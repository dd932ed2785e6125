//! `whoami`, `logout`, and a token that comes on standard input.

use std::{fs, io::Write, process::Stdio};

use crate::{
    server::{Answer, Server},
    support::{Home, TOKEN, assert_golden},
};

/// A deployment that knows every token but that of a session which was ended.
fn deployment() -> Server {
    Server::http(|line| match line {
        "GET /api/v2/users/first" | "POST /api/v2/users/logout" => Answer::json(200, "{}"),
        "GET /api/v2/users/me" => Answer::json(
            200,
            r#"{"id":"5b7e1b5c-9c0f-4a60-8d39-7a1c9c1b2f10","username":"b\u001bob",
                "organization_ids":["0199d2c3-7f4a-7c1e-9a60-2f1c5b8d3e4f"],"roles":[{"name":"owner"}]}"#,
        ),
        _ => Answer::json(404, r#"{"message":"Route not found."}"#),
    })
}

fn refusing(status: u16) -> Server {
    Server::http(move |_| Answer::json(status, r#"{"message":"You are signed out."}"#))
}

#[test]
fn who_is_logged_in_and_where() {
    let server = deployment();
    let refusing = refusing(401);
    let seen = [
        Home::at(&server.url()).run(&["whoami"]).naming(&server.url(), "$SERVER"),
        Home::at(&server.url()).run(&["whoami", "-o", "json"]).naming(&server.url(), "$SERVER"),
        Home::new().run(&["whoami"]),
        Home::at(&refusing.url()).run(&["whoami"]).naming(&refusing.url(), "$SERVER"),
    ];
    assert_golden("whoami", &seen);
}

#[test]
fn a_logout_ends_the_stored_login_here_and_there() {
    let server = deployment();
    let home = Home::new().logged_in(&server.url());
    fs::write(home.config("other"), "").unwrap();
    let seen = [home.run(&["logout"]), home.run(&["logout", "-y"])];
    assert_golden("logout", &seen.map(|seen| seen.naming(&server.url(), "$SERVER")));
    assert!(!home.config("session").exists() && !home.config("url").exists());
    assert!(home.config("other").exists());
    let requests = server.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(request.line, "POST /api/v2/users/logout");
    assert_eq!(request.header("Coder-Session-Token"), Some(TOKEN));
}

#[test]
fn a_logout_removes_the_files_whatever_the_deployment_says() {
    for (server, code) in [(refusing(401), 0), (refusing(403), 201), (refusing(500), 208)] {
        let home = Home::new().logged_in(&server.url());
        let seen = home.run(&["logout", "--http-timeout", "100ms"]);
        assert_eq!(seen.code, Some(code), "{seen:?}");
        assert!(!home.config("session").exists() && !home.config("url").exists());
    }
    // What was given is not what was stored.
    let server = deployment();
    let home = Home::at(&server.url());
    assert_eq!(home.run(&["logout"]).code, Some(200));
    let home = Home::at(&server.url()).logged_in("https://elsewhere.example.com");
    assert_eq!(home.run(&["logout"]).code, Some(200));
    assert!(home.config("session").exists());
    assert!(server.requests().is_empty());
}

#[test]
fn a_token_may_come_on_standard_input() {
    let server = deployment();
    let login = ["login", &server.url(), "--use-token-as-session", "--token-stdin"];
    let log_in = |home: &Home, input: &[u8]| {
        let mut command = home.command(&login);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(TOKEN), "{said}");
        (output.status.code(), said)
    };
    let home = Home::new();
    let (code, said) = log_in(&home, format!("{TOKEN}\r\nmore\n").as_bytes());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(home.config("session")).unwrap(), TOKEN);
    for (input, code, why) in [
        (&b""[..], 200, "no token was given"),
        (b"\n", 200, "no token was given"),
        (b"\xff\n", 1, "not UTF-8"),
        (&[b'x'; 5000], 1, "line too long"),
    ] {
        let (found, said) = log_in(&Home::new(), input);
        assert!(found == Some(code) && said.contains(why), "{found:?} {said}");
    }
    let given = Home::new().with("CODER_SESSION_TOKEN", TOKEN);
    let (code, said) = log_in(&given, b"");
    assert!(code == Some(2) && said.contains("none is read from standard input"), "{said}");
}
