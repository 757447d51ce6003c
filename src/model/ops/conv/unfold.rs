//! Convolution as matrix products over unfolded pixels: what pixels see through their taps, side by side.

use super::super::product::{Matrix, product};
use super::grid::{Pixel, Tap};
use super::host::Sizes;

/// Pixels that are unfolded at a time: enough for the product to run well, few enough to stay in the cache.
const PIXELS: usize = 1024;

/// What lies side by side in the grid: where it begins, how long it is.
fn runs(taps: &[Tap], s: Sizes) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for tap in taps {
        match runs.last_mut() {
            // Without groups taps of one line are neighbours.
            Some((first, length)) if s.groups == 1 && *first + *length == tap.offset => *length += s.deep,
            _ => runs.push((tap.offset, s.deep)),
        }
    }
    runs
}

fn unfold(cols: &mut Vec<f32>, x: &[f32], runs: &[(usize, usize)], pixels: &[Pixel], first: usize) {
    cols.clear();
    for pixel in pixels {
        for (offset, length) in runs {
            let from = pixel.from + offset + first;
            cols.extend_from_slice(&x[from..from + length]);
        }
    }
}

/// How far apart the pixels' values are, if that is the same for all.
fn even(pixels: &[Pixel]) -> Option<usize> {
    let stride = pixels.get(1)?.to.checked_sub(pixels[0].to)?;
    pixels.windows(2).all(|pair| pair[0].to + stride == pair[1].to).then_some(stride)
}

/// For each pixel and output channel of its group the sum over taps and input channels; `weights`: `[group, tap, deep, wide]`.
pub(super) fn gather(x: &[f32], y: &mut [f32], taps: &[Tap], pixels: &[Pixel], weights: &[f32], s: Sizes) {
    let (rows, runs) = (taps.len() * s.deep, runs(taps, s));
    if rows == 0 {
        return;
    }
    let (mut cols, mut sums) = (Vec::new(), Vec::new());
    for pixels in pixels.chunks(PIXELS) {
        let even = even(pixels);
        for (group, weights) in weights.chunks_exact(rows * s.wide).enumerate() {
            unfold(&mut cols, x, &runs, pixels, group * s.deep);
            let (shape, a, b) = ([pixels.len(), s.wide, rows], Matrix(&cols, rows, 1), Matrix(weights, s.wide, 1));
            if let Some(stride) = even {
                product(&mut y[pixels[0].to + group * s.wide..], stride, shape, a, b, false);
                continue;
            }
            sums.resize(pixels.len() * s.wide, 0.0);
            product(&mut sums, s.wide, shape, a, b, false);
            for (pixel, sums) in pixels.iter().zip(sums.chunks_exact(s.wide)) {
                let to = pixel.to + group * s.wide;
                y[to..to + s.wide].copy_from_slice(sums);
            }
        }
    }
}

/// Adds the products of every pixel's inputs with its `dy` to `dw`, which is ordered as the weights of [`gather`].
pub(super) fn products(x: &[f32], dy: &[f32], taps: &[Tap], pixels: &[Pixel], dw: &mut [f32], s: Sizes) {
    let (rows, runs) = (taps.len() * s.deep, runs(taps, s));
    let (mut cols, stride) = (Vec::new(), s.groups * s.wide);
    for pixels in pixels.chunks(PIXELS) {
        for (group, dw) in dw.chunks_exact_mut(rows * s.wide).enumerate() {
            unfold(&mut cols, x, &runs, pixels, group * s.deep);
            // Output pixels lie in order.
            let dy = Matrix(&dy[pixels[0].to + group * s.wide..], stride, 1);
            product(dw, s.wide, [rows, s.wide, pixels.len()], Matrix(&cols, 1, rows), dy, true);
        }
    }
}
