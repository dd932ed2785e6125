//! Prebuilt workspaces and their claims, with agents of this process.

use coderctl_deployment::{
    faults::Fault,
    model::{Build, JobStatus, Lifecycle, PREBUILDS_USER, Preset, Template, Transition, Workspace},
    store::Prebuild,
};

use crate::world::{World, token, until};

/// A preset with this many prebuilt workspaces; the script notes for whom it runs.
fn prebuilt(count: usize, more: &str) -> String {
    format!(
        r#"
        {more}
        [[agents]]
        name = "main"
        [[agents.scripts]]
        name = "greet"
        run = "echo \"for $CODER_WORKSPACE_OWNER_NAME in $CODER_WORKSPACE_NAME\" >> \"$HOME/owners\""
        blocks_login = true
        [[agents.scripts]]
        name = "leave"
        run = "echo left >> \"$HOME/left\""
        on = "stop"
        [[parameters]]
        name = "size"
        default = "small"
        [[presets]]
        name = "small"
        parameters = {{ size = "small" }}
        prebuilds = {count}
        "#
    )
}

/// Waits until so many are ready, and no more are there.
async fn ready(world: &World, count: usize) -> Vec<Prebuild> {
    until(&format!("{count} prebuilt workspaces are ready"), async || {
        let prebuilds = world.store().prebuilds().await.unwrap();
        let all = prebuilds.len() == count && prebuilds.iter().all(|prebuild| prebuild.ready);
        all.then_some(prebuilds)
    })
    .await
}

async fn preset(world: &World, template: &Template) -> Preset {
    world.store().presets(template.active_version_id).await.unwrap().remove(0)
}

async fn claim(world: &World, name: &str, template: &Template) -> (Workspace, Build) {
    let made = world.try_create(&world.user, name, template, Some("small")).await.unwrap();
    assert!(made.claimed, "{name}: one that is ready is claimed");
    world.over(made.job.id).await;
    (made.workspace, made.build)
}

#[tokio::test]
async fn a_claim_starts_the_agent_over_for_its_new_owner() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    let before = ready(&world, 1).await.remove(0);
    assert_eq!(before.workspace.owner_id, PREBUILDS_USER);
    world.file(&before.workspace, "owners", "for prebuilds in prebuilt-").await;
    let old = world.agent(before.build.id, Lifecycle::Ready).await;

    let (workspace, build) = claim(&world, "mine", &template).await;
    assert_eq!(workspace.id, before.workspace.id, "the same workspace");
    assert_eq!((workspace.owner_id, workspace.name.as_str()), (world.user.id, "mine"));
    let new = world.agent(build.id, Lifecycle::Ready).await;
    assert_ne!(new.id, old.id);
    assert!(new.auth_token == old.auth_token, "the agent goes on with its token");
    let owners = world.file(&workspace, "owners", "for alice in mine\n").await;
    assert_eq!(owners.lines().count(), 2, "one start for one claim: {owners}");
    assert_eq!(world.file(&workspace, "left", "left").await, "left\n", "and one stop");

    // Another is built in its place; and when that is there, nothing has happened to the first.
    let other = ready(&world, 1).await.remove(0);
    assert_ne!(other.workspace.id, workspace.id);
    let same = world.agent(build.id, Lifecycle::Ready).await;
    assert_eq!(same.ready_at, new.ready_at);
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn two_claims_in_a_row_get_two_workspaces() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(2, "")).await;
    ready(&world, 2).await;
    let (one, first) = claim(&world, "one", &template).await;
    let (two, second) = claim(&world, "two", &template).await;
    assert_ne!(one.id, two.id);
    world.agent(first.id, Lifecycle::Ready).await;
    world.agent(second.id, Lifecycle::Ready).await;
    world.file(&one, "owners", "for alice in one").await;
    world.file(&two, "owners", "for alice in two").await;
    ready(&world, 2).await;
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn without_one_that_is_ready_a_workspace_is_built() {
    let world = World::new().await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    let held = world.faults().arm(hold).unwrap();
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    let made = world.try_create(&world.user, "mine", &template, Some("small")).await.unwrap();
    assert!(!made.claimed);
    world.faults().disarm(Some(held));
    world.succeeded(made.job.id).await;
    let agent = world.agent(made.build.id, Lifecycle::Ready).await;
    let environment = &agent.spec.environment;
    assert_eq!(environment.get("PARAMETER_SIZE").map(String::as_str), Some("small"));
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_claim_that_was_not_published_is_found_by_the_agent() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    ready(&world, 1).await;
    let lost = Fault::DropEvent { channel: "prebuild_claimed_".to_owned(), nth: 1, times: 1 };
    world.faults().arm(lost).unwrap();
    let (workspace, build) = claim(&world, "mine", &template).await;
    world.agent(build.id, Lifecycle::Ready).await;
    let owners = world.file(&workspace, "owners", "for alice in mine").await;
    assert_eq!(owners.lines().count(), 2, "{owners}");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_claim_that_is_told_twice_is_one_restart() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    ready(&world, 1).await;
    let twice = Fault::DuplicateEvent { channel: "prebuild_claimed_".to_owned(), nth: 1, times: 1 };
    world.faults().arm(twice).unwrap();
    let (workspace, build) = claim(&world, "mine", &template).await;
    let agent = world.agent(build.id, Lifecycle::Ready).await;
    // A session that is dropped now comes back without another start.
    until("the session is dropped", async || {
        (world.faults().drop_sessions(Some(agent.id)) > 0).then_some(())
    })
    .await;
    until("the agent is back", async || {
        let now = world.store().agent(agent.id).await.unwrap();
        (now.last_connected_at > agent.last_connected_at).then_some(())
    })
    .await;
    let owners = world.file(&workspace, "owners", "for alice in mine").await;
    assert_eq!(owners.lines().count(), 2, "{owners}");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_workspace_that_was_claimed_while_its_agent_was_away_is_its_owners() {
    let directory = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let storage = coderctl_deployment::config::Storage::Directory(state.path().to_owned());
    let config = coderctl_deployment::Config::new(storage, directory.path());
    let world = World::start(config.clone(), directory).await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    ready(&world, 1).await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    world.faults().arm(hold).unwrap();
    let made = world.try_create(&world.user, "mine", &template, Some("small")).await.unwrap();
    assert!(made.claimed);
    world.running(made.job.id).await;
    let World { deployment, directory, .. } = world;
    deployment.shutdown().await;

    // The claim build is done by the next process, whose agent never ran for anybody else.
    let world = World::start(config, directory).await;
    world.succeeded(made.job.id).await;
    world.agent(made.build.id, Lifecycle::Ready).await;
    let owners = world.file(&made.workspace, "owners", "for alice in mine").await;
    assert_eq!(owners.lines().count(), 2, "{owners}");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_claim_that_fails_leaves_the_workspace_with_its_owner_who_builds_it_again() {
    let world = World::new().await;
    let fails = "[[failures]]\ntransition = \"start\"\nkind = \"claim\"\nerror = \"no room\"";
    let template = world.template("prebuilt", &prebuilt(1, fails)).await;
    let before = ready(&world, 1).await.remove(0);
    let agent = world.agent(before.build.id, Lifecycle::Ready).await;
    let (workspace, build) = claim(&world, "mine", &template).await;
    let job = world.store().job(build.job_id).await.unwrap();
    assert_eq!((job.status(), job.error.as_deref()), (JobStatus::Failed, Some("no room")));
    // Its agent is not let in any more.
    let answer = world
        .ask(http::Method::GET, "/api/v2/workspaceagents/me/reinit?wait=true", &token(&agent), "")
        .await;
    assert_eq!(answer.status(), 401);

    let (again, job) = world.build(workspace.id, Transition::Start).await;
    world.succeeded(job.id).await;
    world.agent(again.id, Lifecycle::Ready).await;
    world.file(&workspace, "owners", "for alice in mine").await;
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_later_build_of_a_claimed_workspace_is_an_ordinary_one() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    ready(&world, 1).await;
    let (workspace, build) = claim(&world, "mine", &template).await;
    let claimed = world.agent(build.id, Lifecycle::Ready).await;
    let (_, job) = world.build(workspace.id, Transition::Stop).await;
    world.succeeded(job.id).await;
    let (start, job) = world.build(workspace.id, Transition::Start).await;
    world.succeeded(job.id).await;
    let agent = world.agent(start.id, Lifecycle::Ready).await;
    assert!(agent.auth_token != claimed.auth_token);
    let owners = world.file(&workspace, "owners", "mine\nfor alice in mine\n").await;
    assert_eq!(owners.lines().count(), 3, "{owners}");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_new_version_replaces_what_was_built_ahead() {
    let world = World::new().await;
    let template = world.template("prebuilt", &prebuilt(2, "")).await;
    let old = ready(&world, 2).await;
    let changed = prebuilt(1, "description = \"new\"");
    assert_ne!(
        world.template("prebuilt", &changed).await.active_version_id,
        template.active_version_id
    );
    let template = world.store().template(template.id).await.unwrap();
    let preset = preset(&world, &template).await;
    until("only the new one is there", async || {
        let prebuilds = ready(&world, 1).await;
        (prebuilds[0].build.preset_id == Some(preset.id)).then_some(())
    })
    .await;
    for prebuild in old {
        assert!(world.store().workspace(prebuild.workspace.id).await.unwrap().deleted);
        assert!(!world.home(&prebuild.workspace).exists());
    }
    world.deployment.shutdown().await;
}
