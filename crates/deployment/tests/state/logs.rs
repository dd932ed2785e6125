//! Logs of jobs and agents.

use coderctl_deployment::{
    model::{EXTERNAL_LOG_SOURCE, JobLogSource, LogLevel, NewAgentLog, NewJobLog},
    store::{AppendedLogs, MAX_LOG_BYTES, StoreError},
};
use uuid::Uuid;

use crate::{
    backend::{Backend, on_each},
    world::{LEASE, World, agent, at, resource},
};

pub(crate) fn line(output: &str) -> NewJobLog {
    NewJobLog {
        created_at: at(7),
        source: JobLogSource::Provisioner,
        level: LogLevel::Info,
        stage: "Starting workspace".to_owned(),
        output: output.to_owned(),
    }
}

fn agent_line(output: &str) -> NewAgentLog {
    NewAgentLog { created_at: at(7), level: LogLevel::Warn, output: output.to_owned() }
}

fn long(bytes: i64) -> String {
    "x".repeat(usize::try_from(bytes).unwrap())
}

const OVERFLOWED: AppendedLogs = AppendedLogs {
    first_id: None,
    last_id: None,
    overflowed: true,
    newly_overflowed: true,
    first_lines: false,
};
const STILL_OVERFLOWED: AppendedLogs = AppendedLogs { newly_overflowed: false, ..OVERFLOWED };

on_each! {
    async fn of_a_job(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (_, _, job) = world.created("dev").await;
        let taken = store.acquire_job(Uuid::new_v4(), LEASE, at(3)).await.unwrap().unwrap();
        let lines = ["one", "", "it's \"three\" \\ ünï\u{1b}[31m", "a\0b"].map(line);
        let first = store.append_job_logs(taken.lease, &lines).await.unwrap();
        assert!(first.first_lines);
        let kept = store.job_logs(job.id, 0, 100).await.unwrap();
        let outputs: Vec<&str> = kept.iter().map(|log| log.output.as_str()).collect();
        // PostgreSQL cannot keep a NUL; all else is as it was.
        assert_eq!(outputs, ["one", "", "it's \"three\" \\ ünï\u{1b}[31m", "a\u{fffd}b"]);
        assert!(kept.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!((first.first_id, first.last_id), (Some(kept[0].id), Some(kept[3].id)));
        assert_eq!(first.created_after(), Some(kept[0].id - 1));
        assert_eq!(kept[0].stage, "Starting workspace");
        assert_eq!(store.job_logs(job.id, kept[1].id, 100).await.unwrap(), kept[2..]);
        assert_eq!(store.job_logs(job.id, 0, 2).await.unwrap(), kept[..2]);
        assert_eq!(store.job_logs(Uuid::new_v4(), 0, 100).await.unwrap(), []);

        let nothing = store.append_job_logs(taken.lease, &[]).await.unwrap();
        assert_eq!(nothing.created_after(), None);
        // The empty line counts as one byte; the NUL as it came, one byte, though it is kept as three.
        let bytes = "one".len() + 1 + lines[2].output.len() + "a\0b".len();
        let fits = MAX_LOG_BYTES - i64::try_from(bytes).unwrap();
        let more = store.append_job_logs(taken.lease, &[line(&long(fits))]).await.unwrap();
        assert!(!more.overflowed && !more.first_lines);
        let over = store.append_job_logs(taken.lease, &[line("y")]).await.unwrap();
        assert_eq!(over, OVERFLOWED);
        let over = store.append_job_logs(taken.lease, &[line("")]).await.unwrap();
        assert_eq!(over, STILL_OVERFLOWED);
        assert_eq!(store.job_logs(job.id, 0, 100).await.unwrap().len(), 5);
        assert!(store.job(job.id).await.unwrap().logs_overflowed);
    }

    async fn of_an_agent(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (.., agent) = world.running("dev").await;
        let source = store.scripts(agent.id).await.unwrap()[0].log_source_id;
        let first = store
            .append_agent_logs(agent.id, source, &[agent_line("one"), agent_line("t\0o")], at(8))
            .await
            .unwrap();
        assert!(first.first_lines);
        let kept = store.agent_logs(agent.id, 0, 100).await.unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!((kept[0].source_id, kept[0].level), (source, LogLevel::Warn));
        assert_eq!(first.created_after(), Some(kept[0].id - 1));
        assert_eq!(store.agent_logs(agent.id, kept[0].id, 100).await.unwrap(), kept[1..]);

        // Lines without a source are of the external one, which is then listed.
        let names = |sources: Vec<coderctl_deployment::model::LogSource>| {
            sources.into_iter().map(|source| source.display_name).collect::<Vec<_>>()
        };
        assert_eq!(names(store.log_sources(agent.id).await.unwrap()), ["Startup"]);
        store.append_agent_logs(agent.id, Uuid::nil(), &[agent_line("!")], at(9)).await.unwrap();
        let kept = store.agent_logs(agent.id, 0, 100).await.unwrap();
        assert_eq!(kept[2].source_id, EXTERNAL_LOG_SOURCE);
        assert_eq!(names(store.log_sources(agent.id).await.unwrap()), ["Startup", "External"]);

        let fits = MAX_LOG_BYTES - store.agent(agent.id).await.unwrap().logs_length;
        let lines = [agent_line(&long(fits)), agent_line("y")];
        let over = store.append_agent_logs(agent.id, source, &lines, at(10)).await.unwrap();
        assert_eq!(over, OVERFLOWED, "all of the call is left out");
        let over = store.append_agent_logs(agent.id, source, &lines[1..], at(10)).await.unwrap();
        assert_eq!(over, STILL_OVERFLOWED, "and all later ones");
        assert_eq!(store.agent_logs(agent.id, 0, 100).await.unwrap().len(), 3);
        let row = store.agent(agent.id).await.unwrap();
        assert!(row.logs_overflowed);

        let nobody = store.append_agent_logs(Uuid::new_v4(), source, &lines, at(10)).await;
        assert!(matches!(nobody, Err(StoreError::NotFound("workspace agent"))));
    }

    async fn of_many_lines_at_once(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (_, _, job) = world.created("dev").await;
        let taken = store.acquire_job(Uuid::new_v4(), LEASE, at(3)).await.unwrap().unwrap();
        let lines: Vec<NewJobLog> = (0..1_234).map(|number| line(&number.to_string())).collect();
        let appended = store.append_job_logs(taken.lease, &lines).await.unwrap();
        let kept = store.job_logs(job.id, 0, 10_000).await.unwrap();
        assert!(kept.iter().map(|log| &log.output).eq(lines.iter().map(|log| &log.output)));
        assert_eq!(appended.first_id, Some(kept[0].id));
        assert_eq!(appended.last_id, Some(kept[1_233].id));

        store.complete_job(taken.lease, &[resource(vec![agent("main")])], at(4)).await.unwrap();
        let build = store.build_of_job(job.id).await.unwrap();
        let agent = store.agents_of_build(build.id).await.unwrap()[0].id;
        let lines: Vec<NewAgentLog> =
            (0..1_234).map(|number| agent_line(&number.to_string())).collect();
        let source = Uuid::new_v4();
        let appended = store.append_agent_logs(agent, source, &lines, at(5)).await.unwrap();
        let kept = store.agent_logs(agent, 0, 10_000).await.unwrap();
        assert!(kept.iter().map(|log| &log.output).eq(lines.iter().map(|log| &log.output)));
        assert_eq!(appended.first_id, Some(kept[0].id));
        assert_eq!(appended.last_id, Some(kept[1_233].id));

        // Lines that hold nothing come to an end, too.
        let empty = vec![agent_line(""); 100_000];
        let mut added = 0;
        while !store.append_agent_logs(agent, source, &empty, at(6)).await.unwrap().overflowed {
            added += 1;
            assert!(added < 11, "more empty lines than bytes");
        }
    }

    /// A follower that has seen an id never misses a lower one that comes later.
    async fn ids_appear_in_order(backend: &Backend) {
        let store = &backend.store;
        let world = World::new(store).await;
        let (.., agent) = world.running("dev").await;
        let source = Uuid::new_v4();
        let writers: Vec<_> = backend
            .replicas(3)
            .await
            .into_iter()
            .map(|store| {
                tokio::spawn(async move {
                    for number in 0..30 {
                        let lines = [agent_line(&number.to_string()), agent_line("and")];
                        store.append_agent_logs(agent.id, source, &lines, at(8)).await.unwrap();
                    }
                })
            })
            .collect();
        let mut seen = vec![];
        while seen.len() < 3 * 30 * 2 {
            let after = seen.last().copied().unwrap_or(0);
            // Looked at first: the last lines may come while they are read.
            let done = writers.iter().all(tokio::task::JoinHandle::is_finished);
            let more = store.agent_logs(agent.id, after, 1_000).await.unwrap();
            assert!(!(done && more.is_empty()), "{} lines are missing", 180 - seen.len());
            seen.extend(more.into_iter().map(|log| log.id));
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
        for writer in writers {
            writer.await.unwrap();
        }
    }
}
