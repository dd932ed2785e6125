//! The state machine's outside.

use crate::{Action, Config, Event, State};

/// The state machine. See the crate's header.
#[derive(Debug)]
pub struct Tunneler {
    config: Config,
    state: State,
}

impl Tunneler {
    /// A tunneler and what must be done first.
    #[must_use]
    pub fn new(config: Config) -> (Self, Vec<Action>) {
        (Self { config, state: State::Init }, vec![Action::OpenWatch])
    }

    /// Takes one event and returns what must be done, in this order.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let _ = (&self.config, event);
        Vec::new()
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }
}
