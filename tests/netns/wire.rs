//! A link in user space: two TAP devices, and a thread that carries frames between them.
//!
//! It delays, reorders, loses and queues as the simulated network's [`Link`] says, which it is.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio_tun::Tun;

use super::{
    link::{Link, LinkConfig, Rng},
    namespace::Namespace,
};

/// The longest Ethernet frame without a jumbo.
const FRAME: usize = 1514;

/// Frames read from one end before the other has its turn.
const TURN: usize = 64;

/// A link that ends with the test.
pub(crate) struct Wire {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes the two devices and carries frames between them, each way over a link like this.
    pub(crate) fn start(
        one: (&Namespace, &str),
        other: (&Namespace, &str),
        config: LinkConfig,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let taps = [one, other].map(|(namespace, name)| {
            namespace.within(|| {
                let _guard = runtime.enter();
                Tun::builder().name(name).tap().build().unwrap().remove(0)
            })
        });
        let (end, mut ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut ended => {}
                    never = carry(&taps, config) => match never {},
                }
            });
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told.
            let _ = thread.join();
        }
    }
}

async fn carry(taps: &[Tun; 2], config: LinkConfig) -> std::convert::Infallible {
    let mut links = [(); 2].map(|()| Link::new(config, Instant::now()));
    let mut rng = Rng(1);
    let mut buffers = [vec![0; FRAME], vec![0; FRAME]];
    loop {
        let now = Instant::now();
        for (tap, link) in taps.iter().rev().zip(&mut links) {
            while let Some(frame) = link.receive(now) {
                // A device that is down or full loses it.
                let _ = tap.try_send(&frame);
            }
        }
        let next = links.iter().filter_map(Link::next_arrival).min();
        let next = next.unwrap_or(now + Duration::from_secs(3600));
        let [one, other] = &mut buffers;
        // A device that is down has nothing.
        let (from, length) = tokio::select! {
            () = tokio::time::sleep_until(next.into()) => continue,
            length = taps[0].recv(one) => (0, length),
            length = taps[1].recv(other) => (1, length),
        };
        let (mut length, now) = (length.ok(), Instant::now());
        for _ in 0..TURN {
            let Some(whole) = length else { break };
            links[from].send(BytesMut::from(&buffers[from][..whole]), now, &mut rng);
            length = taps[from].try_recv(&mut buffers[from]).ok();
        }
    }
}
