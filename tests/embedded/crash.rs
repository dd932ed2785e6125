//! The server is killed again and again while workspaces are made, claimed and built: nothing that
//! was acknowledged is lost, and what was interrupted is finished.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex},
};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, GREETER, LONGEST, Options, Server, agents, id, noise, postgres, until};

/// How often it is killed.
const ROUNDS: usize = 10;

/// Added to its agent.
const STAGES: &str = r#"
[[start]]
stage = "Planning"
log = ["one", "two"]
duration = "20ms"
[[stop]]
stage = "Stopping"
duration = "20ms"
[[presets]]
name = "ready"
prebuilds = 3
"#;

/// What was acknowledged.
#[derive(Debug, Default)]
struct Ledger {
    /// By id: the name, and whether it was made of a preset.
    workspaces: BTreeMap<String, (String, bool)>,
    /// By id: the workspace, the number, the transition.
    builds: BTreeMap<String, (String, u64, String)>,
    tokens: Vec<String>,
    names: usize,
}

impl Ledger {
    /// Whether there is a claimed workspace, one that was built again, and a token.
    fn is_of_all_kinds(&self) -> bool {
        let claimed = self.workspaces.values().any(|(_, preset)| *preset);
        claimed && self.builds.len() > self.workspaces.len() && !self.tokens.is_empty()
    }
}

/// The ledger, and who waits for its next lines.
#[derive(Default)]
struct Book {
    ledger: Mutex<(Ledger, usize)>,
    written: Condvar,
}

impl Book {
    /// Something was acknowledged.
    fn write(&self, line: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.ledger.lock().unwrap();
        line(&mut ledger.0);
        ledger.1 += 1;
        self.written.notify_all();
    }

    fn read<T>(&self, read: impl FnOnce(&mut Ledger) -> T) -> T {
        read(&mut self.ledger.lock().unwrap().0)
    }

    /// Waits for so many more lines.
    fn wait_for(&self, lines: usize) {
        let enough = self.ledger.lock().unwrap().1 + lines;
        self.wait_until(|_, count| count >= enough);
    }

    /// Waits until there is enough, as its lines and their number say.
    fn wait_until(&self, enough: impl Fn(&Ledger, usize) -> bool) {
        let ledger = self.ledger.lock().unwrap();
        let (ledger, late) = self
            .written
            .wait_timeout_while(ledger, LONGEST, |(ledger, count)| !enough(ledger, *count))
            .unwrap();
        assert!(!late.timed_out(), "the server acknowledges too little: {:?}", ledger.0);
    }

    fn workspace_made(&self, name: &str, preset: bool, workspace: &Value) {
        let id = id(workspace);
        self.write(|ledger| {
            let build = &workspace["latest_build"];
            ledger.workspaces.insert(id.clone(), (name.to_owned(), preset));
            ledger.builds.insert(self::id(build), build_line(&id, build));
        });
    }
}

fn build_line(workspace: &str, build: &Value) -> (String, u64, String) {
    let number = build["build_number"].as_u64().unwrap();
    (workspace.to_owned(), number, build["transition"].as_str().unwrap().to_owned())
}

/// Makes workspaces, of the preset or without, until the server does not answer.
fn make(api: &Api, book: &Book, template: &str, preset: Option<&str>) {
    loop {
        let name = book.read(|ledger| {
            ledger.names += 1;
            format!("w{}", ledger.names)
        });
        let mut body = json!({"name": name, "template_id": template});
        if let Some(preset) = preset {
            body["template_version_preset_id"] = preset.into();
        }
        match api.try_json(Method::POST, "/users/me/workspaces", &body) {
            Some((StatusCode::CREATED, workspace)) => {
                book.workspace_made(&name, preset.is_some(), &workspace);
            }
            Some(other) => panic!("{other:?}"),
            None => return,
        }
    }
}

/// Builds workspaces, one after the other, until the server does not answer.
fn build(api: &Api, book: &Book) {
    let mut round = 0_usize;
    loop {
        let all = book.read(|ledger| ledger.workspaces.keys().cloned().collect::<Vec<_>>());
        let Some(workspace) = all.get(round % all.len().max(1)) else {
            match api.try_json(Method::GET, "/users/me", &Value::Null) {
                Some(_) => continue,
                None => return,
            }
        };
        round += 1;
        let transition = ["stop", "start", "stop", "start", "delete"][round % 5];
        let body = json!({"transition": transition});
        match api.try_json(Method::POST, &format!("/workspaces/{workspace}/builds"), &body) {
            Some((StatusCode::CREATED, build)) => book.write(|ledger| {
                ledger.builds.insert(id(&build), build_line(workspace, &build));
            }),
            // Another build is active, or it is deleted.
            Some((StatusCode::CONFLICT | StatusCode::GONE | StatusCode::NOT_FOUND, _)) => {}
            Some(other) => panic!("{transition} {workspace}: {other:?}"),
            None => return,
        }
    }
}

/// Makes tokens until the server does not answer.
fn tokens(api: &Api, book: &Book) {
    // A few: whoever asks for more than a few a minute is slowed down.
    for _ in 0..3 {
        match api.try_json(Method::POST, "/users/me/keys/tokens", &json!({})) {
            Some((StatusCode::CREATED, made)) => {
                let token = made["key"].as_str().unwrap().to_owned();
                book.write(|ledger| ledger.tokens.push(token));
            }
            Some((StatusCode::TOO_MANY_REQUESTS, _)) | None => return,
            Some(other) => panic!("{other:?}"),
        }
    }
}

/// All that was acknowledged is there.
fn check(server: &Server, ledger: &Ledger) {
    let api = server.api();
    for (workspace, (name, _)) in &ledger.workspaces {
        let found = api.get(&format!("/workspaces/{workspace}?include_deleted=true"));
        assert_eq!(
            (found["name"].as_str(), found["owner_name"].as_str()),
            (Some(name.as_str()), Some("admin")),
            "{found}"
        );
        let numbers: Vec<_> = api
            .get(&format!("/workspaces/{workspace}/builds"))
            .as_array()
            .unwrap()
            .iter()
            .map(|build| build["build_number"].as_u64().unwrap())
            .collect();
        let count = u64::try_from(numbers.len()).unwrap();
        assert_eq!(numbers, (1..=count).rev().collect::<Vec<_>>(), "{name}");
    }
    for (build, line) in &ledger.builds {
        let found = api.get(&format!("/workspacebuilds/{build}"));
        assert_eq!(&build_line(found["workspace_id"].as_str().unwrap(), &found), line, "{found}");
    }
    for token in &ledger.tokens {
        assert_eq!(server.as_user(token).api().get("/users/me")["username"], "admin");
    }
}

/// What was interrupted is finished, by itself.
fn settle(server: &Server, ledger: &Ledger) {
    let api = server.api();
    let mut connected = 0;
    for (workspace, (name, preset)) in &ledger.workspaces {
        let path = format!("/workspaces/{workspace}?include_deleted=true");
        let settled = until(&format!("{name} is settled"), || {
            let found = api.get(&path);
            let status = found["latest_build"]["job"]["status"].as_str().unwrap().to_owned();
            (!matches!(status.as_str(), "pending" | "running" | "canceling")).then_some(found)
        });
        let build = &settled["latest_build"];
        assert_eq!(build["job"]["status"], "succeeded", "{settled}");
        if build["transition"] != "start" {
            continue;
        }
        until(&format!("the agent of {name} is ready"), || {
            let found = api.get(&path);
            agents(&found).iter().all(|agent| agent["lifecycle_state"] == "ready").then_some(())
        });
        // A few of them are enough.
        if connected < 3 || (*preset && connected < 6) {
            connected += 1;
            let seen = server.run(&["ssh", name, "--", "tail -n 1 owners"]).ends(0);
            seen.prints(&format!("for admin in {name}\n"));
        }
    }
    assert!(connected > 0, "no workspace is running: {ledger:?}");
    api.prebuilds(3);
}

fn nothing_is_lost(options: Options) {
    let mut server = options.clone().errors_expected().start();
    let template = server.api().template("crashes", &format!("{GREETER}{STAGES}"));
    let version = server.api().get(&format!("/templates/{template}"));
    let version = version["active_version_id"].as_str().unwrap().to_owned();
    let presets = server.api().get(&format!("/templateversions/{version}/presets"));
    let preset = presets[0]["ID"].as_str().unwrap().to_owned();
    server.api().prebuilds(3);
    let book = Book::default();
    for (round, chance) in noise(41, ROUNDS).into_iter().enumerate() {
        let (url, token) = (server.url.clone(), server.token.clone());
        let api = || Api::new(&url, &token);
        std::thread::scope(|scope| {
            let (api, book, template, preset) = (&api, &book, &template, &preset);
            scope.spawn(move || make(&api(), book, template, None));
            scope.spawn(move || make(&api(), book, template, Some(preset)));
            scope.spawn(move || build(&api(), book));
            scope.spawn(move || tokens(&api(), book));
            // Whatever it is doing at that moment.
            book.wait_for(1 + usize::from(chance % 8));
            if round + 1 == ROUNDS {
                book.wait_until(|ledger, _| ledger.is_of_all_kinds());
            }
            server.kill();
        });
        server = server.crash_and_restart(options.clone().errors_expected());
        book.read(|ledger| check(&server, ledger));
    }
    book.read(|ledger| {
        settle(&server, ledger);
        check(&server, ledger);
    });
    // And it ends in order.
    let (code, said) = server.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(" ERROR "), "{said}");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_sqlite() {
    nothing_is_lost(Options::default());
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_postgresql() {
    let Some(database) = postgres::database() else { return };
    nothing_is_lost(Options::default().with(&["--postgres", &database.url]));
}
