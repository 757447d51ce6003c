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

/// ‖a − b‖ / ‖b‖ over all weights of the trunk.
fn apart(a: &Run, b: &Run) -> f64 {
    let trunk = a.job.model().trunk().len();
    let flat = |run: &Run| run.state.values[..trunk].concat();
    crate::model::filler::distance(&flat(a), &flat(b))
}

#[test]
fn sixteen_bits_stay_near_thirty_two() {
    let mut full = start(Dtype::F32, Recompute::Never);
    let exact = losses(&mut full, 5);
    for (dtype, tolerance) in [(Dtype::BF16, 0.03), (Dtype::F16, 0.01)] {
        let mut half = start(dtype, Recompute::Never);
        let losses = losses(&mut half, 5);
        let apart = apart(&half, &full);
        println!("{dtype:?}: losses {losses:?} where f32 has {exact:?}; weights {apart:.1e} apart");
        assert!(losses.iter().zip(&exact).all(|(a, b)| (a - b).abs() < tolerance * b), "{dtype:?}: {losses:?}, {exact:?}");
        assert!(apart > 0.0 && apart < f64::from(tolerance), "{dtype:?}: weights are {apart:e} apart");
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
    run.step();
    assert_eq!(run.state.values[scale], [65_536.0, 1.0], "the first scale fits");
    run.state.values[scale][0] = 2.0f32.powi(60);
    let before = run.state.clone();
    run.step();
    assert_eq!(run.state.values[scale], [2.0f32.powi(59), 0.0]);
    assert_eq!((&run.state.values[..scale], &run.state.momentum), (&before.values[..scale], &before.momentum));
    assert_eq!(run.state.step, 2, "the step counts, as one that was skipped");
}
