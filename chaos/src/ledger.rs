//! The ledger: a workload whose right answer is known.
//!
//! Weight `i` of the first unit counts the committed samples with `id % K == i`, exactly (in f32
//! below 2^24). After any storm the weights themselves show a lost or doubled sample. The other
//! units change with every step by a rule that a plain loop can redo ([`Ledger::expected`]), so
//! that stale gathers, torn sums and shards of mixed versions show as well.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use everstep_actors::protocol::ids::{Lane, Step, UnitId};
use everstep_actors::roles::rank;
use everstep_actors::workload::{
    Batch, CallId, LaneError, LaneReport, NewShard, Partials, Peers, ShardView, Source, SourceError, Sums, TensorKind, TensorSpec, Unit,
    Workload,
};

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Samples of a lane and step.
    pub samples_per_lane: u32,
    units: Vec<Unit>,
}

impl Ledger {
    /// A ledger with a counting unit of `counters` values and units of the given lengths after it.
    pub fn new(lanes: u32, samples_per_lane: u32, counters: usize, others: &[usize]) -> Self {
        let unit = |name: String, length: usize| Unit {
            tensors: vec![TensorSpec { name: format!("{name}.values"), shape: vec![length], offset: 0, kind: TensorKind::Parameter }],
            name,
            row: 1,
        };
        let others = others.iter().enumerate().map(|(index, length)| unit(format!("other{index}"), *length));
        let units = std::iter::once(unit("counters".into(), counters)).chain(others).collect();
        Self { lanes, samples_per_lane, units }
    }

    fn batch_of(&self, step: Step, lane: Lane) -> Range<u64> {
        let first = (step.0 * u64::from(self.lanes) + u64::from(lane.0)) * u64::from(self.samples_per_lane);
        first..first + u64::from(self.samples_per_lane)
    }

    /// What a lane adds to a unit other than the counters: depends on the weights, so that stale ones show.
    fn contribution(unit: usize, weights: &[f32], lane: Lane) -> Vec<f32> {
        let lane = lane.0 as f32;
        weights.iter().enumerate().map(|(i, weight)| (weight * 0.37 + lane * 0.11 + (i % 7) as f32 * 0.05 + unit as f32).sin()).collect()
    }

    /// The weights after so many steps, by a plain loop in one thread.
    pub fn expected(&self, steps: Step) -> Vec<Vec<f32>> {
        let mut units = self.initial();
        for step in (0..steps.0).map(Step) {
            self.advance(step, &mut units);
        }
        units
    }

    /// The weights before the first step.
    pub fn initial(&self) -> Vec<Vec<f32>> {
        self.units.iter().enumerate().map(|(unit, spec)| self.init(UnitId(unit as u32), 0..spec.len())).collect()
    }

    /// One step of the plain loop; the mean gradients, which are what the optimizer's slots hold after it.
    pub fn advance(&self, step: Step, units: &mut [Vec<f32>]) -> Vec<Vec<f32>> {
        let mut means = Vec::with_capacity(units.len());
        for (index, weights) in units.iter_mut().enumerate() {
            let mut sum = everstep_actors::protocol::tree::TreeSum::new(self.lanes);
            for lane in (0..self.lanes).map(Lane) {
                let gradient = if index == 0 { self.counts(step, lane, weights.len()) } else { Self::contribution(index, weights, lane) };
                if let Ok(Some(total)) = sum.add(lane.0..lane.0 + 1, gradient) {
                    let scale = 1.0 / self.lanes as f32;
                    let mean: Vec<f32> = total.into_iter().map(|value| value * scale).collect();
                    *weights = self.updated(index, weights, &mean);
                    means.push(mean);
                }
            }
        }
        means
    }

    /// The hash of the samples of a step, as committed steps carry it.
    pub fn samples_hash(&self, step: Step) -> u64 {
        let lane = |lane| rank::hash_of(&self.batch_of(step, Lane(lane)).collect::<Vec<u64>>());
        rank::hash_of(&(0..self.lanes).map(lane).collect::<Vec<u64>>())
    }

    fn counts(&self, step: Step, lane: Lane, counters: usize) -> Vec<f32> {
        let mut counts = vec![0.0; counters];
        self.batch_of(step, lane).for_each(|id| counts[(id % counters as u64) as usize] += 1.0);
        counts
    }

    fn updated(&self, unit: usize, weights: &[f32], mean: &[f32]) -> Vec<f32> {
        let lanes = self.lanes as f32;
        let next = |(weight, mean): (&f32, &f32)| if unit == 0 { weight + (mean * lanes).round() } else { weight * 0.9 + mean };
        weights.iter().zip(mean).map(next).collect()
    }
}

impl Source for Ledger {
    fn batch(&self, step: Step, lane: Lane) -> Result<Batch, SourceError> {
        let samples = self.batch_of(step, lane).collect();
        Ok(Batch { samples, data: Box::new(()) })
    }
}

impl Workload for Ledger {
    fn units(&self) -> &[Unit] {
        &self.units
    }

    fn lanes(&self) -> u32 {
        self.lanes
    }

    fn slots(&self) -> usize {
        1
    }

    fn init(&self, unit: UnitId, range: Range<usize>) -> Vec<f32> {
        range.map(|i| if unit.0 == 0 { 0.0 } else { (i as f32 * 0.7 + unit.0 as f32).cos() }).collect()
    }

    async fn lane(self: Arc<Self>, step: Step, batch: Batch, peers: Peers) -> Result<LaneReport, LaneError> {
        let mut contributions = Vec::new();
        for index in 0..self.units.len() {
            let unit = UnitId(index as u32);
            let weights = peers.gather(unit).await?;
            contributions.push(if index == 0 {
                let mut counts = vec![0.0; weights.len()];
                batch.samples.iter().for_each(|id| counts[(id % weights.len() as u64) as usize] += 1.0);
                counts
            } else {
                Self::contribution(index, &weights, peers.lane())
            });
            peers.release(unit, None);
        }
        // Small sums over a pair of lanes and over all: the totals are known.
        let pair = peers.lane().0 & !1..((peers.lane().0 & !1) + 2).min(self.lanes);
        let width = (pair.end - pair.start) as f32;
        let ones = peers.sum(CallId(1), pair, vec![1.0; 5]).await?;
        let rows = peers.sinkhorn(CallId(2), vec![peers.lane().0 as f32; 3_000]).await?;
        let expected = (0..self.lanes).map(|lane| lane as f32).sum::<f32>();
        if ones.iter().any(|one| *one != width) || rows.iter().any(|row| *row != expected) || rows.len() != 3_000 {
            return Err(LaneError::Failed(format!("a sum over lanes is wrong at {step}")));
        }
        for (index, gradient) in contributions.into_iter().enumerate().rev() {
            peers.reduce(UnitId(index as u32), gradient).await?;
        }
        Ok(LaneReport { metrics: vec![("lane", peers.lane().0 as f32)], wait_s: 0.0 })
    }

    fn partials(&self, shard: ShardView<'_>, gradient: &[f32]) -> Partials {
        let square = |values: &[f32]| values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        Partials { norms: vec![(0, square(shard.values), square(gradient))], nonfinite: 0 }
    }

    fn update(&self, _: Step, shard: ShardView<'_>, gradient: &[f32], _: &Sums) -> NewShard {
        let values = self.updated(shard.id.unit.0 as usize, shard.values, gradient);
        NewShard { values, slots: vec![gradient.to_vec()] }
    }
}

/// What is done before a lane of a ledger computes: it may take its time, or change the batch.
pub type Before = Box<dyn Fn(Step, &mut Batch) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A ledger whose lanes do something else first: for nodes that are slow, hang or compute wrongly.
pub struct Altered {
    ledger: Arc<Ledger>,
    before: Before,
}

impl Altered {
    /// The ledger with `before` before each lane.
    pub fn new(ledger: &Ledger, before: Before) -> Arc<Self> {
        Arc::new(Self { ledger: Arc::new(ledger.clone()), before })
    }
}

impl std::fmt::Debug for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Altered({:?})", self.ledger)
    }
}

impl Workload for Altered {
    fn units(&self) -> &[Unit] {
        self.ledger.units()
    }

    fn lanes(&self) -> u32 {
        self.ledger.lanes()
    }

    fn slots(&self) -> usize {
        self.ledger.slots()
    }

    fn init(&self, unit: UnitId, range: Range<usize>) -> Vec<f32> {
        self.ledger.init(unit, range)
    }

    async fn lane(self: Arc<Self>, step: Step, mut batch: Batch, peers: Peers) -> Result<LaneReport, LaneError> {
        (self.before)(step, &mut batch).await;
        self.ledger.clone().lane(step, batch, peers).await
    }

    fn partials(&self, shard: ShardView<'_>, gradient: &[f32]) -> Partials {
        self.ledger.partials(shard, gradient)
    }

    fn update(&self, step: Step, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard {
        self.ledger.update(step, shard, gradient, sums)
    }
}
