//! Codes: soft assignments of samples to prototypes, balanced over the global batch
//! (Caron et al. 2020, §3.1; Cuturi 2013).
//!
//! With scores S of N samples (rows) against K prototypes, the codes are what is left of
//! exp(S / ε) after `iterations` rounds that scale each prototype's column to the same sum over *all
//! lanes*, then each sample's row to sum 1. Scalings are kept as two vectors, Q = diag(u) E diag(v):
//! E is computed once, and a round is one pass over it that finds u and adds up the next column sums.
//!
//! E holds exp((s − m) / ε) with m the *sample's own* largest score, so every sample keeps the
//! full range of f32 and nothing is asked of other lanes. That is exact, not an approximation, because u starts at
//! exp((m − 1) / ε) instead of 1: diag(u) E is exp((S − 1) / ε), and the one shift common to all
//! samples cancels in the first scaling. Scores are cosines, hence the 1: it keeps u at or below 1.

use std::sync::Arc;

use everstep_actors::workload::Aborted;
use serde::{Deserialize, Serialize};

use super::math::{dots, exp, max, total};
use crate::simd::widest;

/// How codes are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Temperature of the assignment; smaller is sharper. Above 0.
    pub epsilon: f32,
    /// Rounds. 0 leaves a softmax of scores / epsilon.
    pub iterations: u32,
}

impl Default for Settings {
    /// SEER's: 0.03 and 10 rounds.
    fn default() -> Self {
        Self { epsilon: 0.03, iterations: 10 }
    }
}

/// Floor of the first u. Reached only by samples whose best cosine is below 1 − 69 ε.
const LEAST: f32 = 1e-30;
/// Mass of one sample in a prototype that no sample reaches.
const UNREACHED: f32 = 1e-30;
/// Samples that share one pass over v and the column sums.
const BLOCK: usize = 4;

/// The codes `[batch, k]` of one lane's crop; each sample's sum to 1.
///
/// `scores` is `[batch + extra, k]`, cosines: the `extra` last samples (a queue) count in the sums but
/// get no codes; every lane brings as many. `sum` adds K values over the `lanes` lanes and is
/// called once a round, so the codes are those of the whole batch of all lanes.
///
/// A prototype whose sum over all lanes underflows (vissl's zero row) is shared evenly by all samples, as after vissl's
/// addition of a tiny constant; every lane sees the same sum, so all do the same. NaN in the scores comes out as NaN.
///
/// # Errors
/// [`Aborted`] from `sum`.
///
/// # Panics
/// If `scores` is not a whole number of at least `batch` rows, or `sum` returns another length.
pub fn codes(
    scores: &[f32],
    batch: usize,
    k: usize,
    settings: &Settings,
    lanes: u32,
    sum: &mut dyn FnMut(Vec<f32>) -> Result<Arc<Vec<f32>>, Aborted>,
) -> Result<Vec<f32>, Aborted> {
    assert!(k > 0 && scores.len().is_multiple_of(k) && scores.len() >= batch * k, "scores are rows of k values, one a sample");
    let samples = scores.len() / k;
    let mut kernel = vec![0.0; scores.len()];
    let mut u = vec![0.0; samples];
    let mut columns = vec![0.0; k];
    widest(
        #[inline(always)]
        || exponentials(scores, k, settings.epsilon, &mut kernel, &mut u, &mut columns),
    );
    let mut v = vec![1.0; k];
    for round in 0..settings.iterations {
        let sums = sum(std::mem::take(&mut columns))?;
        assert_eq!(sums.len(), k, "a sum has as many values as its parts");
        reciprocals(&sums, &mut v, &mut kernel, &u, lanes as usize * samples);
        if round + 1 < settings.iterations {
            columns = vec![0.0; k];
            widest(
                #[inline(always)]
                || scale_samples(&kernel, &v, &mut u, &mut columns),
            );
        }
    }
    kernel.truncate(batch * k);
    widest(
        #[inline(always)]
        || finish(&mut kernel, &v),
    );
    Ok(kernel)
}

/// E, the first u and the first column sums Σ u E.
#[inline(always)]
fn exponentials(scores: &[f32], k: usize, epsilon: f32, kernel: &mut [f32], u: &mut [f32], columns: &mut [f32]) {
    let sharpness = 1.0 / epsilon;
    for ((scores, row), u) in scores.chunks_exact(k).zip(kernel.chunks_exact_mut(k)).zip(u) {
        let top = max(scores);
        let scale = exp((top - 1.0) * sharpness);
        *u = if scale < LEAST { LEAST } else { scale };
        for ((e, s), sum) in row.iter_mut().zip(scores).zip(&mut *columns) {
            *e = exp((s - top) * sharpness);
            *sum += *u * *e;
        }
    }
}

/// v = (samples / K) / sums: both scalings keep the total mass, so u and v do not drift however many rounds there are. An unreached prototype's column of E becomes [`UNREACHED`] / u, so that its sum is known without asking again.
fn reciprocals(sums: &[f32], v: &mut [f32], kernel: &mut [f32], u: &[f32], samples: usize) {
    let k = sums.len();
    let samples = samples as f32;
    let mass = samples / k as f32;
    for (column, (v, &sum)) in v.iter_mut().zip(sums).enumerate() {
        *v = mass / sum;
        if sum < f32::MIN_POSITIVE {
            *v = mass / (UNREACHED * samples);
            for (row, u) in kernel.chunks_exact_mut(k).zip(u) {
                row[column] = (UNREACHED / u).min(1.0);
            }
        }
    }
}

/// u = 1 / (E v), and the column sums Σ u E of the next round, in one pass over E.
#[inline(always)]
fn scale_samples(kernel: &[f32], v: &[f32], u: &mut [f32], columns: &mut [f32]) {
    let k = v.len();
    let mut blocks = kernel.chunks_exact(BLOCK * k);
    let (u_blocks, u_rest) = u.as_chunks_mut::<BLOCK>();
    for (block, u) in (&mut blocks).zip(u_blocks) {
        let rows: [&[f32]; BLOCK] = std::array::from_fn(|i| &block[i * k..(i + 1) * k]);
        *u = add_block(rows, v, columns);
    }
    for (row, u) in blocks.remainder().chunks_exact(k).zip(u_rest) {
        [*u] = add_block([row], v, columns);
    }
}

#[inline(always)]
fn add_block<const N: usize>(rows: [&[f32]; N], v: &[f32], columns: &mut [f32]) -> [f32; N] {
    let u = dots(rows, v).map(|sum| 1.0 / sum);
    let rows = rows.map(|row| &row[..columns.len()]);
    for (i, column) in columns.iter_mut().enumerate() {
        let mut sum = *column;
        for n in 0..N {
            sum += u[n] * rows[n][i];
        }
        *column = sum;
    }
    u
}

/// E diag(v), each row scaled to sum 1.
#[inline(always)]
fn finish(kernel: &mut [f32], v: &[f32]) {
    for row in kernel.chunks_exact_mut(v.len()) {
        for (e, v) in row.iter_mut().zip(v) {
            *e *= v;
        }
        let scale = 1.0 / total(row);
        row.iter_mut().for_each(|e| *e *= scale);
    }
}

#[cfg(test)]
mod tests;
