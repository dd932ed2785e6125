//! The map as the control stream sends it.

use std::collections::BTreeMap;

use coderctl_drpc::proto::tailnet as proto;

use super::{DerpMap, DerpMapError, MAX_REGIONS, RawNode, Region, region_nodes, scores};
use crate::ids::RegionId;

impl DerpMap {
    /// Reads a message of the control stream.
    ///
    /// # Errors
    ///
    /// [`DerpMapError`] when a region's number is impossible or the map too large.
    pub fn from_proto(message: proto::DerpMap) -> Result<DerpMap, DerpMapError> {
        if message.regions.len() > MAX_REGIONS {
            return Err(DerpMapError::TooManyRegions(message.regions.len()));
        }
        let score = message.home_params.map(|params| params.region_score).unwrap_or_default();
        let mut map = DerpMap { region_score: scores(score), regions: BTreeMap::new() };
        for (id, region) in message.regions {
            let id = RegionId::new(id)?;
            let region = Region {
                id,
                embedded_relay: region.embedded_relay,
                code: region.region_code,
                name: region.region_name,
                avoid: region.avoid,
                nodes: region_nodes(id, region.nodes.into_iter().map(raw))?,
            };
            map.regions.insert(id, region);
        }
        Ok(map)
    }
}

fn raw(node: proto::derp_map::region::Node) -> RawNode {
    RawNode {
        name: node.name,
        host_name: node.host_name,
        cert_name: node.cert_name,
        ipv4: node.ipv4,
        ipv6: node.ipv6,
        stun_port: node.stun_port.into(),
        stun_only: node.stun_only,
        derp_port: node.derp_port.into(),
        insecure_for_tests: node.insecure_for_tests,
        force_http: node.force_http,
    }
}
