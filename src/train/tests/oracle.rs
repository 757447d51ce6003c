//! Whole SwAV steps of the tiny net against PyTorch in float64 (`tests/reference/model.py`).

use everstep_actors::workload::TensorKind;

use super::run::{Run, job, loss, objective, optimizer, settings};
use crate::model::{Recompute, filler};

/// Norm-relative error that float32 may have.
const TOLERANCE: f64 = 1e-4;
/// The one bias that a batch norm follows: it has no gradient but rounding's.
const IDLE: &str = "head.fc1.bias";

fn run(recompute: Recompute) -> Run {
    let job = job(settings(4, recompute), Box::new(objective()), optimizer());
    let values = filler::units(job.model()).iter().map(|unit| unit.to_vec()).collect();
    Run::new(job, values)
}

#[test]
fn one_step_has_the_loss_and_gradients_of_one_batch_in_float64() {
    let fixture = filler::fixture("model_step.safetensors");
    let run = run(Recompute::Always);
    let (gradients, reports) = run.gradients();
    let distance = filler::distance(&[loss(&reports)], &filler::tensor(&fixture, "swav.loss"));
    assert!(distance < TOLERANCE, "loss: {distance:e}");
    let (mut checked, mut worst) = (0, 0.0f64);
    for (unit, gradient) in run.job.model().units().iter().zip(gradients.values()) {
        for tensor in unit.tensors.iter().filter(|tensor| tensor.kind == TensorKind::Parameter) {
            let ours = &gradient[tensor.range()];
            if tensor.name == IDLE {
                assert!(ours.iter().all(|value| value.abs() < 1e-6), "{}", tensor.name);
                continue;
            }
            let distance = filler::distance(ours, &filler::tensor(&fixture, &format!("swav.grad.{}", tensor.name)));
            assert!(distance < TOLERANCE, "{}: {distance:e}", tensor.name);
            worst = worst.max(distance);
            checked += 1;
        }
    }
    println!("{checked} gradients, {worst:e} at most");
    assert!(checked > 40, "{checked} tensors");
}

/// Running statistics are among what is compared: one update a step too many or too few is seen.
fn three_steps(recompute: Recompute) {
    let fixture = filler::fixture("model_run.safetensors");
    let mut run = run(recompute);
    for (unit, values) in run.job.model().units().iter().zip(&mut run.state.values) {
        // LARC would make a step of full length of its rounding; at 0 it takes the plain one, which is nothing.
        unit.tensors.iter().filter(|tensor| tensor.name == IDLE).for_each(|tensor| values[tensor.range()].fill(0.0));
    }
    let losses: Vec<f32> = (0..3).map(|_| run.step()).collect();
    let distance = filler::distance(&losses, &filler::tensor(&fixture, "loss"));
    assert!(distance < TOLERANCE, "losses {losses:?}: {distance:e}");
    let (mut checked, mut worst) = (0, 0.0f64);
    for (id, unit) in run.job.model().units().iter().enumerate() {
        for tensor in &unit.tensors {
            let mut compare = |what: &str, ours: &[f32]| {
                let reference = filler::tensor(&fixture, &format!("{what}.{}", tensor.name));
                if tensor.name == IDLE {
                    assert!(ours.iter().all(|value| value.abs() < 1e-5), "{what} of {}", tensor.name);
                    return;
                }
                let distance = filler::distance(ours, &reference);
                assert!(distance < TOLERANCE, "{what} of {}: {distance:e}", tensor.name);
                worst = worst.max(distance);
                checked += 1;
            };
            compare("value", &run.state.values[id][tensor.range()]);
            if tensor.kind == TensorKind::Parameter {
                compare("momentum", &run.state.momentum[id][tensor.range()]);
            }
        }
    }
    println!("{checked} tensors, {worst:e} at most, losses {losses:?}");
    assert!(checked > 100, "{checked} tensors");
}

#[test]
fn three_steps_leave_the_weights_momentum_and_statistics_of_float64() {
    three_steps(Recompute::Always);
}

#[test]
fn three_steps_with_kept_graphs_too() {
    three_steps(Recompute::Never);
}
