//! `/reinit` as an agent asks it, row by row, and under races.

use bytes::BytesMut;
use coderctl_deployment::{
    config::AgentMode,
    model::{
        Agent, JobStatus, Lifecycle, PREBUILDS_USER, ReinitEvent, Template, Timestamp, Transition,
    },
    provisioner::create::Made,
    pubsub::channels::WorkspaceEvent,
    store::Prebuild,
};
use coderctl_transport::Body;
use http::{Method, StatusCode};

use crate::world::{LIMIT, World, token, until};

const REINIT: &str = "/api/v2/workspaceagents/me/reinit";

/// Prebuilt workspaces whose agents the tests themselves are.
async fn world() -> World {
    World::with(|config| config.agents = AgentMode::ByHand).await
}

fn prebuilt(count: usize, claims: &str) -> String {
    format!(
        "[[agents]]\nname = \"main\"\n{claims}\n\
         [[presets]]\nname = \"small\"\nprebuilds = {count}\n"
    )
}

const CLAIMS_FAIL: &str =
    "[[failures]]\ntransition = \"start\"\nkind = \"claim\"\nerror = \"disk full\"";
const CLAIMS_TAKE_LONG: &str = "[[start]]\nstage = \"Waiting\"";

/// The prebuilt workspaces, once their builds are done, all their agents ready.
async fn ready(world: &World, count: usize) -> Vec<(Prebuild, Agent)> {
    let prebuilds = until("the prebuilt workspaces are built", async || {
        let prebuilds = world.store().prebuilds().await.unwrap();
        let built = |prebuild: &Prebuild| prebuild.job.status() == JobStatus::Succeeded;
        (prebuilds.len() == count && prebuilds.iter().all(built)).then_some(prebuilds)
    })
    .await;
    let mut all = Vec::new();
    for prebuild in prebuilds {
        let agent = world.agent(prebuild.build.id, Lifecycle::Created).await;
        let now = Timestamp::now();
        world.store().update_lifecycle(agent.id, Lifecycle::Ready, None, now).await.unwrap();
        all.push((prebuild, agent));
    }
    all
}

async fn claim(world: &World, name: &str, template: &Template) -> Made {
    let made = world.try_create(&world.user, name, template, Some("small")).await.unwrap();
    assert!(made.claimed);
    made
}

/// What comes on a stream: its frames up to an event or the end.
struct Stream(Body, BytesMut);

impl Stream {
    async fn open(world: &World, query: &str, agent: &Agent) -> Result<Self, StatusCode> {
        let answer = world.follow(&format!("{REINIT}{query}"), &token(agent)).await;
        if answer.status() != StatusCode::OK {
            return Err(answer.status());
        }
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        assert_eq!(answer.headers()["x-accel-buffering"], "no");
        Ok(Self(answer.into_body(), BytesMut::new()))
    }

    /// The next frame, with its empty line; none at the end.
    async fn frame(&mut self) -> Option<String> {
        let read = async {
            loop {
                if let Some(end) = self.1.windows(2).position(|bytes| bytes == b"\n\n") {
                    let frame = self.1.split_to(end + 2);
                    return Some(String::from_utf8(frame.to_vec()).unwrap());
                }
                match self.0.chunk().await.unwrap() {
                    Some(chunk) => self.1.extend_from_slice(&chunk),
                    None => return None,
                }
            }
        };
        tokio::time::timeout(LIMIT, read).await.expect("a frame, or the end")
    }

    async fn first_ping(&mut self) {
        assert_eq!(self.frame().await.as_deref(), Some("event: ping\n\n"), "at once");
    }

    /// The event; pings before it do not count.
    async fn event(&mut self) -> Option<ReinitEvent> {
        loop {
            let frame = self.frame().await?;
            if frame == "event: ping\n\n" {
                continue;
            }
            let json = frame.strip_prefix("event: data\ndata: ").unwrap();
            return Some(serde_json::from_str(json).unwrap());
        }
    }
}

#[tokio::test]
async fn an_unclaimed_agent_waits_and_hears_of_its_claim_once() {
    let world = world().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    let (prebuild, agent) = ready(&world, 1).await.remove(0);
    for query in ["?wait=true", ""] {
        let mut stream = Stream::open(&world, query, &agent).await.unwrap();
        stream.first_ping().await;
    }
    let mut waiting = Stream::open(&world, "?wait=true", &agent).await.unwrap();
    let mut old = Stream::open(&world, "", &agent).await.unwrap();
    waiting.first_ping().await;
    old.first_ping().await;
    claim(&world, "mine", &template).await;
    let wanted = Some(ReinitEvent::claimed(prebuild.workspace.id, world.user.id));
    assert_eq!(waiting.event().await, wanted);
    assert_eq!(waiting.frame().await, None, "and the stream ends");
    assert_eq!(old.event().await, wanted);
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn an_event_is_byte_for_byte_that_of_a_real_server() {
    let world = world().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    let (prebuild, agent) = ready(&world, 1).await.remove(0);
    let mut stream = Stream::open(&world, "?wait=true", &agent).await.unwrap();
    stream.first_ping().await;
    claim(&world, "mine", &template).await;
    // A recording of a real claim has these members in this order.
    let wanted = format!(
        "event: data\ndata: {{\"workspace_id\":\"{}\",\"reason\":\"prebuild_claimed\",\
         \"owner_id\":\"{}\"}}\n\n",
        prebuild.workspace.id, world.user.id
    );
    assert_eq!(stream.frame().await, Some(wanted));
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_claimed_agent_gets_its_event_on_reconnect_unless_it_runs_for_it_already() {
    let world = world().await;
    let template = world.template("prebuilt", &prebuilt(1, "")).await;
    let (prebuild, old) = ready(&world, 1).await.remove(0);
    let made = claim(&world, "mine", &template).await;
    world.succeeded(made.job.id).await;
    let new = world.agent(made.build.id, Lifecycle::Created).await;
    let event = ReinitEvent::claimed(prebuild.workspace.id, world.user.id);
    let (owner, id) = (world.user.id, new.id);
    let rows = [
        ("?wait=true".to_owned(), true),
        ("?wait=1".to_owned(), true),
        (format!("?wait=true&agent_id={}", old.id), true),
        (format!("?wait=true&owner_id={PREBUILDS_USER}"), true),
        (format!("?wait=true&agent_id={}&owner_id={owner}", old.id), true),
        (format!("?wait=true&agent_id={id}&owner_id={PREBUILDS_USER}"), true),
        (format!("?wait=true&agent_id={id}"), false),
        (format!("?wait=true&owner_id={owner}"), false),
        (format!("?wait=true&agent_id={id}&owner_id={owner}"), false),
    ];
    for (query, sent) in rows {
        // The token is the same for both builds' agents.
        match Stream::open(&world, &query, &old).await {
            Ok(mut stream) => {
                assert!(sent, "{query}");
                assert_eq!(stream.event().await.as_ref(), Some(&event), "{query}");
                assert_eq!(stream.frame().await, None, "{query}");
            }
            Err(status) => assert_eq!((status, sent), (StatusCode::CONFLICT, false), "{query}"),
        }
    }
    // One that does not ask to wait is never told what was, nor refused.
    for query in ["", "?wait=false", "?wait=nonsense"] {
        Stream::open(&world, query, &old).await.unwrap().first_ping().await;
    }
    for query in ["?wait=true&agent_id=x", "?owner_id=7"] {
        let status = Stream::open(&world, query, &old).await.err();
        assert_eq!(status, Some(StatusCode::BAD_REQUEST), "{query}");
    }

    // The next build ends it.
    let (_, job) = world.build(made.workspace.id, Transition::Start).await;
    world.succeeded(job.id).await;
    let (build, _) = world.store().latest_build(made.workspace.id).await.unwrap();
    let later = world.agent(build.id, Lifecycle::Created).await;
    let status = Stream::open(&world, "?wait=true", &later).await.err();
    assert_eq!(status, Some(StatusCode::CONFLICT));
    let status = Stream::open(&world, "?wait=true", &old).await.err();
    assert_eq!(status, Some(StatusCode::UNAUTHORIZED), "its token is of a build that is over");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_regular_agent_is_refused_with_the_reason() {
    let world = world().await;
    let template = world.template("minimal", "[[agents]]\nname = \"main\"\n").await;
    let made = world.create("dev", &template).await;
    world.succeeded(made.job.id).await;
    let agent = world.agent(made.build.id, Lifecycle::Created).await;
    let path = format!("{REINIT}?wait=true");
    let answer = world.ask(Method::GET, &path, &token(&agent), "").await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert!(body["message"].as_str().unwrap().contains("not a prebuilt one"), "{body}");
    Stream::open(&world, "", &agent).await.unwrap().first_ping().await;
    for bad in ["", "x", "00000000-0000-0000-0000-000000000007"] {
        let answer = world.ask(Method::GET, &path, bad, "").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad:?}");
    }
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_waits_is_let_go_when_its_claim_fails() {
    let world = world().await;
    let template = world.template("prebuilt", &prebuilt(1, CLAIMS_FAIL)).await;
    let (_, agent) = ready(&world, 1).await.remove(0);
    let mut stream = Stream::open(&world, "?wait=true", &agent).await.unwrap();
    stream.first_ping().await;
    let made = claim(&world, "mine", &template).await;
    let job = world.over(made.job.id).await;
    assert_eq!(job.status(), JobStatus::Failed);
    assert_eq!(stream.event().await, None, "nothing to start over for");
    world.deployment.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_waits_is_let_go_when_its_claim_is_canceled() {
    let world = world().await;
    let long = format!("{CLAIMS_TAKE_LONG}\n");
    let template = world.template("prebuilt", &prebuilt(1, &long)).await;
    let (_, agent) = ready(&world, 1).await.remove(0);
    let hold = coderctl_deployment::faults::Fault::HoldJob { workspace: None, transition: None };
    world.faults().arm(hold).unwrap();
    let mut stream = Stream::open(&world, "?wait=true", &agent).await.unwrap();
    stream.first_ping().await;
    let made = claim(&world, "mine", &template).await;
    world.running(made.job.id).await;
    world.store().cancel_job(made.job.id, None, Timestamp::now()).await.unwrap();
    let event = WorkspaceEvent::state_change(made.workspace.id);
    world.state().publish_workspace(world.user.id, event).await;
    assert_eq!(world.over(made.job.id).await.status(), JobStatus::Canceled);
    assert_eq!(stream.event().await, None);
    world.deployment.shutdown().await;
}

/// Claims against agents that subscribe at that moment: whoever is first, each agent hears of its
/// claim exactly once.
#[tokio::test]
async fn no_claim_falls_between_subscribing_and_looking() {
    /// In rounds, so that few are there at a time.
    const ROUNDS: usize = 40;
    /// Preset's limit of prebuilt workspaces.
    const AT_ONCE: usize = 50;
    let world = World::with(|config| {
        config.agents = AgentMode::ByHand;
        config.builds = AT_ONCE;
    })
    .await;
    let template = world.template("prebuilt", &prebuilt(AT_ONCE, "")).await;
    let mut heard = 0;
    for round in 0..ROUNDS {
        let prebuilds = ready(&world, AT_ONCE).await;
        let agents = prebuilds.iter().map(|(prebuild, agent)| {
            let world = &world;
            async move {
                let wanted = ReinitEvent::claimed(prebuild.workspace.id, world.user.id);
                let mut stream = until("the agent is let in", async || {
                    match Stream::open(world, "?wait=true", agent).await {
                        Ok(stream) => Some(stream),
                        // Ordinary while the claim build runs.
                        Err(StatusCode::UNAUTHORIZED) => None,
                        Err(status) => panic!("{status}"),
                    }
                })
                .await;
                assert_eq!(stream.event().await, Some(wanted), "not let go without a claim");
            }
        });
        let claims = (0..AT_ONCE).map(|number| {
            let (world, template) = (&world, &template);
            async move { claim(world, &format!("w{round}-{number}"), template).await }
        });
        let (agents, claims) = tokio::join!(
            futures_util::future::join_all(agents),
            futures_util::future::join_all(claims)
        );
        heard += agents.len();
        let mut ids: Vec<_> = claims.iter().map(|made| made.workspace.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), AT_ONCE, "no workspace is claimed twice");
    }
    assert_eq!(heard, ROUNDS * AT_ONCE);
    world.deployment.shutdown().await;
}
