//! `login`: what it asks the server, what it stores, what it refuses.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    server::{Answer, Server},
    support::{Home, TOKEN, assert_golden},
};

const MINTED: &str = "klmnopqrst-klmnopqrstuvwxyzabcdef";

/// A deployment with a first user that knows [`TOKEN`].
fn deployment() -> Server {
    Server::http(|line| match line {
        "GET /api/v2/users/first" => {
            Answer::json(200, r#"{"message":"The initial user has already been created!"}"#)
        }
        "GET /api/v2/users/me" => Answer::json(
            200,
            r#"{"id":"5b7e1b5c-9c0f-4a60-8d39-7a1c9c1b2f10","username":"b\u001bob","email":"bob@example.com"}"#,
        ),
        "POST /api/v2/users/me/keys" => Answer::json(201, format!(r#"{{"key":"{MINTED}"}}"#)),
        _ => Answer::json(404, r#"{"message":"Route not found."}"#),
    })
}

#[test]
fn a_given_token_makes_a_session_that_is_stored_privately() {
    let server = deployment();
    let home = Home::new();
    let seen = home.run(&["login", &server.url(), "--token", TOKEN_ARGUMENT]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert_golden(
        "login",
        &[seen.naming(&server.url(), "$SERVER").naming(TOKEN_ARGUMENT, "$TOKEN")],
    );
    assert_eq!(fs::read_to_string(home.config("session")).unwrap(), MINTED);
    assert_eq!(fs::read_to_string(home.config("url")).unwrap(), server.url());
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(home.config("session")), 0o600);
    assert_eq!(mode(home.config("url")), 0o600);
    assert_eq!(mode(home.config("")) & !0o750, 0);
    let made = server.requests().into_iter().find(|request| request.line.starts_with("POST"));
    assert_eq!(made.unwrap().header("Coder-Session-Token"), Some(TOKEN_ARGUMENT));
}

/// Given on the command line, which a golden file shows: not the one that must never be seen.
const TOKEN_ARGUMENT: &str = "uvwxyzabcd-uvwxyzabcdefghijklmnop";

#[test]
fn the_token_itself_is_stored_where_that_was_asked_for() {
    let server = deployment();
    let home = Home::new().with("CODER_SESSION_TOKEN", TOKEN);
    let seen = home.run(&["login", &server.url(), "--use-token-as-session"]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert_eq!(fs::read_to_string(home.config("session")).unwrap(), TOKEN);
    assert!(server.requests().iter().all(|request| !request.line.starts_with("POST")));
}

#[test]
fn what_login_refuses() {
    let server = deployment();
    let fresh = Server::http(|line| match line {
        "GET /api/v2/buildinfo" => Answer::json(200, r#"{"version":"v2.35.0"}"#),
        _ => Answer::json(404, r#"{"message":"The initial user has not been created!"}"#),
    });
    let refusing = Server::http(|line| match line {
        "GET /api/v2/users/first" => Answer::json(200, "{}"),
        _ => Answer::json(
            401,
            r#"{"message":"You are signed out or your session has expired.","detail":"API key is invalid."}"#,
        ),
    });
    let web = Server::http(|_| Answer::html(404, "<html>nothing here</html>"));
    let home = Home::new;
    let seen = [
        home().run(&["login"]),
        home().run(&["login", "ftp://example.com"]),
        home().run(&["login", "https://bob:secret@example.com"]),
        home().run(&["login", &server.url()]).naming(&server.address().to_string(), "$SERVER"),
        home()
            .with("CODER_SESSION_TOKEN", TOKEN)
            .run(&["login", &server.url()])
            .naming(&server.address().to_string(), "$SERVER"),
        home()
            .run(&["login", &fresh.url(), "--token", "x"])
            .naming(&fresh.address().to_string(), "$SERVER"),
        home()
            .run(&["login", &refusing.url(), "--token", "x"])
            .naming(&refusing.address().to_string(), "$SERVER"),
        home()
            .run(&["login", &web.url(), "--token", "x"])
            .naming(&web.address().to_string(), "$SERVER"),
    ];
    assert_golden("login-refusals", &seen);
}

#[test]
fn a_home_that_cannot_be_written_is_said() {
    let server = deployment();
    let home = Home::new();
    fs::write(home.path().join(".config"), "").unwrap();
    let seen = home.run(&["login", &server.url(), "--token", TOKEN_ARGUMENT]);
    assert_eq!(seen.code, Some(1), "{seen:?}");
    assert!(seen.stderr.contains("cannot write $HOME/.config/coderv2/"), "{seen:?}");
}
