//! What to go on from: the newest version of which every shard has an intact copy.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{Epoch, Rank, ShardId, Step};

/// A version of a shard: the steps that are in it, and the epoch that computed the last of them.
///
/// Coverage is counted per version, never per step alone: a step that was computed anew in a later
/// epoch is another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Steps committed.
    pub step: Step,
    /// The epoch in which the last of them was computed; 0 for the seed.
    pub epoch: Epoch,
}

/// One copy that a member reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// Whose.
    pub rank: Rank,
    /// Which shard.
    pub shard: ShardId,
    /// Which version.
    pub version: Version,
}

/// The newest version of which every shard has a copy, with who holds which shard of it.
pub fn newest_covered(shards: &[ShardId], holdings: &[Holding]) -> Option<(Version, BTreeMap<ShardId, Vec<Rank>>)> {
    let versions: BTreeSet<Version> = holdings.iter().map(|holding| holding.version).collect();
    versions.into_iter().rev().find_map(|version| {
        let mut held: BTreeMap<ShardId, Vec<Rank>> = BTreeMap::new();
        for holding in holdings.iter().filter(|holding| holding.version == version) {
            held.entry(holding.shard).or_default().push(holding.rank);
        }
        held.values_mut().for_each(|ranks| ranks.sort_unstable());
        shards.iter().all(|shard| held.contains_key(shard)).then_some((version, held))
    })
}

#[cfg(test)]
mod tests {
    use super::super::ids::UnitId;
    use super::*;

    fn shard(index: u32) -> ShardId {
        ShardId { unit: UnitId(0), index }
    }
    fn holding(rank: u32, index: u32, step: u64, epoch: u64) -> Holding {
        Holding { rank: Rank(rank), shard: shard(index), version: Version { step: Step(step), epoch: Epoch(epoch) } }
    }

    #[test]
    fn the_newest_whole_version_wins() {
        let shards = [shard(0), shard(1)];
        let table = [
            ("nobody holds anything", vec![], None),
            ("one shard is missing", vec![holding(0, 0, 5, 1)], None),
            ("whole at 5", vec![holding(0, 0, 5, 1), holding(1, 1, 5, 1)], Some(5)),
            ("6 is torn", vec![holding(0, 0, 5, 1), holding(1, 1, 5, 1), holding(0, 0, 6, 1)], Some(5)),
            (
                "6 of two epochs does not add up",
                vec![holding(0, 0, 6, 1), holding(1, 1, 6, 2), holding(0, 0, 5, 1), holding(1, 1, 5, 1)],
                Some(5),
            ),
        ];
        for (case, holdings, expected) in table {
            assert_eq!(newest_covered(&shards, &holdings).map(|(v, _)| v.step.0), expected, "{case}");
        }
    }
}
