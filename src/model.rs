//! RegNetY, projection head and prototypes as FSDP units: flat vectors and functions over them.

pub mod config;
pub mod cost;
pub mod family;
#[cfg(test)]
pub(crate) mod filler;
pub mod init;
pub mod layout;
pub mod ops;
pub mod pass;
pub mod regnet;

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use everstep_actors::protocol::ids::UnitId;
use everstep_actors::workload::{TensorKind, Unit};

pub use config::{Config, Recompute, Sync};
use layout::{Layout, Part, merged};
use ops::batch_norm::values;
use pass::{Norms, Pass};
pub use regnet::{Rounding, Trunk};

/// Weight of the newest batch in running statistics, as PyTorch's `momentum`.
pub const MOMENTUM: f32 = 0.1;

/// Why a model cannot be built: one sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The trunk.
    #[error(transparent)]
    Trunk(#[from] regnet::TrunkError),
    /// A key of `[model]`.
    #[error("model.{0}")]
    Range(&'static str),
}

/// The shape of a model: what its units are, never their values.
#[derive(Debug, Clone)]
pub struct Model {
    config: Config,
    layouts: Vec<Layout>,
    units: Vec<Unit>,
    width: usize,
    dim: usize,
    prototypes: usize,
}

impl Model {
    /// Lays out a model; allocates no weights.
    ///
    /// # Errors
    /// [`ModelError`] names the key that makes no network.
    pub fn new(config: &Config) -> Result<Self, ModelError> {
        let trunk = trunk(config)?;
        if config.head.is_empty() || config.head.iter().any(|&d| d == 0 || d > 1 << 20) {
            return Err(ModelError::Range("head must list at least one dimension, each 1 to 1048576"));
        }
        if config.prototypes < 2 || config.prototypes > 1 << 24 {
            return Err(ModelError::Range("prototypes must be 2 to 16777216"));
        }
        let width = match trunk.last() {
            Some(Part::Block(block)) => block.width,
            _ => config.stem_width,
        };
        let dims: Vec<usize> = std::iter::once(width).chain(config.head.iter().copied()).collect();
        let dim = dims[dims.len() - 1];
        let mut layouts: Vec<Layout> = merged(trunk, config.unit_min).into_iter().map(Layout::new).collect();
        layouts.push(Layout::new(vec![Part::Head { dims, norm: config.head_bn }]));
        layouts.push(Layout::new(vec![Part::Prototypes { dim, count: config.prototypes }]));
        let units = layouts.iter().map(|l| l.unit.clone()).collect();
        Ok(Self { config: config.clone(), layouts, units, width, dim, prototypes: config.prototypes })
    }

    /// What it was laid out from.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// The units in execution order: those of the trunk, the head, the prototypes.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }
    /// The units of the trunk with what they execute.
    pub fn trunk(&self) -> &[Layout] {
        &self.layouts[..self.layouts.len() - 2]
    }
    /// The head's unit.
    pub fn head(&self) -> &Layout {
        &self.layouts[self.layouts.len() - 2]
    }
    /// The prototypes' unit.
    pub fn prototypes(&self) -> &Layout {
        &self.layouts[self.layouts.len() - 1]
    }
    /// Id of the head's unit; the trunk's are those below it.
    pub fn head_id(&self) -> UnitId {
        UnitId(self.trunk().len() as u32)
    }
    /// Id of the prototypes' unit.
    pub fn prototypes_id(&self) -> UnitId {
        UnitId(self.trunk().len() as u32 + 1)
    }
    /// Width of the trunk's features.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Dimension of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }
    /// Number of prototypes.
    pub fn count(&self) -> usize {
        self.prototypes
    }

    /// Initial values of a slice of a unit, from the seed alone.
    ///
    /// # Panics
    /// When the unit does not exist or the range lies outside it.
    pub fn init(&self, seed: u64, unit: UnitId, range: Range<usize>) -> Vec<f32> {
        let layout = &self.layouts[unit.0 as usize];
        assert!(range.start <= range.end && range.end <= layout.unit.len(), "{range:?} lies outside {}", layout.unit.name);
        let mut out = Vec::with_capacity(range.len());
        for (spec, init) in layout.unit.tensors.iter().zip(&layout.init) {
            let (start, end) = (range.start.max(spec.offset), range.end.min(spec.range().end));
            if start < end {
                let row = spec.shape.iter().skip(1).product();
                out.extend(init::values(seed, &spec.name, *init, row, start - spec.offset..end - spec.offset));
            }
        }
        out
    }

    /// How much of its old value a buffer keeps in one step in which the trunk runs `passes` times (once for each
    /// size of crop): buffer ← decay · buffer + contribution.
    pub fn decay(&self, unit: UnitId, passes: usize) -> f32 {
        let passes = if unit < self.head_id() { passes } else { 1 };
        (1.0 - MOMENTUM).powi(passes as i32)
    }

    /// Pooled trunk features of images in evaluation mode.
    ///
    /// `weights`: the trunk's units (more are ignored); `images`: `[n, 3, height, width]` row-major. Gives `[n, width]`.
    ///
    /// # Panics
    /// When lengths do not fit the shapes.
    pub fn features(&self, weights: &[Arc<Vec<f32>>], images: Vec<f32>, shape: [usize; 4], device: &Device) -> Vec<f32> {
        let mut x = Tensor::<4>::from_data(TensorData::new(images, shape), device);
        for (layout, flat) in self.trunk().iter().zip(weights) {
            x = Pass::new(layout, flat, device, false, Norms::Running).trunk(x);
        }
        values(ops::pool(x))
    }
}

/// The parts of a trunk: the stem, then the blocks.
///
/// # Errors
/// As [`Model::new`].
pub fn trunk(config: &Config) -> Result<Vec<Part>, ModelError> {
    if config.stem_width == 0 || config.stem_width > 1 << 16 {
        return Err(ModelError::Range("stem_width must be 1 to 65536"));
    }
    if config.stem_stride == 0 || config.stem_stride > 4 {
        return Err(ModelError::Range("stem_stride must be 1 to 4"));
    }
    if !(config.se_ratio > 0.0 && config.se_ratio <= 1.0) {
        return Err(ModelError::Range("se_ratio must be above 0 and at most 1"));
    }
    let stages = config.trunk.stages(config.rounding)?;
    let blocks = regnet::blocks(&stages, config.stem_width, config.se_ratio);
    let stem = Part::Stem { width: config.stem_width, stride: config.stem_stride };
    Ok(std::iter::once(stem).chain(blocks.into_iter().map(Part::Block)).collect())
}

/// Trained values of a unit.
pub fn parameters(unit: &Unit) -> usize {
    unit.tensors.iter().filter(|t| t.kind == TensorKind::Parameter).map(everstep_actors::workload::TensorSpec::len).sum()
}

#[cfg(test)]
mod tests;
