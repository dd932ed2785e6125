//! Forwards: local ports and sockets that lead to the workspace, and the other way round.
//!
//! All local listeners are bound before the workspace is touched, and stay open until the end: while
//! the tunnel is not there (the workspace starts, or was lost), local connections are accepted
//! and wait for it, for a bounded time. Each connection is carried to the workspace on its own; a
//! dial that fails resets that one connection and says one line.
//!
//! ```text
//! prepare ─► listeners ─► one task each: accept ─► wait for a way ─► connect ─► splice
//! run ─────► attach: a way · listeners in the workspace · remote ends answer ─► `Ready!`
//!            detach: wait
//!            signal or close: listeners shut, drain, done
//!            a command to run under it starts with `Ready!`, gets the signals, and its end is ours
//! ```
//!
//! | module | |
//! | --- | --- |
//! | `bind` | local TCP and UDP ports and Unix sockets |
//! | `way` | a tunnel, and connections through it to ports, hosts and sockets |
//! | `serve`, `socks` | one listener and its connections; those that ask where to go |
//! | `datagrams` | UDP |
//! | `reverse` | listeners in the workspace |
//! | `ready` | whether everything stands |
//! | `probe`, `announce`, `report` | whether the remote ends answer, and who is told that all is ready |

mod announce;
mod bind;
mod datagrams;
mod failures;
mod probe;
mod ready;
mod report;
mod reverse;
mod serve;
mod socks;
mod way;

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    App, BoxFuture, Context, End, Event,
    forward_spec::{Forward, Listen, Place, Port},
    run_under::{self, Command},
};
use crate::{
    error::{CommandError, Kind},
    signal::Signal,
    ui::Ui,
};
pub use announce::Announce;
use announce::Announcer;
use bind::{Bound, To};
use failures::Failures;
use ready::{Ready, Turn, Was};
use reverse::{Reverse, Word};
use way::Way;

/// Connections carried at once over all listeners. Further ones are accepted one per listener and
/// wait, the rest queues in the kernel: a flood costs bounded memory here, and a browser or a test
/// suite never comes near.
const MOST_CONNECTIONS: usize = 4096;

/// How long open connections may go on after the end was asked for: enough to finish an answer
/// that is on its way, short enough for Ctrl-C to feel like one.
const DRAIN: Duration = Duration::from_secs(1);

/// The app behind `port-forward`.
#[derive(Debug)]
pub struct PortForward {
    forwards: Vec<Forward>,
    bound: Bound,
    workspace: String,
    announce: Announce,
    announcer: Option<Announcer>,
    wait_remote: Option<Duration>,
    command: Option<Command>,
    /// Whether it only accompanies a session, which nobody wants to read about.
    beside: bool,
    /// Ports that are safe although the workspace shares this host; `None` where it does not.
    shared_host: Option<&'static [u16]>,
}

impl PortForward {
    /// Will serve these forwards of a workspace, which is named as the user knows it.
    #[must_use]
    pub fn new(forwards: Vec<Forward>, workspace: impl Into<String>) -> Self {
        Self {
            forwards,
            bound: Bound::default(),
            workspace: workspace.into(),
            announce: Announce::default(),
            announcer: None,
            wait_remote: None,
            command: None,
            beside: false,
            shared_host: None,
        }
    }

    /// Tells others, too, that all is ready.
    #[must_use]
    pub fn announcing(mut self, announce: Announce) -> Self {
        self.announce = announce;
        self
    }

    /// Is ready once all places that TCP forwards lead to have answered, and fails when they have
    /// not after this time.
    #[must_use]
    pub fn waiting_for_remote(mut self, limit: Option<Duration>) -> Self {
        self.wait_remote = limit;
        self
    }

    /// The workspace is on this host: a forward that would dial its own listener is refused, but to
    /// these ports, which never leave the tunnel.
    #[must_use]
    pub fn on_shared_host(mut self, inside: &'static [u16]) -> Self {
        self.shared_host = Some(inside);
        self
    }

    /// Runs this command once the forwards are ready; its end is the end.
    #[must_use]
    pub fn with_command(mut self, command: Option<Command>) -> Self {
        self.command = command;
        self
    }

    /// It accompanies a session: nothing is said of what goes as it should, unless there are free
    /// ports to be told.
    #[must_use]
    pub fn beside_a_session(mut self) -> Self {
        self.beside = true;
        self
    }

    fn is_silent(&self) -> bool {
        self.beside && !self.forwards.iter().any(Forward::wants_free_port)
    }

    /// Where TCP forwards lead.
    fn places(&self) -> Vec<Place> {
        let places = self.forwards.iter().filter_map(|forward| match forward {
            Forward::Local(_, place) => Some(place.clone()),
            Forward::Udp(..) | Forward::Socks(_) | Forward::Remote(..) => None,
        });
        places.collect()
    }

    fn reverse(&self) -> Vec<Reverse> {
        let reverse = self.forwards.iter().filter_map(|forward| match forward {
            Forward::Remote(listen, to) => Some(Reverse { listen: listen.clone(), to: to.clone() }),
            Forward::Local(..) | Forward::Udp(..) | Forward::Socks(_) => None,
        });
        reverse.collect()
    }

    /// A connection that came back to the listener that accepted it would be forwarded again, for
    /// ever.
    fn refuse_loops(&self, inside: &[u16]) -> Result<(), CommandError> {
        let bound: Vec<_> = self.bound.listeners.iter().map(|one| one.local.port()).collect();
        let local = self.bound.listeners.iter().filter_map(|one| match &one.to {
            To::Place(place) if place.is_loopback() => place.port(),
            To::Place(_) | To::Socks => None,
        });
        let looping = local.filter(|port| bound.contains(&Some(*port)) && !inside.contains(port));
        let reverse = self.forwards.iter().filter_map(|forward| match forward {
            Forward::Remote(Listen::Port(Port { port, .. }), to)
                if to.is_loopback() && to.port() == Some(*port) =>
            {
                Some(*port)
            }
            Forward::Remote(..) | Forward::Local(..) | Forward::Udp(..) | Forward::Socks(_) => None,
        });
        match looping.chain(reverse).next() {
            None => Ok(()),
            Some(port) => {
                let why = format!(
                    "the workspace is on this host, where port {port} is a listener of this very \
                     forward"
                );
                Err(CommandError::msg(Kind::Local, why)
                    .hint("choose another port for the listener, or 0 for a free one"))
            }
        }
    }
}

impl App for PortForward {
    fn prepare<'a>(&'a mut self, ui: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            bind::allow_many_files();
            if let Some(command) = &self.command {
                command.check()?;
            }
            self.announcer = Some(Announcer::prepare(self.announce.clone())?);
            for forward in &self.forwards {
                self.bound.add(forward, ui).await?;
            }
            if let Some(inside) = self.shared_host {
                self.refuse_loops(inside)?;
            }
            if self.is_silent() {
                return Ok(());
            }
            for bind::Listener { local, to, .. } in &self.bound.listeners {
                match to {
                    To::Place(place) => say_forwarding(ui, local, &place.url()),
                    To::Socks => ui.line(format_args!(
                        "Forwarding 'socks5://{}' locally to wherever it asks for, from the \
                         workspace",
                        local.host_and_port()
                    )),
                }
            }
            for bind::Datagrams { local, to, .. } in &self.bound.datagrams {
                say_forwarding(ui, format_args!("udp://{local}"), &format!("udp://127.0.0.1:{to}"));
            }
            Ok(())
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(*self, context))
    }
}

fn say_forwarding(ui: &Ui, from: impl std::fmt::Display, to: &str) {
    ui.line(format_args!("Forwarding '{from}' locally to '{to}' in the workspace"));
}

/// What the tasks of all forwards share.
#[derive(Clone)]
struct Shared {
    way: watch::Receiver<Option<Arc<Way>>>,
    events: mpsc::UnboundedSender<Event>,
    ui: Ui,
    permits: Arc<Semaphore>,
    failures: Arc<Failures>,
}

impl Shared {
    /// Says that a place, as a URL, could not be reached from the workspace.
    fn not_dialled(&self, place: &str, error: &io::Error) {
        self.failures.tell(&self.ui, &format!("'{place}' in workspace"), error);
    }
}

async fn run(app: PortForward, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    // One that is there already, and that somebody has looked at, counts as one that comes.
    tunnel.mark_changed();
    let (reverse, places) = (app.reverse(), app.places());
    let (beside, silent) = (app.beside, app.is_silent());
    let PortForward { bound, mut command, workspace, mut announcer, wait_remote, .. } = app;
    let forwards = report::local(&bound);
    let (ways, way) = watch::channel(None);
    let shared = Shared {
        way,
        events: events.clone(),
        ui: ui.clone(),
        permits: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        failures: Arc::new(Failures::default()),
    };
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    for listener in bound.listeners {
        serving.spawn(serve::serve(listener, shared.clone(), stopped.clone()).boxed());
    }
    for datagrams in bound.datagrams {
        serving.spawn(datagrams::serve(datagrams, shared.clone(), stopped.clone()).boxed());
    }
    let has_reverse = !reverse.is_empty();
    let mut state = Ready {
        ways,
        count: 0,
        reverse_up: !has_reverse,
        answered: wait_remote.is_none(),
        forwards,
        beside,
        silent,
        was: Was::Never,
    };
    let probing = probe::wait(shared.way.clone(), places, wait_remote.unwrap_or_default());
    tokio::pin!(probing);
    let (told, mut words) = mpsc::unbounded_channel();
    let mut keeping = JoinSet::new();
    if has_reverse {
        keeping.spawn(reverse::keep(reverse, shared.clone(), told).boxed());
    }
    let losses = way::tell_of_losses(shared.way.clone(), tunnel.clone(), ui.clone());
    keeping.spawn(losses.boxed());
    drop((shared, stopped));

    let mut child: Option<run_under::Running> = None;
    let end = loop {
        tokio::select! {
            changed = tunnel.changed() => {
                if changed.is_err() {
                    break End::Done(0);
                }
                let now = tunnel.borrow_and_update().clone();
                // The first time it is up once everything is ready.
                if now.is_some() && state.was != Was::Never {
                    tell(&events, Event::Up);
                }
                state.reverse_up = !has_reverse;
                state.attach(now);
            }
            Some(word) = words.recv() => match word {
                Word::Failed(error) => break End::Failed(error),
                word @ (Word::Up(..) | Word::Down(..)) => {
                    let stands = tunnel.borrow().is_some();
                    state.heard(word, stands, &ui);
                }
            },
            answered = &mut probing, if !state.answered => match answered {
                Ok(()) => state.answered = true,
                Err(error) => break End::Failed(error),
            },
            () = asked(&mut close) => break End::Done(0),
            status = ended(&mut child) => break status.map_or_else(End::Failed, End::Done),
            Some(signal) = signals.recv() => match &child {
                Some(child) => child.signal(signal),
                None => break ended_by(signal, state.was, &ui),
            },
        }
        if state.turn(&ui) == Turn::Ready {
            tell(&events, Event::Up);
            ui.ready(&workspace, &state.forwards);
            if let Some(announcer) = &mut announcer
                && let Err(error) = announcer.ready(&state.line(&workspace), &ui)
            {
                break End::Failed(error);
            }
            if let Some(command) = command.take() {
                match command.start(&report::variables(&state.forwards)) {
                    Ok(running) => child = Some(running),
                    Err(error) => break End::Failed(error),
                }
            }
        }
    };
    if let Some(child) = child.take() {
        child.end().await;
    }
    drop(announcer);
    stop.send_replace(true);
    drain(serving, &mut signals).await;
    end
}

async fn asked(close: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to ask: as good as asking.
    let _ = close.wait_for(|close| *close).await;
}

/// The end of the command; never without one.
async fn ended(child: &mut Option<run_under::Running>) -> Result<u8, CommandError> {
    match child {
        Some(running) => {
            let status = running.status().await;
            *child = None;
            status
        }
        None => std::future::pending().await,
    }
}

/// A driver that no longer listens has ended, and this app is about to be dropped with it.
fn tell(events: &mpsc::UnboundedSender<Event>, event: Event) {
    let _ = events.send(event);
}

fn ended_by(signal: Signal, was: Was, ui: &Ui) -> End {
    ui.line("Received signal, closing all listeners and active connections");
    match was {
        Was::Now | Was::Before => End::Done(0),
        Was::Never => End::Failed(CommandError::msg(
            Kind::Signal(signal.number()),
            "interrupted before the forward was ready",
        )),
    }
}

/// Waits for open connections, until time is up or another signal comes.
async fn drain(mut serving: JoinSet<()>, signals: &mut mpsc::Receiver<Signal>) {
    let ended = async { while serving.join_next().await.is_some() {} };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(DRAIN) => {}
        Some(_) = signals.recv() => {}
    }
}

#[cfg(test)]
mod tests;
