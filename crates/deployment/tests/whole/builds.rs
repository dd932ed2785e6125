//! Builds, and the agents that they start and stop.

use coderctl_deployment::{
    faults::Fault,
    model::{JobStatus, Lifecycle, Timestamp, Transition},
};

use crate::world::World;

const SCRIPTS: &str = r#"
[[agents]]
name = "main"
environment = { GREETING = "hello" }

[[agents.scripts]]
name = "prepare"
run = "echo \"$GREETING from $CODER_WORKSPACE_NAME\" | tee -a \"$HOME/started\""
blocks_login = true

[[agents.scripts]]
name = "goodbye"
run = "echo stopped >> \"$HOME/stopped\""
on = "stop"

[[start]]
stage = "Planning"
log = ["one agent", { level = "warn", text = "no backup" }]

[[start]]
stage = "Starting"
duration = "10ms"
log = ["soon"]

[[stop]]
stage = "Stopping"
"#;

#[tokio::test]
async fn a_workspace_starts_stops_starts_again_and_is_deleted() {
    let world = World::new().await;
    let template = world.template("scripts", SCRIPTS).await;
    let made = world.create("dev", &template).await;
    world.succeeded(made.job.id).await;
    assert_eq!(
        world.log(made.job.id).await,
        ["info Planning: one agent", "warn Planning: no backup", "info Starting: soon"]
    );

    let first = world.agent(made.build.id, Lifecycle::Ready).await;
    assert!(first.started_at.unwrap() <= first.ready_at.unwrap());
    assert!(first.first_connected_at.is_some());
    world.file(&made.workspace, "started", "hello from dev\n").await;
    let lines = world.store().agent_logs(first.id, 0, 10).await.unwrap();
    assert!(lines.iter().any(|line| line.output.contains("hello from dev")), "{lines:?}");
    let timings = world.store().script_timings(first.id).await.unwrap();
    assert_eq!(timings.len(), 1);

    let (stop, job) = world.build(made.workspace.id, Transition::Stop).await;
    world.succeeded(job.id).await;
    assert_eq!(world.file(&made.workspace, "stopped", "stopped").await, "stopped\n");
    let stopped = world.store().agent(first.id).await.unwrap();
    assert_eq!(stopped.lifecycle, Lifecycle::Off, "its last words were heard");
    assert!(world.store().agents_of_build(stop.id).await.unwrap().is_empty());

    let (again, job) = world.build(made.workspace.id, Transition::Start).await;
    world.succeeded(job.id).await;
    let second = world.agent(again.id, Lifecycle::Ready).await;
    assert_ne!(second.id, first.id);
    assert!(second.auth_token != first.auth_token, "another build, another token");
    world.file(&made.workspace, "started", "hello from dev\nhello from dev\n").await;

    let (_, job) = world.build(made.workspace.id, Transition::Delete).await;
    world.succeeded(job.id).await;
    assert!(world.store().workspace(made.workspace.id).await.unwrap().deleted);
    assert_eq!(std::fs::read_dir(world.directory.path()).unwrap().count(), 0, "nothing is left");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_build_fails_where_the_template_says_so() {
    let world = World::new().await;
    let template = world
        .template(
            "failing",
            r#"
            [[agents]]
            name = "main"
            [[start]]
            stage = "Planning"
            [[start]]
            stage = "Applying"
            log = ["trying"]
            duration = "1h"
            [[failures]]
            transition = "start"
            step = 2
            build = 1
            error = "no capacity"
            "#,
        )
        .await;
    let made = world.create("dev", &template).await;
    let job = world.over(made.job.id).await;
    assert_eq!((job.status(), job.error.as_deref()), (JobStatus::Failed, Some("no capacity")));
    assert_eq!(
        world.log(made.job.id).await,
        ["info Applying: trying", "error Applying: no capacity"]
    );
    assert!(world.store().agents_of_build(made.build.id).await.unwrap().is_empty());
    world.deployment.shutdown().await;
}

const SLOW: &str = r#"
[[agents]]
name = "main"
[[start]]
stage = "Waiting"
log = ["for an hour"]
duration = "1h"
"#;

#[tokio::test]
async fn a_build_that_runs_is_canceled() {
    let world = World::new().await;
    let template = world.template("slow", SLOW).await;
    let made = world.create("dev", &template).await;
    world.running(made.job.id).await;
    let now = Timestamp::now();
    let job = world.store().cancel_job(made.job.id, None, now).await.unwrap();
    assert_eq!(job.status(), JobStatus::Canceling);
    // As whoever cancels does; without it, the worker sees it when it renews its lease.
    let event = coderctl_deployment::pubsub::channels::WorkspaceEvent::state_change;
    world.state().publish_workspace(world.user.id, event(made.workspace.id)).await;
    let job = world.over(made.job.id).await;
    assert_eq!(job.status(), JobStatus::Canceled);
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_job_is_held_and_several_run_at_once() {
    let world = World::new().await;
    let template = world.template("minimal", "[[agents]]\nname = \"main\"\n").await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    let id = world.faults().arm(hold).unwrap();
    let mut jobs = Vec::new();
    for number in 0..5 {
        jobs.push(world.create(&format!("dev{number}"), &template).await.job.id);
    }
    for job in &jobs {
        world.running(*job).await;
    }
    world.faults().disarm(Some(id));
    for job in jobs {
        world.succeeded(job).await;
    }
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_deployment_that_ends_gives_its_jobs_back() {
    let directory = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let storage = coderctl_deployment::config::Storage::Directory(state.path().to_owned());
    let config = coderctl_deployment::Config::new(storage, directory.path());
    let world = World::start(config.clone(), directory).await;
    let template = world
        .template(
            "held",
            "[[agents]]\nname = \"main\"\n[[start]]\nstage = \"Planning\"\nlog = [\"begun\"]\n",
        )
        .await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    world.faults().arm(hold).unwrap();
    let made = world.create("dev", &template).await;
    world.running(made.job.id).await;
    let World { deployment, directory, .. } = world;
    deployment.shutdown().await;

    let world = World::start(config, directory).await;
    world.succeeded(made.job.id).await;
    let log = world.log(made.job.id).await;
    assert_eq!(log.last().unwrap(), "info Planning: begun", "{log:?}");
    assert!(log[0].contains("begins again"), "{log:?}");
    world.agent(made.build.id, Lifecycle::Ready).await;

    // And once more: the agent of a workspace that runs is started with the server.
    let World { deployment, directory, .. } = world;
    deployment.shutdown().await;
    let storage = coderctl_deployment::config::Storage::Directory(state.path().to_owned());
    let config = coderctl_deployment::Config::new(storage, directory.path());
    let world = World::start(config, directory).await;
    world.agent(made.build.id, Lifecycle::Ready).await;
    world.deployment.shutdown().await;
}
