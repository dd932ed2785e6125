//! Numbers about the agent, as often as the server wants them (`agent/stats.go`).

use std::{collections::BTreeMap, time::Duration};

use coderctl_drpc::proto::{agent as proto, rpc::agent as rpc};

use crate::{
    manifest::duration,
    session::{Failure, Session},
    sessions::Counts,
    tailnet::Traffic,
};

/// How the server reads that there is no latency (`agent/agent.go`, `Collect`: −1 µs).
const NO_LATENCY: f64 = -0.001;

/// The least time between two reports, whatever the server wants.
const LEAST: Duration = Duration::from_secs(1);

/// Asks how often, then reports that often.
pub(crate) async fn report(session: Session) -> Result<(), Failure> {
    session.ready().await;
    let mut tailnet = session.agent.tailnet.subscribe();
    let Ok(found) = tailnet.wait_for(Option::is_some).await.map(|found| found.clone()) else {
        return Ok(());
    };
    let Some(tailnet) = found else { return Ok(()) };
    let mut before = tailnet.traffic();
    let mut request = proto::UpdateStatsRequest { stats: None };
    loop {
        let answer: proto::UpdateStatsResponse =
            session.client.unary(rpc::UPDATE_STATS, &request).await?;
        tokio::time::sleep(duration(answer.report_interval).max(LEAST)).await;
        let (now, latencies) = (tailnet.traffic(), tailnet.latencies().await);
        let stats = stats(before, now, session.agent.sessions.counts(), latencies);
        before = now;
        request = proto::UpdateStatsRequest { stats: Some(stats) };
    }
}

/// The numbers of the time between two readings.
fn stats(before: Traffic, now: Traffic, counts: Counts, latencies: Vec<f64>) -> proto::Stats {
    let grown = |now: u64, before: u64| signed(now.saturating_sub(before));
    let connections = signed(now.connections);
    let protocols = (connections > 0).then(|| ("TCP".to_owned(), connections));
    proto::Stats {
        connections_by_proto: BTreeMap::from_iter(protocols),
        connection_count: connections,
        connection_median_latency_ms: median(latencies).unwrap_or(NO_LATENCY),
        rx_packets: grown(now.rx_packets, before.rx_packets),
        rx_bytes: grown(now.rx_bytes, before.rx_bytes),
        tx_packets: grown(now.tx_packets, before.tx_packets),
        tx_bytes: grown(now.tx_bytes, before.tx_bytes),
        session_count_vscode: counts.vscode,
        session_count_jetbrains: counts.jetbrains,
        session_count_reconnecting_pty: counts.terminal,
        session_count_ssh: counts.ssh,
        ..Default::default()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_told_as_it_grows() {
        let before =
            Traffic { rx_packets: 1, rx_bytes: 10, tx_packets: 2, tx_bytes: 20, connections: 7 };
        let now =
            Traffic { rx_packets: 4, rx_bytes: 50, tx_packets: 2, tx_bytes: 21, connections: 2 };
        let counts = Counts { ssh: 1, vscode: 2, jetbrains: 3, terminal: 4 };
        let stats = stats(before, now, counts, vec![3.0, 1.0, 2.0]);
        assert_eq!((stats.rx_packets, stats.rx_bytes), (3, 40));
        assert_eq!((stats.tx_packets, stats.tx_bytes), (0, 1));
        assert_eq!(stats.connection_count, 2);
        assert_eq!(stats.connections_by_proto, [("TCP".to_owned(), 2)].into());
        assert_eq!((stats.session_count_ssh, stats.session_count_vscode), (1, 2));
        assert_eq!((stats.session_count_jetbrains, stats.session_count_reconnecting_pty), (3, 4));
        assert!((stats.connection_median_latency_ms - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn no_peer_is_no_latency() {
        let none = Traffic::default();
        let stats = stats(none, none, Counts::default(), vec![]);
        assert!((stats.connection_median_latency_ms - NO_LATENCY).abs() < f64::EPSILON);
        assert!(stats.connections_by_proto.is_empty());
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
