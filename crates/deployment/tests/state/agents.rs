//! Agents: their rows, tokens, reports.

use std::time::Duration;

use coderctl_deployment::{
    decide::Conflict,
    model::{
        AgentToken, AppHealth, ConnectionType, Lifecycle, MetadataReport, NewAgent, ScriptStage,
        ScriptStatus, ScriptTiming, Subsystem, Transition,
    },
    store::{ConnectionReport, Store, StoreError},
};
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{LEASE, World, agent, at, resource},
};

async fn who(store: &Store, token: AgentToken) -> Option<Uuid> {
    store.authenticate_agent(token).await.unwrap().map(|found| found.agent.id)
}

fn invalid<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(conflict @ Conflict::Invalid(_))) => conflict.to_string(),
        other => panic!("it was taken: {other:?}"),
    }
}

on_each! {
    async fn a_row_is_as_it_was_made(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, _) = world.created("dev").await;
        let new = agent("main");
        let made = resource(vec![new.clone()]);
        let resource_id = made.id;
        world.succeed(vec![made]).await;
        let row = store.agent(new.id).await.unwrap();
        assert_eq!(row.spec, new.spec);
        assert_eq!((row.build_id, row.workspace_id), (build.id, workspace.id));
        assert_eq!((row.resource_id, row.parent_id), (resource_id, None));
        assert_eq!((row.lifecycle, row.started_at, row.ready_at), (Lifecycle::Created, None, None));
        assert_eq!((row.first_connected_at, row.logs_length), (None, 0));
        let details = store.agent_details(new.id).await.unwrap();
        assert_eq!(details.agent, row);
        assert_eq!(details.scripts, new.scripts);
        assert_eq!(details.apps, new.apps);
        assert_eq!(details.log_sources.len(), 1);
        assert_eq!(details.log_sources[0].id, new.scripts[0].log_source_id);
        let metadata = store.metadata(new.id).await.unwrap();
        assert_eq!(metadata[0].description, new.metadata[0]);
        assert_eq!((metadata[0].value.as_str(), metadata[0].collected_at), ("", None));
        assert_eq!(store.scripts(new.id).await.unwrap(), new.scripts);
        assert_eq!(store.apps(new.id).await.unwrap(), new.apps);
        assert!(matches!(
            store.agent(Uuid::new_v4()).await,
            Err(StoreError::NotFound("workspace agent"))
        ));
    }

    async fn a_token_is_good_for_the_latest_build(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, _, first) = world.running("dev").await;
        let token = first.auth_token;
        assert_eq!(who(store, AgentToken::generate()).await, None);
        let found = store.authenticate_agent(token).await.unwrap().unwrap();
        assert_eq!((found.agent.id, found.build.number), (first.id, 1));
        assert_eq!(found.workspace.id, workspace.id);
        assert!(store.agent_is_current(first.id).await.unwrap());

        // While the next stop is pending or running, its scripts may report.
        world.next(workspace.id, Transition::Stop).await;
        assert_eq!(who(store, token).await, Some(first.id), "stop pending");
        let taken = store.acquire_job(Uuid::new_v4(), LEASE, at(5)).await.unwrap().unwrap();
        assert_eq!(who(store, token).await, Some(first.id), "stop running");
        store.complete_job(taken.lease, &[], at(6)).await.unwrap();
        assert_eq!(who(store, token).await, None, "stopped");
        assert!(!store.agent_is_current(first.id).await.unwrap());

        // A start makes another agent; until it is done nobody has a good token.
        world.next(workspace.id, Transition::Start).await;
        assert_eq!(who(store, token).await, None, "start pending");
        let second = agent("main");
        world.succeed(vec![resource(vec![second.clone()])]).await;
        assert_eq!(who(store, token).await, None);
        assert_eq!(who(store, second.auth_token).await, Some(second.id));

        // Another start: no exception for it.
        world.next(workspace.id, Transition::Start).await;
        assert_eq!(who(store, second.auth_token).await, None);
        world.fail("no disk").await;
        assert_eq!(who(store, second.auth_token).await, None);

        world.next(workspace.id, Transition::Delete).await;
        world.succeed(vec![]).await;
        assert_eq!(who(store, second.auth_token).await, None);
    }

    async fn the_lifecycle_is_kept_as_it_is_reported(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (.., row) = world.running("dev").await;
        for (state, changed_at, wanted) in [
            (Lifecycle::Starting, Some(at(10)), (Some(at(10)), None)),
            (Lifecycle::Ready, Some(at(12)), (Some(at(10)), Some(at(12)))),
            (Lifecycle::Ready, Some(at(14)), (Some(at(10)), Some(at(14)))),
            (Lifecycle::ShuttingDown, Some(at(20)), (Some(at(10)), Some(at(14)))),
            (Lifecycle::Off, None, (Some(at(10)), Some(at(14)))),
            // Starting over, as after a claim; and a report without a time.
            (Lifecycle::Starting, None, (Some(at(99)), None)),
            (Lifecycle::StartTimeout, None, (Some(at(99)), Some(at(99)))),
        ] {
            let update = store.update_lifecycle(row.id, state, changed_at, at(99)).await.unwrap();
            assert_eq!(update.owner_id, world.alice);
            assert_eq!(update.agent.lifecycle, state);
            assert_eq!((update.agent.started_at, update.agent.ready_at), wanted, "{state}");
            assert_eq!(store.agent(row.id).await.unwrap(), update.agent);
        }
        let nobody = store.update_lifecycle(Uuid::new_v4(), Lifecycle::Ready, None, at(1)).await;
        assert!(matches!(nobody, Err(StoreError::NotFound("workspace agent"))));
    }

    async fn of_two_sessions_the_later_counts(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (.., row) = world.running("dev").await;
        let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
        let (here, there) = (Uuid::new_v4(), Uuid::new_v4());
        let times = || async {
            let row = store.agent(row.id).await.unwrap();
            (row.first_connected_at, row.last_connected_at, row.disconnected_at, row.replica_id)
        };
        store.agent_connected(row.id, first, here, at(10)).await.unwrap();
        assert_eq!(times().await, (Some(at(10)), Some(at(10)), None, Some(here)));
        store.agent_seen(row.id, first, at(25)).await.unwrap();
        assert_eq!(times().await, (Some(at(10)), Some(at(25)), None, Some(here)));
        store.agent_connected(row.id, second, there, at(30)).await.unwrap();
        // The end of the first session, noticed late, changes nothing.
        assert!(!store.agent_disconnected(row.id, first, at(31)).await.unwrap());
        store.agent_seen(row.id, first, at(32)).await.unwrap();
        assert_eq!(times().await, (Some(at(10)), Some(at(30)), None, Some(there)));
        assert!(store.agent_disconnected(row.id, second, at(33)).await.unwrap());
        assert_eq!(times().await, (Some(at(10)), Some(at(30)), Some(at(33)), Some(there)));

        let subsystems = [Subsystem::Exectrace, Subsystem::Envbox, Subsystem::Exectrace];
        store
            .update_startup(row.id, "v2.37.0", "2.10", "/home/a b", &subsystems, at(34))
            .await
            .unwrap();
        let row = store.agent(row.id).await.unwrap();
        assert_eq!((row.version.as_str(), row.api_version.as_str()), ("v2.37.0", "2.10"));
        assert_eq!(row.expanded_directory, "/home/a b");
        assert_eq!(row.subsystems, [Subsystem::Envbox, Subsystem::Exectrace]);
    }

    async fn apps_metadata_scripts_and_connections(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (.., row) = world.running("dev").await;
        let app = store.apps(row.id).await.unwrap()[0].id;

        assert!(store.update_app_health(row.id, &[(app, AppHealth::Healthy)]).await.unwrap());
        assert!(!store.update_app_health(row.id, &[(app, AppHealth::Healthy)]).await.unwrap());
        let wrong = [(app, AppHealth::Unhealthy), (Uuid::new_v4(), AppHealth::Healthy)];
        assert!(invalid(store.update_app_health(row.id, &wrong).await).contains("has no app"));
        assert_eq!(store.apps(row.id).await.unwrap()[0].health, AppHealth::Healthy, "all or nothing");

        let report = |key: &str, value: &str, error: &str| MetadataReport {
            key: key.to_owned(),
            value: value.to_owned(),
            error: error.to_owned(),
        };
        let reports = [report("load", "0.\x001", ""), report("unknown", "x", "")];
        store.update_metadata(row.id, &reports, at(9)).await.unwrap();
        let metadata = store.metadata(row.id).await.unwrap();
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata[0].value, "0.\u{fffd}1");
        assert_eq!(metadata[0].collected_at, Some(at(9)));

        let script = store.scripts(row.id).await.unwrap()[0].id;
        let timing = |script_id, from, to| ScriptTiming {
            script_id,
            started_at: at(from),
            ended_at: at(to),
            exit_code: -1,
            stage: ScriptStage::Start,
            status: ScriptStatus::ExitFailure,
        };
        store.script_completed(row.id, &timing(script, 5, 7)).await.unwrap();
        assert!(invalid(store.script_completed(row.id, &timing(script, 7, 5)).await).contains("before"));
        let unknown = store.script_completed(row.id, &timing(Uuid::new_v4(), 5, 7)).await;
        assert!(invalid(unknown).contains("has no script"));
        assert_eq!(store.script_timings(row.id).await.unwrap(), [timing(script, 5, 7)]);
        assert_eq!(store.agent_details(row.id).await.unwrap().timings, [timing(script, 5, 7)]);

        let source = Uuid::new_v4();
        store.add_log_source(row.id, source, "Mine", "/icon", at(10)).await.unwrap();
        store.add_log_source(row.id, source, "Again", "", at(11)).await.unwrap();
        let sources = store.log_sources(row.id).await.unwrap();
        assert_eq!((sources.len(), sources[1].display_name.as_str()), (2, "Mine"));

        // The end may come before the beginning, and either may come twice.
        let id = Uuid::new_v4();
        let report = |ended, second| ConnectionReport {
            id,
            kind: ConnectionType::Ssh,
            ip: "127.0.0.1".to_owned(),
            app_name: String::new(),
            at: at(second),
            ended,
        };
        for (ended, second) in [
            (Some((255, "gone".to_owned())), 20),
            (None, 15),
            (Some((0, "again".to_owned())), 21),
            (None, 16),
        ] {
            store.report_connection(row.id, &report(ended, second)).await.unwrap();
        }
        let connections = store.connections(row.id).await.unwrap();
        assert_eq!(connections.len(), 1);
        let connection = &connections[0];
        assert_eq!(connection.connected_at, Some(at(15)));
        assert_eq!(connection.disconnected_at, Some(at(20)));
        assert_eq!((connection.exit_code, connection.reason.as_str()), (Some(255), "gone"));
        let nil = ConnectionReport { id: Uuid::nil(), ..report(None, 1) };
        assert!(invalid(store.report_connection(row.id, &nil).await).contains("no id"));
    }

    async fn sub_agents_are_their_parents(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, parent) = world.running("dev").await;
        let new = NewAgent { apps: vec![], scripts: vec![], metadata: vec![], ..agent("container") };
        let child = store.create_sub_agent(parent.id, &new, at(9)).await.unwrap();
        assert_eq!(child.parent_id, Some(parent.id));
        assert_eq!((child.build_id, child.workspace_id), (build.id, workspace.id));
        assert_eq!(child.resource_id, parent.resource_id);
        assert_eq!(store.sub_agents(parent.id).await.unwrap(), std::slice::from_ref(&child));
        assert_eq!(who(store, new.auth_token).await, Some(child.id));
        let watched = store.watched_build(workspace.id).await.unwrap().unwrap();
        assert_eq!(watched.agents.len(), 2);
        let again = NewAgent { id: Uuid::new_v4(), ..new.clone() };
        assert!(invalid(store.create_sub_agent(parent.id, &again, at(9)).await).contains("named"));

        assert!(store.delete_sub_agent(child.id, parent.id, at(10)).await.is_err());
        store.delete_sub_agent(parent.id, child.id, at(10)).await.unwrap();
        assert!(store.delete_sub_agent(parent.id, child.id, at(10)).await.is_err());
        assert_eq!(who(store, new.auth_token).await, None);
        assert_eq!(store.agents_of_build(build.id).await.unwrap().len(), 1);
        // Its name is free again.
        store.create_sub_agent(parent.id, &again, at(11)).await.unwrap();
    }

    async fn details_are_what_their_parts_are(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (one, build, first) = world.running("one").await;
        let (two, ..) = world.running("two").await;
        let unknown = Uuid::new_v4();
        let details = store.workspace_details(&[two.id, unknown, one.id]).await.unwrap();
        assert_eq!(details.len(), 2);
        assert_eq!((details[0].workspace.id, details[1].workspace.id), (two.id, one.id));
        let one = &details[1];
        assert_eq!(one.owner_name, "alice");
        assert_eq!(one.template, world.template);
        assert_eq!(one.latest_build.build, build);
        assert_eq!(one.latest_build.template_version_name, "first");
        assert_eq!(one.latest_build.initiator_name, "alice");
        assert_eq!(one.latest_build.resources.len(), 1);
        assert_eq!(one.latest_build.resources[0].agents[0].agent, first);
        assert_eq!(store.workspace_details(&[]).await.unwrap(), []);

        // More than fit into one statement.
        let many: Vec<Uuid> = (0..1_200).map(|_| Uuid::new_v4()).chain([two.id]).collect();
        assert_eq!(store.workspace_details(&many).await.unwrap().len(), 1);

        let watched = store.watched_build(two.id).await.unwrap().unwrap();
        assert_eq!((watched.owner_id, watched.build.number), (world.alice, 1));
        assert_eq!(watched.agents[0].name, "main");
        assert_eq!(store.watched_build(unknown).await.unwrap(), None);
    }
}

#[test]
fn a_token_is_not_printed() {
    let token = AgentToken::generate();
    let text = token.expose().to_string();
    let new = NewAgent { auth_token: token, ..agent("main") };
    assert!(!format!("{new:?}").contains(&text));
    assert_eq!(AgentToken::parse(&text.to_uppercase()), Some(token));
    assert_eq!(AgentToken::parse("no uuid"), None);
    assert_eq!(new.scripts[0].timeout, Duration::from_millis(1_500));
}
