//! What must always hold. One property a file; each says why it holds and is shown to fail on a broken history.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{History, Promise};

mod bounded;
mod heals;
mod no_false_alarm;
mod no_ghosts;
mod no_step_lost;
mod one_epoch;
mod same_bits;
mod samples_once;
mod whole_checkpoints;

/// A property by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The state after a step is the same for every history.
    SameBits,
    /// Each sample of a pass is used once.
    SamplesOnce,
    /// A committed step is lost only with the last copy of a shard.
    NoStepLost,
    /// One record, plan and leader an epoch, and epochs only grow.
    OneEpoch,
    /// Nothing from an ended epoch changes state.
    NoGhosts,
    /// What is published reads back; what is damaged is set aside.
    WholeCheckpoints,
    /// When faults stop, all is well by a deadline.
    Heals,
    /// Nobody is put out without a cause.
    NoFalseAlarm,
    /// Sizes stay bounded.
    Bounded,
}

/// All of them.
pub const ALL: [Check; 9] = [
    Check::SameBits,
    Check::SamplesOnce,
    Check::NoStepLost,
    Check::OneEpoch,
    Check::NoGhosts,
    Check::WholeCheckpoints,
    Check::Heals,
    Check::NoFalseAlarm,
    Check::Bounded,
];

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// The place in the history where it shows first.
    pub place: usize,
    /// One sentence.
    pub because: String,
}

impl Violation {
    fn new(check: Check, place: usize, because: impl Into<String>) -> Self {
        Self { check, place, because: because.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::SameBits => "same_bits",
            Self::SamplesOnce => "samples_once",
            Self::NoStepLost => "no_step_lost",
            Self::OneEpoch => "one_epoch",
            Self::NoGhosts => "no_ghosts",
            Self::WholeCheckpoints => "whole_checkpoints",
            Self::Heals => "heals",
            Self::NoFalseAlarm => "no_false_alarm",
            Self::Bounded => "bounded",
        };
        f.write_str(name)
    }
}

impl Check {
    /// What must hold, in one sentence.
    pub fn says(self) -> &'static str {
        match self {
            Self::SameBits => "The state after a step is the same for every history.",
            Self::SamplesOnce => "Each sample of a pass is used once.",
            Self::NoStepLost => "A committed step is lost only with the last copy of a shard.",
            Self::OneEpoch => "One record, plan and leader an epoch, and epochs only grow.",
            Self::NoGhosts => "Nothing from an ended epoch changes state.",
            Self::WholeCheckpoints => "What is published reads back; what is damaged is set aside.",
            Self::Heals => "When faults stop, all is well by a deadline.",
            Self::NoFalseAlarm => "Nobody is put out without a cause.",
            Self::Bounded => "Sizes stay bounded.",
        }
    }

    /// Where a history breaks the property, first places first.
    pub fn run(self, history: &History, promise: &Promise) -> Vec<Violation> {
        match self {
            Self::SameBits => same_bits::check(history, promise),
            Self::SamplesOnce => samples_once::check(history, promise),
            Self::NoStepLost => no_step_lost::check(history, promise),
            Self::OneEpoch => one_epoch::check(history),
            Self::NoGhosts => no_ghosts::check(history),
            Self::WholeCheckpoints => whole_checkpoints::check(history, promise),
            Self::Heals => heals::check(history, promise),
            Self::NoFalseAlarm => no_false_alarm::check(history),
            Self::Bounded => bounded::check(history),
        }
    }
}

/// Where a history breaks any of `checks` (all, if there are none), first places first.
pub fn run(checks: &[Check], history: &History, promise: &Promise) -> Vec<Violation> {
    let checks = if checks.is_empty() { &ALL[..] } else { checks };
    let mut found: Vec<Violation> = checks.iter().flat_map(|check| check.run(history, promise)).collect();
    found.sort_by_key(|violation| (violation.place, violation.check));
    found
}

#[cfg(test)]
mod samples {
    //! Histories made by hand.

    use std::time::Duration;

    use super::*;
    use crate::history::{Happening, Source, Who};

    /// A promise of ten steps of four samples, whose digests are `100 + steps`.
    pub(super) fn promise() -> Promise {
        Promise {
            steps: 10,
            batch: 4,
            digests: (0..=10).map(|step| (step, 100 + step)).collect(),
            grace: Duration::from_secs(5),
            recover_within: Duration::from_secs(10),
            ranks_min: 1,
            ranks_max: 8,
        }
    }

    /// Each with the second at which it happens and the node.
    pub(super) fn history(happenings: impl IntoIterator<Item = (u64, Who, Happening)>) -> History {
        let mut history = History::default();
        happenings.into_iter().for_each(|(at, who, what)| history.push(Duration::from_secs(at), who, what));
        history
    }

    pub(super) fn stable(epoch: u64, step: u64) -> Happening {
        Happening::Stable { epoch, step, digest: 101 + step, used: vec![(0, step * 4, step * 4 + 2), (1, step * 4 + 2, step * 4 + 4)] }
    }

    pub(super) fn recorded(epoch: u64, leader: Who, members: &[Who]) -> Happening {
        Happening::Recorded { epoch, nonce: format!("{leader}-{epoch}"), leader, members: members.to_vec() }
    }

    pub(super) fn begun(epoch: u64, step: u64, source: Source) -> Happening {
        Happening::Begun {
            epoch,
            step,
            of: epoch - 1,
            source,
            plan: epoch,
            holders: vec![vec![0, 1], vec![1, 2], vec![0, 2]],
            used: Vec::new(),
        }
    }

    pub(super) fn started(slot: u32) -> Happening {
        Happening::Started { slot }
    }
}
