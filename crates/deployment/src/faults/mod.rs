//! Faults to inject, for tests: off unless asked for, and then only through a Unix socket that
//! its owner alone may open ([`control`]).
//!
//! ```text
//!   control socket ─► Faults ─┬─ table of armed faults (pure) ◄─ rpc, pubsub, http, provisioner ask it
//!                             └─ live sessions and streams, to be cut
//! ```
//!
//! Restarting the server on the same state needs nothing of this: stop it, and start another.

pub mod control;
pub mod http;
mod table;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

pub use table::{AnswerFault, ArmError, Armed, CallFault, EventFault, Fault, MAX_ARMED, Table};

use crate::{model::Transition, pubsub::Fate};

/// The faults that were asked for. Cheap to clone; without an injector, nothing ever fails.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    table: Mutex<Table>,
    /// Told when something is disarmed.
    disarmed: watch::Sender<()>,
    live: Mutex<Live>,
}

/// What can be cut, by number.
#[derive(Debug, Default)]
struct Live {
    last: u64,
    things: BTreeMap<u64, (Thing, oneshot::Sender<()>)>,
}

/// Something that can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// The Agent API session of this agent.
    Session(Uuid),
    /// A stream, event or WebSocket, by its request's path.
    Stream(String),
}

impl Faults {
    /// No faults, and no way to ask for them.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// No faults yet.
    #[must_use]
    pub fn injector() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether faults can be asked for.
    #[must_use]
    pub fn is_injector(&self) -> bool {
        self.0.is_some()
    }

    /// Arms a fault and says by which number it is disarmed.
    ///
    /// # Errors
    /// When it makes no sense, there are enough, or this is no injector.
    pub fn arm(&self, fault: Fault) -> Result<u64, ArmError> {
        let inner = self.0.as_ref().ok_or(ArmError::Senseless("faults are not enabled"))?;
        inner.table().arm(fault)
    }

    /// Disarms one, or all; says how many.
    pub fn disarm(&self, id: Option<u64>) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let count = inner.table().disarm(id);
        inner.disarmed.send_replace(());
        count
    }

    /// What is armed.
    #[must_use]
    pub fn list(&self) -> Vec<Armed> {
        self.0.as_ref().map(|inner| inner.table().list().cloned().collect()).unwrap_or_default()
    }

    /// Ends the Agent API sessions of this agent, or of all; says how many.
    pub fn drop_sessions(&self, agent: Option<Uuid>) -> usize {
        self.cut(|thing| match thing {
            Thing::Session(of) => agent.is_none_or(|id| id == *of),
            Thing::Stream(_) => false,
        })
    }

    /// Cuts the streams whose request's path begins so; says how many.
    pub fn cut_streams(&self, path: &str) -> usize {
        self.cut(|thing| match thing {
            Thing::Session(_) => false,
            Thing::Stream(of) => of.starts_with(path),
        })
    }

    fn cut(&self, fits: impl Fn(&Thing) -> bool) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let mut live = inner.live();
        let cut: Vec<u64> = live
            .things
            .iter()
            .filter(|(_, (thing, _))| fits(thing))
            .map(|(number, _)| *number)
            .collect();
        for number in &cut {
            if let Some((_, told)) = live.things.remove(number) {
                // One that ends at this moment need not be told.
                let _ = told.send(());
            }
        }
        cut.len()
    }

    /// How an agent's call fails, if it does.
    pub(crate) fn call(&self, rpc: &str, agent: Uuid) -> Option<CallFault> {
        let method = rpc.rsplit('/').next().unwrap_or(rpc);
        self.0.as_ref()?.table().call(method, agent)
    }

    /// Waits as long as this job is held.
    pub(crate) async fn held(&self, workspace: Uuid, transition: Transition) {
        let Some(inner) = &self.0 else { return };
        let mut disarmed = inner.disarmed.subscribe();
        while inner.table().holds(workspace, transition) {
            // The sender is in `inner`.
            if disarmed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The id that an agent's manifest names.
    pub(crate) fn agent_id(&self, agent: Uuid) -> Uuid {
        self.0.as_ref().map_or(agent, |inner| inner.table().agent_id(agent))
    }

    /// What becomes of an event.
    pub(crate) fn fate(&self, channel: &str) -> Fate {
        match self.0.as_ref().and_then(|inner| inner.table().event(channel)) {
            None => Fate::Deliver,
            Some(EventFault::Drop) => Fate::Drop,
            Some(EventFault::Duplicate) => Fate::Duplicate,
        }
    }

    /// How a request is answered, if not as it should.
    pub(crate) fn answer(&self, method: &str, path: &str) -> Option<AnswerFault> {
        self.0.as_ref()?.table().answer(method, path)
    }

    /// Makes something known that can be cut.
    pub(crate) fn live(&self, thing: impl FnOnce() -> Thing) -> Cuttable {
        let Some(inner) = &self.0 else { return Cuttable(None) };
        let (told, cut) = oneshot::channel();
        let mut live = inner.live();
        live.last += 1;
        let number = live.last;
        live.things.insert(number, (thing(), told));
        drop(live);
        Cuttable(Some((Arc::clone(inner), number, cut)))
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole at every moment, so that a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that can be cut; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Cuttable(Option<(Arc<Inner>, u64, oneshot::Receiver<()>)>);

impl Cuttable {
    /// When it is to be cut; for ever if nobody can ask for that. Cancel safe.
    pub(crate) async fn cut(&mut self) {
        if let Some((_, _, cut)) = &mut self.0
            && cut.await.is_ok()
        {
            // It is not to be polled again.
            self.0 = None;
            return;
        }
        std::future::pending().await
    }
}

impl Drop for Cuttable {
    fn drop(&mut self) {
        if let Some((inner, number, _)) = self.0.take() {
            inner.live().things.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use futures_util::FutureExt;

    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn without_an_injector_nothing_fails() {
        let faults = Faults::none();
        let hold = Fault::HoldJob { workspace: None, transition: None };
        assert!(faults.arm(hold).is_err());
        faults.held(A, Transition::Start).await;
        assert_eq!(faults.call("/coder.agent.v2.Agent/GetManifest", A), None);
        assert_eq!(faults.agent_id(A), A);
        let mut thing = faults.live(|| Thing::Session(A));
        assert_eq!(faults.drop_sessions(None), 0);
        assert!(thing.cut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_job_goes_on_when_it_is_not_held_any_more() {
        let faults = Faults::injector();
        let id = faults.arm(Fault::HoldJob { workspace: Some(A), transition: None }).unwrap();
        faults.held(B, Transition::Start).await;
        let mut held = std::pin::pin!(faults.held(A, Transition::Start));
        assert!(held.as_mut().now_or_never().is_none());
        assert_eq!(faults.disarm(Some(id)), 1);
        held.await;
    }

    #[tokio::test]
    async fn what_is_cut_is_told_and_what_is_gone_is_forgotten() {
        let faults = Faults::injector();
        let mut a = faults.live(|| Thing::Session(A));
        let mut b = faults.live(|| Thing::Session(B));
        let mut watch = faults.live(|| Thing::Stream("/api/v2/workspaces/x/watch".to_owned()));
        assert_eq!(faults.drop_sessions(Some(A)), 1);
        a.cut().await;
        assert!(b.cut().now_or_never().is_none());
        assert_eq!(faults.cut_streams("/api/v2/workspaces/"), 1);
        watch.cut().await;
        assert_eq!(faults.cut_streams("/"), 0, "it is cut already");
        drop(b);
        assert_eq!(faults.drop_sessions(None), 0);
    }
}
