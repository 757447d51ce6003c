//! Over the steps that stay committed each sample is used exactly once.
//!
//! It holds because lanes cut the batch, each lane is run by one rank of the epoch, and only stable steps count. A step that a
//! run went back before is computed again: what counts is its last commit. Samples are numbered through the run: `step` uses
//! those from `step × batch`.

use std::collections::BTreeMap;

use super::{Check, Violation};
use crate::history::{Happening, History, Promise};

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut next: Option<u64> = None;
    let mut committed: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, entry) in history.entries.iter().enumerate() {
        match &entry.what {
            Happening::Begun { step, used, .. } => {
                committed.retain(|done, _| done < step);
                // A step that all had prepared when its leader went is committed by going on from it.
                if let Some(last) = step.checked_sub(1).filter(|last| next == Some(*last)) {
                    committed.insert(last, place);
                    if let Some(because) = uncovered(last, promise.batch, used) {
                        found.push(Violation::new(Check::SamplesOnce, place, because));
                    }
                }
                next = Some(*step);
            }
            Happening::Stable { step, used, .. } => {
                let due = next.unwrap_or(*step);
                if *step != due || committed.insert(*step, place).is_some() {
                    let because = format!("step {step} was committed when step {due} was due");
                    found.push(Violation::new(Check::SamplesOnce, place, because));
                }
                next = Some(step + 1);
                if let Some(because) = uncovered(*step, promise.batch, used) {
                    found.push(Violation::new(Check::SamplesOnce, place, because));
                }
            }
            _ => {}
        }
    }
    if let (Some(last), true) = (committed.keys().next_back(), found.is_empty()) {
        let gap = (0..*last).find(|step| !committed.contains_key(step));
        found.extend(gap.map(|step| {
            Violation::new(Check::SamplesOnce, history.entries.len() - 1, format!("the samples of step {step} were never used"))
        }));
    }
    found
}

fn uncovered(step: u64, batch: u64, used: &[(u32, u64, u64)]) -> Option<String> {
    let mut ranges: Vec<(u64, u64)> = used.iter().filter(|(_, from, to)| from < to).map(|(_, from, to)| (*from, *to)).collect();
    ranges.sort_unstable();
    let mut at = step * batch;
    for (from, to) in ranges {
        if from != at {
            let what = if from < at { "twice" } else { "never" };
            return Some(format!("step {step}: sample {} was used {what}", from.min(at)));
        }
        at = to;
    }
    (at != (step + 1) * batch).then(|| format!("step {step}: sample {at} was never used"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::history::Source;

    fn begun_at_0() -> Happening {
        begun(2, 0, Source::Seed)
    }

    #[test]
    fn samples_that_are_used_twice_or_never_are_found() {
        let good = history([
            (0, 0, begun(2, 0, Source::Seed)),
            (1, 0, stable(2, 0)),
            (2, 0, stable(2, 1)),
            (3, 0, begun(3, 1, Source::Checkpoint)),
            (4, 0, stable(3, 1)),
        ]);
        assert_eq!(check(&good, &promise()), []);
        let adopted = |used| {
            let begun = Happening::Begun { epoch: 3, step: 2, of: 2, source: Source::Copies, plan: 0, holders: Vec::new(), used };
            check(&history([(0, 0, begun_at_0()), (1, 0, stable(2, 0)), (2, 1, begun), (3, 1, stable(3, 2))]), &promise()).len()
        };
        assert_eq!((adopted(vec![(0, 4, 8)]), adopted(vec![(0, 4, 7)]), adopted(Vec::new())), (0, 1, 1));
        let twice = history([(0, 0, begun(2, 0, Source::Seed)), (1, 0, stable(2, 0)), (2, 0, stable(3, 0))]);
        assert_eq!(check(&twice, &promise()).len(), 1);
        let never = history([(0, 0, begun(2, 0, Source::Seed)), (1, 0, stable(2, 1))]);
        assert_eq!(check(&never, &promise()).len(), 1);
        let jump = history([(0, 0, begun(2, 1, Source::Seed)), (1, 0, stable(2, 1))]);
        assert!(check(&jump, &promise())[0].because.contains("step 0 were never used"));
        for used in [vec![(0, 0, 2), (1, 1, 4)], vec![(0, 0, 2), (1, 3, 4)], vec![(0, 0, 3)], vec![(0, 0, 4), (1, 4, 5)]] {
            let broken = history([(0, 0, Happening::Stable { epoch: 2, step: 0, digest: 101, used })]);
            assert_eq!(check(&broken, &promise()).len(), 1);
        }
    }
}
