//! `[checkpoint]`: when checkpoints are written and how many are kept.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[checkpoint]`: when checkpoints are written and how many are kept. One is always written at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Steps between checkpoints; 0 writes one at the end only. Default 100.
    pub every: u64,
    /// Checkpoints that are kept, newest first. Default 2, so that a corrupt one leaves another.
    pub keep: u32,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: 100, keep: 2 }
    }
}

impl Checkpoint {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("checkpoint.keep", self.keep, 1, 100_000)
    }
}
