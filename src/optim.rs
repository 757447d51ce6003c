//! The optimizer: SGD with momentum and LARC over sharded tensors, its learning-rate schedule, its settings.

use serde::{Deserialize, Serialize};

pub mod larc;
pub mod schedule;

/// Settings of the optimizer. Learning rates are for the whole global batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Peak learning rate, reached at the end of the warm-up. With LARC a step is relative to a tensor's norm: short runs need 2 to 4.
    pub lr: f64,
    /// Learning rate of step 0, where the linear warm-up starts.
    pub start_lr: f64,
    /// Learning rate that the cosine falls to by the end of the run.
    pub final_lr: f64,
    /// Share of the run's steps that warm up, 0 up to but not including 1.
    pub warmup: f64,
    /// Share of the last step's direction that goes into the next, 0 up to but not including 1.
    pub momentum: f32,
    /// Weight decay, on every parameter (biases and batch norm too), folded in before LARC's scaling.
    pub weight_decay: f32,
    /// LARC's trust coefficient: length of a step over length of the tensor, at learning rate 1.
    pub trust: f64,
    /// LARC only shortens steps, to at most the plain learning rate (`true`), or sets their length (`false`).
    pub clip: bool,
    /// Keeps LARC's denominator above 0.
    pub eps: f64,
    /// Prototypes stay as they are for this many steps at the start.
    pub freeze_prototypes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lr: 3.0,
            start_lr: 0.0,
            final_lr: 0.003,
            warmup: 0.05,
            momentum: 0.9,
            weight_decay: 1e-6,
            trust: 1e-3,
            clip: false,
            eps: 1e-8,
            freeze_prototypes: 313,
        }
    }
}

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{key}` is {value}: it must be {want}")]
pub struct OutOfRange {
    /// The setting's name.
    pub key: &'static str,
    /// What it is.
    pub value: f64,
    /// What it may be.
    pub want: &'static str,
}

impl Config {
    /// Checks that every setting is a number in its range.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first that is not.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let rate = |value: f64| value >= 0.0 && value.is_finite();
        let settings = [
            ("lr", self.lr, rate(self.lr) && self.lr > 0.0, "above 0"),
            ("start_lr", self.start_lr, rate(self.start_lr), "0 or above"),
            ("final_lr", self.final_lr, rate(self.final_lr), "0 or above"),
            ("warmup", self.warmup, share(self.warmup), "0 or above and below 1 (a share of the run)"),
            ("momentum", f64::from(self.momentum), share(f64::from(self.momentum)), "0 or above and below 1"),
            ("weight_decay", f64::from(self.weight_decay), rate(f64::from(self.weight_decay)), "0 or above"),
            ("trust", self.trust, rate(self.trust) && self.trust > 0.0, "above 0"),
            ("eps", self.eps, rate(self.eps), "0 or above"),
        ];
        match settings.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((key, value, _, want)) => Err(OutOfRange { key, value, want }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_settings_and_refuses_unknown_ones() {
        let config: Config = toml::from_str("lr = 9.3\nwarmup = 0.1\nclip = true").unwrap();
        assert_eq!(config, Config { lr: 9.3, warmup: 0.1, clip: true, ..Config::default() });
        assert!(toml::from_str::<Config>("learning_rate = 1.0").unwrap_err().to_string().contains("learning_rate"));
    }

    #[test]
    fn names_the_setting_that_is_out_of_range() {
        assert_eq!(Config::default().check(), Ok(()));
        let refused = |config: Config| config.check().unwrap_err().to_string();
        assert_eq!(refused(Config { lr: 0.0, ..Config::default() }), "`lr` is 0: it must be above 0");
        assert!(refused(Config { warmup: 1.0, ..Config::default() }).contains("`warmup` is 1"));
        assert!(refused(Config { momentum: 1.0, ..Config::default() }).contains("`momentum`"));
        assert!(refused(Config { weight_decay: f32::NAN, ..Config::default() }).contains("`weight_decay` is NaN"));
    }
}
