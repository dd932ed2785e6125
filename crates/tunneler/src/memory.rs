//! What is remembered of the workspace, and which news is too old to be believed.
//!
//! Sources overtake each other: a REST read that began before a build finished may arrive after
//! the watch has told of it. So a build is believed unless it is older than one that is known, by
//! number where there is one and by how far the job is where it is the same build. A build without
//! a number (the watch tells none) is taken for the latest there is.
//!
//! Each build makes new agents, so an agent known from before a new build is kept in mind (its
//! tunnel may be up) but no longer *current*, until the server names it again after that build's
//! success.

use crate::{
    AgentId, AgentProblem, AgentRecord, AgentStatus, Agents, Build, BuildNumber, JobStatus,
    Lifecycle, Outcome, Snapshot, Transition,
};

/// What is remembered of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The latest build; its status is never `Unknown`.
    pub(crate) build: Option<Build>,
    /// Whether builds have moved on since the first that was told: what fails now, fails under
    /// our eyes.
    pub(crate) moved: bool,
    /// The agent that was named last.
    pub(crate) agent: Option<Agent>,
    /// Why no agent can be chosen.
    pub(crate) problem: Option<AgentProblem>,
    /// Whether the workspace is dormant.
    pub(crate) dormant: bool,
    /// Why the server does not let us go on.
    pub(crate) barrier: Option<Barrier>,
    /// Whether a whole read has been told.
    pub(crate) read: bool,
    /// The highest build number ever told.
    highest: Option<BuildNumber>,
    /// Whether the latest build is known only from the answer to our own start request.
    assumed: bool,
}

/// What is remembered of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) lifecycle: Lifecycle,
    /// `None` until a record was read.
    pub(crate) status: Option<AgentStatus>,
    /// `None` until a record was read.
    pub(crate) blocks_login: Option<bool>,
    /// Whether it is the latest build's, as far as is known.
    pub(crate) current: bool,
}

/// Why the server does not let us go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The workspace is deleted.
    Gone,
    /// The token is refused.
    Login,
    /// No access.
    Access,
    /// No news is to be had: in the way of waiting, not of dialling.
    Deaf(Outcome),
}

impl Memory {
    /// The latest build's agent.
    pub(crate) fn current(&self) -> Option<&Agent> {
        self.agent.as_ref().filter(|agent| agent.current)
    }

    pub(crate) fn learn_build(&mut self, build: Build) {
        if build.status == JobStatus::Unknown || self.is_old(&build) {
            return;
        }
        let new = self.is_new(&build);
        if new {
            self.moved = true;
            self.problem = None;
            if let Some(agent) = &mut self.agent {
                agent.current = false;
            }
        }
        self.moved |= self.build.as_ref().is_some_and(|known| known.status != build.status);
        self.assumed = false;
        self.highest = self.highest.max(build.number);
        let known = self.build.take().filter(|_| !new);
        let number = build.number.or(known.as_ref().and_then(|known| known.number));
        let error = build.error.or(known.and_then(|known| known.error));
        self.build = Some(Build { number, error, ..build });
    }

    /// Our own start request was accepted: a start build with this number is pending, at least.
    pub(crate) fn learn_start(&mut self, number: BuildNumber) {
        self.moved = true;
        if self.highest >= Some(number) {
            return;
        }
        match &mut self.build {
            // The watch was quicker than the answer.
            Some(build) if build.transition == Transition::Start && build.number.is_none() => {
                build.number = Some(number);
                self.highest = Some(number);
            }
            Some(_) | None => {
                let build = Build::new(Transition::Start, JobStatus::Pending);
                self.learn_build(build.numbered(number.0));
                self.assumed = true;
            }
        }
    }

    pub(crate) fn learn_agent(&mut self, id: AgentId, lifecycle: Lifecycle) {
        self.problem = None;
        let succeeded = self.build.as_ref().is_none_or(|build| {
            build.transition == Transition::Start && build.status == JobStatus::Succeeded
        });
        match &mut self.agent {
            Some(agent) if agent.id == id => {
                agent.current |= succeeded;
                if lifecycle != Lifecycle::Unknown {
                    agent.lifecycle = lifecycle;
                }
            }
            Some(_) | None => {
                let (status, blocks_login) = (None, None);
                self.agent = Some(Agent { id, lifecycle, status, blocks_login, current: true });
            }
        }
    }

    pub(crate) fn learn_problem(&mut self, problem: AgentProblem) {
        self.problem = Some(problem);
        if let Some(agent) = &mut self.agent {
            agent.current = false;
        }
    }

    /// A record tells about an agent, it does not choose one.
    pub(crate) fn learn_record(&mut self, record: &AgentRecord) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.id == record.id) else {
            return;
        };
        agent.blocks_login = Some(record.blocks_login);
        if record.status != AgentStatus::Unknown || agent.status.is_none() {
            agent.status = Some(record.status);
        }
        // A record read before the watch told of the end of the scripts must not undo that.
        let overtaken = progress(record.lifecycle) < progress(agent.lifecycle)
            && !agent.lifecycle.is_shutdown();
        if !overtaken {
            agent.lifecycle = record.lifecycle;
        }
    }

    /// A whole read: it lifts what barred the way, and replaces what was known unless that is
    /// newer.
    pub(crate) fn learn_snapshot(&mut self, snapshot: Snapshot) {
        self.read = true;
        self.barrier = None;
        if self.is_old(&snapshot.build) {
            return;
        }
        self.learn_build(snapshot.build);
        self.dormant = snapshot.dormant;
        match snapshot.agents {
            Agents::Untold => {}
            Agents::One(record) => {
                self.problem = None;
                let before = self.agent.filter(|agent| agent.id == record.id);
                let lifecycle = before
                    .filter(|_| record.lifecycle == Lifecycle::Unknown)
                    .map_or(record.lifecycle, |agent| agent.lifecycle);
                self.agent = Some(Agent {
                    id: record.id,
                    lifecycle,
                    status: Some(record.status),
                    blocks_login: Some(record.blocks_login),
                    current: true,
                });
            }
            Agents::Problem(problem) => self.learn_problem(problem),
        }
    }

    /// Whether this is older than what is known.
    fn is_old(&self, told: &Build) -> bool {
        let Some(known) = &self.build else { return false };
        match (told.number, self.highest) {
            (Some(number), Some(highest)) if number < highest => true,
            (Some(number), Some(highest)) if number == highest => match known.number {
                // The watch has told of a build after that one.
                None => true,
                Some(_) => {
                    known.transition == told.transition
                        && told.status != JobStatus::Unknown
                        && rank(told.status) < rank(known.status)
                }
            },
            (Some(_), _) => false,
            // Nothing but a start can be news right after our own start was accepted; a stop is
            // the one that we started from, told late.
            (None, _) => self.assumed && told.transition != Transition::Start,
        }
    }

    /// Whether this, which is not old, is another build than the one that is known.
    fn is_new(&self, told: &Build) -> bool {
        let Some(known) = &self.build else { return false };
        if let (Some(told), Some(known)) = (told.number, known.number) {
            return told != known;
        }
        known.transition != told.transition
            || rank(told.status) < rank(known.status)
            || (rank(known.status) == ENDED && told.status != known.status)
    }
}

/// How far a job is.
const fn rank(status: JobStatus) -> u8 {
    match status {
        JobStatus::Unknown | JobStatus::Pending => 0,
        JobStatus::Running => 1,
        JobStatus::Canceling => 2,
        JobStatus::Succeeded | JobStatus::Failed | JobStatus::Canceled => ENDED,
    }
}

/// The rank of a job that has ended.
const ENDED: u8 = 3;

/// How far an agent's life is.
const fn progress(lifecycle: Lifecycle) -> u8 {
    match lifecycle {
        Lifecycle::Unknown | Lifecycle::Created => 0,
        Lifecycle::Starting => 1,
        Lifecycle::StartTimeout | Lifecycle::StartError | Lifecycle::Ready => 2,
        Lifecycle::ShuttingDown
        | Lifecycle::ShutdownTimeout
        | Lifecycle::ShutdownError
        | Lifecycle::Off => 3,
    }
}
