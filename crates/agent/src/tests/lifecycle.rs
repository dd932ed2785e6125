//! The agent's life as the server hears it. L1 to L15 number what can be observed of it.

use proto::lifecycle::State::{
    Off, Ready, ShutdownError, ShutdownTimeout, ShuttingDown, StartError, StartTimeout, Starting,
};

use super::*;

const BOTH: [OnNewAgentId; 2] = [OnNewAgentId::Reinit, OnNewAgentId::Replay];
const REPLAY: OnNewAgentId = OnNewAgentId::Replay;

/// TestAgent_Lifecycle/Ready, L1.
#[tokio::test]
async fn ready() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        fixture.server.manifest(|manifest| manifest.scripts = vec![script("true")]);
        let agent = fixture.start();
        let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
        let times = seen.lifecycle(A);
        assert!(times[0].1 < times[1].1, "{times:?}");
        agent.end().await;
        let seen = fixture.server.seen();
        assert_eq!(states(&seen, A), [Starting, Ready, ShuttingDown, Off], "one of each");
    }
}

/// TestAgent_Lifecycle/StartError, L2.
#[tokio::test]
async fn start_error() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        fixture.server.manifest(|manifest| {
            manifest.scripts = vec![script("true"), script("exit 3")];
        });
        let _agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, StartError]).await;
    }
}

/// TestAgent_Lifecycle/StartTimeout, L2.
#[tokio::test]
async fn start_timeout() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        fixture.server.manifest(|manifest| {
            manifest.scripts = vec![limited(20, script("sleep 1000"))];
        });
        let _agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, StartTimeout]).await;
    }
}

/// TestAgent_Lifecycle/ShuttingDown, L3: it is told before the stop scripts have ended.
#[tokio::test]
async fn shutting_down() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        let held = fixture.path("held");
        fixture.server.manifest(|manifest| {
            manifest.scripts = vec![at_stop("while [ ! -e $T/held ]; do sleep 0.01; done")];
        });
        let mut agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, Ready]).await;
        agent.ask();
        fixture.server.wait_states(A, &[Starting, Ready, ShuttingDown]).await;
        std::fs::write(held, "").unwrap();
        agent.ended().await;
        assert_eq!(states(&fixture.server.seen(), A), [Starting, Ready, ShuttingDown, Off]);
    }
}

/// TestAgent_Lifecycle/ShutdownError and ShutdownTimeout, L3.
#[tokio::test]
async fn shutdown_error_and_timeout() {
    for policy in BOTH {
        for (stop, last) in [
            (at_stop("exit 1"), ShutdownError),
            (limited(20, at_stop("sleep 1000")), ShutdownTimeout),
        ] {
            let fixture = Fixture::with(policy);
            fixture.server.manifest(|manifest| manifest.scripts = vec![stop]);
            let agent = fixture.start();
            fixture.server.wait_states(A, &[Starting, Ready]).await;
            agent.end().await;
            let seen = fixture.server.seen();
            assert_eq!(states(&seen, A), [Starting, Ready, ShuttingDown, last]);
        }
    }
}

/// TestAgent_Lifecycle/ShutdownScriptOnce, L3: also when the connection breaks meanwhile. What the
/// script says arrives.
#[tokio::test]
async fn shutdown_script_once() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        let ran = fixture.path("ran");
        fixture.server.manifest(|manifest| {
            manifest.scripts = vec![at_stop(
                "echo ran >>$T/ran; echo bye; while [ ! -e $T/held ]; do sleep 0.01; done",
            )];
        });
        let mut agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, Ready]).await;
        agent.ask();
        assert_eq!(file(&ran).await, "ran\n");
        fixture.server.drop_sessions();
        fixture.server.wait_calls("/coder.agent.v2.Agent/GetManifest", 2).await;
        std::fs::write(fixture.path("held"), "").unwrap();
        agent.ended().await;
        assert_eq!(std::fs::read_to_string(&ran).unwrap(), "ran\n");
        let seen = fixture.server.seen();
        assert_eq!(states(&seen, A), [Starting, Ready, ShuttingDown, Off]);
        assert!(seen.logs.iter().any(|(_, log)| log.output == "bye"), "{:?}", seen.logs);
    }
}

/// An end while start scripts run: they are told to go, and their end is no stage of life.
#[tokio::test]
async fn an_end_in_the_middle_of_the_start() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![script("echo up >$T/up; sleep 1000"), at_stop("true")];
    });
    let agent = fixture.start();
    file(&fixture.path("up")).await;
    agent.end().await;
    assert_eq!(states(&fixture.server.seen(), A), [Starting, ShuttingDown, Off]);
}

/// TestAgent_ReconnectNoLifecycleReemit, L4 and L12.
#[tokio::test]
async fn reconnect_no_lifecycle_reemit() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        fixture.server.manifest(|manifest| {
            manifest.scripts = vec![script("echo ran >>$T/ran")];
        });
        let _agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, Ready]).await;
        fixture.server.wait_calls("/coder.agent.v2.Agent/UpdateStats", 1).await;
        fixture.server.drop_sessions();
        // A later call proves that there was time for reports.
        let seen = fixture.server.wait_calls("/coder.agent.v2.Agent/UpdateStats", 2).await;
        assert_eq!(states(&seen, A), [Starting, Ready]);
        assert_eq!(file(&fixture.path("ran")).await, "ran\n");
        assert_eq!(fixture.network.count(), 1, "the tailnet stays");
        let tailnet = fixture.network.tailnet(0).await;
        tailnet.wait("a second coordination", |state| state.coordinations == 2).await;
    }
}

/// TestAgent_ReconnectReplaysLifecycleOnNewAgentID, L5.
#[tokio::test]
async fn reconnect_replays_lifecycle_on_new_agent_id() {
    let fixture = Fixture::with(REPLAY);
    fixture.server.manifest(|manifest| manifest.scripts = vec![script("echo ran >>$T/ran")]);
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let redial = std::time::SystemTime::now();
    fixture.server.be(B);
    fixture.server.drop_sessions();
    let seen = fixture.server.wait_states(B, &[Starting, Ready]).await;
    let times = seen.lifecycle(B);
    assert!(times[0].1 >= redial && times[1].1 >= times[0].1 + Duration::from_millis(1));
    let seen = fixture.server.wait_calls("/coder.agent.v2.Agent/UpdateStats", 2).await;
    assert_eq!(states(&seen, A), [Starting, Ready], "the old row is left alone");
    assert_eq!(states(&seen, B), [Starting, Ready], "nothing else");
    assert_eq!(file(&fixture.path("ran")).await, "ran\n", "scripts are not run again");
    assert_eq!(*fixture.network.tailnet(0).await.agents.lock().unwrap(), [A, B]);
    agent.end().await;
    let seen = fixture.server.seen();
    assert_eq!(states(&seen, B), [Starting, Ready, ShuttingDown, Off]);
}

/// L6: the script still runs.
#[tokio::test]
async fn a_new_agent_id_in_the_middle_of_the_start() {
    let fixture = Fixture::with(REPLAY);
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![script("while [ ! -e $T/held ]; do sleep 0.01; done")];
    });
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting]).await;
    fixture.server.be(B);
    fixture.server.drop_sessions();
    fixture.server.wait_states(B, &[Starting]).await;
    std::fs::write(fixture.path("held"), "").unwrap();
    let seen = fixture.server.wait_states(B, &[Starting, Ready]).await;
    assert_eq!(states(&seen, A), [Starting]);
}

/// L7.
#[tokio::test]
async fn a_new_agent_id_after_a_failed_start() {
    let fixture = Fixture::with(REPLAY);
    fixture.server.manifest(|manifest| manifest.scripts = vec![script("false")]);
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, StartError]).await;
    fixture.server.be(B);
    fixture.server.drop_sessions();
    fixture.server.wait_states(B, &[Starting, StartError]).await;
}

/// L8: with the end at the same time, the new row's chain is whole and in order, or not begun.
#[tokio::test]
async fn a_new_agent_id_and_the_end_at_once() {
    for round in 0..40 {
        let fixture = Fixture::with(REPLAY);
        let mut agent = fixture.start();
        fixture.server.wait_states(A, &[Starting, Ready]).await;
        fixture.server.be(B);
        if round % 2 == 0 {
            fixture.server.drop_sessions();
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            agent.ask();
        } else {
            agent.ask();
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            fixture.server.drop_sessions();
        }
        agent.ended().await;
        let seen = fixture.server.seen();
        let whole = [Starting, Ready, ShuttingDown, Off];
        let (old, new) = (states(&seen, A), states(&seen, B));
        assert_eq!(old, whole[..old.len()], "round {round}");
        assert_eq!(new, whole[..new.len()], "round {round}");
        assert!(old.len() == 4 || new.len() == 4, "round {round}: {old:?} {new:?}");
    }
}

/// L9: what was not taken comes again without any further news.
#[tokio::test]
async fn a_failed_report_comes_again() {
    for policy in BOTH {
        let fixture = Fixture::with(policy);
        fixture.server.fail("/coder.agent.v2.Agent/UpdateLifecycle", 1);
        let _agent = fixture.start();
        let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
        assert_eq!(seen.count("/coder.agent.v2.Agent/UpdateLifecycle"), 3);
        assert_eq!(seen.dials.len(), 2, "the error ended the session");
    }
}

/// L10: a replay that breaks off goes on where it was.
#[tokio::test]
async fn a_replay_that_breaks_off_goes_on() {
    let fixture = Fixture::with(REPLAY);
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    fixture.server.be(B);
    // The first of the replay is taken, the second not.
    fixture.server.fail_second("/coder.agent.v2.Agent/UpdateLifecycle");
    fixture.server.drop_sessions();
    let seen = fixture.server.wait_states(B, &[Starting, Ready]).await;
    assert_eq!(seen.dials.len(), 3);
}

/// L11.
#[tokio::test]
async fn two_new_agent_ids_in_a_row() {
    let fixture = Fixture::with(REPLAY);
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    fixture.server.be(B);
    fixture.server.drop_sessions();
    fixture.server.wait("the new row", |seen| !seen.lifecycle(B).is_empty()).await;
    fixture.server.be(C);
    fixture.server.drop_sessions();
    let seen = fixture.server.wait_states(C, &[Starting, Ready]).await;
    let middle = states(&seen, B);
    assert_eq!(middle, [Starting, Ready][..middle.len()]);
}

/// L14, TestHandleManifestResendsLifecycleOnNewAgentID: the new build's scripts run, once for each
/// new id, and nothing of the old object reaches the new row.
#[tokio::test]
async fn a_new_agent_id_starts_over() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts =
            vec![script("echo old-start >>$T/ran"), at_stop("echo old-stop >>$T/ran")];
    });
    let agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let tailnet = fixture.network.tailnet(0).await;
    fixture.server.be(B);
    fixture.server.manifest(|manifest| {
        manifest.scripts =
            vec![script("echo new-start >>$T/ran"), at_stop("echo new-stop >>$T/ran")];
    });
    fixture.server.drop_sessions();
    let seen = fixture.server.wait_states(B, &[Starting, Ready]).await;
    assert_eq!(states(&seen, A), [Starting, Ready], "nothing more of the old row");
    assert_eq!(seen.startups.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [A, B]);
    assert!(tailnet.state().closed, "the old tailnet has gone, with whoever was connected");
    assert_eq!(fixture.network.count(), 2);

    // The same id again is nothing new; an id that was seen before is gone on as.
    for id in [B, A, B] {
        let stats = fixture.server.seen().count("/coder.agent.v2.Agent/UpdateStats");
        fixture.server.be(id);
        fixture.server.drop_sessions();
        fixture.server.wait_calls("/coder.agent.v2.Agent/UpdateStats", stats + 1).await;
    }
    agent.end().await;
    let ran = std::fs::read_to_string(fixture.path("ran")).unwrap();
    assert_eq!(ran, "old-start\nold-stop\nnew-start\nnew-stop\n");
    assert_eq!(fixture.network.count(), 2);
}
