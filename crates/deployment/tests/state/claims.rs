//! Claims of prebuilt workspaces.

use std::{collections::HashSet, time::Duration};

use coderctl_deployment::{
    decide::{
        Conflict,
        reinit::{Decision, Facts, RunsFor, decide},
    },
    model::{
        JobStatus, Lifecycle, NewAgent, PREBUILDS_USER, PrebuildStage, ReinitEvent, Transition,
    },
    store::{Claim, StoreError},
};
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{LEASE, World, agent, at, resource, user},
};

fn claim(world: &World, owner_id: Uuid, name: &str) -> Claim {
    Claim {
        preset_id: world.preset.id,
        owner_id,
        name: name.to_owned(),
        ttl: Some(Duration::from_secs(1_800)),
        autostart_schedule: Some("CRON_TZ=UTC 0 9 * * *".to_owned()),
        build: world.build_by(owner_id, Transition::Start, PrebuildStage::Claim),
    }
}

async fn decided(world: &World, workspace_id: Uuid, agent_id: Uuid) -> Decision {
    let builds = world.store.reinit_builds(workspace_id).await.unwrap();
    let facts = Facts {
        workspace_id,
        owner_id: builds.workspace.owner_id,
        first_build_initiator: builds.first_build_initiator,
        stage: builds.job.input.prebuilt_workspace_stage,
        initiator: builds.latest.initiator_id,
        status: builds.job.status(),
        error: builds.job.error.clone(),
        agent_id,
    };
    decide(true, &facts, RunsFor::default())
}

on_each! {
    async fn a_claim_changes_all_at_once(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, old_agent) = world.prebuilt("prebuild-1").await;
        let prebuilds = store.prebuilds().await.unwrap();
        assert_eq!(prebuilds.len(), 1);
        assert!(prebuilds[0].ready);
        assert_eq!(prebuilds[0].build.preset_id, Some(world.preset.id));
        assert_eq!(decided(&world, workspace.id, old_agent.id).await, Decision::Wait);

        let claimed = store
            .claim_prebuild(&claim(&world, world.alice, "dev"), at(20))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claimed.workspace.id, workspace.id);
        assert_eq!(claimed.workspace.owner_id, world.alice);
        assert_eq!(claimed.workspace.name, "dev");
        assert_eq!(claimed.workspace.ttl, Some(Duration::from_secs(1_800)));
        assert_eq!(
            claimed.workspace.autostart_schedule.as_deref(),
            Some("CRON_TZ=UTC 0 9 * * *")
        );
        assert!(!claimed.workspace.is_prebuild());
        assert_eq!((claimed.build.number, claimed.build.initiator_id), (2, world.alice));
        assert_eq!(claimed.job.status(), JobStatus::Pending);
        assert_eq!(claimed.job.input.prebuilt_workspace_stage, PrebuildStage::Claim);
        assert_eq!(store.workspace(workspace.id).await.unwrap(), claimed.workspace);
        assert!(store.prebuilds().await.unwrap().is_empty());

        // The agent's token is refused until the claim build has succeeded; then it is the new
        // row's, though the old row has it, too.
        let token = old_agent.auth_token;
        assert_eq!(store.authenticate_agent(token).await.unwrap(), None);
        assert_eq!(decided(&world, workspace.id, old_agent.id).await, Decision::Wait);
        let tokens = store.first_agent_tokens(workspace.id).await.unwrap();
        assert_eq!(tokens, [("main".to_owned(), token)]);
        let new_agent = NewAgent { auth_token: token, ..agent("main") };
        world.succeed(vec![resource(vec![new_agent.clone()])]).await;
        let found = store.authenticate_agent(token).await.unwrap().unwrap();
        assert_eq!(found.agent.id, new_agent.id);
        assert_eq!(found.agent.lifecycle, Lifecycle::Created);
        assert_eq!(
            decided(&world, workspace.id, new_agent.id).await,
            Decision::Send(ReinitEvent::claimed(workspace.id, world.alice))
        );

        // It cannot be claimed again, and a later build ends the matter.
        let again = store.claim_prebuild(&claim(&world, world.bob, "dev"), at(30)).await.unwrap();
        assert_eq!(again, None);
        world.next(workspace.id, Transition::Stop).await;
        assert!(matches!(
            decided(&world, workspace.id, new_agent.id).await,
            Decision::Refuse(_)
        ));
    }

    async fn only_what_is_ready_is_claimed(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let wanted = || claim(&world, world.alice, "dev");
        let nothing = || async {
            assert_eq!(store.claim_prebuild(&wanted(), at(20)).await.unwrap(), None);
        };
        nothing().await;
        // A workspace of a user with the preset is no prebuild.
        let (mine, ..) = world.running("mine").await;
        store.update_lifecycle(
            store.agents_of_build(store.latest_build(mine.id).await.unwrap().0.id).await.unwrap()[0].id,
            Lifecycle::Ready,
            None,
            at(5),
        ).await.unwrap();
        nothing().await;
        // Its build waits, runs, has no ready agent.
        let (workspace, build, _) = store
            .create_workspace(
                &world.workspace(PREBUILDS_USER, "prebuild-1"),
                &world.build_by(PREBUILDS_USER, Transition::Start, PrebuildStage::Create),
                at(6),
            )
            .await
            .unwrap();
        nothing().await;
        let taken = store.acquire_job(Uuid::new_v4(), LEASE, at(7)).await.unwrap().unwrap();
        nothing().await;
        let resources = [resource(vec![agent("main"), agent("side")])];
        store.complete_job(taken.lease, &resources, at(8)).await.unwrap();
        nothing().await;
        let agents = store.agents_of_build(build.id).await.unwrap();
        store.update_lifecycle(agents[0].id, Lifecycle::Ready, None, at(9)).await.unwrap();
        nothing().await;
        store.update_lifecycle(agents[1].id, Lifecycle::StartError, None, at(9)).await.unwrap();
        nothing().await;
        assert!(!store.prebuilds().await.unwrap()[0].ready);
        store.update_lifecycle(agents[1].id, Lifecycle::Ready, None, at(10)).await.unwrap();
        assert!(store.prebuilds().await.unwrap()[0].ready);

        // Of another preset.
        let other = Claim { preset_id: Uuid::new_v4(), ..wanted() };
        assert_eq!(store.claim_prebuild(&other, at(20)).await.unwrap(), None);
        // It cannot be made dormant, as it is nobody's.
        let dormant = store.set_dormant(workspace.id, true, at(11)).await;
        assert!(matches!(dormant, Err(StoreError::Conflict(Conflict::Prebuild))));

        // A name that the owner has: the prebuild stays as it was.
        let taken = Claim { name: "MINE".to_owned(), ..wanted() };
        let refused = store.claim_prebuild(&taken, at(20)).await;
        assert!(matches!(refused, Err(StoreError::Conflict(Conflict::NameTaken(_)))), "{refused:?}");
        let unchanged = store.workspace(workspace.id).await.unwrap();
        assert!(unchanged.is_prebuild());
        assert_eq!(store.latest_build(workspace.id).await.unwrap().0.number, 1);
        assert!(store.claim_prebuild(&wanted(), at(21)).await.unwrap().is_some());
    }

    async fn no_two_get_the_same(backend: &Backend) {
        const PREBUILDS: usize = 6;
        const CLAIMERS: usize = 14;
        let store = &backend.store;
        let world = World::new(store).await;
        let mut users = vec![];
        for number in 0..CLAIMERS {
            users.push(user(store, &format!("user{number}")).await);
        }
        let replicas = backend.replicas(3).await;
        for round in 0..4 {
            let mut ids = HashSet::new();
            for number in 0..PREBUILDS {
                ids.insert(world.prebuilt(&format!("prebuild-{round}-{number}")).await.0.id);
            }
            let claims: Vec<_> = users
                .iter()
                .enumerate()
                .map(|(number, owner)| {
                    let store = replicas[number % replicas.len()].clone();
                    let claim = claim(&world, *owner, &format!("dev-{round}"));
                    tokio::spawn(async move { store.claim_prebuild(&claim, at(20)).await.unwrap() })
                })
                .collect();
            let mut got = HashSet::new();
            for attempt in claims {
                if let Some(claimed) = attempt.await.unwrap() {
                    assert_eq!(claimed.build.number, 2);
                    assert!(got.insert(claimed.workspace.id), "claimed twice");
                }
            }
            assert_eq!(got, ids, "each is claimed, since there were more claimers");
            for _ in 0..PREBUILDS {
                world.succeed(vec![]).await;
            }
        }
    }

    /// The one who keeps the number of prebuilds deletes one while somebody claims it.
    async fn a_claim_or_a_delete(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let replicas = backend.replicas(2).await;
        for round in 0..15 {
            let (workspace, _) = world.prebuilt(&format!("prebuild-{round}")).await;
            let (one, other) = (replicas[0].clone(), replicas[1].clone());
            let wanted = claim(&world, world.alice, &format!("dev-{round}"));
            let delete = world.build_by(PREBUILDS_USER, Transition::Delete, PrebuildStage::None);
            let claim = tokio::spawn(async move { one.claim_prebuild(&wanted, at(20)).await });
            let id = workspace.id;
            let delete =
                tokio::spawn(async move { other.delete_prebuild(id, &delete, at(20)).await });
            let claimed = claim.await.unwrap().unwrap();
            let deleted = delete.await.unwrap().unwrap();
            assert_ne!(claimed.is_some(), deleted.is_some(), "both, or neither");
            if claimed.is_some() {
                // Nor later, when no build is under way.
                let late = world.build_by(PREBUILDS_USER, Transition::Delete, PrebuildStage::None);
                assert_eq!(store.delete_prebuild(id, &late, at(21)).await.unwrap(), None);
            }
            assert_eq!(store.latest_build(workspace.id).await.unwrap().0.number, 2);
            world.succeed(vec![]).await;
        }
    }
}
