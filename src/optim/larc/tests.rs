//! Updates against values worked out by hand, and against other cuts of the same tensors.

use everstep_actors::protocol::ids::{ShardId, UnitId};
use everstep_actors::workload::TensorKind;

use super::*;
use crate::swav::fixtures::{Fixture, distance};

const RULES: [Rule; 4] = [Rule::Parameter, Rule::Parameter, Rule::Prototypes { dim: 8 }, Rule::Buffer { decay: 0.9 }];

fn tensors() -> Vec<TensorSpec> {
    let mut offset = 0;
    let shapes = [("weight", vec![6, 8]), ("bias", vec![8]), ("prototypes", vec![5, 8]), ("buffer", vec![4])];
    let tensor = |(name, shape): (&str, Vec<usize>)| {
        let kind = if name == "buffer" { TensorKind::Buffer } else { TensorKind::Parameter };
        let tensor = TensorSpec { name: name.into(), shape, offset, kind };
        offset += tensor.len();
        tensor
    };
    shapes.into_iter().map(tensor).collect()
}

/// A unit's state, cut into shards.
struct Sharded {
    tensors: Vec<TensorSpec>,
    cuts: Vec<usize>,
    values: Vec<f32>,
    momentum: Vec<f32>,
}

impl Sharded {
    fn new(values: Vec<f32>, cuts: &[usize]) -> Self {
        Self { tensors: tensors(), cuts: cuts.to_vec(), momentum: vec![0.0; values.len()], values }
    }

    fn step(&mut self, config: &Config, step: u64, lr: f64, gradient: &[f32]) -> bool {
        let shards: Vec<_> = self.cuts.windows(2).map(|cut| cut[0]..cut[1]).collect();
        let mut norms = vec![(0.0, 0.0); self.tensors.len()];
        let mut nonfinite = 0;
        for shard in &shards {
            let parts = partials(&self.tensors, shard.clone(), &self.values[shard.clone()], &gradient[shard.clone()]);
            nonfinite += parts.nonfinite;
            for (tensor, p, g) in parts.norms {
                norms[tensor as usize].0 += p;
                norms[tensor as usize].1 += g;
            }
        }
        let step = Update { config, step, lr, tensors: &self.tensors, rules: &RULES, norms: &norms, nonfinite };
        let mut skipped = false;
        for (index, shard) in shards.into_iter().enumerate() {
            let slots = [self.momentum[shard.clone()].to_vec()];
            let id = ShardId { unit: UnitId(0), index: index as u32 };
            let view = ShardView { id, start: shard.start, values: &self.values[shard.clone()], slots: &slots };
            let new = update(&step, view, &gradient[shard.clone()]);
            self.values[shard.clone()].copy_from_slice(&new.shard.values);
            self.momentum[shard].copy_from_slice(&new.shard.slots[0]);
            skipped = new.skipped;
        }
        skipped
    }
}

fn config(clip: bool) -> Config {
    Config { momentum: 0.9, weight_decay: 1e-2, trust: 0.02, clip, freeze_prototypes: 2, ..Config::default() }
}

/// Five steps with a bias that starts at zero, a zero gradient, prototypes frozen for two steps; whole and cut.
#[test]
fn agrees_with_pytorch() {
    let fixture = Fixture::load();
    for (name, clip) in [("larc.plain", false), ("larc.clip", true)] {
        let gradients = fixture.f32s(&format!("{name}.gradients"));
        let after = fixture.f64s(&format!("{name}.after"));
        for cuts in [vec![0, 100], vec![0, 23, 51, 64, 100], vec![0, 24, 56, 88, 100]] {
            let mut state = Sharded::new(fixture.f32s(&format!("{name}.start")), &cuts);
            for (step, (gradient, want)) in gradients.chunks(100).zip(after.chunks(100)).enumerate() {
                assert!(!state.step(&config(clip), step as u64, 1.5 / (step + 1) as f64, gradient));
                for tensor in tensors() {
                    let off = distance(&state.values[tensor.range()], &want[tensor.range()]);
                    assert!(off < 1e-5, "{name}, cuts {cuts:?}, step {step}, {}: {off}", tensor.name);
                }
            }
        }
    }
}

#[test]
fn partials_name_the_tensors_that_the_shard_touches() {
    let values: Vec<f32> = (0..100).map(|i| i as f32 / 10.0).collect();
    let mut gradient = vec![0.5; 100];
    gradient[50] = f32::NAN;
    gradient[60] = f32::INFINITY;
    let parts = partials(&tensors(), 40..64, &values[40..64], &gradient[40..64]);
    assert_eq!(parts.norms.iter().map(|(tensor, ..)| *tensor).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(parts.nonfinite, 2);
    let want: f64 = values[40..48].iter().map(|v| f64::from(*v).powi(2)).sum();
    assert!((parts.norms[0].1 - want).abs() < 1e-9);
    assert_eq!(parts.norms[0].2, 2.0);
    assert_eq!(partials(&tensors(), 60..60, &[], &[]), Partials::default());
}

#[test]
fn a_non_finite_gradient_leaves_no_trace() {
    let fixture = Fixture::load();
    let mut state = Sharded::new(fixture.f32s("larc.plain.start"), &[0, 24, 100]);
    let gradient = fixture.f32s("larc.plain.gradients")[..100].to_vec();
    assert!(!state.step(&config(false), 0, 1.0, &gradient));
    let before = (state.values.clone(), state.momentum.clone());
    let mut broken = gradient;
    broken[99] = f32::NAN;
    assert!(state.step(&config(false), 1, 1.0, &broken));
    assert_eq!((state.values, state.momentum), before);
}

#[test]
fn frozen_prototypes_gather_no_momentum() {
    let start = Fixture::load().f32s("larc.plain.start");
    let mut state = Sharded::new(start.clone(), &[0, 100]);
    for step in 0..2 {
        state.step(&config(false), step, 1.0, &[0.1; 100]);
        assert!(state.momentum[56..96].iter().all(|m| *m == 0.0));
        assert!(state.values[56..96].iter().zip(&start[56..96]).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    state.step(&config(false), 2, 1.0, &[0.1; 100]);
    assert!(state.momentum[56..96].iter().all(|m| *m != 0.0));
    for row in state.values[56..96].chunks(8) {
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-6);
    }
}

#[test]
#[should_panic(expected = "whole rows")]
fn a_shard_that_cuts_a_prototype_is_refused() {
    Sharded::new(vec![1.0; 100], &[0, 60, 100]).step(&config(false), 5, 1.0, &[0.1; 100]);
}
