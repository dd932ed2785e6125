//! Local ports that lead to ports of the workspace.
//!
//! All listeners are bound before the workspace is touched, and stay open until the end: while
//! the tunnel is not there (the workspace starts, or was lost), local connections are accepted
//! and wait for it, for a bounded time. Each connection is spliced to the workspace on its own; a
//! dial that fails resets that one connection and says one line.
//!
//! ```text
//! prepare ─► listeners ─► one task each: accept ─► wait for a tunnel ─► splice
//! run ─────► attach: `Ready!` · detach: wait · signal or close: listeners shut, drain, done
//!            a command to run under it starts with `Ready!`, gets the signals, and its end is ours
//! ```

mod bind;
mod failures;
mod serve;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    App, BoxFuture, Context, End, Event, Tunnel,
    forward_spec::Forward,
    run_under::{self, Command},
};
use crate::{
    error::{CommandError, Kind},
    signal::Signal,
    ui::Ui,
};
use bind::Listener;
use failures::Failures;

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
    listeners: Vec<Listener>,
    command: Option<Command>,
    /// Ports that are safe although the workspace shares this host; `None` where it does not.
    shared_host: Option<&'static [u16]>,
}

impl PortForward {
    /// Will serve these forwards.
    #[must_use]
    pub fn new(forwards: Vec<Forward>) -> Self {
        Self { forwards, listeners: Vec::new(), command: None, shared_host: None }
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

    /// The local addresses that are bound, each with its port in the workspace; empty before
    /// [`prepare`](App::prepare).
    #[must_use]
    pub fn bound(&self) -> Vec<(std::net::SocketAddr, u16)> {
        self.listeners.iter().map(|listener| (listener.local, listener.remote)).collect()
    }
}

impl App for PortForward {
    fn prepare<'a>(&'a mut self, ui: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            bind::allow_many_files();
            for &forward in &self.forwards {
                self.listeners.extend(bind::bind(forward, ui).await?);
            }
            if let Some(inside) = self.shared_host {
                refuse_loops(&self.bound(), inside)?;
            }
            for Listener { local, remote, .. } in &self.listeners {
                ui.line(format_args!(
                    "Forwarding 'tcp://{local}' locally to 'tcp://127.0.0.1:{remote}' in the \
                     workspace"
                ));
            }
            Ok(())
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(self.listeners, self.command, context))
    }
}

/// A connection that came back to the listener that accepted it would be forwarded again, for ever.
fn refuse_loops(bound: &[(std::net::SocketAddr, u16)], inside: &[u16]) -> Result<(), CommandError> {
    let is_bound = |port: u16| bound.iter().any(|(local, _)| local.port() == port);
    let mut remotes = bound.iter().map(|(_, remote)| *remote);
    match remotes.find(|remote| is_bound(*remote) && !inside.contains(remote)) {
        None => Ok(()),
        Some(remote) => {
            let why = format!(
                "the workspace is on this host, where port {remote} is a listener of this very \
                 forward"
            );
            Err(CommandError::msg(Kind::Local, why)
                .hint(format!("choose another local port: --tcp 0:{remote}")))
        }
    }
}

/// What the task of a listener shares with all others.
#[derive(Clone)]
struct Shared {
    tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    events: mpsc::UnboundedSender<Event>,
    ui: Ui,
    permits: Arc<Semaphore>,
    failures: Arc<Failures>,
}

async fn run(listeners: Vec<Listener>, mut command: Option<Command>, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let ports = listeners.iter().map(|listener| (listener.local.port(), listener.remote));
    let variables = run_under::variables(ports);
    let mut child: Option<run_under::Running> = None;
    let shared = Shared {
        tunnel: tunnel.clone(),
        events: events.clone(),
        ui: ui.clone(),
        permits: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        failures: Arc::new(Failures::default()),
    };
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(serve::serve(listener, shared.clone(), stopped.clone()));
    }
    drop((shared, stopped));

    let mut attached = Attached::Never;
    let end = loop {
        let up = tunnel.borrow_and_update().is_some();
        attached = attached.turn(up, &ui, &events);
        if up && let Some(command) = command.take() {
            match command.start(&variables) {
                Ok(running) => child = Some(running),
                Err(error) => break End::Failed(error),
            }
        }
        tokio::select! {
            changed = tunnel.changed() => if changed.is_err() { break End::Done(0) },
            () = asked(&mut close) => break End::Done(0),
            status = ended(&mut child) => break status.map_or_else(End::Failed, End::Done),
            Some(signal) = signals.recv() => match &child {
                Some(child) => child.signal(signal),
                None => break ended_by(signal, &attached, &ui),
            },
        }
    };
    if let Some(child) = child.take() {
        child.end().await;
    }
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

/// Whether a tunnel is, or was, there.
enum Attached {
    Never,
    Now,
    Before,
}

impl Attached {
    fn turn(self, up: bool, ui: &Ui, events: &mpsc::UnboundedSender<Event>) -> Self {
        match (self, up) {
            (Self::Never, false) => Self::Never,
            (Self::Never, true) => {
                ui.line("Ready!");
                report(events, Event::Up);
                Self::Now
            }
            (Self::Now, true) => {
                // Another tunnel in place of the last, without a gap between.
                report(events, Event::Up);
                Self::Now
            }
            (Self::Now | Self::Before, false) => Self::Before,
            (Self::Before, true) => {
                ui.line("Ready again");
                report(events, Event::Up);
                Self::Now
            }
        }
    }
}

/// A driver that no longer listens has ended, and this app is about to be dropped with it.
fn report(events: &mpsc::UnboundedSender<Event>, event: Event) {
    let _ = events.send(event);
}

fn ended_by(signal: Signal, attached: &Attached, ui: &Ui) -> End {
    ui.line("Received signal, closing all listeners and active connections");
    match attached {
        Attached::Now | Attached::Before => End::Done(0),
        Attached::Never => End::Failed(CommandError::msg(
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
