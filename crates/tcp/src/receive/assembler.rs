//! Which bytes have arrived before their turn.
//!
//! Their sender is told so with the blocks of RFC 2018: the one that grew last comes first, so that
//! each arrival is told at once, and the others follow by age, so that each is told several times.

use crate::segment::SackBlocks;
use crate::seq::{Range, Seq};

/// Separate runs held at most. A burst of losses makes one for each segment lost; what would make
/// more is dropped, and its sender sends it again.
const MOST: usize = 256;

/// Runs of bytes behind a hole, in order, with a hole between any two of them.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    runs: Vec<Range>,
    /// Starts of the runs that grew last, the latest first.
    recent: [Option<Seq>; SackBlocks::MOST],
}

impl Assembler {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes a run that arrived. Says whether there was room to remember it.
    pub(super) fn add(&mut self, new: Range) -> bool {
        // Everything that overlaps or touches it becomes one with it.
        let first = self.runs.partition_point(|run| run.end < new.start);
        let behind = self.runs.partition_point(|run| run.start <= new.end);
        if first == behind && self.runs.len() >= MOST {
            return false;
        }
        let touched = &self.runs[first..behind];
        let start = touched.first().map_or(new.start, |run| run.start.min(new.start));
        let end = touched.last().map_or(new.end, |run| run.end.max(new.end));
        for recent in &mut self.recent {
            *recent = recent.filter(|it| touched.iter().all(|run| run.start != *it));
        }
        self.runs.splice(first..behind, [Range::new(start, end)]);
        self.remember(start);
        true
    }

    /// The hole in front was filled up to `next`: the end of what is in order now. Runs that are
    /// in order are no longer held.
    pub(super) fn advance(&mut self, next: Seq) -> Seq {
        let reached = self.runs.partition_point(|run| run.start <= next);
        let end = self.runs[..reached].last().map_or(next, |run| run.end.max(next));
        for recent in &mut self.recent {
            *recent = recent.filter(|it| *it > next);
        }
        self.runs.drain(..reached);
        if self.runs.is_empty() {
            self.runs = Vec::new();
        }
        end
    }

    /// The run that holds all of this one, if there is one.
    pub(super) fn holding(&self, range: Range) -> Option<Range> {
        let at = self.runs.partition_point(|run| run.end < range.end);
        self.runs.get(at).copied().filter(|run| run.start <= range.start)
    }

    /// What to tell the sender, the newest first, behind the copy that arrived last, if any
    /// (RFC 2883, 4).
    pub(super) fn blocks(&self, copy: Option<Range>) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let mut push = |run: Range| blocks.push((run.start.wire(), run.end.wire()));
        if let Some(copy) = copy {
            push(copy);
            // A copy of what is held is followed by what holds it (RFC 2883, 4.1.2).
            if let Some(run) = self.holding(copy) {
                push(run);
            }
        }
        let told = copy.and_then(|copy| self.holding(copy));
        let recent = self.recent.iter().flatten();
        recent
            .filter_map(|start| self.run_at(*start))
            .filter(|run| Some(*run) != told)
            .for_each(push);
        blocks
    }

    fn run_at(&self, start: Seq) -> Option<Range> {
        let at = self.runs.binary_search_by_key(&start, |run| run.start).ok()?;
        self.runs.get(at).copied()
    }

    fn remember(&mut self, start: Seq) {
        let kept = self.recent.iter().flatten().copied().filter(|it| *it != start);
        let mut new = [Some(start), None, None, None];
        for (place, old) in new[1..].iter_mut().zip(kept) {
            *place = Some(old);
        }
        self.recent = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 1000;

    fn seq(at: usize) -> Seq {
        Seq::initial(BASE) + at
    }

    fn range(start: usize, end: usize) -> Range {
        Range::new(seq(start), seq(end))
    }

    fn told(assembler: &Assembler, copy: Option<Range>) -> Vec<(u32, u32)> {
        let blocks = assembler.blocks(copy);
        blocks.as_slice().iter().map(|(start, end)| (start - BASE, end - BASE)).collect()
    }

    #[test]
    fn runs_merge_and_the_newest_is_told_first() {
        let mut assembler = Assembler::default();
        for (start, end) in [(10, 20), (30, 40), (50, 60), (70, 80), (90, 99)] {
            assert!(assembler.add(range(start, end)));
        }
        assert_eq!(told(&assembler, None), [(90, 99), (70, 80), (50, 60), (30, 40)]);
        assembler.add(range(40, 45));
        assert_eq!(told(&assembler, None), [(30, 45), (90, 99), (70, 80), (50, 60)]);
        assembler.add(range(45, 75));
        assert_eq!(told(&assembler, None), [(30, 80), (90, 99)]);
        assert_eq!(assembler.advance(seq(10)), seq(20));
        assert_eq!(assembler.advance(seq(35)), seq(80));
        assert_eq!(told(&assembler, None), [(90, 99)]);
        assert_eq!(assembler.advance(seq(99)), seq(99));
        assert!(assembler.is_empty());
    }

    #[test]
    fn a_copy_is_told_before_what_holds_it() {
        let mut assembler = Assembler::default();
        assembler.add(range(10, 40));
        assembler.add(range(50, 60));
        assert_eq!(told(&assembler, Some(range(20, 30))), [(20, 30), (10, 40), (50, 60)]);
        assert_eq!(told(&assembler, Some(range(0, 5))), [(0, 5), (50, 60), (10, 40)]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut assembler = Assembler::default();
        for run in 0..MOST {
            assert!(assembler.add(range(10 * run, 10 * run + 5)));
        }
        assert!(!assembler.add(range(10 * MOST, 10 * MOST + 5)));
        assert!(assembler.add(range(5, 10)), "it closes a hole");
        assert!(assembler.add(range(10 * MOST, 10 * MOST + 5)));
    }
}
