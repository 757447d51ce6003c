//! A step computed twice, each lane by another node: what is right, and who was wrong.
//!
//! Pure. Copies of shards are compared at every step; this compares what was computed before them: forward, backward, sums.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{NodeId, ShardId};

/// One collective call of a lane: hashes of what it gave and of what it got (0 where there is nothing to compare).
pub type Call = (u64, u64);

/// One computation of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Computation {
    /// Who computed each lane.
    pub lanes: Vec<NodeId>,
    /// Digests of the new version of each shard.
    pub digests: BTreeMap<ShardId, u64>,
    /// The calls of each lane, in order, where they were traced.
    pub traces: BTreeMap<u32, Vec<Call>>,
}

impl Computation {
    /// Whether both have one result although no lane was computed by the same node.
    pub fn confirms(&self, other: &Self) -> bool {
        let apart = self.lanes.iter().zip(&other.lanes).all(|(here, there)| here != there);
        apart && self.lanes.len() == other.lanes.len() && self.digests == other.digests
    }

    /// Who went wrong in this computation, judged by one that was confirmed: lanes that gave something else although they had got
    /// the same until then. Lanes that went wrong because others did are told apart by what they had got.
    pub fn odd(&self, right: &Self) -> BTreeSet<NodeId> {
        let wrong = self.lanes.iter().enumerate().filter(|(lane, _)| {
            let traces = (self.traces.get(&(*lane as u32)), right.traces.get(&(*lane as u32)));
            matches!(traces, (Some(here), Some(there)) if gave_first(here, there))
        });
        wrong.map(|(_, node)| *node).collect()
    }
}

/// Whether two traces part at what was given, not at what was got.
fn gave_first(here: &[Call], there: &[Call]) -> bool {
    let apart = here.iter().zip(there).find(|(a, b)| a != b);
    apart.is_some_and(|((given, _), (expected, _))| given != expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::UnitId;

    fn computation(lanes: &[u8], digest: u64, traces: &[&[Call]]) -> Computation {
        Computation {
            lanes: lanes.iter().map(|n| NodeId([*n; 16])).collect(),
            digests: BTreeMap::from([(ShardId { unit: UnitId(0), index: 0 }, digest)]),
            traces: traces.iter().enumerate().map(|(lane, calls)| (lane as u32, calls.to_vec())).collect(),
        }
    }

    #[test]
    fn only_other_nodes_confirm_a_result() {
        let first = computation(&[1, 2], 7, &[]);
        assert!(computation(&[2, 1], 7, &[]).confirms(&first));
        assert!(!computation(&[2, 1], 8, &[]).confirms(&first), "another result");
        assert!(!computation(&[1, 2], 7, &[]).confirms(&first), "the same machines may make the same mistake");
        assert!(!computation(&[3, 2], 7, &[]).confirms(&first), "one lane was with the same node");
    }

    #[test]
    fn who_gave_first_is_odd_and_who_was_misled_is_not() {
        let right = computation(&[2, 1], 7, &[&[(1, 10), (2, 0)], &[(5, 10), (6, 0)]]);
        // Lane 1 gave 9 to the first sum: both lanes got another total and gave other gradients.
        let wrong = computation(&[1, 2], 8, &[&[(1, 11), (3, 0)], &[(9, 11), (8, 0)]]);
        assert_eq!(wrong.odd(&right), BTreeSet::from([NodeId([2; 16])]));
        // A sum went wrong on its way: no lane did.
        let wrong = computation(&[1, 2], 8, &[&[(1, 11), (3, 0)], &[(5, 11), (8, 0)]]);
        assert!(wrong.odd(&right).is_empty());
    }
}
