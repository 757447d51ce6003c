//! The plan of an epoch: who runs which lanes, who owns which shards, who finishes which sums.
//!
//! Every member computes the same plan from the same record; no message is spent on telling it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ids::{Lane, Rank, ShardId};
use super::shard::Shard;
use super::tree;

/// Prototypes per Sinkhorn aggregator at least: below this a frame costs more than it carries.
const PROTOTYPES_PER_AGGREGATOR_MIN: usize = 1_024;

/// Placement for one epoch. Ranks are indices `0..ranks`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Lanes of each rank: contiguous, together `0..lanes`. Surplus ranks have none.
    pub lanes: Vec<Range<u32>>,
    /// The rank that owns each shard, in (unit, index) order.
    pub owners: Vec<(ShardId, Rank)>,
}

/// Makes the plan for `ranks` ranks. `held` says who holds a shard's newest version already:
/// it stays there as long as the balance allows, so that as little as possible moves.
pub fn plan(ranks: u32, lanes: u32, shards: &[Shard], held: &BTreeMap<ShardId, Vec<Rank>>) -> Plan {
    Plan { lanes: place_lanes(ranks, lanes), owners: place_shards(ranks, shards, held) }
}

/// Contiguous ranges whose sizes differ by one at most; cuts fall on the roundest lane numbers, so
/// that a rank's lanes are few complete subtrees of the canonical tree.
fn place_lanes(ranks: u32, lanes: u32) -> Vec<Range<u32>> {
    let working = ranks.min(lanes);
    let mut out = Vec::with_capacity(ranks as usize);
    let mut at = 0;
    for rank in 0..ranks {
        let left = working.saturating_sub(rank);
        let size = match left {
            0 => 0,
            1 => lanes - at,
            _ => {
                let (small, larger) = ((lanes - at) / left, (lanes - at) % left);
                let round = |size: u32| (at + size).trailing_zeros();
                if larger > 0 && round(small + 1) > round(small) { small + 1 } else { small }
            }
        };
        out.push(at..at + size);
        at += size;
    }
    out
}

fn place_shards(ranks: u32, shards: &[Shard], held: &BTreeMap<ShardId, Vec<Rank>>) -> Vec<(ShardId, Rank)> {
    let total: usize = shards.iter().map(|shard| shard.range.len()).sum();
    let fair = total.div_ceil(ranks.max(1) as usize);
    let mut load = vec![0usize; ranks.max(1) as usize];
    let mut owners: BTreeMap<ShardId, Rank> = BTreeMap::new();
    for shard in shards {
        let stays = held.get(&shard.id).into_iter().flatten().find(|rank| load[rank.0 as usize] + shard.range.len() <= fair);
        if let Some(rank) = stays {
            load[rank.0 as usize] += shard.range.len();
            owners.insert(shard.id, *rank);
        }
    }
    // Largest first to the least loaded: the classic bound of 4/3 of the best balance.
    let mut rest: Vec<&Shard> = shards.iter().filter(|shard| !owners.contains_key(&shard.id)).collect();
    rest.sort_by_key(|shard| (std::cmp::Reverse(shard.range.len()), shard.id));
    let mut heap: std::collections::BinaryHeap<_> = load.iter().enumerate().map(|(rank, load)| std::cmp::Reverse((*load, rank))).collect();
    for shard in rest {
        if let Some(std::cmp::Reverse((load, rank))) = heap.pop() {
            owners.insert(shard.id, Rank(rank as u32));
            heap.push(std::cmp::Reverse((load + shard.range.len(), rank)));
        }
    }
    owners.into_iter().collect()
}

impl Plan {
    /// Number of ranks.
    pub fn ranks(&self) -> u32 {
        self.lanes.len() as u32
    }
    /// The rank that runs a lane.
    pub fn rank_of(&self, lane: Lane) -> Option<Rank> {
        self.lanes.iter().position(|range| range.contains(&lane.0)).map(|rank| Rank(rank as u32))
    }
    /// The ranks that run lanes of a group, ascending.
    pub fn ranks_of(&self, group: &Range<u32>) -> Vec<Rank> {
        let meets = |range: &&Range<u32>| range.start < group.end && group.start < range.end && !range.is_empty();
        self.lanes.iter().enumerate().filter(|(_, range)| meets(range)).map(|(rank, _)| Rank(rank as u32)).collect()
    }
    /// The rank that finishes the sum of a collective call over a group of lanes: calls take turns.
    pub fn summer(&self, call: u64, group: &Range<u32>) -> Option<Rank> {
        let ranks = self.ranks_of(group);
        ranks.get((call % ranks.len().max(1) as u64) as usize).copied()
    }
    /// The Sinkhorn aggregators of a vector of `prototypes` row sums: contiguous ranges and their ranks.
    pub fn aggregators(&self, prototypes: usize) -> Vec<(Range<usize>, Rank)> {
        let ranks = self.ranks_of(&(0..self.lanes.iter().map(|range| range.end).max().unwrap_or(0)));
        let count = (prototypes / PROTOTYPES_PER_AGGREGATOR_MIN).clamp(1, ranks.len().max(1));
        let at = |piece: usize| prototypes * piece / count;
        (0..count).zip(ranks).map(|(piece, rank)| (at(piece)..at(piece + 1), rank)).collect()
    }
    /// The complete subtrees that a rank adds up before it sends.
    pub fn subtrees(&self, rank: Rank, group: &Range<u32>) -> Vec<Range<u32>> {
        let Some(mine) = self.lanes.get(rank.0 as usize) else { return Vec::new() };
        let within = mine.start.max(group.start)..mine.end.min(group.end);
        if within.is_empty() {
            return Vec::new();
        }
        tree::cover(&(within.start - group.start..within.end - group.start), group.end - group.start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::UnitId;
    use super::super::shard::{UnitShape, cut};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lanes_are_cut_where_the_tree_is() {
        assert_eq!(place_lanes(2, 4), [0..2, 2..4]);
        assert_eq!(place_lanes(3, 4), [0..2, 2..3, 3..4]);
        assert_eq!(place_lanes(3, 8), [0..2, 2..5, 5..8].to_vec());
        assert_eq!(place_lanes(6, 4), [0..1, 1..2, 2..3, 3..4, 4..4, 4..4]);
        assert_eq!(place_lanes(1, 5), vec![0..5]);
    }

    #[test]
    fn summers_take_turns_among_the_ranks_of_the_group() {
        let plan = plan(4, 8, &[], &BTreeMap::new());
        assert_eq!(plan.ranks_of(&(2..6)), [Rank(1), Rank(2)]);
        assert_eq!(plan.summer(0, &(2..6)), Some(Rank(1)));
        assert_eq!(plan.summer(1, &(2..6)), Some(Rank(2)));
        assert_eq!(plan.aggregators(100), [(0..100, Rank(0))]);
        assert_eq!(plan.aggregators(3_000), [(0..1_500, Rank(0)), (1_500..3_000, Rank(1))]);
        assert!(plan.subtrees(Rank(1), &(2..6)).into_iter().eq(std::iter::once(0..2)));
    }

    proptest! {
        #[test]
        fn lanes_are_contiguous_complete_and_balanced(ranks in 1u32..64, lanes in 1u32..300) {
            let placed = place_lanes(ranks, lanes);
            prop_assert_eq!(placed.len() as u32, ranks);
            prop_assert_eq!(placed[0].start, 0);
            prop_assert!(placed.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert_eq!(placed.last().unwrap().end, lanes);
            let sizes: Vec<u32> = placed.iter().take(ranks.min(lanes) as usize).map(|r| r.end - r.start).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", placed);
        }

        #[test]
        fn every_shard_has_one_owner_and_nobody_has_much_more(ranks in 1u32..20, lengths in prop::collection::vec(1usize..5_000, 1..40), shard_values in 1usize..3_000) {
            let units: Vec<_> = lengths.into_iter().map(|length| UnitShape { length, row: 1 }).collect();
            let shards = cut(&units, shard_values);
            let held: BTreeMap<_, _> = shards.iter().map(|s| (s.id, vec![Rank(s.id.index % ranks)])).collect();
            for held in [BTreeMap::new(), held] {
                let plan = plan(ranks, 8, &shards, &held);
                prop_assert_eq!(plan.owners.iter().map(|(id, _)| *id).collect::<Vec<_>>(), shards.iter().map(|s| s.id).collect::<Vec<_>>());
                let mut load = vec![0; ranks as usize];
                for ((_, rank), shard) in plan.owners.iter().zip(&shards) {
                    load[rank.0 as usize] += shard.range.len();
                }
                let largest = shards.iter().map(|s| s.range.len()).max().unwrap();
                let total: usize = load.iter().sum();
                prop_assert!(*load.iter().max().unwrap() <= total.div_ceil(ranks as usize) + largest);
            }
        }
    }

    #[test]
    fn what_is_held_stays() {
        let shards = cut(&[UnitShape { length: 100, row: 1 }], 10);
        let held = shards.iter().map(|s| (s.id, vec![Rank(u32::from(s.id.index < 5))])).collect();
        let plan = plan(2, 2, &shards, &held);
        assert!(plan.owners.iter().all(|(id, rank)| rank.0 == u32::from(id.index < 5)));
        assert_eq!(plan.owners[0].0.unit, UnitId(0));
    }
}
