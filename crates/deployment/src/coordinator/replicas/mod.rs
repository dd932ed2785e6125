//! Several processes that coordinate as one, over publish and subscribe.
//!
//! ```text
//!   core ── outgoing ──► tell ── channel ──► hear ── core     of every other replica
//!                         │ every 2 s: I am here    │ silent for 6 s: its peers are lost
//! ```
//!
//! Every replica knows all peers of all others. What it tells is state and not change, so that it
//! can be told again: whoever is new, or may have missed something, says hello, and all others say
//! everything. Messages are numbered, so that a gap is noticed; one that could not be published is
//! made up for by everything, too.
//!
//! (Upstream keeps peers and tunnels in tables and notifies of their keys, so that every news is
//! written, told and read again: enterprise/tailnet/pgcoord.go. It shares with this one how often
//! a replica shows that it lives, and after how long it is given up.)

mod wire;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use coderctl_tailnet::ids::PeerId;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use url::Url;
use uuid::Uuid;

use self::wire::{Decoder, Message, Presence, Said};
use super::{
    Coordinator, Inner,
    core::{Replica, Update},
    now,
};
use crate::pubsub::{Event, Pubsub, PubsubError, Subscription};

/// Where replicas talk to each other.
const CHANNEL: &str = "coderctl_coordination";

/// How often a replica says that it lives (enterprise/tailnet/pgcoord.go, `HeartbeatPeriod`).
const ALIVE: Duration = Duration::from_secs(2);

/// Silence after which a replica's peers are lost (same source: three missed heartbeats).
const DEAD: Duration = Duration::from_secs(6);

/// Silence after which a replica is not expected to come back.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Coordinates with other replicas: those that share what `pubsub` publishes. `relay` is where
    /// they reach the relay of this one. Runs until it is dropped, or until `stop`: then the
    /// others are told.
    pub async fn share(
        &self,
        pubsub: &Pubsub,
        me: Uuid,
        relay: Option<Url>,
        stop: impl Future<Output = ()>,
    ) {
        let sharing = Sharing {
            inner: &self.0,
            pubsub,
            me,
            presence: Presence { relay: relay.map(String::from) },
            number: AtomicU64::new(0),
            hello: AtomicBool::new(true),
            everything: AtomicBool::new(true),
            bell: &self.0.outgoing,
        };
        let all = async {
            let heard = sharing.subscribe().await;
            self.0.with(|core, _| core.share(me));
            tokio::select! {
                () = sharing.hear(heard) => {}
                () = sharing.tell() => {}
            }
        };
        tokio::select! {
            () = all => {}
            () = stop => {
                let leave = async {
                    // Who has left in order has not been lost.
                    sharing.tell_all(false).await?;
                    sharing.say(Message::Bye).await
                };
                if let Err(error) = leave.await {
                    tracing::debug!(%error, "other replicas were not told that this one stops");
                }
            }
        }
    }
}

struct Sharing<'a> {
    inner: &'a Inner,
    pubsub: &'a Pubsub,
    me: Replica,
    presence: Presence,
    /// That of the last message.
    number: AtomicU64,
    /// Everything of the others is to be asked for.
    hello: AtomicBool,
    /// Everything of ours is to be told.
    everything: AtomicBool,
    /// Rings when there is something to tell.
    bell: &'a Notify,
}

impl Sharing<'_> {
    async fn subscribe(&self) -> Subscription {
        loop {
            match self.pubsub.subscribe(CHANNEL).await {
                Ok(subscription) => return subscription,
                Err(error) => {
                    tracing::warn!(%error, "other replicas cannot be heard; trying again");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn say(&self, message: Message) -> Result<(), PubsubError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        match wire::encode(Said { from: self.me, number, message }) {
            Ok(parts) => {
                for part in parts {
                    self.pubsub.publish(CHANNEL, &part).await?;
                }
            }
            // Of a message of ours: none that another try would bring through.
            Err(error) => tracing::error!(%error, "other replicas are not told something"),
        }
        Ok(())
    }

    /// Tells the others what there is to tell.
    async fn tell(&self) {
        let mut alive = interval(ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let beat = tokio::select! {
                _ = alive.tick() => true,
                () = self.bell.notified() => false,
            };
            if let Err(error) = self.tell_all(beat).await {
                if matches!(error, PubsubError::Closed) {
                    return;
                }
                tracing::warn!(%error, "other replicas cannot be told; trying again");
                // Whatever was not told is part of everything.
                self.hello.store(true, Ordering::Relaxed);
                self.everything.store(true, Ordering::Relaxed);
                sleep(AGAIN).await;
            }
        }
    }

    async fn tell_all(&self, beat: bool) -> Result<(), PubsubError> {
        if self.hello.swap(false, Ordering::Relaxed) {
            self.say(Message::Hello(self.presence.clone())).await?;
        } else if beat {
            self.say(Message::Alive(self.presence.clone())).await?;
        }
        if self.everything.swap(false, Ordering::Relaxed) {
            let all = self.inner.with(|core, _| {
                // Part of it.
                core.take_outgoing();
                core.here()
            });
            let ids = all.iter().map(|peer| peer.id).collect();
            for peer in all {
                self.say(Message::Update(Update::Peer(peer))).await?;
            }
            self.say(Message::All(ids)).await?;
        }
        for update in self.inner.with(|core, _| core.take_outgoing()) {
            self.say(Message::Update(update)).await?;
        }
        Ok(())
    }

    /// Hears what the others tell, and that they are silent.
    async fn hear(&self, mut heard: Subscription) {
        let mut others = Others::default();
        let mut decoder = Decoder::default();
        let mut look = interval(ALIVE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = heard.recv() => event,
                now = look.tick() => {
                    for replica in others.silent(now) {
                        tracing::warn!(%replica, "a replica is silent; its peers are lost");
                        self.lose(replica);
                    }
                    others.show(self.inner);
                    continue;
                }
            };
            let text = match event {
                None => return,
                Some(Event::Resync) => {
                    decoder.reset();
                    // A hello may have been missed, too.
                    self.everything.store(true, Ordering::Relaxed);
                    self.ask();
                    continue;
                }
                Some(Event::Message(payload)) => payload,
            };
            let decoded = str::from_utf8(&text).map_err(|_| wire::WireError::Parts);
            match decoded.and_then(|text| decoder.decode(text)) {
                Ok(None) => {}
                Ok(Some(said)) if said.from == self.me => {}
                Ok(Some(said)) => {
                    match others.heard(&said) {
                        Heard::New => {}
                        // What it told before is missing.
                        Heard::Missing => self.ask(),
                        Heard::Again => continue,
                    }
                    self.understand(said.from, said.message, &mut others);
                    others.show(self.inner);
                }
                Err(error) => {
                    tracing::debug!(%error, "a message of a replica was lost");
                    self.ask();
                }
            }
        }
    }

    fn understand(&self, from: Replica, message: Message, others: &mut Others) {
        match message {
            Message::Hello(_) => {
                self.everything.store(true, Ordering::Relaxed);
                self.bell.notify_one();
            }
            Message::Alive(_) => {}
            Message::Bye => {
                others.remove(from);
                self.lose(from);
            }
            Message::Update(update) => self.inner.with(|core, now| core.hear(from, update, now)),
            Message::All(all) => self.inner.with(|core, now| core.hear_all(from, &all, now)),
        }
    }

    fn ask(&self) {
        self.hello.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    fn lose(&self, replica: Replica) {
        let none = std::collections::BTreeSet::<PeerId>::new();
        self.inner.with(|core, _| core.hear_all(replica, &none, now()));
    }
}

/// The other replicas.
#[derive(Debug, Default)]
struct Others(HashMap<Replica, Other>);

#[derive(Debug)]
struct Other {
    /// When something was heard last, and which number it had.
    heard: Instant,
    number: u64,
    presence: Presence,
    /// It was silent for too long.
    lost: bool,
}

/// What a message is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// The one that comes next.
    New,
    /// One that comes later: those before it were lost.
    Missing,
    /// One that was heard already.
    Again,
}

impl Others {
    /// A replica said something.
    fn heard(&mut self, said: &Said) -> Heard {
        let Said { from, number, message } = said;
        let heard = match self.0.get(from) {
            Some(other) if *number <= other.number => return Heard::Again,
            Some(other) if other.lost || *number != other.number + 1 => Heard::Missing,
            // Whether it has heard our hello cannot be told.
            None if !matches!(message, Message::Hello(_) | Message::Bye) => Heard::Missing,
            Some(_) | None => Heard::New,
        };
        let other = self.0.entry(*from).or_insert_with(|| Other {
            heard: Instant::now(),
            number: 0,
            presence: Presence::default(),
            lost: false,
        });
        other.lost = false;
        other.heard = Instant::now();
        other.number = *number;
        match message {
            Message::Hello(presence) | Message::Alive(presence) => {
                other.presence.clone_from(presence);
            }
            Message::Bye | Message::Update(_) | Message::All(_) => {}
        }
        heard
    }

    fn remove(&mut self, replica: Replica) {
        self.0.remove(&replica);
    }

    /// Those that have been silent for too long since the last look.
    fn silent(&mut self, now: Instant) -> Vec<Replica> {
        self.0.retain(|_, other| now.saturating_duration_since(other.heard) < FORGOTTEN);
        let mut silent = Vec::new();
        for (replica, other) in &mut self.0 {
            if !other.lost && now.saturating_duration_since(other.heard) >= DEAD {
                other.lost = true;
                silent.push(*replica);
            }
        }
        silent
    }

    /// Says where their relays are.
    fn show(&self, inner: &Inner) {
        inner.relays.send_if_modified(|known| {
            let relays = self
                .0
                .iter()
                .filter(|(_, other)| !other.lost)
                .filter_map(|(replica, other)| {
                    let url = other.presence.relay.as_deref()?;
                    Some((*replica, Url::parse(url).ok()?))
                })
                .collect();
            let changed = *known != relays;
            *known = relays;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Replica = Uuid::from_bytes([1; 16]);

    #[tokio::test(start_paused = true)]
    async fn what_a_message_is_to_us() {
        let mut others = Others::default();
        let mut say = |number, message| others.heard(&Said { from: A, number, message });
        let alive = || Message::Alive(Presence::default());
        assert_eq!(say(5, alive()), Heard::Missing, "somebody who was there before");
        assert_eq!(say(6, alive()), Heard::New);
        assert_eq!(say(6, alive()), Heard::Again);
        assert_eq!(say(5, Message::Bye), Heard::Again);
        assert_eq!(say(8, alive()), Heard::Missing);
        assert_eq!(say(9, alive()), Heard::New);
        tokio::time::advance(DEAD / 2).await;
        assert!(others.silent(Instant::now()).is_empty());
        tokio::time::advance(DEAD / 2).await;
        assert_eq!(others.silent(Instant::now()), [A]);
        assert!(others.silent(Instant::now()).is_empty(), "once");
        let said = Said { from: A, number: 10, message: alive() };
        assert_eq!(others.heard(&said), Heard::Missing, "its peers were given up");
        let said = Said { from: A, number: 11, message: alive() };
        assert_eq!(others.heard(&said), Heard::New);
        tokio::time::advance(FORGOTTEN).await;
        assert!(others.silent(Instant::now()).is_empty());
        assert!(others.0.is_empty());
    }
}
