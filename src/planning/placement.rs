//! Where a model's units and shards lie: what each rank owns, gathers and sends in a step.

use std::collections::BTreeMap;
use std::ops::Range;

use everstep_actors::protocol::ids::Rank;
use everstep_actors::protocol::plan;
use everstep_actors::protocol::shard::{Shard, UnitShape, cut};
use everstep_actors::workload::Unit;
use serde::Serialize;

use super::footprint::VALUE;
use super::recompute::Segment;

/// Bytes of gathered units that a rank holds at most: all of them where `values_max` values are enough, else as many as that, but always the two largest
/// neighbours, one in use and one on its way.
pub fn gathered_bytes(units: &[Unit], values_max: usize) -> u64 {
    let total: usize = units.iter().map(Unit::len).sum();
    let pair = units.windows(2).map(|pair| pair[0].len() + pair[1].len()).max().unwrap_or(total);
    VALUE * total.min(values_max.max(pair)) as u64
}

/// How often a step gathers each unit: a second time for the backward where it is computed again and was let go of meanwhile.
pub fn gathers(units: &[Unit], values_max: usize, plan: &[Segment]) -> Vec<u64> {
    let total: usize = units.iter().map(Unit::len).sum();
    let again = |unit: usize| plan.iter().any(|segment| segment.recompute && segment.units.contains(&unit));
    (0..units.len()).map(|unit| if total > values_max && again(unit) { 2 } else { 1 }).collect()
}

/// What a rank does in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Load {
    /// Lanes that it runs.
    pub lanes: u32,
    /// Shards that it owns.
    pub shards: u64,
    /// Values of these.
    pub values: u64,
    /// Bytes of weights and gradients that come in.
    pub bytes_in: u64,
    /// Bytes of weights and gradients that go out.
    pub bytes_out: u64,
}

/// Bytes of a unit's value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// As a weight.
    pub gather: u64,
    /// As a gradient.
    pub reduce: u64,
}

/// What a cluster asks of placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// Ranks that compute, each on a host of its own.
    pub count: u32,
    /// Copies of a shard besides its owner's.
    pub replicas: u32,
}

/// Every rank's load, by the plan that the runtime makes for a run's first epoch.
///
/// A rank that runs lanes asks the owners for what it has no copy of, once for each gather. It adds its lanes' gradients up to complete subtrees of
/// the canonical tree and sends each subtree's sum to the owner, which sends the mean to each replica.
pub fn loads(units: &[Unit], widths: &[Width], gathers: &[u64], shard_values: usize, ranks: Ranks, lanes: u32) -> Vec<Load> {
    let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
    let shards = cut(&shapes, shard_values);
    let site = |rank: u32| plan::Site { host: rank.to_string(), zone: String::new(), speed: 1 };
    let sites: Vec<plan::Site> = (0..ranks.count).map(site).collect();
    let placed = plan::plan(&sites, lanes, ranks.replicas, &shards, &BTreeMap::new());
    let all: Range<u32> = 0..lanes;
    let subtrees: Vec<u64> = (0..ranks.count).map(|rank| placed.subtrees(Rank(rank), &all).len() as u64).collect();
    let total_subtrees: u64 = subtrees.iter().sum();
    let runs = |rank: Rank| u64::from(!placed.lanes_of(rank).is_empty());
    let working: u64 = (0..ranks.count).map(|rank| runs(Rank(rank))).sum();
    let mut loads = vec![Load::default(); ranks.count as usize];
    // In bytes, as all that follows.
    let (mut total, mut total_asked) = (0, 0);
    let mut owned = vec![0u64; ranks.count as usize];
    // Of which a rank has a copy, each as often as it is gathered.
    let mut at_hand = vec![0u64; ranks.count as usize];
    for (place, Shard { id, range }) in placed.places.iter().zip(&shards) {
        let values = range.len() as u64;
        let width = widths[id.unit.0 as usize];
        let (asked, gradient) = (width.gather * values * gathers[id.unit.0 as usize], width.reduce * values);
        (total, total_asked) = (total + gradient, total_asked + asked);
        place.copies().for_each(|rank| at_hand[rank.0 as usize] += asked);
        let asking = working - place.copies().map(runs).sum::<u64>();
        let owner = place.owner.0 as usize;
        loads[owner].shards += 1;
        loads[owner].values += values;
        owned[owner] += gradient;
        loads[owner].bytes_in += gradient * (total_subtrees - subtrees[owner]);
        loads[owner].bytes_out += asked * asking + gradient * place.replicas.len() as u64;
        place.replicas.iter().for_each(|replica| loads[replica.0 as usize].bytes_in += gradient);
    }
    for (rank, load) in loads.iter_mut().enumerate() {
        let mine = placed.lanes_of(Rank(rank as u32));
        load.lanes = mine.end - mine.start;
        load.bytes_in += runs(Rank(rank as u32)) * (total_asked - at_hand[rank]);
        load.bytes_out += subtrees[rank] * (total - owned[rank]);
    }
    loads
}

#[cfg(test)]
mod tests {
    use everstep_actors::workload::{TensorKind, TensorSpec};

    use super::*;

    fn unit(len: usize) -> Unit {
        let tensor = TensorSpec { name: "t".into(), shape: vec![len], offset: 0, kind: TensorKind::Parameter };
        Unit { name: "u".into(), tensors: vec![tensor], row: 1 }
    }

    const WIDE: Width = Width { gather: VALUE, reduce: VALUE };

    #[test]
    fn narrow_values_take_half_of_the_wire() {
        let units = [unit(1000), unit(601)];
        let of = |width| loads(&units, &[width; 2], &[2, 1], 64, Ranks { count: 3, replicas: 1 }, 4);
        let bytes = |load: &Load| load.bytes_in + load.bytes_out;
        for (wide, narrow) in of(WIDE).iter().zip(of(Width { gather: 2, reduce: 2 })) {
            assert_eq!(bytes(wide), 2 * bytes(&narrow));
        }
    }

    #[test]
    fn a_rank_by_itself_sends_nothing() {
        let units = [unit(100), unit(50)];
        let loads = loads(&units, &[WIDE; 2], &[2, 1], 30, Ranks { count: 1, replicas: 1 }, 4);
        assert_eq!(loads, [Load { lanes: 4, shards: 6, values: 150, bytes_in: 0, bytes_out: 0 }]);
    }

    #[test]
    fn what_goes_out_comes_in() {
        let units = [unit(1000), unit(601), unit(77)];
        for (ranks, lanes) in [(2, 4), (3, 4), (5, 8), (6, 4)] {
            for replicas in [0, 1, 2] {
                let loads = loads(&units, &[WIDE; 3], &[2, 2, 1], 64, Ranks { count: ranks, replicas }, lanes);
                let sum = |of: fn(&Load) -> u64| loads.iter().map(of).sum::<u64>();
                assert_eq!(sum(|load| load.bytes_in), sum(|load| load.bytes_out), "{ranks} ranks, {replicas} replicas");
                assert_eq!(sum(|load| load.values), 1678);
            }
        }
    }

    /// Two ranks with two lanes each: each gathers the other's half twice and once, and sends one sum of gradients for it. With a
    /// replica nothing is gathered, and the means go back.
    #[test]
    fn two_ranks_by_hand() {
        for (replicas, gathered, means) in [(0, 150, 0), (1, 0, 100)] {
            for load in loads(&[unit(100), unit(100)], &[WIDE; 2], &[2, 1], 50, Ranks { count: 2, replicas }, 4) {
                assert_eq!((load.lanes, load.values), (2, 100));
                assert_eq!(load.bytes_in + load.bytes_out, 2 * 4 * (gathered + 100 + means), "{replicas} replicas");
            }
        }
    }

    #[test]
    fn units_are_gathered_again_only_where_the_model_is_let_go_of() {
        let units = [unit(10), unit(20), unit(30)];
        let plan = [Segment { units: 0..1, recompute: true }, Segment { units: 1..2, recompute: false }];
        assert_eq!(gathers(&units, 60, &plan), [1, 1, 1]);
        assert_eq!(gathers(&units, 59, &plan), [2, 1, 1]);
        assert_eq!((gathered_bytes(&units, 60), gathered_bytes(&units, 55), gathered_bytes(&units, 5)), (240, 220, 200));
    }
}
