//! Where a model's units and shards lie: what a rank owns, gathers and holds.

use everstep_actors::workload::Unit;

use super::footprint::VALUE;

/// Bytes of gathered units that a rank holds at most: all of them where `values_max` values are enough, else as many as that, but always the two largest
/// neighbours, one in use and one on its way.
pub fn gathered_bytes(units: &[Unit], values_max: usize) -> u64 {
    let total: usize = units.iter().map(Unit::len).sum();
    let pair = units.windows(2).map(|pair| pair[0].len() + pair[1].len()).max().unwrap_or(total);
    VALUE * total.min(values_max.max(pair)) as u64
}
