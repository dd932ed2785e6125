//! Claims, and what starts over for them. One claim is one restart, whichever way it is heard.

use http::StatusCode;
use proto::lifecycle::State::{Off, Ready, ShuttingDown, Starting};

use super::*;
use crate::server::{DialError, ReinitError, RunsFor};

const ALICE: Uuid = Uuid::from_u128(0xa11ce);
const STATS: &str = "/coder.agent.v2.Agent/UpdateStats";

/// An agent of a prebuilt workspace, which notes when its scripts run.
fn prebuilt() -> Fixture {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![script("echo start >>$T/ran"), at_stop("echo stop >>$T/ran")];
    });
    fixture
}

async fn ready(fixture: &Fixture, agent: Uuid) -> Seen {
    fixture.server.wait_states(agent, &[Starting, Ready]).await
}

fn ran(fixture: &Fixture) -> Vec<String> {
    let text = std::fs::read_to_string(fixture.path("ran")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn never() -> Result<crate::server::ReinitEvent, ReinitError> {
    Err(ReinitError::Never("handled".to_owned()))
}

/// TestReinitializeAgent, at the agent's side.
#[tokio::test]
async fn the_event_first() {
    let fixture = prebuilt();
    let agent = fixture.start();
    ready(&fixture, A).await;
    let asked = |count| move |seen: &Seen| seen.reinits.len() >= count;
    fixture.server.wait("it asks for events", asked(1)).await;
    fixture.server.be(B);
    fixture.server.claim(Some(ALICE));
    ready(&fixture, B).await;
    let seen = fixture.server.wait("it asks again", asked(2)).await;
    assert_eq!(
        seen.reinits,
        [RunsFor { agent: A, owner: None }, RunsFor { agent: B, owner: Some(ALICE) },]
    );
    assert_eq!(states(&seen, A), [Starting, Ready, ShuttingDown, Off], "in order");
    // The seeded event of a real server.
    fixture.server.claim(Some(ALICE));
    fixture.server.drop_sessions();
    let count = seen.count(STATS);
    fixture.server.wait_calls(STATS, count + 1).await;
    agent.end().await;
    assert_eq!(ran(&fixture), ["start", "stop", "start", "stop"]);
    assert_eq!(fixture.server.seen().reinits.len(), 2, "it has stopped asking");
}

#[tokio::test]
async fn the_new_id_first() {
    let fixture = prebuilt();
    let agent = fixture.start();
    ready(&fixture, A).await;
    fixture.server.wait("it asks for events", |seen| !seen.reinits.is_empty()).await;
    fixture.server.be(B);
    fixture.server.drop_sessions();
    ready(&fixture, B).await;
    let to_b = RunsFor { agent: B, owner: None };
    fixture.server.wait("it asks as the new one", |seen| seen.reinits.last() == Some(&to_b)).await;
    fixture.server.claim(Some(ALICE));
    let told = RunsFor { agent: B, owner: Some(ALICE) };
    fixture.server.wait("it knows the owner", |seen| seen.reinits.last() == Some(&told)).await;
    fixture.server.answer_reinit(never());
    agent.end().await;
    assert_eq!(ran(&fixture), ["start", "stop", "start", "stop"]);
    assert_eq!(states(&fixture.server.seen(), A), [Starting, Ready]);
}

/// The old object hears of the new id while it ends: the new row is not its own to write to.
#[tokio::test]
async fn the_event_while_the_connection_breaks() {
    for policy in [OnNewAgentId::Reinit, OnNewAgentId::Replay] {
        let fixture = Fixture { policy, ..prebuilt() };
        fixture.server.manifest(|manifest| {
            let hold = "echo stop >>$T/ran; while [ ! -e $T/held ]; do sleep 0.01; done";
            manifest.scripts = vec![script("echo start >>$T/ran"), at_stop(hold)];
        });
        let _agent = fixture.start();
        ready(&fixture, A).await;
        fixture.server.claim(Some(ALICE));
        let down = [Starting, Ready, ShuttingDown];
        fixture.server.wait_states(A, &down).await;
        fixture.server.be(B);
        fixture.server.drop_sessions();
        fixture.server.wait_calls("/coder.agent.v2.Agent/GetManifest", 2).await;
        std::fs::write(fixture.path("held"), "").unwrap();
        let seen = ready(&fixture, B).await;
        assert_eq!(states(&seen, A), down, "{policy:?}");
        assert_eq!(seen.lifecycle(B).len(), 2, "{policy:?}");
    }
}

#[tokio::test]
async fn an_event_without_an_owner() {
    let fixture = prebuilt();
    let agent = fixture.start();
    ready(&fixture, A).await;
    fixture.server.be(B);
    fixture.server.claim(None);
    ready(&fixture, B).await;
    fixture.server.claim(Some(ALICE));
    let told = RunsFor { agent: B, owner: Some(ALICE) };
    fixture.server.wait("it knows the owner", |seen| seen.reinits.last() == Some(&told)).await;
    agent.end().await;
    assert_eq!(ran(&fixture), ["start", "stop", "start", "stop"]);
}

#[tokio::test]
async fn two_claims_in_a_row() {
    let fixture = prebuilt();
    let agent = fixture.start();
    for (id, next, owner) in [(A, B, 1), (B, C, 2)] {
        ready(&fixture, id).await;
        fixture.server.be(next);
        fixture.server.claim(Some(Uuid::from_u128(owner)));
    }
    ready(&fixture, C).await;
    agent.end().await;
    assert_eq!(ran(&fixture), ["start", "stop", "start", "stop", "start", "stop"]);
}

/// 409 ends the asking and nothing else.
#[tokio::test]
async fn a_regular_workspace() {
    let fixture = prebuilt();
    fixture.server.answer_reinit(never());
    let agent = fixture.start();
    ready(&fixture, A).await;
    fixture.server.wait("it asks for events", |seen| !seen.reinits.is_empty()).await;
    fixture.server.drop_sessions();
    fixture.server.wait_calls(STATS, 2).await;
    agent.end().await;
    assert_eq!(fixture.server.seen().reinits.len(), 1);
    assert_eq!(ran(&fixture), ["start", "stop"]);
}

/// Errors are retried with pauses that grow, 401 among them; an event begins anew.
#[tokio::test(start_paused = true)]
async fn errors_are_retried() {
    let fixture = Fixture::new();
    fixture.server.be_patient();
    let status =
        || ReinitError::Status { status: StatusCode::INTERNAL_SERVER_ERROR, words: String::new() };
    for _ in 0..8 {
        fixture.server.answer_reinit(Err(status()));
        fixture.server.answer_reinit(Err(ReinitError::Unauthorized(String::new())));
    }
    let _agent = fixture.start();
    let begun = tokio::time::Instant::now();
    fixture.server.wait("it goes on asking", |seen| seen.reinits.len() == 17).await;
    let took = begun.elapsed().as_secs();
    // 161 ms, 261 ms, … up to ten seconds each: twenty until they are that long, and seven of them.
    assert!((85..95).contains(&took), "{took} s");
}

/// A build is under way: the token is not valid, and everything is retried until it is.
#[tokio::test]
async fn no_token_between_the_builds() {
    let fixture = prebuilt();
    let agent = fixture.start();
    ready(&fixture, A).await;
    for _ in 0..3 {
        fixture.server.refuse(DialError::Unauthorized(String::new()));
        fixture.server.answer_reinit(Err(ReinitError::Unauthorized(String::new())));
    }
    fixture.server.be(B);
    fixture.server.drop_sessions();
    ready(&fixture, B).await;
    fixture.server.claim(Some(ALICE));
    let told = RunsFor { agent: B, owner: Some(ALICE) };
    fixture.server.wait("it knows the owner", |seen| seen.reinits.last() == Some(&told)).await;
    agent.end().await;
    assert_eq!(ran(&fixture), ["start", "stop", "start", "stop"]);
}

/// A claim that is told while there is no connection: there is no row to say goodbye to, and the
/// new object does not wait for its predecessor's next try.
#[tokio::test(start_paused = true)]
async fn the_event_without_a_connection() {
    let fixture = Fixture::new();
    let _agent = fixture.start();
    ready(&fixture, A).await;
    for _ in 0..7 {
        fixture.server.refuse(DialError::Unauthorized(String::new()));
    }
    fixture.server.drop_sessions();
    fixture.server.wait("seven tries", |seen| seen.dials.len() == 8).await;
    fixture.server.be(B);
    let claimed = tokio::time::Instant::now();
    fixture.server.claim(Some(ALICE));
    let seen = ready(&fixture, B).await;
    assert!(claimed.elapsed() < Duration::from_millis(100), "{:?}", claimed.elapsed());
    assert_eq!(states(&seen, A), [Starting, Ready]);
}
