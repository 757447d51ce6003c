//! The plan of an epoch: who runs which lanes, who owns and replicates which shards, who finishes which sums.
//!
//! A pure function of the members and of what they hold, made once by the leader and told with the epoch's beginning.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ids::{Lane, Rank, ShardId};
use super::shard::Shard;
use super::tree;

mod lanes;
mod placement;

/// Prototypes per Sinkhorn aggregator at least: below this a frame costs more than it carries.
const PROTOTYPES_PER_AGGREGATOR_MIN: usize = 1_024;

/// What matters of a rank for placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The machine that it is on: copies of a shard lie on different ones where there are two.
    pub host: String,
    /// What the machine is in; different ones are preferred for copies too.
    pub zone: String,
    /// Its speed relative to the others: lanes are given in proportion.
    pub speed: u32,
}

/// Placement for one epoch. Ranks are indices `0..ranks`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct Plan {
    /// Lanes of each rank, first and one past the last: contiguous, together `0..lanes`. Surplus ranks have none.
    pub lanes: Vec<(u32, u32)>,
    /// Where each shard lies, in (unit, index) order.
    pub places: Vec<Place>,
}

/// Where a shard lies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
pub struct Place {
    /// Which shard.
    pub shard: ShardId,
    /// Who sums its gradient and updates it.
    pub owner: Rank,
    /// Who computes the same update from the same mean gradient, and compares.
    pub replicas: Vec<Rank>,
}

impl Place {
    /// Everyone who has a copy, the owner first.
    pub fn copies(&self) -> impl Iterator<Item = Rank> + '_ {
        std::iter::once(self.owner).chain(self.replicas.iter().copied())
    }
}

/// Contiguous ranges of lanes for ranks of such speeds, first and one past the last.
pub fn lanes_by_speed(speeds: &[u32], lanes: u32) -> Vec<(u32, u32)> {
    lanes::place(speeds, lanes)
}

/// Makes the plan for ranks at `sites`. `held` says who holds the version that is gone on from: copies stay where they
/// are as long as the balance allows, so that as little as possible moves.
pub fn plan(sites: &[Site], lanes: u32, replicas: u32, shards: &[Shard], held: &BTreeMap<ShardId, Vec<Rank>>) -> Plan {
    let speeds: Vec<u32> = sites.iter().map(|site| site.speed).collect();
    Plan { lanes: lanes::place(&speeds, lanes), places: placement::place(sites, replicas, shards, held) }
}

impl Plan {
    /// Number of ranks.
    pub fn ranks(&self) -> u32 {
        self.lanes.len() as u32
    }
    /// The lanes of a rank.
    pub fn lanes_of(&self, rank: Rank) -> Range<u32> {
        self.lanes.get(rank.0 as usize).map_or(0..0, |(start, end)| *start..*end)
    }
    /// The rank that runs a lane.
    pub fn rank_of(&self, lane: Lane) -> Option<Rank> {
        (0..self.ranks()).map(Rank).find(|rank| self.lanes_of(*rank).contains(&lane.0))
    }
    /// The ranks that run lanes of a group, ascending.
    pub fn ranks_of(&self, group: &Range<u32>) -> Vec<Rank> {
        let meets = |range: Range<u32>| range.start < group.end && group.start < range.end && !range.is_empty();
        (0..self.ranks()).map(Rank).filter(|rank| meets(self.lanes_of(*rank))).collect()
    }
    /// The rank that finishes the sum of a collective call over a group of lanes: calls take turns.
    pub fn summer(&self, call: u64, group: &Range<u32>) -> Option<Rank> {
        let ranks = self.ranks_of(group);
        ranks.get((call % ranks.len().max(1) as u64) as usize).copied()
    }
    /// The Sinkhorn aggregators of a vector of `prototypes` row sums: contiguous ranges and their ranks.
    pub fn aggregators(&self, prototypes: usize) -> Vec<(Range<usize>, Rank)> {
        let ranks = self.ranks_of(&(0..self.lanes.iter().map(|(_, end)| *end).max().unwrap_or(0)));
        let count = (prototypes / PROTOTYPES_PER_AGGREGATOR_MIN).clamp(1, ranks.len().max(1));
        let at = |piece: usize| prototypes * piece / count;
        (0..count).zip(ranks).map(|(piece, rank)| (at(piece)..at(piece + 1), rank)).collect()
    }
    /// The complete subtrees that a rank adds up before it sends.
    pub fn subtrees(&self, rank: Rank, group: &Range<u32>) -> Vec<Range<u32>> {
        let mine = self.lanes_of(rank);
        let within = mine.start.max(group.start)..mine.end.min(group.end);
        if within.is_empty() {
            return Vec::new();
        }
        tree::cover(&(within.start - group.start..within.end - group.start), group.end - group.start)
    }
    /// The shards of which a rank has a copy, as owner or replica.
    pub fn shards_of(&self, rank: Rank) -> impl Iterator<Item = ShardId> + '_ {
        self.places.iter().filter(move |place| place.copies().any(|copy| copy == rank)).map(|place| place.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summers_take_turns_among_the_ranks_of_the_group() {
        let site = Site { host: "a".into(), zone: String::new(), speed: 1 };
        let plan = plan(&vec![site; 4], 8, 1, &[], &BTreeMap::new());
        assert_eq!(plan.ranks_of(&(2..6)), [Rank(1), Rank(2)]);
        assert_eq!(plan.summer(0, &(2..6)), Some(Rank(1)));
        assert_eq!(plan.summer(1, &(2..6)), Some(Rank(2)));
        assert_eq!(plan.aggregators(100), [(0..100, Rank(0))]);
        assert_eq!(plan.aggregators(3_000), [(0..1_500, Rank(0)), (1_500..3_000, Rank(1))]);
        assert!(plan.subtrees(Rank(1), &(2..6)).into_iter().eq(std::iter::once(0..2)));
    }
}
