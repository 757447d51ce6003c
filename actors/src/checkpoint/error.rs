//! What can be wrong with a checkpoint, split by what the caller does next.

use crate::protocol::ids::{ShardId, Step};
use crate::store::StoreError;

use super::digest::Digest;
use super::manifest::Incomplete;

/// Why an operation on checkpoints failed. Each reads as one sentence with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed: nothing is known about the checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint is torn or corrupt: an older one is to be used.
    #[error("{place}: {damage}; use an older checkpoint")]
    Damaged {
        /// The manifest or part.
        place: String,
        /// What is wrong.
        damage: Damage,
    },
    /// A later version of Everstep wrote it.
    #[error("{place} has format {found} and this build reads up to {known}; use the newer everstep that wrote it")]
    NewerFormat {
        /// The manifest.
        place: String,
        /// Its format.
        found: u32,
        /// The newest that this build reads.
        known: u32,
    },
    /// The parts do not make a whole state.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// Another state was published for the same step: two histories disagree, which must not happen.
    #[error("{place} holds state {found} where this run computed {computed}; run `everstep checkpoint verify` and compare the machines")]
    OtherState {
        /// The manifest.
        place: String,
        /// Its state digest.
        found: Digest,
        /// The caller's.
        computed: Digest,
    },
    /// The caller named a step or shard that the checkpoint does not have.
    #[error("there is no {what} in the checkpoint of step {}; list them with `everstep checkpoint ls`", step.0)]
    Absent {
        /// Which step.
        step: Step,
        /// What was asked for.
        what: String,
    },
    /// The process ends or a thread died while the operation ran.
    #[error("writing the checkpoint of step {} was cut short ({because}); the next one will be complete", step.0)]
    CutShort {
        /// Which step.
        step: Step,
        /// By what.
        because: String,
    },
}

/// What is wrong with a manifest or part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// Not the whole file: its writer or store died.
    #[error("it is torn ({0})")]
    Torn(String),
    /// All of it is there, but not what was written.
    #[error("it is corrupt ({0})")]
    Corrupt(String),
}

impl Damage {
    pub(super) fn missing(shard: ShardId) -> Self {
        Self::Torn(format!("the part of shard {shard} is missing"))
    }

    pub(super) fn length(shard: ShardId, found: u64, expected: u64) -> Self {
        Self::Torn(format!("the part of shard {shard} has {found} of {expected} bytes"))
    }
}
