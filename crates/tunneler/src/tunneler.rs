//! The state machine's outside.

use crate::{Action, Config, Event, Policy, State, Step, own::Own, upstream::Upstream};

/// The state machine. See the crate's header for how it must be driven.
#[derive(Debug)]
pub struct Tunneler(Machine);

/// Two machines with the same states, events and actions.
#[derive(Debug)]
enum Machine {
    /// `Follow` and `Once`.
    Own(Box<Own>),
    /// `Compatibility`.
    Upstream(Box<Upstream>),
}

impl Tunneler {
    /// A tunneler, and what must be done first.
    #[must_use]
    pub fn new(config: Config) -> (Self, Vec<Action>) {
        match config.policy {
            Policy::Follow | Policy::Once => {
                let (own, first) = Own::new(config);
                (Self(Machine::Own(Box::new(own))), first)
            }
            Policy::Compatibility => {
                let (upstream, first) = Upstream::new(config);
                (Self(Machine::Upstream(Box::new(upstream))), first)
            }
        }
    }

    /// Takes one event, and returns what must be done, in this order, before the next event.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        match &mut self.0 {
            Machine::Own(own) => own.handle(event),
            Machine::Upstream(upstream) => upstream.handle(event),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        match &self.0 {
            Machine::Own(own) => own.state(),
            Machine::Upstream(upstream) => upstream.state(),
        }
    }

    /// The step that it waits for, which may have a deadline; none while the application is up or
    /// the end is near. The Go client's table has no steps.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Step> {
        match &self.0 {
            Machine::Own(own) => own.waiting_for(),
            Machine::Upstream(_) => None,
        }
    }
}
