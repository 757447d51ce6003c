//! The swapped prediction loss and its gradient (Caron et al. 2020, equation 2, over several crops).

use super::math::{dot, exp, max, total};
use crate::simd::vectorised;

/// Loss of one lane's batch and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct SwavLoss {
    /// Mean cross-entropy, in nats.
    pub loss: f32,
    /// d loss / d scores, `[crops · batch, k]` crop-major.
    pub d_scores: Vec<f32>,
}

/// The SwAV loss of one lane.
///
/// `scores` is `[crops · batch, k]`, crop-major: rows `c · batch ..` belong to crop `c`. `codes[i]`, `[batch, k]`, are the codes
/// of crop `i`; the crops that have codes come first. With A = `codes.len()`, C = `crops`, x = scores / T and p = softmax(x):
///
/// loss = 1 / (A (C − 1) B) · Σᵢ Σ_{v ≠ i} Σ_b −Σ_k qᵢ log p_v
///
/// d loss / d s_v = 1 / (A (C − 1) B T) · Σ_{i ≠ v} (p_v Σ_k qᵢ − qᵢ)
///
/// The denominator is C − 1 whatever the crops' sizes; codes are constants (no gradient flows through them).
///
/// # Panics
/// If the lengths do not fit, or there is less than one crop with codes or two crops.
pub fn swav(scores: &[f32], codes: &[Vec<f32>], crops: usize, batch: usize, k: usize, temperature: f32) -> SwavLoss {
    assert!(!codes.is_empty() && codes.len() <= crops && crops >= 2, "codes of one crop at least, and another crop to predict them");
    assert!(batch > 0 && k > 0 && scores.len() == crops * batch * k, "scores are crops · batch rows of k values");
    assert!(codes.iter().all(|codes| codes.len() == batch * k), "codes are batch rows of k values");
    let terms = (codes.len() * (crops - 1) * batch) as f32;
    let scale = 1.0 / (terms * temperature);
    let mut d_scores = vec![0.0; scores.len()];
    let mut target = vec![0.0; k];
    let mut loss = 0.0f64;
    for (row, (scores, d)) in scores.chunks_exact(k).zip(d_scores.chunks_exact_mut(k)).enumerate() {
        let (crop, sample) = (row / batch, row % batch);
        target.fill(0.0);
        let others = codes.iter().enumerate().filter(|(i, _)| *i != crop);
        for (_, codes) in others {
            target.iter_mut().zip(&codes[sample * k..]).for_each(|(t, q)| *t += q);
        }
        loss += vectorised(
            #[inline(always)]
            || cross_entropy(scores, &target, 1.0 / temperature, scale, d),
        );
    }
    SwavLoss { loss: (loss / f64::from(terms)) as f32, d_scores }
}

/// −Σ q log softmax(sharpness · s) of one row; `d` becomes scale · (softmax · Σ q − q).
#[inline(always)]
fn cross_entropy(scores: &[f32], target: &[f32], sharpness: f32, scale: f32, d: &mut [f32]) -> f64 {
    let top = max(scores);
    for (d, s) in d.iter_mut().zip(scores) {
        *d = (s - top) * sharpness;
    }
    let (mass, agreement) = (total(target), dot(target, d));
    for d in &mut *d {
        *d = exp(*d);
    }
    let partition = total(d);
    let share = mass / partition;
    for (d, q) in d.iter_mut().zip(target) {
        *d = scale * (*d * share - q);
    }
    f64::from(partition).ln() * f64::from(mass) - f64::from(agreement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swav::fixtures::{Fixture, distance};

    fn exact(scores: &[f64], codes: &[Vec<f32>], crops: usize, batch: usize, k: usize, temperature: f64) -> f64 {
        let mut loss = 0.0;
        for (i, codes) in codes.iter().enumerate() {
            for v in (0..crops).filter(|v| *v != i) {
                for b in 0..batch {
                    let row = &scores[(v * batch + b) * k..][..k];
                    let partition: f64 = row.iter().map(|s| (s / temperature).exp()).sum();
                    let log_p = row.iter().map(|s| s / temperature - partition.ln());
                    loss -= log_p.zip(&codes[b * k..]).map(|(p, q)| p * f64::from(*q)).sum::<f64>();
                }
            }
        }
        loss / (codes.len() * (crops - 1) * batch) as f64
    }

    #[test]
    fn gradient_is_the_slope() {
        let (crops, batch, k) = (4, 3, 5);
        let scores: Vec<f32> = (0..crops * batch * k).map(|i| ((i * 29 % 17) as f32 - 8.0) / 9.0).collect();
        // Not normalised on purpose: the formula must hold for any codes.
        let codes: Vec<Vec<f32>> = (0..2).map(|c| (0..batch * k).map(|i| ((i * 7 + c * 3) % 11) as f32 / 20.0).collect()).collect();
        let got = swav(&scores, &codes, crops, batch, k, 0.1);
        let wide: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
        assert!((f64::from(got.loss) - exact(&wide, &codes, crops, batch, k, 0.1)).abs() < 1e-5);
        let slopes: Vec<f64> = (0..scores.len())
            .map(|i| {
                let at = |step: f64| {
                    let mut moved = wide.clone();
                    moved[i] += step;
                    exact(&moved, &codes, crops, batch, k, 0.1)
                };
                (at(1e-5) - at(-1e-5)) / 2e-5
            })
            .collect();
        let off = distance(&got.d_scores, &slopes);
        assert!(off < 1e-5, "{off}");
    }

    #[test]
    fn agrees_with_pytorch() {
        let fixture = Fixture::load();
        let codes = vec![fixture.f32s("loss.codes0"), fixture.f32s("loss.codes1")];
        let got = swav(&fixture.f32s("loss.scores"), &codes, 6, 4, 24, 0.1);
        let off = distance(&got.d_scores, &fixture.f64s("loss.d_scores"));
        assert!(off < 1e-5, "{off}");
        let off = distance(&[got.loss], &fixture.f64s("loss.loss"));
        assert!(off < 1e-6, "{off}");
    }

    #[test]
    fn an_undecided_model_sits_at_ln_k() {
        let got = swav(&[0.5; 3 * 2 * 8], &[vec![0.125; 16], vec![0.125; 16]], 3, 2, 8, 0.1);
        assert!((got.loss - 8f32.ln()).abs() < 1e-6);
        assert!(got.d_scores.iter().all(|d| d.abs() < 1e-7));
    }
}
