//! What happens to a network in mid-stream.

use std::time::Duration;

use coderctl_tailnet::ids::RegionId;

use crate::internet::Internet;
use crate::sim::link::Rng;
use crate::sim::peer::region;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No datagram passes by UDP any more.
    BlockUdp,
    /// They do again.
    UnblockUdp,
    /// The relays of a region lose what they are given.
    KillRelay(RegionId),
    /// They hold it back.
    FreezeRelay(RegionId),
    /// They are well again.
    RepairRelay(RegionId),
    /// A host has another address.
    MoveHost(usize),
    /// A host listens in another region.
    MoveHome(usize, RegionId),
}

/// The region beside the usual one.
fn other_region() -> RegionId {
    RegionId::new(998).unwrap()
}

/// How long what a seed has broken stays so at most.
pub(crate) const OUTAGE: Duration = Duration::from_secs(2);

/// When the last fault begins at most.
const LATEST: u64 = 4000;

/// Plans up to four faults, each with its repair.
pub(crate) fn plan(net: &mut Internet, rng: &mut Rng) -> Vec<(Duration, Fault)> {
    let mut plan = Vec::new();
    for _ in 0..rng.below(5) {
        let at = Duration::from_millis(rng.below(LATEST));
        let repaired = at + Duration::from_millis(rng.below(OUTAGE.as_millis() as u64));
        let who = rng.below(2) as usize;
        let place = if rng.below(2) == 0 { region() } else { other_region() };
        let (fault, repair) = match rng.below(5) {
            0 => (Fault::BlockUdp, Some(Fault::UnblockUdp)),
            1 => (Fault::KillRelay(place), Some(Fault::RepairRelay(place))),
            2 => (Fault::FreezeRelay(place), Some(Fault::RepairRelay(place))),
            3 => (Fault::MoveHost(who), None),
            _ => (Fault::MoveHome(who, place), None),
        };
        plan.push((at, fault));
        plan.extend(repair.map(|repair| (repaired, repair)));
    }
    for (at, fault) in &plan {
        net.plan(*at, *fault);
    }
    plan
}
