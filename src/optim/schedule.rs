//! Learning rate: a linear warm-up, then half a cosine, as fractions of the run.

use super::Config;

/// The learning rate of `step` (from 0) in a run of `steps`: a pure function.
///
/// With f = step / steps and w = `warmup`: `start_lr` + (`lr` − `start_lr`) f / w while f < w, then
/// `final_lr` + (`lr` − `final_lr`) (1 + cos(π (f − w) / (1 − w))) / 2. Past the end it stays at `final_lr`.
pub fn rate(config: &Config, step: u64, steps: u64) -> f64 {
    let Config { lr, start_lr, final_lr, warmup, .. } = *config;
    if step >= steps {
        return final_lr;
    }
    let fraction = step as f64 / steps as f64;
    if fraction < warmup {
        start_lr + (lr - start_lr) * fraction / warmup
    } else {
        let phase = (fraction - warmup) / (1.0 - warmup);
        final_lr + (lr - final_lr) * 0.5 * (1.0 + (std::f64::consts::PI * phase).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swav::fixtures::Fixture;

    /// The published run: 126,008 steps, the first 5,500 of which warm up.
    #[test]
    fn seer_10b() {
        let config = Config { lr: 9.3, start_lr: 0.15, final_lr: 0.0093, warmup: 5_500.0 / 126_008.0, ..Config::default() };
        let at = |step| rate(&config, step, 126_008);
        assert_eq!(at(0), 0.15);
        assert!((at(2_750) - (0.15 + 9.3) / 2.0).abs() < 1e-9);
        assert!((at(5_500) - 9.3).abs() < 1e-9);
        assert!((at(5_500 + 60_254) - (9.3 + 0.0093) / 2.0).abs() < 1e-6);
        assert!((at(126_007) - 0.0093).abs() < 1e-6);
        assert_eq!(at(126_008), 0.0093);
        assert!((1..5_500).all(|s| at(s) > at(s - 1)) && (5_501..126_008).all(|s| at(s) < at(s - 1)));
    }

    #[test]
    fn without_warm_up_starts_at_the_peak() {
        let config = Config { warmup: 0.0, ..Config::default() };
        assert_eq!(rate(&config, 0, 100), 3.0);
        assert_eq!(rate(&config, 0, 0), 0.003);
    }

    #[test]
    fn agrees_with_pytorch() {
        let config = Config { lr: 3.0, start_lr: 0.3, final_lr: 0.003, warmup: 0.25, ..Config::default() };
        let want = Fixture::load().f64s("schedule.lr");
        assert_eq!(want.len(), 40);
        for (step, want) in want.iter().enumerate() {
            let got = rate(&config, step as u64, 40);
            assert!((got - want).abs() < 1e-9, "step {step}: {got} {want}");
        }
    }
}
