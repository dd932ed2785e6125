//! TCP over the whole path.

use std::time::Duration;

use coderctl_tailnet::engine::Event;
use coderctl_tailnet::stack::{
    CloseReason, ConnectionId, RecvError, SendError, StackEvent, TcpEvent,
};

use crate::sim::traffic::{Drain, Source};
use crate::sim::{LinkConfig, World};

const MS: fn(u64) -> Duration = Duration::from_millis;
const PORT: u16 = 80;

/// Opens a connection from A to B and gives both ends.
fn open(world: &mut World) -> (ConnectionId, ConnectionId) {
    let (now, to) = (world.now, world.peers[1].at(PORT));
    let listener = world.peers[1].engine.stack().listen(PORT, 1024).expect("free");
    let here = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    let mut there = None;
    world.run_until(Duration::from_secs(30), |world| {
        there = there.or_else(|| world.peers[1].engine.stack().accept(listener));
        there.is_some()
            && world.peers[0]
                .saw(|it| *it == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(here))))
    });
    let now = world.now;
    world.peers[1].engine.stack().unlisten(listener, now);
    (here, there.expect("accepted").0)
}

fn reliable(seed: u64) -> World {
    let mut world = World::new(seed, LinkConfig::delay(MS(10)));
    world.introduce();
    world
}

fn bad(seed: u64) -> World {
    let link = LinkConfig::delay(MS(5)).jitter(MS(3)).loss(20_000).duplicate(20_000);
    let mut world = World::new(seed, link.rate(200_000_000).queue(512));
    world.introduce();
    world
}

#[test]
fn a_megabyte_each_way_arrives_unchanged_over_a_bad_link() {
    for seed in 0..5 {
        let mut world = bad(seed);
        let (here, there) = open(&mut world);
        let total = 1 << 20;
        let mut sources = [Source::new(here, 1, total), Source::new(there, 2, total)];
        let mut drains = [Drain::new(here, 2), Drain::new(there, 1)];
        world.run_until(Duration::from_secs(600), |world| {
            let now = world.now;
            let mut done = true;
            for who in 0..2 {
                let stack = world.peers[who].engine.stack();
                done &= sources[who].pump(stack, now).expect("sends");
                done &= drains[who].pump(stack, now).expect("receives");
            }
            done
        });
        assert_eq!([drains[0].received, drains[1].received], [total, total], "seed {seed}");
    }
}

#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    for closer in 0..2 {
        let mut world = reliable(20);
        let ends = open(&mut world);
        let ends = [ends.0, ends.1];
        let now = world.now;
        world.peers[closer].engine.stack().close(ends[closer], now);
        world.flush();
        world.run(MS(100));
        let other = 1 - closer;
        assert!(world.peers[other].saw(|event| {
            *event == Event::Stack(StackEvent::Tcp(TcpEvent::PeerClosed(ends[other])))
        }));
        let mut source = Source::new(ends[other], 5, 300_000);
        let mut drain = Drain::new(ends[closer], 5);
        world.run_until(Duration::from_secs(10), |world| {
            let now = world.now;
            let sent = source.pump(world.peers[other].engine.stack(), now).expect("sends");
            let got = drain.pump(world.peers[closer].engine.stack(), now).expect("receives");
            sent && got
        });
        assert_eq!(drain.received, 300_000);
        world.run(MS(100));
        for (peer, end) in world.peers.iter_mut().zip(ends) {
            let stack = peer.engine.stack();
            let status = stack.status(end).expect("named");
            assert_eq!(status.ended, Some(CloseReason::Finished));
            stack.release(end, world.now);
            assert_eq!(stack.connections(), 0);
        }
    }
}

#[test]
fn nobody_listening_is_refused_within_a_round_trip() {
    let mut world = reliable(21);
    world.run(MS(100));
    let (now, to) = (world.now, world.peers[1].at(4444));
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    let took = world.run_until(MS(200), |world| {
        world.peers[0].saw(|event| {
            *event == Event::Stack(StackEvent::Tcp(TcpEvent::Ended(id, CloseReason::Refused)))
        })
    });
    assert_eq!(took, MS(20));
    let stack = world.peers[0].engine.stack();
    assert_eq!(stack.status(id).and_then(|it| it.ended), Some(CloseReason::Refused));
    let read = stack.recv(id, &mut |bytes| bytes.len(), now);
    assert_eq!(read, Err(RecvError::Ended(CloseReason::Refused)));
}

#[test]
fn an_aborted_connection_is_reset_at_the_other_end() {
    let mut world = reliable(22);
    let (here, there) = open(&mut world);
    let now = world.now;
    world.peers[0].engine.stack().abort(here, now);
    assert_eq!(world.peers[0].engine.stack().status(here), None);
    world.flush();
    world.run(MS(50));
    assert!(
        world.peers[1].saw(|event| *event
            == Event::Stack(StackEvent::Tcp(TcpEvent::Ended(there, CloseReason::Reset))))
    );
    let now = world.now;
    let sent = world.peers[1].engine.stack().send(there, &mut |room| room.len(), now);
    assert_eq!(sent, Err(SendError::Ended(CloseReason::Reset)));
    assert_eq!(world.peers[0].engine.stack().connections(), 0);
}

#[test]
fn what_arrived_before_a_reset_can_be_read() {
    let mut world = reliable(23);
    let (here, there) = open(&mut world);
    let now = world.now;
    let mut source = Source::new(here, 3, 5_000);
    source.closed = true;
    source.pump(world.peers[0].engine.stack(), now).expect("fits");
    world.flush();
    world.run(MS(100));
    let now = world.now;
    world.peers[0].engine.stack().abort(here, now);
    world.flush();
    world.run(MS(100));
    let now = world.now;
    let mut drain = Drain::new(there, 3);
    let end = drain.pump(world.peers[1].engine.stack(), now);
    assert_eq!((drain.received, end), (5_000, Err(RecvError::Ended(CloseReason::Reset))));
}

#[test]
fn a_dead_way_fails_a_sender_in_bounded_time() {
    let mut world = reliable(24);
    let (here, _) = open(&mut world);
    world.links[0].config.loss = 1_000_000;
    let now = world.now;
    let mut source = Source::new(here, 3, 5_000);
    source.pump(world.peers[0].engine.stack(), now).expect("fits");
    world.flush();
    let took = world.run_until(Duration::from_secs(60), |world| {
        world.peers[0].saw(|event| {
            *event == Event::Stack(StackEvent::Tcp(TcpEvent::Ended(here, CloseReason::TimedOut)))
        })
    });
    assert!(took >= Duration::from_secs(29) && took <= Duration::from_secs(31), "{took:?}");
    let now = world.now;
    world.peers[0].engine.stack().release(here, now);
    world.flush();
    assert_eq!(world.peers[0].engine.stack().connections(), 0);
}

#[test]
fn an_idle_dead_connection_is_noticed_by_keepalives() {
    let mut world = reliable(25);
    let (here, there) = open(&mut world);
    // Idle and alive for an hour: nothing happens.
    world.run(Duration::from_secs(3600));
    for (who, id) in [(0, here), (1, there)] {
        let status = world.peers[who].engine.stack().status(id).expect("named");
        assert!(status.is_open());
    }
    world.links[0].config.loss = 1_000_000;
    world.links[1].config.loss = 1_000_000;
    world.run(Duration::from_secs(300));
    let status = world.peers[0].engine.stack().status(here).expect("named");
    assert_eq!(status.ended, Some(CloseReason::TimedOut));
}

#[test]
fn a_released_connection_still_delivers_and_disappears() {
    let mut world = bad(26);
    let (here, there) = open(&mut world);
    let now = world.now;
    let mut source = Source::new(here, 4, 100_000);
    assert!(source.pump(world.peers[0].engine.stack(), now).expect("fits"));
    world.peers[0].engine.stack().release(here, now);
    let mut drain = Drain::new(there, 4);
    world.run_until(Duration::from_secs(60), |world| {
        let now = world.now;
        drain.pump(world.peers[1].engine.stack(), now).expect("receives")
    });
    assert_eq!(drain.received, 100_000);
    let now = world.now;
    world.peers[1].engine.stack().release(there, now);
    world.run(Duration::from_secs(60));
    for peer in &mut world.peers {
        assert_eq!(peer.engine.stack().connections(), 0);
    }
}

#[test]
fn a_writer_that_was_cut_short_is_woken() {
    let mut world = reliable(27);
    let (here, there) = open(&mut world);
    let mut source = Source::new(here, 6, 8 << 20);
    let mut drain = Drain::new(there, 6);
    let now = world.now;
    source.pump(world.peers[0].engine.stack(), now).expect("sends");
    let mut seen = world.peers[0].events.len();
    world.run_until(Duration::from_secs(60), |world| {
        let now = world.now;
        // The sender acts on events alone, the receiver on each step.
        let told = world.peers[0].events[seen..]
            .iter()
            .any(|(_, event)| *event == Event::Stack(StackEvent::Tcp(TcpEvent::Writable(here))));
        seen = world.peers[0].events.len();
        if told {
            source.pump(world.peers[0].engine.stack(), now).expect("sends");
        }
        drain.pump(world.peers[1].engine.stack(), now).expect("receives")
    });
    assert_eq!(drain.received, 8 << 20);
}

#[test]
fn a_reader_that_acts_on_events_alone_misses_nothing() {
    let mut world = reliable(28);
    let (here, there) = open(&mut world);
    let mut source = Source::new(here, 6, 4 << 20);
    let mut drain = Drain::new(there, 6);
    let mut seen = world.peers[1].events.len();
    world.run_until(Duration::from_secs(60), |world| {
        let now = world.now;
        source.pump(world.peers[0].engine.stack(), now).expect("sends");
        let told = world.peers[1].events[seen..].iter().any(|(_, event)| {
            *event == Event::Stack(StackEvent::Tcp(TcpEvent::Readable(there)))
                || *event == Event::Stack(StackEvent::Tcp(TcpEvent::PeerClosed(there)))
        });
        seen = world.peers[1].events.len();
        told && drain.pump(world.peers[1].engine.stack(), now).expect("receives")
    });
    assert_eq!(drain.received, 4 << 20);
}

#[test]
fn two_hundred_connections_at_once() {
    const COUNT: u64 = 200;
    const EACH: u64 = 20_000;
    let mut world = World::new(30, LinkConfig::delay(MS(10)).rate(500_000_000).queue(512));
    world.introduce();
    let (now, to) = (world.now, world.peers[1].at(PORT));
    let listener = world.peers[1].engine.stack().listen(PORT, 1024).expect("free");
    let mut sources = Vec::new();
    for _ in 0..COUNT {
        let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
        sources.push(Source::new(id, 1, EACH));
    }
    let mut drains: Vec<Drain> = Vec::new();
    world.run_until(Duration::from_secs(120), |world| {
        let now = world.now;
        let stack = world.peers[1].engine.stack();
        while let Some((id, _)) = stack.accept(listener) {
            drains.push(Drain::new(id, 1));
        }
        let mut done = drains.len() as u64 == COUNT;
        for drain in &mut drains {
            done &= drain.pump(stack, now).expect("receives");
        }
        let stack = world.peers[0].engine.stack();
        for source in &mut sources {
            done &= source.pump(stack, now).expect("sends");
        }
        done
    });
    assert!(drains.iter().all(|drain| drain.received == EACH));
}

/// Seconds that `streams` uploads of together `total` bytes take through a relay that queues 512
/// packets, and how many it dropped.
fn upload(streams: u64, total: u64, seed: u64, link: LinkConfig) -> (f64, u64) {
    carry(streams, total, seed, link.queue(512))
}

fn carry(streams: u64, total: u64, seed: u64, link: LinkConfig) -> (f64, u64) {
    let mut world = World::new(seed, link);
    world.introduce();
    world.run(MS(100));
    let (now, to) = (world.now, world.peers[1].at(PORT));
    let listener = world.peers[1].engine.stack().listen(PORT, 1024).expect("free");
    let each = total / streams;
    let mut sources = Vec::new();
    for _ in 0..streams {
        let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
        sources.push(Source::new(id, 1, each));
    }
    let mut drains: Vec<Drain> = Vec::new();
    let took = world.run_until(Duration::from_secs(600), |world| {
        let now = world.now;
        let stack = world.peers[1].engine.stack();
        while let Some((id, _)) = stack.accept(listener) {
            drains.push(Drain::new(id, 1));
        }
        let mut done = drains.len() as u64 == streams;
        for drain in &mut drains {
            done &= drain.pump(stack, now).expect("receives");
        }
        let stack = world.peers[0].engine.stack();
        for source in &mut sources {
            done &= source.pump(stack, now).expect("sends");
        }
        done
    });
    (took.as_secs_f64(), world.links[0].dropped)
}

#[test]
fn four_uploads_through_a_relay_do_not_collapse() {
    let total = 16 << 20;
    let link = LinkConfig::delay(MS(2)).rate(400_000_000);
    let (one, dropped_one) = upload(1, total, 40, link);
    let (four, dropped_four) = upload(4, total, 41, link);
    assert_eq!((dropped_one, dropped_four), (0, 0), "the relay's queue overflowed");
    assert!(four < one * 1.25, "one stream {one:.2} s, four {four:.2} s");
}

#[test]
fn a_long_way_is_filled_without_overrunning_the_relay() {
    for streams in [1, 4] {
        let link = LinkConfig::delay(MS(25)).rate(100_000_000);
        let (took, dropped) = upload(streams, 32 << 20, 42, link);
        let rate = (32 << 20) as f64 * 8.0 / took / 1e6;
        assert_eq!(dropped, 0, "the relay's queue overflowed");
        // Half a second of it is the handshakes and slow start.
        assert!(rate > 70.0, "{streams} streams: {rate:.0} Mbit/s of 100");
    }
}

#[test]
fn a_loss_in_a_short_queue_is_got_over() {
    let link = LinkConfig::delay(MS(1)).rate(400_000_000).queue(67);
    let (took, dropped) = carry(1, 64 << 20, 43, link);
    let rate = (64 << 20) as f64 * 8.0 / took / 1e6;
    // Most of them in slow start, which ends by them.
    assert!((1..400).contains(&dropped), "{dropped} of 55,000 dropped");
    assert!(rate > 300.0, "{rate:.0} Mbit/s of 400");
}

#[test]
fn readers_that_pause_are_told_of_room_when_they_go_on() {
    // So many that the share of each is far below its buffer.
    const STREAMS: u64 = 40;
    let mut world = World::new(44, LinkConfig::delay(MS(5)).rate(400_000_000).queue(512));
    world.introduce();
    let mut pairs = Vec::new();
    for number in 0..STREAMS {
        let (here, there) = open(&mut world);
        pairs.push((Source::new(here, number, 256 << 10), Drain::new(there, number)));
    }
    let mut reads = MS(0);
    let took = world.run_until(Duration::from_secs(100), |world| {
        let now = world.now;
        // Everybody reads every 50 ms, all there is.
        let reading = world.elapsed() >= reads;
        if reading {
            reads = world.elapsed() + MS(50);
        }
        let mut done = true;
        for (source, drain) in &mut pairs {
            source.pump(world.peers[0].engine.stack(), now).expect("sends");
            if reading {
                drain.pump(world.peers[1].engine.stack(), now).expect("receives");
            }
            done &= drain.finished;
        }
        done
    });
    // A sender that had to probe for the window would need seconds for each.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_bulk_stream_sends_full_segments_and_a_short_message_leaves_at_once() {
    let mut world = World::new(50, LinkConfig::delay(MS(25)).rate(50_000_000));
    world.introduce();
    let (here, there) = open(&mut world);
    world.wire = Some(Vec::new());
    let mut source = Source::new(here, 1, 4 << 20);
    let mut drain = Drain::new(there, 1);
    world.run_until(Duration::from_secs(60), |world| {
        let now = world.now;
        source.pump(world.peers[0].engine.stack(), now).expect("sends");
        drain.pump(world.peers[1].engine.stack(), now).expect("receives")
    });
    let wire = world.wire.take().expect("recorded");
    let sent: Vec<_> = wire.iter().filter(|(_, who, _)| *who == 0).collect();
    let full = sent.iter().filter(|(_, _, datagram)| datagram.len() == 1312).count();
    assert!(full * 100 > sent.len() * 97, "{full} of {} are full", sent.len());

    // Two short messages, one right after the other: neither waits for an acknowledgement.
    let now = world.now;
    for text in [&b"one"[..], b"two"] {
        let stack = world.peers[1].engine.stack();
        let write = &mut |room: &mut [u8]| {
            room[..text.len()].copy_from_slice(text);
            text.len()
        };
        stack.send(there, write, now).expect("room");
        world.flush();
    }
    world.run(MS(26));
    let now = world.now;
    let mut got = Vec::new();
    let read = &mut |bytes: &[u8]| {
        got.extend_from_slice(bytes);
        bytes.len()
    };
    world.peers[0].engine.stack().recv(here, read, now).expect("both arrived");
    assert_eq!(got, b"onetwo");
}
