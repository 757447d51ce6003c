//! Steps that compute in 16 bits, on libtorch.

use everstep_actors::workload::Dtype;

use super::run::{Run, job_on, objective, optimizer, settings};
use crate::model::Recompute;
use crate::train::precision::Precision;

/// A run from the seed whose lanes compute in `compute`.
fn start(compute: Dtype, recompute: Recompute) -> Run {
    let precision = Precision { compute, ..Precision::default() };
    let settings = crate::train::Settings { precision, ..settings(4, recompute) };
    Run::seeded(job_on(crate::libtorch::cpu().unwrap(), settings, Box::new(objective()), optimizer()))
}

fn losses(run: &mut Run, steps: usize) -> Vec<f32> {
    (0..steps).map(|_| run.step()).collect()
}

/// Gradients of the trunk at the next step.
fn gradients(run: &Run) -> Vec<f32> {
    let trunk = run.job.model().trunk().len();
    run.gradients().0.into_values().take(trunk).flatten().collect()
}

#[test]
fn sixteen_bits_stay_near_thirty_two() {
    let mut full = start(Dtype::F32, Recompute::Never);
    let exact = (gradients(&full), losses(&mut full, 5));
    // Codes at ε = 0.03 magnify what rounding does to scores; three more bits in f16 make its gradients about eight times as near.
    for (dtype, tolerance) in [(Dtype::BF16, 0.4), (Dtype::F16, 0.1)] {
        let mut half = start(dtype, Recompute::Never);
        if dtype == Dtype::F16 {
            half.state.values.last_mut().unwrap()[0] = 1024.0;
        }
        let apart = crate::model::filler::distance(&gradients(&half), &exact.0);
        let losses = losses(&mut half, 5);
        println!("{dtype:?}: losses {losses:?} where f32 has {:?}; gradients {apart:.1e} apart", exact.1);
        assert!(apart > 0.0 && apart < tolerance, "{dtype:?}: gradients are {apart:e} apart");
        assert!(losses.iter().zip(&exact.1).all(|(a, b)| (a - b).abs() < 0.05 * b), "{dtype:?}: {losses:?}, {:?}", exact.1);
    }
}

#[test]
fn recomputation_changes_no_bit_in_sixteen_bits() {
    for dtype in [Dtype::BF16, Dtype::F16] {
        let after = |recompute| {
            let mut run = start(dtype, recompute);
            (losses(&mut run, 3), run.state)
        };
        assert_eq!(after(Recompute::Never), after(Recompute::Always), "{dtype:?}");
    }
}

#[test]
fn a_step_that_overflows_changes_nothing_but_the_scale() {
    let mut run = start(Dtype::F16, Recompute::Never);
    let scale = run.state.values.len() - 1;
    // As in any run the first scales are tried until one fits.
    while run.state.values[scale][1] == 0.0 {
        run.step();
    }
    assert!(run.state.values[scale][0] >= 1024.0, "{:?}", run.state.values[scale]);
    run.state.values[scale][0] = 2.0f32.powi(60);
    let before = run.state.clone();
    run.step();
    assert_eq!(run.state.values[scale], [2.0f32.powi(59), 0.0]);
    assert_eq!((&run.state.values[..scale], &run.state.momentum), (&before.values[..scale], &before.momentum));
    assert_eq!(run.state.step, before.step + 1, "the step counts, as one that was skipped");
}
