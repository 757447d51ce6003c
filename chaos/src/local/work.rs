//! The ledger under observation: its lanes wait at a gate, and the digest of every new version is kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everstep_actors::checkpoint::{Digest, PartRecord, digest, state_digest};
use everstep_actors::protocol::ids::{Lane, ShardId, Step, UnitId};
use everstep_actors::protocol::shard::Shard;
use everstep_actors::workload::{
    Batch, LaneError, LaneReport, NewShard, Partials, Peers, ShardView, Source, SourceError, Sums, Unit, Workload,
};
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::stage::timeline::number;

/// Steps whose digests are kept.
const STEPS_KEPT: u64 = 512;
/// A bit of the mantissa: the value stays a plausible one.
const FLIPPED: u32 = 1 << 20;

/// What stands between a node and its work.
#[derive(Debug)]
pub(super) struct Gate {
    /// Faults that keep it shut.
    pub(super) shut: watch::Sender<u32>,
    /// How many times slower the node computes.
    pub(super) slow: AtomicU32,
    /// Whether a bit turns over in its next new version.
    pub(super) flips: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { shut: watch::channel(0).0, slow: AtomicU32::new(1), flips: AtomicBool::new(false) }
    }
}

impl Gate {
    /// Changes how many times slower the node computes.
    pub(super) fn quicken(&self, change: impl Fn(u32) -> u32) {
        // Nobody else changes it.
        self.slow.store(change(self.slow.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

/// The digest of each shard after a step, as the last node that computed it says.
#[derive(Debug, Default)]
pub(super) struct Sheet(Mutex<BTreeMap<u64, BTreeMap<ShardId, PartRecord>>>);

impl Sheet {
    fn note(&self, step: Step, shard: ShardId, start: usize, new: &NewShard) {
        let record = part(shard, start..start + new.values.len(), digest(&new.values, &new.slots));
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.entry(step.0).or_default().insert(shard, record);
        // A run may go back: what counts is how far a step is from this one.
        if steps.len() as u64 > STEPS_KEPT {
            steps.retain(|at, _| at.abs_diff(step.0) < STEPS_KEPT);
        }
    }

    /// The number of the state after a step; 0 when it was not seen to be computed.
    pub(super) fn state(&self, step: u64) -> u64 {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(&step).map_or(0, |shards| number(&state_digest(&shards.values().cloned().collect::<Vec<_>>())))
    }
}

fn part(shard: ShardId, range: Range<usize>, digest: Digest) -> PartRecord {
    PartRecord { shard, start: range.start as u64, len: range.len() as u64, digest, key: String::new(), bytes: 0 }
}

/// The numbers of the states after each number of steps, by a plain loop.
pub(super) fn undisturbed(ledger: &Ledger, shards: &[Shard], steps: u64) -> BTreeMap<u64, u64> {
    let mut units = ledger.initial();
    let mut digests = BTreeMap::new();
    for step in 0..steps {
        let means = ledger.advance(Step(step), &mut units);
        let of = |shard: &Shard| {
            let (unit, range) = (shard.id.unit.0 as usize, shard.range.clone());
            part(shard.id, range.clone(), digest(&units[unit][range.clone()], &[means[unit][range].to_vec()]))
        };
        digests.insert(step + 1, number(&state_digest(&shards.iter().map(of).collect::<Vec<_>>())));
    }
    digests
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) ledger: Arc<Ledger>,
    pub(super) gate: Arc<Gate>,
    pub(super) sheet: Arc<Sheet>,
    /// How long a lane computes.
    pub(super) step_time: Duration,
}

impl Source for Observed {
    fn batch(&self, step: Step, lane: Lane) -> Result<Batch, SourceError> {
        self.ledger.batch(step, lane)
    }
}

impl Workload for Observed {
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

    async fn lane(self: Arc<Self>, step: Step, batch: Batch, peers: Peers) -> Result<LaneReport, LaneError> {
        tokio::time::sleep(self.step_time * self.gate.slow.load(Ordering::Relaxed)).await;
        // The gate lives as long as this does.
        let _ = self.gate.shut.subscribe().wait_for(|shut| *shut == 0).await;
        self.ledger.clone().lane(step, batch, peers).await
    }

    fn partials(&self, shard: ShardView<'_>, gradient: &[f32]) -> Partials {
        self.ledger.partials(shard, gradient)
    }

    fn update(&self, step: Step, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard {
        let mut new = self.ledger.update(step, shard, gradient, sums);
        if self.gate.flips.swap(false, Ordering::Relaxed)
            && let Some(value) = new.values.first_mut()
        {
            *value = f32::from_bits(value.to_bits() ^ FLIPPED);
        }
        self.sheet.note(step, shard.id, shard.start, &new);
        new
    }
}
