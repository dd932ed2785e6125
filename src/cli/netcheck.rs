use std::fmt::Write;

use coderctl_tailnet::{
    derp::TransportDial,
    derp_map::DerpMap,
    ids::RegionId,
    netcheck::{self, Nat, RelayCheck, Udp, UdpFamily},
};
use serde::Serialize;

use super::{
    Environment, Session,
    global::{Headers, Output},
    write_data,
};
use crate::{
    api::Client,
    apps::report,
    error::{CommandError, Kind},
    ui::escape,
};

/// Check what this network lets through to the deployment's relays and beyond
///
/// Each leg of a tunnel is tried on its own: the coordinator's WebSocket, every relay (by HTTP
/// upgrade and by WebSocket), and UDP to the STUN servers over IPv4 and IPv6, which direct paths
/// need. No workspace is needed. The exit code is 0 when tunnels can work, 209 when no relay can be
/// reached or the coordinator cannot; UDP that is blocked makes them slower, and is no failure.
///
/// With -o json it is one object: healthy, warnings (an array of sentences), direct_allowed,
/// websocket_forced, coordinator (open and problem), udp (ipv4 and ipv6, each of state, address,
/// latency_ms, nat and problem) and relays, an array of region_id, code, name, home, latency_ms,
/// latency_problem, upgrade and websocket (open and problem). state is open, blocked, no_network or
/// no_server; nat is none, easy, hard or unknown. Fields may be added, never removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    pub(super) headers: Headers,
}

const VERSIONS: &str = "compare the versions of client and server with `coderctl version`";

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let session = Session::open(environment).await?;
    let (client, ui) = (session.api(), &environment.ui);
    let info = client.connection_info(None).await.map_err(|error| {
        if error.status().is_some_and(|status| status.as_u16() == 404) {
            let old = "the server is too old to say how it is reached without a workspace";
            return CommandError::msg(Kind::Protocol, old).hint(VERSIONS);
        }
        error.into()
    })?;
    let mut map = DerpMap::from_value(&info.derp_map)
        .map_err(|error| CommandError::msg(Kind::Protocol, error.to_string()).hint(VERSIONS))?;
    map.rewrite(client.url());
    let stage = ui.brief("Checking the network");
    let dialer = TransportDial::new(client.transport().clone());
    let (udp, relays, coordinator) = tokio::join!(
        netcheck::check_udp(&map),
        netcheck::check_relays(&dialer, &map),
        coordinator(client),
    );
    stage.finish();
    let udp = udp.map_err(|error| CommandError::new(Kind::Other, error))?;
    let report = Report::new(&map, &udp, &relays, coordinator, &Allowed::of(&info));
    match args.output {
        Output::Json => write_data(ui, &report::json(&report)?)?,
        Output::Table => write_data(ui, &report.table())?,
    };
    report.verdict()
}

/// Whether the coordinator's socket opens.
async fn coordinator(client: &Client) -> Leg {
    let request = match client.coordinate_request(None, None) {
        Ok(request) => request,
        Err(error) => return Leg::of(Err(error.to_string())),
    };
    match client.transport().websocket(request, Default::default()).await {
        Ok(mut socket) => {
            socket.close().await;
            Leg::of(Ok(()))
        }
        Err(error) => Leg::of(Err(format!("{:#}", anyhow::Error::new(error)))),
    }
}

/// What the deployment wants.
struct Allowed {
    direct: bool,
    upgrade: bool,
}

impl Allowed {
    fn of(info: &crate::api::ConnectionInfo) -> Self {
        Self { direct: !info.disable_direct_connections, upgrade: !info.derp_force_websockets }
    }
}

/// All of it, as `-o json` shows it.
#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    warnings: Vec<String>,
    direct_allowed: bool,
    websocket_forced: bool,
    coordinator: Leg,
    udp: UdpReport,
    relays: Vec<Relay>,
}

/// Whether something gets through.
#[derive(Debug, Serialize)]
struct Leg {
    open: bool,
    problem: Option<String>,
}

impl Leg {
    fn of(outcome: Result<(), String>) -> Self {
        Self { open: outcome.is_ok(), problem: outcome.err() }
    }

    fn text(&self) -> String {
        match &self.problem {
            None => "open".to_owned(),
            Some(problem) => format!("closed: {}", escape(problem)),
        }
    }
}

#[derive(Debug, Serialize)]
struct UdpReport {
    ipv4: FamilyReport,
    ipv6: FamilyReport,
}

#[derive(Debug, Serialize)]
struct FamilyReport {
    state: &'static str,
    address: Option<String>,
    latency_ms: Option<f64>,
    nat: &'static str,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Relay {
    region_id: i32,
    code: String,
    name: String,
    home: bool,
    latency_ms: Option<f64>,
    latency_problem: Option<String>,
    upgrade: Leg,
    websocket: Leg,
}

impl Report {
    fn new(
        map: &DerpMap,
        udp: &Udp,
        relays: &[RelayCheck],
        coordinator: Leg,
        allowed: &Allowed,
    ) -> Self {
        let home = home(map, relays);
        let usable = |relay: &RelayCheck| match allowed.upgrade {
            true => relay.is_usable(),
            false => relay.websocket.is_ok(),
        };
        Self {
            healthy: coordinator.open && relays.iter().any(usable),
            warnings: warnings(udp, relays, &coordinator, allowed),
            direct_allowed: allowed.direct,
            websocket_forced: !allowed.upgrade,
            coordinator,
            udp: UdpReport { ipv4: FamilyReport::of(&udp.ipv4), ipv6: FamilyReport::of(&udp.ipv6) },
            relays: relays.iter().map(|relay| Relay::of(relay, home)).collect(),
        }
    }

    fn table(&self) -> String {
        let mut text = format!("coordinator  {}\n", self.coordinator.text());
        for (name, family) in [("IPv4", &self.udp.ipv4), ("IPv6", &self.udp.ipv6)] {
            let _ = writeln!(text, "UDP {name}     {}", family.text());
        }
        let direct = match self.direct_allowed {
            true => "allowed",
            false => "the deployment forbids them",
        };
        let _ = writeln!(text, "direct paths {direct}");
        for relay in &self.relays {
            let _ = writeln!(text, "relay        {}", relay.text());
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "! {}", escape(warning));
        }
        text
    }

    fn verdict(&self) -> Result<u8, CommandError> {
        if self.healthy {
            return Ok(0);
        }
        let why = match self.coordinator.open {
            true => "no relay can be reached: there can be no tunnel",
            false => "the coordinator cannot be reached: there can be no tunnel",
        };
        let hint = "what stands between here and the deployment must let WebSockets through";
        Err(CommandError::msg(Kind::Tunnel, why).hint(hint))
    }
}

impl FamilyReport {
    fn of(family: &UdpFamily) -> Self {
        let closed = |state, problem: Option<String>| Self {
            state,
            address: None,
            latency_ms: None,
            nat: "unknown",
            problem,
        };
        match family {
            UdpFamily::NoServer => closed("no_server", None),
            UdpFamily::NoNetwork(why) => closed("no_network", Some(why.clone())),
            UdpFamily::Blocked { asked } => {
                let servers = if *asked == 1 { "server" } else { "servers" };
                closed("blocked", Some(format!("no answer from {asked} {servers}")))
            }
            UdpFamily::Open { address, latency, nat } => Self {
                state: "open",
                address: Some(address.to_string()),
                latency_ms: Some(report::milliseconds(*latency)),
                nat: match nat {
                    Nat::None => "none",
                    Nat::Easy => "easy",
                    Nat::Hard => "hard",
                    Nat::Unknown => "unknown",
                },
                problem: None,
            },
        }
    }

    fn text(&self) -> String {
        let problem = escape(self.problem.as_deref().unwrap_or_default());
        match (self.state, &self.address, self.latency_ms) {
            (_, Some(address), Some(latency)) => {
                let nat = match self.nat {
                    "none" => "no NAT",
                    "easy" => "NAT with one address for all destinations",
                    "hard" => "NAT with another address for each destination",
                    _ => "NAT of a kind that takes a second server to tell",
                };
                format!("open as {address}, {latency} ms, {nat}")
            }
            ("no_server", ..) => {
                "not checked: the deployment names no STUN server with such an address".to_owned()
            }
            ("no_network", ..) => format!("not possible here: {problem}"),
            _ => format!("blocked: {problem}"),
        }
    }
}

impl Relay {
    fn of(check: &RelayCheck, home: Option<RegionId>) -> Self {
        Self {
            region_id: check.region.get(),
            code: check.code.clone(),
            name: check.name.clone(),
            home: home == Some(check.region),
            latency_ms: check.latency.as_ref().ok().map(|took| report::milliseconds(*took)),
            latency_problem: check.latency.as_ref().err().cloned(),
            upgrade: Leg::of(check.upgrade.clone()),
            websocket: Leg::of(check.websocket.clone()),
        }
    }

    fn text(&self) -> String {
        let home = if self.home { ", home" } else { "" };
        let latency = match (self.latency_ms, &self.latency_problem) {
            (Some(latency), _) => format!("{latency} ms"),
            (None, Some(problem)) => format!("not measured: {}", escape(problem)),
            (None, None) => "not measured".to_owned(),
        };
        let code = escape(&self.code);
        format!(
            "{code} ({}{home}), {latency}\n               upgrade   {}\n               WebSocket {}",
            self.region_id,
            self.upgrade.text(),
            self.websocket.text()
        )
    }
}

/// Where a tunnel from here would listen: the nearest, or what the map prefers.
fn home(map: &DerpMap, relays: &[RelayCheck]) -> Option<RegionId> {
    let mut latencies = coderctl_tailnet::derp::home::Latencies::default();
    let measured = relays.iter().filter(|relay| relay.is_usable());
    let round = measured.filter_map(|relay| Some((relay.region, *relay.latency.as_ref().ok()?)));
    latencies.add(round.collect(), std::time::Instant::now());
    latencies.choose(map, None)
}

/// What is worth knowing, a sentence each.
fn warnings(udp: &Udp, relays: &[RelayCheck], coordinator: &Leg, allowed: &Allowed) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if !coordinator.open {
        warn("the coordinator's WebSocket does not open: no tunnel can be arranged");
    }
    for relay in relays {
        let code = &relay.code;
        match (&relay.upgrade, &relay.websocket) {
            (Err(_), Err(_)) => warn(&format!("relay {code} cannot be reached")),
            (Err(_), Ok(())) if allowed.upgrade => {
                warn(&format!("relay {code} is reached over WebSocket only, which is slower"));
            }
            (Ok(()), Err(_)) if !allowed.upgrade => {
                warn(&format!("relay {code} is to be reached over WebSocket, which is blocked"));
            }
            (Ok(()) | Err(_), Ok(()) | Err(_)) => {}
        }
    }
    if !allowed.direct {
        return warnings;
    }
    let mut warn = |text: &str| warnings.push(text.to_owned());
    let families = [&udp.ipv4, &udp.ipv6];
    let asked = |family: &&UdpFamily| !matches!(family, UdpFamily::NoServer);
    if !families.iter().any(asked) {
        warn("without a STUN server peers find each other only on the same network");
    } else if !families.iter().any(|family| family.is_open()) {
        warn("UDP is blocked: tunnels go by relay");
    }
    let hard = |family: &&UdpFamily| matches!(family, UdpFamily::Open { nat: Nat::Hard, .. });
    if families.iter().any(hard) {
        warn("the NAT gives each destination another address: direct paths are unlikely");
    }
    warnings
}

#[cfg(test)]
mod tests;
