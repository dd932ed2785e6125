//! A host that somebody looks after while time passes.

use std::time::Duration;

use coderctl_tcp::{Id, Tcp, Time};

/// Longer than any connection lasts whose other end is silent.
const SILENCE: Duration = Duration::from_secs(300);

/// A host, the time, and who takes what comes out of it.
pub(crate) trait Attended {
    fn parts(&mut self) -> (&mut Tcp, &mut Time);

    /// Takes what has come out.
    fn collect(&mut self);

    /// Lets time pass: timers go off in their order.
    fn wait(&mut self, time: Duration) {
        let until = *self.parts().1 + time;
        loop {
            let (tcp, now) = self.parts();
            let Some(at) = tcp.next_deadline().filter(|at| *at <= until) else { break };
            *now = at.max(*now);
            tcp.handle_timeout(*now);
            self.collect();
        }
        *self.parts().1 = until;
    }

    /// The application leaves, and the other end falls silent. Whatever state this met, no connection
    /// is to be left.
    fn fall_silent(&mut self) {
        let (tcp, now) = self.parts();
        let all: Vec<Id> = tcp.ids().collect();
        all.into_iter().for_each(|id| tcp.release(id, *now));
        self.collect();
        self.wait(SILENCE);
    }
}
