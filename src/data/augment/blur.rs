//! Gaussian blur of one plane, as two passes with a symmetric kernel; edges are extended.

/// Values that one step of a pass computes: enough to fill vector registers of any width.
const LANES: usize = 16;

/// Radius of the kernel of `sigma`: it is cut at three sigma.
fn radius(sigma: f32) -> usize {
    ((sigma * 3.0).ceil() as usize).clamp(1, 9)
}

/// Half of the kernel, from its centre outwards, for a sum of 1 over the whole kernel.
fn half_kernel<const R: usize>(sigma: f32) -> ([f32; R], f32) {
    let weight = |x: f32| (-x * x / (2.0 * sigma * sigma)).exp();
    let side: [f32; R] = std::array::from_fn(|i| weight(i as f32 + 1.0));
    let sum = 1.0 + 2.0 * side.iter().sum::<f32>();
    (side.map(|w| w / sum), 1.0 / sum)
}

/// Working memory of the blur.
#[derive(Debug, Default)]
pub struct BlurScratch {
    row: Vec<f32>,
    plane: Vec<f32>,
}

/// Blurs a square plane of `size` × `size` in place and then maps each value `v` to `v · scale + offset`.
pub fn blur(plane: &mut [f32], size: usize, sigma: f32, scale: f32, offset: f32, scratch: &mut BlurScratch) {
    match radius(sigma) {
        1 => blur_radius::<1>(plane, size, sigma, scale, offset, scratch),
        2 => blur_radius::<2>(plane, size, sigma, scale, offset, scratch),
        3 => blur_radius::<3>(plane, size, sigma, scale, offset, scratch),
        4 => blur_radius::<4>(plane, size, sigma, scale, offset, scratch),
        5 => blur_radius::<5>(plane, size, sigma, scale, offset, scratch),
        6 => blur_radius::<6>(plane, size, sigma, scale, offset, scratch),
        7 => blur_radius::<7>(plane, size, sigma, scale, offset, scratch),
        8 => blur_radius::<8>(plane, size, sigma, scale, offset, scratch),
        _ => blur_radius::<9>(plane, size, sigma, scale, offset, scratch),
    }
}

fn blur_radius<const R: usize>(plane: &mut [f32], size: usize, sigma: f32, scale: f32, offset: f32, scratch: &mut BlurScratch) {
    let (side, centre) = half_kernel::<R>(sigma);
    let stride = size.next_multiple_of(LANES);
    scratch.row.resize(stride + 2 * R, 0.0);
    scratch.plane.resize(stride * size, 0.0);
    for (source, target) in plane.chunks_exact(size).zip(scratch.plane.chunks_exact_mut(stride)) {
        let (first, last) = (source[0], source[size - 1]);
        scratch.row[..R].fill(first);
        scratch.row[R..R + size].copy_from_slice(source);
        scratch.row[R + size..].fill(last);
        for (i, out) in target.chunks_exact_mut(LANES).enumerate() {
            let window = &scratch.row[i * LANES..i * LANES + LANES + 2 * R];
            out.copy_from_slice(&weigh(centre, &side, |tap| lanes(window, tap)));
        }
    }
    // The scale rides on the weights of the second pass.
    let (side, centre) = (side.map(|w| w * scale), centre * scale);
    for (y, target) in plane.chunks_exact_mut(size).enumerate() {
        let rows: [&[f32]; 19] = std::array::from_fn(|tap| {
            let y = (y + tap.min(2 * R)).saturating_sub(R).min(size - 1);
            &scratch.plane[y * stride..(y + 1) * stride]
        });
        for (i, out) in target.chunks_mut(LANES).enumerate() {
            let values = weigh(centre, &side, |tap| lanes(rows[tap], i * LANES));
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value + offset);
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32], start: usize) -> &[f32; LANES] {
    values[start..].first_chunk().expect("rows are padded to whole steps")
}

/// `centre · tap(R) + Σ sideᵢ · (tap(R − i) + tap(R + i))` for 16 neighbours at once.
#[inline(always)]
fn weigh<'a, const R: usize>(centre: f32, side: &[f32; R], tap: impl Fn(usize) -> &'a [f32; LANES]) -> [f32; LANES] {
    let middle = tap(R);
    let mut sum: [f32; LANES] = std::array::from_fn(|lane| middle[lane] * centre);
    for (i, weight) in side.iter().enumerate() {
        let (before, after) = (tap(R - 1 - i), tap(R + 1 + i));
        for lane in 0..LANES {
            sum[lane] += (before[lane] + after[lane]) * weight;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: a two-dimensional convolution in f64 with the edge repeated.
    fn reference(plane: &[f32], size: usize, sigma: f32) -> Vec<f32> {
        let r = radius(sigma) as i64;
        let weight = |x: i64, y: i64| (-((x * x + y * y) as f64) / (2.0 * f64::from(sigma).powi(2))).exp();
        let at = |x: i64, y: i64| {
            let clamp = |v: i64| v.clamp(0, size as i64 - 1) as usize;
            f64::from(plane[clamp(y) * size + clamp(x)])
        };
        let total: f64 = (-r..=r).flat_map(|y| (-r..=r).map(move |x| weight(x, y))).sum();
        let pixel = |x: i64, y: i64| {
            (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dx, dy))).map(|(dx, dy)| weight(dx, dy) * at(x + dx, y + dy)).sum::<f64>()
        };
        (0..size as i64).flat_map(|y| (0..size as i64).map(move |x| (x, y))).map(|(x, y)| (pixel(x, y) / total) as f32).collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut scratch = BlurScratch::default();
        for (size, sigma) in [(37, 0.1), (37, 0.5), (16, 1.0), (20, 1.4), (33, 2.0), (3, 2.0), (1, 1.0), (24, 3.0)] {
            let mut plane: Vec<f32> = (0..size * size).map(|i| ((i * 7919) % 256) as f32).collect();
            let expected = reference(&plane, size, sigma);
            blur(&mut plane, size, sigma, 0.5, 3.0, &mut scratch);
            for (value, expected) in plane.iter().zip(expected) {
                assert!((value - (expected * 0.5 + 3.0)).abs() < 0.01, "size {size} sigma {sigma}: {value} for {expected}");
            }
        }
    }

    #[test]
    fn wide_blur_smooths_and_keeps_the_mean_level() {
        let mut plane: Vec<f32> = (0..64 * 64).map(|i| if (i / 64 + i) % 2 == 0 { 255.0 } else { 0.0 }).collect();
        blur(&mut plane, 64, 2.0, 1.0, 0.0, &mut BlurScratch::default());
        let inner = (8..56).flat_map(|y| (8..56).map(move |x| y * 64 + x));
        assert!(inner.map(|i| plane[i]).all(|v| (v - 127.5).abs() < 1.0));
    }
}
