#![allow(clippy::unwrap_used, reason = "tests")]

use tokio::io::DuplexStream;

use super::*;
use crate::ssh::SessionEnvironment;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

struct Fixture {
    terminals: Arc<Terminals>,
    sessions: Arc<Sessions>,
    _environment: watch::Sender<Option<Environment>>,
}

fn fixture() -> Fixture {
    let process = [("PATH".into(), std::env::var_os("PATH").unwrap())].into();
    let environment = Environment::new(process, Arc::new(SessionEnvironment::default()));
    let environment = watch::Sender::new(Some(environment));
    let sessions = Arc::new(Sessions::new(Arc::default()));
    let terminals = Arc::new(Terminals::new(environment.subscribe(), sessions.clone()));
    Fixture { terminals, sessions, _environment: environment }
}

struct Client {
    stream: DuplexStream,
    text: String,
}

impl Fixture {
    async fn connect(&self, id: u128, command: &str) -> Client {
        let (mut stream, far) = tokio::io::duplex(4096);
        let terminals = Arc::clone(&self.terminals);
        // Ends with its stream.
        tokio::spawn(async move { terminals.serve(far, PEER).await });
        let init = serde_json::json!({
            "ID": Uuid::from_u128(id), "Height": 31, "Width": 97, "Command": command,
        })
        .to_string();
        stream.write_u16_le(init.len().try_into().unwrap()).await.unwrap();
        stream.write_all(init.as_bytes()).await.unwrap();
        Client { stream, text: String::new() }
    }
}

impl Client {
    async fn say(&mut self, message: serde_json::Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    /// Reads until this was shown.
    async fn see(&mut self, what: &str) {
        let seen = async {
            let mut chunk = [0; 1024];
            while !self.text.contains(what) {
                let count = self.stream.read(&mut chunk).await.unwrap();
                assert_ne!(count, 0, "the end, after {:?}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        };
        timeout(Duration::from_secs(20), seen).await.unwrap_or_else(|_| panic!("no {what:?}"));
    }

    async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), self.stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        self.text + &String::from_utf8_lossy(&rest)
    }
}

#[tokio::test]
async fn a_command_is_shown_to_its_end() {
    let fixture = fixture();
    let client = fixture.connect(1, "stty size; echo term=$TERM ctype=$LC_CTYPE").await;
    let text = client.rest().await;
    assert!(text.contains("31 97\r\n"), "{text}");
    assert!(text.contains("term=xterm-256color ctype=C.UTF-8\r\n"), "{text}");
}

#[tokio::test]
async fn whoever_comes_back_finds_it_as_it_was() {
    let fixture = fixture();
    let command = "read a; echo got-$a; read b; echo got-$b";
    let mut first = fixture.connect(1, command).await;
    first.say(serde_json::json!({"data": "one\n"})).await;
    first.see("got-one").await;
    drop(first);
    let mut second = fixture.connect(1, command).await;
    second.see("got-one").await;
    second.say(serde_json::json!({"height": 5, "width": 6})).await;
    second.say(serde_json::json!({"data": "two\n"})).await;
    let text = second.rest().await;
    assert_eq!(text.matches("got-one").count(), 1, "{text}");
    assert!(text.contains("got-two"), "{text}");
    // Its id is free again.
    let text = fixture.connect(1, "echo new").await.rest().await;
    assert!(text.contains("new") && !text.contains("got"), "{text}");
}

#[tokio::test]
async fn several_see_the_same() {
    let fixture = fixture();
    let command = "echo up; read a; echo got-$a";
    let mut first = fixture.connect(1, command).await;
    first.see("up").await;
    let mut second = fixture.connect(1, command).await;
    second.see("up").await;
    assert_eq!(fixture.sessions.counts().terminal, 2);
    second.say(serde_json::json!({"data": "x\n"})).await;
    for client in [first, second] {
        let text = client.rest().await;
        assert!(text.contains("got-x"), "{text}");
    }
}

#[tokio::test]
async fn those_that_run_are_listed_with_how_many_look_at_them() {
    let fixture = fixture();
    let seen = || {
        let listed = fixture.terminals.list();
        let one = |one: &Listed| (one.id.as_u128(), one.command.clone(), one.attached);
        listed.iter().map(one).collect::<Vec<_>>()
    };
    assert!(seen().is_empty());
    let before = Timestamp::now();
    let command = "echo up; read a";
    let mut first = fixture.connect(1, command).await;
    first.see("up").await;
    let mut second = fixture.connect(1, command).await;
    second.see("up").await;
    assert_eq!(seen(), [(1, command.to_owned(), 2)]);
    let created = fixture.terminals.list()[0].created_at;
    assert!(before <= created && created <= Timestamp::now(), "{created}");
    second.say(serde_json::json!({"data": "x\n"})).await;
    // What its viewers see the end of has ended.
    first.rest().await;
    assert!(seen().is_empty());
}

#[tokio::test]
async fn a_terminal_has_a_shell_unless_a_command_is_given() {
    let fixture = fixture();
    let mut client = fixture.connect(1, "").await;
    client.say(serde_json::json!({"data": "echo $((6*7))-answer; exit\n"})).await;
    client.see("42-answer").await;
    client.rest().await;
}

#[tokio::test]
async fn closing_ends_them_all() {
    let fixture = fixture();
    let mut client = fixture.connect(1, "echo up; sleep 1000").await;
    client.see("up").await;
    timeout(Duration::from_secs(20), fixture.terminals.close()).await.unwrap();
    let text = fixture.connect(2, "echo no").await.rest().await;
    assert!(text.contains("shutting down"), "{text}");
}

#[tokio::test]
async fn how_a_terminal_ended_is_known_afterwards() {
    let fixture = fixture();
    let status = async |id: u128| fixture.terminals.status(Uuid::from_u128(id)).await;
    assert_eq!(status(1).await, None);
    let mut client = fixture.connect(1, "echo up; read a; exit $a").await;
    client.see("up").await;
    assert_eq!(status(1).await, Some(Status { running: true, exit_code: None }));
    client.say(serde_json::json!({"data": "7\n"})).await;
    client.rest().await;
    assert_eq!(status(1).await, Some(Status { running: false, exit_code: Some(7) }));
    fixture.connect(1, "kill -TERM $$").await.rest().await;
    assert_eq!(status(1).await, Some(Status { running: false, exit_code: Some(143) }));
}

#[tokio::test]
async fn what_cannot_be_opened_is_said() {
    let fixture = fixture();
    let (mut stream, far) = tokio::io::duplex(4096);
    let init = format!(r#"{{"ID":"{}","Container":"--all"}}"#, Uuid::from_u128(3));
    stream.write_u16_le(init.len().try_into().unwrap()).await.unwrap();
    stream.write_all(init.as_bytes()).await.unwrap();
    fixture.terminals.serve(far, PEER).await;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "\"--all\" is no name of a container\r\n");
}

#[test]
fn locales_that_need_help() {
    for (variables, expected) in [
        (vec![], true),
        (vec![("LANG", "en_US.UTF-8")], false),
        (vec![("LANG", "en_US.utf8")], false),
        (vec![("LANG", "en_US.UTF-8"), ("LC_CTYPE", "POSIX")], true),
        (vec![("LANG", "C"), ("LC_ALL", "C")], false),
    ] {
        let value = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(needs_utf8(value), expected, "{variables:?}");
    }
}
