//! Why a command of the harness could not do what it was asked: one sentence each.

use crate::scenario::ScenarioError;
use crate::tier::Tier;

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChaosError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A tier could not play the scenario to its end.
    #[error("the {tier} tier: {because}")]
    Unplayed {
        /// Which.
        tier: Tier,
        /// What went wrong and what to do.
        because: String,
    },
    /// A file of a report cannot be read.
    #[error("report {path}: {because}")]
    Unread {
        /// Which.
        path: String,
        /// Why.
        because: String,
    },
    /// A report cannot be written.
    #[error("report {path}: {because}; name another folder with --out")]
    Unwritten {
        /// Where.
        path: String,
        /// Why.
        because: String,
    },
    /// A scenario that is to be made smaller does not fail.
    #[error("`{name}` holds under seed {seed}: only a scenario that breaks a check can be made smaller")]
    Holds {
        /// Its name.
        name: String,
        /// The seed.
        seed: u64,
    },
}
