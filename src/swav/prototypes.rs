//! Prototypes live on the unit sphere.

use super::math::normalise;
use crate::simd::vectorised;

/// Scales each row of `dim` values to Euclidean length 1, in place. A row of zeros stays one.
///
/// # Panics
/// If `values` are not whole rows.
pub fn renormalise(values: &mut [f32], dim: usize) {
    assert!(dim > 0 && values.len().is_multiple_of(dim), "prototypes are whole rows of {dim} values");
    vectorised(
        #[inline(always)]
        || values.chunks_exact_mut(dim).for_each(normalise),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_length_one() {
        let mut values: Vec<f32> = (0..5 * 37).map(|i| (i as f32 * 0.7).sin() * 10f32.powi(i / 37 - 2)).collect();
        values[37..74].fill(0.0);
        let before = values.clone();
        renormalise(&mut values, 37);
        for (row, (new, old)) in values.chunks(37).zip(before.chunks(37)).enumerate() {
            let length = new.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            assert!((length - if row == 1 { 0.0 } else { 1.0 }).abs() < 1e-6, "row {row}: {length}");
            assert!(new.iter().zip(old).all(|(n, o)| n * o >= 0.0));
        }
    }
}
