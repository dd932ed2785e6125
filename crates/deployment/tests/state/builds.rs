//! Users, templates, workspaces and builds.

use std::time::Duration;

use coderctl_deployment::{
    decide::Conflict,
    model::{
        ApiKey, JobStatus, LoginType, NewUser, PREBUILDS_USER, Role, SessionToken, Transition,
        UserStatus,
    },
    store::{ACTIVITY_BUMP, StoreError, WorkspaceFilter},
};
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{World, at},
};

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Conflict {
    match result {
        Err(StoreError::Conflict(conflict)) => conflict,
        other => panic!("no conflict: {other:?}"),
    }
}

on_each! {
    async fn users_are_unique_without_regard_to_case(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let again = |username: &str, email: &str| NewUser {
            id: Uuid::new_v4(),
            username: username.to_owned(),
            email: email.to_owned(),
            name: "Alice".to_owned(),
            role: Role::Owner,
        };
        for new in [again("ALICE", "new@example.com"), again("carol", "Alice@Example.com")] {
            let conflict = conflict(store.create_user(&new, at(1)).await);
            assert_eq!(conflict.http_status(), 409, "{conflict}");
        }
        assert_eq!(store.user_by_name("Alice").await.unwrap().id, world.alice);
        assert!(matches!(
            store.user_by_name("carol").await,
            Err(StoreError::NotFound("user"))
        ));
        let names: Vec<String> =
            store.users().await.unwrap().into_iter().map(|user| user.username).collect();
        assert_eq!(names, ["alice", "bob"]);
        let system = store.user(PREBUILDS_USER).await.unwrap();
        assert!(system.is_system);
        assert_eq!(system.username, "prebuilds");
        store.set_user_status(world.bob, UserStatus::Suspended, at(2)).await.unwrap();
        assert_eq!(store.user(world.bob).await.unwrap().status, UserStatus::Suspended);
    }

    async fn keys_live_as_long_as_they_are_used(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let token = SessionToken::generate().unwrap();
        let hour = Duration::from_secs(3_600);
        let key = ApiKey {
            id: token.id().to_owned(),
            user_id: world.alice,
            hashed_secret: token.hashed_secret(),
            login_type: LoginType::Token,
            token_name: "ci".to_owned(),
            lifetime: hour * 24,
            expires_at: at(0).plus(hour * 24),
            last_used_at: at(0),
            created_at: at(0),
            updated_at: at(0),
        };
        store.create_api_key(&key).await.unwrap();
        let (found, user) = store.api_key(token.id()).await.unwrap().unwrap();
        assert_eq!(found, key);
        assert_eq!(user.id, world.alice);
        assert_eq!(store.api_key("0123456789").await.unwrap(), None);

        // Two tokens of a user have two names; sessions have none.
        let named = |id: &str, login_type, name: &str| ApiKey {
            id: id.to_owned(),
            login_type,
            token_name: name.to_owned(),
            ..key.clone()
        };
        let twice = conflict(store.create_api_key(&named("a", LoginType::Token, "ci")).await);
        assert_eq!(twice.to_string(), "A token with name \"ci\" already exists.");
        store.create_api_key(&named("b", LoginType::Password, "")).await.unwrap();
        store.create_api_key(&named("c", LoginType::Password, "")).await.unwrap();
        assert_eq!(store.api_keys(world.alice).await.unwrap().len(), 3);

        // Within the hour nothing is written; after it, all is moved on.
        store.use_api_key(&key, hour, at(0).plus(hour / 2)).await.unwrap();
        assert_eq!(store.api_key(&key.id).await.unwrap().unwrap().0, key);
        let later = at(0).plus(hour * 2);
        store.use_api_key(&key, hour, later).await.unwrap();
        let (used, user) = store.api_key(&key.id).await.unwrap().unwrap();
        assert_eq!(used.last_used_at, later);
        assert_eq!(used.expires_at, later.plus(key.lifetime));
        assert_eq!(user.last_seen_at, Some(later));

        // Others' keys cannot be touched.
        for result in [
            store.delete_api_key(world.bob, &key.id).await,
            store.expire_api_key(world.bob, &key.id, later).await,
        ] {
            assert!(matches!(result, Err(StoreError::NotFound("API key"))), "{result:?}");
        }
        store.expire_api_key(world.alice, &key.id, later).await.unwrap();
        assert_eq!(store.api_key(&key.id).await.unwrap().unwrap().0.expires_at, later);
        store.delete_api_key(world.alice, &key.id).await.unwrap();
        assert_eq!(store.api_key(&key.id).await.unwrap(), None);
    }

    async fn templates_have_versions_and_presets(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        assert_eq!(store.template_by_name("DEV").await.unwrap(), world.template);
        assert_eq!(store.template_version(world.version.id).await.unwrap(), world.version);
        assert_eq!(store.presets(world.version.id).await.unwrap(), std::slice::from_ref(&world.preset));
        assert_eq!(store.preset(world.preset.id).await.unwrap(), world.preset);

        let mut second = world.version.clone();
        second.id = Uuid::new_v4();
        second.name = "second".to_owned();
        second.source = "quotes ' \" and ünïcode".to_owned();
        second.created_at = at(1);
        store.add_template_version(&second, &[], at(1)).await.unwrap();
        let template = store.template(world.template.id).await.unwrap();
        assert_eq!(template.active_version_id, second.id);
        let versions = store.template_versions(template.id).await.unwrap();
        assert_eq!(versions, [world.version.clone(), second.clone()]);

        // A version that cannot be kept changes nothing.
        let mut third = second.clone();
        third.id = Uuid::new_v4();
        let twice = conflict(store.add_template_version(&third, &[], at(2)).await);
        assert_eq!(twice.http_status(), 409);
        third.name = "third".to_owned();
        let presets = [world.preset.clone(), world.preset.clone()];
        assert!(store.add_template_version(&third, &presets, at(2)).await.is_err());
        let template = store.template(world.template.id).await.unwrap();
        assert_eq!(template.active_version_id, second.id);
        assert_eq!(store.template_versions(template.id).await.unwrap().len(), 2);

        let mut other = world.template.clone();
        other.id = Uuid::new_v4();
        third.template_id = other.id;
        let twice = conflict(store.create_template(&other, &third, &[]).await);
        assert_eq!(twice.to_string(), "A template named \"dev\" already exists.");
    }

    async fn a_workspace_is_made_with_its_first_build(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, job) = world.created("dev").await;
        assert_eq!((build.number, build.workspace_id), (1, workspace.id));
        assert_eq!(job.status(), JobStatus::Pending);
        assert_eq!(job.input.workspace_build_id, Some(build.id));
        assert_eq!(store.workspace(workspace.id).await.unwrap(), workspace);
        assert_eq!(store.build(build.id).await.unwrap(), build);
        assert_eq!(store.build_by_number(workspace.id, 1).await.unwrap(), build);
        assert_eq!(store.build_of_job(job.id).await.unwrap(), build);
        assert_eq!(store.latest_build(workspace.id).await.unwrap(), (build.clone(), job.clone()));
        assert_eq!(store.builds(workspace.id, 10, 0).await.unwrap(), [(build, job)]);
        assert_eq!(store.queue_position(workspace_job(store, workspace.id).await).await.unwrap(), (1, 1));

        // The name is taken without regard to case, and nothing is left of the attempt.
        let before = store.builds(workspace.id, 10, 0).await.unwrap();
        let again = store
            .create_workspace(
                &world.workspace(world.alice, "DEV"),
                &world.build(Transition::Start),
                at(2),
            )
            .await;
        assert_eq!(conflict(again).to_string(), "Workspace \"DEV\" already exists.");
        assert_eq!(store.builds(workspace.id, 10, 0).await.unwrap(), before);
        assert_eq!(store.queue_position(before[0].1.id).await.unwrap(), (1, 1));

        // Another owner may use it; it is found by owner and name.
        let (other, ..) = store
            .create_workspace(
                &world.workspace(world.bob, "dev"),
                &world.build(Transition::Start),
                at(2),
            )
            .await
            .unwrap();
        assert_eq!(store.workspace_by_name(world.bob, "Dev", false).await.unwrap().id, other.id);
        assert_eq!(
            store.workspace_by_name(world.alice, "dev", false).await.unwrap().id,
            workspace.id
        );
    }

    async fn workspaces_are_listed(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        for (owner, name) in [
            (world.bob, "b-100%"),
            (world.alice, "a_1"),
            (world.alice, "ab1"),
            (PREBUILDS_USER, "prebuild-1"),
        ] {
            store
                .create_workspace(&world.workspace(owner, name), &world.build(Transition::Start), at(1))
                .await
                .unwrap();
        }
        let filter = WorkspaceFilter::default;
        let contains = |text: &str| WorkspaceFilter {
            name_contains: Some(text.to_owned()),
            ..filter()
        };
        for (name, filter, wanted) in [
            ("all", filter(), vec!["a_1", "ab1", "b-100%", "prebuild-1"]),
            ("Bob's", WorkspaceFilter { owner_id: Some(world.bob), ..filter() }, vec!["b-100%"]),
            ("of another template", WorkspaceFilter { template_id: Some(Uuid::new_v4()), ..filter() }, vec![]),
            ("name contains A", contains("A"), vec!["a_1", "ab1"]),
            ("an underscore is itself", contains("a_"), vec!["a_1"]),
            ("a percent sign is itself", contains("%"), vec!["b-100%"]),
            ("the escape is itself", contains("!"), vec![]),
            ("a quote", contains("'"), vec![]),
        ] {
            let found: Vec<String> = store
                .workspaces(&filter)
                .await
                .unwrap()
                .into_iter()
                .map(|workspace| workspace.name)
                .collect();
            assert_eq!(found, wanted, "{name}");
        }
    }

    async fn one_build_at_a_time(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, ..) = world.created("dev").await;
        let again = store.insert_build(workspace.id, &world.build(Transition::Stop), at(2)).await;
        assert_eq!(conflict(again), Conflict::BuildActive);
        world.fail("no disk").await;
        let (second, job) = world.next(workspace.id, Transition::Start).await;
        assert_eq!(second.number, 2);
        assert_eq!(job.status(), JobStatus::Pending);
        let nowhere = store.insert_build(Uuid::new_v4(), &world.build(Transition::Stop), at(2)).await;
        assert!(matches!(nowhere, Err(StoreError::NotFound("workspace"))), "{nowhere:?}");
    }

    async fn a_deleted_workspace_stays_so_and_frees_its_name(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, ..) = world.running("dev").await;
        world.next(workspace.id, Transition::Delete).await;
        assert!(!store.workspace(workspace.id).await.unwrap().deleted);
        let done = world.succeed(vec![]).await;
        assert!(done.workspace.deleted);
        let again = store.insert_build(workspace.id, &world.build(Transition::Start), at(6)).await;
        assert_eq!(conflict(again), Conflict::WorkspaceDeleted);
        assert!(matches!(
            store.workspace_by_name(world.alice, "dev", false).await,
            Err(StoreError::NotFound("workspace"))
        ));
        let found = store.workspace_by_name(world.alice, "dev", true).await.unwrap();
        assert_eq!(found.id, workspace.id);
        assert_eq!(store.watched_build(workspace.id).await.unwrap(), None);

        let (second, ..) = world.created("dev").await;
        let found = store.workspace_by_name(world.alice, "dev", true).await.unwrap();
        assert_eq!(found.id, second.id, "a live one wins");
    }

    async fn of_many_builds_at_once_one_is_made(backend: &Backend) {
        let world = World::new(&backend.store).await;
        let (workspace, ..) = world.created("dev").await;
        world.succeed(vec![]).await;
        let replicas = backend.replicas(3).await;
        for round in 0..10 {
            let tries: Vec<_> = (0..12)
                .map(|number| {
                    let store = replicas[number % replicas.len()].clone();
                    let build = world.build(Transition::Start);
                    let id = workspace.id;
                    tokio::spawn(async move { store.insert_build(id, &build, at(2)).await })
                })
                .collect();
            let mut made = vec![];
            for attempt in tries {
                match attempt.await.unwrap() {
                    Ok((build, _)) => made.push(build.number),
                    refused => assert_eq!(conflict(refused), Conflict::BuildActive),
                }
            }
            assert_eq!(made, [round + 2], "one build, and no number left out");
            world.succeed(vec![]).await;
        }
    }

    async fn use_puts_the_end_off(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, _) = world.running("dev").await;
        let hour = ACTIVITY_BUMP.as_secs();
        let soon = hour - hour / 20;
        for (deadline, used, wanted) in [
            (Some(at(604)), 10, Some(at(10 + hour))),
            // Not with every report.
            (Some(at(10 + hour)), 10, Some(at(10 + hour))),
            (Some(at(100 + soon)), 100, Some(at(100 + soon))),
            (Some(at(99 + soon)), 100, Some(at(100 + hour))),
            // Nor is it brought forward.
            (Some(at(10 * hour)), 100, Some(at(10 * hour))),
            (None, 100, None),
        ] {
            store.set_deadline(build.id, deadline, at(5)).await.unwrap();
            store.touch_workspace(workspace.id, at(used)).await.unwrap();
            let (build, _) = store.latest_build(workspace.id).await.unwrap();
            assert_eq!(build.deadline, wanted, "{deadline:?} used at {used}");
        }
        // One that is being built has none yet.
        store.set_deadline(build.id, Some(at(604)), at(5)).await.unwrap();
        store.insert_build(workspace.id, &world.build(Transition::Start), at(600)).await.unwrap();
        store.touch_workspace(workspace.id, at(601)).await.unwrap();
        let (latest, _) = store.latest_build(workspace.id).await.unwrap();
        assert_eq!(latest.deadline, None);
        assert_eq!(store.build(build.id).await.unwrap().deadline, Some(at(604)));
    }

    async fn dormancy_and_schedules(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, _) = world.running("dev").await;
        let id = workspace.id;
        assert_eq!(build.deadline, Some(at(4).plus(Duration::from_secs(600))), "started + ttl");
        assert_eq!(store.workspaces_past_deadline(at(600)).await.unwrap(), Vec::<Uuid>::new());
        assert_eq!(store.workspaces_past_deadline(at(605)).await.unwrap(), [id]);
        store.set_deadline(build.id, Some(at(700)), at(10)).await.unwrap();
        assert_eq!(store.workspaces_past_deadline(at(605)).await.unwrap(), Vec::<Uuid>::new());
        store.set_deadline(build.id, None, at(10)).await.unwrap();
        assert_eq!(store.workspaces_past_deadline(at(9_999)).await.unwrap(), Vec::<Uuid>::new());

        assert!(store.set_dormant(id, true, at(20)).await.unwrap());
        assert!(!store.set_dormant(id, true, at(21)).await.unwrap(), "it is already");
        assert_eq!(store.workspace(id).await.unwrap().dormant_at, Some(at(20)));
        store.insert_build(id, &world.build(Transition::Start), at(30)).await.unwrap();
        let woken = store.workspace(id).await.unwrap();
        assert_eq!((woken.dormant_at, woken.last_used_at), (None, at(30)), "a start wakes it");

        store.touch_workspace(id, at(50)).await.unwrap();
        store.touch_workspace(id, at(40)).await.unwrap();
        assert_eq!(store.workspace(id).await.unwrap().last_used_at, at(50), "never back");

        store.set_ttl(id, None, at(60)).await.unwrap();
        store.set_autostart(id, Some("CRON_TZ=UTC 0 9 * * 1-5"), at(60)).await.unwrap();
        let changed = store.workspace(id).await.unwrap();
        assert_eq!(changed.ttl, None);
        assert_eq!(changed.autostart_schedule.as_deref(), Some("CRON_TZ=UTC 0 9 * * 1-5"));

        world.succeed(vec![]).await;
        world.created("other").await;
        let taken = store.rename_workspace(id, "OTHER", at(61)).await;
        assert_eq!(conflict(taken).http_status(), 409);
        store.rename_workspace(id, "new", at(61)).await.unwrap();
        assert_eq!(store.workspace(id).await.unwrap().name, "new");
    }
}

async fn workspace_job(store: &coderctl_deployment::store::Store, id: Uuid) -> Uuid {
    store.latest_build(id).await.unwrap().1.id
}
