//! Loops that compilers turn into vector instructions, and an exponential that goes into them.
//!
//! Sums run over [`WIDTH`] independent accumulators whatever the CPU's registers hold, and nothing
//! is contracted into fused multiply-adds: wider registers change the speed, never the bits.

/// Accumulators of a sum.
const WIDTH: usize = 32;

/// eˣ within 2 units in the last place; 0 below -87.33 and infinite above 88.37, NaN stays NaN.
///
/// Cody and Waite's two-step reduction to |r| ≤ ln 2 / 2 and the polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOW: f32 = -87.33;
    const HIGH: f32 = 88.37;
    // Adding and taking off 1.5 · 2²³ rounds to the nearest integer, and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut y = 1.987_569_1e-4_f32;
    y = y * r + 1.398_199_9e-3;
    y = y * r + 8.333_452e-3;
    y = y * r + 4.166_579_6e-2;
    y = y * r + 1.666_666_5e-1;
    y = y * r + 0.5;
    y = y * (r * r) + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let y = y * power;
    let y = if x < LOW { 0.0 } else { y };
    if x > HIGH { f32::INFINITY } else { y }
}

#[inline(always)]
fn folded(mut parts: [f32; WIDTH], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = WIDTH;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            parts[i] = join(parts[i], parts[i + width]);
        }
    }
    parts[0]
}

/// Σ aᵢ bᵢ.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dots([a], b)[0]
}

/// Σ aᵢ bᵢ for several `a` with one pass over `b`.
#[inline(always)]
pub(crate) fn dots<const N: usize>(a: [&[f32]; N], b: &[f32]) -> [f32; N] {
    let a = a.map(|a| &a[..b.len()]);
    let (b, tail) = b.as_chunks::<WIDTH>();
    let mut parts = [[0.0f32; WIDTH]; N];
    for (i, b) in b.iter().enumerate() {
        for (part, a) in parts.iter_mut().zip(a) {
            let a = &a[i * WIDTH..(i + 1) * WIDTH];
            for j in 0..WIDTH {
                part[j] += a[j] * b[j];
            }
        }
    }
    let mut out = [0.0; N];
    for ((out, parts), a) in out.iter_mut().zip(parts).zip(a) {
        *out = folded(parts, |x, y| x + y);
        for (a, b) in a[b.len() * WIDTH..].iter().zip(tail) {
            *out += a * b;
        }
    }
    out
}

/// Σ aᵢ.
#[inline(always)]
pub(crate) fn total(a: &[f32]) -> f32 {
    let (chunks, tail) = a.as_chunks::<WIDTH>();
    let mut parts = [0.0f32; WIDTH];
    for chunk in chunks {
        for j in 0..WIDTH {
            parts[j] += chunk[j];
        }
    }
    tail.iter().fold(folded(parts, |x, y| x + y), |sum, x| sum + x)
}

/// The largest value; -∞ of nothing. NaN is passed over.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x { y } else { x };
    let (chunks, tail) = a.as_chunks::<WIDTH>();
    let mut parts = [f32::NEG_INFINITY; WIDTH];
    for chunk in chunks {
        for j in 0..WIDTH {
            parts[j] = larger(parts[j], chunk[j]);
        }
    }
    tail.iter().fold(folded(parts, larger), |top, &x| larger(top, x))
}

/// Scales a row to Euclidean length 1, or by 10¹² if it is shorter than 10⁻¹² (as PyTorch's `normalize`).
#[inline(always)]
pub(crate) fn normalise(row: &mut [f32]) {
    let length = dot(row, row).sqrt();
    let scale = 1.0 / if length < 1e-12 { 1e-12 } else { length };
    row.iter_mut().for_each(|v| *v *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{vectorised, widest};

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = -87.33 + i as f32 * (175.69 / 2e6);
            let want = f64::from(x).exp();
            let ulp = f64::from(want as f32 * f32::EPSILON);
            worst = worst.max((f64::from(exp(x)) - want).abs() / ulp);
        }
        assert!(worst <= 2.0, "{worst} units");
    }

    #[test]
    fn exp_at_the_borders() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    /// The vector form is the scalar one: no contraction, no other order.
    #[test]
    fn vector_width_does_not_change_the_bits() {
        let a: Vec<f32> = (0..1003).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let b: Vec<f32> = (0..1003).map(|i| ((i * 53 % 89) as f32 - 40.0) / 3.0).collect();
        let narrow = (dot(&a, &b), total(&a), max(&b), a.iter().map(|x| exp(*x)).collect::<Vec<_>>());
        let loops = || (dot(&a, &b), total(&a), max(&b), a.iter().map(|x| exp(*x)).collect::<Vec<_>>());
        let wide = vectorised(loops);
        assert_eq!(wide, widest(loops));
        assert_eq!(narrow, wide);
        let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!((f64::from(narrow.0) - exact).abs() < 1e-5 * exact.abs().max(1e3), "{} {exact}", narrow.0);
        assert_eq!(narrow.2, b.iter().copied().fold(f32::MIN, f32::max));
    }
}
