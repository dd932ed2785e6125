//! What is opened here before anything else is done.

use std::path::Path;

use tokio::net::{TcpListener, UnixStream};

use super::*;

#[tokio::test]
async fn on_a_shared_host_a_forward_does_not_lead_to_itself() {
    let free = || {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bound.local_addr().unwrap().port()
    };
    let (one, other) = (free(), free());
    let list = |spec: String| vec![spec];
    let to_localhost = list(format!("{one}:localhost:{one}"));
    let reverse = list(format!("{one}:{one}"));
    for (specs, is_fine) in [
        (tcp(&format!("{one}")), false),
        (tcp(&format!("{one}:{other},{other}:1")), false),
        (tcp(&format!("{one}:{other},{other}:22")), false),
        (tcp(&format!("{one}:80,{other}:22")), true),
        (Specs { local: to_localhost, ..Specs::default() }, false),
        (Specs { remote: reverse, ..Specs::default() }, false),
        (Specs { local: list(format!("{one}:db:{one}")), ..Specs::default() }, true),
    ] {
        let (ui, _) = Ui::captured(Options::default());
        let mut app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev");
        app = app.on_shared_host(&[80]);
        assert_eq!(app.prepare(&ui).await.is_ok(), is_fine, "{specs:?}");
    }
}

#[tokio::test]
async fn a_free_port_is_the_same_on_both_loopbacks() {
    let (ui, said) = Ui::captured(Options::default());
    let mut app = PortForward::new(forward_spec::parse(&tcp("0:80")).unwrap(), "dev");
    app.prepare(&ui).await.unwrap();
    let ports: Vec<_> = app.bound.listeners.iter().map(|one| one.local.port().unwrap()).collect();
    assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert!(said.stderr().contains(&format!("'tcp://127.0.0.1:{}' locally", ports[0])));
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_said_to_be_forwarded() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (ui, said) = Ui::captured(Options::default());
    let spec = format!("0:80,127.0.0.1:{port}:80");
    let mut app = PortForward::new(forward_spec::parse(&tcp(&spec)).unwrap(), "dev");
    let error = app.prepare(&ui).await.unwrap_err();
    assert_eq!(error.kind.code(), 210);
    assert!(
        error.to_string().starts_with(&format!("listen 'tcp://127.0.0.1:{port}': ")),
        "{error}"
    );
    assert_eq!(said.stderr(), "");
}

/// A private directory's socket, and a way to ask there.
async fn ask_at(path: &Path, question: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(question.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_local_socket_is_this_users_alone_and_goes_with_the_forward() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (socket, plain) = (directory.path().join("s"), directory.path().join("p"));
    // What a forward left behind that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let specs = Specs {
        local: vec![format!("{}:/run/s", socket.display()), format!("{}:80", plain.display())],
        ..Specs::default()
    };
    let mut forward = Running::with(specs).await;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    forward.attach();
    assert_eq!(ask_at(&socket, "one").await, "socket:one");
    assert_eq!(ask_at(&plain, "two").await, "80:two");
    forward.events().await;
    assert!(!socket.exists() && !plain.exists());
}

#[tokio::test]
async fn a_path_that_somebody_else_uses_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let _taken = std::os::unix::net::UnixListener::bind(at("taken")).unwrap();
    std::fs::write(at("file"), "kept").unwrap();
    for (name, why) in [
        ("taken", "another program listens there"),
        ("file", "there is a file of that name, and it is no socket"),
        ("missing/s", "No such file or directory (os error 2)"),
    ] {
        let (ui, said) = Ui::captured(Options::default());
        let specs = Specs { local: one(format!("{}:80", at(name).display())), ..Specs::default() };
        let mut app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev");
        let error = app.prepare(&ui).await.unwrap_err();
        assert_eq!(error.kind.code(), 210, "{error}");
        assert_eq!(error.to_string(), format!("listen 'unix://{}': {why}", at(name).display()));
        assert_eq!((error.hints.len(), said.stderr()), (1, String::new()), "{error}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "kept");
}
