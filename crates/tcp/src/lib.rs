//! TCP for the tunnel (RFC 9293, and what has been learned since), in user space.
//!
//! A [`Tcp`] has all connections of a host. It is pure: segments go in with [`Tcp::ingest`], time
//! with [`Tcp::handle_timeout`], the application's wishes with the other methods; what comes out
//! waits in [`Tcp::poll_transmit`] and [`Tcp::poll_event`], and [`Tcp::next_deadline`] says when time
//! matters again. There is no clock and no chance in it: the time and the keys are told.
//!
//! # The life of a connection
//!
//! **It is asked for.** [`Tcp::connect`] picks a port and a first sequence number that nobody can
//! guess (`key`; RFC 6528, RFC 6056) and owes a SYN (`connection::syn`; RFC 9293, 3.5). The SYN is
//! made in the moment it can leave. On the other side [`Tcp::ingest`] says that somebody
//! [asks](Verdict::Asks), and whoever drives it may think about it for as long as it likes; only
//! [`Tcp::answer`] lets the handshake go on. What both sides can do is settled with the SYNs: segment
//! size, window scale and timestamps (RFC 7323), selective acknowledgements (RFC 2018).
//!
//! **It opens**, and has two halves from then on (`connection::flow`).
//!
//! *Our half* (`send`): the application writes into a ring; the ring is cut into segments when they
//! can leave, each remembered on the scoreboard (`send::board`; RFC 6675) until it is acknowledged.
//! Four things hold a segment back: the other end's window (`send::window`), the congestion window
//! ([`congestion`]: CUBIC, RFC 9438, with HyStart++, RFC 9406), the pace (`send::pacer`), and what
//! all connections together may have under way (`share`).
//!
//! *Their half* (`receive`): what comes in order is ready to be read, what comes ahead of its turn
//! waits in its place and is reported (RFC 2018, RFC 2883). The window grows with the pace of the
//! reader; acknowledgements are gathered while all goes well, and immediate when it does not.
//!
//! **Something is lost.** A segment is lost when others that were sent sufficiently later have
//! arrived (`send::rack`; RFC 8985, 6). If nothing behind the last segments can tell, a probe is
//! sent (`send::alarm`; RFC 8985, 7), and if even that stays without answer, the retransmission
//! timeout starts over (RFC 6298). The window shrinks in proportion to what arrives
//! (`send::recovery`; RFC 6937). If it turns out that nothing was lost, it is given back
//! (`send::acked`; RFC 3522).
//!
//! **It falls silent.** Buffers go back to the system after seconds, keep-alive questions begin
//! after a minute. A writer that meets a closed window asks now and then (RFC 9293, 3.8.6.1). There
//! is no state in which nothing is waited for: whoever does not answer is given up in the end.
//!
//! **It ends**, in each direction by itself: [`Tcp::close`] puts a FIN behind the last byte. Who
//! closed first repeats the last acknowledgement for some time (`linger`; RFC 9293, 3.6). What is
//! read no longer is answered with a RST, and a RST that may be anybody's is asked about (RFC 5961).

mod checksum;
mod config;
pub mod congestion;
mod connection;
mod event;
mod key;
mod linger;
mod receive;
mod ring;
mod segment;
mod send;
mod seq;
mod share;
mod tcp;
mod time;
mod timers;

pub use checksum::checksum;
pub use config::{Config, MTU, WIDEST};
pub use congestion::Congestion;
pub use connection::State;
pub use event::{
    Admission, CloseReason, Event, Id, NoPort, PacketSink, RecvError, SendError, Stats, Status,
    Verdict, WidthNews,
};
pub use share::Lane;
pub use tcp::Tcp;
pub use time::Time;
