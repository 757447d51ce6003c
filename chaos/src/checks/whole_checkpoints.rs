//! A published manifest reads back; a damaged one is set aside, and the one before it is used.
//!
//! It holds because parts are there before the manifest that names them with their digests. A checkpoint that was damaged from
//! outside may not be read any more; one that nobody damaged has to be.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Violation};
use crate::history::{Happening, History, Promise, Source};

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let mut published: BTreeMap<u64, u64> = BTreeMap::new();
    let mut damaged: BTreeSet<u64> = BTreeSet::new();
    let mut found = Vec::new();
    for (place, entry) in history.entries.iter().enumerate() {
        let mut complain = |because: String| found.push(Violation::new(Check::WholeCheckpoints, place, because));
        match &entry.what {
            Happening::Published { step, digest } => {
                if promise.digests.get(step).is_some_and(|expected| expected != digest) {
                    complain(format!("the checkpoint after {step} steps holds another state than the run had"));
                }
                published.insert(*step, *digest);
                damaged.remove(step);
            }
            Happening::Damaged { step } => {
                damaged.insert(*step);
            }
            Happening::SetAside { step } if !damaged.contains(step) => {
                complain(format!("the checkpoint after {step} steps does not read back, and nobody has damaged it"));
            }
            Happening::Restored { step, .. } if damaged.contains(step) => {
                complain(format!("the checkpoint after {step} steps is damaged and was used"));
            }
            Happening::Restored { step, digest } if published.get(step) != Some(digest) => {
                complain(format!("the checkpoint after {step} steps reads back as another state"));
            }
            Happening::Begun { step, source, .. } => {
                let newest = published.keys().rfind(|step| !damaged.contains(step)).copied().unwrap_or(0);
                if *step < newest || (*step > newest && *source != Source::Copies) {
                    complain(format!("a run went on from {step} steps, and a whole checkpoint after {newest} steps is there"));
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    #[test]
    fn checkpoints_that_are_not_what_they_say_are_found() {
        let published = |step: u64, digest: u64| Happening::Published { step, digest };
        let restored = |step: u64, digest: u64| Happening::Restored { step, digest };
        let start = [(0, 0, published(2, 102)), (1, 0, published(4, 104)), (2, 0, Happening::Damaged { step: 4 })];
        let good = [(3, 0, Happening::SetAside { step: 4 }), (3, 0, restored(2, 102)), (4, 0, begun(3, 2, Source::Checkpoint))];
        assert_eq!(check(&history(start.clone().into_iter().chain(good)), &promise()), []);
        let broken = [
            published(6, 0),
            restored(4, 104),
            restored(2, 7),
            Happening::SetAside { step: 2 },
            begun(3, 4, Source::Checkpoint),
            begun(3, 0, Source::Seed),
            begun(3, 1, Source::Copies),
        ];
        for line in broken {
            let bad = history(start.clone().into_iter().chain([(3, 0, line.clone())]));
            assert_eq!(check(&bad, &promise()).len(), 1, "{line:?}");
        }
    }
}
