#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const NOW: i64 = 1_790_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix(NOW, 0)
}

fn at(seconds: i64) -> Option<Moment> {
    Some(Moment { seconds, nanos: 0 })
}

const ID: [u8; 16] = [7; 16];

#[test]
fn a_moment_that_is_not_named_is_now() {
    let rows = [
        (None, now()),
        (at(0), now()),
        // Go's time.Time{}.
        (at(-62_135_596_800), now()),
        (at(NOW - 5), Timestamp::from_unix(NOW - 5, 0)),
        (Some(Moment { seconds: 0, nanos: 5_000 }), Timestamp::from_unix(0, 5_000)),
        // Beyond what can be written: the nearest.
        (at(i64::MAX), Timestamp::from_unix(i64::MAX, 0)),
    ];
    for (named, wanted) in rows {
        assert_eq!(moment(named.as_ref(), now()), wanted, "{named:?}");
    }
}

#[test]
fn every_lifecycle_state_is_known_and_no_other() {
    for (number, state) in Lifecycle::ALL.iter().enumerate() {
        let report =
            proto::Lifecycle { state: i32::try_from(number).unwrap() + 1, changed_at: at(5) };
        assert_eq!(lifecycle(&report), Ok((*state, Some(Timestamp::from_unix(5, 0)))));
    }
    for state in [0, 10, -1] {
        let report = proto::Lifecycle { state, changed_at: at(5) };
        assert!(lifecycle(&report).is_err(), "{state}");
    }
}

#[test]
fn a_version_is_semantic_with_a_leading_v() {
    let rows = [
        ("v2.33.0", true),
        ("v0.0.0-devel", true),
        ("v2.33.0-rc.1+abc-def", true),
        ("v2.33.0+a.b", true),
        ("v2", true),
        ("v2.1", true),
        ("v2-rc", false),
        ("2.33.0", false),
        ("", false),
        ("v", false),
        ("v2..0", false),
        ("v02.1.0", false),
        ("v2.1.0.0", false),
        ("v2.1.0-", false),
        ("v2.1.0+\u{1b}", false),
        ("latest", false),
    ];
    for (version, wanted) in rows {
        assert_eq!(is_version(version), wanted, "{version:?}");
    }
    assert!(!is_version(&format!("v1.0.0-{}", "a".repeat(300))));
}

#[test]
fn subsystems_are_sorted_and_named_once() {
    let report = proto::Startup {
        version: "v2.33.0".to_owned(),
        expanded_directory: "/home/me".to_owned(),
        subsystems: vec![3, 1, 3],
    };
    assert_eq!(startup(&report).unwrap().subsystems, [Subsystem::Envbox, Subsystem::Exectrace]);
    for unknown in [0, 4] {
        let report = proto::Startup { subsystems: vec![unknown], ..report.clone() };
        assert!(startup(&report).is_err(), "{unknown}");
    }
}

#[test]
fn log_lines_without_a_source_are_external_and_without_a_level_info() {
    let line = |level| proto::Log { created_at: None, output: "a\0b".to_owned(), level };
    let report = |id: &[u8]| proto::BatchCreateLogsRequest {
        log_source_id: id.to_vec(),
        logs: vec![line(0), line(5), line(77)],
    };
    for (id, wanted) in
        [(&[][..], Uuid::nil()), (&[0; 16][..], Uuid::nil()), (&ID[..], Uuid::from_bytes(ID))]
    {
        let (source, lines) = logs(&report(id), now()).unwrap();
        assert_eq!(source, wanted);
        let levels: Vec<_> = lines.iter().map(|line| line.level).collect();
        assert_eq!(levels, [LogLevel::Info, LogLevel::Error, LogLevel::Info]);
        assert_eq!((lines[0].output.as_str(), lines[0].created_at), ("a\0b", now()));
    }
    assert!(logs(&report(&[1, 2, 3]), now()).is_err());
}

#[test]
fn metadata_is_trimmed_and_cut() {
    let report = |value: String| proto::BatchUpdateMetadataRequest {
        metadata: vec![proto::Metadata {
            key: "k".to_owned(),
            result: Some(proto::workspace_agent_metadata::Result {
                collected_at: None,
                age: 0,
                value,
                error: " e ".to_owned(),
            }),
        }],
    };
    let short = metadata(&report("  v\n".to_owned())).unwrap();
    assert_eq!((short[0].value.as_str(), short[0].error.as_str()), ("v", "e"));
    let long = metadata(&report("é".repeat(MAX_METADATA))).unwrap();
    assert_eq!(long[0].value.len(), MAX_METADATA);
    assert_eq!(long[0].error, "value of 4096 bytes exceeded 2048 bytes, truncated");
    let keys = proto::BatchUpdateMetadataRequest {
        metadata: vec![proto::Metadata { key: "k".repeat(MAX_METADATA_KEYS + 1), result: None }],
    };
    assert!(metadata(&keys).is_err());
}

#[test]
fn a_script_has_a_start_and_an_end_in_order() {
    let report = |start, end, stage, status| proto::WorkspaceAgentScriptCompletedRequest {
        timing: Some(proto::Timing {
            script_id: ID.to_vec(),
            start,
            end,
            exit_code: 3,
            stage,
            status,
        }),
    };
    let good = timing(&report(at(5), at(5), 2, 3)).unwrap();
    assert_eq!((good.stage, good.status), (ScriptStage::Cron, ScriptStatus::PipesLeftOpen));
    for (start, end, stage, status) in [
        (None, at(5), 0, 0),
        (at(5), None, 0, 0),
        (at(0), at(5), 0, 0),
        (at(6), at(5), 0, 0),
        (at(5), at(6), 3, 0),
        (at(5), at(6), 0, 4),
    ] {
        assert!(timing(&report(start, end, stage, status)).is_err());
    }
    assert!(timing(&proto::WorkspaceAgentScriptCompletedRequest::default()).is_err());
}

#[test]
fn a_connection_has_an_id_and_only_its_end_has_a_status() {
    let report = |id: &[u8], action, kind, ip: &str| proto::ReportConnectionRequest {
        connection: Some(proto::Connection {
            id: id.to_vec(),
            action,
            r#type: kind,
            timestamp: at(5),
            ip: ip.to_owned(),
            status_code: 4,
            reason: Some("left".to_owned()),
            app_name: String::new(),
        }),
    };
    let begun = connection(&report(&ID, 1, 1, "localhost"), now()).unwrap();
    assert_eq!((begun.ip.as_str(), begun.ended), ("127.0.0.1", None));
    let over = connection(&report(&ID, 2, 4, "::1"), now()).unwrap();
    assert_eq!(over.kind, ConnectionType::ReconnectingPty);
    assert_eq!((over.ip.as_str(), over.ended), ("::1", Some((4, "left".to_owned()))));
    let odd = connection(&report(&ID, 1, 1, "\u{1b}[2J"), now()).unwrap();
    assert_eq!(odd.ip, "");
    for (id, action, kind) in
        [(&[0; 16][..], 1, 1), (&[1][..], 1, 1), (&ID[..], 0, 1), (&ID[..], 1, 0), (&ID[..], 3, 1)]
    {
        assert!(connection(&report(id, action, kind, ""), now()).is_err());
    }
}

#[test]
fn app_health_has_an_app_and_a_value() {
    let report = |health| proto::BatchUpdateAppHealthRequest {
        updates: vec![proto::batch_update_app_health_request::HealthUpdate {
            id: ID.to_vec(),
            health,
        }],
    };
    assert_eq!(app_healths(&report(3)), Ok(vec![(Uuid::from_bytes(ID), AppHealth::Healthy)]));
    assert!(app_healths(&report(0)).is_err());
    assert!(app_healths(&report(9)).is_err());
}
