//! Jobs: who runs them, how they end.

use std::collections::HashSet;

use coderctl_deployment::{
    decide::{
        Conflict,
        builds::{JobEvent, job_status_after},
    },
    model::{JobLease, JobStatus, Transition},
    store::{Store, StoreError},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{LEASE, World, agent, at, resource},
};

fn lost<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    match result {
        Err(StoreError::Conflict(Conflict::LeaseLost)) => {}
        other => panic!("the lease was good: {other:?}"),
    }
}

async fn take(store: &Store, second: u64) -> Option<coderctl_deployment::store::AcquiredJob> {
    store.acquire_job(Uuid::new_v4(), LEASE, at(second)).await.unwrap()
}

on_each! {
    async fn the_oldest_job_is_taken_first(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        assert!(take(store, 0).await.is_none());
        let (_, _, first) = world.created("one").await;
        let second = store
            .create_workspace(
                &world.workspace(world.alice, "two"),
                &world.build(Transition::Start),
                at(2),
            )
            .await
            .unwrap()
            .2;
        assert_eq!(store.queue_position(second.id).await.unwrap(), (2, 2));
        let taken = take(store, 3).await.unwrap();
        assert_eq!(taken.job.id, first.id);
        assert!(!taken.taken_over);
        assert_eq!(taken.job.status(), JobStatus::Running);
        assert_eq!(taken.job.started_at, Some(at(3)));
        assert_eq!(store.queue_position(second.id).await.unwrap(), (1, 1));
        assert_eq!(store.queue_position(first.id).await.unwrap(), (0, 1));
        assert_eq!(take(store, 3).await.unwrap().job.id, second.id);
        assert!(take(store, 3).await.is_none());
    }

    async fn a_lease_that_ran_out_is_anothers(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        world.created("dev").await;
        let first = take(store, 100).await.unwrap();
        // It is kept as long as it is renewed.
        store.renew_job(first.lease, LEASE, at(150)).await.unwrap();
        assert!(take(store, 209).await.is_none());
        let second = take(store, 211).await.unwrap();
        assert!(second.taken_over);
        assert_eq!(second.job.id, first.job.id);
        assert_eq!(second.job.started_at, Some(at(100)), "it began once");
        assert_ne!(second.lease, first.lease);

        // The one that was overtaken can do nothing any more.
        lost(store.renew_job(first.lease, LEASE, at(212)).await);
        lost(store.release_job(first.lease, at(212)).await);
        lost(store.complete_job(first.lease, &[resource(vec![agent("main")])], at(212)).await);
        lost(store.fail_job(first.lease, "late", None, at(212)).await);
        lost(store.job_stopped(first.lease, at(212)).await);
        lost(store.append_job_logs(first.lease, &[crate::logs::line("late")]).await);
        let done = store.complete_job(second.lease, &[], at(213)).await.unwrap();
        assert_eq!(done.job.status(), JobStatus::Succeeded);

        // Nor can anybody once the job is over.
        lost(store.renew_job(second.lease, LEASE, at(214)).await);
        lost(store.complete_job(second.lease, &[], at(214)).await);
        lost(store.fail_job(second.lease, "late", None, at(214)).await);
        assert!(take(store, 9_999).await.is_none());
    }

    async fn the_same_worker_is_overtaken_by_itself(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        world.created("dev").await;
        let worker = Uuid::new_v4();
        let first = store.acquire_job(worker, LEASE, at(100)).await.unwrap().unwrap();
        let second = store.acquire_job(worker, LEASE, at(300)).await.unwrap().unwrap();
        lost(store.complete_job(first.lease, &[], at(301)).await);
        store.complete_job(second.lease, &[], at(301)).await.unwrap();
    }

    async fn a_job_given_back_is_taken_at_once(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        world.created("dev").await;
        let first = take(store, 100).await.unwrap();
        store.release_job(first.lease, at(101)).await.unwrap();
        lost(store.complete_job(first.lease, &[], at(101)).await);
        let second = take(store, 102).await.unwrap();
        assert!(second.taken_over);
        assert_eq!(second.lease.attempt, 2);
    }

    async fn each_job_is_taken_once(backend: &Backend) {
        const JOBS: usize = 30;
        let world = World::new(&backend.store).await;
        for number in 0..JOBS {
            world.created(&format!("w{number}")).await;
        }
        let workers: Vec<_> = backend
            .replicas(4)
            .await
            .into_iter()
            .cycle()
            .take(8)
            .map(|store| {
                tokio::spawn(async move {
                    let mut taken = vec![];
                    while let Some(job) = take(&store, 10).await {
                        taken.push(job.job.id);
                    }
                    taken
                })
            })
            .collect();
        let mut all = vec![];
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        assert_eq!(all.len(), JOBS);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), JOBS);
    }

    async fn a_success_is_kept_whole_or_not_at_all(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, build, job) = world.created("dev").await;
        let taken = take(store, 3).await.unwrap();
        // The second agent cannot be kept: then nothing is.
        let resources = [resource(vec![agent("main"), agent("main")])];
        let refused = store.complete_job(taken.lease, &resources, at(4)).await.unwrap_err();
        assert_eq!(refused.to_string(), "Two agents of the build are named \"main\".");
        assert_eq!(store.job(job.id).await.unwrap().status(), JobStatus::Running);
        assert!(store.agents_of_build(build.id).await.unwrap().is_empty());
        let details = store.build_details(&[build.id]).await.unwrap();
        assert!(details[0].resources.is_empty());

        let resources = [resource(vec![agent("main"), agent("side")]), resource(vec![])];
        let done = store.complete_job(taken.lease, &resources, at(5)).await.unwrap();
        assert_eq!(done.job.status(), JobStatus::Succeeded);
        assert_eq!(done.job.completed_at, Some(at(5)));
        assert_eq!(done.workspace.id, workspace.id);
        let details = store.build_details(&[build.id]).await.unwrap();
        assert_eq!(details[0].resources.len(), 2);
        let agents = &details[0].resources[0].agents;
        let names: Vec<&str> = agents.iter().map(|agent| agent.agent.spec.name.as_str()).collect();
        assert_eq!(names, ["main", "side"]);
    }

    async fn a_failure_has_a_reason(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (workspace, ..) = world.created("dev").await;
        let failed = world.fail("").await;
        assert_eq!(failed.status(), JobStatus::Failed);
        assert_eq!(failed.error.as_deref(), Some("The provisioner gave no reason."));
        world.next(workspace.id, Transition::Start).await;
        let taken = take(store, 5).await.unwrap();
        let failed = store
            .fail_job(taken.lease, "no 'disk' \u{1f4be}", Some("INSUFFICIENT_QUOTA"), at(6))
            .await
            .unwrap();
        assert_eq!(failed.error.as_deref(), Some("no 'disk' \u{1f4be}"));
        assert_eq!(failed.error_code.as_deref(), Some("INSUFFICIENT_QUOTA"));
    }

    async fn cancelling(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;

        // One that waits is over at once.
        let (workspace, build, job) = world.created("dev").await;
        let wrong = store.cancel_job(job.id, Some(JobStatus::Running), at(2)).await.unwrap_err();
        assert!(matches!(
            wrong,
            StoreError::Conflict(Conflict::NotInExpectedState {
                expected: JobStatus::Running,
                actual: JobStatus::Pending
            })
        ));
        let canceled = store.cancel_job(job.id, Some(JobStatus::Pending), at(2)).await.unwrap();
        assert_eq!(canceled.status(), JobStatus::Canceled);
        assert_eq!(canceled.completed_at, Some(at(2)));
        assert!(take(store, 3).await.is_none(), "nobody runs it");
        let again = store.cancel_job(job.id, None, at(3)).await.unwrap_err();
        assert!(matches!(again, StoreError::Conflict(Conflict::JobCompleted)));
        assert_eq!(store.build(build.id).await.unwrap().number, 1);

        // One that runs is over when its worker has stopped.
        let (_, job) = world.next(workspace.id, Transition::Start).await;
        let taken = take(store, 5).await.unwrap();
        let canceling = store.cancel_job(job.id, Some(JobStatus::Running), at(6)).await.unwrap();
        assert_eq!(canceling.status(), JobStatus::Canceling);
        let again = store.cancel_job(job.id, None, at(6)).await.unwrap_err();
        assert!(matches!(again, StoreError::Conflict(Conflict::JobAlreadyCanceled)));
        let told = store.renew_job(taken.lease, LEASE, at(7)).await.unwrap();
        assert_eq!(told, JobStatus::Canceling);
        let busy = store.insert_build(workspace.id, &world.build(Transition::Stop), at(7)).await;
        assert!(matches!(busy, Err(StoreError::Conflict(Conflict::BuildActive))));
        let stopped = store.job_stopped(taken.lease, at(8)).await.unwrap();
        assert_eq!(stopped.status(), JobStatus::Canceled);

        // What is completed nevertheless is not kept.
        let (build, job) = world.next(workspace.id, Transition::Start).await;
        let taken = take(store, 9).await.unwrap();
        store.cancel_job(job.id, None, at(9)).await.unwrap();
        let done = store
            .complete_job(taken.lease, &[resource(vec![agent("main")])], at(10))
            .await
            .unwrap();
        assert_eq!(done.job.status(), JobStatus::Canceled);
        assert!(store.agents_of_build(build.id).await.unwrap().is_empty());
        assert_eq!(done.build.deadline, None);

        // A worker that dies while it is to stop: the next one stops it.
        let (_, job) = world.next(workspace.id, Transition::Delete).await;
        take(store, 100).await.unwrap();
        store.cancel_job(job.id, None, at(101)).await.unwrap();
        let taken = take(store, 500).await.unwrap();
        assert_eq!(taken.job.status(), JobStatus::Canceling);
        store.job_stopped(taken.lease, at(501)).await.unwrap();
        assert!(!store.workspace(workspace.id).await.unwrap().deleted);

        // One that was given back has nobody to stop it: it is over at once.
        let (_, job) = world.next(workspace.id, Transition::Start).await;
        let taken = take(store, 600).await.unwrap();
        store.release_job(taken.lease, at(601)).await.unwrap();
        let canceled = store.cancel_job(job.id, None, at(602)).await.unwrap();
        assert_eq!(canceled.status(), JobStatus::Canceled);

        // A worker that stops though nobody asked has failed.
        world.next(workspace.id, Transition::Start).await;
        let taken = take(store, 700).await.unwrap();
        let stopped = store.job_stopped(taken.lease, at(701)).await.unwrap();
        assert_eq!(stopped.status(), JobStatus::Failed);
    }

    async fn cancel_and_complete_at_once(backend: &Backend) {
        let world = World::new(&backend.store).await;
        let replicas = backend.replicas(2).await;
        let (workspace, ..) = world.created("dev").await;
        world.fail("first").await;
        for _ in 0..20 {
            let (build, job) = world.next(workspace.id, Transition::Start).await;
            let taken = take(&backend.store, 5).await.unwrap();
            let (one, other) = (replicas[0].clone(), replicas[1].clone());
            let complete = tokio::spawn(async move {
                one.complete_job(taken.lease, &[resource(vec![agent("main")])], at(6)).await
            });
            let cancel =
                tokio::spawn(async move { other.cancel_job(job.id, None, at(6)).await });
            let done = complete.await.unwrap().unwrap();
            let canceled = cancel.await.unwrap();
            let agents = backend.store.agents_of_build(build.id).await.unwrap().len();
            match (done.job.status(), &canceled) {
                (JobStatus::Succeeded, Err(StoreError::Conflict(Conflict::JobCompleted))) => {
                    assert_eq!(agents, 1);
                }
                (JobStatus::Canceled, Ok(_)) => assert_eq!(agents, 0),
                other => panic!("they do not agree: {other:?}"),
            }
        }
    }
}

/// What a test does to a job.
#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire,
    Wait,
    Complete,
    Fail,
    Stopped,
    Release,
    Cancel(Option<JobStatus>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Acquire),
        1 => Just(Step::Wait),
        2 => Just(Step::Complete),
        1 => Just(Step::Fail),
        1 => Just(Step::Stopped),
        1 => Just(Step::Release),
        2 => prop_oneof![
            Just(None),
            Just(Some(JobStatus::Pending)),
            Just(Some(JobStatus::Running))
        ]
        .prop_map(Step::Cancel),
    ];
    proptest::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a job, the store does what the table says.
    #[test]
    fn the_store_follows_the_table(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = coderctl_deployment::config::Storage::Memory;
            let store = Store::open(&storage).await.unwrap();
            let world = World::new(&store).await;
            let (_, _, job) = world.created("dev").await;
            let mut now = 10;
            let mut status = JobStatus::Pending;
            // Whose lease is good now, and until when it keeps others away.
            let mut good: Option<JobLease> = None;
            let mut newest: Option<JobLease> = None;
            let mut kept_until = 0;
            for step in steps {
                now += 1;
                let over = !status.is_active();
                match step {
                    Step::Wait => now += 2 * LEASE.as_secs(),
                    Step::Acquire => {
                        let taken = take(&store, now).await;
                        let free = !over && (good.is_none() || now > kept_until);
                        assert_eq!(taken.is_some(), free, "{step:?} at {now}, {status}");
                        if let Some(taken) = taken {
                            status = job_status_after(status, JobEvent::Acquire).unwrap();
                            good = Some(taken.lease);
                            newest = good;
                            kept_until = now + LEASE.as_secs();
                        }
                    }
                    Step::Complete | Step::Fail | Step::Stopped | Step::Release => {
                        let Some(lease) = newest else { continue };
                        let held = good == Some(lease) && !over;
                        let (event, result) = match step {
                            Step::Complete => (
                                Some(JobEvent::Complete),
                                store.complete_job(lease, &[], at(now)).await.map(|_| ()),
                            ),
                            Step::Fail => (
                                Some(JobEvent::Fail),
                                store.fail_job(lease, "x", None, at(now)).await.map(|_| ()),
                            ),
                            Step::Stopped => (
                                Some(JobEvent::Stopped),
                                store.job_stopped(lease, at(now)).await.map(|_| ()),
                            ),
                            Step::Release | Step::Acquire | Step::Wait | Step::Cancel(_) => {
                                (None, store.release_job(lease, at(now)).await)
                            }
                        };
                        if held {
                            result.unwrap();
                            good = None;
                            if let Some(event) = event {
                                status = job_status_after(status, event).unwrap();
                            }
                        } else {
                            lost(result);
                        }
                    }
                    Step::Cancel(expect) => {
                        let result = store.cancel_job(job.id, expect, at(now)).await;
                        match (job_status_after(status, JobEvent::Cancel { expect }), result) {
                            (Ok(after), Ok(_)) => {
                                // Nobody has it: nobody is to stop it.
                                let at_once = after == JobStatus::Canceling && good.is_none();
                                status = if at_once { JobStatus::Canceled } else { after };
                            }
                            (Err(wanted), Err(StoreError::Conflict(found))) => {
                                assert_eq!(found, wanted);
                            }
                            other => panic!("{step:?}: {other:?}"),
                        }
                    }
                }
                let found = store.job(job.id).await.unwrap().status();
                assert_eq!(found, status, "after {step:?}");
            }
        });
    }
}
