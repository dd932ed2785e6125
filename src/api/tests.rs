//! The client against scripted servers: good answers, bad ones, none.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use coderctl_transport::{Options, Proxies, Transport};
use futures_util::SinkExt;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use url::Url;
use uuid::Uuid;

use super::{BuildRequest, Client, Error, Fact, Reason, Token, Transition, WatchError, Workspace};
use crate::error::{CommandError, Kind};

const CODER: &str = "X-Coder-Build-Version: v2.35.0\r\n";
const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
const WORKSPACE: &str = include_str!("fixtures/workspace.json");

#[tokio::test]
async fn each_answer_has_its_kind_and_keeps_the_servers_words() {
    let rows = [
        (401, r#"{"message":"You are signed out.","detail":"API key expired"}"#, Kind::Login),
        (403, r#"{"message":"Forbidden."}"#, Kind::Workspace),
        (404, r#"{"message":"Resource not found or you do not have access"}"#, Kind::Workspace),
        (409, r#"{"message":"A workspace build is already active."}"#, Kind::Other),
        (410, r#"{"message":"Workspace was deleted"}"#, Kind::Deleted),
        (400, r#"{"message":"bad","validations":[{"field":"q","detail":"odd"}]}"#, Kind::Other),
    ];
    for (status, body, kind) in rows {
        let server = Server::always(answer(status, &format!("{CODER}{JSON}"), body)).await;
        let error = server.client().me().await.unwrap_err();
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        let command = CommandError::from(error);
        assert_eq!(command.kind, kind, "{command}");
        let words = body.split('"').nth(3).unwrap().trim_end_matches('.');
        assert!(command.to_string().contains(words), "{command}");
        assert!(!format!("{command:?} {command}").contains("secret"));
        assert_eq!(server.heard().len(), 1, "{status} is not tried again");
    }
}

#[tokio::test]
async fn what_is_no_deployment_is_told_as_such() {
    let html = "Content-Type: text/html\r\n";
    let rows = [
        answer(200, html, "<!doctype html><title>Sign in</title>"),
        answer(200, JSON, "\u{feff}  <html>"),
        answer(404, html, "<h1>Not Found</h1>"),
        answer(400, "", "Client sent an HTTP request to an HTTPS server.\n"),
    ];
    for page in rows {
        let server = Server::always(page).await;
        let error = server.client().me().await.unwrap_err();
        assert!(matches!(error, Error::NotCoder { .. }), "{error:?}");
        let command = CommandError::from(error);
        assert_eq!((command.kind, command.hints.len()), (Kind::Protocol, 1), "{command}");
    }
    // Another API's 404, of no Coder.
    let server = Server::always(answer(404, JSON, r#"{"message":"Not Found"}"#)).await;
    let error = server.client().has_first_user().await.unwrap_err();
    assert!(matches!(error, Error::NotCoder { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_that_cannot_be_understood_name_the_call() {
    for body in ["{\"id\":", "{}", "[]", "", "hello", "{\"id\":\"\u{1b}[2J\",\"username\":1}"] {
        let server = Server::always(answer(200, JSON, body)).await;
        let error = server.client().me().await.unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{body:?}: {error:?}");
        assert!(error.to_string().contains("GET /api/v2/users/me"), "{error}");
    }
}

#[tokio::test]
async fn long_words_of_a_server_are_cut() {
    let body = format!(r#"{{"message":"{}"}}"#, "long ".repeat(100_000));
    let server = Server::always(answer(403, JSON, &body)).await;
    let error = server.client().me().await.unwrap_err();
    assert!(error.to_string().len() < 2000);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_unwell_is_asked_again_and_then_given_up() {
    let unwell = answer(503, &format!("{CODER}{JSON}"), r#"{"message":"going down"}"#);
    let server = Server::always(unwell.clone()).await;
    let error = server.client().me().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Server);
    assert_eq!(server.heard().len(), 6);

    let well = answer(200, JSON, r#"{"id":"99020e73-89e4-4b47-92b4-cfa51f29fd20","username":"u"}"#);
    let busy = answer(429, &format!("{JSON}Retry-After: 3\r\n"), r#"{"message":"slow down"}"#);
    let server = Server::in_turn([unwell.clone(), busy, well]).await;
    let began = Instant::now();
    assert_eq!(server.client().me().await.unwrap().username, "u");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");

    // A start may have begun although the server failed.
    let server = Server::always(unwell).await;
    let start = BuildRequest::new(Transition::Start, Reason::SshConnection);
    let workspace: Workspace = serde_json::from_str(WORKSPACE).unwrap();
    let unexpected = || panic!("nothing asked for another version");
    server.client().build_workspace(&workspace, start, unexpected).await.unwrap_err();
    let heard = server.heard();
    assert_eq!(heard.len(), 1);
    let path = format!("POST /api/v2/workspaces/{}/builds ", workspace.id);
    assert!(heard[0].starts_with(&path), "{}", heard[0]);
}

#[tokio::test]
async fn a_start_gets_the_active_version_where_somebody_wants_it() {
    let refused = || answer(403, JSON, r#"{"message":"Forbidden."}"#);
    let same: Workspace = serde_json::from_str(WORKSPACE).unwrap();
    let mut newer = same.clone();
    newer.template_active_version_id = Uuid::from_u128(7);
    let mut insisting = newer.clone();
    insisting.template_require_active_version = true;
    // The workspace, what it is to do, how often is asked, whether something is said of an update.
    for (workspace, transition, asked, told) in [
        (&same, Transition::Start, 1, 0),
        (&newer, Transition::Start, 2, 1),
        (&insisting, Transition::Start, 1, 0),
        (&newer, Transition::Stop, 1, 0),
    ] {
        let server = Server::always(refused()).await;
        let mut updates = 0;
        let request = BuildRequest::new(transition, Reason::Cli);
        let built = server.client().build_workspace(workspace, request, || updates += 1).await;
        assert!(built.unwrap_err().is(StatusCode::FORBIDDEN));
        assert_eq!((server.heard().len(), updates), (asked, told), "{transition:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_one_deadline() {
    let server = Server::start(|_, _, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let began = Instant::now();
    let client = server.client().with_deadline(Duration::from_secs(7));
    let error = client.me().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn names_go_out_escaped_and_the_token_in_its_header() {
    let server = Server::always(answer(200, JSON, WORKSPACE)).await;
    let found = server.client().workspace_by_name("me", "dév").await.unwrap();
    assert_eq!(found.name, "dev");
    let heard = server.heard();
    assert!(heard[0].starts_with("GET /api/v2/users/me/workspace/d%C3%A9v "), "{}", heard[0]);
    assert!(heard[0].contains("coder-session-token: abcdefghij-secret\r\n"), "{}", heard[0]);
    let error = server.client().workspace_by_name("me", "a/../b").await.unwrap_err();
    assert!(matches!(error, Error::Input(_)), "{error:?}");
    assert_eq!(server.heard().len(), 1, "nothing was asked");
}

#[tokio::test]
async fn pages_are_read_to_the_last() {
    let page = |names: &[&str]| {
        let mut one: serde_json::Value = serde_json::from_str(WORKSPACE).unwrap();
        let all: Vec<_> = names
            .iter()
            .map(|name| {
                one["name"] = (*name).into();
                one.clone()
            })
            .collect();
        answer(200, JSON, &serde_json::json!({"workspaces": all, "count": 3}).to_string())
    };
    let server = Server::in_turn([page(&["a", "b"]), page(&["c"])]).await;
    let found = server.client().workspaces("owner:me").await.unwrap();
    assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(server.heard()[1].contains("offset=2"));
}

#[tokio::test]
async fn recorded_watches_are_told_to_their_end() {
    let sequences: Vec<Vec<String>> =
        serde_json::from_str(include_str!("fixtures/watch.json")).unwrap();
    assert!(sequences.len() >= 5);
    for texts in sequences {
        let told = texts.clone();
        let server = Server::start(move |_, head, stream| {
            let told = told.clone();
            async move { talk(&head, stream, &told, 1000).await }
        })
        .await;
        let mut watch = server.client().watch(Uuid::nil(), Some("main")).await.unwrap();
        for text in &texts {
            if text.contains("\"code\":5") {
                break;
            }
            let fact = watch.next().await.unwrap();
            let expected = match fact {
                Fact::Build { transition, job_status } => [transition, job_status],
                Fact::Agent { id, lifecycle } => [id.to_string(), lifecycle],
                Fact::SeveralAgents => ["\"code\":1".to_owned(), String::new()],
                Fact::NoSuchAgent => ["\"code\":2".to_owned(), String::new()],
                Fact::NoAgent => ["\"code\":3".to_owned(), String::new()],
                Fact::Snapshot(_) | Fact::Other => panic!("{text}"),
            };
            assert!(expected.iter().all(|word| text.contains(word)), "{expected:?} {text}");
        }
        watch.next().await.unwrap_err();
        assert!(server.heard()[0].contains("agent-connection-watch?agent_name=main "));
    }
}

#[tokio::test]
async fn a_server_without_the_watch_gives_its_event_stream_and_is_not_asked_again() {
    let workspace: serde_json::Value = serde_json::from_str(WORKSPACE).unwrap();
    let server = Server::start(move |_, head, mut stream| {
        let events = format!("event: ping\n\nevent: data\ndata: {workspace}\n\n");
        async move {
            let answer = if head.contains("agent-connection-watch") {
                answer(404, &format!("{CODER}{JSON}"), r#"{"message":"Route not found."}"#)
            } else {
                answer(200, "Content-Type: text/event-stream\r\n", &events)
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = server.client();
    for _ in 0..2 {
        let mut watch = client.watch(Uuid::nil(), None).await.unwrap();
        let fact = watch.next().await.unwrap();
        assert!(matches!(&fact, Fact::Snapshot(one) if one.name == "dev"), "{fact:?}");
        let end = watch.next().await.unwrap_err();
        assert!(end.is_transient(), "{end}");
    }
    let asked = server.heard();
    assert_eq!(asked.iter().filter(|head| head.contains("agent-connection-watch")).count(), 1);
}

#[tokio::test]
async fn an_event_stream_that_is_a_web_page_is_refused() {
    let server = Server::start(|_, head, mut stream| async move {
        let answer = if head.contains("agent-connection-watch") {
            answer(404, JSON, r#"{"message":"Route not found."}"#)
        } else {
            answer(200, "Content-Type: text/html\r\n", "<html>")
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let error = server.client().watch(Uuid::nil(), None).await.unwrap_err();
    assert!(matches!(error, WatchError::Api(Error::NotCoder { .. })), "{error:?}");
}

#[tokio::test]
async fn an_upgrade_that_leads_elsewhere_names_the_place() {
    let away = "Location: https://real.example/\r\n";
    let server = Server::always(answer(307, away, "")).await;
    let error = server.client().watch(Uuid::nil(), None).await.unwrap_err();
    assert!(error.to_string().contains("https://real.example/"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_given_up() {
    let server = Server::start(|_, head, mut stream| async move {
        accept(&head, &mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut watch = server.client().watch(Uuid::nil(), None).await.unwrap();
    let began = Instant::now();
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, WatchError::Silent), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_breaks_goes_on_behind_its_last_line() {
    let line =
        |id: u8| format!(r#"{{"id":{id},"stage":"Plan","log_level":"info","output":"{id}"}}"#);
    let server = Server::start(move |number, head, stream| async move {
        match number {
            0 => talk(&head, stream, &[line(1), line(2)], 1011).await,
            1 => drop(stream),
            // A server that repeats itself.
            _ => talk(&head, stream, &[line(2), line(3)], 1000).await,
        }
    })
    .await;
    let mut lines = Vec::new();
    let client = server.client();
    let say = |line: super::LogLine| lines.push(line.output);
    client.follow_build_log(Uuid::nil(), say).await.unwrap();
    assert_eq!(lines, ["1", "2", "3"]);
    let heard = server.heard();
    assert!(!heard[0].contains("after="), "{}", heard[0]);
    assert!(heard[2].contains("after=2"), "{}", heard[2]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_never_comes_is_given_up() {
    let server = Server::always(answer(500, JSON, r#"{"message":"no"}"#)).await;
    let error = server.client().follow_build_log(Uuid::nil(), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Server);
    assert_eq!(server.heard().len(), 13);
    let server = Server::always(answer(404, JSON, r#"{"message":"gone"}"#)).await;
    server.client().follow_build_log(Uuid::nil(), |_| {}).await.unwrap_err();
    assert_eq!(server.heard().len(), 1);
}

// ---- servers -------------------------------------------------------------------------------

/// A server on a port of the system's choice; each connection is served one request.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves with `serve`, given the request's number and head.
    async fn start<F, W>(serve: F) -> Self
    where
        F: Fn(usize, String, TcpStream) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, serve) = (Arc::clone(&heads), Arc::new(serve));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (seen, serve) = (Arc::clone(&seen), Arc::clone(&serve));
                connections.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(head.clone());
                        seen.len() - 1
                    };
                    serve(number, head, stream).await;
                });
            }
        });
        Self { port, heads, task }
    }

    async fn always(answer: String) -> Self {
        Self::in_turn([answer]).await
    }

    /// One answer after the other; the last one for ever.
    async fn in_turn<const N: usize>(answers: [String; N]) -> Self {
        Self::start(move |number, _, mut stream| {
            let answer = answers[number.min(N - 1)].clone();
            async move { stream.write_all(answer.as_bytes()).await.unwrap() }
        })
        .await
    }

    fn heard(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn client(&self) -> Client {
        let options = Options { proxies: Proxies::none(), ..Options::default() };
        let url = Url::parse(&format!("http://127.0.0.1:{}", self.port)).unwrap();
        let token = Some(Token::new("abcdefghij-secret"));
        Client::new(Transport::new(options).unwrap(), url, token)
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} x\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn accept(head: &str, stream: &mut TcpStream) {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let key = lines.filter(|(name, _)| *name == "sec-websocket-key").map(|(_, key)| key).next();
    let accept = derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Says these texts and closes with this code.
async fn talk(head: &str, mut stream: TcpStream, texts: &[String], code: u16) {
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    };
    accept(head, &mut stream).await;
    let mut socket = Socket::from_raw_socket(stream, Role::Server, None).await;
    for text in texts {
        socket.send(Message::Text(text.clone().into())).await.unwrap();
    }
    let close = CloseFrame { code: code.into(), reason: "".into() };
    let _ = socket.send(Message::Close(Some(close))).await;
}
