#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn log_paths_are_expanded() {
    let value = |name: &str| match name {
        "HOME" => Some("/home/me".to_owned()),
        "X" => Some("x".to_owned()),
        _ => None,
    };
    for (path, expected) in [
        ("", "/logs/coder-script-00000000-0000-0000-0000-000000000007.log"),
        ("build.log", "/logs/build.log"),
        ("/var/log/$X.log", "/var/log/x.log"),
        ("~/a.log", "/home/me/a.log"),
        ("$HOME/b.log", "/home/me/b.log"),
    ] {
        let script = Script { log_path: path.to_owned(), ..script("") };
        assert_eq!(log_path(&script, Path::new("/logs"), value), Path::new(expected), "{path}");
    }
}

fn script(text: &str) -> Script {
    Script {
        id: uuid::Uuid::from_u128(9),
        log_source_id: uuid::Uuid::from_u128(7),
        log_path: String::new(),
        text: text.to_owned(),
        cron: String::new(),
        run_on_start: true,
        run_on_stop: false,
        timeout: Duration::ZERO,
        display_name: "test".to_owned(),
    }
}
