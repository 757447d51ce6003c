//! `[guard]` and `[audit]`: what is done about results that may be wrong.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[guard]`: steps whose gradients are not finite, or whose loss is beyond a bound. They never change weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// A step is bad if its loss, the mean over lanes, is beyond this; without it only gradients count that are not finite. Default none.
    pub loss_max: Option<f64>,
    /// `skip`: all ranks skip the update. `recheck`: the run first goes back to the version before the step and computes it again with each
    /// lane on another rank, and skips only if it comes out the same. `stop`: the run ends after a checkpoint. Default `skip`.
    pub on_bad_step: Policy,
    /// So many bad steps in a row end the run after a checkpoint. Default 20.
    pub bad_steps_max: u32,
}

/// What becomes of a bad step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Its update is skipped.
    Skip,
    /// It is computed again by others first.
    Recheck,
    /// The run ends.
    Stop,
}

impl Default for Guard {
    fn default() -> Self {
        Self { loss_max: None, on_bad_step: Policy::Skip, bad_steps_max: 20 }
    }
}

impl Guard {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        self.loss_max.map_or(Ok(()), |bound| check::positive("guard.loss_max", bound))?;
        check::within("guard.bad_steps_max", self.bad_steps_max, 1, 1_000_000)
    }
}

/// `[audit]`: steps that are computed twice and compared bit for bit, each lane by another rank the second time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Steps between audits; each costs the time of a step and a change of lanes. 0 for never, which is the default.
    pub every: u64,
}
