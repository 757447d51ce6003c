//! Initial weights from the seed alone: any slice of any tensor can be computed by itself.
//!
//! A counter-based generator (Philox-like in use, BLAKE3 for the key): the value of element `i` is a
//! function of (seed, tensor name, i), so that the same weights come out whatever the units, the
//! shards, the ranks or the backend.

use std::ops::Range;

use super::layout::Init;

/// 64 random bits of a (key, counter): two rounds of SplitMix64's finaliser (Steele et al., 2014).
fn bits(key: u64, counter: u64) -> u64 {
    let mut z = key ^ counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    z
}

/// Uniform in [0, 1) with 53 bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn key(seed: u64, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("everstep initial weights");
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

/// Box–Muller: two uniforms make a normal.
fn normal(key: u64, index: usize) -> f64 {
    let radius = (-2.0 * (1.0 - unit(bits(key, 2 * index as u64))).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(bits(key, 2 * index as u64 + 1))).cos()
}

fn uniform(key: u64, index: usize, bound: f64) -> f64 {
    (2.0 * unit(bits(key, index as u64)) - 1.0) * bound
}

/// Initial values of the elements `range` of a tensor whose rows have `row` values.
pub fn values(seed: u64, name: &str, init: Init, row: usize, range: Range<usize>) -> Vec<f32> {
    let key = key(seed, name);
    match init {
        Init::Constant(value) => vec![value; range.len()],
        Init::Normal(std) => range.map(|i| (normal(key, i) * std) as f32).collect(),
        Init::Uniform(bound) => range.map(|i| uniform(key, i, bound) as f32).collect(),
        Init::UnitRows(bound) => {
            let mut values = Vec::with_capacity(range.len());
            let mut at = range.start;
            while at < range.end {
                let first = at / row * row;
                let norm = (first..first + row).map(|i| uniform(key, i, bound).powi(2)).sum::<f64>().sqrt();
                let end = range.end.min(first + row);
                values.extend((at..end).map(|i| (uniform(key, i, bound) / norm) as f32));
                at = end;
            }
            values
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_is_the_whole_cut() {
        for init in [Init::Normal(0.1), Init::Uniform(0.5), Init::UnitRows(0.3), Init::Constant(2.0)] {
            let whole = values(7, "a", init, 5, 0..40);
            for range in [0..40, 3..4, 4..26, 39..40, 8..8] {
                assert_eq!(values(7, "a", init, 5, range.clone()), whole[range], "{init:?}");
            }
        }
    }

    #[test]
    fn distributions_have_their_moments() {
        let n = 200_000;
        let normal = values(1, "w", Init::Normal(0.5), 1, 0..n);
        let mean = normal.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let var = normal.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
        let kurtosis = normal.iter().map(|v| (f64::from(*v) - mean).powi(4)).sum::<f64>() / n as f64 / var.powi(2);
        assert!(mean.abs() < 0.005 && (var - 0.25).abs() < 0.004 && (kurtosis - 3.0).abs() < 0.08, "{mean} {var} {kurtosis}");
        let uniform = values(1, "w", Init::Uniform(0.5), 1, 0..n);
        let var = uniform.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
        assert!((var - 1.0 / 12.0).abs() < 0.001 && uniform.iter().all(|v| v.abs() <= 0.5), "{var}");
    }

    #[test]
    fn rows_have_length_one() {
        for row in values(3, "p", Init::UnitRows(0.1), 16, 0..160).chunks(16) {
            assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn tensors_and_seeds_differ() {
        let a = values(1, "a", Init::Normal(1.0), 1, 0..8);
        assert_ne!(a, values(1, "b", Init::Normal(1.0), 1, 0..8));
        assert_ne!(a, values(2, "a", Init::Normal(1.0), 1, 0..8));
    }
}
