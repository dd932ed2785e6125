//! Tunnels that come and go, and the end.

use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn listeners_stand_before_the_tunnel_and_early_connections_wait_for_it() {
    let mut forward = Running::start("0:80").await;
    assert!(forward.said().starts_with("Forwarding 'tcp://"), "{}", forward.said());
    let mut early = forward.connect().await;
    early.write_all(b"early").await.unwrap();
    assert_eq!(forward.driver.events.try_recv(), Err(mpsc::error::TryRecvError::Empty));

    forward.attach();
    early.shutdown().await.unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "80:early");
    assert!(forward.said().ends_with("\nReady!\n"));
    assert_eq!(forward.events().await, [Event::Up, Event::Opened, Event::Closed]);
}

#[tokio::test]
async fn a_closed_remote_port_resets_that_connection_and_says_one_line() {
    let forward = Running::start("0:1").await;
    forward.attach();
    for _ in 0..3 {
        let error = forward.connect().await.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let said = forward.said();
    let line = "Failed to dial 'tcp://127.0.0.1:1' in workspace: refused";
    assert_eq!(said.matches(line).count(), 1, "{said}");
}

#[tokio::test]
async fn detached_and_attached_again_it_goes_on() {
    let forward = Running::start("0:80").await;
    forward.attach();
    assert_eq!(forward.ask("one").await, "80:one");
    forward.driver.detach();
    let mut waiting = forward.connect().await;
    waiting.write_all(b"two").await.unwrap();
    waiting.shutdown().await.unwrap();
    forward.attach();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "80:two");
    assert!(forward.said().ends_with("Ready!\nReady again\n"));
}

#[tokio::test]
async fn a_signal_ends_a_ready_forward_with_success_and_closes_its_listeners() {
    let mut forward = Running::start("0:80").await;
    forward.attach();
    assert_eq!(forward.ask("one").await, "80:one");
    forward.driver.signals.send(Signal::Interrupt).await.unwrap();
    assert_eq!(forward.driver.code().await, 0);
    let error = TcpStream::connect(forward.local).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_signal_before_it_was_ready_is_the_exit_code() {
    let mut forward = Running::start("0:80").await;
    forward.driver.signals.send(Signal::Terminate).await.unwrap();
    assert_eq!(forward.driver.error().await.kind.code(), 143);
}

#[tokio::test]
async fn an_open_connection_is_given_a_moment_and_then_ended() {
    let mut forward = Running::start("0:80").await;
    forward.attach();
    let mut open = forward.connect().await;
    open.write_all(b"x").await.unwrap();
    assert_eq!(forward.driver.events.recv().await, Some(Event::Up));
    assert_eq!(forward.driver.events.recv().await, Some(Event::Opened));
    tokio::time::pause();
    forward.driver.close.send_replace(true);
    assert_eq!(forward.driver.code().await, 0);
    assert_eq!(forward.driver.events.recv().await, Some(Event::Closed));
}

#[tokio::test]
async fn an_early_connection_does_not_wait_for_ever() {
    let mut forward = Running::start("0:80").await;
    let mut early = forward.connect().await;
    tokio::time::pause();
    let error = early.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(forward.said().contains("was not reachable for 30 seconds"));
    assert!(forward.driver.events.try_recv().is_err());
}
