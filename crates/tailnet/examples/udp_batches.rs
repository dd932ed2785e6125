//! What batches are worth: datagrams that leave together in one system call (GSO) and come in the
//! same way (GRO), against one system call for each.
//!
//! ```text
//! cargo run --release -p coderctl-tailnet --example udp_batches [rounds]
//! ```
//!
//! The sockets are the tailnet's own, over loopback; rounds of both kinds take turns.

#![allow(clippy::print_stdout, reason = "a measurement is read by people")]

// What the module below knows of its crate.
use coderctl_tailnet::{endpoints, packet, wg};

// Formatted where it belongs, with its tests.
#[rustfmt::skip]
#[path = "../src/shell/udp.rs"]
#[allow(dead_code, reason = "the module is the tailnet's; this uses its own part of it")]
mod udp;

use std::{
    error::Error,
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use udp::Udp;

/// Datagrams sent before they are received: a full batch, which fits the smallest socket buffers.
const BURST: usize = 48;

/// Bursts of one round.
const BURSTS: usize = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(7), |text| text.parse())?;
    let (mut from, mut to) = (Udp::bind(), Udp::bind());
    let port = to.ports().v4.ok_or("no IPv4 socket")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (batched, rates) in [true, false].into_iter().zip(&mut rates) {
            let took = round(&mut from, &mut to, address, batched).await;
            let bytes = BURST * BURSTS * wg::MAX_DATAGRAM;
            rates.push(bytes as f64 / took.as_secs_f64() / 1e6);
        }
    }
    let [on, off] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("GSO on {on:.0} MB/s, off {off:.0} MB/s, ratio {:.1} (wanted: 4)", on / off);
    Ok(())
}

/// Sends and receives; how long that took.
async fn round(from: &mut Udp, to: &mut Udp, address: SocketAddr, batched: bool) -> Duration {
    let datagram = BytesMut::zeroed(wg::MAX_DATAGRAM);
    let began = Instant::now();
    for _ in 0..BURSTS {
        let (mut sent, mut received) = (0, 0);
        while received < BURST {
            while sent < BURST && from.admit(&address) {
                from.send(address, datagram.clone());
                sent += 1;
                if !batched {
                    from.flush();
                }
            }
            from.flush();
            // What could not leave yet, and what has come.
            poll_fn(|cx| match (from.poll_ready(cx), to.poll_ready(cx)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
            to.receive(|_, _| received += 1);
        }
    }
    began.elapsed()
}
