//! `[batch]`: how the global batch is cut into lanes.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[batch]`: the global batch is `lanes` x `images_per_lane` images, fixed for the life of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Slices of the global batch; at most as many ranks can take part. Default 4.
    pub lanes: u32,
    /// Images of one lane in one step. Default 32.
    pub images_per_lane: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { lanes: 4, images_per_lane: 32 }
    }
}

impl Batch {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("batch.lanes", self.lanes, 1, 65_536)?;
        check::within("batch.images_per_lane", self.images_per_lane, 1, 65_536)
    }
}
