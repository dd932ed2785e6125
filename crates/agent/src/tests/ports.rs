//! What the agent answers on its ports.

use std::io;

use coderctl_ssh::{Request, Session, client::Client};
use proto::lifecycle::State::{Ready, Starting};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpListener,
};

use super::{network::FakeTailnet, *};

async fn up(fixture: &Fixture) -> (Running, Arc<FakeTailnet>) {
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    (agent, fixture.network.tailnet(0).await)
}

async fn text(mut stream: DuplexStream) -> String {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

async fn get(tailnet: &FakeTailnet, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    exchange(tailnet, &request).await
}

async fn exchange(tailnet: &FakeTailnet, request: &str) -> (String, String) {
    let mut stream = tailnet.connect(4).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = text(stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap();
    (status.strip_prefix("HTTP/1.1 ").unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_service_of_this_process() {
    let mut fixture = Fixture::new();
    fixture.services = Services::default().with(80, |mut stream, _| async move {
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let (_agent, tailnet) = up(&fixture).await;
    assert_eq!(text(tailnet.connect(80).await.unwrap()).await, "hello");
}

/// Loopback, both of its addresses, and a closed port that looks closed.
#[tokio::test]
async fn a_port_of_the_machine() {
    let fixture = Fixture::new();
    let (_agent, tailnet) = up(&fixture).await;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            // This machine has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => continue,
            Err(error) => panic!("{error}"),
        };
        let port = listener.local_addr().unwrap().port();
        let (near, far) = tokio::join!(tailnet.connect(port), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let mut question = String::new();
        far.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question", "its end is passed on");
        far.write_all(b"answer").await.unwrap();
        drop(far);
        assert_eq!(text(near).await, "answer", "after the other way has ended");
        drop(listener);
        let error = tailnet.connect(port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn the_api() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.environment_variables = [("SECRET".to_owned(), "hush".to_owned())].into();
    });
    let (_agent, tailnet) = up(&fixture).await;
    let (status, body) = get(&tailnet, "/").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("200 OK", r#"{"message":"Hello from the agent!"}"#)
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (status, body) = get(&tailnet, "/api/v0/listening-ports").await;
    assert_eq!(status, "200 OK");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let listed = body["ports"].as_array().unwrap();
    assert!(listed.iter().any(|found| found["port"] == port && found["network"] == "tcp"));

    let (status, body) = get(&tailnet, "/debug/manifest").await;
    assert_eq!(status, "200 OK");
    assert!(body.contains("\"SECRET\"") && !body.contains("hush"), "{body}");
    let (status, body) = get(&tailnet, "/debug/prometheus").await;
    assert_eq!(status, "200 OK");
    assert!(body.contains("coderctl_agent_sessions{kind=\"ssh\"} 0\n"), "{body}");
    for path in ["/api/v0/netcheck", "/debug/magicsock"] {
        assert_eq!(get(&tailnet, path).await.0, "200 OK", "{path}");
    }
    let none = ("200 OK".to_owned(), "[]".to_owned());
    assert_eq!(get(&tailnet, "/api/v0/terminals").await, none);
    assert_eq!(get(&tailnet, "/debug/logs").await.0, "404 Not Found");
    assert_eq!(get(&tailnet, "/nowhere").await.0, "404 Not Found");
    assert_eq!(get(&tailnet, "/api/v0/list-directory").await.0, "405 Method Not Allowed");
}

#[tokio::test]
async fn files_over_the_api() {
    let fixture = Fixture::new();
    let (_agent, tailnet) = up(&fixture).await;
    let path = fixture.path("deep/er/file.txt");
    let path = path.to_str().unwrap();
    let write = |content: &str| {
        format!(
            "POST /api/v0/write-file?path={path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{content}",
            content.len()
        )
    };
    let (status, body) = exchange(&tailnet, &write("content")).await;
    assert_eq!(status, "200 OK", "{body}");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o751)).unwrap();
    let (status, _) = exchange(&tailnet, &write("new content")).await;
    assert_eq!(status, "200 OK");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o751);
    let (status, body) = get(&tailnet, &format!("/api/v0/read-file?path={path}")).await;
    assert_eq!((status.as_str(), body.as_str()), ("200 OK", "new content"));
    let (_, body) = get(&tailnet, &format!("/api/v0/read-file?path={path}&offset=4&limit=3")).await;
    assert_eq!(body, "con");
    let (_, body) = get(&tailnet, &format!("/api/v0/read-file?path={path}&offset=400")).await;
    assert_eq!(body, "");

    let listing = r#"{"path":["deep"],"relativity":"home"}"#;
    let request = format!(
        "POST /api/v0/list-directory HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{listing}",
        listing.len()
    );
    std::fs::write(fixture.path("deep/a-file"), "").unwrap();
    let (status, body) = exchange(&tailnet, &request).await;
    assert_eq!(status, "200 OK", "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let names: Vec<&str> =
        body["contents"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["er", "a-file"], "directories first");
    assert_eq!(body["contents"][0]["is_dir"], true);

    for (request, expected) in [
        ("/api/v0/read-file?path=relative", "400 Bad Request"),
        ("/api/v0/read-file", "400 Bad Request"),
        ("/api/v0/read-file?path=/nonexistent/x", "404 Not Found"),
        ("/api/v0/read-file?path=/", "400 Bad Request"),
        ("/api/v0/read-file?path=/etc/passwd&offset=-1", "400 Bad Request"),
        ("/api/v0/resolve-path?path=/nonexistent/x", "200 OK"),
    ] {
        assert_eq!(get(&tailnet, request).await.0, expected, "{request}");
    }
}

/// A terminal through the tunnel is told to the audit log, with its end.
#[tokio::test]
async fn a_terminal() {
    let fixture = Fixture::new();
    let (_agent, tailnet) = up(&fixture).await;
    let mut stream = tailnet.connect(2).await.unwrap();
    let init = format!(r#"{{"ID":"{}","Command":"echo $CODER_WORKSPACE_NAME"}}"#, Uuid::new_v4());
    let mut begin = u16::try_from(init.len()).unwrap().to_le_bytes().to_vec();
    begin.extend_from_slice(init.as_bytes());
    stream.write_all(&begin).await.unwrap();
    assert_eq!(text(stream).await, "dev\r\n");
    let seen = fixture.server.wait("both reports", |seen| seen.connections.len() == 2).await;
    let [connect, disconnect] = &seen.connections[..] else { panic!("{seen:?}") };
    assert_eq!(connect.action(), proto::connection::Action::Connect);
    assert_eq!(disconnect.action(), proto::connection::Action::Disconnect);
    assert_eq!(connect.r#type(), proto::connection::Type::ReconnectingPty);
    assert_eq!((connect.id.len(), &connect.id), (16, &disconnect.id));
    assert_eq!(connect.ip, "::1");
}

async fn ssh(tailnet: &FakeTailnet, port: u16, command: &str) -> (Client, Session) {
    let stream = tailnet.connect(port).await.unwrap();
    let options = coderctl_ssh::Options::new(Request::Exec(command.into()));
    timeout(PATIENCE, coderctl_ssh::open(stream, options)).await.unwrap().unwrap()
}

/// Both ports are the same server; sessions are told to the audit log with their end and address.
#[tokio::test]
async fn ssh_sessions() {
    let fixture = Fixture::new();
    let (_agent, tailnet) = up(&fixture).await;
    for (index, port) in [1, 22].into_iter().enumerate() {
        let (client, mut session) =
            ssh(&tailnet, port, "echo $CODER_WORKSPACE_NAME $PATH; exit 9").await;
        let mut out = String::new();
        timeout(PATIENCE, session.stdout.read_to_string(&mut out)).await.unwrap().unwrap();
        assert!(out.starts_with("dev "), "{out}");
        assert!(out.contains("coder-script-data/bin:"), "{out}");
        drop((client, session));
        let count = 2 * (index + 1);
        let told = |seen: &Seen| seen.connections.len() == count;
        let seen = fixture.server.wait("both reports", told).await;
        let [connect, disconnect] = &seen.connections[count - 2..] else { panic!("{seen:?}") };
        assert_eq!(connect.r#type(), proto::connection::Type::Ssh);
        assert_eq!((connect.ip.as_str(), connect.status_code), ("::1", 0));
        assert_eq!((&disconnect.id, disconnect.status_code), (&connect.id, 9));
    }
}

/// An agent that is not ended in order leaves no process of a session behind.
#[tokio::test]
async fn an_ssh_session_of_an_agent_that_is_dropped() {
    let fixture = Fixture::new();
    let (agent, tailnet) = up(&fixture).await;
    let (_client, mut session) = ssh(&tailnet, 22, "echo $$ >$T/pid; sleep 1000").await;
    let pid = file(&fixture.path("pid")).await;
    drop(agent);
    let mut out = Vec::new();
    let ended = timeout(PATIENCE, session.stdout.read_to_end(&mut out)).await;
    assert!(ended.is_ok(), "the session goes on");
    ending::gone(pid.trim()).await;
}
