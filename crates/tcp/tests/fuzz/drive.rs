//! Reads any bytes as a story: segments of another end, time, and what an application does.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use bytes::BytesMut;
use coderctl_tcp::{Admission, Config, Id, MTU, PacketSink, Tcp, Time, Verdict, checksum};

#[path = "attended.rs"]
mod attended;

use attended::Attended as _;

const HERE: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 1);
const THERE: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0, 0, 0, 0, 0, 0, 2);
const THEIR_PORT: u16 = 50_000;
const IPV6: usize = 40;
const PROTOCOL: u8 = 6;

/// Buffers may not take more than this, whatever is said: four times the limit of the configuration.
const MEMORY: usize = 4 << 20;

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A number at most 32 Ki from this one.
    fn near(&mut self, number: u32) -> Option<u32> {
        Some(number.wrapping_add_signed(i32::from(self.word()?.cast_signed())))
    }

    fn bytes(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What left last, by which the other end orients itself.
#[derive(Default)]
struct Heard {
    port: u16,
    sequence: u32,
    acknowledgement: u32,
    packets: usize,
}

impl PacketSink for Heard {
    fn admit(&mut self, _destination: Ipv6Addr) -> Admission {
        Admission::Yes
    }

    fn send(&mut self, _destination: Ipv6Addr, packet: BytesMut) {
        assert!(packet.len() <= MTU, "{} bytes", packet.len());
        let segment = &packet[IPV6..];
        let number =
            |at: usize| segment[at..at + 4].iter().fold(0, |sum, it| (sum << 8) | u32::from(*it));
        let header = usize::from(segment[12] >> 4) * 4;
        let flags = segment[13];
        self.port = u16::from_be_bytes([segment[0], segment[1]]);
        let occupies =
            segment.len() - header + usize::from(flags & 2 != 0) + usize::from(flags & 1 != 0);
        self.sequence = number(4).wrapping_add(occupies as u32);
        self.acknowledgement = number(8);
        self.packets += 1;
    }
}

/// A story's stage.
struct Stage {
    tcp: Tcp,
    now: Time,
    heard: Heard,
    id: Option<Id>,
}

/// Plays the story that these bytes tell.
pub(crate) fn drive(data: &[u8]) {
    let mut input = Input(data);
    let config = Config { memory: MEMORY / 4, ..Config::new((1, 2)) };
    let now = Time::from_micros(1_000_000);
    let heard = Heard { port: 22, ..Heard::default() };
    let mut stage = Stage { tcp: Tcp::new(config), now, heard, id: None };
    if input.byte().is_some_and(|it| it & 1 == 1) {
        let remote = SocketAddrV6::new(THERE, THEIR_PORT, 0, 0);
        stage.id = stage.tcp.connect(HERE, remote, |_| true, now).ok();
    }
    while stage.step(&mut input).is_some() {
        stage.collect();
        assert!(stage.tcp.memory() <= MEMORY, "{} bytes", stage.tcp.memory());
    }
    stage.fall_silent();
    assert_eq!(stage.tcp.connections(), 0, "{:?}", stage.tcp);
}

impl Stage {
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match (input.byte()?, self.id) {
            (0, _) => self.wait(Duration::from_millis(input.word()?.into())),
            (1, Some(id)) => {
                let count = usize::from(input.word()?);
                // What it says does not matter, only that it can be asked.
                let _ = self.tcp.send(id, &mut |room| room.len().min(count), self.now);
            }
            (2, Some(id)) => {
                let count = usize::from(input.word()?);
                let _ = self.tcp.recv(id, &mut |bytes| bytes.len().min(count), self.now);
            }
            (3, Some(id)) => self.tcp.close(id, self.now),
            (4, Some(id)) => self.tcp.abort(id, self.now),
            (5, Some(id)) => self.tcp.release(id, self.now),
            (6, _) => self.tcp.doubt(THERE, self.now),
            _ => self.segment(input)?,
        }
        Some(())
    }

    fn segment(&mut self, input: &mut Input<'_>) -> Option<()> {
        let flags = input.byte()?;
        let sequence = input.near(self.heard.acknowledgement)?;
        let acknowledgement = input.near(self.heard.sequence)?;
        let window = input.word()?;
        let options = usize::from(input.byte()? % 11) * 4;
        let payload = usize::from(input.word()?) % (MTU - IPV6 - 60);
        let mut segment = Vec::new();
        segment.extend_from_slice(&THEIR_PORT.to_be_bytes());
        segment.extend_from_slice(&self.heard.port.to_be_bytes());
        segment.extend_from_slice(&sequence.to_be_bytes());
        segment.extend_from_slice(&acknowledgement.to_be_bytes());
        segment.extend_from_slice(&[(((20 + options) / 4) << 4) as u8, flags]);
        segment.extend_from_slice(&window.to_be_bytes());
        segment.extend_from_slice(&[0; 4]);
        let header = 20 + options;
        segment.extend_from_slice(input.bytes(options));
        segment.resize(header + payload, 0);
        let sum = checksum(&THERE, &HERE, PROTOCOL, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        match self.tcp.ingest(THERE, HERE, &segment, self.now) {
            Verdict::Asks { .. } => self.id = self.tcp.answer(THERE, HERE, &segment, self.now),
            Verdict::Malformed => panic!("its checksum is right"),
            Verdict::Taken | Verdict::TakesBack { .. } | Verdict::Stray => {}
        }
        Some(())
    }
}

impl attended::Attended for Stage {
    fn parts(&mut self) -> (&mut Tcp, &mut Time) {
        (&mut self.tcp, &mut self.now)
    }

    fn collect(&mut self) {
        self.heard.packets = 0;
        self.tcp.poll_transmit(&mut self.heard, self.now);
        assert!(self.heard.packets < 5000, "{} packets at once", self.heard.packets);
        while self.tcp.poll_event().is_some() {}
    }
}
