//! The network that this machine is in: its addresses, and whether it slept.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use netwatcher::{AsyncWatch, Update};

/// By how much more the calendar moves than the monotonic clock when a machine slept. Less is a
/// clock that is set.
const SLEPT: Duration = Duration::from_secs(5);

/// How often somebody who waits for another network looks whether the machine slept.
const LOOK: Duration = Duration::from_secs(1);

/// Names of interfaces that are themselves tunnels between peers and lead nowhere by themselves
/// (coder/tailscale: net/interfaces, ZeroTier).
const TUNNELS: [&str; 1] = ["zt"];

/// Resolves when this machine has other addresses than now, or has slept: what could not be reached
/// before may be reached now. To be called within a tokio runtime.
pub async fn changed() {
    let (mut addresses, mut sleep, mut before) = (Addresses::watch(), SleepWatch::new(), None);
    loop {
        tokio::select! {
            now = addresses.next() => {
                if before.replace(now.clone()).is_some_and(|before| before != now) {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {
                if sleep.slept(Instant::now(), SystemTime::now()) {
                    return;
                }
            }
        }
    }
}

/// The addresses of this machine.
pub(crate) struct Addresses(Option<AsyncWatch>);

impl Addresses {
    /// To be called within a tokio runtime.
    pub(crate) fn watch() -> Self {
        match netwatcher::watch_interfaces_async::<netwatcher::async_adapter::Tokio>() {
            Ok(watch) => Self(Some(watch)),
            Err(error) => {
                // STUN still tells where we are.
                tracing::debug!(?error, "this machine does not tell its addresses");
                Self(None)
            }
        }
    }

    /// All of them, at once and whenever something about them changed; pending where the machine
    /// does not tell. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<IpAddr> {
        match &mut self.0 {
            Some(watch) => of_interfaces(&watch.changed().await),
            None => std::future::pending().await,
        }
    }
}

/// The addresses of interfaces that are up.
fn of_interfaces(update: &Update) -> Vec<IpAddr> {
    let is_tunnel = |name: &str| TUNNELS.iter().any(|prefix| name.starts_with(prefix));
    let mut addresses: Vec<IpAddr> = update
        .interfaces
        .values()
        .filter(|interface| !is_tunnel(&interface.name))
        .flat_map(|interface| interface.ips.iter().map(|record| record.ip))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Notices that the machine slept: the monotonic clock stands still then, the calendar does not.
#[derive(Debug)]
pub(crate) struct SleepWatch {
    monotonic: Instant,
    calendar: SystemTime,
}

impl SleepWatch {
    pub(crate) fn new() -> Self {
        Self { monotonic: Instant::now(), calendar: SystemTime::now() }
    }

    /// Whether it slept since the last call.
    pub(crate) fn slept(&mut self, monotonic: Instant, calendar: SystemTime) -> bool {
        let awake = monotonic.saturating_duration_since(self.monotonic);
        let passed = calendar.duration_since(self.calendar).unwrap_or_default();
        (self.monotonic, self.calendar) = (monotonic, calendar);
        passed > awake + SLEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_time_that_only_the_calendar_knows() {
        let mut watch = SleepWatch::new();
        let (monotonic, calendar) = (watch.monotonic, watch.calendar);
        let second = Duration::from_secs(1);
        assert!(!watch.slept(monotonic + second, calendar + second));
        assert!(!watch.slept(monotonic + 3 * second, calendar + 4 * second));
        assert!(watch.slept(monotonic + 4 * second, calendar + 64 * second));
        assert!(!watch.slept(monotonic + 5 * second, calendar + 65 * second));
        // Set back.
        assert!(!watch.slept(monotonic + 6 * second, calendar));
    }

    #[tokio::test]
    async fn where_nothing_changes_nothing_is_told() {
        use futures_util::FutureExt as _;
        let mut addresses = Addresses::watch();
        addresses.next().await;
        assert_eq!(addresses.next().now_or_never(), None);
    }
}
