//! Who we run for, and which news of that is a reason to start over.
//!
//! Two things tell that a prebuilt workspace was claimed: an event on `/reinit`, and a manifest
//! with another agent id, since a claim is a new build. Both tell of the same claim, in either
//! order, and one claim is one restart. The [`Ledger`] remembers what has been answered already.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::server::RunsFor;

/// Agent ids remembered, for one restart each at most. A workspace sees a new one per build.
const MAX_IDS: usize = 64;

/// What to do about a claim event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnClaim {
    /// Start over.
    Restart,
    /// The new agent id has told it before: nothing but to remember the owner.
    Noted,
    /// The owner is known: the server repeats itself, there is nothing more to be heard from it.
    Known,
}

/// What to do about the agent id of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnId {
    /// As before, or the first.
    Keep,
    /// Another agent: start over.
    Restart,
    /// Another agent, for which we have started over already: go on, and tell its row.
    Adopt,
}

/// When a manifest comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is the first of this agent object, which has nothing to start over.
    First,
    /// On a later connection.
    Later,
    /// On a later connection, after the object has begun to end.
    Ending,
}

/// What is remembered across restarts of the agent.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The agent that we are.
    agent: Option<Uuid>,
    /// The owner that the last claim named.
    owner: Option<Uuid>,
    /// Agents that we have been.
    seen: VecDeque<Uuid>,
    /// We have started over for a new id, or for a claim that did not say whose: the claim itself
    /// may still be told.
    claim_due: bool,
    /// We have started over for a claim: the new id may still come.
    id_due: bool,
    /// The agent that runs is the one that we are: we are not between two of them.
    settled: bool,
}

impl Ledger {
    /// Whom the agent that runs now, if any, runs for.
    pub(crate) fn runs_for(&self) -> Option<RunsFor> {
        let agent = self.agent.filter(|_| self.settled)?;
        Some(RunsFor { agent, owner: self.owner })
    }

    /// A claim was announced, for this owner if it says so.
    pub(crate) fn claimed(&mut self, owner: Option<Uuid>) -> OnClaim {
        if owner.is_some() && owner == self.owner {
            return OnClaim::Known;
        }
        self.owner = owner.or(self.owner);
        // An event without an owner (of an old server) is told again with one.
        let noted = std::mem::replace(&mut self.claim_due, owner.is_none());
        if noted {
            return OnClaim::Noted;
        }
        self.id_due = self.agent.is_some();
        self.settled = false;
        OnClaim::Restart
    }

    /// A manifest arrived; `reinit` is whether another id is a reason to start over.
    pub(crate) fn manifest(&mut self, id: Uuid, phase: Phase, reinit: bool) -> OnId {
        let changed = self.agent.is_some_and(|agent| agent != id);
        if phase == Phase::Ending && changed && (reinit || !self.settled) {
            // The new row belongs to the next object: this one has nothing to say there.
            return OnId::Restart;
        }
        self.agent = Some(id);
        self.settled = phase != Phase::Ending;
        let seen = self.remember(id);
        if !changed {
            return OnId::Keep;
        }
        let expected = std::mem::take(&mut self.id_due);
        match phase {
            Phase::First => OnId::Keep,
            Phase::Later if reinit && !expected && !seen => {
                self.claim_due = true;
                self.settled = false;
                OnId::Restart
            }
            Phase::Later | Phase::Ending => OnId::Adopt,
        }
    }

    /// Whether we have been this agent before.
    fn remember(&mut self, id: Uuid) -> bool {
        let seen = self.seen.contains(&id);
        if !seen {
            if self.seen.len() == MAX_IDS {
                self.seen.pop_front();
            }
            self.seen.push_back(id);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);
    const C: Uuid = Uuid::from_u128(0xc);
    const ALICE: Uuid = Uuid::from_u128(0x1);
    const BOB: Uuid = Uuid::from_u128(0x2);

    #[derive(Debug, Clone, Copy)]
    enum Event {
        /// The first manifest of an agent object.
        Fresh(Uuid),
        /// A later one.
        Later(Uuid),
        /// One that comes while the object ends.
        Ending(Uuid),
        Claim(Option<Uuid>),
    }
    use Event::*;

    /// The answers, and how often we start over.
    fn run(reinit: bool, events: &[Event]) -> (Vec<String>, usize) {
        let mut ledger = Ledger::default();
        let answers: Vec<String> = events
            .iter()
            .map(|event| match *event {
                Fresh(id) => format!("{:?}", ledger.manifest(id, Phase::First, reinit)),
                Later(id) => format!("{:?}", ledger.manifest(id, Phase::Later, reinit)),
                Ending(id) => format!("{:?}", ledger.manifest(id, Phase::Ending, reinit)),
                Claim(owner) => format!("{:?}", ledger.claimed(owner)),
            })
            .collect();
        let restarts = answers.iter().filter(|answer| *answer == "Restart").count();
        (answers, restarts)
    }

    #[test]
    fn one_claim_is_one_restart() {
        let (alice, bob) = (Claim(Some(ALICE)), Claim(Some(BOB)));
        let table: &[(&str, bool, &[Event], &[&str])] = &[
            ("an ordinary life", true, &[Fresh(A), Later(A)], &["Keep", "Keep"]),
            (
                "the event first, then the new id with the new object",
                true,
                &[Fresh(A), alice, Fresh(B), alice, Later(B)],
                &["Keep", "Restart", "Keep", "Known", "Keep"],
            ),
            (
                "the new id first, then the event, then its repetition",
                true,
                &[Fresh(A), Later(B), Fresh(B), alice, alice],
                &["Keep", "Restart", "Keep", "Noted", "Known"],
            ),
            (
                "the new id first, the event before the new object has a manifest",
                true,
                &[Fresh(A), Later(B), alice, Fresh(B)],
                &["Keep", "Restart", "Noted", "Keep"],
            ),
            (
                "the event first, the new object still gets the old id",
                true,
                &[Fresh(A), alice, Fresh(A), Later(B), Later(C)],
                &["Keep", "Restart", "Keep", "Adopt", "Restart"],
            ),
            (
                "two claims in a row",
                true,
                &[Fresh(A), alice, Fresh(B), bob, Fresh(C)],
                &["Keep", "Restart", "Keep", "Restart", "Keep"],
            ),
            (
                "an event without an owner, then the seeded one",
                true,
                &[Fresh(A), Claim(None), Fresh(B), alice, alice],
                &["Keep", "Restart", "Keep", "Noted", "Known"],
            ),
            (
                "the new id first, then both kinds of event",
                true,
                &[Fresh(A), Later(B), Fresh(B), Claim(None), alice],
                &["Keep", "Restart", "Keep", "Noted", "Noted"],
            ),
            (
                "a resumed machine, twice",
                true,
                &[Fresh(A), Later(B), Fresh(B), Later(C), Fresh(C)],
                &["Keep", "Restart", "Keep", "Restart", "Keep"],
            ),
            (
                "ids that come back have had their restart",
                true,
                &[Fresh(A), Later(B), Fresh(B), Later(A), Later(B)],
                &["Keep", "Restart", "Keep", "Adopt", "Adopt"],
            ),
            (
                "replay never starts over for an id, and a claim still does",
                false,
                &[Fresh(A), Later(B), Later(C), alice, Fresh(C)],
                &["Keep", "Adopt", "Adopt", "Restart", "Keep"],
            ),
            (
                "the event first, the old object hears of the new id while it ends",
                true,
                &[Fresh(A), alice, Ending(A), Ending(B), Fresh(B), Later(B)],
                &["Keep", "Restart", "Keep", "Restart", "Keep", "Keep"],
            ),
            (
                "the same under replay: the new row belongs to the next object",
                false,
                &[Fresh(A), alice, Ending(B), Fresh(B)],
                &["Keep", "Restart", "Restart", "Keep"],
            ),
            (
                "an ordinary end, and another id: nothing to say there, or all of it",
                true,
                &[Fresh(A), Ending(B)],
                &["Keep", "Restart"],
            ),
            ("under replay", false, &[Fresh(A), Ending(B)], &["Keep", "Adopt"]),
            (
                "a claim before the first manifest",
                true,
                &[alice, Fresh(A), Later(B)],
                &["Restart", "Keep", "Restart"],
            ),
        ];
        for (name, reinit, events, expected) in table {
            let (answers, _) = run(*reinit, events);
            assert_eq!(answers, *expected, "{name}");
        }
    }

    #[test]
    fn between_two_agents_we_run_for_nobody() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.runs_for(), None);
        ledger.manifest(A, Phase::First, true);
        assert_eq!(ledger.runs_for(), Some(RunsFor { agent: A, owner: None }));
        ledger.claimed(Some(ALICE));
        assert_eq!(ledger.runs_for(), None);
        ledger.manifest(B, Phase::First, true);
        assert_eq!(ledger.runs_for(), Some(RunsFor { agent: B, owner: Some(ALICE) }));
        ledger.manifest(C, Phase::Later, true);
        assert_eq!(ledger.runs_for(), None);
        ledger.claimed(Some(BOB));
        assert_eq!(ledger.runs_for(), None, "noted");
        ledger.manifest(C, Phase::First, true);
        assert_eq!(ledger.runs_for(), Some(RunsFor { agent: C, owner: Some(BOB) }));
    }

    #[test]
    fn one_id_is_one_restart() {
        let flapping: Vec<Event> =
            std::iter::once(Fresh(A)).chain((0..100).flat_map(|_| [Later(B), Later(A)])).collect();
        assert_eq!(run(true, &flapping).1, 1);
        let mut many = vec![Fresh(A)];
        many.extend((1..1000).map(|id| Later(Uuid::from_u128(id << 8))));
        assert_eq!(run(true, &many).1, 999, "each of them once");
    }
}
