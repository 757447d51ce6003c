//! `[run]`: how long, and from which seed.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[run]`: how long, and from which seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Decides the initial weights, the order of the samples and every random choice of the augmentation. Default 0.
    pub seed: u64,
    /// Optimizer steps of the run. Give either this or `passes`.
    pub steps: Option<u64>,
    /// Sweeps over the data; becomes steps once the size of the data is known.
    pub passes: Option<f64>,
}

impl Run {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("run.seed", self.seed, 0, i64::MAX as u64)?;
        check::exactly_one(&[("run.steps", self.steps.is_some()), ("run.passes", self.passes.is_some())])?;
        if let Some(steps) = self.steps {
            check::within("run.steps", steps, 1, 1_000_000_000)?;
        }
        match self.passes {
            Some(passes) => check::require(passes > 0.0 && passes <= 1e6, "run.passes", || {
                (format!("is {passes}"), "use a value above 0, at most 1000000".into())
            }),
            None => Ok(()),
        }
    }
}
