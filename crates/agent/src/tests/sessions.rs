//! Connections to the server, and what goes over them.

use http::StatusCode;
use proto::lifecycle::State::{Ready, Starting};

use super::*;
use crate::server::{DialError, Version};

const AGENT: &str = "/coder.agent.v2.Agent/";

fn call(name: &str) -> String {
    format!("{AGENT}{name}")
}

#[tokio::test]
async fn a_manifest_is_handled_in_order() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| manifest.directory = "~/src".to_owned());
    let _agent = fixture.start();
    let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
    let position = |name: &str| seen.calls.iter().position(|made| *made == call(name));
    assert!(position("GetManifest") < position("UpdateStartup"));
    assert!(position("UpdateStartup") < position("UpdateLifecycle"));
    let (row, startup) = &seen.startups[0];
    assert_eq!(*row, A);
    assert_eq!(startup.expanded_directory, fixture.path("src").to_string_lossy());
    assert!(startup.version.starts_with('v'), "{}", startup.version);
}

#[tokio::test]
async fn everything_is_asked_and_told() {
    let fixture = Fixture::new();
    let app = proto::WorkspaceApp {
        id: vec![8; 16],
        healthcheck: Some(proto::workspace_app::Healthcheck {
            // Nobody listens there.
            url: "http://127.0.0.1:1/".to_owned(),
            interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            threshold: 0,
        }),
        ..Default::default()
    };
    let item = proto::workspace_agent_metadata::Description {
        key: "where".to_owned(),
        script: "echo $CODER_WORKSPACE_NAME".to_owned(),
        ..Default::default()
    };
    fixture.server.manifest(|manifest| {
        manifest.apps = vec![app, proto::WorkspaceApp::default()];
        manifest.metadata = vec![item];
        manifest.scripts = vec![script("echo one; echo two >&2; exit 7")];
    });
    let _agent = fixture.start();
    let seen = fixture
        .server
        .wait("all of it", |seen| {
            !seen.health.is_empty()
                && !seen.metadata.is_empty()
                && !seen.timings.is_empty()
                && seen.logs.len() >= 2
                && !seen.stats.is_empty()
                && seen.count(&call("GetAnnouncementBanners")) == 1
                && seen.count(&call("GetResourcesMonitoringConfiguration")) == 1
        })
        .await;
    assert_eq!(
        seen.health[0],
        [i32::from(proto::AppHealth::Unhealthy)],
        "only of one that has a URL"
    );
    let metadata = &seen.metadata[0];
    let result = metadata.result.as_ref().unwrap();
    assert_eq!((metadata.key.as_str(), result.value.as_str()), ("where", "dev"));
    let timing = &seen.timings[0];
    assert_eq!(timing.exit_code, 7);
    assert_eq!(timing.stage(), proto::timing::Stage::Start);
    assert_eq!(timing.status(), proto::timing::Status::ExitFailure);
    let level = |text: &str| {
        let found =
            seen.logs.iter().find(|(_, log)| log.output == text).map(|(_, log)| log.level());
        found.unwrap_or_else(|| panic!("no {text:?}"))
    };
    assert_eq!(level("one"), proto::log::Level::Info);
    assert_eq!(level("two"), proto::log::Level::Error);
    assert_eq!(seen.stats[0], None, "the first only asks how often");
    let log = fixture.path("coder-script-00000000-0000-0000-0000-000000000106.log");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("one\n") && log.contains("two\n"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn stats_and_banners_come_as_often_as_they_should() {
    let fixture = Fixture::new();
    fixture.server.be_patient();
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let begun = tokio::time::Instant::now();
    let seen = fixture.server.wait("four reports", |seen| seen.stats.len() == 5).await;
    assert_eq!(begun.elapsed().as_secs(), 120, "every 30 s, as the server wants");
    let stats = seen.stats[1].as_ref().unwrap();
    assert_eq!(stats.connection_count, 3);
    assert!((stats.connection_median_latency_ms - 1.5).abs() < f64::EPSILON);
    let banners = call("GetAnnouncementBanners");
    let seen = fixture.server.wait_calls(&banners, 3).await;
    assert_eq!(seen.count(&banners), 3);
    assert!((239..=241).contains(&begun.elapsed().as_secs()), "every 2 min");
    assert_eq!(seen.dials.len(), 1, "one connection all the time");
}

#[tokio::test]
async fn an_old_server() {
    let fixture = Fixture::new();
    let refusal = DialError::Version { version: Version::V2_4, words: String::new() };
    fixture.server.refuse(refusal);
    let _agent = fixture.start();
    let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
    let versions: Vec<Version> = seen.dials.iter().map(|(version, _, _)| *version).collect();
    assert_eq!(versions, [Version::V2_4, Version::V2_0]);
    let seen = fixture.server.wait_calls(&call("GetServiceBanner"), 1).await;
    for newer in
        ["GetAnnouncementBanners", "ReportConnection", "GetResourcesMonitoringConfiguration"]
    {
        assert_eq!(seen.count(&call(newer)), 0, "{newer}");
    }
}

#[tokio::test]
async fn calls_that_the_server_lacks_are_not_missed() {
    let fixture = Fixture::new();
    fixture.server.lack("/coder.agent.v2.Agent/GetAnnouncementBanners");
    fixture.server.lack("/coder.agent.v2.Agent/GetResourcesMonitoringConfiguration");
    fixture.server.lack("/coder.agent.v2.Agent/ScriptCompleted");
    fixture.server.manifest(|manifest| manifest.scripts = vec![script("true")]);
    let _agent = fixture.start();
    fixture.server.wait_calls(&call("ScriptCompleted"), 1).await;
    fixture.server.wait_calls(&call("GetResourcesMonitoringConfiguration"), 1).await;
    fixture.server.wait_calls(&call("GetServiceBanner"), 1).await;
    let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
    assert_eq!(seen.dials.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dials_are_repeated_with_pauses_that_begin_anew() {
    let fixture = Fixture::new();
    for _ in 0..4 {
        fixture
            .server
            .refuse(DialError::Status { status: StatusCode::BAD_GATEWAY, words: String::new() });
        fixture.server.refuse(DialError::Unauthorized(String::new()));
    }
    let _agent = fixture.start();
    let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
    let pauses = |seen: &Seen, from: usize| -> Vec<u128> {
        let times: Vec<_> = seen.dials[from..].iter().map(|(_, at, _)| *at).collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
    };
    // The clock of tokio has milliseconds.
    let about = |found: &[u128], expected: &[u128]| {
        found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.abs_diff(*expected) <= 2)
    };
    let first = pauses(&seen, 0);
    assert!(about(&first, &[161, 261, 423, 685, 1109, 1794, 2903, 4697]), "{first:?}");
    // Each dial asked for its own token.
    assert_eq!(seen.dials[8].2, "token-9");

    tokio::time::sleep(Duration::from_secs(11)).await;
    fixture.server.drop_sessions();
    let seen = fixture.server.wait("a redial", |seen| seen.dials.len() == 10).await;
    let last = seen.dials[9].1.elapsed();
    assert!(last < Duration::from_millis(5), "at once: {last:?}");

    // One that breaks at once is not good.
    for count in 11..14 {
        fixture.server.drop_sessions();
        fixture.server.wait("a redial", |seen| seen.dials.len() == count).await;
    }
    let quick = pauses(&fixture.server.seen(), 9);
    assert!(about(&quick, &[161, 261, 423]), "{quick:?}");
}

#[tokio::test]
async fn any_error_ends_the_session() {
    for name in [
        "/coder.agent.v2.Agent/GetManifest",
        "/coder.agent.v2.Agent/UpdateStartup",
        "/coder.agent.v2.Agent/UpdateStats",
        "/coder.agent.v2.Agent/GetAnnouncementBanners",
        "/coder.agent.v2.Agent/GetResourcesMonitoringConfiguration",
        "/coder.agent.v2.Agent/BatchCreateLogs",
    ] {
        let fixture = Fixture::new();
        fixture.server.fail(name, 1);
        fixture.server.manifest(|manifest| manifest.scripts = vec![script("echo x")]);
        let _agent = fixture.start();
        let seen = fixture.server.wait_calls(name, 2).await;
        assert_eq!(seen.dials.len(), 2, "{name}");
        fixture.server.wait("one session", |seen| seen.open_sessions == 1).await;
        // A report whose answer was lost comes again.
        let once = |seen: &Seen| {
            let mut told = states(seen, A);
            told.dedup();
            told == [Starting, Ready]
        };
        fixture.server.wait("ready", once).await;
    }
}

/// Lines of a script that ends while there is no connection, and how long it took, arrive later.
#[tokio::test]
async fn what_happens_without_a_connection_is_told_later() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts =
            vec![script("while [ ! -e $T/held ]; do sleep 0.01; done; echo later; echo >$T/done")];
    });
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting]).await;
    for _ in 0..3 {
        fixture.server.refuse(DialError::Unauthorized(String::new()));
    }
    fixture.server.drop_sessions();
    fixture.server.wait("nobody", |seen| seen.dials.len() == 2).await;
    std::fs::write(fixture.path("held"), "").unwrap();
    file(&fixture.path("done")).await;
    let told = |seen: &Seen| !seen.timings.is_empty() && !seen.logs.is_empty();
    let seen = fixture.server.wait("all of it", told).await;
    assert_eq!(seen.logs[0].1.output, "later");
}

/// The log limit ends the logs, not the connection.
#[tokio::test]
async fn the_log_limit() {
    let fixture = Fixture::new();
    fixture.server.limit_logs();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![script("echo one"), at_stop("echo two")];
    });
    let agent = fixture.start();
    fixture.server.wait_calls(&call("BatchCreateLogs"), 1).await;
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    agent.end().await;
    let seen = fixture.server.seen();
    assert_eq!((seen.dials.len(), seen.count(&call("BatchCreateLogs"))), (1, 1));
}

#[tokio::test]
async fn secrets_are_files_for_the_owner_alone() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.secrets = vec![proto::WorkspaceSecret {
            file_path: "~/private/key".to_owned(),
            value: b"hush".to_vec(),
            ..Default::default()
        }];
    });
    let _agent = fixture.start();
    fixture.server.wait_states(A, &[Starting, Ready]).await;
    let path = fixture.path("private/key");
    assert_eq!(std::fs::read(&path).unwrap(), b"hush");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn subsystems_are_told() {
    let fixture = Fixture::new();
    let mut options = fixture.options();
    let known: (OsString, OsString) =
        ("CODER_AGENT_SUBSYSTEM".into(), "exectrace,nonsense, envbox,envbox".into());
    options.environment.push(known);
    let _agent = fixture.start_with(options);
    let seen = fixture.server.wait_states(A, &[Starting, Ready]).await;
    assert_eq!(seen.startups[0].1.subsystems, [1, 3]);
}

/// A script by the clock finds the environment, and is told as one.
#[tokio::test]
async fn a_script_by_the_clock() {
    let fixture = Fixture::new();
    fixture.server.manifest(|manifest| {
        manifest.scripts = vec![
            proto::WorkspaceAgentScript {
                cron: "* * * * * *".to_owned(),
                run_on_start: false,
                ..script("echo $CODER_WORKSPACE_OWNER_NAME")
            },
            proto::WorkspaceAgentScript {
                cron: "nonsense".to_owned(),
                run_on_start: false,
                ..script("true")
            },
        ];
    });
    let _agent = fixture.start();
    let cron = |seen: &Seen| {
        seen.timings.iter().any(|timing| timing.stage() == proto::timing::Stage::Cron)
            && seen.logs.iter().any(|(_, log)| log.output == "alice")
            && seen.logs.iter().any(|(_, log)| log.output.contains("nonsense"))
    };
    fixture.server.wait("a run by the clock", cron).await;
}
