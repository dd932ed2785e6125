//! Keeps as many prebuilt workspaces as the presets want.
//!
//! Several processes may do so at once: what one makes too many, the next look deletes again, the
//! newest first, so that all delete the same.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;
use uuid::Uuid;

use super::{
    build_made,
    create::{next_build, prebuild},
    names,
    template::{Template as Source, TemplateError},
};
use crate::{
    decide::Conflict,
    model::{BuildReason, JobStatus, PREBUILDS_USER, Preset, Template, Timestamp, Transition},
    state::State,
    store::{Prebuild, StoreError},
};

/// How often it is looked without being told.
const LOOK: Duration = Duration::from_secs(15);

/// Prebuilt workspaces of one preset that may fail before no more are tried, until the template
/// changes (coder/coder: coderd/prebuilds, `FailureHardLimit`).
const FAILURES: usize = 3;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// So many are to be made of this preset.
    Make { preset: Uuid, count: usize },
    /// This workspace is to be deleted.
    Delete(Uuid),
}

/// A prebuilt workspace, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    workspace: Uuid,
    preset: Option<Uuid>,
    transition: Transition,
    status: JobStatus,
}

impl Known {
    fn of(prebuild: &Prebuild) -> Self {
        Self {
            workspace: prebuild.workspace.id,
            preset: prebuild.build.preset_id,
            transition: prebuild.build.transition,
            status: prebuild.job.status(),
        }
    }

    /// Is there, or will be.
    fn counts(&self) -> bool {
        self.transition == Transition::Start
            && matches!(self.status, JobStatus::Pending | JobStatus::Running | JobStatus::Succeeded)
    }

    /// Went wrong.
    fn failed(&self) -> bool {
        self.transition == Transition::Start
            && matches!(self.status, JobStatus::Failed | JobStatus::Canceled)
    }
}

/// What is to be done so that there are as many as wanted: `wanted` is for each preset of an active
/// version how many; `known` all there are, the oldest first.
fn plan(wanted: &BTreeMap<Uuid, usize>, known: &[Known]) -> Vec<Act> {
    let mut acts = Vec::new();
    for (&preset, &count) in wanted {
        let of_preset = known.iter().filter(|known| known.preset == Some(preset));
        let there: Vec<&Known> = of_preset.clone().filter(|known| known.counts()).collect();
        let failures = of_preset.filter(|known| known.failed()).count();
        if there.len() < count && failures < FAILURES {
            acts.push(Act::Make { preset, count: count - there.len() });
        }
        // The newest go; those whose build is under way when it is over.
        let surplus = there.iter().skip(count).filter(|known| !known.status.is_active());
        acts.extend(surplus.map(|known| Act::Delete(known.workspace)));
    }
    // Of versions that are not active any more.
    let outdated = known.iter().filter(|known| {
        known.preset.is_none_or(|preset| !wanted.contains_key(&preset))
            && !known.status.is_active()
            && !(known.transition == Transition::Delete && known.status == JobStatus::Failed)
    });
    acts.extend(outdated.map(|known| Act::Delete(known.workspace)));
    acts
}

/// Keeps them until `stop`.
pub(super) async fn run(state: &State, stop: impl Future<Output = ()>) {
    let keep = async {
        loop {
            if let Err(error) = reconcile(state).await {
                tracing::error!(%error, "prebuilt workspaces could not be looked after");
            }
            tokio::select! {
                () = state.provisioner.0.prebuilds.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
    };
    tokio::select! {
        () = keep => {}
        () = stop => {}
    }
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the template {name:?}: {error}")]
    Template { name: String, error: TemplateError },
}

/// A preset of an active version, and its template.
struct Offer {
    template: Template,
    preset: Preset,
}

async fn reconcile(state: &State) -> Result<(), ReconcileError> {
    let store = &state.store;
    let mut offers = BTreeMap::new();
    for template in store.templates().await? {
        for preset in store.presets(template.active_version_id).await? {
            offers.insert(preset.id, Offer { template: template.clone(), preset });
        }
    }
    let known: Vec<_> = store.prebuilds().await?.iter().map(Known::of).collect();
    if offers.is_empty() && known.is_empty() {
        return Ok(());
    }
    let count =
        |offer: &Offer| usize::try_from(offer.preset.desired_prebuilds).unwrap_or(usize::MAX);
    let wanted = offers.iter().map(|(id, offer)| (*id, count(offer))).collect();
    for act in plan(&wanted, &known) {
        match act {
            Act::Make { preset, count } => {
                let Some(offer) = offers.get(&preset) else { continue };
                for _ in 0..count {
                    make(state, offer).await?;
                }
            }
            Act::Delete(workspace) => delete(state, workspace).await?,
        }
    }
    Ok(())
}

async fn make(state: &State, offer: &Offer) -> Result<(), ReconcileError> {
    let version = state.store.template_version(offer.preset.template_version_id).await?;
    let source = Source::parse(&version.source)
        .map_err(|error| ReconcileError::Template { name: offer.template.name.clone(), error })?;
    let name = names::prebuilt();
    let (workspace, build) = prebuild(&source, offer.template.id, &offer.preset, name);
    let made = state.store.create_workspace(&workspace, &build, Timestamp::now()).await;
    match made {
        Ok(_) => {
            build_made(state, PREBUILDS_USER, workspace.id).await;
            Ok(())
        }
        // The next look tries another name.
        Err(StoreError::Conflict(Conflict::NameTaken(_))) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn delete(state: &State, workspace: Uuid) -> Result<(), ReconcileError> {
    let (latest, _) = state.store.latest_build(workspace).await?;
    let reason = BuildReason::Initiator;
    let build = next_build(&latest, Transition::Delete, PREBUILDS_USER, reason);
    match state.store.delete_prebuild(workspace, &build, Timestamp::now()).await {
        Ok(Some(_)) => {
            build_made(state, PREBUILDS_USER, workspace).await;
            Ok(())
        }
        Ok(None) => Ok(()),
        // Somebody was quicker.
        Err(StoreError::Conflict(Conflict::BuildActive | Conflict::WorkspaceDeleted)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobStatus::{Canceled, Canceling, Failed, Pending, Running, Succeeded};
    use Transition::{Delete, Start};

    const SMALL: Uuid = Uuid::from_u128(1);
    const OLD: Uuid = Uuid::from_u128(2);

    fn known(number: u128, preset: Uuid, transition: Transition, status: JobStatus) -> Known {
        let workspace = Uuid::from_u128(100 + number);
        Known { workspace, preset: Some(preset), transition, status }
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(100 + number)
    }

    #[test]
    fn every_row() {
        let make = |count| Act::Make { preset: SMALL, count };
        let small = |number, status| known(number, SMALL, Start, status);
        type Row = (&'static str, usize, Vec<Known>, Vec<Act>);
        let rows: Vec<Row> = vec![
            ("none yet", 2, vec![], vec![make(2)]),
            ("none wanted", 0, vec![], vec![]),
            ("one is there", 2, vec![small(1, Succeeded)], vec![make(1)]),
            ("one is on its way", 2, vec![small(1, Pending), small(2, Running)], vec![]),
            ("enough", 2, vec![small(1, Succeeded), small(2, Succeeded)], vec![]),
            ("one failed", 1, vec![small(1, Failed)], vec![make(1)]),
            ("one was canceled", 1, vec![small(1, Canceled)], vec![make(1)]),
            ("one is being canceled", 1, vec![small(1, Canceling)], vec![make(1)]),
            (
                "too many failed",
                1,
                vec![small(1, Failed), small(2, Failed), small(3, Canceled)],
                vec![],
            ),
            (
                "too many: the newest goes",
                1,
                vec![small(1, Succeeded), small(2, Succeeded)],
                vec![Act::Delete(id(2))],
            ),
            ("too many, but under way", 1, vec![small(1, Succeeded), small(2, Running)], vec![]),
            ("one is being deleted", 1, vec![known(1, SMALL, Delete, Running)], vec![make(1)]),
            (
                "of an old version",
                1,
                vec![known(1, OLD, Start, Succeeded), small(2, Succeeded)],
                vec![Act::Delete(id(1))],
            ),
            (
                "of an old version, failed",
                0,
                vec![known(1, OLD, Start, Failed)],
                vec![Act::Delete(id(1))],
            ),
            ("of an old version, under way", 0, vec![known(1, OLD, Start, Pending)], vec![]),
            ("cannot be deleted", 0, vec![known(1, OLD, Delete, Failed)], vec![]),
        ];
        for (name, count, known, wanted) in rows {
            assert_eq!(plan(&BTreeMap::from([(SMALL, count)]), &known), wanted, "{name}");
        }
    }
}
