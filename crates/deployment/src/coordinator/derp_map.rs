//! The relay map of this deployment, in both forms in which it is told (coder/coder:
//! tailnet/derpmap.go, coderd/workspaceagents.go).

use std::collections::BTreeMap;

use coderctl_drpc::proto::tailnet::{
    self as proto,
    derp_map::{HomeParams, Region as ProtoRegion, region::Node as ProtoNode},
};
use serde::Serialize;
use url::Url;

/// The region of the relay inside the control plane (coder/coder: codersdk/deployment.go).
pub const EMBEDDED_REGION: i32 = 999;

/// All regions. Serialized it is Tailscale's JSON (coder/tailscale: tailcfg/derpmap.go).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpMap {
    /// By their number.
    pub regions: BTreeMap<i32, Region>,
}

/// A group of relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Region {
    /// The relay is part of the control plane: clients reach it by the URL by which they reach
    /// that.
    pub embedded_relay: bool,
    /// Its number.
    #[serde(rename = "RegionID")]
    pub id: i32,
    /// Short name.
    #[serde(rename = "RegionCode")]
    pub code: String,
    /// Name for people.
    #[serde(rename = "RegionName")]
    pub name: String,
    /// In order of preference.
    pub nodes: Vec<Node>,
}

/// One relay or STUN server. Fields that are zero are left out of the JSON, as upstream does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Unique in the map.
    pub name: String,
    /// The region's number.
    #[serde(rename = "RegionID")]
    pub region: i32,
    /// Name or address to dial.
    pub host_name: String,
    /// UDP port for STUN, -1 for none; 0 would mean 3478.
    #[serde(rename = "STUNPort", skip_serializing_if = "is_zero")]
    pub stun_port: i32,
    /// It relays nothing.
    #[serde(rename = "STUNOnly", skip_serializing_if = "is_false")]
    pub stun_only: bool,
    /// TCP port of the relay; 0 would mean 443.
    #[serde(rename = "DERPPort", skip_serializing_if = "is_zero")]
    pub derp_port: i32,
    /// Plain HTTP instead of TLS.
    #[serde(rename = "ForceHTTP", skip_serializing_if = "is_false")]
    pub force_http: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl DerpMap {
    /// The map of a deployment with this URL, whose relay is part of it; with a region for STUN
    /// when there is a port for it. (Upstream gives every STUN server a region, for a client asks
    /// only one in each.)
    #[must_use]
    pub fn embedded(access_url: &Url, stun_port: Option<u16>) -> Self {
        let host = access_url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let force_http = access_url.scheme() == "http";
        let port = access_url.port_or_known_default().unwrap_or(443);
        let relay = Region {
            embedded_relay: true,
            id: EMBEDDED_REGION,
            code: "coder".to_owned(),
            name: "Coder Embedded Relay".to_owned(),
            nodes: vec![Node {
                name: format!("{EMBEDDED_REGION}b"),
                region: EMBEDDED_REGION,
                host_name: host.clone(),
                stun_port: -1,
                derp_port: port.into(),
                force_http,
                ..Node::default()
            }],
        };
        let mut regions = BTreeMap::from([(EMBEDDED_REGION, relay)]);
        if let Some(port) = stun_port {
            let id = EMBEDDED_REGION + 1;
            let stun = Region {
                embedded_relay: false,
                id,
                code: format!("coder_stun_{id}"),
                name: format!("Coder STUN {id}"),
                nodes: vec![Node {
                    name: format!("{id}stun0"),
                    region: id,
                    host_name: host,
                    stun_port: port.into(),
                    stun_only: true,
                    ..Node::default()
                }],
            };
            regions.insert(id, stun);
        }
        Self { regions }
    }

    /// As the control stream tells it.
    #[must_use]
    pub fn to_proto(&self) -> proto::DerpMap {
        let node = |node: &Node| ProtoNode {
            name: node.name.clone(),
            region_id: node.region.into(),
            host_name: node.host_name.clone(),
            stun_port: node.stun_port,
            stun_only: node.stun_only,
            derp_port: node.derp_port,
            force_http: node.force_http,
            ..ProtoNode::default()
        };
        let region = |region: &Region| ProtoRegion {
            region_id: region.id.into(),
            embedded_relay: region.embedded_relay,
            region_code: region.code.clone(),
            region_name: region.name.clone(),
            avoid: false,
            nodes: region.nodes.iter().map(node).collect(),
        };
        proto::DerpMap {
            home_params: Some(HomeParams::default()),
            regions: self.regions.iter().map(|(id, it)| ((*id).into(), region(it))).collect(),
        }
    }
}

/// What a client has to know before it connects: the body of the connection info
/// (coder/coder: codersdk/workspacesdk/workspacesdk.go).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionInfo {
    /// The relays.
    pub derp_map: DerpMap,
    /// Relays are to be reached by WebSocket only.
    pub derp_force_websockets: bool,
    /// Nothing but relays may be used.
    pub disable_direct_connections: bool,
    /// For the desktop client.
    pub hostname_suffix: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use coderctl_tailnet::derp_map::DerpMap as Read;

    use super::*;

    fn map(url: &str, stun: Option<u16>) -> DerpMap {
        DerpMap::embedded(&Url::parse(url).unwrap(), stun)
    }

    /// As a real server told it, where it had these settings.
    #[test]
    fn json() {
        let right = serde_json::json!({"Regions": {
            "999": {
                "EmbeddedRelay": true, "RegionID": 999, "RegionCode": "coder",
                "RegionName": "Coder Embedded Relay",
                "Nodes": [{
                    "Name": "999b", "RegionID": 999, "HostName": "127.0.0.1",
                    "STUNPort": -1, "DERPPort": 33017, "ForceHTTP": true,
                }],
            },
            "1000": {
                "EmbeddedRelay": false, "RegionID": 1000, "RegionCode": "coder_stun_1000",
                "RegionName": "Coder STUN 1000",
                "Nodes": [{
                    "Name": "1000stun0", "RegionID": 1000, "HostName": "127.0.0.1",
                    "STUNPort": 33698, "STUNOnly": true,
                }],
            },
        }});
        let json = serde_json::to_value(map("http://127.0.0.1:33017", Some(33698))).unwrap();
        assert_eq!(json, right);
    }

    #[test]
    fn both_forms_mean_the_same() {
        for (url, stun) in [
            ("http://127.0.0.1:33017", Some(33698)),
            ("https://coder.example.com/", None),
            ("http://[::1]:8080", Some(1)),
        ] {
            let map = map(url, stun);
            let json = Read::from_json(&serde_json::to_vec(&map).unwrap()).unwrap();
            let wire = Read::from_proto(map.to_proto()).unwrap();
            assert_eq!(json, wire);
            assert_eq!(json.regions.len(), 1 + usize::from(stun.is_some()));
            let relay = json.regions[&coderctl_tailnet::ids::RegionId::EMBEDDED].relays().next();
            let relay = relay.unwrap().url().unwrap();
            assert_eq!(relay, Url::parse(url).unwrap().join("/derp").unwrap());
        }
    }
}
