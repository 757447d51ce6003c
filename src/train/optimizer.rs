//! LARC with momentum on the units of a model: which rule holds for which tensor, and the schedule.

use everstep_actors::protocol::ids::Step;
use everstep_actors::workload::{NewShard, Partials, ShardView, Sums, TensorKind, Unit};

use super::Optimizer;
use crate::optim::larc::{self, Rule, Update};
use crate::optim::{Config, schedule};

/// The optimizer of a run of `steps` steps.
#[derive(Debug, Clone)]
pub struct Larc {
    /// Its settings.
    pub config: Config,
    /// Steps of the run.
    pub steps: u64,
    /// Name of the unit that holds the prototypes.
    pub prototypes: String,
    /// Length of a prototype.
    pub dim: usize,
}

impl Larc {
    fn rules(&self, unit: &Unit, decay: f32) -> Vec<Rule> {
        let rule = |kind| match kind {
            TensorKind::Buffer => Rule::Buffer { decay },
            TensorKind::Parameter if unit.name == self.prototypes => Rule::Prototypes { dim: self.dim },
            TensorKind::Parameter => Rule::Parameter,
        };
        unit.tensors.iter().map(|tensor| rule(tensor.kind)).collect()
    }
}

impl Optimizer for Larc {
    fn slots(&self) -> usize {
        1
    }

    fn partials(&self, unit: &Unit, shard: ShardView<'_>, gradient: &[f32]) -> Partials {
        larc::partials(&unit.tensors, shard.start..shard.start + shard.values.len(), shard.values, gradient)
    }

    fn update(&self, step: Step, unit: &Unit, decay: f32, shard: ShardView<'_>, gradient: &[f32], sums: &Sums) -> NewShard {
        let rules = self.rules(unit, decay);
        let norms = sums.norms.get(shard.id.unit.0 as usize).map_or(&[][..], Vec::as_slice);
        let update = Update {
            config: &self.config,
            step: step.0,
            lr: schedule::rate(&self.config, step.0, self.steps),
            tensors: &unit.tensors,
            rules: &rules,
            norms,
            nonfinite: sums.nonfinite,
        };
        larc::update(&update, shard, gradient).shard
    }
}
