//! The real tunnel: the noise part of gotatun, and our glue around it.
//!
//! The library does the cryptography, the handshake in both roles, sessions and replay windows.
//! The glue repeats the first initiation, keeps the packets that wait for a session, answers
//! cookies once at once, sends the persistent keepalive, and knows when a tick is needed
//! ([`Timers`]).
//!
//! The library reads the clock itself. That is why it sits behind [`Tunnel`]: everything else runs
//! on the caller's time. Ticks that come early do nothing, so a test may pass any `now` to the
//! glue as long as it does not expect the library's own timers to follow.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gotatun::noise::errors::WireGuardError;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519;

use super::repeat::Repeat;
use super::timers::{REKEY_TIMEOUT, TICK, Timers};
use super::{Handshake, OpenError, Tunnel, TunnelStats};

/// Packets that wait for a session; what a burst of new connections needs before the first round
/// trip is over. WireGuard implementations keep 128 to 1024.
const QUEUE: usize = 256;

/// Handshake messages a peer may send per second before it must show a cookie. Ten copies of one
/// initiation are normal here.
const HANDSHAKES_PER_SECOND: u64 = 100;

/// Cookies are bound to a sender's address. Our peers are told apart by key before a tunnel sees
/// their datagrams, so one address stands for all.
const ANY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// WireGuard with real cryptography. See the module's header for what it does with time.
pub struct NoiseTunnel {
    noise: Tunn,
    limiter: Arc<RateLimiter>,
    waiting: VecDeque<BytesMut>,
    outgoing: VecDeque<BytesMut>,
    repeat: Option<Repeat>,
    timers: Timers,
    last_tick: Instant,
    ready: bool,
    expired: bool,
    /// When we answered the peer's initiation. Such a session may only send once the initiator has
    /// used it.
    unconfirmed: Option<Instant>,
    /// One new initiation per attempt may answer a cookie.
    cookie_answered: bool,
    stats: TunnelStats,
}

impl std::fmt::Debug for NoiseTunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoiseTunnel")
            .field("handshake", &self.handshake())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl NoiseTunnel {
    /// A tunnel between the holder of `private` and of `peer`'s private half, without a handshake
    /// yet. No pre-shared key: Coder uses none.
    pub fn new(private: &[u8; 32], peer: &[u8; 32], now: Instant) -> Self {
        let private = x25519::StaticSecret::from(*private);
        let public = x25519::PublicKey::from(&private);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        let noise = Tunn::new(
            private,
            x25519::PublicKey::from(*peer),
            None,
            // The library's own persistent keepalive would put a packet into its own queue.
            None,
            IndexTable::from_os_rng(),
            Arc::clone(&limiter),
        );
        Self {
            noise,
            limiter,
            waiting: VecDeque::new(),
            outgoing: VecDeque::new(),
            repeat: None,
            timers: Timers::default(),
            last_tick: now,
            ready: false,
            expired: false,
            unconfirmed: None,
            cookie_answered: false,
            stats: TunnelStats::default(),
        }
    }

    fn initiate(&mut self, replace: bool, now: Instant) {
        let Some(initiation) = self.noise.format_handshake_initiation(replace) else { return };
        self.initiation_made(into_bytes(initiation.into_bytes()), now);
    }

    fn initiation_made(&mut self, initiation: BytesMut, now: Instant) {
        self.stats.handshakes_initiated += 1;
        self.expired = false;
        self.timers.initiated(now);
        // With a session at hand nobody waits for the new one.
        self.repeat = (!self.ready).then(|| Repeat::new(initiation.clone()));
        self.outgoing.push_back(initiation);
    }

    fn established(&mut self, initiator: bool, now: Instant) {
        self.stats.handshakes_completed += 1;
        self.repeat = None;
        self.ready = true;
        self.expired = false;
        self.unconfirmed = None;
        self.cookie_answered = false;
        self.timers.established(initiator, now);
    }

    fn tick(&mut self, now: Instant) {
        self.last_tick = now;
        match self.noise.update_timers() {
            Ok(None) => {}
            Ok(Some(WgKind::HandshakeInit(initiation))) => {
                self.note_session();
                self.initiation_made(into_bytes(initiation.into_bytes()), now);
            }
            Ok(Some(other)) => {
                self.timers.sent(false, now);
                self.outgoing.push_back(into_bytes(other.into()));
            }
            Err(_) => self.gave_up(now),
        }
        self.note_session();
        self.persistent_keepalive(now);
    }

    /// The peer did not answer for 90 s, or nothing was heard for so long that all keys are gone.
    fn gave_up(&mut self, now: Instant) {
        if self.expired {
            return;
        }
        self.expired = true;
        self.ready = false;
        self.unconfirmed = None;
        self.repeat = None;
        self.stats.queue_dropped += self.waiting.len() as u64;
        self.waiting.clear();
        self.timers.gave_up(now);
    }

    /// The library forgets a session silently once it is too old.
    fn note_session(&mut self) {
        if self.ready && self.noise.time_since_last_handshake().is_none() {
            self.ready = false;
            self.timers.lost_session();
        }
    }

    fn persistent_keepalive(&mut self, now: Instant) {
        if self.ready && self.timers.renew_at().is_some_and(|at| at <= now) {
            self.initiate(true, now);
        }
        if self.timers.keepalive_at().is_none_or(|at| at > now) {
            return;
        }
        if self.ready && self.send_keepalive(now) {
            if self.timers.renew_with_keepalive(now) && self.timers.initiated_at().is_none() {
                self.initiate(true, now);
            }
        } else {
            self.initiate(false, now);
        }
    }

    fn send_keepalive(&mut self, now: Instant) -> bool {
        let empty = Packet::from_bytes(BytesMut::new());
        let Ok(sealed) = self.noise.encapsulate_with_session(empty) else { return false };
        self.outgoing.push_back(into_bytes(sealed.into_bytes()));
        self.timers.sent(false, now);
        true
    }

    /// The library stamps events with the time of its last tick, so it must not be an old one.
    fn refresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_tick) >= TICK {
            self.tick(now);
        }
    }

    /// The peer's own handshake is under way and wants only its first packet.
    fn confirmation_expected(&self, now: Instant) -> bool {
        self.unconfirmed.is_some_and(|at| now.saturating_duration_since(at) < REKEY_TIMEOUT)
    }

    fn seal_now(&mut self, mut packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        let len = packet.len();
        // The longest packet that a way carries is a multiple of 16, so none gets too long by it.
        packet.resize(len.next_multiple_of(16), 0);
        match self.noise.encapsulate_with_session(Packet::from_bytes(packet)) {
            Ok(sealed) => {
                self.stats.packets_sealed += 1;
                self.timers.sent(true, now);
                Ok(into_bytes(sealed.into_bytes()))
            }
            Err(packet) => Err(into_bytes(packet)),
        }
    }

    fn keep(&mut self, packet: BytesMut) {
        if self.waiting.len() == QUEUE {
            self.waiting.pop_front();
            self.stats.queue_dropped += 1;
        }
        self.waiting.push_back(packet);
    }

    fn opened(&mut self, packet: Packet, now: Instant) -> Option<BytesMut> {
        self.stats.packets_opened += 1;
        let packet = into_bytes(packet);
        if self.unconfirmed.is_some() {
            self.established(false, now);
        } else if !self.ready {
            // An older session that is still good.
            self.ready = self.noise.time_since_last_handshake().is_some();
        }
        self.timers.received(!packet.is_empty(), now);
        (!packet.is_empty()).then_some(packet)
    }
}

impl Tunnel for NoiseTunnel {
    fn connect(&mut self, now: Instant) {
        self.refresh(now);
        if !self.ready && !self.confirmation_expected(now) {
            self.initiate(false, now);
        }
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn seal(&mut self, packet: BytesMut, now: Instant) -> Option<BytesMut> {
        self.refresh(now);
        let packet = if self.ready {
            match self.seal_now(packet, now) {
                Ok(sealed) => return Some(sealed),
                Err(packet) => packet,
            }
        } else {
            packet
        };
        self.ready = false;
        self.keep(packet);
        if !self.confirmation_expected(now) {
            self.initiate(false, now);
        }
        None
    }

    fn open(&mut self, datagram: BytesMut, now: Instant) -> Result<Option<BytesMut>, OpenError> {
        self.refresh(now);
        let message = match self.limiter.verify_packet(ANY_ADDRESS, Packet::from_bytes(datagram)) {
            Ok(message) => message,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.outgoing.push_back(into_bytes(cookie.into()));
                return Ok(None);
            }
            Err(TunnResult::Err(error)) => {
                self.stats.refused += 1;
                return Err(error.into());
            }
            Err(TunnResult::Done | TunnResult::WriteToTunnel(_)) => return Ok(None),
        };
        let is_response = matches!(message, WgKind::HandshakeResp(_));
        match self.noise.handle_incoming_packet(message) {
            // A cookie was taken: the peer is under load and wants to see it. Waiting five seconds
            // for the retransmission would help nobody, asking more than once would not either.
            TunnResult::Done => {
                self.repeat = None;
                if !self.ready && !self.cookie_answered {
                    self.cookie_answered = true;
                    self.initiate(true, now);
                }
                Ok(None)
            }
            TunnResult::WriteToNetwork(answer) => {
                self.outgoing.push_back(into_bytes(answer.into()));
                if is_response {
                    self.established(true, now);
                } else {
                    self.repeat = None;
                    self.unconfirmed = Some(now);
                    self.timers.responded();
                }
                self.timers.received(false, now);
                Ok(None)
            }
            TunnResult::WriteToTunnel(packet) => Ok(self.opened(packet, now)),
            TunnResult::Err(error) => {
                self.stats.refused += 1;
                Err(error.into())
            }
        }
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<BytesMut> {
        if let Some(datagram) = self.outgoing.pop_front() {
            if let Some(repeat) = &mut self.repeat {
                repeat.leaves(&datagram, now);
            }
            return Some(datagram);
        }
        if !self.ready {
            return None;
        }
        let packet = self.waiting.pop_front()?;
        match self.seal_now(packet, now) {
            Ok(sealed) => Some(sealed),
            Err(packet) => {
                self.ready = false;
                self.waiting.push_front(packet);
                self.initiate(false, now);
                self.outgoing.pop_front()
            }
        }
    }

    fn wants_transmit(&self) -> bool {
        !self.outgoing.is_empty() || (self.ready && !self.waiting.is_empty())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(repeat) = &mut self.repeat
            && let Some(copy) = repeat.poll(now)
            // One that still waits for its carrier is enough.
            && !self.outgoing.iter().any(|waiting| repeat.is_copy(waiting))
        {
            self.stats.initiation_copies += 1;
            self.outgoing.push_back(copy);
        }
        if self.timers.deadline().is_some_and(|at| at.max(self.last_tick + TICK) <= now) {
            self.tick(now);
        }
        if !self.ready && self.unconfirmed.take_if(|at| *at + REKEY_TIMEOUT <= now).is_some() {
            self.initiate(false, now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let tick = self.timers.deadline().map(|at| at.max(self.last_tick + TICK));
        let repeat = self.repeat.as_ref().and_then(Repeat::deadline);
        let confirmation = self.unconfirmed.filter(|_| !self.ready).map(|at| at + REKEY_TIMEOUT);
        [tick, repeat, confirmation].into_iter().flatten().min()
    }

    fn set_keepalive(&mut self, interval: Option<Duration>) {
        self.timers.keepalive = interval;
    }

    fn handshake(&self) -> Handshake {
        match (self.ready, self.expired) {
            (true, _) => Handshake::Established,
            (false, true) => Handshake::Expired,
            (false, false) if self.timers.initiated_at().or(self.unconfirmed).is_some() => {
                Handshake::InProgress
            }
            (false, false) => Handshake::Idle,
        }
    }

    fn since_handshake(&self, now: Instant) -> Option<Duration> {
        self.timers.session_age(now)
    }

    fn stats(&self) -> TunnelStats {
        self.stats
    }
}

impl From<WireGuardError> for OpenError {
    fn from(error: WireGuardError) -> Self {
        match error {
            WireGuardError::DestinationBufferTooSmall
            | WireGuardError::IncorrectPacketLength
            | WireGuardError::WrongPacketType
            | WireGuardError::InvalidPacket => Self::Malformed,
            WireGuardError::WrongKey
            | WireGuardError::InvalidTai64nTimestamp
            | WireGuardError::InvalidMac
            | WireGuardError::InvalidAeadTag
            | WireGuardError::LockFailed => Self::Unauthentic,
            WireGuardError::WrongTai64nTimestamp
            | WireGuardError::InvalidCounter
            | WireGuardError::DuplicateCounter => Self::Replay,
            WireGuardError::UnexpectedPacket
            | WireGuardError::WrongIndex
            | WireGuardError::NoCurrentSession
            | WireGuardError::ConnectionExpired => Self::NoSession,
        }
    }
}

/// Takes the bytes out of the library's wrapper without copying them. It is the buffer itself, for to
/// split it off would allocate.
fn into_bytes(mut packet: Packet) -> BytesMut {
    std::mem::take(packet.buf_mut())
}

#[cfg(test)]
mod tests {
    use gotatun::noise::TimerParams;
    use proptest::prelude::*;

    use super::*;
    use crate::keys::NodePrivate;

    const SECOND: Duration = Duration::from_secs(1);

    struct Pair {
        now: Instant,
        ends: [NoiseTunnel; 2],
    }

    impl Pair {
        fn new() -> Self {
            let now = Instant::now();
            let keys = [NodePrivate::new([1; 32]), NodePrivate::new([2; 32])];
            let end = |own: usize| {
                let (own, peer) = (&keys[own], keys[1 - own].public());
                NoiseTunnel::new(&own.expose_bytes(), peer.as_bytes(), now)
            };
            Self { now, ends: [end(0), end(1)] }
        }

        fn connected() -> Self {
            let mut pair = Self::new();
            let now = pair.now;
            pair.ends[0].connect(now);
            pair.exchange();
            assert!(pair.ends.iter().all(Tunnel::is_ready));
            pair
        }

        /// Delivers everything in both directions; gives the packets that came out at each end.
        fn exchange(&mut self) -> [Vec<BytesMut>; 2] {
            let mut out = [Vec::new(), Vec::new()];
            let mut moved = true;
            while std::mem::take(&mut moved) {
                for from in 0..2 {
                    while let Some(datagram) = self.ends[from].poll_transmit(self.now) {
                        moved = true;
                        let opened = self.ends[1 - from].open(datagram, self.now);
                        out[1 - from].extend(opened.expect("opens"));
                    }
                }
            }
            out
        }

        /// Has a packet go from one end to the other.
        fn deliver(&mut self, from: usize, packet: &[u8]) -> BytesMut {
            let sealed = self.ends[from].seal(BytesMut::from(packet), self.now).expect("a session");
            self.ends[1 - from].open(sealed, self.now).expect("opens").expect("a packet")
        }
    }

    /// An IPv6 packet with a payload of this many bytes.
    fn packet(payload: usize) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, (payload >> 8) as u8, payload as u8, 59, 64];
        packet.resize(40 + payload, 7);
        packet
    }

    #[test]
    fn packets_before_the_session_wait_in_order_and_leave_with_it() {
        let mut pair = Pair::new();
        for payload in 0..3 {
            let packet = BytesMut::from(&packet(payload)[..]);
            assert_eq!(pair.ends[0].seal(packet, pair.now), None);
        }
        let [_, arrived] = pair.exchange();
        assert_eq!(arrived.len(), 3);
        for (payload, got) in arrived.iter().enumerate() {
            assert!(got.starts_with(&packet(payload)));
        }
        let stats = pair.ends[0].stats();
        assert_eq!((stats.handshakes_initiated, stats.handshakes_completed), (1, 1));
    }

    #[test]
    fn sealed_packets_are_padded_but_not_beyond_the_mtu() {
        let mut pair = Pair::connected();
        for (payload, len) in [(0, 48), (8, 48), (9, 64), (1239, 1280), (1240, 1280)] {
            let sealed = pair.ends[0].seal(BytesMut::from(&packet(payload)[..]), pair.now);
            assert_eq!(sealed.expect("a session").len(), len + super::super::OVERHEAD);
        }
    }

    #[test]
    fn the_responder_sends_only_after_the_initiator() {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0].connect(now);
        let initiation = pair.ends[0].poll_transmit(now).expect("an initiation");
        pair.ends[1].open(initiation, now).expect("opens");
        assert!(!pair.ends[1].is_ready());
        assert_eq!(pair.ends[1].handshake(), Handshake::InProgress);
        // It has something to say, and waits rather than starting a handshake of its own.
        assert_eq!(pair.ends[1].seal(BytesMut::from(&packet(1)[..]), now), None);
        let [arrived, _] = pair.exchange();
        assert_eq!(arrived.len(), 1);
        assert_eq!(pair.ends[1].stats().handshakes_initiated, 0);
    }

    #[test]
    fn a_responder_whose_initiator_vanished_begins_itself() {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0].connect(now);
        let initiation = pair.ends[0].poll_transmit(now).expect("an initiation");
        pair.ends[1].open(initiation, now).expect("opens");
        while pair.ends[1].poll_transmit(now).is_some() {}
        let later = pair.ends[1].next_deadline().expect("it waits for the initiator");
        pair.ends[1].handle_timeout(later);
        let own = pair.ends[1].poll_transmit(later).expect("an initiation");
        assert_eq!((own[0], own.len()), (1, 148));
    }

    #[test]
    fn a_used_session_is_renewed_by_its_initiator_without_losing_a_packet() {
        let mut pair = Pair::connected();
        let soon =
            TimerParams { rekey_after_time: Duration::ZERO..=Duration::ZERO, ..Default::default() };
        pair.ends[0].noise.dangerously_set_timer_params(soon);
        // The glue's clock jumps; the library's moves a little with each tick.
        pair.now += SECOND;
        pair.deliver(0, &packet(1));
        pair.now += Duration::from_secs(121);
        let due = pair.ends[0].next_deadline().expect("renewal");
        assert!(due <= pair.now);
        pair.ends[0].handle_timeout(pair.now);
        assert_eq!(pair.ends[0].stats().handshakes_initiated, 2);
        // The old session carries on while the new one is made.
        pair.deliver(0, &packet(2));
        pair.exchange();
        assert_eq!(pair.ends[0].stats().handshakes_completed, 2);
        pair.deliver(0, &packet(3));
        pair.deliver(1, &packet(4));
        assert!(pair.ends[0].since_handshake(pair.now).expect("a session") < SECOND);
    }

    #[test]
    fn silence_is_broken_by_keepalives_and_idle_sessions_stay_fresh() {
        let mut pair = Pair::connected();
        pair.ends[0].set_keepalive(Some(25 * SECOND));
        let due = pair.ends[0].next_deadline().expect("a keepalive");
        assert_eq!(due - pair.now, 25 * SECOND);
        pair.ends[0].handle_timeout(due);
        let keepalive = pair.ends[0].poll_transmit(due).expect("a keepalive");
        assert_eq!((keepalive[0], keepalive.len()), (4, 32));
        assert_eq!(pair.ends[1].open(keepalive, due), Ok(None));
        assert!(pair.ends[0].next_deadline().expect("the next") > due);
    }

    #[test]
    fn a_peer_under_load_gets_to_see_its_cookie_at_once() {
        let mut pair = Pair::new();
        let now = pair.now;
        // Nobody gets a handshake without a cookie.
        let key = x25519::PublicKey::from(*NodePrivate::new([2; 32]).public().as_bytes());
        pair.ends[1].limiter = Arc::new(RateLimiter::new(&key, 0));
        pair.ends[0].connect(now);
        let first = pair.ends[0].poll_transmit(now).expect("an initiation");
        pair.ends[1].open(first.clone(), now).expect("opens");
        let cookie = pair.ends[1].poll_transmit(now).expect("a cookie reply");
        assert_eq!((cookie[0], cookie.len()), (3, 64));
        pair.ends[0].open(cookie, now).expect("opens");
        let second = pair.ends[0].poll_transmit(now).expect("a new initiation");
        assert_ne!(first, second);
        pair.ends[1].open(second, now).expect("opens");
        let response = pair.ends[1].poll_transmit(now).expect("a response");
        assert_eq!((response[0], response.len()), (2, 92));
    }

    #[test]
    fn the_queue_before_a_session_is_bounded() {
        let mut pair = Pair::new();
        for _ in 0..QUEUE + 10 {
            pair.ends[0].seal(BytesMut::from(&packet(0)[..]), pair.now);
        }
        assert_eq!(pair.ends[0].waiting.len(), QUEUE);
        assert_eq!(pair.ends[0].stats().queue_dropped, 10);
    }

    #[test]
    fn a_tunnel_nobody_uses_wants_no_timer() {
        let pair = Pair::new();
        assert_eq!(pair.ends[0].next_deadline(), None);
    }

    #[test]
    fn debug_output_has_no_secret() {
        let pair = Pair::connected();
        let text = format!("{:?}", pair.ends[0]);
        assert!(text.contains("Established") && text.len() < 400, "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn damaged_messages_are_refused(at in 0_usize..1000, flip in 1_u8.., payload in 0_usize..200) {
            let mut pair = Pair::connected();
            let mut sealed = pair.ends[0]
                .seal(BytesMut::from(&packet(payload)[..]), pair.now)
                .expect("a session");
            let at = at % sealed.len();
            // The three reserved bytes behind the type are not looked at.
            prop_assume!(!(1..4).contains(&at));
            sealed[at] ^= flip;
            prop_assert!(pair.ends[1].open(sealed, pair.now).is_err());
            prop_assert!(pair.deliver(0, &packet(5)).starts_with(&packet(5)));
        }
    }
}
