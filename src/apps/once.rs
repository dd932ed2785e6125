//! Apps that do one thing on the tunnel and are done: `sessions`, `speedtest`.

use std::{future::Future, sync::Arc};

use super::{
    Context, End, Event, Tunnel,
    session::{asked, attached, detached, ended_by, lost},
};
use crate::{error::CommandError, ui::Ui};

/// Does this work over the first tunnel; its answer is the exit code. It is broken off when the app
/// is asked to close, a signal comes, or the tunnel is lost.
pub(super) async fn run<Work>(
    context: Context,
    work: impl FnOnce(Arc<dyn Tunnel>, Ui) -> Work,
) -> End
where
    Work: Future<Output = Result<u8, CommandError>>,
{
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let way = match attached(&mut tunnel).await {
        Ok(way) => way,
        Err(error) => return End::Failed(error),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = events.send(Event::Up);
    tokio::select! {
        done = work(way, ui) => done.map_or_else(End::Failed, End::Done),
        () = asked(&mut close) => End::Done(0),
        Some(signal) = signals.recv() => End::Done(ended_by(signal)),
        () = detached(&mut tunnel) => lost(None),
    }
}
