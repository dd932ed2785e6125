//! A model of the way.
use std::time::Duration;

use super::{Arrival, Controller, INITIAL_SEGMENTS};
use crate::time::Time;

/// The controller.
#[derive(Debug, Clone)]
pub struct Model {
    mss: usize,
}

impl Model {
    /// A controller for segments of `mss` bytes.
    pub fn new(mss: usize) -> Self {
        Self { mss }
    }
}

impl Controller for Model {
    fn window(&self) -> usize {
        self.mss * INITIAL_SEGMENTS
    }
    fn rate(&self, _smoothed: Option<Duration>) -> Option<u64> {
        None
    }
    fn arrived(&mut self, _arrival: &Arrival) {}
    fn lost(&mut self, _outstanding: usize, _now: Time) -> Option<usize> {
        None
    }
    fn recovered(&mut self, _now: Time) {}
    fn timed_out(&mut self, _outstanding: usize, _now: Time) {}
    fn mistaken(&mut self) {}
    fn idle(&mut self, _timeouts: u32, _now: Time) {}
}
