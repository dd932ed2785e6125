//! Bytes that are truncated, oversized or hostile, on every layer.

use coderctl_drpc::proto::tailnet::{
    self as proto,
    coordinate_response::{PeerUpdate, peer_update::Kind},
};
use futures_util::future::join_all;
use rustix::process::Signal;

use crate::{
    agent::AgentKind,
    coordinator::{Coordinator, news, region},
    deployment::{AGENT, Deployment, Plan, WORKSPACE, scripted, workspace},
    http::{Reply, Say},
    relay::RelayKind,
};

/// Nothing that was planned; the same in every run.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn a_workspace_that_cannot_be_understood_names_the_call() {
    let whole = Plan::default().workspace.to_string();
    let rows = [
        Reply::Json(200, whole[..whole.len() / 2].to_owned()),
        Reply::Json(200, whole.replace("99020e73", "\\u001b[2J")),
        Reply::Json(200, "[".repeat(200_000)),
        Reply::Json(200, "null".to_owned()),
        Reply::Json(200, " ".repeat(33 << 20)),
    ];
    join_all(rows.map(|reply| async move {
        let plan = scripted(move |line, _, _| line.ends_with("/dev").then(|| reply.clone()));
        Deployment::start(plan).await.ssh_fails(212, &["hint: "]).await;
    }))
    .await;
}

/// The control connection tells the map as well.
#[tokio::test]
async fn a_relay_map_that_cannot_be_understood_is_done_without() {
    let many: Vec<String> = (1..3000).map(|id| format!("\"{id}\":{{}}")).collect();
    let rows = [
        "{}".to_owned(),
        "{\"derp_map\":".to_owned(),
        "{\"derp_map\":[]}".to_owned(),
        "{\"derp_map\":{\"Regions\":{\"-1\":{}}}}".to_owned(),
        "{\"derp_map\":{\"Regions\":{\"999\":{\"Nodes\":[{\"DERPPort\":-5}]}}}}".to_owned(),
        format!("{{\"derp_map\":{{\"Regions\":{{{}}}}}}}", many.join(",")),
    ];
    join_all(rows.map(|body| async move {
        let plan = scripted(move |line, _, _| {
            line.ends_with("/connection").then(|| Reply::Json(200, body.clone()))
        });
        Deployment::start(plan).await.ssh_works().await;
    }))
    .await;
}

/// Watches of which there is nothing to be expected.
fn garbled() -> Vec<Say> {
    vec![
        Say::Text("no JSON \u{1b}[2J".to_owned()),
        Say::Text("{\"agent_update\":{\"id\":\"\\u001b[2J\"}}".to_owned()),
        Say::Text("[".repeat(200_000)),
        Say::Binary(noise(1, 1000)),
        // A message of 2^62 bytes.
        Say::Raw([&[0x81, 127][..], &(1_u64 << 62).to_be_bytes()].concat()),
        // Masked, as only a client may; of a reserved kind; text that is none.
        Say::Raw(vec![0x81, 0x81, 1, 2, 3, 4, 5]),
        Say::Raw(vec![0x83, 0]),
        Say::Raw(vec![0x81, 2, 0xff, 0xfe]),
    ]
}

/// A plan whose watches begin like this.
fn watched(script: Vec<Say>) -> Plan {
    scripted(move |line, _, _| {
        let watch = line.ends_with("/agent-connection-watch");
        watch.then(|| Reply::Socket(script.clone()))
    })
}

#[tokio::test]
async fn a_watch_that_talks_garbage_ends_the_wait_for_a_build() {
    join_all(garbled().into_iter().map(|say| async move {
        let building = workspace("start", "running", &[]);
        let deployment =
            Deployment::start(Plan { workspace: building, ..watched(vec![say]) }).await;
        deployment.ssh_fails(212, &[]).await;
    }))
    .await;
}

#[tokio::test]
async fn a_watch_that_talks_garbage_is_done_without_where_nothing_is_waited_for() {
    join_all(garbled().into_iter().map(|say| async move {
        Deployment::start(watched(vec![say])).await.ssh_works().await;
    }))
    .await;
}

/// What servers have that lack the watch.
#[tokio::test]
async fn an_event_stream_of_garbage_ends_the_wait_for_a_build() {
    let events = |text: &[u8]| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        Reply::Bytes([head, text].concat())
    };
    let rows = [
        (Reply::Json(200, "{}".to_owned()), "no event stream"),
        (events(b"event: data\ndata: no JSON \x1b[2J\n\n"), "watch"),
        (events(b"event: data\ndata: {\"id\":\"\\u001b[2J\"}\n\n"), "watch"),
        (events(&vec![b'x'; 17 << 20]), "16777216 bytes"),
    ];
    join_all(rows.map(|(reply, words)| async move {
        let plan = scripted(move |line, _, _| match line {
            _ if line.ends_with("-watch") => Some(Reply::error(404, "Route not found.")),
            _ if line.ends_with("/watch") => Some(reply.clone()),
            _ => None,
        });
        let building = workspace("start", "running", &[]);
        let deployment = Deployment::start(Plan { workspace: building, ..plan }).await;
        deployment.ssh_fails(212, &[words]).await;
    }))
    .await;
}

#[tokio::test]
async fn a_watch_that_breaks_is_opened_again() {
    let rows = [
        vec![Say::Cut],
        vec![Say::Raw([0x89, 0].repeat(20_000)), Say::Cut],
        vec![Say::Raw(vec![0x81, 10, b'x']), Say::Cut],
        vec![Say::Close(1001)],
        vec![Say::Close(1011)],
        vec![Say::Close(4000)],
    ];
    join_all(rows.map(|script| async move {
        let plan = scripted(move |line, before, _| {
            let watch = line.ends_with("/agent-connection-watch") && before == 0;
            watch.then(|| Reply::Socket(script.clone()))
        });
        let deployment = Deployment::start(plan).await;
        let mut program = deployment.start_program(&["ssh", "dev", "--", "cat"]);
        let watch = format!("GET /api/v2/workspaces/{WORKSPACE}/agent-connection-watch");
        deployment.until(&watch, 2).await;
        program.say(b"x").await;
        assert_eq!(program.hear(1).await, "x");
        assert_eq!(program.end().await.code, Some(0));
    }))
    .await;
}

#[tokio::test]
async fn a_watch_that_talks_garbage_under_a_session_ends_nothing() {
    let deployment = Deployment::well().await;
    let mut program = deployment.start_program(&["ssh", "dev", "--", "cat"]);
    program.say(b"one").await;
    assert_eq!(program.hear(3).await, "one");
    let watch = format!("GET /api/v2/workspaces/{WORKSPACE}/agent-connection-watch");
    deployment.until(&watch, 1).await;
    deployment.state.tell("no JSON \u{1b}[2J");
    deployment.until(&format!("GET /api/v2/workspaces/{WORKSPACE}"), 1).await;
    program.say(b"two").await;
    assert_eq!(program.hear(3).await, "two");
    assert_eq!(program.end().await.code, Some(0));
}

#[tokio::test]
async fn a_coordinator_that_breaks_yamux_is_told_as_such() {
    let data = |stream: u32, length: u32| {
        [&[0, 0, 0, 1][..], &stream.to_be_bytes(), &length.to_be_bytes()].concat()
    };
    let rows = [
        noise(3, 4000),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // Another version, an unknown type, more data than was granted, a stream of ours that
        // does not exist, going away for an internal error, half of a header.
        vec![9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        data(1, u32::MAX),
        data(77, 10),
        vec![0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        vec![0, 0, 0, 0, 0],
    ];
    join_all(rows.map(|bytes| async move {
        let plan = Plan { coordinator: Coordinator::Bytes(bytes), ..Plan::default() };
        Deployment::start(plan).await.ssh_gives_up(209, &["no tunnel", "0.2 s"]).await;
    }))
    .await;
}

#[tokio::test]
async fn a_coordinator_that_breaks_drpc_is_told_as_such() {
    let text = b"boom \x1b[2J\nhint: run rm";
    let mut error = vec![0x07, 1, 1, 8 + text.len() as u8];
    error.extend_from_slice(&[0; 8]);
    error.extend_from_slice(text);
    let rows = [
        noise(4, 4000),
        // A message of 2^63 bytes, a number that does not end, a message that is no protobuf,
        // an error with escapes, a close.
        vec![0x05, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        vec![0xff; 64],
        vec![0x05, 1, 1, 4, 0xff, 0xff, 0xff, 0xff],
        error,
        vec![0x0b, 1, 1, 0],
    ];
    join_all(rows.map(|bytes| async move {
        let plan = Plan { coordinator: Coordinator::Packets(bytes), ..Plan::default() };
        Deployment::start(plan).await.ssh_gives_up(209, &["no tunnel", "0.2 s"]).await;
    }))
    .await;
}

#[tokio::test]
async fn news_that_make_no_sense_are_passed_over() {
    let update = |id: &[u8], node: Option<proto::Node>, kind: i32| {
        news(PeerUpdate { id: id.to_vec(), node, kind, reason: "\u{1b}[2J".to_owned() })
    };
    let agent = AGENT.as_bytes();
    let odd = proto::Node {
        id: -1,
        key: noise(5, 34),
        disco: "discokey:\u{1b}[2J".to_owned(),
        preferred_derp: i32::MIN,
        addresses: vec!["::/0".to_owned(), "\u{1b}".to_owned()],
        ..Default::default()
    };
    let mut messages = vec![
        update(&[], None, Kind::Node.into()),
        update(&[1; 17], None, Kind::Node.into()),
        update(agent, None, Kind::Node.into()),
        update(agent, Some(odd), Kind::Node.into()),
        update(agent, None, Kind::Disconnected.into()),
        update(agent, None, Kind::Lost.into()),
        update(agent, None, 99),
        proto::CoordinateResponse { peer_updates: Vec::new(), error: "\u{1b}[2J".to_owned() },
    ];
    let many = (0..5000_u32).map(|number| PeerUpdate {
        id: [[0; 12].as_slice(), &number.to_be_bytes()].concat(),
        node: Some(proto::Node::default()),
        kind: Kind::Node.into(),
        reason: String::new(),
    });
    messages.push(proto::CoordinateResponse { peer_updates: many.collect(), error: String::new() });
    let plan = Plan { coordinator: Coordinator::Says(messages), ..Plan::default() };
    Deployment::start(plan).await.ssh_works().await;
}

#[tokio::test]
async fn a_relay_map_with_odd_relays_is_told_as_such() {
    let odd = region(proto::derp_map::region::Node {
        name: "\u{1b}[2J".to_owned(),
        region_id: 999,
        host_name: "\u{1b}[2J".to_owned(),
        derp_port: -1,
        ..Default::default()
    });
    let plan = Plan {
        coordinator: Coordinator::Maps(odd),
        ..scripted(|line, _, _| {
            line.ends_with("/connection").then(|| Reply::Json(200, "{}".to_owned()))
        })
    };
    Deployment::start(plan).await.ssh_gives_up(209, &["no tunnel", "has no relay"]).await;
}

/// The other source tells it.
#[tokio::test]
async fn a_relay_map_with_impossible_regions_is_done_without() {
    let odd = proto::DerpMap { home_params: None, regions: [(-5, Default::default())].into() };
    let plan = Plan { coordinator: Coordinator::Maps(odd), ..Plan::default() };
    Deployment::start(plan).await.ssh_works().await;
}

#[tokio::test]
async fn what_is_no_relay_is_told_as_such() {
    let mut magic = b"\x01\x00\x00\x00\x28DERP".to_vec();
    magic.extend_from_slice(&noise(6, 36));
    let rows = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "relay"),
        (noise(7, 4000), "relay"),
        (magic, "does not begin like a relay"),
        (vec![1, 0xff, 0xff, 0xff, 0xff], "relay"),
        (vec![1, 0, 0], "0.2 s"),
    ];
    join_all(rows.map(|(bytes, words)| async move {
        let plan = Plan { relay: RelayKind::Begins(bytes), ..Plan::default() };
        Deployment::start(plan).await.ssh_gives_up(209, &["no tunnel", words]).await;
    }))
    .await;
}

#[tokio::test]
async fn odd_frames_of_a_relay_are_passed_over() {
    let frame = |kind: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, payload].concat()
    };
    let frames = [
        // Unknown, too short for its kind, of a stranger, gone peers, pings without end, health
        // with escapes and no text at all.
        frame(0xee, &noise(8, 500)),
        frame(5, &[1, 2, 3]),
        frame(5, &noise(9, 1000)),
        frame(8, &noise(10, 33)),
        frame(8, &[]),
        frame(3, &noise(11, 100)[..10]),
        frame(0x14, b"odd\x1b[2J\n\xff"),
        frame(0x14, b""),
        frame(0x12, &[7; 8]).repeat(5000),
        frame(0x12, &[7; 3]),
    ];
    let plan = Plan { relay: RelayKind::Says(frames.concat()), ..Plan::default() };
    Deployment::start(plan).await.ssh_works().await;
}

#[tokio::test]
async fn a_relay_that_breaks_its_protocol_after_the_login_is_told_as_such() {
    let mut restarting = vec![0x15, 0, 0, 0, 8];
    restarting.extend_from_slice(&[0xff; 8]);
    // A frame of four gigabytes.
    let long = vec![5, 0xff, 0xff, 0xff, 0xff];
    let both = [restarting, long.clone()].concat();
    // An introduction that this key cannot have made.
    let mut forged = vec![3, 0, 0, 0, 100];
    forged.extend_from_slice(&noise(12, 100));
    join_all([long, both, forged].map(|bytes| async move {
        let plan =
            Plan { relay: RelayKind::Says(bytes), agent: AgentKind::Dead, ..Plan::default() };
        Deployment::start(plan).await.ssh_gives_up(209, &["no tunnel"]).await;
    }))
    .await;
}

#[tokio::test]
async fn datagrams_that_are_no_wireguard_are_passed_over() {
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for kind in 0..6 {
        for length in [0_usize, 1, 4, 16, 31, 32, 64, 92, 148, 1500, 60_000] {
            let mut datagram = noise(100 + kind, length);
            datagram.splice(..length.min(4), [kind as u8, 0, 0, 0].into_iter().take(length));
            datagrams.push(datagram);
        }
    }
    // What looks like a peer's ping, too.
    datagrams.push([b"TS\xf0\x9f\x92\xac".to_vec(), noise(200, 200)].concat());
    let plan = Plan { agent: AgentKind::Noisy(datagrams), ..Plan::default() };
    let deployment = Deployment::start(plan).await;
    let seen = deployment.run(&["-v", "ssh", "dev", "--", "exit", "3"]).await;
    assert_eq!(seen.code, Some(3), "{seen:?}");
    assert!(seen.stderr.contains("1 handshake in"), "{seen:?}");
}

#[tokio::test]
async fn an_ssh_server_that_is_none_is_told_as_such() {
    let packet =
        |length: u32, rest: &[u8]| [b"SSH-2.0-x\r\n", &length.to_be_bytes()[..], rest].concat();
    let rows = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), 212),
        (b"SSH-1.5-\x1b[2Jold\r\n".to_vec(), 212),
        ([b"SSH-2.0-".to_vec(), vec![b'x'; 100_000]].concat(), 212),
        (vec![b'x'; 100_000], 212),
        (packet(u32::MAX, b""), 212),
        (packet(0, &[0; 16]), 212),
        (packet(12, &noise(13, 2000)), 212),
    ];
    join_all(rows.map(|(bytes, code)| async move {
        let plan = Plan { agent: AgentKind::Says(bytes), ..Plan::default() };
        let deployment = Deployment::start(plan).await;
        deployment.ssh_fails(code, &["cannot open an SSH session", "hint: "]).await;
        deployment.assert_left();
    }))
    .await;
}

#[tokio::test]
async fn an_agent_that_lists_no_sessions_is_told_as_such() {
    let list =
        |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let rows = [
        // As upstream's agent answers.
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "this workspace's agent does not list its sessions",
        ),
        ("HTTP/1.1 500 Boom\r\nContent-Length: 0\r\n\r\n".to_owned(), "500"),
        ("SSH-2.0-x\r\n".to_owned(), "the agent does not speak HTTP"),
        (list("[{\"id\":\"\u{1b}[2J\"}]"), "cannot be understood"),
        (list("[{}]"), "cannot be understood"),
    ];
    join_all(rows.map(|(bytes, words)| async move {
        let plan = Plan { agent: AgentKind::Says(bytes.into()), ..Plan::default() };
        let deployment = Deployment::start(plan).await;
        deployment.run(&["sessions", "dev"]).await.fails(212, &[words, "hint: "]);
        deployment.assert_left();
    }))
    .await;
}

/// The log is only there to be shown.
#[tokio::test]
async fn a_build_log_of_garbage_does_not_keep_the_workspace_from_starting() {
    for say in [Say::Text("no JSON \u{1b}[2J".to_owned()), Say::Raw(noise(14, 3000))] {
        let plan = scripted(move |line, _, state| {
            line.ends_with("/logs").then(|| {
                let mut done = Plan::default().workspace;
                done["latest_build"]["build_number"] = serde_json::json!(8);
                state.turn(done);
                Reply::Socket(vec![say.clone()])
            })
        });
        let mut stopped = Plan::default().workspace;
        stopped["latest_build"]["transition"] = serde_json::json!("stop");
        let deployment = Deployment::start(Plan { workspace: stopped, ..plan }).await;
        deployment.ssh_works().await;
    }
}

#[tokio::test]
async fn a_forward_outlives_a_relay_that_breaks() {
    // The second connection to the relay is the first that lives.
    let plan = scripted(|line, before, _| {
        let bytes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: DERP\r\n\r\ngarbage";
        (line.ends_with("/derp") && before == 0).then(|| Reply::Bytes(bytes.to_vec()))
    });
    let deployment = Deployment::start(plan).await;
    let mut program = deployment.start_program(&["port-forward", "dev", "--tcp", "0:80"]);
    program.until_said("Ready!").await;
    program.signal(Signal::INT);
    assert_eq!(program.end().await.code, Some(0));
}
