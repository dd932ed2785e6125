//! Publish and subscribe, in process and through PostgreSQL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use coderctl_deployment::{
    config::{Secret, Storage},
    model::ReinitEvent,
    pubsub::{
        Event, Fate, MAX_CHANNEL, MAX_PAYLOAD, Pubsub, PubsubError, QUEUE, Subscription,
        channels::{JobLogsAfter, WorkspaceEvent, job_logs, workspace_owner},
        claims::{ClaimListener, Heard, publish_claim},
    },
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;

use crate::postgres::Postgres;

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(30);

async fn next(subscription: &mut Subscription) -> Event {
    timeout(LIMIT, subscription.recv()).await.expect("an event in time").expect("not shut down")
}

async fn hears(subscription: &mut Subscription, wanted: &str) {
    let event = next(subscription).await;
    assert_eq!(event, Event::Message(wanted.to_owned().into()), "wanted {wanted:?}");
}

/// Two replicas: two pubsubs on one database, or one twice.
struct Pair {
    one: Pubsub,
    two: Pubsub,
    postgres: Option<(Arc<Postgres>, String)>,
}

impl Pair {
    fn in_process() -> Self {
        let one = Pubsub::in_process();
        Self { two: one.clone(), one, postgres: None }
    }

    async fn postgres(test: &str) -> Option<Self> {
        let postgres = Postgres::shared(test)?;
        let url = postgres.database().await;
        let storage = Storage::Postgres(Secret::new(url.clone()));
        Some(Self {
            one: Pubsub::open(&storage).await.unwrap(),
            two: Pubsub::open(&storage).await.unwrap(),
            postgres: Some((postgres, url)),
        })
    }
}

macro_rules! on_both {
    ($(async fn $name:ident($pair:ident: &Pair) $body:block)+) => {
        $(
            mod $name {
                use super::*;

                async fn run($pair: &Pair) $body

                #[tokio::test]
                async fn in_process() {
                    run(&Pair::in_process()).await;
                }

                #[tokio::test]
                async fn postgresql() {
                    if let Some(pair) = Pair::postgres(module_path!()).await {
                        run(&pair).await;
                    }
                }
            }
        )+
    };
}

on_both! {
    async fn all_hear_all_in_order(pair: &Pair) {
        let mut here = pair.one.subscribe("news").await.unwrap();
        let mut there = pair.two.subscribe("news").await.unwrap();
        let mut other = pair.two.subscribe("other").await.unwrap();
        for number in 0..200 {
            pair.one.publish("news", &number.to_string()).await.unwrap();
        }
        pair.one.publish("other", "end").await.unwrap();
        for number in 0..200 {
            hears(&mut here, &number.to_string()).await;
            hears(&mut there, &number.to_string()).await;
        }
        hears(&mut other, "end").await;
    }

    async fn what_comes_after_the_subscription_is_heard(pair: &Pair) {
        for number in 0..50 {
            let channel = format!("channel {}", number % 3);
            let mut subscription = pair.two.subscribe(&channel).await.unwrap();
            pair.one.publish(&channel, "now").await.unwrap();
            hears(&mut subscription, "now").await;
        }
    }

    async fn a_name_is_taken_as_it_is(pair: &Pair) {
        let mut upper = pair.two.subscribe("News \"of\" 'ü'").await.unwrap();
        let mut lower = pair.two.subscribe("news \"of\" 'ü'").await.unwrap();
        pair.one.publish("News \"of\" 'ü'", "'); DROP TABLE users; --").await.unwrap();
        pair.one.publish("news \"of\" 'ü'", "").await.unwrap();
        hears(&mut upper, "'); DROP TABLE users; --").await;
        hears(&mut lower, "").await;
    }

    async fn one_who_leaves_takes_nothing_from_others(pair: &Pair) {
        let leaver = pair.two.subscribe("news").await.unwrap();
        let mut stayer = pair.two.subscribe("news").await.unwrap();
        drop(leaver);
        pair.one.publish("news", "1").await.unwrap();
        hears(&mut stayer, "1").await;
        drop(stayer);
        // Coming back to a channel that was left.
        let mut again = pair.two.subscribe("news").await.unwrap();
        pair.one.publish("news", "2").await.unwrap();
        hears(&mut again, "2").await;
    }

    async fn limits_are_the_same_everywhere(pair: &Pair) {
        let mut subscription = pair.two.subscribe("news").await.unwrap();
        let longest = "x".repeat(MAX_PAYLOAD);
        pair.one.publish("news", &longest).await.unwrap();
        hears(&mut subscription, &longest).await;
        let error = pair.one.publish("news", &format!("{longest}x")).await.unwrap_err();
        assert_eq!(error.to_string(), "a message of 8000 bytes is longer than 7999");
        for (channel, payload) in [
            ("", "x"),
            ("a\0b", "x"),
            ("news", "a\0b"),
            (&*"c".repeat(MAX_CHANNEL + 1), "x"),
        ] {
            let error = pair.one.publish(channel, payload).await.unwrap_err();
            assert!(matches!(error, PubsubError::Unfit { .. }), "{error}");
        }
        let error = pair.one.subscribe("").await.unwrap_err();
        assert!(matches!(error, PubsubError::Unfit { .. }), "{error}");
        let name = "c".repeat(MAX_CHANNEL);
        let mut named = pair.two.subscribe(&name).await.unwrap();
        pair.one.publish(&name, "x").await.unwrap();
        hears(&mut named, "x").await;
    }

    async fn a_slow_subscriber_is_told_to_look_again(pair: &Pair) {
        let mut slow = pair.two.subscribe("news").await.unwrap();
        let mut quick = pair.two.subscribe("news").await.unwrap();
        for number in 0..=QUEUE {
            pair.one.publish("news", &number.to_string()).await.unwrap();
            hears(&mut quick, &number.to_string()).await;
        }
        pair.one.publish("news", "last").await.unwrap();
        hears(&mut quick, "last").await;
        assert_eq!(next(&mut slow).await, Event::Resync);
        hears(&mut slow, "last").await;
    }

    async fn faults(pair: &Pair) {
        let mut subscription = pair.two.subscribe("news").await.unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        pair.one.set_fault(Some(Arc::new(move |channel, payload| {
            assert_eq!(channel, "news");
            counter.fetch_add(1, Ordering::Relaxed);
            match payload {
                "lost" => Fate::Drop,
                "twice" => Fate::Duplicate,
                _ => Fate::Deliver,
            }
        })));
        for payload in ["a", "lost", "twice", "b"] {
            pair.one.publish("news", payload).await.unwrap();
        }
        pair.one.set_fault(None);
        pair.one.publish("news", "lost").await.unwrap();
        for wanted in ["a", "twice", "twice", "b", "lost"] {
            hears(&mut subscription, wanted).await;
        }
        assert_eq!(seen.load(Ordering::Relaxed), 4);
    }

    async fn after_the_end(pair: &Pair) {
        let mut subscription = pair.two.subscribe("news").await.unwrap();
        pair.one.publish("news", "before").await.unwrap();
        hears(&mut subscription, "before").await;
        pair.two.close().await;
        assert_eq!(timeout(LIMIT, subscription.recv()).await.unwrap(), None);
        assert!(matches!(pair.two.publish("news", "x").await, Err(PubsubError::Closed)));
        assert!(matches!(pair.two.subscribe("news").await, Err(PubsubError::Closed)));
    }

    async fn claims_go_from_one_to_the_other(pair: &Pair) {
        let (workspace, owner) = (Uuid::new_v4(), Uuid::new_v4());
        let mut listener = ClaimListener::listen(&pair.two, workspace).await.unwrap();
        let claim = ReinitEvent::claimed(workspace, owner);
        publish_claim(&pair.one, &claim).await.unwrap();
        let heard = timeout(LIMIT, listener.recv()).await.unwrap();
        assert_eq!(heard, Heard::Claim(claim));
    }

    async fn events_have_upstreams_form(pair: &Pair) {
        let owner = Uuid::new_v4();
        let job = Uuid::new_v4();
        let mut events = pair.two.subscribe(&workspace_owner(owner)).await.unwrap();
        let mut logs = pair.two.subscribe(&job_logs(job)).await.unwrap();
        let event = WorkspaceEvent::state_change(Uuid::new_v4());
        pair.one.publish_workspace_event(owner, &event).await.unwrap();
        let Event::Message(payload) = next(&mut events).await else {
            panic!("a resync");
        };
        assert_eq!(WorkspaceEvent::parse(&payload).unwrap(), event);
        let end = JobLogsAfter { created_after: 7, end_of_logs: true };
        pair.one.publish_job_logs(job, end).await.unwrap();
        hears(&mut logs, r#"{"created_after":7,"end_of_logs":true}"#).await;
    }

    async fn many_at_once(pair: &Pair) {
        // Each publisher's messages keep their order; nothing is lost or told twice.
        const PUBLISHERS: usize = 6;
        const EACH: usize = 100;
        let mut subscription = pair.two.subscribe("news").await.unwrap();
        let tasks: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let pubsub = if publisher % 2 == 0 { &pair.one } else { &pair.two }.clone();
                tokio::spawn(async move {
                    for number in 0..EACH {
                        pubsub.publish("news", &format!("{publisher} {number}")).await.unwrap();
                    }
                })
            })
            .collect();
        let mut counts = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * EACH {
            let Event::Message(payload) = next(&mut subscription).await else {
                panic!("a resync");
            };
            let text = std::str::from_utf8(&payload).unwrap();
            let (publisher, number) = text.split_once(' ').unwrap();
            let publisher: usize = publisher.parse().unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), counts[publisher], "{text}");
            counts[publisher] += 1;
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
}

/// Ends the connections that listen in this database, as a network or an administrator may.
async fn cut(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_lost_connection_is_mended_and_told() {
    let Some(pair) = Pair::postgres("a_lost_connection_is_mended_and_told").await else {
        return;
    };
    let (_, url) = pair.postgres.as_ref().unwrap();
    let mut news = pair.two.subscribe("news").await.unwrap();
    let mut other = pair.two.subscribe("other").await.unwrap();
    for round in 0..3 {
        assert!(cut(url).await >= 2, "two replicas listen");
        // After the resync, everything is heard again; nothing is left to chance in between.
        assert_eq!(next(&mut news).await, Event::Resync, "round {round}");
        assert_eq!(next(&mut other).await, Event::Resync, "round {round}");
        publish_until_taken(&pair.one, "news", "back").await;
        hears(&mut news, "back").await;
        let mut late = pair.two.subscribe("late").await.unwrap();
        publish_until_taken(&pair.one, "late", "too").await;
        hears(&mut late, "too").await;
        publish_until_taken(&pair.one, "other", "back").await;
        hears(&mut other, "back").await;
    }
}

/// A publisher whose connection was cut notices it with one error, and the next try is well.
async fn publish_until_taken(pubsub: &Pubsub, channel: &str, payload: &str) {
    for attempt in 0.. {
        match pubsub.publish(channel, payload).await {
            Ok(()) => return,
            Err(error @ PubsubError::Unavailable(_)) if attempt < 5 => drop(error),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_claim_listener_hears_of_a_lost_connection() {
    let Some(pair) = Pair::postgres("a_claim_listener_hears_of_a_lost_connection").await else {
        return;
    };
    let (_, url) = pair.postgres.as_ref().unwrap();
    let mut listener = ClaimListener::listen(&pair.two, Uuid::new_v4()).await.unwrap();
    cut(url).await;
    assert_eq!(timeout(LIMIT, listener.recv()).await.unwrap(), Heard::Resync);
}

#[tokio::test]
async fn channels_that_nobody_hears_are_left() {
    let Some(pair) = Pair::postgres("channels_that_nobody_hears_are_left").await else {
        return;
    };
    let mut kept = vec![];
    for number in 0..20 {
        kept.push(pair.two.subscribe(&format!("channel {number}")).await.unwrap());
    }
    kept.truncate(1);
    // The same task leaves the channels and answers this, in that order or the other: ask until
    // a subscription was answered after they were left.
    let mut probe = pair.two.subscribe("probe").await.unwrap();
    pair.one.publish("channel 0", "x").await.unwrap();
    hears(&mut kept[0], "x").await;
    pair.one.publish("channel 7", "nobody").await.unwrap();
    pair.one.publish("probe", "x").await.unwrap();
    hears(&mut probe, "x").await;
}

#[tokio::test]
async fn a_postgres_that_is_not_there() {
    let url = "postgres://user:hunter2@/db?host=/nonexistent/socket/dir";
    let storage = Storage::Postgres(Secret::new(url));
    let error = Pubsub::open(&storage).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2"), "{text}");
}
