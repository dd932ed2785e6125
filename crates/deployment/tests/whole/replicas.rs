//! Several processes on one PostgreSQL: builds, agents, and the ways between them.

#[path = "../support/postgres.rs"]
mod postgres;

use coderctl_deployment::{
    Config, Deployment,
    config::{Secret, Storage, Tls},
    faults::Fault,
    model::{Lifecycle, Transition},
};
use postgres::Postgres;

use crate::world::{World, until};

const TEMPLATE: &str = r#"
[[agents]]
name = "main"
[[agents.scripts]]
name = "begin"
run = "echo began >> \"$HOME/began\""
[[agents.scripts]]
name = "end"
run = "echo ended >> \"$HOME/ended\""
on = "stop"
"#;

#[tokio::test]
async fn a_job_and_agents_of_a_process_that_is_gone_are_taken_over() {
    let Some(postgres) = Postgres::shared("replicas") else { return };
    let url = postgres.database().await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::new(Storage::Postgres(Secret::new(url)), directory.path());
    // The first runs nothing but what it is given first.
    config.builds = 1;
    let one = World::start(config.clone(), directory).await;
    let template = one.template("replicated", TEMPLATE).await;
    let made = one.create("dev", &template).await;
    one.succeeded(made.job.id).await;
    one.agent(made.build.id, Lifecycle::Ready).await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    one.faults().arm(hold).unwrap();
    let other = one.create("other", &template).await;
    one.running(other.job.id).await;

    // The other process stops the workspace, whose agents run in the first: they are asked to
    // leave, in order.
    let two = Deployment::start(config).await.unwrap();
    let (_, stop) = one.build(made.workspace.id, Transition::Stop).await;
    let stopped = one.succeeded(stop.id).await;
    assert_eq!(stopped.worker_id, Some(two.state().replica_id), "the first has its hands full");
    assert_eq!(one.file(&made.workspace, "ended", "ended").await, "ended\n");

    // The first is gone, without a word: its job's lease runs out, and so does its lock.
    let World { deployment, directory, user, .. } = one;
    drop(deployment);
    let job = until("the job is done by the other", async || {
        let job = two.state().store.job(other.job.id).await.unwrap();
        (!job.status().is_active()).then_some(job)
    })
    .await;
    assert_eq!(job.worker_id, Some(two.state().replica_id));
    let ready = async |build| {
        until("its agent is ready", async || {
            let agents = two.state().store.agents_of_build(build).await.unwrap();
            agents.into_iter().find(|agent| agent.lifecycle == Lifecycle::Ready)
        })
        .await
    };
    ready(other.build.id).await;
    drop((user, directory));
    two.shutdown().await;
}

#[tokio::test]
async fn agents_of_a_process_that_is_gone_run_in_another() {
    let Some(postgres) = Postgres::shared("replicas") else { return };
    let url = postgres.database().await;
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(Storage::Postgres(Secret::new(url)), directory.path());
    let one = World::start(config.clone(), directory).await;
    let template = one.template("replicated", TEMPLATE).await;
    let made = one.create("dev", &template).await;
    one.succeeded(made.job.id).await;
    let before = one.agent(made.build.id, Lifecycle::Ready).await;
    let two = Deployment::start(config).await.unwrap();
    let World { deployment, directory, .. } = one;
    drop(deployment);
    let after = until("its agent is ready again", async || {
        let agent = two.state().store.agent(before.id).await.unwrap();
        let again = agent.ready_at > before.ready_at && agent.lifecycle == Lifecycle::Ready;
        again.then_some(agent)
    })
    .await;
    assert_eq!(after.replica_id, Some(two.state().replica_id));
    drop(directory);
    two.shutdown().await;
}

/// Agents of one are known to the coordinator and the relay of the other.
async fn meet(tls: Option<Tls>) {
    let Some(postgres) = Postgres::shared("replicas") else { return };
    let url = postgres.database().await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::new(Storage::Postgres(Secret::new(url)), directory.path());
    config.tls = tls;
    let one = World::start(config.clone(), directory).await;
    let two = Deployment::start(config.clone()).await.unwrap();
    let template = one.template("replicated", TEMPLATE).await;
    let made = one.create("dev", &template).await;
    one.succeeded(made.job.id).await;
    one.agent(made.build.id, Lifecycle::Ready).await;
    // One that comes later, too.
    let three = Deployment::start(config).await.unwrap();
    let all = [&one.deployment, &two, &three];
    until("the agent is known to all", async || {
        let here = |deployment: &&Deployment| {
            let (peers, _) = deployment.state().coordinator.size();
            let relay = deployment.state().relay.stats();
            peers == 1 && relay.elsewhere + relay.connections >= 1
        };
        all.iter().all(here).then_some(())
    })
    .await;
    let World { deployment, directory, .. } = one;
    deployment.shutdown().await;
    two.shutdown().await;
    three.shutdown().await;
    drop(directory);
}

#[tokio::test]
async fn agents_of_one_can_be_reached_from_all() {
    meet(None).await;
}

#[tokio::test]
async fn agents_of_one_can_be_reached_from_all_by_tls() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    meet(Some(Tls { certificate, key })).await;
}
