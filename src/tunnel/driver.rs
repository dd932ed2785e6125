//! The event loop: one event in, the tunneler's actions out, each performed by a task of its own
//! whose one answer is the next event.
//!
//! ```text
//!   watch ─ facts ─┐                      ┌─► open_watch · resync · read_agent · start · dial
//!   answers ───────┤                      ├─► app: tunnel, close
//!   app ───────────┼─► Tunneler::handle ──┼─► timers
//!   signals ───────┤                      ├─► progress: notices, stages, logs
//!   timers ────────┘                      └─► exit
//! ```
//!
//! Nothing here decides about workspaces; that is the tunneler's. What is decided here is who gets
//! a signal: an app that has been up gets it, otherwise the first asks for the end; once the end
//! has been asked for, the next one ends the program at once.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use coderctl_tunneler::{
    Action, AgentId, AppEnd, ConnectionId, Event, Exit, Failure, FailureKind, Severity, Step,
    Timer, Tunneler,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    limits::{Clock, Over, Waited},
    progress::Progress,
    world::{Dialed, World},
};
use crate::{
    apps::{self, App, BoxFuture, End, Tunnel},
    error::{CommandError, Kind},
    signal::{Signal, Signals},
    ui::Ui,
};

/// How often usage is reported while something is open (coder/coder: codersdk/workspaces.go
/// reports once a minute).
const USAGE_INTERVAL: Duration = Duration::from_secs(60);

/// How the driver ended.
pub(super) struct Ended {
    pub(super) exit: Exit,
    /// The app's own error, where it ended with one: better than the text the tunneler kept.
    pub(super) app_error: Option<CommandError>,
    /// The signal that asked for the end.
    pub(super) signal: Option<Signal>,
    /// The limit that ran out and asked for the end, and what was waited for.
    pub(super) over: Option<(Over, Waited)>,
}

/// An answer to an action, or the product of a dial.
enum Done {
    Event(Event),
    Dialed(ConnectionId, AgentId, Box<dyn Dialed>),
    Lost(ConnectionId, String),
    Nothing,
}

/// A tunnel that is up.
struct Up {
    dialed: Option<Box<dyn Dialed>>,
    tunnel: Arc<dyn Tunnel>,
    agent: AgentId,
    watcher: AbortHandle,
}

pub(super) struct Driver<W> {
    world: Arc<W>,
    tunneler: Tunneler,
    progress: Progress,
    tasks: JoinSet<Done>,
    facts_in: mpsc::UnboundedSender<Event>,
    facts: mpsc::UnboundedReceiver<Event>,
    timers: BTreeMap<Timer, Instant>,
    /// Another network than the one on which a try failed, while the next is waited for.
    network: Option<BoxFuture<'static, ()>>,
    dials: BTreeMap<ConnectionId, AbortHandle>,
    up: BTreeMap<ConnectionId, Up>,
    app: Running,
    usage: Usage,
    clock: Clock,
    signal: Option<Signal>,
    over: Option<(Over, Waited)>,
    /// What is waited for, and since when.
    waiting: (Step, Instant),
    app_error: Option<CommandError>,
}

/// The app's task and the ends of its context.
struct Running {
    task: Option<JoinHandle<End>>,
    tunnel: watch::Sender<Option<Arc<dyn Tunnel>>>,
    close: watch::Sender<bool>,
    signals: mpsc::Sender<Signal>,
    events: mpsc::UnboundedReceiver<apps::Event>,
    /// `AttachApp` waits for the app's word.
    attaching: bool,
    closing: bool,
    was_up: bool,
}

/// Reports usage while something is open.
struct Usage {
    enabled: bool,
    open: usize,
    agent: Option<AgentId>,
    next: Option<Instant>,
}

impl<W: World + 'static> Driver<W> {
    /// Starts the app (detached) and performs the tunneler's first actions.
    pub(super) fn new(
        world: Arc<W>,
        ui: &Ui,
        progress: Progress,
        config: coderctl_tunneler::Config,
        clock: Clock,
        app: Box<dyn App>,
        report_usage: bool,
    ) -> Self {
        let (facts_in, facts) = mpsc::unbounded_channel();
        let (tunneler, actions) = Tunneler::new(config);
        let mut driver = Self {
            world,
            tunneler,
            progress,
            tasks: JoinSet::new(),
            facts_in,
            facts,
            timers: BTreeMap::new(),
            network: None,
            dials: BTreeMap::new(),
            up: BTreeMap::new(),
            app: Running::start(app, ui),
            usage: Usage { enabled: report_usage, open: 0, agent: None, next: None },
            clock,
            signal: None,
            over: None,
            waiting: (Step::Learn, Instant::now()),
            app_error: None,
        };
        for action in actions {
            // The first actions never include an exit.
            let _ = driver.perform(action);
        }
        driver
    }

    /// Runs until the tunneler exits.
    ///
    /// # Errors
    /// A signal that ends the program at once.
    pub(super) async fn run(
        mut self,
        first: Event,
        signals: &mut Signals,
    ) -> Result<Ended, CommandError> {
        let mut event = Some(first);
        loop {
            if let Some(exit) = event.take().and_then(|event| self.feed(event)) {
                return Ok(self.end(exit).await);
            }
            let (timer, usage) = (self.next_timer(), self.usage.next);
            let limit = self.clock.next().filter(|_| !self.is_ending());
            self.watch_network();
            event = tokio::select! {
                biased;
                // Before a signal, which may follow the app's word that it is ready at once.
                Some(event) = self.app.events.recv() => self.app_said(event),
                signal = signals.next() => self.signalled(signal)?,
                // Before what a watch tells, lest its end be heard before its beginning.
                Some(done) = self.tasks.join_next() => self.answered(done),
                Some(fact) = self.facts.recv() => Some(fact),
                end = ended(&mut self.app.task) => Some(self.app_ended(end)),
                () = at(timer) => self.fire(),
                () = another(&mut self.network) => { self.hurry(); None }
                () = at(usage) => { self.report_usage(); None },
                () = at(limit.map(|(at, _)| at)) => self.ran_out(limit.map(|(_, over)| over)),
            };
        }
    }

    fn feed(&mut self, event: Event) -> Option<Exit> {
        tracing::debug!(?event, state = ?self.tunneler.state(), "event");
        self.progress.saw(&event);
        for action in self.tunneler.handle(event) {
            tracing::debug!(?action, "action");
            if let Some(exit) = self.perform(action) {
                return Some(exit);
            }
        }
        self.progress.entered(self.tunneler.state());
        let step = self.tunneler.waiting_for().unwrap_or(Step::Attach);
        if self.waiting.0 != step {
            self.waiting = (step, Instant::now());
        }
        None
    }

    fn perform(&mut self, action: Action) -> Option<Exit> {
        match action {
            Action::OpenWatch => self.answer(self.world.open_watch(self.facts_in.clone())),
            Action::Resync => self.answer(self.world.resync()),
            Action::ReadAgent(agent) => self.answer(self.world.read_agent(agent)),
            Action::StartWorkspace => self.answer(self.world.start_workspace()),
            Action::Dial { connection, agent } => self.dial(connection, agent),
            Action::CancelDial(connection) => self.cancel_dial(connection),
            Action::AttachApp(connection) => self.attach(connection),
            Action::CancelAttach => {
                if std::mem::take(&mut self.app.attaching) {
                    self.app.tunnel.send_replace(None);
                    self.post(Event::AppAttachFailed(canceled()));
                }
            }
            Action::DetachApp => {
                self.clock.down(Instant::now());
                self.app.tunnel.send_replace(None);
                self.app.attaching = false;
                self.post(Event::AppDetached);
            }
            Action::CloseApp => self.close_app(),
            Action::CloseTailnet(connection) => self.close_tailnet(connection),
            Action::ArmTimer { timer, after } => {
                self.timers.insert(timer, Instant::now() + spread(timer, after));
            }
            Action::DisarmTimer(timer) => {
                self.timers.remove(&timer);
            }
            Action::Notice(notice) => self.progress.notice(&notice),
            Action::Unexpected(Severity::Error | Severity::Critical | Severity::Fatal) => {
                tracing::error!(state = ?self.tunneler.state(), "an event that cannot happen here");
            }
            Action::Exit(exit) => return Some(exit),
        }
        None
    }

    /// Spawns work. In a box, or each kind would have its own copy of what runs a task.
    fn begin(&mut self, work: impl Future<Output = Done> + Send + 'static) -> AbortHandle {
        let work: Pin<Box<dyn Future<Output = Done> + Send>> = Box::pin(work);
        self.tasks.spawn(work)
    }

    /// Spawns what an action needs; its result is the action's answer.
    fn answer(&mut self, work: Pin<Box<dyn Future<Output = Event> + Send>>) {
        self.begin(async move { Done::Event(work.await) });
    }

    /// Answers at once, in order behind what is already there.
    fn post(&mut self, event: Event) {
        // The receiver lives in `self`.
        let _ = self.facts_in.send(event);
    }

    fn dial(&mut self, connection: ConnectionId, agent: AgentId) {
        let work = self.world.dial(agent);
        let handle = self.begin(async move {
            match work.await {
                Ok(dialed) => Done::Dialed(connection, agent, dialed),
                Err(failure) => Done::Event(Event::DialFailed { connection, failure }),
            }
        });
        self.dials.insert(connection, handle);
    }

    fn cancel_dial(&mut self, connection: ConnectionId) {
        // An aborted task gives no answer of its own; a finished one has given it already.
        if let Some(handle) = self.dials.remove(&connection) {
            handle.abort();
            self.post(Event::DialFailed { connection, failure: canceled() });
        }
    }

    fn attach(&mut self, connection: ConnectionId) {
        let Some(up) = self.up.get(&connection) else {
            let failure = Failure::new(FailureKind::Transient, "the tunnel is gone");
            self.post(Event::AppAttachFailed(failure));
            return;
        };
        self.usage.agent = Some(up.agent);
        self.app.attaching = true;
        self.app.tunnel.send_replace(Some(Arc::clone(&up.tunnel)));
    }

    fn close_app(&mut self) {
        if self.app.task.is_some() {
            self.app.closing = true;
            self.app.close.send_replace(true);
        } else {
            self.post(Event::AppClosed);
        }
    }

    fn close_tailnet(&mut self, connection: ConnectionId) {
        let dialed = self.up.remove(&connection).and_then(|mut up| {
            up.watcher.abort();
            up.dialed.take()
        });
        self.begin(async move {
            if let Some(dialed) = dialed {
                dialed.close().await;
            }
            Done::Event(Event::TailnetClosed(connection))
        });
    }

    fn answered(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Event> {
        match done {
            Ok(Done::Event(event)) => {
                if let Event::DialFailed { connection, .. } = &event {
                    self.dials.remove(connection);
                }
                Some(event)
            }
            Ok(Done::Dialed(connection, agent, dialed)) => self.dialed(connection, agent, dialed),
            Ok(Done::Lost(connection, text)) => Some(Event::TunnelLost { connection, text }),
            Ok(Done::Nothing) => None,
            // Aborted by us; anything else is a panic, which is not to be swallowed.
            Err(error) if error.is_cancelled() => None,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn dialed(
        &mut self,
        connection: ConnectionId,
        agent: AgentId,
        dialed: Box<dyn Dialed>,
    ) -> Option<Event> {
        if self.dials.remove(&connection).is_none() {
            // Canceled while it succeeded: the answer has been given, the tunnel is closed.
            self.begin(async move {
                dialed.close().await;
                Done::Nothing
            });
            return None;
        }
        self.progress.connected(&dialed.describe());
        let lost = dialed.lost();
        let watcher = self.begin(async move { Done::Lost(connection, lost.await) });
        let tunnel = dialed.tunnel();
        self.up.insert(connection, Up { dialed: Some(dialed), tunnel, agent, watcher });
        Some(Event::DialUp(connection))
    }

    fn app_said(&mut self, event: apps::Event) -> Option<Event> {
        match event {
            apps::Event::Up => {
                self.app.was_up = true;
                self.clock.up(Instant::now());
                self.progress.app_up();
                std::mem::take(&mut self.app.attaching).then_some(Event::AppAttached)
            }
            apps::Event::Opened => {
                self.usage.open += 1;
                self.clock.open(self.usage.open, Instant::now());
                if self.usage.next.is_none() {
                    self.usage.next = Some(Instant::now());
                }
                None
            }
            apps::Event::Closed => {
                self.usage.open = self.usage.open.saturating_sub(1);
                self.clock.open(self.usage.open, Instant::now());
                None
            }
        }
    }

    fn app_ended(&mut self, end: End) -> Event {
        let closing = self.app.closing;
        self.app.attaching = false;
        self.app.tunnel.send_replace(None);
        let end = match end {
            End::Done(code) => AppEnd::Done(code),
            End::Failed(error) => {
                let text = error.to_string();
                let lost = error.kind == Kind::Lost;
                if !closing {
                    self.app_error = Some(error);
                }
                if lost { AppEnd::Lost(text) } else { AppEnd::Failed(text) }
            }
        };
        if closing { Event::AppClosed } else { Event::AppEnded(end) }
    }

    fn signalled(&mut self, signal: Signal) -> Result<Option<Event>, CommandError> {
        if self.signal.is_none() && self.app.was_up && self.app.task.is_some() {
            // A full queue means that the app does not listen: then it is ours.
            if self.app.signals.try_send(signal).is_ok() {
                return Ok(None);
            }
        }
        if self.signal.replace(signal).is_some() {
            return Err(CommandError::msg(
                Kind::Signal(signal.number()),
                "interrupted again, leaving at once",
            ));
        }
        Ok(Some(Event::Shutdown))
    }

    /// Whether a signal or a limit has asked for the end.
    fn is_ending(&self) -> bool {
        self.signal.is_some() || self.over.is_some()
    }

    fn ran_out(&mut self, over: Option<Over>) -> Option<Event> {
        let (step, since) = self.waiting;
        self.over = Some((over?, Waited { step, time: since.elapsed() }));
        Some(Event::Shutdown)
    }

    fn next_timer(&self) -> Option<Instant> {
        self.timers.values().min().copied()
    }

    fn fire(&mut self) -> Option<Event> {
        let now = Instant::now();
        let (&timer, _) = self.timers.iter().find(|(_, due)| **due <= now)?;
        self.timers.remove(&timer);
        Some(Event::TimerFired(timer))
    }

    /// Looks out for another network while the next try waits.
    fn watch_network(&mut self) {
        if !self.timers.keys().any(|timer| is_pause(*timer)) {
            self.network = None;
        } else if self.network.is_none() {
            self.network = Some(self.world.network_changed());
        }
    }

    /// On another network the next try is not waited for.
    fn hurry(&mut self) {
        tracing::debug!("another network");
        self.network = None;
        let now = Instant::now();
        for (_, due) in self.timers.iter_mut().filter(|(timer, _)| is_pause(**timer)) {
            *due = now;
        }
    }

    fn report_usage(&mut self) {
        let usage = &mut self.usage;
        let open = usage.open > 0;
        usage.next = open.then(|| Instant::now() + USAGE_INTERVAL);
        if let (true, true, Some(agent)) = (usage.enabled, open, usage.agent) {
            let report = self.world.report_usage(agent);
            self.begin(async move {
                report.await;
                Done::Nothing
            });
        }
    }

    /// Closes what the tunneler has not: an app that never was attached, a tunnel that came up too
    /// late. The program is about to end, so all of it is bounded.
    async fn end(mut self, exit: Exit) -> Ended {
        self.progress.over();
        self.app.close.send_replace(true);
        let leftovers = std::mem::take(&mut self.up);
        let goodbye = async {
            for (_, mut up) in leftovers {
                if let Some(dialed) = up.dialed.take() {
                    dialed.close().await;
                }
            }
        };
        let app = async {
            if let Some(task) = &mut self.app.task {
                let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
            }
        };
        tokio::join!(goodbye, app);
        // Dials that were under way are given up here, and take their leave.
        self.tasks.shutdown().await;
        self.world.leave().await;
        Ended { exit, app_error: self.app_error, signal: self.signal, over: self.over }
    }
}

impl Running {
    fn start(app: Box<dyn App>, ui: &Ui) -> Self {
        let (tunnel, tunnel_out) = watch::channel(None);
        let (close, close_out) = watch::channel(false);
        // Two: the app asks for the end at the first and ends at once at the second.
        let (signals, signals_out) = mpsc::channel(2);
        let (events_in, events) = mpsc::unbounded_channel();
        let context = apps::Context {
            tunnel: tunnel_out,
            close: close_out,
            signals: signals_out,
            events: events_in,
            ui: ui.clone(),
        };
        let task = Some(tokio::spawn(app.run(context)));
        Self {
            task,
            tunnel,
            close,
            signals,
            events,
            attaching: false,
            closing: false,
            was_up: false,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The end of the app's task; pending once it has been told.
async fn ended(task: &mut Option<JoinHandle<End>>) -> End {
    let Some(handle) = task else { return std::future::pending().await };
    let end = handle.await;
    *task = None;
    match end {
        Ok(end) => end,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => End::Failed(CommandError::msg(Kind::Other, "the application was cut off")),
    }
}

fn canceled() -> Failure {
    Failure::new(FailureKind::Canceled, "canceled")
}

/// A pause before another try, up to a quarter longer than it is: those who lost the same server at
/// the same time are not to come back at the same time.
fn spread(timer: Timer, after: Duration) -> Duration {
    if !is_pause(timer) {
        return after;
    }
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    after + after * u32::from(random) / 1024
}

/// Whether a timer is the pause before another try.
fn is_pause(timer: Timer) -> bool {
    match timer {
        Timer::WatchBackoff | Timer::StartBackoff | Timer::DialBackoff => true,
        Timer::Resync | Timer::AgentPoll | Timer::ScriptsGrace | Timer::Deadline(_) => false,
    }
}

/// Another network; pending where none is looked out for.
async fn another(network: &mut Option<BoxFuture<'static, ()>>) {
    match network {
        Some(changed) => changed.await,
        None => std::future::pending().await,
    }
}

pub(super) async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
