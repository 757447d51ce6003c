//! What to go on from: the newest version of which every shard has an intact copy.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{NodeId, ShardId, Version};
use super::word::Held;

/// The intact copies of one version: who holds each shard, and the digest that they agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The version.
    pub version: Version,
    /// Holders of every shard, in order of their ids.
    pub holders: BTreeMap<ShardId, (u64, Vec<NodeId>)>,
}

/// The newest version of which every shard has an intact copy, with who holds it.
///
/// A version of which two copies of one shard differ was never stable, and whatever made them differ may be in all of its shards
/// (a gradient is computed from all weights): it does not count at all, not even where more copies agree than not.
pub fn newest_covered(shards: &BTreeSet<ShardId>, holdings: &BTreeMap<NodeId, Vec<Held>>) -> Option<Covered> {
    let mut copies: BTreeMap<Version, BTreeMap<ShardId, BTreeMap<u64, Vec<NodeId>>>> = BTreeMap::new();
    for (node, held) in holdings {
        for copy in held.iter().filter(|copy| shards.contains(&copy.shard)) {
            copies.entry(copy.version).or_default().entry(copy.shard).or_default().entry(copy.digest).or_default().push(*node);
        }
    }
    copies.into_iter().rev().find_map(|(version, by_shard)| {
        let whole = by_shard.len() == shards.len() && by_shard.values().all(|by_digest| by_digest.len() == 1);
        let holders = by_shard.into_iter().filter_map(|(shard, by_digest)| Some((shard, by_digest.into_iter().next()?)));
        whole.then(|| Covered { version, holders: holders.collect() })
    })
}

#[cfg(test)]
mod tests {
    use super::super::ids::{Epoch, Step, UnitId};
    use super::*;

    /// (node, shard, step, epoch, digest)
    fn covered(copies: &[(u8, u32, u64, u64, u64)]) -> Option<(u64, u64)> {
        let shard = |index| ShardId { unit: UnitId(0), index };
        let mut holdings: BTreeMap<NodeId, Vec<Held>> = BTreeMap::new();
        for (node, index, step, epoch, digest) in copies {
            let version = Version { step: Step(*step), epoch: Epoch(*epoch) };
            holdings.entry(NodeId([*node; 16])).or_default().push(Held { shard: shard(*index), version, digest: *digest });
        }
        newest_covered(&BTreeSet::from([shard(0), shard(1)]), &holdings).map(|found| (found.version.step.0, found.version.epoch.0))
    }

    #[test]
    fn the_newest_whole_version_wins() {
        let table: [(&str, &[_], _); 7] = [
            ("nobody holds anything", &[], None),
            ("one shard is missing", &[(0, 0, 5, 1, 0)], None),
            ("whole at 5", &[(0, 0, 5, 1, 0), (1, 1, 5, 1, 0)], Some((5, 1))),
            ("6 is torn", &[(0, 0, 5, 1, 0), (1, 1, 5, 1, 0), (0, 0, 6, 1, 0)], Some((5, 1))),
            ("6 of two epochs does not add up", &[(0, 0, 6, 1, 0), (1, 1, 6, 2, 0), (0, 0, 5, 1, 0), (1, 1, 5, 1, 0)], Some((5, 1))),
            (
                "two holders of 6 disagree: neither counts",
                &[(0, 0, 6, 1, 7), (1, 0, 6, 1, 8), (1, 1, 6, 1, 0), (0, 0, 5, 1, 0), (1, 1, 5, 1, 0)],
                Some((5, 1)),
            ),
            (
                "two of three agree: what made the third differ may be in all of them",
                &[(0, 0, 6, 1, 7), (1, 0, 6, 1, 8), (2, 0, 6, 1, 8), (1, 1, 6, 1, 0), (0, 0, 5, 1, 0), (1, 1, 5, 1, 0)],
                Some((5, 1)),
            ),
        ];
        for (case, copies, expected) in table {
            assert_eq!(covered(copies), expected, "{case}");
        }
    }
}
