//! The border between the runtime and what it trains.
//!
//! The runtime knows units, shards, lanes and bytes. What a unit computes is the workload's affair.

use std::any::Any;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::protocol::ids::{Lane, ShardId, Step, UnitId};
pub use crate::protocol::numbers::{Dtype, Wire};

/// What a tensor of a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorKind {
    /// Trained: its slot in the gradient vector holds d loss / d value.
    Parameter,
    /// State that a step computes (batch-norm statistics, a queue): its slot in the gradient
    /// vector holds what the step contributes, and the workload's update folds it in.
    Buffer,
}

/// One tensor's place in its unit's flat vector (row-major).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorSpec {
    /// Name, unique in the run, for instance `s1.b1.conv1.conv.weight`.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// First value's index in the flat vector.
    pub offset: usize,
    /// Parameter or buffer.
    pub kind: TensorKind,
}

impl TensorSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The values' range in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// An FSDP unit: one flat f32 vector of parameters and buffers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unit {
    /// Name, unique in the run, for instance `s2.b1`.
    pub name: String,
    /// Tensors in order of their offsets, without gaps.
    pub tensors: Vec<TensorSpec>,
    /// Shards of the unit end on multiples of this many values (prototypes: one row).
    pub row: usize,
}

impl Unit {
    /// Number of values of the flat vector.
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |last| last.range().end)
    }
    /// Whether the unit holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one lane works on in one step. The runtime looks only at the ids.
#[derive(Debug)]
pub struct Batch {
    /// The ids of the samples that were really decoded, in order.
    pub samples: Vec<u64>,
    /// What the workload's lane wants: crops, for instance.
    pub data: Box<dyn Any + Send>,
}

/// Where batches come from. Called on blocking threads; a pure function of (step, lane).
pub trait Source: Send + Sync + 'static {
    /// The batch of one lane at one step.
    ///
    /// # Errors
    /// Ends the run: the sentence names what is wrong with the data and the remedy.
    fn batch(&self, step: Step, lane: Lane) -> Result<Batch, SourceError>;
}

/// The data cannot be used: one sentence with the place and the remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// The epoch ended while the step was in flight. The step has left no trace and will run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the step was aborted")]
pub struct Aborted;

/// Why a lane did not finish its step.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LaneError {
    /// The epoch ended.
    #[error(transparent)]
    Aborted(#[from] Aborted),
    /// The lane itself failed (a panic of the backend, a device out of memory): one sentence.
    #[error("{0}")]
    Failed(String),
}

/// What a lane tells about its step: named numbers (`loss`, …), reported as the mean over lanes.
#[derive(Debug, Clone, Default)]
pub struct LaneReport {
    /// Name and value; every lane reports the same names in the same order.
    pub metrics: Vec<(&'static str, f32)>,
    /// Seconds that the lane waited in collective calls.
    pub wait_s: f32,
}

/// Which of a step's collective calls this is: the same on every lane, different for every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What lanes may ask of the others. Implemented by the runtime over the network, and by
/// [`crate::alone::Alone`] inside one process.
pub trait Collective: Send + Sync + 'static {
    /// The whole vector of a unit, as of the last committed step.
    fn gather(&self, step: Step, lane: Lane, unit: UnitId) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>>;
    /// The lane has used the unit for the last time in this pass over the units; says which comes next.
    fn release(&self, step: Step, lane: Lane, unit: UnitId, next: Option<UnitId>);
    /// Adds the lane's gradient of a whole unit to the mean over lanes. Waits for room on the wire, never for other lanes.
    fn reduce(&self, step: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> BoxFuture<'static, Result<(), Aborted>>;
    /// The canonical sum over the lanes of `group`, which all of them call with the same `call` and length.
    fn sum(
        &self,
        step: Step,
        lane: Lane,
        call: CallId,
        group: Range<u32>,
        values: Vec<f32>,
    ) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>>;
    /// As [`Collective::sum`] over all lanes, through the Sinkhorn aggregators: each sums a range of the prototypes.
    fn sinkhorn(&self, step: Step, lane: Lane, call: CallId, rows: Vec<f32>) -> BoxFuture<'static, Result<Arc<Vec<f32>>, Aborted>>;
}

/// A lane's handle on the others for one step. Every call ends with [`Aborted`] once the epoch ends.
/// The blocking forms are for compute threads.
#[derive(Clone)]
pub struct Peers {
    step: Step,
    lane: Lane,
    hub: Arc<dyn Collective>,
    runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers({}, {})", self.step, self.lane)
    }
}

impl Peers {
    /// A handle for one lane and step.
    pub fn new(step: Step, lane: Lane, hub: Arc<dyn Collective>, runtime: tokio::runtime::Handle) -> Self {
        Self { step, lane, hub, runtime }
    }
    /// The lane that asks.
    pub fn lane(&self) -> Lane {
        self.lane
    }
    /// All-gather of a unit: its whole vector as of the last committed step.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub async fn gather(&self, unit: UnitId) -> Result<Arc<Vec<f32>>, Aborted> {
        self.hub.gather(self.step, self.lane, unit).await
    }
    /// [`Peers::gather`] for a compute thread.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn gather_blocking(&self, unit: UnitId) -> Result<Arc<Vec<f32>>, Aborted> {
        self.runtime.block_on(self.gather(unit))
    }
    /// Says that the lane is done with a unit in this direction, and which unit it wants after the next.
    pub fn release(&self, unit: UnitId, next: Option<UnitId>) {
        self.hub.release(self.step, self.lane, unit, next);
    }
    /// Gives the lane's gradient of a unit (its whole flat vector) to the mean over lanes.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub async fn reduce(&self, unit: UnitId, gradient: Vec<f32>) -> Result<(), Aborted> {
        self.hub.reduce(self.step, self.lane, unit, gradient).await
    }
    /// [`Peers::reduce`] for a compute thread.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn reduce_blocking(&self, unit: UnitId, gradient: Vec<f32>) -> Result<(), Aborted> {
        self.runtime.block_on(self.reduce(unit, gradient))
    }
    /// Canonical sum over the lanes of `group`.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub async fn sum(&self, call: CallId, group: Range<u32>, values: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        self.hub.sum(self.step, self.lane, call, group, values).await
    }
    /// [`Peers::sum`] for a compute thread.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn sum_blocking(&self, call: CallId, group: Range<u32>, values: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        self.runtime.block_on(self.sum(call, group, values))
    }
    /// Canonical sum over all lanes through the Sinkhorn aggregators.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub async fn sinkhorn(&self, call: CallId, rows: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        self.hub.sinkhorn(self.step, self.lane, call, rows).await
    }
    /// [`Peers::sinkhorn`] for a compute thread.
    ///
    /// # Errors
    /// [`Aborted`] when the epoch has ended.
    pub fn sinkhorn_blocking(&self, call: CallId, rows: Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted> {
        self.runtime.block_on(self.sinkhorn(call, rows))
    }
}

/// A shard as the optimizer sees it.
#[derive(Debug, Clone, Copy)]
pub struct ShardView<'a> {
    /// Which shard.
    pub id: ShardId,
    /// Its range in the unit's flat vector.
    pub start: usize,
    /// Current values.
    pub values: &'a [f32],
    /// Optimizer slots, each as long as `values` (momentum: one).
    pub slots: &'a [Vec<f32>],
}

/// Partial sums of one shard, one entry per tensor of its unit that the shard touches.
///
/// f64, so that the sum over shards is exact enough to be shared by any precision of gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Partials {
    /// (index of the tensor in the unit, sum of squared values, sum of squared gradients).
    pub norms: Vec<(u32, f64, f64)>,
    /// How many gradient values are NaN or infinite.
    pub nonfinite: u64,
}

/// The global sums that an update may use: squared norms per (unit, tensor), canonical over shards.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sums {
    /// `norms[unit][tensor] = (‖value‖², ‖gradient‖²)`.
    pub norms: Vec<Vec<(f64, f64)>>,
    /// Non-finite gradient values in the whole model.
    pub nonfinite: u64,
}

/// The new version of a shard, computed beside the old one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewShard {
    /// New values.
    pub values: Vec<f32>,
    /// New optimizer slots.
    pub slots: Vec<Vec<f32>>,
}

/// One training job, as the runtime sees it.
pub trait Workload: Send + Sync + 'static {
    /// FSDP units in execution order.
    fn units(&self) -> &[Unit];
    /// Lanes of the global batch, fixed for the life of the run.
    fn lanes(&self) -> u32;
    /// Optimizer slots per value (momentum: 1), initially zero.
    fn slots(&self) -> usize;
    /// How a unit travels between ranks; f32 unless the job says otherwise.
    fn wire(&self, unit: UnitId) -> Wire {
        let _ = unit;
        Wire::default()
    }
    /// Initial values of a slice of a unit, from the seed alone.
    fn init(&self, unit: UnitId, range: Range<usize>) -> Vec<f32>;
    /// Forward and backward of one lane. Ends with [`LaneError::Aborted`] once the epoch ends.
    fn lane(self: Arc<Self>, step: Step, batch: Batch, peers: Peers) -> impl Future<Output = Result<LaneReport, LaneError>> + Send;
    /// Partial sums of one shard (squared norms, non-finite count), summed canonically before `update`.
    fn partials(&self, shard: ShardView<'_>, gradient: &[f32]) -> Partials;
    /// New values of one shard from its mean gradient over lanes and the global sums: the optimizer. Pure.
    fn update(&self, step: Step, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard;
}
