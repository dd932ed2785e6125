//! Allocations on the bulk path.

use stats_alloc::Region;

use crate::{HEAP, pair::Pair, say, turn};

/// Bytes until everything has the size that it stays at.
const WARM_UP: u64 = 16 << 20;

/// Bytes that are counted.
const COUNTED: u64 = 16 << 20;

/// Allocations for each datagram, sender and receiver together: the buffer that the WireGuard library
/// seals into, and now and then a new block.
const AT_MOST: f64 = 1.05;

#[test]
fn a_datagram_costs_one_allocation() {
    let _turn = turn();
    let mut pair = Pair::new();
    let connection = pair.connect();
    pair.transfer(connection, WARM_UP);
    let (before, heap) = (pair.datagrams(), Region::new(HEAP));
    pair.transfer(connection, COUNTED);
    let (change, datagrams) = (heap.change(), pair.datagrams() - before);
    let taken = (change.allocations + change.reallocations) as f64 / datagrams as f64;
    let bytes = change.bytes_allocated as f64 / datagrams as f64;
    say(&format!(
        "{taken:.3} allocations of {bytes:.0} bytes in all for each of {datagrams} datagrams"
    ));
    assert!(taken <= AT_MOST, "{taken} allocations for each datagram");
}
