//! The queue: embeddings of earlier steps that join Sinkhorn when a batch is small (Caron et al. 2020, §4.1).
//!
//! It is shard state like the weights: a unit of one buffer, `[lanes, crops, blocks, batch, dim]`. Each lane remembers its own
//! images. Step `s` writes block `s mod blocks`, so what a step may read and what it replaces follow from its number alone,
//! and a step that is aborted and run again does the same again.

use std::ops::Range;

use everstep_actors::protocol::ids::Step;
use everstep_actors::workload::{NewShard, Partials, ShardView, TensorKind, TensorSpec, Unit};

use crate::model::init;
use crate::model::layout::Init;

/// What of the config the queue depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Images remembered over all lanes: a multiple of the global batch.
    pub images: usize,
    /// The first step that reads the queue; before it the queue is only filled.
    pub start: u64,
    /// The first so many crops of an image are remembered: those that are assigned codes.
    pub crops: usize,
    /// The queue begins with random embeddings and is read from `start` on (vissl); otherwise it begins empty and is read once it has also been filled
    /// (the swav repository).
    pub random: bool,
}

/// Why a queue cannot be built: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not a whole number of blocks.
    #[error("swav.queue is {images}, no multiple of the global batch of {batch}: use 0 or a multiple of it")]
    Images {
        /// Images of the queue.
        images: usize,
        /// Images of a step.
        batch: usize,
    },
    /// Every lane's gradient of the unit is as long as the queue.
    #[error("swav.queue of {images} images makes {values} values, more than the {VALUES_MAX} that a queue may have: use a shorter one")]
    Long {
        /// Images of the queue.
        images: usize,
        /// Values of the unit.
        values: usize,
    },
}

/// Values of a queue at most: 256 MiB in each lane's gradient.
pub const VALUES_MAX: usize = 1 << 26;

/// The queue's shape.
#[derive(Debug, Clone)]
pub struct Queue {
    config: Config,
    unit: Unit,
    lanes: usize,
    blocks: usize,
    batch: usize,
    dim: usize,
}

impl Queue {
    /// The queue of `lanes` lanes of `batch` images with embeddings of `dim` values.
    ///
    /// # Errors
    /// [`QueueError`] when the queue is no whole number of global batches, or too long.
    pub fn new(config: Config, lanes: usize, batch: usize, dim: usize) -> Result<Self, QueueError> {
        let Config { images, crops, .. } = config;
        let global = lanes * batch;
        if images == 0 || global == 0 || !images.is_multiple_of(global) {
            return Err(QueueError::Images { images, batch: global });
        }
        let values = images.saturating_mul(crops).saturating_mul(dim);
        if values > VALUES_MAX {
            return Err(QueueError::Long { images, values });
        }
        let blocks = images / global;
        let shape = vec![lanes, crops, blocks, batch, dim];
        let tensor = TensorSpec { name: "queue.embeddings".into(), shape, offset: 0, kind: TensorKind::Buffer };
        let unit = Unit { name: "queue".into(), tensors: vec![tensor], row: dim };
        Ok(Self { config, unit, lanes, blocks, batch, dim })
    }

    /// The unit that holds the queue.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Initial values of a slice: zeros, or uniform within √(3 / dim), which gives embeddings a mean squared length of 1.
    pub fn init(&self, seed: u64, range: Range<usize>) -> Vec<f32> {
        let bound = (3.0 / self.dim as f64).sqrt();
        match self.config.random {
            true => init::values(seed, &self.unit.tensors[0].name, Init::Uniform(bound), self.dim, range),
            false => vec![0.0; range.len()],
        }
    }

    /// Whether `step` reads the queue: its time has come, and every slot holds something.
    pub fn read(&self, step: Step) -> bool {
        let filled = if self.config.random { 0 } else { self.blocks as u64 };
        step.0 >= self.config.start.max(filled)
    }

    /// Embeddings of a lane in one crop, `[blocks · batch, dim]`: their range in the unit.
    fn crop(&self, lane: usize, crop: usize) -> Range<usize> {
        let len = self.blocks * self.batch * self.dim;
        let start = (lane * self.config.crops + crop) * len;
        start..start + len
    }

    /// What lane `lane` remembers, `[crops · blocks · batch, dim]`, crop-major.
    pub fn entries<'a>(&self, lane: u32, flat: &'a [f32]) -> &'a [f32] {
        let lane = lane as usize;
        &flat[self.crop(lane, 0).start..self.crop(lane, self.config.crops - 1).end]
    }

    /// The block that a step replaces, as a range within [`Queue::crop`]'s.
    fn block(&self, step: Step) -> Range<usize> {
        let len = self.batch * self.dim;
        let start = (step.0 % self.blocks as u64) as usize * len;
        start..start + len
    }

    /// A lane's part of the unit's gradient: its new embeddings in its own slots of the step's block, zeros elsewhere.
    ///
    /// `embeddings`: `[crops · batch, dim]`, crop-major, the queue's crops first (more are ignored). They are multiplied by the number of
    /// lanes because the runtime takes the mean over lanes: with a power of two that changes no bit, otherwise the last at most.
    pub fn contribute(&self, step: Step, lane: u32, embeddings: &[f32]) -> Vec<f32> {
        let mut gradient = vec![0.0; self.unit.len()];
        let (block, lanes) = (self.block(step), self.lanes as f32);
        for (crop, embeddings) in embeddings.chunks_exact(block.len()).take(self.config.crops).enumerate() {
            let slots = &mut gradient[self.crop(lane as usize, crop)][block.clone()];
            slots.iter_mut().zip(embeddings).for_each(|(slot, z)| *slot = lanes * z);
        }
        gradient
    }

    /// No norms: nothing of the queue is trained. How many of the new embeddings are NaN or infinite.
    pub fn partials(&self, gradient: &[f32]) -> Partials {
        Partials { norms: Vec::new(), nonfinite: gradient.iter().filter(|value| !value.is_finite()).count() as u64 }
    }

    /// The shard after the step: the step's block replaced, all else as it was. A step whose gradient was `nonfinite` somewhere changes nothing.
    pub fn update(&self, step: Step, shard: ShardView<'_>, gradient: &[f32], nonfinite: u64) -> NewShard {
        let mut values = shard.values.to_vec();
        if nonfinite == 0 {
            let (block, crop) = (self.block(step), self.crop(0, 0).len());
            for first in (0..self.unit.len()).step_by(crop) {
                let start = (first + block.start).clamp(shard.start, shard.start + values.len()) - shard.start;
                let end = (first + block.end).clamp(shard.start, shard.start + values.len()) - shard.start;
                values[start..end].copy_from_slice(&gradient[start..end]);
            }
        }
        NewShard { values, slots: shard.slots.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use everstep_actors::protocol::ids::{ShardId, UnitId};
    use everstep_actors::protocol::tree;

    use super::*;

    fn queue(lanes: usize) -> Queue {
        Queue::new(Config { images: lanes * 2 * 3, start: 5, crops: 2, random: false }, lanes, 2, 4).unwrap()
    }

    /// The embedding values of a lane at a step: crop-major, with a third crop that is not remembered.
    fn embeddings(step: u64, lane: u32) -> Vec<f32> {
        (0..3 * 2 * 4).map(|i| 1.0 / (1.0 + i as f32 + 100.0 * step as f32 + 1000.0 * lane as f32)).collect()
    }

    /// The mean over lanes as the runtime takes it.
    fn mean(queue: &Queue, step: u64) -> Vec<f32> {
        let lanes = queue.lanes as u32;
        let parts: Vec<Vec<f32>> = (0..lanes).map(|lane| queue.contribute(Step(step), lane, &embeddings(step, lane))).collect();
        let value = |i: usize| tree::sum(&parts.iter().map(|part| part[i]).collect::<Vec<_>>()).unwrap() * (1.0 / lanes as f32);
        (0..queue.unit.len()).map(value).collect()
    }

    /// The queue after `steps` steps, cut into shards of `shard` values.
    fn after(queue: &Queue, steps: u64, shard: usize) -> Vec<f32> {
        let id = ShardId { unit: UnitId(0), index: 0 };
        (0..steps).fold(vec![0.0; queue.unit.len()], |state, step| {
            let gradient = mean(queue, step);
            let piece = |(i, values): (usize, &[f32])| {
                let view = ShardView { id, start: i * shard, values, slots: &[] };
                queue.update(Step(step), view, &gradient[i * shard..i * shard + values.len()], 0).values
            };
            state.chunks(shard).enumerate().flat_map(piece).collect()
        })
    }

    #[test]
    fn holds_the_newest_steps_block_by_block() {
        let queue = queue(4);
        let state = after(&queue, 5, usize::MAX >> 8);
        for lane in 0..4 {
            let entries = queue.entries(lane, &state);
            for crop in 0..2 {
                for (block, step) in [(0, 3), (1, 4), (2, 2)] {
                    let rows = &entries[(crop * 3 + block) * 8..][..8];
                    assert_eq!(rows, &embeddings(step, lane)[crop * 8..][..8], "lane {lane}, crop {crop}, block {block}");
                }
            }
        }
        let begun = after(&queue, 1, 4);
        assert_eq!(queue.entries(3, &begun)[..8], embeddings(0, 3)[..8]);
        assert!(queue.entries(3, &begun)[8..24].iter().all(|v| *v == 0.0));
    }

    #[test]
    fn shards_of_any_size_make_the_same_queue() {
        let queue = queue(4);
        let whole = after(&queue, 7, usize::MAX >> 8);
        for shard in [1, 4, 12, 20, 52, 100] {
            assert_eq!(after(&queue, 7, shard), whole, "{shard}");
        }
    }

    #[test]
    fn three_lanes_lose_the_last_bit_at_most() {
        let queue = queue(3);
        let state = after(&queue, 3, usize::MAX >> 8);
        for lane in 0..3 {
            for (got, want) in queue.entries(lane, &state)[..8].iter().zip(&embeddings(0, lane)) {
                assert!((got - want).abs() <= want * f32::EPSILON, "{got} {want}");
            }
        }
    }

    #[test]
    fn is_read_when_full_and_from_its_start_on() {
        let reads = |start, random| {
            let queue = Queue::new(Config { images: 24, start, crops: 2, random }, 4, 2, 4).unwrap();
            (0..9).find(|step| queue.read(Step(*step)))
        };
        assert_eq!((reads(0, false), reads(5, false), reads(100, false)), (Some(3), Some(5), None));
        assert_eq!((reads(0, true), reads(2, true), reads(5, true)), (Some(0), Some(2), Some(5)), "a random one needs no filling");
    }

    #[test]
    fn begins_empty_or_with_embeddings_of_about_length_one() {
        let config = Config { images: 4096, start: 0, crops: 2, random: true };
        let queue = Queue::new(config, 4, 64, 48).unwrap();
        let whole = queue.init(7, 0..queue.unit.len());
        assert_eq!(queue.init(7, 100..900), whole[100..900]);
        assert!(whole.iter().all(|v| v.abs() <= 0.25), "within the root of 3 / 48");
        let square = whole.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 8192.0;
        assert!((square - 1.0).abs() < 0.01, "{square}");
        let empty = Queue::new(Config { random: false, ..config }, 4, 64, 48).unwrap();
        assert!(empty.init(7, 0..500).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn a_step_that_is_not_finite_changes_nothing() {
        let queue = queue(4);
        let state = after(&queue, 4, usize::MAX >> 8);
        let mut gradient = mean(&queue, 4);
        gradient[9] = f32::NAN;
        assert_eq!(queue.partials(&gradient).nonfinite, 1);
        let view = ShardView { id: ShardId { unit: UnitId(0), index: 0 }, start: 0, values: &state, slots: &[] };
        assert_eq!(queue.update(Step(4), view, &gradient, 1).values, state);
    }

    #[test]
    fn refuses_lengths_that_do_not_fit() {
        let refused = |images, dim| Queue::new(Config { images, start: 0, crops: 2, random: false }, 4, 8, dim).unwrap_err().to_string();
        assert_eq!(refused(48, 4), "swav.queue is 48, no multiple of the global batch of 32: use 0 or a multiple of it");
        assert!(refused(32 << 20, 4).contains("more than the 67108864 that a queue may have"));
        assert!(refused(0, 4).contains("no multiple"));
    }
}
