//! How full memory and disks are, if the server wants to know
//! (`agent/proto/resourcesmonitor/resources_monitor.go`).

use std::{collections::VecDeque, time::Duration, time::SystemTime};

use coderctl_drpc::proto::{agent as proto, rpc::agent as rpc};
use proto::push_resources_monitoring_usage_request::{
    Datapoint,
    datapoint::{MemoryUsage, VolumeUsage},
};

use crate::session::{Failure, Session, tolerate};

/// Most points that are kept for one report.
const MAX_POINTS: usize = 1000;

/// Asks what to watch, then watches it as long as the session lasts.
pub(crate) async fn report(session: Session) -> Result<(), Failure> {
    tolerate(watch(session).await)
}

async fn watch(session: Session) -> Result<(), coderctl_drpc::RpcError> {
    session.ready().await;
    let request = proto::GetResourcesMonitoringConfigurationRequest {};
    let wanted: proto::GetResourcesMonitoringConfigurationResponse =
        session.client.unary(rpc::GET_RESOURCES_MONITORING_CONFIGURATION, &request).await?;
    let memory = wanted.memory.is_some_and(|memory| memory.enabled);
    let volumes: Vec<String> = wanted
        .volumes
        .into_iter()
        .filter(|volume| volume.enabled)
        .map(|volume| volume.path)
        .collect();
    let Some(config) = wanted.config.filter(|_| memory || !volumes.is_empty()) else {
        return Ok(());
    };
    let interval = u64::try_from(config.collection_interval_seconds).unwrap_or(0).max(1);
    let count = usize::try_from(config.num_datapoints).unwrap_or(0).clamp(1, MAX_POINTS);
    let mut points = VecDeque::with_capacity(count);
    loop {
        tokio::time::sleep(Duration::from_secs(interval)).await;
        if points.len() == count {
            points.pop_front();
        }
        points.push_back(Datapoint {
            collected_at: Some(SystemTime::now().into()),
            memory: memory.then(memory_usage).flatten(),
            volumes: volumes.iter().filter_map(|path| volume_usage(path)).collect(),
        });
        if points.len() == count {
            let request = proto::PushResourcesMonitoringUsageRequest {
                datapoints: points.iter().cloned().collect(),
            };
            let _: proto::PushResourcesMonitoringUsageResponse =
                session.client.unary(rpc::PUSH_RESOURCES_MONITORING_USAGE, &request).await?;
        }
    }
}

/// The machine's memory; `None` where it is not known.
fn memory_usage() -> Option<MemoryUsage> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Reads `/proc/meminfo` (proc_meminfo(5)): lines such as `MemTotal:  16 kB`.
fn parse_memory(text: &str) -> Option<MemoryUsage> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    let used = total.saturating_sub(bytes("MemAvailable")?);
    Some(MemoryUsage { used, total })
}

/// A volume by any path on it; `None` when there is none.
fn volume_usage(path: &str) -> Option<VolumeUsage> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).ok();
    Some(VolumeUsage {
        volume: path.to_owned(),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree))?,
        total: bytes(stat.f_blocks)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    400 kB\n";
        let memory = parse_memory(text).unwrap();
        assert_eq!((memory.used, memory.total), (600 * 1024, 1000 * 1024));
        assert_eq!(parse_memory("MemTotal: x kB"), None);
        assert_eq!(parse_memory(""), None);
    }

    #[test]
    fn volumes_are_found_by_any_path() {
        let root = volume_usage("/").unwrap();
        assert!(root.total > 0 && root.used <= root.total, "{root:?}");
        assert_eq!(volume_usage("/nonexistent/path"), None);
    }
}
