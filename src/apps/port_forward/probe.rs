//! Whether the remote ends answer, asked until they do.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::way::Way;
use crate::{
    apps::forward_spec::Place,
    error::{CommandError, Kind},
};

/// Pauses between two tries, doubling: a service that starts is noticed soon, one that takes its
/// time is not bothered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits until all places accept a connection, for at most this long from the first tunnel on.
///
/// # Errors
/// [`Kind::Remote`] with the place that did not answer, and what it said last.
pub(super) async fn wait(
    mut way: watch::Receiver<Option<Arc<Way>>>,
    places: Vec<Place>,
    limit: Duration,
) -> Result<(), CommandError> {
    // An error means that there never will be a tunnel, and that everything ends.
    let _ = way.wait_for(Option::is_some).await;
    let until = Instant::now() + limit;
    let all = places.into_iter().map(|place| answer(way.clone(), place, until, limit));
    futures_util::future::try_join_all(all).await.map(drop)
}

async fn answer(
    mut way: watch::Receiver<Option<Arc<Way>>>,
    place: Place,
    until: Instant,
    limit: Duration,
) -> Result<(), CommandError> {
    let mut last: Option<io::Error> = None;
    let asking = async {
        let mut pause = FIRST_PAUSE;
        loop {
            let now = way.wait_for(Option::is_some).await.ok().and_then(|way| way.clone());
            let Some(now) = now else { return };
            match now.connect(&place).await {
                Ok(_) => return,
                Err(error) => last = Some(error),
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    };
    if timeout_at(until, asking).await.is_ok() {
        return Ok(());
    }
    let seconds = limit.as_secs_f32();
    let what = format!("'{}' in the workspace did not answer within {seconds} s", place.url());
    let error = match last {
        Some(last) => anyhow::Error::new(last).context(what),
        None => anyhow::Error::msg(what),
    };
    Err(CommandError::new(Kind::Remote, error)
        .hint("look whether the service runs in the workspace, and which port it listens on"))
}
