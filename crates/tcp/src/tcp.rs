//! All connections of a host.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};

use bytes::BytesMut;

mod application;
mod settle;
mod transmit;
mod width;

use crate::config::Config;
use crate::congestion::Congestion;
use crate::connection::{Connection, Heard, Phase, Reaction, Syn, Tuple, refusal};
use crate::event::{CloseReason, Event, Id, NoPort, Stats, Verdict, WidthNews};
use crate::key::Key;
use crate::linger::{Late, Lingering};
use crate::segment::{Header, Segment};
use crate::seq::Seq;
use crate::share::{Lanes, Memory, Part};
use crate::time::Time;
use crate::timers::{Timer, Timers};

/// Answers on behalf of no connection that may wait to be sent.
const REPLIES: usize = 1024;

/// Connections and everything they share. The crate's documentation tells how to drive it.
#[derive(Debug)]
pub struct Tcp {
    config: Config,
    key: Key,
    slots: Vec<Slot>,
    /// Slots without a connection.
    free: Vec<u32>,
    by_tuple: HashMap<Tuple, Id, Key>,
    lingering: Lingering,
    timers: Timers,
    /// Connections with something to send, in turn: those with little first.
    light: VecDeque<Id>,
    heavy: VecDeque<Id>,
    replies: VecDeque<(Tuple, Header)>,
    events: VecDeque<Event>,
    /// Connections that wait for room that others have to make, in turn.
    waiting: VecDeque<Id>,
    lanes: Lanes,
    /// What the ways to addresses carry, where it is more than [`MTU`](crate::MTU).
    widths: HashMap<Ipv6Addr, usize, Key>,
    width_news: VecDeque<WidthNews>,
    memory: Memory,
    /// Packets are cut from it.
    block: BytesMut,
    opened: u64,
    stats: Stats,
}

/// A place for a connection.
#[derive(Debug)]
struct Slot {
    /// How many connections were here.
    generation: u32,
    entry: Option<Entry>,
}

/// A connection and what all of them together know of it.
#[derive(Debug)]
struct Entry {
    connection: Connection,
    timer: Timer,
    /// What it shares with others, in [`Lanes`].
    lane: usize,
    /// Bytes under way, as counted there.
    load: usize,
    /// Bytes of memory, as counted by [`Memory`].
    memory: usize,
    part: Part,
    queued: Option<Queue>,
    told: Told,
    /// The application will not name it again.
    released: bool,
}

/// Which queue a connection waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Light,
    Heavy,
}

/// Events that are pending or owed.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    readable: bool,
    writable: bool,
    /// A write was cut short.
    owes_writable: bool,
    /// It waits in [`Tcp::waiting`].
    waits_for_room: bool,
    peer_closed: bool,
}

impl Tcp {
    /// Without connections.
    pub fn new(config: Config) -> Self {
        let key = Key::new(config.key);
        Self {
            key,
            slots: Vec::new(),
            free: Vec::new(),
            by_tuple: HashMap::with_hasher(key),
            lingering: Lingering::new(key),
            timers: Timers::default(),
            light: VecDeque::new(),
            heavy: VecDeque::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            lanes: Lanes::new(&config, key),
            widths: HashMap::with_hasher(key),
            width_news: VecDeque::new(),
            block: BytesMut::new(),
            memory: Memory::new(config.memory),
            opened: 0,
            stats: Stats::default(),
            config,
        }
    }

    /// Opens a connection (RFC 9293, 3.10.1), from a port for which `free` says so.
    /// [`Event::Connected`] or [`Event::Ended`] follows.
    ///
    /// # Errors
    ///
    /// [`NoPort`] if there is none.
    pub fn connect(
        &mut self,
        local: Ipv6Addr,
        remote: SocketAddrV6,
        free: impl Fn(u16) -> bool,
        now: Time,
    ) -> Result<Id, NoPort> {
        let to = Tuple { local, port: 0, remote: *remote.ip(), remote_port: remote.port() };
        let unused = |tuple: &Tuple| {
            free(tuple.port)
                && !self.by_tuple.contains_key(tuple)
                && !self.lingering.contains(tuple, now)
        };
        let ports = self.key.ports(&to, self.opened);
        let tuple = ports.map(|port| Tuple { port, ..to }).find(unused).ok_or(NoPort)?;
        let syn = Syn::new(self.first_sequence(&tuple, now), now);
        let id = self.add(Connection::new(tuple, Phase::SynSent(syn), now));
        self.settle(id, now);
        Ok(id)
    }

    /// Accepts the connection that the segment asks for, which [`Verdict::Asks`] was said to.
    /// [`Event::Connected`] follows, or [`Event::Ended`]. `None` if it does not ask for one, or
    /// there is one already.
    pub fn answer(
        &mut self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        bytes: &[u8],
        now: Time,
    ) -> Option<Id> {
        let segment = Segment::parse(&source, &destination, bytes).ok()?;
        let tuple = tuple(source, destination, &segment);
        if !asks(&segment) || self.by_tuple.contains_key(&tuple) {
            return None;
        }
        let syn = Syn::new(self.first_sequence(&tuple, now), now);
        let heard = Heard::read(&segment.header, true);
        let id = self.add(Connection::new(tuple, Phase::SynReceived(syn, heard), now));
        self.settle(id, now);
        Some(id)
    }

    /// Answers a segment that is for no connection with a RST, as a closed port does.
    pub fn refuse(&mut self, source: Ipv6Addr, destination: Ipv6Addr, bytes: &[u8]) {
        if let Ok(segment) = Segment::parse(&source, &destination, bytes)
            && !segment.header.flags.rst
        {
            let tuple = tuple(source, destination, &segment);
            self.reply(tuple, refusal(&tuple, &segment));
        }
    }

    /// Takes the TCP segment of an IPv6 packet.
    pub fn ingest(
        &mut self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        bytes: &[u8],
        now: Time,
    ) -> Verdict {
        self.stats.segments_in += 1;
        let Ok(segment) = Segment::parse(&source, &destination, bytes) else {
            self.stats.malformed += 1;
            return Verdict::Malformed;
        };
        let tuple = tuple(source, destination, &segment);
        if let Some(id) = self.by_tuple.get(&tuple).copied() {
            self.feed(id, &segment, now);
            return Verdict::Taken;
        }
        match self.lingering.ingest(&tuple, &segment, now) {
            Some(Late::Answer(header)) => {
                self.reply(tuple, header);
                return Verdict::Taken;
            }
            Some(Late::Ignore) => return Verdict::Taken,
            Some(Late::Anew) | None => {}
        }
        let local = SocketAddrV6::new(tuple.local, tuple.port, 0, 0);
        let remote = tuple.there();
        if asks(&segment) {
            return Verdict::Asks { local, remote };
        }
        if segment.header.flags.rst {
            return Verdict::TakesBack { local, remote };
        }
        self.stats.strays += 1;
        self.reply(tuple, refusal(&tuple, &segment));
        Verdict::Stray
    }

    /// Lets what is due at `now` happen.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, id)) = self.timers.pop(now) {
            let Some(entry) = entry(&mut self.slots, id) else { continue };
            if !self.timers.fired(id, &mut entry.timer, at, now) {
                continue;
            }
            match entry.connection.fire(&self.config, entry.released, now) {
                Some(reason) => self.fail(id, reason, now),
                None => self.settle(id, now),
            }
        }
    }

    /// When [`Tcp::handle_timeout`] is wanted next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The next event; to be called until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            let id = event.connection();
            // Events of a connection that was released meanwhile have nobody to go to.
            let Some(entry) = entry(&mut self.slots, id).filter(|it| !it.released) else {
                continue;
            };
            entry.told.readable &= event != Event::Readable(id);
            entry.told.writable &= event != Event::Writable(id);
            return Some(event);
        }
    }

    /// How many connections there are, those that end in the background included.
    pub fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connections that the application may name.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let named = |slot: &Slot| slot.entry.as_ref().is_some_and(|entry| !entry.released);
        let all = self.slots.iter().enumerate();
        all.filter(move |(_, slot)| named(slot)).map(|(at, slot)| id(at as u32, slot.generation))
    }

    /// Counters.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Memory of all buffers, in bytes.
    pub const fn memory(&self) -> usize {
        self.memory.used()
    }

    /// Connections that open from now on have this for congestion control.
    pub fn set_congestion(&mut self, congestion: Congestion) {
        self.config.congestion = congestion;
    }

    fn first_sequence(&self, tuple: &Tuple, now: Time) -> Seq {
        Seq::initial(self.key.sequence(tuple, now))
    }

    fn feed(&mut self, id: Id, segment: &Segment<'_>, now: Time) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let tuple = entry.connection.tuple;
        match entry.connection.ingest(segment, &self.config, now) {
            Reaction::Noted(noted) => self.note(id, &noted, now),
            Reaction::Opened(noted) => {
                self.widen(id, now);
                self.tell(id, Event::Connected(id));
                self.note(id, &noted, now);
            }
            Reaction::Reset(header) => self.reply(tuple, header),
            Reaction::Ended(reason) => self.end(id, reason),
            Reaction::Finished { linger } => self.finish(id, linger, now),
            Reaction::Withdrawn => self.end(id, CloseReason::Reset),
        }
        self.settle(id, now);
        self.wake_others(now);
    }

    fn reply(&mut self, tuple: Tuple, header: Header) {
        if self.replies.len() < REPLIES {
            self.replies.push_back((tuple, header));
        } else {
            self.stats.overflow += 1;
        }
    }

    fn add(&mut self, connection: Connection) -> Id {
        self.opened += 1;
        let tuple = connection.tuple;
        let entry = Entry {
            connection,
            timer: Timer::default(),
            lane: self.lanes.join(tuple.remote),
            load: 0,
            memory: 0,
            part: Part::default(),
            queued: None,
            told: Told::default(),
            released: false,
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[at as usize];
        slot.entry = Some(entry);
        let id = id(at, slot.generation);
        self.by_tuple.insert(tuple, id);
        id
    }

    fn remove(&mut self, id: Id) {
        let Some(slot) = self.slots.get_mut(index(id)).filter(|it| it.generation == generation(id))
        else {
            return;
        };
        let Some(mut entry) = slot.entry.take() else { return };
        slot.generation += 1;
        self.free.push(index(id) as u32);
        self.lanes.share(entry.lane).update(&mut entry.load, 0);
        self.lanes.leave(entry.lane);
        self.memory.update(&mut entry.memory, 0);
        self.unmap(entry.connection.tuple, id);
    }

    /// Segments of a connection that is over are for nobody, or for a new one.
    fn unmap(&mut self, tuple: Tuple, id: Id) {
        if self.by_tuple.get(&tuple) == Some(&id) {
            self.by_tuple.remove(&tuple);
        }
    }
}

/// Whether a segment asks for a connection.
fn asks(segment: &Segment<'_>) -> bool {
    let flags = segment.header.flags;
    let named = segment.header.source != 0 && segment.header.destination != 0;
    flags.syn && !flags.ack && !flags.rst && !flags.fin && named
}

fn tuple(source: Ipv6Addr, destination: Ipv6Addr, segment: &Segment<'_>) -> Tuple {
    Tuple {
        local: destination,
        port: segment.header.destination,
        remote: source,
        remote_port: segment.header.source,
    }
}

const fn id(at: u32, generation: u32) -> Id {
    Id((generation as u64) << 32 | at as u64)
}

const fn index(id: Id) -> usize {
    id.0 as u32 as usize
}

const fn generation(id: Id) -> u32 {
    (id.0 >> 32) as u32
}

fn entry(slots: &mut [Slot], id: Id) -> Option<&mut Entry> {
    let slot = slots.get_mut(index(id)).filter(|slot| slot.generation == generation(id))?;
    slot.entry.as_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Cubic;
    use crate::connection::Flow;

    #[test]
    fn five_thousand_idle_connections_fit_into_ten_mebibytes() {
        // Its place, what is open, what controls it (twice: as it was before a loss), its entry in the
        // table, which is half full, and one among the timers.
        let table = 2 * size_of::<(Tuple, Id)>() + size_of::<(Time, Id)>();
        let each = size_of::<Slot>() + size_of::<Flow>() + 2 * size_of::<Cubic>() + table;
        assert!(each * 5000 <= 10 << 20, "{each} bytes each");
    }
}
