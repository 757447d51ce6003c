//! SwAV on RegNetY as a [`Workload`]: what the elastic runtime trains.

pub mod lane;
pub mod link;
pub mod loss_scale;
pub mod multicrop;
pub mod objective;
pub mod optimizer;
pub mod precision;
pub mod queue;
mod trunk;

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;
use everstep_actors::protocol::ids::{Step, UnitId};
use everstep_actors::workload::{Aborted, Batch, LaneError, LaneReport, NewShard, Partials, Peers, ShardView, Sums, Unit, Wire, Workload};
use tokio::sync::oneshot;

use crate::data::LaneCrops;
use crate::model::layout::Part;
use crate::model::{Config, Model, ModelError, Recompute};
use crate::planning::footprint;
use crate::planning::recompute::{self, Segment};
use crate::weights::Weights;
use loss_scale::LossScale;
use multicrop::Multicrop;
use precision::Precision;
use queue::{Queue, QueueError};

/// Scores of one lane.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// `[crops · batch, prototypes]`, crop-major.
    pub values: &'a [f32],
    /// Scores of the queue's embeddings, `[assigned crops · slots, prototypes]`, crop-major. Empty in steps that do not read the queue.
    pub queue: &'a [f32],
    /// Crops of an image, all sizes together.
    pub crops: usize,
    /// Images of the lane.
    pub batch: usize,
    /// Prototypes.
    pub prototypes: usize,
    /// Lanes of the run.
    pub lanes: u32,
}

/// A lane's loss and its derivative.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The lane's mean loss.
    pub loss: f32,
    /// d loss / d scores, shaped like the scores.
    pub d_scores: Vec<f32>,
}

/// Sums a vector over all lanes through the Sinkhorn aggregators.
pub type SinkhornSum<'a> = dyn FnMut(Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> + 'a;

/// From scores to loss: SwAV's codes and cross entropy.
pub trait Objective: Send + Sync + 'static {
    /// The lane's loss. Every lane makes the same calls of `sum` in the same order.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    fn loss(&self, step: Step, scores: Scores<'_>, sum: &mut SinkhornSum<'_>) -> Result<Loss, Aborted>;
}

/// From mean gradients to new values.
pub trait Optimizer: Send + Sync + 'static {
    /// Slots a value (momentum: 1).
    fn slots(&self) -> usize;
    /// Partial sums of one shard of `unit`.
    fn partials(&self, unit: &Unit, shard: ShardView<'_>, gradient: &[f32]) -> Partials;
    /// The shard's new version. Buffers become decay · buffer + gradient slot.
    fn update(&self, step: Step, unit: &Unit, decay: f32, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard;
}

/// What of the config a lane's arithmetic depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Section `[model]`.
    pub model: Config,
    /// Which units are computed again in the backward pass.
    pub recompute: Recompute,
    /// Where the initial weights come from.
    pub seed: u64,
    /// Lanes of the run.
    pub lanes: u32,
    /// Images of a lane.
    pub batch: usize,
    /// The crops of an image.
    pub crops: Multicrop,
    /// The queue for small batches.
    pub queue: Option<queue::Config>,
    /// Kinds of numbers.
    pub precision: Precision,
}

/// Why a job cannot be built: one sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JobError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// No memory plan fits.
    #[error(
        "memory.budget leaves {budget} bytes for a lane, but a step of one needs {least} with the most recomputation: use more ranks, fewer images_per_lane, or a larger budget"
    )]
    Memory {
        /// Bytes a lane may take.
        budget: u64,
        /// Bytes that the smallest plan takes.
        least: u64,
    },
}

impl Settings {
    /// How often the trunk runs in one step.
    pub fn passes(&self) -> usize {
        self.crops.passes(self.batch).len()
    }
}

/// The memory plan of a lane.
///
/// # Errors
/// [`JobError::Memory`] when the budget is smaller than the smallest plan.
fn memory_plan(settings: &Settings, model: &Model) -> Result<Vec<Segment>, JobError> {
    let count = model.trunk().len();
    match settings.recompute {
        Recompute::Always => Ok(recompute::always(count)),
        Recompute::Never => Ok(recompute::never(count)),
        Recompute::Segments(segments) => Ok(recompute::min_max(
            &footprint::trunk(model.trunk(), &settings.crops.passes(settings.batch), settings.precision.activation_bytes()),
            segments,
        )),
        Recompute::Within(budget) => {
            let units = footprint::trunk(model.trunk(), &settings.crops.passes(settings.batch), settings.precision.activation_bytes());
            let head = footprint::head(model, settings.crops.crops() * settings.batch);
            let least = || JobError::Memory { budget, least: recompute::least_memory(&units, head) };
            recompute::least_work(&units, head, budget).ok_or_else(least)
        }
    }
}

/// Weights that a run begins from.
struct Initial {
    weights: Weights,
    /// The unit that was read last: its shards are asked for one after the other.
    last: Mutex<Option<(UnitId, Arc<Vec<f32>>)>>,
}

impl Initial {
    /// The vector of a unit, if the file has one.
    ///
    /// # Panics
    /// When the file, which was found whole when the job was made, cannot be read any more.
    fn unit(&self, id: UnitId) -> Option<Arc<Vec<f32>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((unit, values)) = &*last
            && *unit == id
        {
            return Some(values.clone());
        }
        let values = self.weights.unit(id).unwrap_or_else(|error| panic!("{error}"))?;
        let values = Arc::new(values);
        *last = Some((id, values.clone()));
        Some(values)
    }
}

/// SwAV on RegNetY.
pub struct Swav {
    settings: Settings,
    model: Model,
    trunk: Vec<Part>,
    plan: Vec<Segment>,
    initial: Option<Initial>,
    queue: Option<Queue>,
    scale: Option<LossScale>,
    units: Vec<Unit>,
    objective: Box<dyn Objective>,
    optimizer: Box<dyn Optimizer>,
    device: Device,
}

impl std::fmt::Debug for Swav {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swav").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Swav {
    /// A job on `device`.
    ///
    /// # Errors
    /// [`JobError`] names the key that makes no network or no queue.
    pub fn new(settings: Settings, objective: Box<dyn Objective>, optimizer: Box<dyn Optimizer>, device: Device) -> Result<Self, JobError> {
        let model = Model::new(&settings.model)?;
        let queue = settings.queue.map(|config| Queue::new(config, settings.lanes as usize, settings.batch, model.dim())).transpose()?;
        let scale = settings.precision.scales_loss().then(LossScale::default);
        let more = queue.as_ref().map(Queue::unit).into_iter().chain(scale.as_ref().map(LossScale::unit));
        let units = model.units().iter().chain(more).cloned().collect();
        let plan = memory_plan(&settings, &model)?;
        let trunk = model.trunk().iter().flat_map(|layout| layout.parts.clone()).collect();
        Ok(Self { settings, model, trunk, plan, initial: None, queue, scale, units, objective, optimizer, device })
    }

    /// The same job, beginning from a file of weights; what it does not hold begins from the seed.
    pub fn beginning_from(mut self, weights: Weights) -> Self {
        self.initial = Some(Initial { weights, last: Mutex::new(None) });
        self
    }

    /// The shape of the model.
    pub fn model(&self) -> &Model {
        &self.model
    }
    /// What the arithmetic depends on.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// Which units of the trunk are computed again in the backward pass, first to last.
    pub fn plan(&self) -> &[Segment] {
        &self.plan
    }
    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn unit(&self, id: UnitId) -> &Unit {
        &self.units[id.0 as usize]
    }

    /// The queue with its unit's id, which comes after the model's.
    fn queue(&self) -> Option<(UnitId, &Queue)> {
        self.queue.as_ref().map(|queue| (UnitId(self.model.units().len() as u32), queue))
    }

    /// The loss scale with its unit's id, which comes last.
    fn scale(&self) -> Option<(UnitId, &LossScale)> {
        self.scale.as_ref().map(|scale| (UnitId(self.units.len() as u32 - 1), scale))
    }

    /// The loss scale, if `unit` is its unit.
    fn scale_of(&self, unit: UnitId) -> Option<&LossScale> {
        self.scale().filter(|(id, _)| *id == unit).map(|(_, scale)| scale)
    }

    /// The queue, if `unit` is its unit.
    fn queue_of(&self, unit: UnitId) -> Option<&Queue> {
        self.queue().filter(|(id, _)| *id == unit).map(|(_, queue)| queue)
    }
}

impl Workload for Swav {
    fn units(&self) -> &[Unit] {
        &self.units
    }
    fn lanes(&self) -> u32 {
        self.settings.lanes
    }
    fn slots(&self) -> usize {
        self.optimizer.slots()
    }
    fn wire(&self, unit: UnitId) -> Wire {
        // Prototypes, queue and loss scale are few values that others depend on: f32.
        if unit <= self.model.head_id() { self.settings.precision.wire(self.unit(unit)) } else { Wire::default() }
    }
    fn init(&self, unit: UnitId, range: Range<usize>) -> Vec<f32> {
        if let Some(scale) = self.scale_of(unit) {
            return scale.init(range);
        }
        match self.queue_of(unit) {
            Some(queue) => queue.init(self.settings.seed, range),
            None => {
                let read = self.initial.as_ref().and_then(|initial| initial.unit(unit));
                read.map_or_else(|| self.model.init(self.settings.seed, unit, range.clone()), |values| values[range.clone()].to_vec())
            }
        }
    }

    /// Runs the lane on a thread of its own, because collective calls inside the backward pass wait for other lanes:
    /// a pool with fewer threads than lanes would wait for ever.
    async fn lane(self: Arc<Self>, step: Step, batch: Batch, peers: Peers) -> Result<LaneReport, LaneError> {
        let name = format!("lane-{}", peers.lane().0);
        let lane = peers.lane();
        let (done, result) = oneshot::channel();
        let work = move || {
            let report = catch_unwind(AssertUnwindSafe(|| self.step(step, batch, peers)));
            // Nobody waits any more when the step was dropped: that is no error of the lane.
            let _ = done.send(report.unwrap_or_else(|panic| Err(failed(lane.0, step, &*panic))));
        };
        std::thread::Builder::new().name(name).spawn(work).map_err(|error| {
            LaneError::Failed(format!("{lane} cannot start a thread ({error}); raise the limit of threads or use fewer lanes"))
        })?;
        result.await.unwrap_or_else(|_| Err(LaneError::Failed(format!("{lane} ended without a result at step {}", step.0))))
    }

    fn partials(&self, shard: ShardView<'_>, gradient: &[f32]) -> Partials {
        if let Some(scale) = self.scale_of(shard.id.unit) {
            return scale.partials();
        }
        match self.queue_of(shard.id.unit) {
            Some(queue) => queue.partials(gradient),
            None => self.optimizer.partials(self.unit(shard.id.unit), shard, gradient),
        }
    }

    fn update(&self, step: Step, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard {
        if let Some(queue) = self.queue_of(shard.id.unit) {
            return queue.update(step, shard, gradient, sums.nonfinite);
        }
        if let Some(scale) = self.scale_of(shard.id.unit) {
            return scale.update(shard, sums.nonfinite);
        }
        let decay = self.model.decay(shard.id.unit, self.settings.passes());
        self.optimizer.update(step, self.unit(shard.id.unit), decay, shard, gradient, sums)
    }
}

impl Swav {
    /// One lane's step on the calling thread.
    ///
    /// # Errors
    /// [`LaneError::Aborted`] once the epoch has ended; [`LaneError::Failed`] for a batch that does not fit.
    pub fn step(&self, step: Step, batch: Batch, peers: Peers) -> Result<LaneReport, LaneError> {
        let lane = peers.lane();
        let crops = batch.data.downcast::<LaneCrops>().map_err(|_| LaneError::Failed(format!("{lane} got a batch that holds no crops")))?;
        lane::run(self, step, *crops, peers)
    }
}

/// A panic of the backend as one sentence.
fn failed(lane: u32, step: Step, panic: &(dyn Any + Send)) -> LaneError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no message").replace('\n', " ");
    LaneError::Failed(format!("lane {lane} failed at step {}: {text}", step.0))
}

#[cfg(test)]
mod tests;
