//! The driver against a scripted world, in virtual time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use coderctl_tunneler::{
    AgentId, AgentRecord, AgentStatus, Agents, Backoff, Build, BuildNumber, Config, Event, Failure,
    FailureKind, JobStatus, Lifecycle, Outcome, Policy, Snapshot, Transition,
};
use tokio::sync::mpsc;

use super::{
    driver::{Driver, Ended},
    limits::{Clock, Limits},
    progress::{Logs, Progress},
    world::{Dialed, World},
};
use crate::{
    apps::{self, App, BoxFuture, End, Tunnel, testing::Stub},
    error::{CommandError, Kind},
    signal::Signals,
    ui::{self, Capture, Ui},
};

const AGENT: AgentId = AgentId(7);

#[tokio::test(start_paused = true)]
async fn a_running_workspace_is_dialled_and_the_apps_status_is_ours() {
    let run = Run::new(Policy::Once);
    let ended = run.go(running(), finishes_with(7)).await.unwrap();
    assert_eq!(ended.exit.outcome, Outcome::AppDone(7));
    assert!(ended.exit.was_up);
}

#[tokio::test(start_paused = true)]
async fn every_tunnel_that_came_up_takes_its_leave() {
    let run = Run::new(Policy::Once);
    let world = Arc::clone(&run.world);
    run.go(running(), finishes_with(0)).await.unwrap();
    assert_eq!(world.dialled.load(Ordering::SeqCst), 1);
    assert_eq!(world.closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_workspace_is_started_once_and_said_so() {
    let run = Run::new(Policy::Once);
    let (world, said) = (Arc::clone(&run.world), run.said.clone());
    world.on_start(
        Event::StartAccepted { number: BuildNumber(2) },
        &[build(Transition::Start, JobStatus::Running)],
    );
    world.on_resync(running());
    let ended = run.go(stopped(), finishes_with(0)).await.unwrap();
    assert_eq!(ended.exit.outcome, Outcome::AppDone(0));
    assert_eq!(world.starts.load(Ordering::SeqCst), 1);
    assert!(said.stderr().contains("starting workspace"), "{}", said.stderr());
}

#[tokio::test(start_paused = true)]
async fn an_app_that_fails_keeps_its_own_error() {
    let run = Run::new(Policy::Once);
    let app = Box::new(Fake(|_| -> BoxFuture<'static, End> {
        Box::pin(async { End::Failed(CommandError::msg(Kind::Local, "no terminal")) })
    }));
    let ended = run.go(running(), app).await.unwrap();
    assert_eq!(ended.app_error.unwrap().kind, Kind::Local);
}

#[tokio::test(start_paused = true)]
async fn a_lost_tunnel_ends_a_session_and_is_told_as_such() {
    let run = Run::new(Policy::Once);
    run.world.lose_first_tunnel_after(Duration::from_secs(5));
    let ended = run.go(running(), lives_until_closed()).await.unwrap();
    assert!(matches!(ended.exit.outcome, Outcome::TunnelLost(_)), "{:?}", ended.exit);
}

#[tokio::test(start_paused = true)]
async fn a_lost_tunnel_is_made_again_for_a_forward() {
    let run = Run::new(Policy::Follow);
    let world = Arc::clone(&run.world);
    world.lose_first_tunnel_after(Duration::from_secs(5));
    let app = Box::new(Fake(|mut context: apps::Context| -> BoxFuture<'static, End> {
        Box::pin(async move {
            // Attached, detached, attached again: then it is content.
            for _ in 0..2 {
                context.tunnel.wait_for(Option::is_some).await.unwrap();
                context.events.send(apps::Event::Up).unwrap();
                if context.tunnel.wait_for(Option::is_none).await.is_err() {
                    break;
                }
            }
            End::Done(0)
        })
    }));
    // The second tunnel lives, so the end is asked for once it is up.
    world.lose_second_tunnel_after(Duration::from_secs(5));
    let ended = run.go(running(), app).await.unwrap();
    assert_eq!(ended.exit.outcome, Outcome::AppDone(0));
    assert!(world.dialled.load(Ordering::SeqCst) >= 2);
}

#[tokio::test(start_paused = true)]
async fn usage_is_reported_while_something_is_open_and_only_then() {
    let run = Run::new(Policy::Once);
    let world = Arc::clone(&run.world);
    let app = Box::new(Fake(|mut context: apps::Context| -> BoxFuture<'static, End> {
        Box::pin(async move {
            context.tunnel.wait_for(Option::is_some).await.unwrap();
            context.events.send(apps::Event::Up).unwrap();
            tokio::time::sleep(Duration::from_secs(300)).await;
            context.events.send(apps::Event::Opened).unwrap();
            tokio::time::sleep(Duration::from_secs(150)).await;
            context.events.send(apps::Event::Closed).unwrap();
            tokio::time::sleep(Duration::from_secs(300)).await;
            End::Done(0)
        })
    }));
    run.go(running(), app).await.unwrap();
    // At once, after one minute, after two.
    assert_eq!(world.reports.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_is_refused_for_good_is_the_reason() {
    let run = Run::new(Policy::Once);
    *run.world.dial_fails.lock().unwrap() =
        Some(Failure::new(FailureKind::Refused, "browser only"));
    let ended = run.go(running(), finishes_with(0)).await.unwrap();
    assert_eq!(ended.exit.outcome, Outcome::DialFailed("browser only".to_owned()));
    assert!(!ended.exit.was_up);
}

/// A pause of minutes before the next dial ends with the network on which the last one failed.
#[tokio::test(start_paused = true)]
async fn on_another_network_the_next_try_is_not_waited_for() {
    const MINUTES: Duration = Duration::from_secs(600);
    let begun = tokio::time::Instant::now();
    for (moves_after, least, most) in [(Some(3), 3, 4), (None, 600, 800)] {
        let mut run = Run::new(Policy::Follow);
        run.config.backoff = Backoff { first: MINUTES, max: MINUTES };
        *run.world.dial_fails.lock().unwrap() =
            Some(Failure::new(FailureKind::Transient, "no route to host"));
        *run.world.moves_after.lock().unwrap() = moves_after.map(Duration::from_secs);
        let before = begun.elapsed();
        let ended = run.go(running(), finishes_with(0)).await.unwrap();
        assert_eq!(ended.exit.outcome, Outcome::AppDone(0));
        let took = (begun.elapsed() - before).as_secs();
        assert!((least..most).contains(&took), "{moves_after:?}: after {took} s");
    }
}

// ---- helpers ----------------------------------------------------------------------------------

struct Run {
    world: Arc<Script>,
    ui: Ui,
    said: Capture,
    config: Config,
}

impl Run {
    fn new(policy: Policy) -> Self {
        let (ui, said) = Ui::captured(ui::Options::default());
        Self { world: Arc::new(Script::default()), ui, said, config: Config::new(policy) }
    }

    async fn go(self, first: Snapshot, app: Box<dyn App>) -> Result<Ended, CommandError> {
        let progress = Progress::new(&self.ui, "dev", Arc::new(NoLogs));
        let clock = Clock::begin(Limits::default(), tokio::time::Instant::now());
        let driver = Driver::new(self.world, &self.ui, progress, self.config, clock, app, true);
        let mut signals = Signals::new().unwrap();
        driver.run(Event::Snapshot(first), &mut signals).await
    }
}

fn build(transition: Transition, status: JobStatus) -> Event {
    Event::Build(Build::new(transition, status))
}

fn running() -> Snapshot {
    Snapshot {
        build: Build::new(Transition::Start, JobStatus::Succeeded).numbered(2),
        agents: Agents::One(AgentRecord {
            id: AGENT,
            lifecycle: Lifecycle::Ready,
            status: AgentStatus::Connected,
            blocks_login: false,
        }),
        dormant: false,
    }
}

fn stopped() -> Snapshot {
    Snapshot {
        build: Build::new(Transition::Stop, JobStatus::Succeeded).numbered(1),
        agents: Agents::Untold,
        dormant: false,
    }
}

/// A deployment that does what it was told to.
#[derive(Default)]
struct Script {
    facts: Mutex<Option<mpsc::UnboundedSender<Event>>>,
    resyncs: Mutex<VecDeque<Snapshot>>,
    start: Mutex<Option<(Event, Vec<Event>)>>,
    dial_fails: Mutex<Option<Failure>>,
    /// When this machine is in another network, from when somebody looks out for that.
    moves_after: Mutex<Option<Duration>>,
    losses: Mutex<VecDeque<Duration>>,
    dialled: AtomicUsize,
    closed: Arc<AtomicUsize>,
    starts: AtomicUsize,
    reports: AtomicUsize,
}

impl Script {
    fn on_start(&self, answer: Event, facts: &[Event]) {
        *self.start.lock().unwrap() = Some((answer, facts.to_vec()));
    }

    fn on_resync(&self, snapshot: Snapshot) {
        self.resyncs.lock().unwrap().push_back(snapshot);
    }

    fn lose_first_tunnel_after(&self, after: Duration) {
        self.losses.lock().unwrap().push_back(after);
    }

    fn lose_second_tunnel_after(&self, after: Duration) {
        self.losses.lock().unwrap().push_back(after);
    }
}

impl World for Script {
    fn open_watch(&self, facts: mpsc::UnboundedSender<Event>) -> BoxFuture<'static, Event> {
        *self.facts.lock().unwrap() = Some(facts);
        Box::pin(async { Event::WatchUp })
    }

    fn resync(&self) -> BoxFuture<'static, Event> {
        let snapshot = self.resyncs.lock().unwrap().pop_front().unwrap_or_else(running);
        Box::pin(async move { Event::Snapshot(snapshot) })
    }

    fn read_agent(&self, _: AgentId) -> BoxFuture<'static, Event> {
        Box::pin(async {
            Event::AgentRecord(AgentRecord {
                id: AGENT,
                lifecycle: Lifecycle::Ready,
                status: AgentStatus::Connected,
                blocks_login: false,
            })
        })
    }

    fn start_workspace(&self) -> BoxFuture<'static, Event> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let (answer, facts) = self.start.lock().unwrap().take().expect("no start was expected");
        let sender = self.facts.lock().unwrap().clone().unwrap();
        Box::pin(async move {
            for fact in facts {
                sender.send(fact).unwrap();
            }
            answer
        })
    }

    fn dial(&self, _: AgentId) -> BoxFuture<'static, Result<Box<dyn Dialed>, Failure>> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let failure = self.dial_fails.lock().unwrap().take();
        let lost = self.losses.lock().unwrap().pop_front();
        let closed = Arc::clone(&self.closed);
        Box::pin(async move {
            match failure {
                Some(failure) => Err(failure),
                None => Ok(Box::new(FakeDialed { lost, closed }) as Box<dyn Dialed>),
            }
        })
    }

    fn report_usage(&self, _: AgentId) -> BoxFuture<'static, ()> {
        self.reports.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {})
    }

    fn network_changed(&self) -> BoxFuture<'static, ()> {
        let after = self.moves_after.lock().unwrap().take();
        Box::pin(async move {
            match after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        })
    }

    fn leave(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct FakeDialed {
    lost: Option<Duration>,
    closed: Arc<AtomicUsize>,
}

impl Dialed for FakeDialed {
    fn tunnel(&self) -> Arc<dyn Tunnel> {
        Arc::new(Stub::refusing())
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        let lost = self.lost;
        Box::pin(async move {
            match lost {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            "no answer".to_owned()
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {})
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }
}

struct Fake<F>(F);

impl<F: FnOnce(apps::Context) -> BoxFuture<'static, End> + Send> App for Fake<F> {
    fn run(self: Box<Self>, context: apps::Context) -> BoxFuture<'static, End> {
        (self.0)(context)
    }
}

fn finishes_with(code: u8) -> Box<dyn App> {
    Box::new(Fake(move |mut context: apps::Context| -> BoxFuture<'static, End> {
        Box::pin(async move {
            context.tunnel.wait_for(Option::is_some).await.unwrap();
            context.events.send(apps::Event::Up).unwrap();
            End::Done(code)
        })
    }))
}

fn lives_until_closed() -> Box<dyn App> {
    Box::new(Fake(|mut context: apps::Context| -> BoxFuture<'static, End> {
        Box::pin(async move {
            context.tunnel.wait_for(Option::is_some).await.unwrap();
            context.events.send(apps::Event::Up).unwrap();
            context.close.wait_for(|close| *close).await.unwrap();
            End::Done(0)
        })
    }))
}

struct NoLogs;

impl Logs for NoLogs {
    fn follow_build(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn follow_scripts(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
