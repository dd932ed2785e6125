//! Hosts and sockets behind the workspace.

use super::*;

#[tokio::test]
async fn hosts_and_sockets_behind_the_workspace_share_one_ssh_connection() {
    let forward =
        Running::with(Specs { local: vec!["0:db:5432".into()], ..Specs::default() }).await;
    assert!(forward.said().contains("' locally to 'tcp://db:5432' in the workspace"));
    let echo = forward.attach();
    let answers = tokio::join!(forward.ask("one"), forward.ask("two"), forward.ask("three"));
    assert_eq!(answers, ("db:one".into(), "db:two".into(), "db:three".into()));
    assert_eq!(echo.connections(), 1);
    // A lost one is made anew.
    echo.break_ssh();
    let line = "); the next connection there makes it anew\n";
    forward.says(line).await;
    assert_eq!(forward.ask("four").await, "db:four");
    assert_eq!(echo.connections(), 2);
    let line =
        format!("{line}The SSH connection to hosts and sockets behind the workspace is back");
    forward.says(&line).await;
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_resets_that_connection_and_says_why() {
    let forward = Running::with(Specs { local: one("0:nowhere:1"), ..Specs::default() }).await;
    forward.attach();
    let error = forward.connect().await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    forward.says("Failed to dial 'tcp://nowhere:1' in workspace: the other side refused").await;
}
