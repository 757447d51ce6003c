//! SGD with momentum and LARC (You et al. 2017, in apex's and vissl's form) on shards.
//!
//! A shard is a slice of its unit's flat vector and may cut tensors; LARC needs norms of whole tensors, and nothing else of other shards.
//! So a step is [`partials`] on each shard, a canonical sum over shards, then [`update`] on each shard.
//!
//! With p a parameter tensor, g its gradient, ‖·‖ over the whole tensor:
//!
//! a = trust ‖p‖ / (‖g‖ + wd ‖p‖ + eps), with `clip` min(a / lr, 1); g' = a (g + wd p), but g' = g where ‖p‖ or ‖g‖ is 0;
//! m ← momentum · m + g'; p ← p − lr · m
//!
//! (m starts at 0, which gives PyTorch's first step, m = g'.) Norms are f64, and their bits depend on where shards cut:
//! a run's shards are fixed for its life, so its bits are too.

use std::ops::Range;

use everstep_actors::workload::{NewShard, Partials, ShardView, TensorSpec};

use super::Config;
use crate::simd::widest;
use crate::swav::prototypes;

/// Accumulators of a sum of squares.
const WIDTH: usize = 16;

/// How a step changes a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// A parameter: LARC and momentum.
    Parameter,
    /// Prototypes, rows of `dim` values: as a parameter, but frozen in the first steps, and rows are scaled to length 1 after each step.
    Prototypes {
        /// Length of a row; shards end on rows.
        dim: usize,
    },
    /// State that the step computes: r ← decay · r + contribution (which comes in the gradient).
    Buffer {
        /// Share of the old value that stays.
        decay: f32,
    },
}

/// One step of one unit.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// Settings.
    pub config: &'a Config,
    /// The step, from 0.
    pub step: u64,
    /// The step's learning rate.
    pub lr: f64,
    /// The unit's tensors.
    pub tensors: &'a [TensorSpec],
    /// A rule for each tensor.
    pub rules: &'a [Rule],
    /// (‖p‖², ‖g‖²) of each tensor over all shards.
    pub norms: &'a [(f64, f64)],
    /// Non-finite gradient values in the whole model.
    pub nonfinite: u64,
}

/// What a step made of a shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// The new version.
    pub shard: NewShard,
    /// The gradient was not finite somewhere in the model: the new version is the old one.
    pub skipped: bool,
}

/// The tensors that a shard touches: index, and range within the shard.
fn touched(tensors: &[TensorSpec], shard: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    tensors.iter().enumerate().filter_map(move |(index, tensor)| {
        let whole = tensor.range();
        let range = whole.start.max(shard.start)..whole.end.min(shard.end);
        (range.start < range.end).then(|| (index, range.start - shard.start..range.end - shard.start))
    })
}

/// Sums of squares of each tensor that the shard touches, and the count of non-finite gradient values.
///
/// `shard` is its range in the unit's flat vector. Each sum goes over the shard's slice of the tensor, value `i` of the slice to
/// accumulator `i mod 16`, the accumulators then added pairwise, halves first: f64 all through, one order on any machine.
///
/// # Panics
/// If `values` or `gradient` is not as long as `shard`.
pub fn partials(tensors: &[TensorSpec], shard: Range<usize>, values: &[f32], gradient: &[f32]) -> Partials {
    assert!(values.len() == shard.len() && gradient.len() == shard.len(), "values and gradient are as long as the shard");
    let mut covered = 0;
    let norms = touched(tensors, shard).map(|(index, range)| {
        covered += range.len();
        (index as u32, squares(&values[range.clone()]), squares(&gradient[range]))
    });
    let norms: Vec<(u32, f64, f64)> = norms.collect();
    // Squares of finite f32 have a finite sum in f64: only one that is not has anything to count.
    let finite = covered == gradient.len() && norms.iter().all(|(_, _, squares)| squares.is_finite());
    let nonfinite = if finite { 0 } else { gradient.iter().map(|g| u64::from(!g.is_finite())).sum() };
    Partials { norms, nonfinite }
}

fn squares(values: &[f32]) -> f64 {
    widest(
        #[inline(always)]
        || {
            let (chunks, tail) = values.as_chunks::<WIDTH>();
            let mut parts = [0.0f64; WIDTH];
            for chunk in chunks {
                for j in 0..WIDTH {
                    let value = f64::from(chunk[j]);
                    parts[j] += value * value;
                }
            }
            for (part, value) in parts.iter_mut().zip(tail) {
                *part += f64::from(*value) * f64::from(*value);
            }
            let mut width = WIDTH;
            while width > 1 {
                width /= 2;
                for i in 0..width {
                    parts[i] += parts[i + width];
                }
            }
            parts[0]
        },
    )
}

/// The shard's new version: [`Rule`] by tensor. Pure. Slot 0 is the momentum; buffers leave theirs alone.
///
/// # Panics
/// If lengths do not fit, there is no slot, or the shard cuts a row of prototypes.
pub fn update(update: &Update<'_>, shard: ShardView<'_>, gradient: &[f32]) -> Updated {
    assert!(!shard.slots.is_empty() && shard.slots[0].len() == shard.values.len(), "the momentum is as long as the shard");
    assert!(gradient.len() == shard.values.len(), "the gradient is as long as the shard");
    assert!(update.rules.len() == update.tensors.len() && update.norms.len() == update.tensors.len(), "a rule and norms for each tensor");
    if update.nonfinite > 0 {
        return Updated { shard: NewShard { values: shard.values.to_vec(), slots: shard.slots.to_vec() }, skipped: true };
    }
    let mut new = Grown { values: Vec::with_capacity(gradient.len()), momentum: Vec::with_capacity(gradient.len()), old: shard };
    for (index, range) in touched(update.tensors, shard.start..shard.start + shard.values.len()) {
        let rule = update.rules[index];
        let factors = direction(update.config, update.lr, update.norms[index]);
        new.copy(range.start);
        let block = match rule {
            Rule::Prototypes { dim } => {
                let start = shard.start + range.start - update.tensors[index].offset;
                assert!(start.is_multiple_of(dim), "shards of prototypes start on rows");
                (BLOCK / dim).max(1) * dim
            }
            _ => BLOCK,
        };
        for start in range.clone().step_by(block) {
            let block = start..range.end.min(start + block);
            let (values, momentum) = new.copy(block.end);
            let gradient = &gradient[block];
            match rule {
                Rule::Parameter => descend(update, factors, values, momentum, gradient),
                Rule::Prototypes { dim } => {
                    if update.step >= update.config.freeze_prototypes {
                        descend(update, factors, values, momentum, gradient);
                    }
                    prototypes::renormalise(values, dim);
                }
                Rule::Buffer { decay } => values.iter_mut().zip(gradient).for_each(|(r, c)| *r = decay * *r + c),
            }
        }
    }
    new.copy(gradient.len());
    let slots = std::iter::once(new.momentum).chain(shard.slots[1..].iter().cloned()).collect();
    Updated { shard: NewShard { values: new.values, slots }, skipped: false }
}

/// Values that are copied and changed at a time: what was read for the copy is still near.
const BLOCK: usize = 4096;

/// A new version that is as long as it has been made.
struct Grown<'a> {
    values: Vec<f32>,
    momentum: Vec<f32>,
    old: ShardView<'a>,
}

impl Grown<'_> {
    /// Copies the old version up to a value; returns what came.
    fn copy(&mut self, end: usize) -> (&mut [f32], &mut [f32]) {
        let start = self.values.len();
        self.values.extend_from_slice(&self.old.values[start..end]);
        self.momentum.extend_from_slice(&self.old.slots[0][start..end]);
        (&mut self.values[start..], &mut self.momentum[start..])
    }
}

/// (factor of the gradient, factor of the weights) that make the direction of a tensor.
fn direction(config: &Config, lr: f64, (values, gradient): (f64, f64)) -> (f32, f32) {
    let (values, gradient) = (values.sqrt(), gradient.sqrt());
    if values == 0.0 || gradient == 0.0 {
        return (1.0, 0.0);
    }
    let decay = f64::from(config.weight_decay);
    let length = config.trust * values / (gradient + decay * values + config.eps);
    let scale = if config.clip { (length / lr).min(1.0) } else { length };
    (scale as f32, (scale * decay) as f32)
}

fn descend(update: &Update<'_>, (scale, decay): (f32, f32), values: &mut [f32], momentum: &mut [f32], gradient: &[f32]) {
    let (keep, lr) = (update.config.momentum, update.lr as f32);
    widest(
        #[inline(always)]
        || {
            for ((p, m), g) in values.iter_mut().zip(momentum).zip(gradient) {
                *m = keep * *m + (scale * g + decay * *p);
                *p -= lr * *m;
            }
        },
    );
}

#[cfg(test)]
mod tests;
