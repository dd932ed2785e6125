//! A session with forwards beside it: `ssh -L`, `-R` and `-D`.
//!
//! The forwards are those of `port-forward`, with its listeners and its ways through the tunnel. The
//! session begins once they are ready, so that a command finds them there, and ends them.

use tokio::sync::{mpsc, watch};

use super::{
    App, BoxFuture, Context, End, Event,
    port_forward::PortForward,
    session::{asked, ended_by},
};
use crate::{error::CommandError, ui::Ui};

/// Both together.
pub struct Accompanied {
    session: Box<dyn App>,
    forwards: Box<PortForward>,
}

impl Accompanied {
    /// Will run this session with these forwards beside it.
    #[must_use]
    pub fn new(session: Box<dyn App>, forwards: PortForward) -> Self {
        Self { session, forwards: Box::new(forwards.beside_a_session()) }
    }
}

impl App for Accompanied {
    fn prepare<'a>(&'a mut self, ui: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            self.session.prepare(ui).await?;
            self.forwards.prepare(ui).await
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(*self, context))
    }
}

async fn run(app: Accompanied, context: Context) -> End {
    let Context { tunnel, mut close, mut signals, events, ui } = context;
    let (told, mut heard) = mpsc::unbounded_channel();
    // They end when this does: nobody asks them to, and signals are the session's.
    let (_stop, stopped) = watch::channel(false);
    let (_nobody, nothing) = mpsc::channel(1);
    let mut forwarding = app.forwards.run(Context {
        tunnel: tunnel.clone(),
        close: stopped,
        signals: nothing,
        events: told,
        ui: ui.clone(),
    });
    loop {
        tokio::select! {
            end = &mut forwarding => return end,
            Some(event) = heard.recv() => match event {
                Event::Up => break,
                Event::Opened | Event::Closed => pass_on(&events, event),
            },
            () = asked(&mut close) => return End::Done(0),
            Some(signal) = signals.recv() => return End::Done(ended_by(signal)),
        }
    }
    let mut session =
        app.session.run(Context { tunnel, close, signals, events: events.clone(), ui });
    loop {
        tokio::select! {
            end = &mut session => return end,
            // Only a failure ends them by itself.
            end = &mut forwarding => return end,
            Some(event) = heard.recv() => match event {
                // It is the session's word that counts.
                Event::Up => {}
                Event::Opened | Event::Closed => pass_on(&events, event),
            },
        }
    }
}

fn pass_on(events: &mpsc::UnboundedSender<Event>, event: Event) {
    // The driver may be gone, and this app is about to be dropped with it.
    let _ = events.send(event);
}
