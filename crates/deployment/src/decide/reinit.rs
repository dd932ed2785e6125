//! `/reinit`: whether an agent that asks starts over, waits, or need not ask again
//! (`workspaceAgentReinit` in `coderd/workspaceagents.go`).

use uuid::Uuid;

use crate::model::{JobStatus, PREBUILDS_USER, PrebuildStage, ReinitEvent};

/// What the decision rests on. All of it is read after the subscription to the claim channel
/// stands: a claim that is completed in between is either read here or heard there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which workspace.
    pub workspace_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Who made its first build.
    pub first_build_initiator: Uuid,
    /// What its latest build is for.
    pub stage: PrebuildStage,
    /// Who made its latest build.
    pub initiator: Uuid,
    /// How far that is.
    pub status: JobStatus,
    /// What went wrong with it.
    pub error: Option<String>,
    /// The row that the agent showed a token for: its id now.
    pub agent_id: Uuid,
}

/// For whom the agent that asks runs already, as far as it says. Coder's agent says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunsFor {
    /// The agent id of its manifest.
    pub agent_id: Option<Uuid>,
    /// The owner that it last started for.
    pub owner_id: Option<Uuid>,
}

/// What the agent gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing yet: the claim is still to come.
    Wait,
    /// This event at once, and the end of the stream.
    Send(ReinitEvent),
    /// 409: there is nothing to wait for, now or later.
    Refuse(Refusal),
}

/// Why there is nothing to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The workspace never was a prebuilt one.
    Regular,
    /// The claim was handled: there is a later build, or the agent runs for the owner already.
    Handled,
    /// The claim build failed or was cancelled.
    ClaimFailed {
        /// Why.
        detail: String,
    },
}

impl Refusal {
    /// The `message` of the answer.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self {
            Self::Regular => "The workspace is not a prebuilt one: its agent need not wait.",
            Self::Handled => "The claim of this workspace was handled already.",
            Self::ClaimFailed { .. } => "The build that was to claim this workspace failed.",
        }
    }

    /// The `detail` of the answer.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Regular | Self::Handled => "",
            Self::ClaimFailed { detail } => detail,
        }
    }
}

/// Decides. `wait` is the query parameter of that name: older agents leave it out and would
/// misunderstand both an event at once and a refusal.
///
/// | workspace | latest build | `wait` absent | `wait` |
/// |---|---|---|---|
/// | unclaimed | any | wait | wait |
/// | regular | any | wait | refuse |
/// | claimed | claim, succeeded | wait | send, or refuse if the agent runs for it already |
/// | claimed | claim, active | wait | wait |
/// | claimed | claim, failed or canceled | wait | refuse |
/// | claimed | no claim, of the prebuilds user | wait | wait |
/// | claimed | any other | wait | refuse |
///
/// Upstream takes a claim job that was canceled while pending for a success; here success is
/// `succeeded`.
#[must_use]
pub fn decide(wait: bool, facts: &Facts, runs_for: RunsFor) -> Decision {
    if !wait || facts.owner_id == PREBUILDS_USER {
        return Decision::Wait;
    }
    if facts.first_build_initiator != PREBUILDS_USER {
        return Decision::Refuse(Refusal::Regular);
    }
    match facts.stage {
        PrebuildStage::Claim => match facts.status {
            JobStatus::Pending | JobStatus::Running | JobStatus::Canceling => Decision::Wait,
            JobStatus::Succeeded if runs_for.matches(facts) => Decision::Refuse(Refusal::Handled),
            JobStatus::Succeeded => {
                Decision::Send(ReinitEvent::claimed(facts.workspace_id, facts.owner_id))
            }
            JobStatus::Failed | JobStatus::Canceled => Decision::Refuse(Refusal::ClaimFailed {
                detail: facts
                    .error
                    .clone()
                    .unwrap_or_else(|| format!("The build is {}.", facts.status)),
            }),
        },
        PrebuildStage::None | PrebuildStage::Create => {
            if facts.initiator == PREBUILDS_USER {
                Decision::Wait
            } else {
                Decision::Refuse(Refusal::Handled)
            }
        }
    }
}

impl RunsFor {
    /// Whether the agent says, and says nothing else than, that it runs for the claim already.
    fn matches(self, facts: &Facts) -> bool {
        let agent = self.agent_id.map(|id| id == facts.agent_id);
        let owner = self.owner_id.map(|id| id == facts.owner_id);
        match (agent, owner) {
            (None, None) => false,
            (agent, owner) => agent.unwrap_or(true) && owner.unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Uuid = Uuid::from_u128(1);
    const WORKSPACE: Uuid = Uuid::from_u128(2);
    const AGENT: Uuid = Uuid::from_u128(3);
    const OLD_AGENT: Uuid = Uuid::from_u128(4);

    fn refused(refusal: Refusal) -> Decision {
        Decision::Refuse(refusal)
    }

    fn sent() -> Decision {
        Decision::Send(ReinitEvent::claimed(WORKSPACE, ALICE))
    }

    #[test]
    fn every_row() {
        use Decision::Wait;
        use JobStatus::{Canceled, Canceling, Failed, Pending, Running, Succeeded};
        use PrebuildStage::{Claim, Create, None as NoStage};
        use Refusal::{Handled, Regular};
        let system = PREBUILDS_USER;
        let failed = |detail: &str| refused(Refusal::ClaimFailed { detail: detail.to_owned() });
        type Row = (
            &'static str,
            Uuid,
            Uuid,
            PrebuildStage,
            Uuid,
            JobStatus,
            Option<&'static str>,
            Decision,
        );
        // name, owner, initiator of the first build, stage, initiator, status, error, with `wait`
        let rows: Vec<Row> = vec![
            ("unclaimed", system, system, Create, system, Succeeded, None, Wait),
            ("unclaimed, failed", system, system, Create, system, Failed, Some("x"), Wait),
            ("unclaimed, stage left out", system, system, NoStage, system, Succeeded, None, Wait),
            ("regular", ALICE, ALICE, NoStage, ALICE, Succeeded, None, refused(Regular)),
            ("regular, running", ALICE, ALICE, NoStage, ALICE, Running, None, refused(Regular)),
            ("regular, failed", ALICE, ALICE, NoStage, ALICE, Failed, Some("x"), refused(Regular)),
            ("claim pending", ALICE, system, Claim, ALICE, Pending, None, Wait),
            ("claim running", ALICE, system, Claim, ALICE, Running, None, Wait),
            ("claim canceling", ALICE, system, Claim, ALICE, Canceling, None, Wait),
            ("claim succeeded", ALICE, system, Claim, ALICE, Succeeded, None, sent()),
            (
                "claim failed",
                ALICE,
                system,
                Claim,
                ALICE,
                Failed,
                Some("disk full"),
                failed("disk full"),
            ),
            (
                "claim canceled",
                ALICE,
                system,
                Claim,
                ALICE,
                Canceled,
                None,
                failed("The build is canceled."),
            ),
            (
                "owner changed, claim build not seen",
                ALICE,
                system,
                Create,
                system,
                Succeeded,
                None,
                Wait,
            ),
            ("no stage, system initiator", ALICE, system, NoStage, system, Succeeded, None, Wait),
            (
                "no stage, system initiator, failed",
                ALICE,
                system,
                NoStage,
                system,
                Failed,
                Some("x"),
                Wait,
            ),
            ("later build running", ALICE, system, NoStage, ALICE, Running, None, refused(Handled)),
            (
                "later build succeeded",
                ALICE,
                system,
                NoStage,
                ALICE,
                Succeeded,
                None,
                refused(Handled),
            ),
            (
                "retry after a failed claim",
                ALICE,
                system,
                NoStage,
                ALICE,
                Pending,
                None,
                refused(Handled),
            ),
            (
                "later build failed",
                ALICE,
                system,
                NoStage,
                ALICE,
                Failed,
                Some("x"),
                refused(Handled),
            ),
        ];
        for (name, owner_id, first, stage, initiator, status, error, wanted) in rows {
            let facts = Facts {
                workspace_id: WORKSPACE,
                owner_id,
                first_build_initiator: first,
                stage,
                initiator,
                status,
                error: error.map(str::to_owned),
                agent_id: AGENT,
            };
            let silent = RunsFor::default();
            assert_eq!(decide(true, &facts, silent), wanted, "{name}, wait");
            assert_eq!(decide(false, &facts, silent), Wait, "{name}, wait absent");

            // An agent that says for whom it runs changes one row only, and only if all fits.
            for (says, agent_id, owner, fits) in [
                ("its agent", Some(AGENT), None, true),
                ("its owner", None, Some(ALICE), true),
                ("both", Some(AGENT), Some(ALICE), true),
                ("an old agent", Some(OLD_AGENT), None, false),
                ("an old owner", None, Some(system), false),
                ("an old agent of its owner", Some(OLD_AGENT), Some(ALICE), false),
                ("its agent of an old owner", Some(AGENT), Some(system), false),
                ("both old", Some(OLD_AGENT), Some(system), false),
            ] {
                let runs_for = RunsFor { agent_id, owner_id: owner };
                let wanted =
                    if fits && wanted == sent() { refused(Handled) } else { wanted.clone() };
                assert_eq!(decide(true, &facts, runs_for), wanted, "{name}, says {says}");
                assert_eq!(
                    decide(false, &facts, runs_for),
                    Wait,
                    "{name}, says {says}, wait absent"
                );
            }
        }
    }

    #[test]
    fn a_refusal_explains_itself() {
        for refusal in [
            Refusal::Regular,
            Refusal::Handled,
            Refusal::ClaimFailed { detail: "disk full".to_owned() },
        ] {
            assert!(refusal.message().ends_with('.'), "{refusal:?}");
        }
        let failed = Refusal::ClaimFailed { detail: "disk full".to_owned() };
        assert_eq!(failed.detail(), "disk full");
    }
}
