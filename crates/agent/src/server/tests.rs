#![allow(clippy::unwrap_used, reason = "tests")]

use coderctl_transport::Options;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const AGENT: Uuid = Uuid::from_u128(0xa);
const OWNER: Uuid = Uuid::from_u128(0xb);

/// A server that gives one connection these bytes and closes it; the task gives what was asked.
async fn serve(answer: String) -> (HttpServer, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/some/path?x=y", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    let transport = Transport::new(Options::default()).unwrap();
    (HttpServer::new(transport, Url::parse(&url).unwrap()), task)
}

fn refusal(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{body}")
}

async fn reinit(answer: String, owner: Option<Uuid>) -> (Result<ReinitEvent, ReinitError>, String) {
    let (server, asked) = serve(answer).await;
    let runs_for = RunsFor { agent: AGENT, owner };
    let result = server.reinit(&Token::new("hush"), runs_for).await;
    (result, asked.await.unwrap())
}

#[tokio::test]
async fn a_claim_is_read_and_we_say_for_whom_we_run() {
    // The bytes of a real server, with keep-alives before.
    let body = "event: ping\n\nevent: ping\n\nevent: data\ndata: {\"workspace_id\":\
        \"69677868-8321-45f6-9203-fdadc952ecea\",\"reason\":\"prebuild_claimed\",\
        \"owner_id\":\"0000000000000000000000000000000b\"}\n\n";
    let (event, asked) = reinit(stream(body), None).await;
    let event = event.unwrap();
    assert_eq!(event.owner_id, Some(OWNER));
    assert_eq!(event.reason, "prebuild_claimed");
    let line = format!("GET /api/v2/workspaceagents/me/reinit?wait=true&agent_id={AGENT} HTTP/1.1");
    assert_eq!(asked.lines().next(), Some(line.as_str()));
    assert!(asked.to_lowercase().contains("coder-session-token: hush\r\n"), "{asked}");

    let (_, asked) = reinit(stream(body), Some(OWNER)).await;
    let query = format!("/reinit?wait=true&agent_id={AGENT}&owner_id={OWNER} HTTP/1.1");
    assert!(asked.contains(&query), "{asked}");
}

#[tokio::test]
async fn an_old_server_names_no_owner() {
    let (event, _) = reinit(stream("data:{\"reason\":\"prebuild_claimed\"}\r\n\r\n"), None).await;
    assert_eq!(event.unwrap().owner_id, None);
}

#[tokio::test]
async fn what_is_no_event_is_an_error() {
    let (error, _) = reinit(refusal("409 Conflict", r#"{"message":"a","detail":"b"}"#), None).await;
    assert!(matches!(&error, Err(ReinitError::Never(words)) if words == "a b"), "{error:?}");
    let (error, _) = reinit(refusal("401 Unauthorized", r#"{"message":"a"}"#), None).await;
    assert!(matches!(error, Err(ReinitError::Unauthorized(_))), "{error:?}");
    let (error, _) = reinit(refusal("500 Oops", "no json\x1b"), None).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("500") && error.contains(r"no json\u{1b}"), "{error}");
    for body in ["", "event: error\ndata: {}\n\n", "event: data\ndata: [\n\n", "event: ping\n\n"] {
        let (error, _) = reinit(stream(body), None).await;
        assert!(matches!(error, Err(ReinitError::Stream(_))), "{body:?}: {error:?}");
    }
}

#[tokio::test]
async fn refusals_of_the_agent_api_are_told_apart() {
    let body = r#"{"message":"m","validations":[{"field":"version","detail":"too new"}]}"#;
    for (answer, expected) in [
        (refusal("401 Unauthorized", r#"{"message":"m"}"#), "does not know our token"),
        (refusal("400 Bad Request", body), "refuses version 2.4"),
        (refusal("400 Bad Request", r#"{"message":"m"}"#), "status 400"),
        (refusal("500 Oops", ""), "status 500"),
    ] {
        let (server, asked) = serve(answer).await;
        let Err(error) = server.rpc(&Token::new("hush"), Version::V2_4).await else {
            panic!("it opened: {expected}");
        };
        let asked = asked.await.unwrap();
        let line = "GET /api/v2/workspaceagents/me/rpc?version=2.4&role=agent HTTP/1.1";
        assert_eq!(asked.lines().next(), Some(line));
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?}").contains("hush"));
    }
}
