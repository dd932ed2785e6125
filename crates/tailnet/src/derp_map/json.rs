//! The map as JSON: Tailscale's spelling (coder/tailscale: tailcfg/derpmap.go), as the connection
//! info carries it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DerpMap, DerpMapError, MAX_REGIONS, RawNode, Region, region_nodes, scores};
use crate::ids::RegionId;

impl DerpMap {
    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// [`DerpMapError`] when it is no map, or too large.
    pub fn from_json(json: &[u8]) -> Result<DerpMap, DerpMapError> {
        DerpMap::try_from(serde_json::from_slice::<MapJson>(json)?)
    }

    /// Reads the JSON form out of a larger document.
    ///
    /// # Errors
    ///
    /// [`DerpMapError`] when it is no map, or too large.
    pub fn from_value(json: &serde_json::Value) -> Result<DerpMap, DerpMapError> {
        DerpMap::try_from(MapJson::deserialize(json)?)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MapJson {
    home_params: Option<HomeJson>,
    regions: Option<BTreeMap<i64, RegionJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HomeJson {
    region_score: Option<BTreeMap<i64, f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct RegionJson {
    embedded_relay: bool,
    region_code: String,
    region_name: String,
    avoid: bool,
    nodes: Option<Vec<NodeJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct NodeJson {
    name: String,
    host_name: String,
    cert_name: String,
    #[serde(rename = "IPv4")]
    ipv4: String,
    #[serde(rename = "IPv6")]
    ipv6: String,
    #[serde(rename = "STUNPort")]
    stun_port: i64,
    #[serde(rename = "STUNOnly")]
    stun_only: bool,
    #[serde(rename = "DERPPort")]
    derp_port: i64,
    insecure_for_tests: bool,
    #[serde(rename = "ForceHTTP")]
    force_http: bool,
}

impl TryFrom<MapJson> for DerpMap {
    type Error = DerpMapError;

    fn try_from(json: MapJson) -> Result<Self, DerpMapError> {
        let regions = json.regions.unwrap_or_default();
        if regions.len() > MAX_REGIONS {
            return Err(DerpMapError::TooManyRegions(regions.len()));
        }
        let score = json.home_params.and_then(|params| params.region_score).unwrap_or_default();
        let mut map = DerpMap { region_score: scores(score), regions: BTreeMap::new() };
        for (id, region) in regions {
            let id = RegionId::new(id)?;
            let nodes = region.nodes.unwrap_or_default().into_iter().map(NodeJson::raw);
            let region = Region {
                id,
                embedded_relay: region.embedded_relay,
                code: region.region_code,
                name: region.region_name,
                avoid: region.avoid,
                nodes: region_nodes(id, nodes)?,
            };
            map.regions.insert(id, region);
        }
        Ok(map)
    }
}

impl NodeJson {
    fn raw(self) -> RawNode {
        RawNode {
            name: self.name,
            host_name: self.host_name,
            cert_name: self.cert_name,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            stun_port: self.stun_port,
            stun_only: self.stun_only,
            derp_port: self.derp_port,
            insecure_for_tests: self.insecure_for_tests,
            force_http: self.force_http,
        }
    }
}
