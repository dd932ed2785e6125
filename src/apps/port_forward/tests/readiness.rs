//! Remote ends that answer, and who is told.

use super::*;

#[tokio::test]
async fn it_is_ready_once_the_remote_ends_have_answered() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ready");
    let (ui, said) = Ui::captured(Options::default());
    let specs =
        Specs { tcp: one("127.0.0.1:0:80"), local: one("127.0.0.1:0:db:5432"), ..Specs::default() };
    let announce = Announce { file: Some(file.clone()), stdout: true, ..Announce::default() };
    let app = PortForward::new(forward_spec::parse(&specs).unwrap(), "dev")
        .announcing(announce)
        .waiting_for_remote(Some(Duration::from_secs(60)));
    let mut forward = Running::of(app, ui, said).await;
    forward.driver.detach();
    assert!(!file.exists());
    let echo = forward.attach();
    forward.says("Ready!").await;
    assert_eq!(echo.connections(), 1, "for the host");
    let line = std::fs::read_to_string(&file).unwrap();
    assert_eq!(forward.driver.said.stdout(), line.as_bytes());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["forwards"][0]["remote"], serde_json::json!({"host": "127.0.0.1", "port": 80}));
    assert_eq!(line["forwards"][1]["local"]["port"], forward.local.port());
    assert_eq!((&line["version"], &line["workspace"]), (&1.into(), &"dev".into()));
    forward.events().await;
    assert!(!file.exists());
}

#[tokio::test(start_paused = true)]
async fn a_remote_end_that_does_not_answer_ends_it() {
    let (ui, said) = Ui::captured(Options::default());
    let app = PortForward::new(forward_spec::parse(&tcp("0:81")).unwrap(), "dev")
        .waiting_for_remote(Some(Duration::from_secs(5)));
    let mut forward = Running::of(app, ui, said).await;
    // The time begins with the first tunnel.
    tokio::time::sleep(Duration::from_secs(60)).await;
    forward.attach();
    let error = forward.driver.error().await;
    assert_eq!(error.kind.code(), 211);
    let why = "'tcp://127.0.0.1:81' in the workspace did not answer within 5 s: refused";
    assert_eq!(error.to_string(), why);
    assert!(!forward.said().contains("Ready"));
}
