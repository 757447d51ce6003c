//! What members send with their word that a step is reduced: partial norms and the lanes' reports.

use super::*;

/// The metric that is held against a bound.
const LOSS: &str = "loss";

/// The payload of one step.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    partials: BTreeMap<ShardId, ShardPartials>,
    lanes: BTreeMap<u32, LaneMetrics>,
    phases: Vec<Vec<f32>>,
}

/// What is told of a step.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Means over lanes.
    pub(super) metrics: BTreeMap<String, f64>,
    /// Share of the lanes' time spent waiting.
    pub(super) wait: f64,
    /// Samples used.
    pub(super) samples: u32,
    /// Hash over the lanes' hashes.
    pub(super) samples_hash: u64,
    /// Seconds of the step before by phase, means over ranks.
    pub(super) phases: Vec<f32>,
}

impl Gathered {
    pub(super) fn add(&mut self, partials: Vec<ShardPartials>, lanes: Vec<LaneMetrics>, phases: Vec<f32>) {
        if phases.len() == crate::roles::phases::NAMES.len() {
            self.phases.push(phases);
        }
        self.partials.extend(partials.into_iter().map(|partials| (partials.shard, partials)));
        self.lanes.extend(lanes.into_iter().map(|lane| (lane.lane, lane)));
    }

    /// Adds up the squared norms of every tensor over its shards, canonically: `norms[unit][tensor]`, and the count of
    /// non-finite gradient values.
    pub(super) fn sums(&mut self, tensors: &[usize]) -> (Vec<Vec<(f64, f64)>>, u64) {
        let mut pieces: Vec<Vec<Vec<(f64, f64)>>> = tensors.iter().map(|tensors| vec![Vec::new(); *tensors]).collect();
        let mut nonfinite = 0;
        for (shard, partials) in std::mem::take(&mut self.partials) {
            nonfinite += partials.nonfinite;
            for (tensor, values, gradients) in partials.norms {
                if let Some(pieces) = pieces.get_mut(shard.unit.0 as usize).and_then(|unit| unit.get_mut(tensor as usize)) {
                    pieces.push((values, gradients));
                }
            }
        }
        let total = |pieces: Vec<(f64, f64)>| {
            let (values, gradients): (Vec<f64>, Vec<f64>) = pieces.into_iter().unzip();
            (tree::sum(&values).unwrap_or(0.0), tree::sum(&gradients).unwrap_or(0.0))
        };
        (pieces.into_iter().map(|unit| unit.into_iter().map(total).collect()).collect(), nonfinite)
    }

    /// Why the step must not change weights, if so. A function of what was computed, so the same on every history.
    pub(super) fn is_bad(&self, nonfinite: u64, loss_max: f64) -> Option<String> {
        if nonfinite > 0 {
            return Some(format!("{nonfinite} values of its gradients are not finite"));
        }
        let of = |lane: &LaneMetrics| lane.metrics.iter().find(|(name, _)| name == LOSS).map(|(_, loss)| f64::from(*loss));
        let losses: Vec<f64> = self.lanes.values().filter_map(of).collect();
        let loss = tree::sum(&losses)? / losses.len() as f64;
        if !loss.is_finite() {
            return Some("its loss is not finite".to_owned());
        }
        (loss > loss_max).then(|| format!("its loss is {loss:.4}, beyond {loss_max}"))
    }

    /// Means over lanes, in lane order along the canonical tree, the share of time spent waiting, and the samples used.
    pub(super) fn take(&mut self) -> Told {
        let lanes = std::mem::take(&mut self.lanes);
        let count = lanes.len().max(1) as f64;
        let (waited, busy) =
            lanes.values().fold((0.0, 0.0), |(waited, busy), lane| (waited + f64::from(lane.wait_s), busy + f64::from(lane.busy_s)));
        let samples = lanes.values().map(|lane| lane.samples).sum();
        let samples_hash = crate::roles::rank::hash_of(&lanes.values().map(|lane| lane.samples_hash).collect::<Vec<_>>());
        let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (name, value) in lanes.into_values().flat_map(|lane| lane.metrics) {
            columns.entry(name).or_default().push(f64::from(value));
        }
        let metrics = columns.into_iter().map(|(name, values)| (name, tree::sum(&values).unwrap_or(0.0) / count)).collect();
        let ranks = std::mem::take(&mut self.phases);
        let mean = |phase: usize| ranks.iter().map(|rank| rank[phase]).sum::<f32>() / ranks.len() as f32;
        let phases = if ranks.is_empty() { Vec::new() } else { (0..crate::roles::phases::NAMES.len()).map(mean).collect() };
        Told { metrics, phases, wait: if busy > 0.0 { waited / busy } else { 0.0 }, samples, samples_hash }
    }
}
