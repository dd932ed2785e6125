//! Every recorded frame, packet and message decodes, and encodes to the same bytes again.

use coderctl_drpc::{
    proto::{agent, rpc, tailnet},
    wire::{self, Kind},
};
use prost::Message;

use super::support::{Call, Side, recordings};

#[test]
fn every_frame_encodes_to_the_same_bytes() {
    for recording in recordings() {
        for side in Side::BOTH {
            let mut encoded = Vec::new();
            for frame in recording.frames(side) {
                encoded.extend(frame.header.encode());
                encoded.extend(frame.payload);
            }
            assert_eq!(encoded, recording.bytes(side), "{} {side:?}", recording.name);
        }
    }
}

#[test]
fn every_packet_encodes_to_the_same_bytes() {
    for recording in recordings() {
        for (stream, call) in recording.calls() {
            for side in Side::BOTH {
                let mut encoded = Vec::new();
                for packet in Call::packets(call.side(side)) {
                    let (kind, number) = (packet.kind, packet.message);
                    wire::encode(&mut encoded, kind, packet.stream, number, &packet.data);
                }
                assert_eq!(encoded, call.side(side), "{} #{stream} {side:?}", recording.name);
            }
        }
    }
}

#[test]
fn every_message_encodes_to_the_same_bytes() {
    let mut seen = 0;
    for recording in recordings() {
        for (stream, call) in recording.calls() {
            let rpc = call.rpc();
            for side in Side::BOTH {
                for packet in Call::packets(call.side(side)) {
                    if packet.kind == Kind::Message {
                        let at = format!("{} #{stream} {rpc} {side:?}", recording.name);
                        recode(&rpc, side, &packet.data, &at);
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen, 89);
}

#[test]
fn a_port_of_minus_one_is_read() {
    let recording = recordings().swap_remove(0);
    let calls = recording.calls();
    let call = calls.values().find(|call| call.rpc() == rpc::tailnet::STREAM_DERP_MAPS).unwrap();
    let packet = Call::packets(&call.server).swap_remove(0);
    let map = tailnet::DerpMap::decode(packet.data).unwrap();
    assert_eq!(map.regions[&999].nodes[0].stun_port, -1);
    assert!(map.regions[&999].embedded_relay);
}

/// A message of a call by its name and direction, there and back. Maps have no order on the Go
/// side, so a recording with several entries in one is compared as a value.
fn recode(rpc: &str, side: Side, data: &[u8], at: &str) {
    fn check<M: Message + Default + PartialEq>(data: &[u8], at: &str) {
        let message = M::decode(data).unwrap_or_else(|error| panic!("{at}: {error}"));
        let encoded = message.encode_to_vec();
        if encoded != data {
            assert_eq!(sorted(&encoded), sorted(data), "{at}: bytes were lost or added");
            assert!(M::decode(&encoded[..]).unwrap() == message, "{at}: not the same value");
            assert!(may_differ(at), "{at}: other bytes");
        }
    }
    macro_rules! pick {
        ($request:ty, $response:ty) => {
            match side {
                Side::Client => check::<$request>(data, at),
                Side::Server => check::<$response>(data, at),
            }
        };
    }
    match rpc {
        rpc::tailnet::COORDINATE => {
            pick!(tailnet::CoordinateRequest, tailnet::CoordinateResponse)
        }
        rpc::tailnet::STREAM_DERP_MAPS => pick!(tailnet::StreamDerpMapsRequest, tailnet::DerpMap),
        rpc::tailnet::REFRESH_RESUME_TOKEN => {
            pick!(tailnet::RefreshResumeTokenRequest, tailnet::RefreshResumeTokenResponse)
        }
        rpc::tailnet::POST_TELEMETRY => {
            pick!(tailnet::TelemetryRequest, tailnet::TelemetryResponse)
        }
        rpc::agent::GET_MANIFEST => pick!(agent::GetManifestRequest, agent::Manifest),
        rpc::agent::GET_ANNOUNCEMENT_BANNERS => {
            pick!(agent::GetAnnouncementBannersRequest, agent::GetAnnouncementBannersResponse)
        }
        rpc::agent::GET_RESOURCES_MONITORING_CONFIGURATION => pick!(
            agent::GetResourcesMonitoringConfigurationRequest,
            agent::GetResourcesMonitoringConfigurationResponse
        ),
        rpc::agent::UPDATE_STARTUP => pick!(agent::UpdateStartupRequest, agent::Startup),
        rpc::agent::UPDATE_LIFECYCLE => pick!(agent::UpdateLifecycleRequest, agent::Lifecycle),
        rpc::agent::UPDATE_STATS => pick!(agent::UpdateStatsRequest, agent::UpdateStatsResponse),
        rpc::agent::BATCH_CREATE_LOGS => {
            pick!(agent::BatchCreateLogsRequest, agent::BatchCreateLogsResponse)
        }
        rpc::agent::BATCH_UPDATE_METADATA => {
            pick!(agent::BatchUpdateMetadataRequest, agent::BatchUpdateMetadataResponse)
        }
        rpc::agent::SCRIPT_COMPLETED => pick!(
            agent::WorkspaceAgentScriptCompletedRequest,
            agent::WorkspaceAgentScriptCompletedResponse
        ),
        rpc::agent::LIST_SUB_AGENTS => {
            pick!(agent::ListSubAgentsRequest, agent::ListSubAgentsResponse)
        }
        rpc::agent::PUSH_CONTEXT_STATE => {
            pick!(agent::PushContextStateRequest, agent::PushContextStateResponse)
        }
        rpc::agent::REPORT_CONNECTION => pick!(agent::ReportConnectionRequest, ()),
        rpc::agent::PUSH_RESOURCES_MONITORING_USAGE => pick!(
            agent::PushResourcesMonitoringUsageRequest,
            agent::PushResourcesMonitoringUsageResponse
        ),
        other => panic!("{at}: no types for {other}"),
    }
}

/// The relay map has two regions, and a Go map no order.
fn may_differ(at: &str) -> bool {
    [rpc::tailnet::STREAM_DERP_MAPS, rpc::agent::GET_MANIFEST].iter().any(|rpc| at.contains(rpc))
}

fn sorted(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.sort_unstable();
    bytes
}
