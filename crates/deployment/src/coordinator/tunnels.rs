//! Who wants to reach whom.

use std::collections::{BTreeSet, HashMap};

use coderctl_tailnet::ids::PeerId;

/// Tunnels, each from the peer that asked for it to the one that it wants to reach.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    from: HashMap<PeerId, BTreeSet<PeerId>>,
    to: HashMap<PeerId, BTreeSet<PeerId>>,
}

impl Tunnels {
    /// Adds one; says whether it is new.
    pub(super) fn add(&mut self, from: PeerId, to: PeerId) -> bool {
        self.to.entry(to).or_default().insert(from);
        self.from.entry(from).or_default().insert(to)
    }

    /// Removes one; says whether it was there.
    pub(super) fn remove(&mut self, from: PeerId, to: PeerId) -> bool {
        remove(&mut self.to, to, from);
        remove(&mut self.from, from, to)
    }

    /// Removes all that a peer asked for and says whom it wanted to reach.
    pub(super) fn remove_from(&mut self, from: PeerId) -> BTreeSet<PeerId> {
        let removed = self.from.remove(&from).unwrap_or_default();
        for to in &removed {
            remove(&mut self.to, *to, from);
        }
        removed
    }

    /// How many a peer asked for.
    pub(super) fn count(&self, from: PeerId) -> usize {
        self.from.get(&from).map_or(0, BTreeSet::len)
    }

    /// Whom a peer wants to reach.
    pub(super) fn of(&self, from: PeerId) -> BTreeSet<PeerId> {
        self.from.get(&from).cloned().unwrap_or_default()
    }

    /// Whether two peers share one, whoever asked for it.
    pub(super) fn joins(&self, one: PeerId, other: PeerId) -> bool {
        let asked = |from, to| self.from.get(&from).is_some_and(|tos| tos.contains(&to));
        asked(one, other) || asked(other, one)
    }

    /// Everybody with whom a peer shares one, whoever asked for it.
    pub(super) fn partners(&self, peer: PeerId) -> BTreeSet<PeerId> {
        let both = [self.from.get(&peer), self.to.get(&peer)];
        both.into_iter().flatten().flatten().copied().collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, PeerId)> {
        self.from.iter().flat_map(|(from, tos)| tos.iter().map(move |to| (*from, *to)))
    }
}

fn remove(map: &mut HashMap<PeerId, BTreeSet<PeerId>>, key: PeerId, value: PeerId) -> bool {
    let Some(set) = map.get_mut(&key) else { return false };
    let removed = set.remove(&value);
    if set.is_empty() {
        map.remove(&key);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId::from_bytes([1; 16]);
    const B: PeerId = PeerId::from_bytes([2; 16]);
    const C: PeerId = PeerId::from_bytes([3; 16]);

    #[test]
    fn both_ends_know_of_a_tunnel() {
        let mut tunnels = Tunnels::default();
        assert!(tunnels.add(A, B));
        assert!(!tunnels.add(A, B));
        assert!(tunnels.add(C, B));
        assert_eq!(tunnels.partners(B), [A, C].into());
        assert_eq!(tunnels.partners(A), [B].into());
        assert!(tunnels.joins(A, B) && tunnels.joins(B, A) && !tunnels.joins(A, C));
        assert!(tunnels.remove(A, B));
        assert!(!tunnels.remove(A, B));
        assert!(!tunnels.joins(A, B));
        assert_eq!(tunnels.remove_from(C), [B].into());
        assert_eq!(tunnels.partners(B), [].into());
        assert_eq!((tunnels.from.len(), tunnels.to.len()), (0, 0), "nothing is left behind");
    }
}
