//! Another end that says anything at all: nothing panics, nothing grows without bound, and whatever
//! it has led us to, the connection ends.

#[path = "fuzz/attended.rs"]
mod attended;
mod script;
mod sim;

use std::net::SocketAddrV6;
use std::time::Duration;

use attended::Attended as _;
use coderctl_tcp::{Config, Id, MTU, Tcp, Time, Verdict};
use script::wire::Line;
use sim::{IPV6, Packets, Random, address, seeds};

const THEIR_START: u32 = u32::MAX - 5000;
const PORT: u16 = 22;
const THEIR_PORT: u16 = 50_000;

struct Attack {
    random: Random,
    tcp: Tcp,
    now: Time,
    id: Option<Id>,
    port: u16,
    /// What we said last, relative to the first numbers.
    ours: u32,
    theirs: u32,
    our_start: Option<u32>,
}

impl Attack {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = Config {
            timestamps: random.below(2) == 0,
            keep_alive: Some(Duration::from_secs(10)),
            memory: 1 << 20,
            ..Config::new((seed, 1))
        };
        let mut tcp = Tcp::new(config);
        let now = Time::from_micros(1_000_000);
        let mut port = PORT;
        let mut id = None;
        if random.below(2) == 0 {
            let remote = SocketAddrV6::new(address(1), THEIR_PORT, 0, 0);
            let connected = tcp.connect(address(0), remote, |_| true, now).expect("a port");
            port = tcp.status(connected).expect("it is there").local.port();
            id = Some(connected);
        }
        Self { random, tcp, now, id, port, ours: 0, theirs: 0, our_start: None }
    }

    /// A number near to one that makes sense, or any.
    fn near(&mut self, number: u32, spread: u64) -> u32 {
        match self.random.below(8) {
            0 => self.random.next() as u32,
            1..=4 => number,
            _ => {
                let off = self.random.below(2 * spread) as u32;
                number.wrapping_add(off).wrapping_sub(spread as u32)
            }
        }
    }

    fn line(&mut self) -> Line {
        let flags = ["A", "A", "A", "A", "AP", "SA", "S", "R", "RA", "FA", "F", "", "SFRA"];
        let from = self.near(self.theirs, 3000);
        let length = [0, 0, 1, 100, 1220, 9000][self.random.below(6) as usize];
        let mut line = Line {
            flags: flags[self.random.below(flags.len() as u64) as usize].to_owned(),
            from,
            to: from.wrapping_add(length),
            ack: Some(self.near(self.ours, 5000)),
            window: Some(self.random.below(65_536) as u16 >> self.random.below(16)),
            ..Line::default()
        };
        if line.flags.contains('S') {
            line.mss = Some(self.random.below(3000) as u16);
            line.scale = Some(self.random.below(20) as u8);
            line.sackok = self.random.below(4) > 0;
        }
        for _ in 0..self.random.below(4) {
            let start = self.near(self.ours, 5000);
            let end = self.near(start.wrapping_add(1000), 1000);
            line.sack.push((start, end));
        }
        if self.random.below(2) == 0 && line.sack.len() < 3 && !line.flags.contains('S') {
            let stamp = self.near(self.now.micros() as u32 / 1000, 2000);
            line.stamps = Some((stamp, self.near(stamp, 2000)));
        }
        line
    }

    fn segment(&mut self) {
        let line = self.line();
        let ends = (address(1), address(0));
        let start = self.our_start.unwrap_or(0);
        let mut bytes = line.bytes(ends, (THEIR_PORT, self.port), THEIR_START, start);
        if self.random.below(20) == 0 {
            let at = self.random.below(bytes.len() as u64) as usize;
            bytes[at] ^= self.random.next() as u8;
        }
        if self.random.below(20) == 0 {
            bytes.truncate(self.random.below(bytes.len() as u64) as usize);
        }
        let verdict = self.tcp.ingest(address(1), address(0), &bytes, self.now);
        if matches!(verdict, Verdict::Asks { .. }) {
            match self.random.below(4) {
                0 => self.tcp.refuse(address(1), address(0), &bytes),
                _ => self.id = self.tcp.answer(address(1), address(0), &bytes, self.now),
            }
            self.our_start = None;
        }
    }

    fn application(&mut self) {
        let Some(id) = self.id else { return };
        let most = self.random.below(20_000) as usize;
        match self.random.below(20) {
            0 => self.tcp.close(id, self.now),
            1 => self.tcp.release(id, self.now),
            2 => self.tcp.abort(id, self.now),
            3..=10 => {
                // What it says does not matter, only that it can be asked.
                let _ = self.tcp.recv(id, &mut |bytes| bytes.len().min(most), self.now);
            }
            _ => {
                let _ = self.tcp.send(id, &mut |room| room.len().min(most), self.now);
            }
        }
    }
}

impl attended::Attended for Attack {
    fn parts(&mut self) -> (&mut Tcp, &mut Time) {
        (&mut self.tcp, &mut self.now)
    }

    fn collect(&mut self) {
        let mut packets = Packets::default();
        self.tcp.poll_transmit(&mut packets, self.now);
        assert!(packets.0.len() < 5000, "{} packets at once", packets.0.len());
        for packet in packets.0 {
            assert!(packet.len() <= MTU);
            let bytes = &packet[IPV6..];
            let number = |at: usize| {
                u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            };
            if bytes[13] & 2 != 0 {
                self.our_start = Some(number(4));
            }
            let line = Line::read(bytes, self.our_start.unwrap_or(0), THEIR_START);
            self.ours = line.to;
            self.theirs = line.ack.unwrap_or(self.theirs);
        }
        while self.tcp.poll_event().is_some() {}
    }
}

#[test]
fn whatever_the_other_end_says_the_connection_ends() {
    for seed in 0..seeds(400) {
        let mut attack = Attack::new(seed);
        attack.collect();
        for _ in 0..300 {
            match attack.random.below(10) {
                0..=6 => attack.segment(),
                7..=8 => attack.application(),
                _ => {
                    let micros = attack.random.below(300_000);
                    attack.wait(Duration::from_micros(micros));
                }
            }
            attack.collect();
            assert!(attack.tcp.memory() < 4 << 20, "seed {seed}: {}", attack.tcp.memory());
        }
        attack.fall_silent();
        assert_eq!(attack.tcp.connections(), 0, "seed {seed}: {:?}", attack.tcp);
    }
}
