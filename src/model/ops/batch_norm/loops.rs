//! Loops of batch norm over f32 slices whose channels lie side by side (order n, h, w, c). Sums run in a fixed order: a block of rows at a time, the
//! blocks' sums in f64.

use super::{EPSILON, Moments};
use crate::simd::vectorised;

/// What batch norm knows of each channel.
#[derive(Debug)]
pub(super) struct PerChannel {
    mean: Vec<f32>,
    /// 1 / √(variance + ε).
    inv: Vec<f32>,
    /// γ·inv.
    a: Vec<f32>,
    /// β − mean·γ·inv.
    b: Vec<f32>,
}

impl PerChannel {
    pub(super) fn new(gamma: &[f32], beta: &[f32], moments: &Moments) -> Self {
        let inv: Vec<f32> = moments.var.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
        let a: Vec<f32> = gamma.iter().zip(&inv).map(|(g, i)| g * i).collect();
        let b = beta.iter().zip(&moments.mean).zip(&a).map(|((b, m), a)| b - m * a).collect();
        Self { mean: moments.mean.clone(), inv, a, b }
    }
}

/// Rows of a block: few enough for it to stay in the cache while it is read again.
const ROWS: usize = 32;

/// Mean and sum of squared deviations of each of `c` channels: `[2, c]`. Blocks are merged by Chan, Golub and LeVeque's formula (1983).
pub(super) fn moments(x: &[f32], c: usize) -> Vec<f32> {
    let mut mean = vec![0.0f64; c];
    let mut squares = vec![0.0f64; c];
    let (mut first, mut second) = (vec![0.0f32; c], vec![0.0f32; c]);
    let mut seen = 0.0f64;
    for block in x.chunks(ROWS * c) {
        let rows = (block.len() / c) as f64;
        vectorised(
            #[inline(always)]
            || {
                first.fill(0.0);
                for row in block.chunks_exact(c) {
                    first.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                let share = 1.0 / rows as f32;
                first.iter_mut().for_each(|sum| *sum *= share);
                second.fill(0.0);
                for row in block.chunks_exact(c) {
                    second.iter_mut().zip(row).zip(&first).for_each(|((sum, x), mean)| *sum += (x - mean) * (x - mean));
                }
                let (old, new) = (seen / (seen + rows), rows / (seen + rows));
                for (((mean, squares), first), second) in mean.iter_mut().zip(&mut squares).zip(&first).zip(&second) {
                    let apart = f64::from(*first) - *mean;
                    *mean += apart * new;
                    *squares += f64::from(*second) + apart * apart * rows * old;
                }
            },
        );
        seen += rows;
    }
    mean.iter().chain(&squares).map(|v| *v as f32).collect()
}

/// y = x·a + b per channel, below zero cut off when `relu` (NaN stays NaN).
pub(super) fn apply(x: &[f32], y: &mut [f32], per: &PerChannel, relu: bool) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let c = per.a.len();
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                for (((y, x), a), b) in y.iter_mut().zip(x).zip(&per.a).zip(&per.b) {
                    let v = x * a + b;
                    *y = if v < floor { floor } else { v };
                }
            }
        },
    );
}

/// y = x·a + b per channel, plus the shortcut, below zero cut off.
pub(super) fn onto(shortcut: &[f32], x: &[f32], y: &mut [f32], per: &PerChannel) {
    let c = per.a.len();
    vectorised(
        #[inline(always)]
        || {
            for ((y, x), shortcut) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(shortcut.chunks_exact(c)) {
                for ((((y, x), shortcut), a), b) in y.iter_mut().zip(x).zip(shortcut).zip(&per.a).zip(&per.b) {
                    let v = x * a + b + shortcut;
                    *y = if v < 0.0 { 0.0 } else { v };
                }
            }
        },
    );
}

/// dy where y has not been cut off.
pub(super) fn cut(y: &[f32], dy: &[f32], cut: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((cut, y), dy) in cut.iter_mut().zip(y).zip(dy) {
                *cut = if *y <= 0.0 { 0.0 } else { *dy };
            }
        },
    );
}

/// Σ dy and Σ dy·x̂ per channel: `[2, c]`, where dy counts where x·a + b is above the floor.
pub(super) fn gradient_sums(x: &[f32], dy: &[f32], per: &PerChannel, relu: bool) -> Vec<f32> {
    let c = per.a.len();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let (mut totals, mut products) = (vec![0.0f64; c], vec![0.0f64; c]);
    let (mut first, mut second) = (vec![0.0f32; c], vec![0.0f32; c]);
    for (x, dy) in x.chunks(ROWS * c).zip(dy.chunks(ROWS * c)) {
        vectorised(
            #[inline(always)]
            || {
                first.fill(0.0);
                second.fill(0.0);
                for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                    let known = per.a.iter().zip(&per.b).zip(&per.mean);
                    let sums = first.iter_mut().zip(second.iter_mut());
                    for ((((first, second), x), dy), ((a, b), mean)) in sums.zip(x).zip(dy).zip(known) {
                        let dy = if x * a + b <= floor { 0.0 } else { *dy };
                        *first += dy;
                        *second += dy * (x - mean);
                    }
                }
                totals.iter_mut().zip(&first).for_each(|(total, sum)| *total += f64::from(*sum));
                products.iter_mut().zip(&second).for_each(|(total, sum)| *total += f64::from(*sum));
            },
        );
    }
    let scaled = products.iter().zip(&per.inv).map(|(sum, inv)| (sum * f64::from(*inv)) as f32);
    totals.iter().map(|sum| *sum as f32).chain(scaled).collect()
}

/// dx = a·(dy − mean(dy) − x̂·mean(dy·x̂)), the means per channel given as `[2, c]`.
pub(super) fn gradient(x: &[f32], dy: &[f32], dx: &mut [f32], per: &PerChannel, means: &[f32], relu: bool) {
    let c = per.a.len();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    // a·(dy − m₁ − (x − mean)·inv·m₂) = a·(dy − m₁) + (x − mean)·slope
    let slope: Vec<f32> = (0..c).map(|i| -per.a[i] * per.inv[i] * means[c + i]).collect();
    vectorised(
        #[inline(always)]
        || {
            for ((dx, x), dy) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(dy.chunks_exact(c)) {
                let known = per.a.iter().zip(&per.b).zip(slope.iter().zip(&per.mean).zip(means));
                for (((dx, x), dy), ((a, b), ((slope, mean), first))) in dx.iter_mut().zip(x).zip(dy).zip(known) {
                    let dy = if x * a + b <= floor { 0.0 } else { *dy };
                    *dx = a * (dy - first) + (x - mean) * slope;
                }
            }
        },
    );
}
