//! Memory of all buffers.

/// What the buffers of all connections together use.
#[derive(Debug)]
pub(crate) struct Memory {
    most: usize,
    used: usize,
}

/// A connection may always use this much, in bytes: a few segments each way.
const LEAST_MEMORY: usize = 16 * 1024;

impl Memory {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, used: 0 }
    }

    /// Replaces what a connection had by what it has now.
    pub(crate) fn update(&mut self, before: &mut usize, new: usize) {
        self.used = self.used - *before + new;
        *before = new;
    }

    /// Bytes in use.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// How large one buffer may be. As memory runs out it is a part of what is left, so that it
    /// never does.
    pub(crate) fn allowance(&self) -> usize {
        if self.used < self.most / 2 {
            return self.most;
        }
        (self.most.saturating_sub(self.used) / 8).max(LEAST_MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_never_runs_out() {
        let mut memory = Memory::new(1 << 20);
        let mut sizes = [0; 100];
        for size in &mut sizes {
            let new = memory.allowance();
            memory.update(size, new.min(400_000));
        }
        assert!(memory.used() <= (1 << 20) + 100 * LEAST_MEMORY);
        assert_eq!(memory.allowance(), LEAST_MEMORY);
    }
}
