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

/// Who stands against two others in a step that never came out the same: it gave something else to a call before which all three
/// had got the same. A machine that is always wrong is found by this though no result is ever confirmed.
pub fn outvoted(computations: &[Computation]) -> BTreeSet<NodeId> {
    let lanes = computations.first().map_or(0, |first| first.lanes.len());
    let of_lane = |lane: usize| -> Option<NodeId> {
        let traces: Option<Vec<(NodeId, &Vec<Call>)>> =
            computations.iter().map(|one| Some((*one.lanes.get(lane)?, one.traces.get(&(lane as u32))?))).collect();
        let traces = traces?;
        let calls = traces.iter().map(|(_, calls)| calls.len()).min()?;
        let parted = (0..calls).find(|call| traces.windows(2).any(|pair| pair[0].1[*call] != pair[1].1[*call]))?;
        let given = |at: usize| traces[at].1[parted].0;
        let backed = |at: usize| (0..traces.len()).any(|other| given(other) == given(at) && traces[other].0 != traces[at].0);
        let alone: Vec<usize> = (0..traces.len()).filter(|at| !backed(*at)).collect();
        // Two that back each other and one that stands alone: anything else proves nothing.
        (alone.len() == 1 && traces.len() >= 3).then(|| traces[alone[0]].0)
    };
    (0..lanes).filter_map(of_lane).collect()
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
    fn a_machine_that_is_always_wrong_is_outvoted_and_those_whom_it_misled_are_not() {
        // Node 2 computes lane 1, then 0, then 2, wrongly each time; totals differ each time.
        let a = computation(&[1, 2, 3], 4, &[&[(1, 20)], &[(9, 20)], &[(3, 20)]]);
        let b = computation(&[2, 3, 1], 5, &[&[(9, 21)], &[(2, 21)], &[(3, 21)]]);
        let c = computation(&[3, 1, 2], 6, &[&[(1, 22)], &[(2, 22)], &[(9, 22)]]);
        assert_eq!(outvoted(&[a.clone(), b.clone(), c]), BTreeSet::from([NodeId([2; 16])]));
        assert!(outvoted(&[a.clone(), b]).is_empty(), "one word against another");
        // The same node twice backs nobody.
        let again = computation(&[1, 2, 3], 4, &[&[(1, 20)], &[(9, 20)], &[(3, 20)]]);
        let other = computation(&[2, 3, 1], 5, &[&[(1, 21)], &[(2, 21)], &[(3, 21)]]);
        assert!(outvoted(&[a, other, again]).is_empty());
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
