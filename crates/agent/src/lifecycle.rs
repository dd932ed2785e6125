//! What the agent has been through, and what of it the server knows.
//!
//! The [`Lifecycle`] itself is pure; it lives in a [`Handle`], whose watchers wait for conditions
//! on it instead of for wake-ups, so that no wake-up can be lost. One [`report`] at a time sends
//! what is pending, and only it moves the mark of what the server has acknowledged.

use std::time::{Duration, SystemTime};

use coderctl_drpc::{
    Client, RpcError,
    proto::{agent as proto, rpc::agent as rpc},
};
use tokio::sync::watch;

/// A stage of the agent's life, in the order in which they may follow each other; stages may be
/// skipped (`codersdk/workspaceagents.go`, `WorkspaceAgentLifecycleOrder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Created,
    Starting,
    StartTimeout,
    StartError,
    Ready,
    ShuttingDown,
    ShutdownTimeout,
    ShutdownError,
    Off,
}

impl State {
    fn to_proto(self) -> proto::lifecycle::State {
        use proto::lifecycle::State as Proto;
        match self {
            Self::Created => Proto::Created,
            Self::Starting => Proto::Starting,
            Self::StartTimeout => Proto::StartTimeout,
            Self::StartError => Proto::StartError,
            Self::Ready => Proto::Ready,
            Self::ShuttingDown => Proto::ShuttingDown,
            Self::ShutdownTimeout => Proto::ShutdownTimeout,
            Self::ShutdownError => Proto::ShutdownError,
            Self::Off => Proto::Off,
        }
    }
}

/// A stage, and when it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) changed_at: SystemTime,
}

/// An entry on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    index: usize,
    pub(crate) entry: Entry,
}

/// Least time between two entries: what a database of milliseconds tells apart.
const STEP: Duration = Duration::from_millis(1);

/// The stages reached so far, from `created` on, and how many of them the server has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    entries: Vec<Entry>,
    /// Index of the last acknowledged entry. The first entry counts as acknowledged: rows begin so.
    acknowledged: usize,
    /// The whole life is to be told again, to another row.
    replay: bool,
}

impl Lifecycle {
    pub(crate) fn new(now: SystemTime) -> Self {
        let created = Entry { state: State::Created, changed_at: now };
        Self { entries: vec![created], acknowledged: 0, replay: false }
    }

    /// The latest stage.
    pub(crate) fn state(&self) -> State {
        self.last().state
    }

    /// Enters a stage. Whether it was: stages only go up.
    pub(crate) fn enter(&mut self, state: State, now: SystemTime) -> bool {
        let last = self.last();
        if state <= last.state {
            return false;
        }
        // Strictly later than the last, even if the clock was set back.
        let changed_at = now.max(last.changed_at + STEP);
        self.entries.push(Entry { state, changed_at });
        true
    }

    /// Asks for the whole life to be told again, because the server has given us another row.
    /// Takes effect between two reports.
    pub(crate) fn request_replay(&mut self) {
        self.replay = true;
    }

    /// Whether the server has not been told everything.
    pub(crate) fn is_pending(&self) -> bool {
        self.replay || self.acknowledged + 1 < self.entries.len()
    }

    /// What to tell next. Only while no report is on its way.
    ///
    /// A replay gives each entry a new time, so that none is older than the row it goes to.
    pub(crate) fn next_report(&mut self, now: SystemTime) -> Option<Report> {
        if std::mem::take(&mut self.replay) {
            let mut at = now;
            for entry in &mut self.entries[1..] {
                entry.changed_at = at;
                at += STEP;
            }
            self.acknowledged = 0;
        }
        let index = self.acknowledged + 1;
        self.entries.get(index).map(|entry| Report { index, entry: *entry })
    }

    /// The server has taken this report.
    pub(crate) fn acknowledge(&mut self, report: Report) {
        debug_assert_eq!(report.index, self.acknowledged + 1, "reports go in order");
        self.acknowledged = report.index;
    }

    fn last(&self) -> Entry {
        // Never empty.
        self.entries[self.entries.len() - 1]
    }
}

/// A life that several tasks look at.
#[derive(Debug)]
pub(crate) struct Handle(watch::Sender<Lifecycle>);

impl Handle {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Lifecycle::new(SystemTime::now())))
    }

    /// The latest stage.
    pub(crate) fn state(&self) -> State {
        self.0.borrow().state()
    }

    /// Enters a stage, if that is a step up.
    pub(crate) fn enter(&self, state: State) {
        self.0.send_if_modified(|life| {
            let entered = life.enter(state, SystemTime::now());
            if !entered {
                tracing::warn!(from = ?life.state(), to = ?state, "stages of life only go up");
            }
            entered
        });
    }

    /// See [`Lifecycle::request_replay`]. Never waits.
    pub(crate) fn request_replay(&self) {
        self.0.send_modify(Lifecycle::request_replay);
    }

    /// Waits until the server knows everything.
    pub(crate) async fn settled(&self) {
        let mut life = self.0.subscribe();
        // The sender is ours, so it cannot fail.
        let _ = life.wait_for(|life| !life.is_pending()).await;
    }
}

/// Reports what is pending, now and whenever there is more, one by one and in order. For one task
/// at a time, and only over a connection whose manifest is known: before that it may belong to
/// another row.
///
/// # Errors
/// The first call that fails. What it was about stays pending.
pub(crate) async fn report(handle: &Handle, client: &Client) -> Result<(), RpcError> {
    let mut life = handle.0.subscribe();
    loop {
        // The guard is taken before going to sleep: pending work is never slept over.
        let _ = life.wait_for(Lifecycle::is_pending).await;
        let mut next = None;
        handle.0.send_if_modified(|life| {
            next = life.next_report(SystemTime::now());
            false
        });
        let Some(report) = next else { continue };
        let lifecycle = proto::Lifecycle {
            state: report.entry.state.to_proto().into(),
            changed_at: Some(report.entry.changed_at.into()),
        };
        tracing::debug!(state = ?report.entry.state, "reporting");
        let request = proto::UpdateLifecycleRequest { lifecycle: Some(lifecycle) };
        let _: proto::Lifecycle = client.unary(rpc::UPDATE_LIFECYCLE, &request).await?;
        handle.0.send_modify(|life| life.acknowledge(report));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [State; 9] = [
        State::Created,
        State::Starting,
        State::StartTimeout,
        State::StartError,
        State::Ready,
        State::ShuttingDown,
        State::ShutdownTimeout,
        State::ShutdownError,
        State::Off,
    ];

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// Sends everything that is pending.
    fn drain(life: &mut Lifecycle, now: u64) -> Vec<(State, SystemTime)> {
        let mut sent = Vec::new();
        while let Some(report) = life.next_report(at(now)) {
            sent.push((report.entry.state, report.entry.changed_at));
            life.acknowledge(report);
        }
        sent
    }

    #[test]
    fn only_steps_up_are_taken() {
        for (i, from) in STATES.into_iter().enumerate() {
            for (j, to) in STATES.into_iter().enumerate() {
                let mut life = Lifecycle::new(at(0));
                life.enter(from, at(1));
                assert_eq!(life.enter(to, at(2)), j > i, "{from:?} to {to:?}");
                assert_eq!(life.state(), STATES[i.max(j)]);
            }
        }
    }

    #[test]
    fn nothing_is_told_twice_and_created_never() {
        let mut life = Lifecycle::new(at(0));
        assert!(!life.is_pending());
        assert_eq!(life.next_report(at(0)), None);
        life.enter(State::Starting, at(10));
        life.enter(State::Ready, at(20));
        assert!(life.is_pending());
        let told = drain(&mut life, 30);
        assert_eq!(told, [(State::Starting, at(10)), (State::Ready, at(20))]);
        assert!(!life.is_pending());
        assert_eq!(drain(&mut life, 40), []);
    }

    /// L9: what was not acknowledged is pending without any wake-up.
    #[test]
    fn a_failed_report_stays_pending() {
        let mut life = Lifecycle::new(at(0));
        life.enter(State::Starting, at(10));
        let first = life.next_report(at(10));
        life.enter(State::Ready, at(20));
        assert!(life.is_pending());
        assert_eq!(life.next_report(at(30)), first, "the same again");
        let told: Vec<State> = drain(&mut life, 30).into_iter().map(|(state, _)| state).collect();
        assert_eq!(told, [State::Starting, State::Ready]);
    }

    /// TestReportLifecycleRewindReplaysAndRefreshes, L5.
    #[test]
    fn a_replay_tells_the_whole_chain_with_new_times() {
        let mut life = Lifecycle::new(at(0));
        life.enter(State::Starting, at(10));
        life.enter(State::StartError, at(20));
        drain(&mut life, 30);
        life.request_replay();
        assert!(life.is_pending());
        let told = drain(&mut life, 1000);
        assert_eq!(told, [(State::Starting, at(1000)), (State::StartError, at(1001))]);
        assert!(life.enter(State::ShuttingDown, at(1000)));
        assert_eq!(drain(&mut life, 1000), [(State::ShuttingDown, at(1002))], "strictly later");
    }

    /// L10: a replay that breaks off goes on where it was, unless another one is asked for.
    #[test]
    fn a_replay_goes_on_where_it_broke_off() {
        let mut life = Lifecycle::new(at(0));
        life.enter(State::Starting, at(10));
        life.enter(State::Ready, at(20));
        drain(&mut life, 30);
        life.request_replay();
        let first = life.next_report(at(1000)).expect("the first entry");
        life.acknowledge(first);
        let second = life.next_report(at(1000));
        assert_eq!(second.map(|report| report.entry.state), Some(State::Ready));
        // That report fails; the next connection goes on.
        assert_eq!(drain(&mut life, 2000), [(State::Ready, at(1001))]);
    }

    #[test]
    fn a_replay_of_nothing_is_nothing() {
        let mut life = Lifecycle::new(at(0));
        life.request_replay();
        assert_eq!(life.next_report(at(5)), None);
        assert!(!life.is_pending());
    }

    /// L13: requests are not queued, so they cannot fill anything.
    #[test]
    fn many_requests_are_one_replay() {
        let mut life = Lifecycle::new(at(0));
        life.enter(State::Starting, at(10));
        for _ in 0..1000 {
            life.request_replay();
        }
        assert_eq!(drain(&mut life, 50), [(State::Starting, at(50))]);
        assert!(!life.is_pending());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(usize),
        Replay,
        /// A report that the server takes, or not.
        Send(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..STATES.len()).prop_map(Step::Enter),
            Just(Step::Replay),
            any::<bool>().prop_map(Step::Send),
        ]
    }

    proptest! {
        /// L8, L11: between two replays each row hears a chain without gaps, in order, with
        /// strictly increasing times; at the end the latest row knows everything.
        #[test]
        fn chains_have_no_gaps(steps in prop::collection::vec(step(), 0..60)) {
            let mut life = Lifecycle::new(at(0));
            let mut row: Vec<Entry> = Vec::new();
            let mut entered = Vec::new();
            let mut now = 1;
            for step in steps.into_iter().chain((0..20).map(|_| Step::Send(true))) {
                now += 1;
                match step {
                    Step::Enter(index) => {
                        if life.enter(STATES[index], at(now)) {
                            entered.push(STATES[index]);
                        }
                    }
                    Step::Replay => {
                        life.request_replay();
                        row.clear();
                    }
                    Step::Send(taken) => {
                        let Some(report) = life.next_report(at(now)) else { continue };
                        if taken {
                            let later = row.last().is_none_or(|last| {
                                last.state < report.entry.state
                                    && last.changed_at + STEP <= report.entry.changed_at
                            });
                            prop_assert!(later, "{row:?} then {report:?}");
                            row.push(report.entry);
                            life.acknowledge(report);
                        }
                    }
                }
            }
            let told: Vec<State> = row.iter().map(|entry| entry.state).collect();
            prop_assert_eq!(told, entered);
            prop_assert!(!life.is_pending());
        }
    }
}
