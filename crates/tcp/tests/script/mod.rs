//! Scripts in packetdrill's manner: what arrives, what the application does, and exactly what has
//! to leave, and when.
//!
//! ```text
//! connect | listen | deaf       how it begins; deaf refuses
//! config timestamps             before that: what is offered; config wide: long segments
//! > SA 0 ack 1 ...              this leaves now (everything that leaves has to be named)
//! < A 1:101 ack 1 win 500       this arrives
//! +200ms                        time passes; what leaves meanwhile must leave at its end
//! write 3000 | read 100 | close | release | abort
//! event connected | state established | unsent 0 | readable 5
//! ```
//!
//! Sequence numbers count from each direction's SYN; theirs begins just before the wire's numbers
//! wrap.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::Duration;

use coderctl_tcp::{Config, Event, Id, MTU, Tcp, Time, Verdict, WIDEST};

pub(crate) mod wire;

use wire::Line;

use crate::sim::{IPV6, Packets, address};

const THEIR_START: u32 = u32::MAX - 500;
const PORT: u16 = 22;
const THEIR_PORT: u16 = 50_000;

struct Scene {
    tcp: Tcp,
    now: Time,
    id: Option<Id>,
    our_start: Option<u32>,
    ports: (u16, u16),
    deaf: bool,
    left: VecDeque<(Time, Line)>,
    events: Vec<String>,
}

/// Runs a script; what is wrong with it, and where.
pub(crate) fn run(script: &str) -> Result<(), String> {
    let (in_flight, intake) = (None, None);
    let config =
        Config { in_flight, intake, timestamps: false, widest: MTU, ..Config::new((1, 2)) };
    let mut scene: Option<Scene> = None;
    let mut config = config;
    for (number, line) in script.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let outcome = match (line, &mut scene) {
            ("config timestamps", None) => {
                config.timestamps = true;
                Ok(())
            }
            ("config wide", None) => {
                config.widest = WIDEST;
                Ok(())
            }
            ("config impatient", None) => {
                config.keep_alive = Some(Duration::from_secs(10));
                Ok(())
            }
            (line, None) => {
                scene = Some(Scene::begin(line, config.clone()));
                Ok(())
            }
            (line, Some(scene)) => scene.step(line),
        };
        outcome.map_err(|problem| format!("line {}: {line}: {problem}", number + 1))?;
    }
    match scene.and_then(|scene| scene.left.front().cloned()) {
        Some((at, line)) => Err(format!("at the end: not told of {line:?} at {at:?}")),
        None => Ok(()),
    }
}

impl Scene {
    fn begin(line: &str, config: Config) -> Self {
        let mut scene = Self {
            tcp: Tcp::new(config),
            now: Time::from_micros(1_000_000),
            id: None,
            our_start: None,
            ports: (PORT, THEIR_PORT),
            deaf: line == "deaf",
            left: VecDeque::new(),
            events: Vec::new(),
        };
        if line == "connect" {
            let remote = SocketAddrV6::new(address(1), THEIR_PORT, 0, 0);
            let id = scene.tcp.connect(address(0), remote, |_| true, scene.now).unwrap();
            scene.ports.0 = scene.tcp.status(id).unwrap().local.port();
            scene.id = Some(id);
        }
        scene.collect();
        scene
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !matches!(word, ">" | "event" | "state" | "unsent" | "readable")
            && let Some((at, line)) = self.left.front()
        {
            return Err(format!("before this, {line:?} left at {at:?}"));
        }
        let number = || rest.parse::<usize>().map_err(|error| error.to_string());
        match word {
            ">" => self.expect(rest)?,
            "<" => self.arrive(&Line::parse(rest).ok_or("cannot be read")?),
            "write" => self.write(number()?)?,
            "read" => self.read(number()?)?,
            "close" => self.tcp.close(self.id.ok_or("no connection")?, self.now),
            "release" => self.tcp.release(self.id.ok_or("no connection")?, self.now),
            "abort" => self.tcp.abort(self.id.ok_or("no connection")?, self.now),
            "event" => {
                let at = self.events.iter().position(|event| event == rest);
                self.events.remove(at.ok_or_else(|| format!("only {:?}", self.events))?);
            }
            "state" => {
                let state = self.id.and_then(|id| self.tcp.status(id)).map(|it| it.state);
                let state = format!("{state:?}").to_lowercase();
                let wanted = rest.replace('-', "");
                if state != format!("some({wanted})") && !(state == "none" && wanted == "none") {
                    return Err(state);
                }
            }
            "unsent" | "readable" => {
                let status = self.id.and_then(|id| self.tcp.status(id)).ok_or("no connection")?;
                let found = if word == "unsent" { status.unsent } else { status.readable };
                if found != number()? {
                    return Err(format!("{found}"));
                }
            }
            _ if word.starts_with('+') => return self.wait(&word[1..]),
            _ => return Err("unknown".to_owned()),
        }
        self.collect();
        Ok(())
    }

    fn wait(&mut self, time: &str) -> Result<(), String> {
        let split = time.find(|it: char| !it.is_ascii_digit()).ok_or("no unit")?;
        let number: u64 = time[..split].parse().map_err(|_| "no number")?;
        let duration = match &time[split..] {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            _ => return Err("no unit".to_owned()),
        };
        let until = self.now + duration;
        while let Some(at) = self.tcp.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tcp.handle_timeout(self.now);
            self.collect();
            if let Some((at, line)) = self.left.front().filter(|(at, _)| *at < until) {
                return Err(format!("{:?} too early: {line:?}", until.since(*at)));
            }
        }
        self.now = until;
        self.collect();
        Ok(())
    }

    fn expect(&mut self, rest: &str) -> Result<(), String> {
        let found = self.left.pop_front().map(|(_, line)| line);
        if rest == "nothing" {
            return found.map_or(Ok(()), |line| Err(format!("{line:?}")));
        }
        let wanted = Line::parse(rest).ok_or("cannot be read")?;
        match found {
            Some(line) if wanted.describes(&line) => Ok(()),
            found => Err(format!("found {found:?}")),
        }
    }

    fn arrive(&mut self, line: &Line) {
        let (ours, theirs) = (self.ports.0, self.ports.1);
        let start = self.our_start.unwrap_or(0);
        let bytes = line.bytes((address(1), address(0)), (theirs, ours), THEIR_START, start);
        let verdict = self.tcp.ingest(address(1), address(0), &bytes, self.now);
        if matches!(verdict, Verdict::Asks { .. }) {
            if self.deaf {
                self.tcp.refuse(address(1), address(0), &bytes);
            } else {
                self.our_start = None;
                self.id = self.tcp.answer(address(1), address(0), &bytes, self.now);
            }
        }
    }

    fn write(&mut self, count: usize) -> Result<(), String> {
        let mut left = count;
        let mut fill = |room: &mut [u8]| {
            let count = left.min(room.len());
            left -= count;
            count
        };
        let written = self.tcp.send(self.id.ok_or("no connection")?, &mut fill, self.now);
        match written {
            Ok(written) if written == count => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn read(&mut self, count: usize) -> Result<(), String> {
        let mut left = count;
        let mut take = |bytes: &[u8]| {
            let count = left.min(bytes.len());
            left -= count;
            count
        };
        let read = self.tcp.recv(self.id.ok_or("no connection")?, &mut take, self.now);
        match read {
            Ok(read) if read == count => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn collect(&mut self) {
        let mut packets = Packets::default();
        self.tcp.poll_transmit(&mut packets, self.now);
        for packet in packets.0 {
            let bytes = &packet[IPV6..];
            let sequence = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let start = match self.our_start {
                Some(start) => start,
                None if bytes[13] & 2 != 0 => *self.our_start.insert(sequence),
                None => 0,
            };
            self.left.push_back((self.now, Line::read(bytes, start, THEIR_START)));
        }
        while let Some(event) = self.tcp.poll_event() {
            self.events.push(match event {
                Event::Connected(_) => "connected".to_owned(),
                Event::Readable(_) => "readable".to_owned(),
                Event::Writable(_) => "writable".to_owned(),
                Event::PeerClosed(_) => "peer-closed".to_owned(),
                Event::Ended(_, reason) => format!("ended {reason:?}").to_lowercase(),
            });
        }
    }
}
