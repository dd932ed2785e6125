//! Which region to listen in, from what was measured (coder/tailscale: net/netcheck/netcheck.go,
//! `addReportHistoryAndSetPreferredDERP`).
//!
//! Moving costs: everybody who talks to us has to hear of it, and to connect there. So a better
//! region has to be better by a margin, and is judged by its best of some minutes rather than by
//! the round that was measured last.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::derp_map::DerpMap;
use crate::ids::RegionId;

/// How long a measurement counts (same source: `maxAge`).
pub const MEMORY: Duration = Duration::from_secs(5 * 60);

/// A gain below this moves nobody (same source: `preferredDERPAbsoluteDiff`).
pub const MIN_GAIN: Duration = Duration::from_millis(10);

/// Rounds kept at most, however often one is asked for.
const MAX_ROUNDS: usize = 64;

/// What one round has measured: the regions that answered.
pub type Round = BTreeMap<RegionId, Duration>;

/// What was measured lately.
#[derive(Debug, Default)]
pub struct Latencies {
    rounds: VecDeque<(Instant, Round)>,
}

impl Latencies {
    /// Another round.
    pub fn add(&mut self, round: Round, now: Instant) {
        self.rounds.retain(|(at, _)| now.saturating_duration_since(*at) <= MEMORY);
        if self.rounds.len() >= MAX_ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back((now, round));
    }

    /// Forgets all: the network or the map is another.
    pub fn clear(&mut self) {
        self.rounds.clear();
    }

    /// Where to listen. Where nothing answered in the last round, or none was measured, it stays
    /// as it is; without a home it is what the map prefers.
    pub fn choose(&self, map: &DerpMap, current: Option<RegionId>) -> Option<RegionId> {
        let stay = || current.or_else(|| map.choose_home());
        let Some((_, last)) = self.rounds.back() else { return stay() };
        let candidates = map.home_candidates();
        let answered = last.keys().filter(|region| candidates.contains(*region));
        let best = |region: &RegionId| {
            let all = self.rounds.iter().filter_map(|(_, round)| round.get(region));
            all.min().map(|latency| scaled(map, *region, *latency))
        };
        let Some((better, latency)) = answered
            .filter_map(|region| Some((*region, best(region)?)))
            .min_by_key(|(_, latency)| *latency)
        else {
            return stay();
        };
        let now = current
            .filter(|region| candidates.contains(region))
            .and_then(|region| Some(scaled(map, region, *last.get(&region)?)));
        match now {
            // By the clock, and by a third of the whole.
            Some(now) if now.saturating_sub(latency) < MIN_GAIN || latency > now / 3 * 2 => current,
            Some(_) | None => Some(better),
        }
    }
}

/// How a latency counts: the deployment may hold regions dearer or cheaper than they are far.
fn scaled(map: &DerpMap, region: RegionId, latency: Duration) -> Duration {
    let score = map.region_score.get(&region).copied().filter(|score| *score > 0.0);
    let factor = score.unwrap_or(1.0);
    Duration::try_from_secs_f64(latency.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::derp_map::{Region, RelayNode};

    fn id(number: i64) -> RegionId {
        RegionId::new(number).unwrap()
    }

    fn map(regions: &[i64]) -> DerpMap {
        let node = RelayNode::named("a", "a.test");
        let region = |number: &i64| Region {
            id: id(*number),
            embedded_relay: false,
            code: String::new(),
            name: String::new(),
            avoid: false,
            nodes: vec![node.clone()],
        };
        let regions = regions.iter().map(|number| (id(*number), region(number)));
        DerpMap { regions: regions.collect(), ..DerpMap::default() }
    }

    fn round(latencies: &[(i64, u64)]) -> Round {
        latencies.iter().map(|(region, ms)| (id(*region), Duration::from_millis(*ms))).collect()
    }

    /// Rounds a minute apart, and where we are after each, having begun without a home.
    fn homes(map: &DerpMap, rounds: &[&[(i64, u64)]]) -> Vec<i32> {
        let (mut latencies, mut home, mut now) = (Latencies::default(), None, Instant::now());
        let walk = rounds.iter().map(|measured| {
            latencies.add(round(measured), now);
            home = latencies.choose(map, home);
            now += Duration::from_secs(60);
            home.unwrap().get()
        });
        walk.collect()
    }

    #[test]
    fn the_nearest_is_home_and_a_small_gain_moves_nobody() {
        type Rounds<'a> = &'a [&'a [(i64, u64)]];
        let rows: [(Rounds<'_>, &[i32]); 9] = [
            (&[&[(1, 30), (2, 20)]], &[2]),
            // Less than ten milliseconds.
            (&[&[(1, 20)], &[(1, 20), (2, 11)]], &[1, 1]),
            (&[&[(1, 20)], &[(1, 20), (2, 10)]], &[1, 2]),
            // Less than a third.
            (&[&[(1, 90)], &[(1, 90), (2, 61)]], &[1, 1]),
            (&[&[(1, 90)], &[(1, 90), (2, 60)]], &[1, 2]),
            // The current one answers no more.
            (&[&[(1, 20)], &[(2, 200)]], &[1, 2]),
            // Nothing answers.
            (&[&[(2, 20)], &[]], &[2, 2]),
            (&[&[]], &[1]),
            // One slow round of ours moves us only because the other's is good and recent.
            (&[&[(1, 20), (2, 25)], &[(1, 80), (2, 70)], &[(1, 20), (2, 25)]], &[1, 1, 1]),
        ];
        for (number, (rounds, expected)) in rows.into_iter().enumerate() {
            assert_eq!(homes(&map(&[1, 2]), rounds), expected, "row {number}");
        }
    }

    #[test]
    fn what_is_old_does_not_count() {
        let good: &[(i64, u64)] = &[(1, 50), (2, 10)];
        let bad: &[(i64, u64)] = &[(1, 50), (2, 60)];
        let rounds = [good, bad, bad, bad, bad, bad, bad];
        assert_eq!(homes(&map(&[1, 2]), &rounds), [2; 7]);
        let away: &[(i64, u64)] = &[(1, 50), (2, 100)];
        let rounds = [good, away, away, away, away, away, away];
        assert_eq!(homes(&map(&[1, 2]), &rounds)[6], 1, "the good round is six minutes old");
    }

    #[test]
    fn regions_count_by_their_score() {
        let mut scored = map(&[1, 2]);
        scored.region_score.insert(id(2), 3.0);
        assert_eq!(homes(&scored, &[&[(1, 50), (2, 20)]]), [1]);
        scored.region_score.insert(id(2), f64::INFINITY);
        assert_eq!(homes(&scored, &[&[(1, 50), (2, 20)]]), [1]);
        scored.region_score.insert(id(2), -1.0);
        assert_eq!(homes(&scored, &[&[(1, 50), (2, 20)]]), [2]);
    }

    #[test]
    fn neither_what_relays_nothing_nor_what_is_to_be_avoided_is_a_home() {
        let mut map = map(&[1, 2, 3]);
        map.regions.get_mut(&id(2)).unwrap().nodes[0].stun_only = true;
        map.regions.get_mut(&id(3)).unwrap().avoid = true;
        assert_eq!(homes(&map, &[&[(1, 50), (2, 1), (3, 2), (4, 3)]]), [1]);
        // Where we are, it goes on to be one only while there is nothing else.
        let mut latencies = Latencies::default();
        latencies.add(round(&[(1, 50), (3, 2)]), Instant::now());
        assert_eq!(latencies.choose(&map, Some(id(3))), Some(id(1)));
        map.regions.get_mut(&id(1)).unwrap().avoid = true;
        assert_eq!(latencies.choose(&map, Some(id(1))), Some(id(3)), "all are to be avoided");
    }
}
