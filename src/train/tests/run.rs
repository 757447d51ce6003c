//! A run in one process: the real lanes, objective and optimizer over shards, with the runtime's sums.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Device;
use everstep_actors::alone::Alone;
use everstep_actors::protocol::ids::{Lane, Step, UnitId};
use everstep_actors::protocol::shard::{self, Shard, UnitShape};
use everstep_actors::protocol::tree;
use everstep_actors::workload::{Aborted, Batch, CallId, Collective, LaneError, LaneReport, Peers, ShardView, Sums, Workload};
use tokio::sync::watch;

use crate::data::{CropGroup, LaneCrops};
use crate::model::regnet::Stages;
use crate::model::{Config, Recompute, Trunk, filler};
use crate::optim;
use crate::swav::sinkhorn;
use crate::train::multicrop::{Multicrop, Size};
use crate::train::objective::SwappedPrediction;
use crate::train::optimizer::Larc;
use crate::train::precision::Precision;
use crate::train::{Objective, Settings, Swav};

type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, Aborted>> + Send>>;

const SIZES: [(&str, usize); 2] = [("large", 16), ("small", 8)];
/// Images of all lanes.
pub(in crate::train) const BATCH: usize = 16;

/// The small net of `tests/reference/model.py`.
pub(in crate::train) fn settings(lanes: u32, recompute: Recompute) -> Settings {
    let model = Config {
        trunk: Trunk::Stages(Stages { widths: vec![16, 32], depths: vec![1, 2], group_width: 8 }),
        stem_width: 8,
        head: vec![24, 12],
        prototypes: 20,
        unit_min: 1000,
        ..Config::default()
    };
    let sizes = SIZES.map(|(_, side)| Size { crops: 2, side }).to_vec();
    Settings {
        model,
        recompute,
        seed: 1,
        lanes,
        batch: BATCH / lanes as usize,
        crops: Multicrop { sizes, padded: false },
        queue: None,
        precision: Precision::default(),
    }
}

/// SEER's objective.
pub(super) fn objective() -> SwappedPrediction {
    SwappedPrediction { temperature: 0.1, sinkhorn: sinkhorn::Settings { epsilon: 0.03, iterations: 10 }, assign: 2 }
}

/// Steps so large that a few of them change the net.
pub(super) fn optimizer() -> optim::Config {
    optim::Config {
        lr: 20.0,
        start_lr: 2.0,
        final_lr: 0.02,
        warmup: 0.2,
        momentum: 0.9,
        weight_decay: 1e-4,
        trust: 1e-3,
        clip: false,
        eps: 1e-8,
        freeze_prototypes: 1,
    }
}

pub(super) fn job(settings: Settings, objective: Box<dyn Objective>, config: optim::Config) -> Arc<Swav> {
    job_of(10, settings, objective, config)
}

/// A job whose run has `steps` steps.
pub(super) fn job_of(steps: u64, settings: Settings, objective: Box<dyn Objective>, config: optim::Config) -> Arc<Swav> {
    on(filler::device(), steps, settings, objective, config)
}

/// A job that computes on `device`.
#[cfg(feature = "tch")]
pub(super) fn job_on(device: Device, settings: Settings, objective: Box<dyn Objective>, config: optim::Config) -> Arc<Swav> {
    on(device, 10, settings, objective, config)
}

fn on(device: Device, steps: u64, settings: Settings, objective: Box<dyn Objective>, config: optim::Config) -> Arc<Swav> {
    let optimizer = Larc { config, steps, prototypes: "prototypes".into(), dim: 12 };
    Arc::new(Swav::new(settings, objective, Box::new(optimizer), device).unwrap())
}

/// The lane's images out of the global batch.
pub(in crate::train) fn batch(job: &Swav, lane: u32) -> Batch {
    let n = job.settings().batch;
    let group = |(name, size): (&str, usize)| {
        let all = filler::fill(&format!("input.{name}"), &[2 * BATCH, 3, size, size]);
        let image = 3 * size * size;
        let crops = (0..2).flat_map(|c| {
            let first = (c * BATCH + lane as usize * n) * image;
            all[first..first + n * image].to_vec()
        });
        CropGroup { crops: 2, size, pixels: crops.collect() }
    };
    Batch { samples: vec![], data: Box::new(LaneCrops { groups: SIZES.map(group).to_vec(), images: n }) }
}

/// Runs all lanes, each on a thread of its own.
pub(in crate::train) fn lanes(job: &Arc<Swav>, step: Step, hub: &Arc<dyn Collective>) -> Vec<Result<LaneReport, LaneError>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let lanes = (0..job.settings().lanes).map(|lane| {
        let peers = Peers::new(step, Lane(lane), hub.clone(), runtime.handle().clone());
        runtime.spawn(job.clone().lane(step, batch(job, lane), peers))
    });
    let lanes: Vec<_> = lanes.collect();
    lanes.into_iter().map(|lane| runtime.block_on(lane).unwrap()).collect()
}

/// Ends the epoch at the n-th call of any lane; calls that wait then end too.
pub(in crate::train) struct Ends {
    inner: Arc<Alone>,
    left: AtomicUsize,
    ended: watch::Sender<bool>,
}

impl Ends {
    pub(in crate::train) fn at(call: usize, inner: Arc<Alone>) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicUsize::new(call), ended: watch::Sender::new(false) })
    }

    fn ended(&self) -> bool {
        let last = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1))) == Ok(0);
        if last {
            self.ended.send_replace(true);
        }
        last
    }

    fn until_end<T: Send + 'static>(&self, call: impl FnOnce() -> BoxFuture<T>) -> BoxFuture<T> {
        if self.ended() {
            return Box::pin(async { Err(Aborted) });
        }
        let (call, mut ended) = (call(), self.ended.subscribe());
        Box::pin(async move {
            tokio::select! {
                result = call => result,
                _ = ended.wait_for(|e| *e) => Err(Aborted),
            }
        })
    }
}

impl Collective for Ends {
    fn gather(&self, step: Step, lane: Lane, unit: UnitId) -> BoxFuture<Arc<Vec<f32>>> {
        self.until_end(|| self.inner.gather(step, lane, unit))
    }
    fn release(&self, _: Step, _: Lane, _: UnitId, _: Option<UnitId>) {}
    fn reduce(&self, step: Step, lane: Lane, unit: UnitId, gradient: Vec<f32>) -> BoxFuture<()> {
        self.until_end(|| self.inner.reduce(step, lane, unit, gradient))
    }
    fn sum(&self, step: Step, lane: Lane, call: CallId, group: Range<u32>, values: Vec<f32>) -> BoxFuture<Arc<Vec<f32>>> {
        self.until_end(|| self.inner.sum(step, lane, call, group, values))
    }
    fn sinkhorn(&self, step: Step, lane: Lane, call: CallId, rows: Vec<f32>) -> BoxFuture<Arc<Vec<f32>>> {
        self.until_end(|| self.inner.sinkhorn(step, lane, call, rows))
    }
}

/// The whole state of a run: each unit's values and momentum, and the next step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub(super) step: u64,
    pub(super) values: Vec<Vec<f32>>,
    pub(super) momentum: Vec<Vec<f32>>,
}

/// A run with shards of some 1,500 values.
pub(super) struct Run {
    pub(super) job: Arc<Swav>,
    pub(super) state: State,
    shards: Vec<Shard>,
}

impl Run {
    pub(super) fn new(job: Arc<Swav>, values: Vec<Vec<f32>>) -> Self {
        let shapes: Vec<_> = job.units().iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
        let momentum = values.iter().map(|values| vec![0.0; values.len()]).collect();
        Self { state: State { step: 0, values, momentum }, shards: shard::cut(&shapes, 1500), job }
    }

    /// From the seed.
    pub(super) fn seeded(job: Arc<Swav>) -> Self {
        let values = job.units().iter().enumerate().map(|(id, unit)| job.init(UnitId(id as u32), 0..unit.len())).collect();
        Self::new(job, values)
    }

    fn hub(&self) -> Arc<Alone> {
        Alone::new(self.job.lanes(), self.state.values.iter().cloned().map(Arc::new).collect())
    }

    /// The next step up to the n-th call of any lane; whether that ended it.
    pub(super) fn abort(&self, at: usize) -> bool {
        let hub: Arc<dyn Collective> = Ends::at(at, self.hub());
        let results = lanes(&self.job, Step(self.state.step), &hub);
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(LaneError::Aborted(_)))), "{results:?}");
        results.iter().any(Result::is_err)
    }

    /// Each unit's mean gradient at the next step, and what the lanes tell.
    pub(super) fn gradients(&self) -> (BTreeMap<UnitId, Vec<f32>>, Vec<LaneReport>) {
        let alone = self.hub();
        let hub: Arc<dyn Collective> = alone.clone();
        let reports = lanes(&self.job, Step(self.state.step), &hub).into_iter().map(Result::unwrap).collect();
        let gradients = alone.gradients();
        assert_eq!(gradients.len(), self.job.units().len(), "every unit is reduced once");
        (gradients, reports)
    }

    /// Runs and commits the next step; the mean loss.
    pub(super) fn step(&mut self) -> f32 {
        let (gradients, reports) = self.gradients();
        let sums = self.sums(&gradients);
        let mut new = self.state.clone();
        for shard in &self.shards {
            let unit = shard.id.unit.0 as usize;
            let slots = [self.state.momentum[unit][shard.range.clone()].to_vec()];
            let gradient = &gradients[&shard.id.unit][shard.range.clone()];
            let updated = self.job.update(Step(self.state.step), self.view(shard, &slots), gradient, &sums);
            new.values[unit][shard.range.clone()].copy_from_slice(&updated.values);
            new.momentum[unit][shard.range.clone()].copy_from_slice(&updated.slots[0]);
        }
        new.step += 1;
        self.state = new;
        loss(&reports)
    }

    fn view<'a>(&'a self, shard: &Shard, slots: &'a [Vec<f32>]) -> ShardView<'a> {
        let values = &self.state.values[shard.id.unit.0 as usize][shard.range.clone()];
        ShardView { id: shard.id, start: shard.range.start, values, slots }
    }

    /// As the coordinator adds the partial sums up.
    fn sums(&self, gradients: &BTreeMap<UnitId, Vec<f32>>) -> Sums {
        let mut pieces: Vec<Vec<Vec<(f64, f64)>>> = self.job.units().iter().map(|unit| vec![vec![]; unit.tensors.len()]).collect();
        let mut nonfinite = 0;
        for shard in &self.shards {
            let partials = self.job.partials(self.view(shard, &[]), &gradients[&shard.id.unit][shard.range.clone()]);
            nonfinite += partials.nonfinite;
            for (tensor, values, gradient) in partials.norms {
                pieces[shard.id.unit.0 as usize][tensor as usize].push((values, gradient));
            }
        }
        let total = |pieces: Vec<(f64, f64)>| {
            let (values, gradients): (Vec<f64>, Vec<f64>) = pieces.into_iter().unzip();
            (tree::sum(&values).unwrap_or(0.0), tree::sum(&gradients).unwrap_or(0.0))
        };
        Sums { norms: pieces.into_iter().map(|unit| unit.into_iter().map(total).collect()).collect(), nonfinite }
    }
}

/// The mean of the lanes' losses.
pub(super) fn loss(reports: &[LaneReport]) -> f32 {
    let losses = reports.iter().map(|report| report.metrics.iter().find(|(name, _)| *name == "loss").unwrap().1);
    losses.sum::<f32>() / reports.len() as f32
}
