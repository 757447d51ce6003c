//! Loops of squeeze-and-excitation over maps in the order n, h, w, c.

use crate::simd::vectorised;

/// Pixels whose sum is taken in f32; sums of such blocks are added in f64.
const PIXELS: usize = 32;

/// `[n, c]`: for each image and channel Σ f(pixel), times `scale`.
#[inline(always)]
fn sums<'a>(
    pixels: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    c: usize,
    image: usize,
    scale: f64,
    f: impl Fn(f32, f32) -> f32,
) -> Vec<f32> {
    let (mut out, mut totals, mut block) = (Vec::new(), vec![0.0f64; c], vec![0.0f32; c]);
    for (at, (x, y)) in pixels.enumerate() {
        block.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum += f(*x, *y));
        let last = (at + 1).is_multiple_of(image);
        if last || (at % image + 1).is_multiple_of(PIXELS) {
            totals.iter_mut().zip(&mut block).for_each(|(total, sum)| *total += f64::from(std::mem::take(sum)));
        }
        if last {
            out.extend(totals.iter_mut().map(|total| (std::mem::take(total) * scale) as f32));
        }
    }
    out
}

/// The mean of each channel of each image: `[n, c]`; an image has `pixels` pixels.
pub(super) fn means(x: &[f32], c: usize, pixels: usize) -> Vec<f32> {
    let scale = 1.0 / pixels as f64;
    vectorised(
        #[inline(always)]
        || sums(x.chunks_exact(c).map(|x| (x, x)), c, pixels, scale, |x, _| x),
    )
}

/// Σ x·dy of each channel of each image: `[n, c]`.
pub(super) fn products(x: &[f32], dy: &[f32], c: usize, pixels: usize) -> Vec<f32> {
    vectorised(
        #[inline(always)]
        || sums(x.chunks_exact(c).zip(dy.chunks_exact(c)), c, pixels, 1.0, |x, dy| x * dy),
    )
}

/// y = x times the weight of its image and channel.
pub(super) fn weigh(x: &[f32], weights: &[f32], y: &mut [f32], c: usize, pixels: usize) {
    vectorised(
        #[inline(always)]
        || {
            for ((x, y), weights) in x.chunks_exact(c * pixels).zip(y.chunks_exact_mut(c * pixels)).zip(weights.chunks_exact(c)) {
                for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
                    y.iter_mut().zip(x).zip(weights).for_each(|((y, x), weight)| *y = x * weight);
                }
            }
        },
    );
}

/// dx = dy times the weight of its image and channel, plus an equal share of d loss / d mean.
pub(super) fn gradient(dy: &[f32], weights: &[f32], d_means: &[f32], dx: &mut [f32], c: usize, pixels: usize) {
    let share = 1.0 / pixels as f32;
    let images = dy.chunks_exact(c * pixels).zip(dx.chunks_exact_mut(c * pixels));
    vectorised(
        #[inline(always)]
        || {
            for ((dy, dx), (weights, d_means)) in images.zip(weights.chunks_exact(c).zip(d_means.chunks_exact(c))) {
                for (dy, dx) in dy.chunks_exact(c).zip(dx.chunks_exact_mut(c)) {
                    for (((dx, dy), weight), d_mean) in dx.iter_mut().zip(dy).zip(weights).zip(d_means) {
                        *dx = dy * weight + d_mean * share;
                    }
                }
            }
        },
    );
}
