//! The end, in order or not.

use proto::lifecycle::State::{Off, Ready, ShuttingDown, Starting};

use super::*;

/// Leave is taken, last words are heard, the tailnet goes.
#[tokio::test]
async fn in_order() {
    let fixture = Fixture::new();
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let tailnet = fixture.network.tailnet(0).await;
    tailnet.wait("coordination", |state| state.coordinations == 1).await;
    agent.end().await;
    let state = tailnet.state();
    assert!(state.left && state.closed, "{state:?}");
    assert_eq!(states(&fixture.server.seen(), A), [Starting, Ready, ShuttingDown, Off]);
    fixture.server.wait("no session", |seen| seen.open_sessions == 0).await;
}

/// A server that does not take the last words holds the end up for five seconds, no longer.
#[tokio::test(start_paused = true)]
async fn last_words_have_a_limit() {
    let fixture = Fixture::new();
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    fixture.server.never_answer("/coder.agent.v2.Agent/UpdateLifecycle");
    let begun = tokio::time::Instant::now();
    agent.end().await;
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_server() {
    let fixture = Fixture::new();
    for _ in 0..1000 {
        fixture.server.refuse(crate::server::DialError::Unauthorized(String::new()));
    }
    let agent = fixture.start();
    fixture.server.wait("it tries", |seen| seen.dials.len() == 3).await;
    let begun = tokio::time::Instant::now();
    agent.end().await;
    assert_eq!(begun.elapsed().as_secs(), 5, "it might still have come back");
    assert_eq!(fixture.network.count(), 0);
}

/// Dropping the future leaves no process behind, not even one that has left every group, and no
/// connection.
#[tokio::test]
async fn at_once() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![
            script("setsid sh -c 'echo $$ >$T/stray; exec sleep 1000' >/dev/null 2>&1 &"),
            script("echo $$ >$T/own; exec sleep 1000"),
        ];
    });
    let agent = fixture.start();
    let (stray, own) = (file(&fixture.path("stray")).await, file(&fixture.path("own")).await);
    fixture.server.wait_states(A, &[Starting]).await;
    drop(agent);
    gone(stray.trim()).await;
    gone(own.trim()).await;
    fixture.server.wait("no session", |seen| seen.open_sessions == 0).await;
}

/// What start scripts leave running stays when the agent starts over, and goes when it ends.
#[tokio::test]
async fn services_outlive_a_restart_but_not_the_end() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![script(
            "[ -e $T/service ] || { sleep 1000 >/dev/null 2>&1 & echo $! >$T/service; }",
        )];
    });
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let service = file(&fixture.path("service")).await;
    fixture.server.be(B);
    fixture.server.drop_sessions();
    fixture.server.wait_states(B, &[Starting, Ready]).await;
    assert!(alive(service.trim()));
    agent.end().await;
    gone(service.trim()).await;
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(super) async fn gone(pid: &str) {
    let dead = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, dead).await.unwrap_or_else(|_| panic!("{pid} lives on"));
}
