//! The socket at which faults are asked for.

use coderctl_deployment::{
    Config, Deployment,
    config::Storage,
    model::{JobStatus, Lifecycle},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use crate::world::until;

async fn say(stream: &mut BufReader<UnixStream>, line: &str) -> serde_json::Value {
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    serde_json::from_str(&answer).unwrap()
}

#[tokio::test]
async fn a_deployment_is_told_to_fail_by_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let mut config = Config::new(Storage::Memory, directory.path().join("workspaces"));
    config.fault_socket = Some(socket.clone());
    let deployment = Deployment::start(config).await.unwrap();
    let store = &deployment.state().store;
    let mut control = BufReader::new(UnixStream::connect(&socket).await.unwrap());

    assert_eq!(say(&mut control, r#"{"arm": {"hold_job": {}}}"#).await["armed"], 1);
    let user = deployment.first_user("alice", "alice@example.com").await.unwrap();
    let made = deployment.create_workspace(user.id, "dev", None).await.unwrap();
    until("the job is held", async || {
        let status = store.job(made.job.id).await.unwrap().status();
        (status == JobStatus::Running).then_some(())
    })
    .await;
    let listed = say(&mut control, r#"{"list": {}}"#).await;
    assert_eq!(listed["faults"][0]["fault"]["hold_job"]["workspace"], serde_json::Value::Null);
    for wrong in ["", "x", r#"{"arm": {"earthquake": {}}}"#, r#"{"disarm": "x"}"#] {
        assert!(say(&mut control, wrong).await["error"].is_string(), "{wrong}");
    }
    assert_eq!(say(&mut control, r#"{"disarm": 1}"#).await["disarmed"], 1);
    let agent = deployment.built(&made).await.unwrap().remove(0);
    until("the agent is ready", async || {
        let now = store.agent(agent.id).await.unwrap();
        (now.lifecycle == Lifecycle::Ready).then_some(())
    })
    .await;

    let cut = say(&mut control, r#"{"drop_sessions": {}}"#).await;
    assert_eq!(cut["cut"], 1);
    let before = store.agent(agent.id).await.unwrap().last_connected_at;
    until("it is back", async || {
        let now = store.agent(agent.id).await.unwrap().last_connected_at;
        (now > before).then_some(())
    })
    .await;
    assert_eq!(say(&mut control, r#"{"freeze_relay": true}"#).await["frozen"], true);
    assert_eq!(say(&mut control, r#"{"freeze_relay": false}"#).await["frozen"], false);
    deployment.shutdown().await;
    assert!(!socket.exists(), "the socket goes with the server");
}

#[tokio::test]
async fn without_being_asked_there_is_no_socket_and_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(Storage::Memory, directory.path());
    let deployment = Deployment::start(config).await.unwrap();
    let faults = &deployment.state().faults;
    assert!(!faults.is_injector());
    let hold = coderctl_deployment::faults::Fault::HoldJob { workspace: None, transition: None };
    assert!(faults.arm(hold).is_err());
    deployment.shutdown().await;
}
