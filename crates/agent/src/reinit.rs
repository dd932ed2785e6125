//! Waits for claims, again and again (`codersdk/agentsdk/agentsdk.go`, `WaitForReinitLoop`).

use tokio::sync::{Notify, watch};

use crate::{
    backoff::Backoff,
    claims::{Ledger, OnClaim},
    server::{ReinitError, RunsFor, Server},
    token::Token,
};

/// Enters each claim that the server tells in the ledger, and asks for a restart where that is due.
/// Ends when there is nothing more to be heard.
///
/// It asks as the agent that the last manifest named, so it begins with the first manifest, and
/// begins anew with another.
pub(crate) async fn watch(
    server: &dyn Server,
    token: &watch::Sender<Option<Token>>,
    ledger: &watch::Sender<Ledger>,
    restart: &Notify,
) {
    let mut backoff = Backoff::new();
    loop {
        tokio::time::sleep(backoff.pause()).await;
        let runs_for = known(ledger).await;
        let token = token.borrow().clone();
        // A manifest came by a token.
        let Some(token) = token else { continue };
        let answer = tokio::select! {
            answer = server.reinit(&token, runs_for) => answer,
            () = changed(ledger, runs_for) => {
                backoff.reset();
                continue;
            }
        };
        match answer {
            Ok(event) => {
                backoff.reset();
                let mut answer = OnClaim::Known;
                ledger.send_modify(|ledger| answer = ledger.claimed(event.owner_id));
                tracing::info!(owner = ?event.owner_id, reason = ?event.reason, ?answer, "claimed");
                match answer {
                    OnClaim::Restart => restart.notify_one(),
                    OnClaim::Noted => {}
                    OnClaim::Known => return,
                }
            }
            Err(error @ ReinitError::Never(_)) => {
                tracing::info!(%error, "not waiting for claims any more");
                return;
            }
            // Ordinary while a build is under way.
            Err(error @ ReinitError::Unauthorized(_)) => {
                tracing::debug!(%error, "waiting for a claim");
            }
            Err(
                error @ (ReinitError::Status { .. }
                | ReinitError::Stream(_)
                | ReinitError::Transport(_)
                | ReinitError::Request(_)),
            ) => tracing::warn!(%error, "waiting for a claim"),
        }
    }
}

/// Waits until it is known whom we run for.
async fn known(ledger: &watch::Sender<Ledger>) -> RunsFor {
    let mut ledger = ledger.subscribe();
    loop {
        let runs_for = ledger.borrow_and_update().runs_for();
        match runs_for {
            Some(runs_for) => return runs_for,
            // Its sender outlives us.
            None => drop(ledger.changed().await),
        }
    }
}

/// Waits until we run for another agent. The owner alone changes with what was heard here.
async fn changed(ledger: &watch::Sender<Ledger>, from: RunsFor) {
    let mut ledger = ledger.subscribe();
    let other = |ledger: &Ledger| ledger.runs_for().is_some_and(|now| now.agent != from.agent);
    if ledger.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}
