//! The recipe: everything that defines a run, as a typed TOML file.
//!
//! One section a file under `config/`. [`Recipe::load`] reads the file, lays the command line's overrides over it and checks
//! the whole; every complaint is one sentence with file, line, column, key and remedy. Every key has a default except the data.

use serde::{Deserialize, Serialize};

pub use batch::Batch;
pub use checkpoint::Checkpoint;
pub use cluster::Cluster;
pub use compare::{Difference, differences, may_differ};
pub use crops::{Crops, Group, Jitter};
pub use data::{Data, Make};
pub use device::{Device, Named, Precision, named};
pub use error::{ConfigError, Invalid};
pub use eval::Eval;
pub use guard::{Audit, Guard, Policy};
pub use load::Override;
pub use memory::{Memory, Recompute};
#[cfg(test)]
pub(crate) use model::TRUNKS;
pub use model::{Design, Model, Rounding, Stages, Sync};
pub use optim::Optim;
pub use preemption::{MetadataUrls, NoticeSource, Preemption};
pub use quantity::{bytes, flops, link};
pub use run::Run;
pub use swav::{QueueBegin, Swav};

mod batch;
mod check;
mod checkpoint;
mod cluster;
mod compare;
mod crops;
mod data;
mod device;
mod error;
mod eval;
mod guard;
mod load;
mod memory;
mod model;
mod optim;
mod places;
mod preemption;
mod quantity;
mod run;
mod swav;

/// Everything that defines a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// How long, and from which seed.
    pub run: Run,
    /// The images.
    pub data: Data,
    /// How the global batch is cut into lanes.
    pub batch: Batch,
    /// The crops of an image and their augmentation.
    pub crops: Crops,
    /// Trunk, head and prototypes.
    pub model: Model,
    /// The loss.
    pub swav: Swav,
    /// The optimizer and its schedule.
    pub optim: Optim,
    /// The ranks that share the work.
    pub cluster: Cluster,
    /// When checkpoints are written and how many are kept.
    pub checkpoint: Checkpoint,
    /// How the trunk is examined during the run.
    pub eval: Eval,
    /// What a rank keeps between forward and backward.
    pub memory: Memory,
    /// What the ranks compute on.
    pub device: Device,
    /// Who is asked whether this machine is about to be taken away.
    pub preemption: Preemption,
    /// What is done about steps whose result cannot be used.
    pub guard: Guard,
    /// Which steps are computed twice.
    pub audit: Audit,
}

impl Recipe {
    /// Checks every section, then what holds between sections.
    ///
    /// # Errors
    /// The first value that cannot work, with its key and a remedy.
    pub fn check(&self) -> Result<(), Invalid> {
        self.run.check()?;
        self.data.check()?;
        self.batch.check()?;
        self.crops.check()?;
        self.model.check()?;
        self.swav.check()?;
        self.optim.check()?;
        self.cluster.check()?;
        self.checkpoint.check()?;
        self.eval.check()?;
        self.memory.check()?;
        self.device.check()?;
        self.preemption.check()?;
        self.guard.check()?;
        self.check_across()
    }

    fn check_across(&self) -> Result<(), Invalid> {
        let lanes = self.batch.lanes;
        check::require(self.cluster.ranks <= lanes, "cluster.ranks", || {
            (
                format!("is {}, more than the {lanes} lanes of `batch.lanes`", self.cluster.ranks),
                format!("use at most {lanes} ranks, or cut the batch into more lanes"),
            )
        })?;
        if let Sync::Group(group) = self.model.sync {
            check::require(lanes.is_multiple_of(group), "model.sync", || {
                (
                    format!("makes groups of {group} lanes, which does not divide the {lanes} lanes of `batch.lanes`"),
                    "use a divisor of `batch.lanes`, or \"all\"".into(),
                )
            })?;
        }
        let total_crops = self.crops.group.iter().map(|group| u64::from(group.count)).sum::<u64>();
        check::require(u64::from(self.swav.assign) <= total_crops, "swav.assign", || {
            (format!("is {}, more than the {total_crops} crops of an image", self.swav.assign), "use 2, or add crops".into())
        })?;
        if let Some(steps) = self.run.steps {
            check::require(self.swav.freeze_prototypes < steps, "swav.freeze_prototypes", || {
                (
                    format!("is {}, so the prototypes would be frozen for all of the {steps} steps", self.swav.freeze_prototypes),
                    "use a small part of the steps".into(),
                )
            })?;
        }
        let batch = u64::from(lanes) * u64::from(self.batch.images_per_lane);
        check::require(u64::from(self.swav.queue).is_multiple_of(batch), "swav.queue", || {
            (format!("is {}, no multiple of the global batch of {batch}", self.swav.queue), "use 0 or a multiple of it".into())
        })
    }

    /// Images of one optimizer step.
    pub fn images_per_step(&self) -> u64 {
        u64::from(self.batch.lanes) * u64::from(self.batch.images_per_lane)
    }

    /// Optimizer steps of the run over a data set of `images`; a pass drops its last incomplete batch.
    ///
    /// # Errors
    /// The data set does not fill one batch.
    pub fn steps(&self, images: u64) -> Result<u64, Invalid> {
        let per_pass = images / self.images_per_step().max(1);
        check::require(per_pass > 0, "batch.lanes", || {
            (
                format!("x `batch.images_per_lane` is {}, but the data holds only {images} images", self.images_per_step()),
                "use more images or a smaller batch".into(),
            )
        })?;
        let by_passes = || (self.run.passes.unwrap_or_default() * per_pass as f64).ceil() as u64;
        Ok(self.run.steps.unwrap_or_else(by_passes))
    }

    /// The complete recipe as TOML, defaults written out: the copy that is saved with the run and can be loaded again.
    ///
    /// # Errors
    /// A value that TOML cannot hold (an integer above 2^63 - 1); a checked recipe has none.
    pub fn resolved(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|error| ConfigError::Unwritable { why: error.to_string() })
    }

    /// BLAKE3 digest, in hexadecimal, of what decides the mathematics: two recipes with one digest train the same weights.
    pub fn digest(&self) -> String {
        compare::digest(self)
    }
}

#[cfg(test)]
mod tests;
