//! How much may be under way: congestion control.
//!
//! A [`Controller`] hears what arrives and what is lost, and answers with a window and a rate.
//! Which segments those are, and what to send again, is not its business (the private `send`
//! module). [`Cubic`] is what is used; [`Model`] estimates the way's rate and round trip instead of
//! waiting for loss, and is for ways that lose by themselves.

use std::fmt::Debug;
use std::time::Duration;

mod cubic;
mod hystart;
mod model;

pub use cubic::Cubic;
pub use model::Model;

pub use crate::send::Rate;
use crate::time::Time;

/// Segments that may be under way before anything is known (RFC 6928).
pub(crate) const INITIAL_SEGMENTS: usize = 10;

/// An acknowledgement, as a controller sees it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it came.
    pub now: Time,
    /// Bytes whose arrival is news.
    pub delivered: usize,
    /// Bytes under way before it came.
    pub flying_before: usize,
    /// Bytes under way now.
    pub flying: usize,
    /// Bytes found lost by it.
    pub lost: usize,
    /// The round trip it measured.
    pub rtt: Option<Duration>,
    /// The shortest round trip known.
    pub shortest: Option<Duration>,
    /// It is the first one of a new round trip.
    pub round: bool,
    /// The window was what kept us from sending more (RFC 7661: otherwise it is not to grow).
    pub window_limited: bool,
    /// What was lost is being sent again, so that the window is not to grow.
    pub recovering: bool,
    /// The rate at which bytes arrive.
    pub rate: Option<Rate>,
}

/// Decides how much may be under way, and how fast it may leave.
pub trait Controller: Debug + Send {
    /// Bytes that may be under way.
    fn window(&self) -> usize;

    /// Bytes for each second that may leave, `None` for no limit yet.
    fn rate(&self, smoothed: Option<Duration>) -> Option<u64>;

    /// Something arrived.
    fn arrived(&mut self, arrival: &Arrival);

    /// A recovery from loss begins, with so many bytes under way or lost. The answer is the window
    /// that the recovery is to end with, approached in proportion to what arrives (RFC 6937);
    /// `None` if the window does not follow single losses.
    fn lost(&mut self, outstanding: usize, now: Time) -> Option<usize>;

    /// The recovery is over.
    fn recovered(&mut self, now: Time);

    /// The retransmission timeout expired: the way may have become another one.
    fn timed_out(&mut self, outstanding: usize, now: Time);

    /// The last loss or timeout was none.
    fn mistaken(&mut self);

    /// Nothing was sent for so many retransmission timeouts.
    fn idle(&mut self, timeouts: u32, now: Time);
}

/// Which [`Controller`] a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// CUBIC (RFC 9438), which shares fairly with what others use.
    #[default]
    Cubic,
    /// The model of the way.
    Model,
}

impl Congestion {
    /// A controller for segments of `mss` bytes.
    pub(crate) fn start(self, mss: usize) -> Box<dyn Controller> {
        match self {
            Self::Cubic => Box::new(Cubic::new(mss)),
            Self::Model => Box::new(Model::new(mss)),
        }
    }
}
