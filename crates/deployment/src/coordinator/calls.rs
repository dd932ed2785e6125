//! The Tailnet service: its calls, of clients and of agents.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use coderctl_drpc::{
    Incoming, Receiver, RpcError, Sender, Server,
    proto::{rpc::tailnet as rpc, tailnet as proto},
};
use coderctl_tailnet::ids::PeerId;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    Client, Coordinator, Seat,
    check::{self, Refusal, Role},
    core::{Gone, MAX_TUNNELS, Mail},
};

/// Time for a peer to take a message. What waits for it needs no more memory meanwhile, but one
/// that answers pings and reads nothing for so long will not begin to.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the last words of a call (coder/coder: tailnet/controllers.go waits 1 s for them).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Requests of one peer that are handled at once, and then each second; those above it wait in the
/// peer's own stream. An agent acknowledges each of its clients after a restart.
const REQUEST_BURST: u32 = 1024;
/// See [`REQUEST_BURST`].
const REQUEST_RATE: u32 = 256;

/// Whose calls they are.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Agent(Uuid),
    Client(Client),
}

impl Caller {
    fn peer(self) -> PeerId {
        match self {
            Caller::Agent(agent) => agent.into(),
            Caller::Client(client) => client.peer,
        }
    }

    fn role(self) -> Role {
        match self {
            Caller::Agent(_) => Role::Agent,
            Caller::Client(_) => Role::Client,
        }
    }
}

impl Coordinator {
    /// Serves the Tailnet API to a client over a byte stream, until it ends, or until `stop`: then
    /// the connection is closed. Dropping it ends the connection.
    pub async fn serve_client<S>(&self, stream: S, client: Client, stop: impl Future<Output = ()>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let mut server = Server::connect(stream);
        let mut calls = JoinSet::new();
        let mut stop = pin!(stop);
        let ended = loop {
            tokio::select! {
                call = server.accept() => match call {
                    Some(call) => {
                        while calls.try_join_next().is_some() {}
                        let coordinator = self.clone();
                        let caller = Caller::Client(client);
                        calls.spawn(async move { coordinator.serve(call, caller).await }.boxed());
                    }
                    None => break server.closed().await,
                },
                () = &mut stop => break server.close().await,
            }
        };
        tracing::debug!(peer = %client.peer, %ended, "client left");
    }

    /// Serves one call that an agent made on its session. A call that is not of the Tailnet
    /// service is answered as unimplemented. Dropping it ends the call.
    pub async fn serve_agent_call(&self, call: Incoming, agent: Uuid) {
        self.serve(call, Caller::Agent(agent)).await;
    }

    async fn serve(&self, call: Incoming, caller: Caller) {
        let name = call.rpc().to_owned();
        let served = match name.as_str() {
            rpc::COORDINATE => {
                self.coordinate(call, caller).await;
                return;
            }
            rpc::STREAM_DERP_MAPS => self.stream_derp_maps(call).await,
            rpc::REFRESH_RESUME_TOKEN => self.refresh_resume_token(call, caller).await,
            // Taken and forgotten: nobody here evaluates it.
            rpc::POST_TELEMETRY => {
                call.unary(async |_: proto::TelemetryRequest| Ok(proto::TelemetryResponse {})).await
            }
            _ => call.unimplemented().await,
        };
        if let Err(error) = served {
            tracing::debug!(peer = %caller.peer(), %error, call = ?name, "a call ended early");
        }
    }

    async fn stream_derp_maps(&self, call: Incoming) -> Result<(), RpcError> {
        let (proto::StreamDerpMapsRequest {}, mut maps) = call.server_stream().await?;
        let mut derp_map = self.derp_map();
        loop {
            let map = derp_map.borrow_and_update().to_proto();
            maps.send(&map).await?;
            tokio::select! {
                // The sender lives as long as the coordinator.
                Ok(()) = derp_map.changed() => {}
                () = maps.closed() => return Ok(()),
            }
        }
    }

    async fn refresh_resume_token(&self, call: Incoming, caller: Caller) -> Result<(), RpcError> {
        let user = match caller {
            Caller::Client(client) => client.user,
            // An agent's name is its id, whoever vouches for it.
            Caller::Agent(_) => return call.unimplemented().await,
        };
        let answer = self.0.resume.issue(caller.peer(), user, SystemTime::now());
        call.unary(async move |_: proto::RefreshResumeTokenRequest| Ok(answer)).await
    }

    async fn coordinate(&self, call: Incoming, caller: Caller) {
        let Some(seat) = Seat::take(self.0.clone(), caller.peer()) else {
            let full = RpcError::remote(0, "the coordinator has no room for another peer");
            // A caller that has left needs no reason.
            let _ = call.reject(full).await;
            return;
        };
        let (requests, responses) = call.stream();
        let hear = async {
            let why = self.hear(requests, &seat, caller).await;
            if let Some(why) = &why {
                tracing::debug!(peer = %caller.peer(), why, "coordination refused");
            }
            seat.inner.with(|core, now| core.lost(seat.session, why, now));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = say(responses, &seat) => {}
            () = hear => {}
        }
    }

    /// Handles what a peer says, until its stream ends or it is refused; then why.
    async fn hear(
        &self,
        mut requests: Receiver<proto::CoordinateRequest>,
        seat: &Seat,
        caller: Caller,
    ) -> Option<String> {
        let mut pace = Pace::new();
        loop {
            let request = match requests.recv().await {
                Ok(Some(request)) => request,
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(peer = %caller.peer(), %error, "coordination ended");
                    return None;
                }
            };
            pace.keep().await;
            match self.handle(request, seat, caller).await {
                Ok(Ok(())) => {}
                // Another connection took the place, or the peer took leave.
                Ok(Err(Gone)) => return None,
                Err(refusal) => return Some(refusal.to_string()),
            }
        }
    }

    async fn handle(
        &self,
        request: proto::CoordinateRequest,
        seat: &Seat,
        caller: Caller,
    ) -> Result<Result<(), Gone>, Refusal> {
        let request = check::check(caller.role(), caller.peer(), request)?;
        if let Some(to) = request.add_tunnel {
            self.authorize(to, caller).await?;
        }
        seat.inner.with(|core, _| {
            let session = seat.session;
            let all = || -> Result<bool, Gone> {
                let mut room = true;
                if let Some((node, key)) = request.update_self {
                    core.update_self(session, *node, key)?;
                }
                if let Some(to) = request.add_tunnel {
                    room = core.add_tunnel(session, to)?;
                }
                if let Some(to) = request.remove_tunnel {
                    core.remove_tunnel(session, to)?;
                }
                if request.disconnect {
                    core.disconnect(session)?;
                }
                for peer in request.ready_for_handshake {
                    core.ready(session, peer)?;
                }
                Ok(room)
            };
            match all() {
                Ok(true) => Ok(Ok(())),
                Ok(false) => Err(Refusal::Tunnels(MAX_TUNNELS)),
                Err(Gone) => Ok(Err(Gone)),
            }
        })
    }

    /// Whether the caller may have a tunnel to this peer.
    async fn authorize(&self, to: PeerId, caller: Caller) -> Result<(), Refusal> {
        let Caller::Client(client) = caller else { return Err(Refusal::AgentTunnel) };
        if let Some(only) = client.only.map(PeerId::from)
            && only != to
        {
            return Err(Refusal::OtherAgent { expected: only, got: to });
        }
        match self.0.access.may_reach(client.user, to.uuid()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Tunnel),
            Err(error) => {
                tracing::warn!(%error, "a tunnel could not be authorized");
                Err(Refusal::Unknown)
            }
        }
    }
}

/// Tells a peer what there is to tell, until its session ends or it does not listen any more.
async fn say(mut responses: Sender<proto::CoordinateResponse>, seat: &Seat) {
    loop {
        let mail = tokio::select! {
            mail = seat.mail() => mail,
            () = responses.closed() => return,
        };
        match mail {
            Mail::Response(response) => {
                match timeout(SEND_TIMEOUT, responses.send(&response)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a peer does not listen any more");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!("a peer took nothing for {} s", SEND_TIMEOUT.as_secs());
                        return;
                    }
                }
            }
            Mail::Closed(error) => {
                let last = pin!(async {
                    if let Some(error) = error {
                        let response =
                            proto::CoordinateResponse { error, peer_updates: Vec::new() };
                        responses.send(&response).await?;
                    }
                    responses.close().await
                });
                // A peer that does not listen any more needs no last words.
                let _ = timeout(LAST_WORDS, last).await;
                return;
            }
            // Waited for above.
            Mail::Empty => {}
        }
    }
}

/// Holds back one who asks too much.
struct Pace {
    left: f64,
    filled: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: REQUEST_BURST.into(), filled: Instant::now() }
    }

    async fn keep(&mut self) {
        let now = Instant::now();
        let earned = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + earned * f64::from(REQUEST_RATE)).min(REQUEST_BURST.into());
        self.filled = now;
        self.left -= 1.0;
        if self.left < 0.0 {
            sleep(Duration::from_secs_f64(-self.left / f64::from(REQUEST_RATE))).await;
        }
    }
}
