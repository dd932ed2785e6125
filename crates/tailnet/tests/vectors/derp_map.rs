use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::derp_map::{DerpMap, DerpMapError, Family, MAX_NODES, UrlError};
use coderctl_tailnet::ids::RegionId;
use url::Url;

const CONNECTION: &str = include_str!("../fixtures/connection.json");

fn region(id: i64) -> RegionId {
    RegionId::new(id).unwrap()
}

fn recorded() -> DerpMap {
    let json: serde_json::Value = serde_json::from_str(CONNECTION).unwrap();
    DerpMap::from_value(&json["derp_map"]).unwrap()
}

fn map(json: serde_json::Value) -> DerpMap {
    DerpMap::from_json(json.to_string().as_bytes()).unwrap()
}

fn relay_url(map: &DerpMap, id: i64) -> String {
    map.regions[&region(id)].relays().next().unwrap().url().unwrap().to_string()
}

#[test]
fn a_recorded_map() {
    let map = recorded();
    let ids: Vec<i32> = map.regions.keys().map(|id| id.get()).collect();
    assert_eq!(ids, [999, 1000]);
    let embedded = &map.regions[&region(999)];
    assert!(embedded.embedded_relay);
    assert_eq!(embedded.name, "Coder Embedded Relay");
    let relay = &embedded.nodes[0];
    assert_eq!(relay.ipv4, Family::Fixed([127, 0, 0, 1].into()));
    assert_eq!(relay.ipv6, Family::Resolve);
    assert_eq!((relay.stun_port, relay.derp_port), (None, Some(33017)));
    assert!(relay.insecure_for_tests && relay.force_http && !relay.stun_only);
    let stun = &map.regions[&region(1000)];
    assert_eq!(stun.nodes[0].stun_port, Some(33698));
    assert!(!stun.has_relay());
    assert_eq!(relay_url(&map, 999), "http://127.0.0.1:33017/derp");
    assert_eq!(map.choose_home(), Some(region(999)));
}

#[test]
fn the_embedded_relay_is_where_we_reach_the_server() {
    let rewritten = |url: &str| {
        let mut map = recorded();
        map.rewrite(&Url::parse(url).unwrap());
        assert_eq!(map.regions[&region(1000)], recorded().regions[&region(1000)]);
        relay_url(&map, 999)
    };
    assert_eq!(rewritten("https://coder.example.com"), "https://coder.example.com/derp");
    assert_eq!(
        rewritten("https://coder.example.com:8443/x/y"),
        "https://coder.example.com:8443/derp"
    );
    assert_eq!(rewritten("http://10.0.0.1"), "http://10.0.0.1/derp");
    assert_eq!(rewritten("http://[::1]:3000/"), "http://[::1]:3000/derp");
}

#[test]
fn a_map_can_be_had_before_the_server_spoke() {
    let server = Url::parse("https://coder.example.com").unwrap();
    let early = DerpMap::embedded_at(&server);
    assert_eq!(early.choose_home(), Some(RegionId::EMBEDDED));
    assert_eq!(relay_url(&early, 999), "https://coder.example.com/derp");
}

#[test]
fn home_is_the_best_score_then_the_control_planes_then_the_lowest() {
    let node = |name: &str| serde_json::json!([{"Name": name, "HostName": "h"}]);
    let three = |extra: serde_json::Value| {
        let mut json = serde_json::json!({"Regions": {
            "5": {"RegionID": 5, "Nodes": node("5a")},
            "7": {"RegionID": 7, "Nodes": node("7a")},
            "9": {"RegionID": 9, "EmbeddedRelay": true, "Nodes": node("9a")},
        }});
        for (pointer, value) in extra.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        map(json).choose_home()
    };
    assert_eq!(three(serde_json::json!({})), Some(region(9)));
    assert_eq!(three(serde_json::json!({"/Regions/9/Avoid": true})), Some(region(5)));
    let scores = serde_json::json!({"RegionScore": {"7": 0.5, "9": -1}});
    assert_eq!(three(serde_json::json!({"/HomeParams": scores})), Some(region(7)));
    let stun = serde_json::json!([{"Name": "9s", "STUNOnly": true}]);
    assert_eq!(three(serde_json::json!({"/Regions/9/Nodes": stun})), Some(region(5)));
    let all = serde_json::json!({
        "/Regions/5/Avoid": true, "/Regions/7/Avoid": true, "/Regions/9/Avoid": true,
    });
    assert_eq!(three(all), Some(region(9)));
    assert_eq!(DerpMap::default().choose_home(), None);
}

#[test]
fn only_what_matters_to_a_relay_connection_is_a_change() {
    let old = recorded();
    assert!(old.changed_regions(&recorded()).is_empty());
    let mut new = recorded();
    new.regions.get_mut(&region(999)).unwrap().name = "another".to_owned();
    new.regions.get_mut(&region(1000)).unwrap().nodes[0].stun_port = None;
    new.regions.get_mut(&region(999)).unwrap().nodes[0].stun_port = Some(1);
    assert!(old.changed_regions(&new).is_empty());
    new.regions.get_mut(&region(999)).unwrap().nodes[0].derp_port = Some(1);
    new.regions.remove(&region(1000));
    assert_eq!(
        old.changed_regions(&new).into_iter().collect::<Vec<_>>(),
        [region(999), region(1000)]
    );
}

#[test]
fn nodes_without_host_or_with_a_bad_one_have_no_url() {
    let with = |host: &str| {
        let json =
            serde_json::json!({"Regions": {"1": {"Nodes": [{"Name": "n", "HostName": host}]}}});
        map(json).regions[&region(1)].nodes[0].url().unwrap_err()
    };
    assert_eq!(with(""), UrlError::NoHost("n".to_owned()));
    assert!(matches!(with("a b"), UrlError::Host { .. }));
}

#[test]
fn families_may_be_fixed_or_switched_off() {
    let json = serde_json::json!({"Regions": {"1": {"Nodes": [
        {"Name": "n", "HostName": "", "IPv4": "none", "IPv6": "2001:db8::1"},
    ]}}});
    let map = map(json);
    let node = &map.regions[&region(1)].nodes[0];
    assert_eq!(node.ipv4, Family::Disabled);
    assert_eq!(node.url().unwrap().to_string(), "https://[2001:db8::1]/derp");
}

#[test]
fn maps_that_are_none() {
    let error = |json: &str| DerpMap::from_json(json.as_bytes()).unwrap_err();
    assert!(matches!(error("[]"), DerpMapError::Json(_)));
    assert!(matches!(error(r#"{"Regions": {"x": {}}}"#), DerpMapError::Json(_)));
    assert!(matches!(error(r#"{"Regions": {"0": {}}}"#), DerpMapError::Region(_)));
    let nodes = vec![serde_json::json!({}); MAX_NODES + 1];
    let json = serde_json::json!({"Regions": {"1": {"Nodes": nodes}}}).to_string();
    assert!(
        matches!(error(&json), DerpMapError::TooManyNodes { nodes, .. } if nodes == MAX_NODES + 1)
    );
    assert!(DerpMap::from_json(b"{}").unwrap().regions.is_empty());
    assert!(DerpMap::from_json(br#"{"Regions": null}"#).unwrap().regions.is_empty());
}

#[test]
fn a_node_with_an_impossible_port_does_not_take_the_map_with_it() {
    let json = serde_json::json!({"Regions": {"1": {"Nodes": [
        {"Name": "bad", "HostName": "h", "DERPPort": 70000},
        {"Name": "good", "HostName": "h"},
    ]}}});
    let map = map(json);
    let names: Vec<&str> = map.regions[&region(1)].relays().map(|node| &node.name[..]).collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn both_forms_say_the_same() {
    let node = |name: &str, change: fn(&mut proto::derp_map::region::Node)| {
        let mut node =
            proto::derp_map::region::Node { name: name.to_owned(), ..Default::default() };
        change(&mut node);
        node
    };
    let relay = node("999b", |node| {
        node.region_id = 999;
        node.ipv4 = "127.0.0.1".to_owned();
        node.stun_port = -1;
        node.derp_port = 33017;
        node.insecure_for_tests = true;
        node.force_http = true;
    });
    let stun = node("1000stun0", |node| {
        node.region_id = 1000;
        node.host_name = "127.0.0.1".to_owned();
        node.stun_port = 33698;
        node.stun_only = true;
    });
    let region = |id, code: &str, name: &str, embedded_relay, node| proto::derp_map::Region {
        region_id: id,
        embedded_relay,
        region_code: code.to_owned(),
        region_name: name.to_owned(),
        avoid: false,
        nodes: vec![node],
    };
    let message = proto::DerpMap {
        home_params: None,
        regions: [
            (999, region(999, "coder", "Coder Embedded Relay", true, relay)),
            (1000, region(1000, "coder_stun_1000", "Coder STUN 1000", false, stun)),
        ]
        .into(),
    };
    assert_eq!(DerpMap::from_proto(message).unwrap(), recorded());
}
