//! What a sender does about loss: nothing, a recovery, or starting over.

use crate::seq::Seq;

/// Where a sender stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recovery {
    /// Nothing is missing.
    None,
    /// Something was lost, and the window shrinks while it is sent again (RFC 6937). Over when all
    /// that was under way at the beginning is acknowledged.
    Fast { until: Seq, reduction: Option<Reduction> },
    /// The retransmission timeout expired, and the window grows from one segment.
    Timeout { until: Seq },
}

/// Proportional rate reduction (RFC 6937, with the slow start part of its section 3.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reduction {
    /// Bytes under way when the recovery began (RecoverFS).
    outstanding: usize,
    /// The window that it ends with (ssthresh).
    target: usize,
    delivered: usize,
    sent: usize,
    window: usize,
}

impl Reduction {
    pub(crate) fn new(outstanding: usize, target: usize) -> Self {
        Self { outstanding: outstanding.max(1), target, delivered: 0, sent: 0, window: 0 }
    }

    /// Bytes arrived; `worse` if more was lost by it.
    pub(crate) fn arrived(&mut self, delivered: usize, flying: usize, worse: bool, mss: usize) {
        self.delivered += delivered;
        let more = if flying > self.target {
            let share = self.delivered as u64 * self.target as u64;
            (share.div_ceil(self.outstanding as u64) as usize).saturating_sub(self.sent)
        } else {
            let limit = self.delivered.saturating_sub(self.sent).max(delivered);
            // Conservative while it gets worse: one for one.
            let limit = if worse { limit } else { limit + mss };
            (self.target - flying).min(limit)
        };
        // The first retransmission goes at once.
        let more = if self.sent == 0 { more.max(mss) } else { more };
        self.window = flying + more;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Bytes that may be under way.
    pub(crate) const fn window(&self) -> usize {
        self.window
    }
}

/// What tells that the last recovery was a mistake.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubt {
    /// The timestamp of the first retransmission: an echo of an earlier one answers the original
    /// (the Eifel algorithm, RFC 3522).
    pub(crate) first_stamp: Option<u32>,
    /// Retransmissions that were not reported as superfluous.
    pub(crate) unexplained: usize,
    /// Retransmissions altogether.
    pub(crate) again: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    #[test]
    fn the_window_shrinks_in_proportion_to_what_arrives() {
        // RFC 6937, 5: of 20 segments the first is lost, CUBIC wants 14.
        let mut reduction = Reduction::new(20 * MSS, 14 * MSS);
        let mut flying = 16 * MSS;
        for _ in 0..19 {
            flying -= MSS;
            reduction.arrived(MSS, flying, false, MSS);
            while flying + MSS <= reduction.window() {
                flying += MSS;
                reduction.sent(MSS);
            }
            assert!(reduction.window() <= 17 * MSS, "it never grows");
        }
        assert_eq!(flying / MSS, 14);
    }

    #[test]
    fn after_heavy_loss_it_grows_back_to_the_target_as_slow_start_does() {
        let mut reduction = Reduction::new(20 * MSS, 10 * MSS);
        reduction.arrived(MSS, 2 * MSS, false, MSS);
        assert_eq!(reduction.window(), 4 * MSS);
        reduction.sent(2 * MSS);
        reduction.arrived(2 * MSS, 2 * MSS, true, MSS);
        assert_eq!(reduction.window(), 4 * MSS, "one for one while it gets worse");
        reduction.sent(2 * MSS);
        reduction.arrived(20 * MSS, 4 * MSS, false, MSS);
        assert_eq!(reduction.window(), 10 * MSS);
    }
}
