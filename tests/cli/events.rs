//! `--events json`: the same as the text, for programs.

use serde_json::Value;

use crate::{
    server::{Answer, Server},
    support::{Home, Seen},
};

fn refusing() -> Server {
    Server::http(|_| Answer::json(401, r#"{"message":"You are \u001b signed out."}"#))
}

/// The lines on stderr; they are nothing but events.
fn events(seen: &Seen) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?} in {seen:?}"));
    seen.stderr.lines().map(line).collect()
}

#[test]
fn an_error_has_its_kind_and_its_hints() {
    let server = refusing();
    let home = Home::at(&server.url());
    for arguments in [&["--events", "json", "list"][..], &["list", "-q", "--events=json"]] {
        let seen = home.run(arguments);
        assert_eq!((seen.code, seen.stdout.as_str()), (Some(200), ""));
        let events = events(&seen);
        let [error, finished] = &events[..] else { panic!("{seen:?}") };
        assert_eq!((&error["event"], &error["kind"]), (&"error".into(), &"login".into()));
        assert_eq!((&error["version"], &error["code"]), (&1.into(), &200.into()));
        assert!(error["text"].as_str().unwrap().contains("You are \u{1b} signed out"), "{error}");
        assert!(error["hints"][0].as_str().unwrap().contains("coderctl login"), "{error}");
        assert_eq!((&finished["event"], &finished["code"]), (&"finished".into(), &200.into()));
    }
}

#[test]
fn steps_have_a_begin_and_an_end() {
    let server = Server::http(|_| Answer::json(404, r#"{"message":"Resource not found."}"#));
    let home = Home::at(&server.url()).with("CODERCTL_EVENTS", "json");
    let seen = home.run(&["wait", "dev", "--for", "deleted"]);
    let events = events(&seen);
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["began", "ended", "finished"], "{seen:?}");
    assert_eq!(events[0]["step"], events[1]["step"]);
    assert_eq!(events[1]["outcome"], "done");
    let broken = Home::at(&refusing().url()).run(&["wait", "dev", "--events", "json"]);
    assert!(broken.stderr.contains("\"outcome\":\"broken_off\""), "{broken:?}");
}

#[test]
fn a_descriptor_has_to_be_there() {
    let home = Home::at("http://127.0.0.1:1");
    let seen = home.run(&["list", "--events", "json", "--events-fd", "99"]);
    assert_eq!(seen.code, Some(210), "{seen:?}");
    assert!(seen.stderr.contains("cannot write to descriptor 99 of --events-fd"), "{seen:?}");
    assert_eq!(home.run(&["list", "--events-fd", "3"]).code, Some(2));
    assert_eq!(home.run(&["list", "--events", "xml"]).code, Some(2));
}
