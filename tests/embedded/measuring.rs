//! `ping`, `speedtest` and `netcheck`.

use serde_json::Value;

use crate::support::{Seen, Server};

fn json(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.bytes).unwrap()
}

#[test]
fn pings_say_how_long_and_by_which_way() {
    let server = Server::with_dev();
    let seen = server.run(&["ping", "dev", "-n", "3", "--wait", "10ms"]).ends(0);
    let text = String::from_utf8(seen.bytes).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for line in &lines[..3] {
        assert!(line.starts_with("pong from dev ") && line.contains(" ms"), "{line}");
    }
    assert_eq!(lines[3], "3 sent, 3 received, 0 % lost");

    let seen = server.run(&["ping", "dev", "-n=2", "--wait=0s", "-o", "json"]).ends(0);
    let document = json(&seen);
    assert_eq!((&document["sent"], &document["received"]), (&2.into(), &2.into()));
    let pings = document["pings"].as_array().unwrap();
    assert_eq!(pings.len(), 2, "{document}");
    for ping in pings {
        assert!(ping["latency_ms"].as_f64().unwrap() > 0.0, "{ping}");
    }
    assert!(["relay", "direct"].contains(&document["paths"][0]["kind"].as_str().unwrap()));
}

#[test]
fn what_is_stopped_is_not_started_for_a_measurement() {
    let server = Server::with_dev();
    server.run(&["stop", "dev", "-y"]).ends(0);
    server.run(&["ping", "dev", "-n", "1"]).ends(203);
    server.run(&["speedtest", "dev", "-t", "1s"]).ends(203);
    server.run(&["ping", "nowhere", "-n", "1"]).ends(201);
}

#[test]
fn a_speed_test_measures_both_directions() {
    let server = Server::with_dev();
    let seen = server.run(&["speedtest", "dev", "-t", "300ms", "-o", "json"]).ends(0);
    let document = json(&seen);
    for direction in ["download", "upload"] {
        let test = &document[direction];
        assert!(test["overall"]["throughput_mbits"].as_f64().unwrap() > 0.0, "{document}");
        assert!(!test["intervals"].as_array().unwrap().is_empty(), "{document}");
        assert!(["relay", "direct"].contains(&test["path"]["kind"].as_str().unwrap()));
    }
    let seen = server.run(&["speedtest", "dev", "-t", "300ms", "--direction", "down"]).ends(0);
    let text = String::from_utf8(seen.bytes).unwrap();
    assert!(text.starts_with("download ") && text.contains("Mbit/s"), "{text}");
    assert!(!text.contains("upload"), "{text}");
}

#[test]
fn a_network_check_needs_no_workspace() {
    let server = Server::empty();
    let seen = server.run(&["netcheck", "-o", "json"]).ends(0);
    let document = json(&seen);
    assert_eq!(document["healthy"], true, "{document}");
    assert_eq!(document["coordinator"]["open"], true, "{document}");
    let relays = document["relays"].as_array().unwrap();
    assert_eq!(relays.len(), 1, "{document}");
    for leg in ["upgrade", "websocket"] {
        assert_eq!(relays[0][leg]["open"], true, "{document}");
    }
    assert_eq!((&relays[0]["region_id"], &relays[0]["home"]), (&999.into(), &true.into()));
    assert!(relays[0]["latency_ms"].as_f64().unwrap() > 0.0, "{document}");

    let text = String::from_utf8(server.run(&["netcheck"]).ends(0).bytes).unwrap();
    assert!(text.contains("relay        coder (999, home)"), "{text}");
}
