//! Convolution of narrow groups with sums that stay in registers: groups whose widths are multiples of eight.

use super::grid::{Pixel, Tap};
use super::host::Sizes;
use crate::simd::vectorised;

/// Input channels that are taken at a time.
const DEEP: usize = 8;
/// Pixels whose inputs stay in the nearest cache while all groups look at them.
const NEAR: usize = 96;

/// Whether groups of these widths are computed here.
pub(super) fn fits(s: Sizes) -> bool {
    s.groups > 1 && s.deep.is_multiple_of(DEEP) && s.wide.is_multiple_of(8)
}

/// Output channels that are computed at a time.
pub(super) fn block(s: Sizes) -> usize {
    if s.wide.is_multiple_of(16) { 16 } else { 8 }
}

/// For each pixel and output channel of its group the sum over taps and input channels; `weights`: `[group, block, tap, deep, channel of block]`.
pub(super) fn gather(x: &[f32], y: &mut [f32], taps: &[Tap], pixels: &[Pixel], weights: &[f32], s: Sizes) {
    if taps.is_empty() {
        return;
    }
    // 64 sums: as many as the compiler keeps in registers.
    vectorised(
        #[inline(always)]
        || match block(s) {
            16 => over::<4, 16>(x, y, taps, pixels, weights, s),
            _ => over::<8, 8>(x, y, taps, pixels, weights, s),
        },
    );
}

#[inline(always)]
fn over<const P: usize, const V: usize>(x: &[f32], y: &mut [f32], taps: &[Tap], pixels: &[Pixel], weights: &[f32], s: Sizes) {
    for near in pixels.chunks(NEAR) {
        for (at, weights) in weights.chunks_exact(taps.len() * s.deep * V).enumerate() {
            let (from, to) = (at * V / s.wide * s.deep, at * V);
            let (tiles, rest) = near.as_chunks::<P>();
            for tile in tiles {
                sums::<P, V>(x, y, taps, tile, weights, [from, to, s.deep]);
            }
            if rest.is_empty() {
                continue;
            }
            // The last pixels again together with some before them: their sums are the same in any company.
            match near.last_chunk::<P>() {
                Some(tile) => sums::<P, V>(x, y, taps, tile, weights, [from, to, s.deep]),
                None => rest.iter().for_each(|pixel| sums::<1, V>(x, y, taps, &[*pixel], weights, [from, to, s.deep])),
            }
        }
    }
}

#[inline(always)]
fn sums<const P: usize, const V: usize>(
    x: &[f32],
    y: &mut [f32],
    taps: &[Tap],
    pixels: &[Pixel; P],
    weights: &[f32],
    [from, to, deep]: [usize; 3],
) {
    let mut sums = [[0.0f32; V]; P];
    for (tap, weights) in taps.iter().zip(weights.chunks_exact(deep * V)) {
        for (first, weights) in (from..from + deep).step_by(DEEP).zip(weights.as_chunks::<V>().0.as_chunks::<DEEP>().0) {
            let inputs: [&[f32; DEEP]; P] =
                std::array::from_fn(|p| x[pixels[p].from + tap.offset + first..].first_chunk().expect("every tap lies in the grid"));
            for i in 0..DEEP {
                for p in 0..P {
                    for v in 0..V {
                        sums[p][v] = inputs[p][i].mul_add(weights[i][v], sums[p][v]);
                    }
                }
            }
        }
    }
    for (pixel, sums) in pixels.iter().zip(&sums) {
        y[pixel.to + to..pixel.to + to + V].copy_from_slice(sums);
    }
}

/// Adds the products of every pixel's inputs with its `dy` to `dw`, which is ordered as the weights of [`gather`].
pub(super) fn products(x: &[f32], dy: &[f32], taps: &[Tap], pixels: &[Pixel], dw: &mut [f32], s: Sizes) {
    vectorised(
        #[inline(always)]
        || match block(s) {
            16 => outer::<4, 16>(x, dy, taps, pixels, dw, s),
            _ => outer::<8, 8>(x, dy, taps, pixels, dw, s),
        },
    );
}

#[inline(always)]
fn outer<const I: usize, const V: usize>(x: &[f32], dy: &[f32], taps: &[Tap], pixels: &[Pixel], dw: &mut [f32], s: Sizes) {
    for near in pixels.chunks(NEAR) {
        for (at, dw) in dw.chunks_exact_mut(taps.len() * s.deep * V).enumerate() {
            let (from, to) = (at * V / s.wide * s.deep, at * V);
            for (tap, dw) in taps.iter().zip(dw.chunks_exact_mut(s.deep * V)) {
                for (first, dw) in (from..from + s.deep).step_by(I).zip(dw.as_chunks_mut::<V>().0.as_chunks_mut::<I>().0) {
                    let mut sums = [[0.0f32; V]; I];
                    for pixel in near {
                        let input: &[f32; I] = x[pixel.from + tap.offset + first..].first_chunk().expect("every tap lies in the grid");
                        let dy: &[f32; V] = dy[pixel.to + to..].first_chunk().expect("every pixel lies in the map");
                        for i in 0..I {
                            for v in 0..V {
                                sums[i][v] = input[i].mul_add(dy[v], sums[i][v]);
                            }
                        }
                    }
                    for (dw, sums) in dw.iter_mut().zip(&sums) {
                        dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
                    }
                }
            }
        }
    }
}
