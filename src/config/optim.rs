//! `[optim]`: the optimizer and its schedule.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[optim]`: SGD with momentum and LARC; linear warm-up from `start_lr`, then a cosine down to `final_lr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// Learning rate at the end of the warm-up. Default 0.6.
    pub lr: f64,
    /// Learning rate of the first step. Default 0.
    pub start_lr: f64,
    /// Learning rate of the last step. Default 0.0006.
    pub final_lr: f64,
    /// Share of the run that warms up. Default 0.05.
    pub warmup: f64,
    /// Momentum. Default 0.9.
    pub momentum: f64,
    /// Weight decay, on every parameter. Default 1e-6.
    pub weight_decay: f64,
    /// LARC: a tensor's step is this times its norm over its gradient's norm. Default 0.001.
    pub trust: f64,
    /// LARC never raises the learning rate above `lr`. Default false.
    pub clip: bool,
    /// LARC: keeps the denominator above 0. Default 1e-8.
    pub eps: f64,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            lr: 0.6,
            start_lr: 0.0,
            final_lr: 0.0006,
            warmup: 0.05,
            momentum: 0.9,
            weight_decay: 1e-6,
            trust: 0.001,
            clip: false,
            eps: 1e-8,
        }
    }
}

impl Optim {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::positive("optim.lr", self.lr)?;
        check::within("optim.start_lr", self.start_lr, 0.0, self.lr)?;
        check::within("optim.final_lr", self.final_lr, 0.0, self.lr)?;
        check::fraction("optim.warmup", self.warmup)?;
        check::require(self.momentum >= 0.0 && self.momentum < 1.0, "optim.momentum", || {
            (format!("is {}", self.momentum), "use a value from 0 to below 1".into())
        })?;
        check::not_negative("optim.weight_decay", self.weight_decay)?;
        check::positive("optim.trust", self.trust)?;
        check::not_negative("optim.eps", self.eps)
    }
}
