//! Listeners in the workspace.

use coderctl_ssh::server::Outgoing;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{echo::answer, *};

/// A service here that answers with a name.
async fn service() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "here").await;
        }
    });
    (port, serving)
}

async fn from_workspace(echo: &Echo, port: u16) -> String {
    let address = "localhost".to_owned();
    let origin = ("127.0.0.1".to_owned(), 9);
    let outgoing = Outgoing::ForwardedTcp { address, port, origin };
    let mut channel = echo.opener().open(outgoing).await.unwrap();
    channel.write_all(b"hello").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut said = String::new();
    channel.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn a_listener_in_the_workspace_leads_here_and_comes_back_by_its_number() {
    let (port, _service) = service().await;
    let specs = Specs { remote: one(format!("0:localhost:{port}")), ..Specs::default() };
    let forward = Running::with(specs).await;
    let echo = forward.attach();
    forward.says("Ready!").await;
    let line = format!(
        "Forwarding 'tcp://127.0.0.1:4321' in the workspace to 'tcp://localhost:{port}' locally"
    );
    assert_eq!(forward.said(), format!("{line}\nReady!\n"));
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
    let unasked = Outgoing::ForwardedUnix { path: b"/s".to_vec() };
    assert!(echo.opener().open(unasked).await.is_err());

    echo.break_ssh();
    forward.says("Ready again").await;
    let said = forward.said();
    let lost = said.lines().rev().nth(1).unwrap();
    assert!(lost.starts_with("warning: the listeners in the workspace are lost ("), "{said}");
    assert!(lost.ends_with("); asking for them again"), "{said}");
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
    forward.driver.detach();
    let echo = forward.attach();
    forward.says("Ready again\nReady again").await;
    assert_eq!(from_workspace(&echo, 4321).await, "here:hello");
}

#[tokio::test]
async fn a_listener_that_the_workspace_refuses_ends_it() {
    let mut forward = Running::with(Specs { remote: one("1:80"), ..Specs::default() }).await;
    forward.attach();
    let error = forward.driver.error().await;
    assert_eq!(error.kind.code(), 211);
    let said =
        "listen 'tcp://127.0.0.1:1' in the workspace: the SSH server refused to listen there";
    assert_eq!(error.to_string(), said);
}
