//! Over the steps that stay committed each sample is used exactly once.
//!
//! It holds because lanes cut the batch, each lane is run by one rank of the epoch, and only stable steps count. A run may go
//! back, and may find newer copies of an earlier epoch again: what counts are the steps that the last version descends from,
//! each in the epoch that computed it. Samples are numbered through the run: `step` uses those from `step × batch`.

use std::collections::BTreeMap;

use super::{Check, Violation};
use crate::history::{Happening, History, Promise, Source};

/// Steps by the epoch that committed them, and what each epoch went on from.
#[derive(Default)]
struct Lineage {
    committed: BTreeMap<(u64, u64), usize>,
    begun: BTreeMap<u64, (u64, u64)>,
    /// The epoch that computed what a checkpoint holds.
    saved: BTreeMap<u64, u64>,
    last: Option<(u64, u64)>,
}

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut lineage = Lineage::default();
    for (place, entry) in history.entries.iter().enumerate() {
        let mut complain = |because: String| found.push(Violation::new(Check::SamplesOnce, place, because));
        match &entry.what {
            Happening::Begun { epoch, step, of, source, used, .. } => {
                // Epoch 0 stands for what a checkpoint or the seed gave.
                let of = if *of == 0 || *source != Source::Copies { lineage.saved.get(step).copied().unwrap_or(0) } else { *of };
                lineage.begun.insert(*epoch, (*step, of));
                // A step that all had prepared when its leader went is committed by going on from it.
                if let Some(last) = step
                    .checked_sub(1)
                    .filter(|last| of > 0 && !lineage.committed.contains_key(&(of, *last)) && lineage.begins_below(of, *step))
                {
                    lineage.committed.insert((of, last), place);
                    uncovered(last, promise.batch, used).into_iter().for_each(&mut complain);
                }
            }
            Happening::Stable { epoch, step, used, .. } => {
                if lineage.committed.insert((*epoch, *step), place).is_some() {
                    complain(format!("step {step} was committed twice in epoch {epoch}"));
                }
                uncovered(*step, promise.batch, used).into_iter().for_each(&mut complain);
                lineage.last = lineage.last.max(Some((*epoch, *step)));
            }
            Happening::Published { step, .. } => {
                let of = lineage.committed.keys().rfind(|(_, at)| Some(*at) == step.checked_sub(1)).map_or(0, |(epoch, _)| *epoch);
                lineage.saved.insert(*step, of);
            }
            _ => {}
        }
    }
    if found.is_empty() {
        let end = history.entries.len().saturating_sub(1);
        found.extend(
            lineage.gap().map(|step| Violation::new(Check::SamplesOnce, end, format!("the samples of step {step} were never used"))),
        );
    }
    found
}

impl Lineage {
    /// Whether an epoch ran a step before so many steps.
    fn begins_below(&self, epoch: u64, steps: u64) -> bool {
        self.begun.get(&epoch).is_some_and(|(begun, _)| *begun < steps)
    }

    /// A step that the last version should descend from and does not.
    fn gap(&self) -> Option<u64> {
        let (mut epoch, last) = self.last?;
        let mut above = last + 1;
        while above > 0 {
            let (begun, of) = self.begun.get(&epoch).copied().unwrap_or((0, 0));
            let missing = (begun.min(above)..above).rfind(|step| !self.committed.contains_key(&(epoch, *step)));
            if missing.is_some() || (of == 0 && begun > 0) || of >= epoch {
                return missing.or_else(|| begun.checked_sub(1));
            }
            (above, epoch) = (begun.min(above), of);
        }
        None
    }
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
            (3, 0, Happening::Published { step: 1, digest: 0 }),
            (3, 0, begun(3, 1, Source::Checkpoint)),
            (4, 0, stable(3, 1)),
        ]);
        assert_eq!(check(&good, &promise()), []);
        let found_again = good.entries.into_iter().map(|entry| (entry.at.as_secs(), entry.who, entry.what)).chain([
            (5, 1, Happening::Begun { epoch: 4, step: 2, of: 2, source: Source::Copies, plan: 0, holders: Vec::new(), used: Vec::new() }),
            (6, 1, stable(4, 2)),
        ]);
        assert_eq!(check(&history(found_again), &promise()), [], "copies of epoch 2 were newer than those of epoch 3");
        let adopted = |used| {
            let begun = Happening::Begun { epoch: 3, step: 2, of: 2, source: Source::Copies, plan: 0, holders: Vec::new(), used };
            check(&history([(0, 0, begun_at_0()), (1, 0, stable(2, 0)), (2, 1, begun), (3, 1, stable(3, 2))]), &promise()).len()
        };
        assert_eq!((adopted(vec![(0, 4, 8)]), adopted(vec![(0, 4, 7)]), adopted(Vec::new())), (0, 1, 1));
        let twice = history([(0, 0, begun(2, 0, Source::Seed)), (1, 0, stable(2, 0)), (2, 0, stable(2, 0))]);
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
