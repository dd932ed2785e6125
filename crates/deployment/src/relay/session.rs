//! One client: its introduction, and what becomes of what it says.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use coderctl_tailnet::{
    derp::{
        Decoder, Frame, FrameError, Limiter, PeerGone,
        login::{self, LoginError, ServerInfo},
    },
    keys::{NoEntropy, NodePublic},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    Inner, Relay, Route,
    inbox::{Inbox, Input, Run},
    mesh,
    outbox::Outbox,
    switchboard::Member,
    talk::{Life, Talk, converse},
    wire,
};

/// Longest introduction, in bytes. Its JSON has 33, or 110 with the key of a mesh; upstream takes
/// 256 KiB from anybody.
const MAX_LOGIN: usize = 4 << 10;

/// Notices to one client that a peer is not here: three at once, then one a second, and only in
/// answer to disco (coder/tailscale: derp/derp_server.go, `requestPeerGoneWriteLimited`).
const NOTICES: u32 = 3;

/// Routes that are remembered for one client; more belong to somebody who is looking for peers.
pub(super) const MAX_ROUTES: usize = 4096;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client left.
    #[error("the other side closed the connection")]
    Left,
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// It did not introduce itself in time.
    #[error("the client did not introduce itself within {} s", .0.as_secs())]
    LoginTimeout(Duration),
    /// It said something else first.
    #[error("the client did not begin with an introduction")]
    NoLogin,
    /// Its introduction is not acceptable.
    #[error("the client's introduction failed: {0}")]
    Login(#[from] LoginError),
    /// It broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// It says too much that is no packet.
    #[error("the client sends too many frames that are no packets")]
    Flood,
    /// It takes nothing.
    #[error("the other side took nothing for {} s", .0.as_secs())]
    Stuck(Duration),
    /// It answers no pings.
    #[error("the other side was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// It claims to be another relay of this deployment.
    #[error("the client claims to be a relay of this deployment and is none")]
    NoRelay,
    /// The coordinator does not know its key.
    #[error("the coordinator does not know the client's key")]
    Unknown,
    /// There is no room.
    #[error("the relay has no room for another client")]
    Full,
    /// Another connection with its key took its place, or it missed what it must not miss.
    #[error("another connection with the same key took its place, or its queue was full")]
    Replaced,
    /// No random numbers for the introduction.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl Relay {
    /// Whether there is room for another client, to be asked before an upgrade.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.board().connections() < self.0.limits.clients
            && self.0.logins.available_permits() > 0
    }

    /// Serves one client until its connection ends, and says why it did. Dropping it ends the
    /// connection. The stream carries nothing but DERP, from its first byte on.
    pub async fn serve<S>(&self, mut stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let inner = &self.0;
        let Ok(place) = inner.logins.try_acquire() else { return Ended::Full };
        let limit = inner.limits.login_time;
        let login = match timeout(limit, inner.login(&mut stream)).await {
            Ok(Ok(login)) => login,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::LoginTimeout(limit),
        };
        drop(place);
        let key = login.key;
        if login.mesh {
            tracing::debug!(relay = ?key, "another relay connected");
            let ended = mesh::serve(inner.clone(), login, stream).await;
            tracing::debug!(relay = ?key, cause = %ended, "another relay left");
            return ended;
        }
        if inner.board().connections() >= inner.limits.clients {
            return Ended::Full;
        }
        tracing::debug!(client = ?key, "relay client connected");
        let ended = Session::serve(inner.clone(), login, stream).await;
        tracing::debug!(client = ?key, cause = %ended, "relay client left");
        ended
    }
}

/// A client that has introduced itself.
pub(super) struct Login {
    pub(super) key: NodePublic,
    pub(super) can_ack_pings: bool,
    /// It is another relay.
    pub(super) mesh: bool,
    /// Our answer.
    pub(super) answer: Frame,
    /// What came behind the introduction.
    pub(super) rest: BytesMut,
}

impl Inner {
    async fn login(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> Result<Login, Ended> {
        self.thawed().await;
        let mut bytes = BytesMut::new();
        Frame::ServerKey { key: self.key.public() }.encode(&mut bytes);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        bytes.clear();
        let decoder = Decoder::new(MAX_LOGIN);
        let frame = loop {
            if let Some(frame) = decoder.decode(&mut bytes)? {
                break frame;
            }
            bytes.reserve(512);
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(Ended::Left);
            }
        };
        let Frame::ClientInfo { node, nonce, sealed } = frame else { return Err(Ended::NoLogin) };
        let info = login::open_client_info(&self.key, &node, &nonce, &sealed)?;
        let mesh = match &info.mesh_key {
            None => false,
            Some(proof) if self.is_relay(&node, proof) => true,
            Some(_) => return Err(Ended::NoRelay),
        };
        let mut nonce = [0; login::NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|_| NoEntropy)?;
        let answer = login::server_info(&self.key, &node, &self.info(), nonce);
        Ok(Login { key: node, can_ack_pings: info.can_ack_pings, mesh, answer, rest: bytes })
    }

    /// What it says about itself.
    fn info(&self) -> ServerInfo {
        let rate = self.limits.rate.unwrap_or(0);
        ServerInfo { bytes_per_second: rate, bytes_burst: rate, ..ServerInfo::default() }
    }

    /// Waits while the relay is frozen.
    pub(super) async fn thawed(&self) {
        if *self.frozen.borrow() {
            // The sender lives as long as `self`.
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
        }
    }
}

/// One client's connection: what its reader knows.
struct Session {
    inner: Arc<Inner>,
    key: NodePublic,
    member: Member,
    /// The coordinator knows the key, or has not had the time to.
    unknown_since: Option<Instant>,
    /// Of one who answers pings.
    life: Option<Life>,
    routes: HashMap<NodePublic, Route>,
    /// What `routes` hold for.
    generations: (u64, u64),
    limiter: Option<Limiter>,
    control: Allowance,
    notices: Allowance,
    /// Where packets for other relays are put together.
    forward: BytesMut,
}

impl Session {
    async fn serve<S>(inner: Arc<Inner>, login: Login, stream: S) -> Ended
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = &inner.limits;
        let outbox = Arc::new(Outbox::new(limits.queued, limits.urgent));
        // First of all; from the moment that the client reads it, it is here.
        outbox.tell(&login.answer);
        let now = Instant::now();
        let member = inner.change(|board| board.add(login.key, outbox.clone(), limits.same_key));
        let mut session = Session {
            key: login.key,
            member,
            unknown_since: Some(now),
            life: login.can_ack_pings.then(Life::new),
            routes: HashMap::new(),
            generations: inner.generations(),
            limiter: Limiter::new(&inner.info(), now.into_std()),
            control: Allowance::new(limits.control_burst, limits.control_rate, now),
            notices: Allowance::new(NOTICES, 1, now),
            forward: BytesMut::new(),
            inner: inner.clone(),
        };
        let inbox = Inbox::new(login.key, login.rest);
        converse(&inner, &mut session, outbox, stream, inbox, login.can_ack_pings).await
    }

    fn pass_on(&mut self, run: &Run<'_>) {
        let inner = self.inner.clone();
        let counters = &inner.counters;
        if let Some(limiter) = &mut self.limiter
            && !limiter.take(run.frames.len() as u64, Instant::now().into_std())
        {
            counters.overflown.fetch_add(run.count, Ordering::Relaxed);
            return;
        }
        if self.routes.len() >= MAX_ROUTES {
            self.routes.clear();
        }
        let route = &*self.routes.entry(run.to).or_insert_with(|| inner.route(&self.key, &run.to));
        let dropped = match route {
            Route::Here(outbox) => outbox.push(run.frames, run.disco),
            Route::There(outbox) => {
                self.forward.clear();
                wire::forward(run.frames, &run.to, &mut self.forward);
                outbox.push(&self.forward, run.disco)
            }
            Route::Absent | Route::Refused => {
                let refused = matches!(route, Route::Refused);
                let missed = if refused { &counters.refused } else { &counters.absent };
                missed.fetch_add(run.count, Ordering::Relaxed);
                // Whoever may not reach a peer does not learn whether it is here.
                if run.disco && self.notices.take(Instant::now()) {
                    let gone = Frame::PeerGone { peer: run.to, reason: PeerGone::NotHere };
                    self.member.outbox.tell(&gone);
                }
                return;
            }
        };
        if dropped > 0 {
            counters.overflown.fetch_add(dropped, Ordering::Relaxed);
        }
        counters.passed.fetch_add(run.count, Ordering::Relaxed);
        counters.passed_bytes.fetch_add(run.frames.len() as u64, Ordering::Relaxed);
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Ended> {
        if !self.control.take(Instant::now()) {
            return Err(Ended::Flood);
        }
        if let Frame::Ping(data) = frame {
            self.member.outbox.tell(&Frame::Pong(data));
        }
        // Home or not makes no difference here, pongs are signs of life, and the rest is for
        // other relays, or for the future.
        Ok(())
    }
}

impl Talk for Session {
    fn handle(&mut self, inbox: &mut Inbox) -> Result<(), Ended> {
        let generations = self.inner.generations();
        if self.generations != generations {
            self.generations = generations;
            self.routes.clear();
        }
        if self.member.twin.load(Ordering::Relaxed) {
            let (key, number) = (self.key, self.member.number);
            // Changes nothing while the same one keeps speaking.
            if self.inner.board().active(&key, number) {
                self.inner.generation.fetch_add(1, Ordering::Release);
            }
        }
        while let Some(input) = inbox.next()? {
            match input {
                Input::Packets(run) => self.pass_on(&run),
                Input::Frame(frame) => self.handle_frame(frame)?,
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Instant, quiet: bool) -> Result<(), Ended> {
        let limits = &self.inner.limits;
        if let Some(life) = &mut self.life {
            life.look(now, quiet, limits.keep_alive)?;
        }
        if self.inner.permits.knows(&self.key) {
            self.unknown_since = None;
        } else {
            let since = *self.unknown_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= limits.unknown {
                return Err(Ended::Unknown);
            }
        }
        // Permission is asked for again: it may end by time, and is prolonged by use.
        self.routes.clear();
        self.member.outbox.shrink();
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.member.outbox.close();
        self.inner.change(|board| board.remove(&self.key, self.member.number));
    }
}

/// So many at once, and then so many a second.
#[derive(Debug)]
struct Allowance {
    burst: u32,
    rate: u32,
    left: f64,
    filled: Instant,
}

impl Allowance {
    fn new(burst: u32, rate: u32, now: Instant) -> Self {
        Self { burst, rate, left: burst.into(), filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + elapsed * f64::from(self.rate)).min(self.burst.into());
        let granted = self.left >= 1.0;
        if granted {
            self.left -= 1.0;
        }
        granted
    }
}
