//! Whole SwAV steps of the tiny net against PyTorch in float64 (`tests/reference/model.py`).

use everstep_actors::protocol::ids::UnitId;
use everstep_actors::workload::TensorKind;

use super::run::{Run, job_of, loss, objective, settings};
use crate::model::{Recompute, Sync, filler};
use crate::optim;
use crate::train::Settings;

/// Norm-relative error that float32 may have.
const TOLERANCE: f64 = 1e-4;
/// The one bias that a batch norm follows: it has no gradient but rounding's.
const IDLE: &str = "head.fc1.bias";
/// Steps of the run in the fixture.
const STEPS: u64 = 20;

/// The optimizer of the run in the fixture.
fn optimizer() -> optim::Config {
    optim::Config {
        lr: 1.0,
        start_lr: 0.1,
        final_lr: 0.001,
        warmup: 0.2,
        momentum: 0.9,
        weight_decay: 1e-4,
        trust: 1e-3,
        clip: false,
        eps: 1e-8,
        freeze_prototypes: 2,
    }
}

fn run(settings: Settings) -> Run {
    let job = job_of(STEPS, settings, Box::new(objective()), optimizer());
    let values = filler::units(job.model()).iter().map(|unit| unit.to_vec()).collect();
    Run::new(job, values)
}

/// One step of a run: the loss, every gradient and, where `buffers`, every running statistic after it are those of `key` in a fixture.
fn one_step(settings: Settings, fixture: &str, key: &str, buffers: bool) {
    let fixture = filler::fixture(fixture);
    let run = run(settings);
    let (gradients, reports) = run.gradients();
    let distance = filler::distance(&[loss(&reports)], &filler::tensor(&fixture, &format!("{key}.loss")));
    assert!(distance < TOLERANCE, "loss: {distance:e}");
    let (mut checked, mut worst) = (0, 0.0f64);
    for (id, (unit, gradient)) in run.job.model().units().iter().zip(gradients.values()).enumerate() {
        for tensor in &unit.tensors {
            let ours = &gradient[tensor.range()];
            if tensor.name == IDLE {
                assert!(ours.iter().all(|value| value.abs() < 1e-6), "{}", tensor.name);
                continue;
            }
            let distance = match tensor.kind {
                TensorKind::Parameter => filler::distance(ours, &filler::tensor(&fixture, &format!("{key}.grad.{}", tensor.name))),
                TensorKind::Buffer if !buffers => continue,
                TensorKind::Buffer => {
                    let decay = run.job.model().decay(UnitId(id as u32), run.job.settings().passes());
                    let old = &run.state.values[id][tensor.range()];
                    let new: Vec<f32> = old.iter().zip(ours).map(|(old, new)| decay * old + new).collect();
                    filler::distance(&new, &filler::tensor(&fixture, &format!("{key}.buffer.{}", tensor.name)))
                }
            };
            assert!(distance < TOLERANCE, "{}: {distance:e}", tensor.name);
            worst = worst.max(distance);
            checked += 1;
        }
    }
    println!("{checked} tensors, {worst:e} at most");
    assert!(checked > 40, "{checked} tensors");
}

#[test]
fn one_step_has_the_loss_and_gradients_of_one_batch_in_float64() {
    one_step(settings(4, Recompute::Always), "model_step.safetensors", "swav", false);
}

#[test]
fn padded_crops_have_the_loss_gradients_and_statistics_of_one_masked_batch() {
    for lanes in [1, 4] {
        let mut settings = settings(lanes, Recompute::Always);
        settings.crops.padded = true;
        one_step(settings, "model_kinds.safetensors", "padded", true);
    }
}

#[test]
fn two_groups_of_lanes_have_the_gradients_and_mean_statistics_of_two_halves_of_the_batch() {
    let mut settings = settings(4, Recompute::Always);
    settings.model.sync = Sync::Group(2);
    one_step(settings, "model_kinds.safetensors", "pairs", true);
}

/// Compares one kind of value of every tensor with the fixture's.
fn compare(run: &Run, fixture: &[u8], what: &str, values: &[Vec<f32>], buffers: bool) {
    let (mut checked, mut worst) = (0, 0.0f64);
    for (unit, values) in run.job.model().units().iter().zip(values) {
        for tensor in unit.tensors.iter().filter(|tensor| buffers || tensor.kind == TensorKind::Parameter) {
            let ours = &values[tensor.range()];
            if tensor.name == IDLE {
                assert!(ours.iter().all(|value| value.abs() < 1e-5), "{what} of {}", tensor.name);
                continue;
            }
            let distance = filler::distance(ours, &filler::tensor(fixture, &format!("{what}.{}", tensor.name)));
            assert!(distance < TOLERANCE, "{what} of {}: {distance:e}", tensor.name);
            worst = worst.max(distance);
            checked += 1;
        }
    }
    println!("{checked} tensors, {what} {worst:e} off at most");
    assert!(checked > 40, "{checked} tensors");
}

/// Running statistics are among what is compared: one update a step too many or too few is seen.
fn twenty_steps(recompute: Recompute) {
    let fixture = filler::fixture("model_run.safetensors");
    let mut run = run(settings(4, recompute));
    for (unit, values) in run.job.model().units().iter().zip(&mut run.state.values) {
        // LARC would make a step of full length of its rounding; at 0 it takes the plain one, which is nothing.
        unit.tensors.iter().filter(|tensor| tensor.name == IDLE).for_each(|tensor| values[tensor.range()].fill(0.0));
    }
    let mut losses = Vec::new();
    for step in 0..STEPS {
        losses.push(run.step());
        if step == 2 {
            compare(&run, &fixture, "momentum", &run.state.momentum, false);
        }
    }
    let exact = filler::tensor(&fixture, "loss");
    let distance = filler::distance(&losses, &exact);
    println!("losses {distance:e} off");
    assert!(distance < TOLERANCE, "losses {losses:?}: {distance:e}");
    compare(&run, &fixture, "value", &run.state.values, true);
}

#[test]
fn twenty_steps_leave_the_weights_momentum_and_statistics_of_float64() {
    twenty_steps(Recompute::Always);
}

#[test]
fn twenty_steps_with_kept_graphs_too() {
    twenty_steps(Recompute::Never);
}
