//! While an intact copy of every shard lives and can be reached, no committed step is lost.
//!
//! It holds because owners and replicas vote only when the new version lies beside the old one, and copies that a plan omits
//! stay until its first stable step. Copies of nodes that were stopped, hung or behind a cut for the grace period may be given
//! up; so may those of a machine in which a bit turned over, and those of nodes that left or ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Check, Violation};
use crate::fault::Kind;
use crate::history::{Happening, History, Promise, Who};

/// What was committed last, and who has copies of it.
#[derive(Default)]
struct Last {
    steps: u64,
    holders: Vec<Vec<Who>>,
}

pub(super) fn check(history: &History, promise: &Promise) -> Vec<Violation> {
    let mut gone: BTreeSet<Who> = BTreeSet::new();
    let mut plans: BTreeMap<u64, &Vec<Vec<Who>>> = BTreeMap::new();
    let mut hidden = Hidden::default();
    let mut last = Last::default();
    let mut found = Vec::new();
    for (place, entry) in history.entries.iter().enumerate() {
        match &entry.what {
            Happening::Died | Happening::Ended { .. } => {
                gone.insert(entry.who);
            }
            Happening::Struck { strike, kind, targets, .. } => hidden.struck(*strike, *kind, targets),
            Happening::Passed { strike } => hidden.passed(*strike, entry.at),
            Happening::Begun { epoch, step, holders, .. } => {
                plans.insert(*epoch, holders);
                let lives = |who: &Who| !gone.contains(who) && !hidden.at(*who, entry.at, promise.grace);
                if *step < last.steps && last.holders.iter().all(|holders| holders.iter().any(lives)) {
                    let because =
                        format!("epoch {epoch} goes on after {step} steps; {} were committed, and copies of them live", last.steps);
                    found.push(Violation::new(Check::NoStepLost, place, because));
                }
                last.steps = last.steps.min(*step);
            }
            Happening::Stable { epoch, step, .. } => {
                last = Last { steps: step + 1, holders: plans.get(epoch).map(|holders| (*holders).clone()).unwrap_or_default() };
            }
            _ => {}
        }
    }
    found
}

/// Nodes that cannot be reached, or whose copies cannot be trusted.
#[derive(Default)]
struct Hidden {
    by: BTreeMap<u32, Vec<Who>>,
    until: BTreeMap<Who, Duration>,
    broken: BTreeSet<Who>,
}

impl Hidden {
    fn struck(&mut self, strike: u32, kind: Kind, targets: &[Who]) {
        match kind {
            Kind::Stop | Kind::Cut | Kind::Hang | Kind::Link => self.by.entry(strike).or_default().extend(targets),
            Kind::BitFlip => self.broken.extend(targets),
            _ => {}
        }
    }

    fn passed(&mut self, strike: u32, at: Duration) {
        let targets = self.by.remove(&strike).unwrap_or_default();
        self.until.extend(targets.into_iter().map(|who| (who, at)));
    }

    /// Whether a node is hidden, or was within `grace` before.
    fn at(&self, who: Who, now: Duration, grace: Duration) -> bool {
        self.broken.contains(&who)
            || self.by.values().any(|targets| targets.contains(&who))
            || self.until.get(&who).is_some_and(|until| now < *until + grace + grace)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use crate::history::Source;

    #[test]
    fn a_step_that_is_lost_while_its_copies_live_is_found() {
        let start = [(0, 0, begun(2, 0, Source::Seed)), (1, 0, stable(2, 0)), (2, 0, stable(2, 1))];
        let back = (20, 1, begun(3, 1, Source::Checkpoint));
        let and = |more: &[(u64, Who, Happening)]| history(start.iter().cloned().chain(more.to_vec()).chain([back.clone()]));
        assert_eq!(check(&and(&[]), &promise()).len(), 1, "nobody died");
        assert_eq!(check(&and(&[(3, 0, Happening::Died)]), &promise()).len(), 1, "a copy of each shard lives");
        assert_eq!(check(&and(&[(3, 0, Happening::Died), (3, 1, Happening::Died)]), &promise()), [], "a shard died with its copies");
        let stop = |whom: Who| (3, whom, Happening::Struck { fault: 0, strike: 0, kind: Kind::Stop, targets: vec![whom] });
        assert_eq!(check(&and(&[(3, 0, Happening::Died), stop(1)]), &promise()), [], "the other copy is frozen");
        let passed = (9, 1, Happening::Passed { strike: 0 });
        assert_eq!(check(&and(&[(3, 0, Happening::Died), stop(1), passed]), &promise()).len(), 1, "it was back in time");
        let kept = history(start.iter().cloned().chain([(3, 0, Happening::Died), (4, 1, begun(3, 2, Source::Copies))]));
        assert_eq!(check(&kept, &promise()), []);
    }
}
