//! `[swav]`: the loss.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[swav]`: swapped prediction of prototype assignments (Caron et al. 2020).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Swav {
    /// Temperature of the softmax over prototypes. Default 0.1.
    pub temperature: f64,
    /// Entropy regularisation of Sinkhorn; smaller is sharper. Default 0.05.
    pub epsilon: f64,
    /// Sinkhorn iterations. Default 3.
    pub iterations: u32,
    /// Codes are computed from the first this many crops of an image. Default 2.
    pub assign: u32,
    /// Steps for which the prototypes stay as they are. Default 313.
    pub freeze_prototypes: u64,
    /// Images of earlier batches, over all lanes, whose embeddings join Sinkhorn, for small batches; a multiple of the global batch. Default 0.
    pub queue: u32,
    /// Share of the run after which the queue is used (it is filled from the start). Default 0.075, SwAV's 15 of 200 epochs.
    pub queue_start: f64,
    /// What the queue begins with. Default `"empty"`.
    pub queue_begin: QueueBegin,
}

/// What the queue begins with, and so when it is first read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueBegin {
    /// Nothing: it is read once all of it has been filled, and not before `queue_start` (the swav repository's way).
    #[default]
    Empty,
    /// Random embeddings, uniform within sqrt(3 / dim): it is read from `queue_start` on, filled or not (vissl's way).
    Random,
}

impl Default for Swav {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            epsilon: 0.05,
            iterations: 3,
            assign: 2,
            freeze_prototypes: 313,
            queue: 0,
            queue_start: 0.075,
            queue_begin: QueueBegin::Empty,
        }
    }
}

impl Swav {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::positive("swav.temperature", self.temperature)?;
        check::positive("swav.epsilon", self.epsilon)?;
        check::within("swav.iterations", self.iterations, 1, 1000)?;
        check::within("swav.assign", self.assign, 1, 64)?;
        check::within("swav.queue", self.queue, 0, 65_536)?;
        check::fraction("swav.queue_start", self.queue_start)
    }
}
