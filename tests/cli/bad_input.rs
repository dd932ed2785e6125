//! Names, URLs and tokens that cannot be.

use crate::server::Server;
use crate::support::{Home, assert_golden};

#[test]
fn a_name_that_no_workspace_has_is_refused_before_anything_is_asked() {
    let home = Home::at("http://127.0.0.1:1");
    let long = "x".repeat(100_000);
    let seen = ["", "a\nb", "a/b/c", "a.b.c.d", "\u{1b}[2J", "a\u{202e}b", "../../etc", &long].map(
        |name| {
            let seen = [home.run(&["ssh", name]), home.run(&["port-forward", name, "--tcp", "80"])];
            assert_eq!(seen[0].stderr, seen[1].stderr);
            let [seen, _] = seen;
            seen.naming(&long, "xxx…")
        },
    );
    assert_golden("bad-names", &seen);
}

#[test]
fn a_url_that_no_deployment_has_is_named() {
    let seen = [
        "coder.example.com",
        "localhost:3000",
        "ftp://example.com",
        "https://",
        "https://a b",
        "http://x:99999",
        "https://bob:hunter2@x",
    ]
    .map(|url| Home::at(url).run(&["list"]));
    assert!(seen.iter().all(|seen| !seen.stderr.contains("hunter2")));
    assert_golden("bad-urls", &seen);
}

#[test]
fn without_a_login_the_next_step_is_told() {
    let home = Home::new();
    let seen = [
        home.run(&["list"]),
        home.run(&["ssh", "dev"]),
        Home::new().with("CODER_URL", "http://127.0.0.1:1").run(&["list"]),
        Home::at("").run(&["list"]),
        Home::at("http://127.0.0.1:1").with("CODER_SESSION_TOKEN", "a\u{1b}b").run(&["list"]),
    ];
    assert_golden("not-logged-in", &seen);
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let server = Server::raw(drop);
    let home = Home::at(&server.url().replace("http:", "https:"));
    std::fs::write(home.path().join("empty.pem"), "").unwrap();
    let empty = home.path().join("empty.pem").to_str().unwrap().to_owned();
    let seen = [
        home.run(&["list", "--client-tls-ca-file", "/nonexistent/ca.pem"]),
        home.run(&["list", "--client-tls-ca-file", &empty]),
        home.run(&["list", "--client-tls-cert-file", &empty]),
        home.run(&["list", "--client-tls-cert-file", &empty, "--client-tls-key-file", &empty]),
    ];
    assert_golden("bad-certificates", &seen);
}
