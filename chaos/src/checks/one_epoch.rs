//! No two records, plans or leaders for one epoch number, and epochs only grow, across restarts of everything.
//!
//! It holds because a record's number is taken by create-if-absent and never given back.

use std::collections::BTreeMap;

use super::{Check, Violation};
use crate::history::{Happening, History};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut records: BTreeMap<u64, (&str, u32)> = BTreeMap::new();
    let mut plans: BTreeMap<u64, u64> = BTreeMap::new();
    let mut newest = 0;
    let mut late: BTreeMap<u64, u64> = BTreeMap::new();
    let later = out_of_order(history);
    let mut found = Vec::new();
    for (place, entry) in history.entries.iter().enumerate() {
        let mut complain = |because: String| found.push(Violation::new(Check::OneEpoch, place, because));
        match &entry.what {
            Happening::Recorded { epoch, nonce, leader, .. } => {
                let first = *records.entry(*epoch).or_insert((nonce, *leader));
                if first != (nonce.as_str(), *leader) {
                    complain(format!("epoch {epoch} has two records: {} by node {} and {nonce} by node {leader}", first.0, first.1));
                } else if *epoch != newest + 1 && *epoch != newest {
                    complain(format!("epoch {epoch} was created after epoch {newest}"));
                }
                newest = newest.max(*epoch);
            }
            Happening::Begun { epoch, plan, .. } => {
                if *plans.entry(*epoch).or_insert(*plan) != *plan {
                    complain(format!("epoch {epoch} has two plans"));
                }
                if records.get(epoch).is_some_and(|(_, leader)| *leader != entry.who) {
                    complain(format!("node {} began epoch {epoch}, which another one leads", entry.who));
                }
            }
            Happening::Stable { epoch, step, .. } => {
                let steps = late.entry(*epoch).or_default();
                *steps += u64::from(later.contains(&place));
                if *steps > 1 {
                    complain(format!("epoch {epoch} went on to commit step {step} after a newer epoch had begun"));
                }
                if records.get(epoch).is_some_and(|(_, leader)| *leader != entry.who) {
                    complain(format!("node {} committed step {step} in epoch {epoch}, which another one leads", entry.who));
                }
            }
            _ => {}
        }
    }
    found
}

/// Steps that were called stable after the line behind them: their leader was late, see [`History::in_order`].
fn out_of_order(history: &History) -> std::collections::BTreeSet<usize> {
    let mut earliest = std::time::Duration::MAX;
    let mut late = std::collections::BTreeSet::new();
    for (place, entry) in history.entries.iter().enumerate().rev() {
        match entry.what {
            Happening::Stable { .. } if entry.at > earliest => drop(late.insert(place)),
            _ => earliest = earliest.min(entry.at),
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::history::Source;

    #[test]
    fn two_records_plans_or_leaders_are_found() {
        let good = [(0, 0, recorded(1, 0, &[0])), (1, 0, recorded(2, 0, &[0, 1])), (1, 0, begun(2, 0, Source::Seed)), (2, 0, stable(2, 0))];
        assert_eq!(check(&history(good.clone())), []);
        let broken = [
            (3, 1, recorded(2, 1, &[1])),
            (3, 1, recorded(4, 1, &[1])),
            (3, 0, Happening::Begun { epoch: 2, step: 0, of: 0, source: Source::Seed, plan: 9, holders: Vec::new(), used: Vec::new() }),
            (3, 1, begun(2, 0, Source::Seed)),
            (3, 1, stable(2, 1)),
        ];
        for line in broken {
            let bad = history(good.iter().cloned().chain([line.clone()]));
            assert_eq!(check(&bad).len(), 1, "{line:?}");
        }
        let newer = [(3, 1, recorded(3, 1, &[1])), (4, 1, begun(3, 1, Source::Copies)), (5, 0, stable(2, 1)), (6, 0, stable(2, 2))];
        let late = |lines: usize| check(&history(good.iter().chain(&newer[..lines]).cloned()).in_order()).len();
        assert_eq!((late(3), late(4)), (0, 1), "a leader that wakes up may say what all had voted for, and no more");
    }
}
