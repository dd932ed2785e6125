//! Builds: whether one may be made, what becomes of its job, what it makes of the workspace.

use super::Conflict;
use crate::model::{JobStatus, Transition, WorkspaceStatus};

/// The number of the next build (`coderd/wsbuilder/wsbuilder.go`): one more than that of the
/// latest, which has this number and whose job has this status.
///
/// # Errors
///
/// The workspace is deleted, or its latest build is not over.
pub fn admit(deleted: bool, latest: Option<(i32, JobStatus)>) -> Result<i32, Conflict> {
    match (deleted, latest) {
        (true, _) => Err(Conflict::WorkspaceDeleted),
        (false, None) => Ok(1),
        (false, Some((_, status))) if status.is_active() => Err(Conflict::BuildActive),
        (false, Some((number, _))) => Ok(number.saturating_add(1)),
    }
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker takes it: for the first time, or over from one whose lease ran out.
    Acquire,
    /// Its worker has done it.
    Complete,
    /// Its worker could not do it.
    Fail,
    /// Its worker has stopped, as it was asked to.
    Stopped,
    /// Somebody asks to cancel it.
    Cancel {
        /// Only if it is so far; `expect_status` of the request.
        expect: Option<JobStatus>,
    },
}

impl JobEvent {
    /// Each of them once, `Cancel` without an expectation.
    pub const ALL: [Self; 5] =
        [Self::Acquire, Self::Complete, Self::Fail, Self::Stopped, Self::Cancel { expect: None }];
}

/// How far the job is afterwards.
///
/// | | acquire | complete | fail | stopped | cancel |
/// |---|---|---|---|---|---|
/// | pending | running | – | – | – | canceled |
/// | running | running | succeeded | failed | failed | canceling |
/// | canceling | canceling | canceled | failed | canceled | 400 |
/// | over | – | – | – | – | 400 |
///
/// – is [`Conflict::LeaseLost`]: who asks has no lease. `cancel` with an expectation that is not
/// met is 412 (`coderd/workspacebuilds.go`). What a worker completes after it was asked to stop is
/// canceled: nothing of it is kept, so that its agents are not let in.
///
/// # Errors
///
/// The event does not fit.
pub fn job_status_after(status: JobStatus, event: JobEvent) -> Result<JobStatus, Conflict> {
    if let JobEvent::Cancel { expect: Some(expected) } = event
        && expected != status
    {
        return Err(Conflict::NotInExpectedState { expected, actual: status });
    }
    match (status, event) {
        (JobStatus::Pending | JobStatus::Running, JobEvent::Acquire) => Ok(JobStatus::Running),
        (JobStatus::Canceling, JobEvent::Acquire) => Ok(JobStatus::Canceling),

        (JobStatus::Running, JobEvent::Complete) => Ok(JobStatus::Succeeded),
        (JobStatus::Running, JobEvent::Fail | JobEvent::Stopped)
        | (JobStatus::Canceling, JobEvent::Fail) => Ok(JobStatus::Failed),
        (JobStatus::Canceling, JobEvent::Complete | JobEvent::Stopped) => Ok(JobStatus::Canceled),

        (JobStatus::Pending, JobEvent::Cancel { .. }) => Ok(JobStatus::Canceled),
        (JobStatus::Running, JobEvent::Cancel { .. }) => Ok(JobStatus::Canceling),
        (JobStatus::Canceling, JobEvent::Cancel { .. }) => Err(Conflict::JobAlreadyCanceled),
        (JobStatus::Succeeded | JobStatus::Canceled | JobStatus::Failed, event) => match event {
            JobEvent::Cancel { .. } => Err(Conflict::JobCompleted),
            JobEvent::Acquire | JobEvent::Complete | JobEvent::Fail | JobEvent::Stopped => {
                Err(Conflict::LeaseLost)
            }
        },
        (JobStatus::Pending, JobEvent::Complete | JobEvent::Fail | JobEvent::Stopped) => {
            Err(Conflict::LeaseLost)
        }
    }
}

/// What the latest build has made of a workspace (`codersdk/workspacebuilds.go`).
#[must_use]
pub const fn workspace_status(status: JobStatus, transition: Transition) -> WorkspaceStatus {
    match (status, transition) {
        (JobStatus::Pending, _) => WorkspaceStatus::Pending,
        (JobStatus::Running, Transition::Start) => WorkspaceStatus::Starting,
        (JobStatus::Running, Transition::Stop) => WorkspaceStatus::Stopping,
        (JobStatus::Running, Transition::Delete) => WorkspaceStatus::Deleting,
        (JobStatus::Succeeded, Transition::Start) => WorkspaceStatus::Running,
        (JobStatus::Succeeded, Transition::Stop) => WorkspaceStatus::Stopped,
        (JobStatus::Succeeded, Transition::Delete) => WorkspaceStatus::Deleted,
        (JobStatus::Canceling, _) => WorkspaceStatus::Canceling,
        (JobStatus::Canceled, _) => WorkspaceStatus::Canceled,
        (JobStatus::Failed, _) => WorkspaceStatus::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobStatus::{Canceled, Canceling, Failed, Pending, Running, Succeeded};

    #[test]
    fn admission() {
        assert_eq!(admit(false, None), Ok(1));
        for (status, wanted) in [
            (Pending, Err(Conflict::BuildActive)),
            (Running, Err(Conflict::BuildActive)),
            (Canceling, Err(Conflict::BuildActive)),
            (Succeeded, Ok(8)),
            (Canceled, Ok(8)),
            (Failed, Ok(8)),
        ] {
            assert_eq!(admit(false, Some((7, status))), wanted, "{status}");
            assert_eq!(
                admit(true, Some((7, status))),
                Err(Conflict::WorkspaceDeleted),
                "{status}, deleted"
            );
        }
        assert_eq!(admit(true, None), Err(Conflict::WorkspaceDeleted));
        assert_eq!(Conflict::BuildActive.http_status(), 409);
        assert_eq!(Conflict::WorkspaceDeleted.http_status(), 410);
    }

    #[test]
    fn jobs() {
        use JobEvent::{Acquire, Cancel, Complete, Fail, Stopped};
        let lost = || Err(Conflict::LeaseLost);
        let cancel = Cancel { expect: None };
        let rows = [
            (Pending, Acquire, Ok(Running)),
            (Pending, Complete, lost()),
            (Pending, Fail, lost()),
            (Pending, Stopped, lost()),
            (Pending, cancel, Ok(Canceled)),
            (Running, Acquire, Ok(Running)),
            (Running, Complete, Ok(Succeeded)),
            (Running, Fail, Ok(Failed)),
            (Running, Stopped, Ok(Failed)),
            (Running, cancel, Ok(Canceling)),
            (Canceling, Acquire, Ok(Canceling)),
            (Canceling, Complete, Ok(Canceled)),
            (Canceling, Fail, Ok(Failed)),
            (Canceling, Stopped, Ok(Canceled)),
            (Canceling, cancel, Err(Conflict::JobAlreadyCanceled)),
            (Succeeded, Acquire, lost()),
            (Succeeded, Complete, lost()),
            (Succeeded, Fail, lost()),
            (Succeeded, Stopped, lost()),
            (Succeeded, cancel, Err(Conflict::JobCompleted)),
            (Canceled, Acquire, lost()),
            (Canceled, Complete, lost()),
            (Canceled, Fail, lost()),
            (Canceled, Stopped, lost()),
            (Canceled, cancel, Err(Conflict::JobCompleted)),
            (Failed, Acquire, lost()),
            (Failed, Complete, lost()),
            (Failed, Fail, lost()),
            (Failed, Stopped, lost()),
            (Failed, cancel, Err(Conflict::JobCompleted)),
        ];
        for (status, event, wanted) in &rows {
            assert_eq!(job_status_after(*status, *event), *wanted, "{status} and {event:?}");
        }
        for status in JobStatus::ALL {
            for event in JobEvent::ALL {
                assert!(
                    rows.iter().any(|row| (row.0, row.1) == (*status, event)),
                    "no row for {status} and {event:?}"
                );
            }
        }
        assert_eq!(Conflict::JobCompleted.http_status(), 400);
        assert_eq!(Conflict::JobAlreadyCanceled.http_status(), 400);
    }

    #[test]
    fn cancel_with_an_expectation() {
        for actual in JobStatus::ALL {
            for expected in [Pending, Running] {
                let event = JobEvent::Cancel { expect: Some(expected) };
                let wanted = if *actual == expected {
                    job_status_after(*actual, JobEvent::Cancel { expect: None })
                } else {
                    Err(Conflict::NotInExpectedState { expected, actual: *actual })
                };
                assert_eq!(
                    job_status_after(*actual, event),
                    wanted,
                    "{actual}, expected {expected}"
                );
                if let Err(conflict @ Conflict::NotInExpectedState { .. }) = wanted {
                    assert_eq!(conflict.http_status(), 412);
                }
            }
        }
    }

    #[test]
    fn what_a_build_makes_of_a_workspace() {
        let rows = [
            (Pending, "pending", "pending", "pending"),
            (Running, "starting", "stopping", "deleting"),
            (Succeeded, "running", "stopped", "deleted"),
            (Canceling, "canceling", "canceling", "canceling"),
            (Canceled, "canceled", "canceled", "canceled"),
            (Failed, "failed", "failed", "failed"),
        ];
        assert_eq!(rows.len(), JobStatus::ALL.len());
        for (status, start, stop, delete) in rows {
            for (transition, wanted) in
                [(Transition::Start, start), (Transition::Stop, stop), (Transition::Delete, delete)]
            {
                assert_eq!(
                    workspace_status(status, transition).as_str(),
                    wanted,
                    "{status} {transition}"
                );
            }
        }
    }
}
