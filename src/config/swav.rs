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
    /// Features of earlier batches that join Sinkhorn, for small batches; a multiple of the global batch. Default 0.
    pub queue: u32,
}

impl Default for Swav {
    fn default() -> Self {
        Self { temperature: 0.1, epsilon: 0.05, iterations: 3, assign: 2, freeze_prototypes: 313, queue: 0 }
    }
}

impl Swav {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::positive("swav.temperature", self.temperature)?;
        check::positive("swav.epsilon", self.epsilon)?;
        check::within("swav.iterations", self.iterations, 1, 1000)?;
        check::within("swav.assign", self.assign, 1, 64)?;
        check::within("swav.queue", self.queue, 0, 16_777_216)
    }
}
