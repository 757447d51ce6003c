//! What a step leaves behind: once when it commits, nothing when it is aborted.

use super::run::{Run, State, job, objective, optimizer, settings};
use crate::model::Recompute;
use crate::optim;
use crate::train::{Settings, queue};

fn start(settings: Settings, config: optim::Config) -> Run {
    Run::seeded(job(settings, Box::new(objective()), config))
}

/// Two blocks of the global batch, read from step 2 on.
fn with_queue(recompute: Recompute) -> Settings {
    Settings { queue: Some(queue::Config { images: 32, start: 0, crops: 2, random: false }), ..settings(4, recompute) }
}

fn after(settings: Settings, steps: usize) -> (State, Vec<f32>) {
    let mut run = start(settings, optimizer());
    let losses = (0..steps).map(|_| run.step()).collect();
    (run.state, losses)
}

#[test]
fn both_memory_plans_give_the_same_state() {
    let kept = after(with_queue(Recompute::Never), 3);
    assert_eq!(kept, after(with_queue(Recompute::Always), 3));
}

#[test]
fn an_aborted_step_leaves_no_trace() {
    let (whole, _) = after(with_queue(Recompute::Always), 4);
    let mut run = start(with_queue(Recompute::Always), optimizer());
    for _ in 0..4 {
        let before = run.state.clone();
        for call in [0, 17, 90, 250] {
            assert!(run.abort(call), "the step makes more than {call} calls");
            assert_eq!(run.state, before);
        }
        run.step();
    }
    assert_eq!(run.state, whole);
}

#[test]
fn prototypes_rest_while_frozen_and_stay_on_the_sphere_after() {
    let mut run = start(settings(4, Recompute::Never), optim::Config { freeze_prototypes: 2, ..optimizer() });
    let unit = run.job.model().prototypes_id().0 as usize;
    let first = run.state.values[unit].clone();
    for step in 0..4 {
        let trunk = run.state.values[0].clone();
        run.step();
        assert_ne!(run.state.values[0], trunk, "the trunk moves");
        let moved = run.state.values[unit].iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let pushed = run.state.momentum[unit].iter().any(|m| *m != 0.0);
        // Scaling a row of length 1 to length 1 may still change its last bit.
        assert!(if step < 2 { moved < 1e-6 && !pushed } else { moved > 1e-3 && pushed }, "step {step}: {moved}");
        for row in run.state.values[unit].chunks_exact(run.job.model().dim()) {
            let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "step {step}: {length}");
        }
    }
}

#[test]
fn a_queue_that_is_not_read_changes_no_bit() {
    let (without, losses) = after(settings(4, Recompute::Never), 3);
    let config = queue::Config { images: 32, start: 100, crops: 2, random: false };
    let (with, same) = after(Settings { queue: Some(config), ..settings(4, Recompute::Never) }, 3);
    assert_eq!(losses, same);
    let model = without.values.len();
    assert_eq!((&with.values[..model], &with.momentum[..model]), (&without.values[..], &without.momentum[..]));
    assert_eq!(with.values.len(), model + 1);
}
