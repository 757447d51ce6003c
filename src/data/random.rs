//! Random numbers that depend on their key alone.
//!
//! A key is a list of numbers under a purpose; its BLAKE3 digest seeds ChaCha8. Numbers are made here by
//! fixed conversions, so that no change in a library's distributions can change a run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The digest of a purpose and a list of numbers: the root of all randomness in the data pipeline.
pub fn key(purpose: &str, numbers: &[u64]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finalize()
}

/// A stream of random numbers of one key.
#[derive(Debug, Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of a purpose and a list of numbers.
    pub fn new(purpose: &str, numbers: &[u64]) -> Self {
        Self(ChaCha8Rng::from_seed(*key(purpose, numbers).as_bytes()))
    }

    /// Uniform in [0, 1): a multiple of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform between `low` and `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`. Draws one number whatever `p` is.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// Uniform over `0..n` (with a bias below n / 2³²); 0 for `n` = 0.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fixes_its_stream() {
        let draw = |numbers: &[u64]| {
            let mut random = Random::new("test", numbers);
            [random.unit(), random.unit(), random.unit()]
        };
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        assert_ne!(Random::new("a", &[1]).unit(), Random::new("b", &[1]).unit());
    }

    #[test]
    fn units_are_uniform() {
        let mut random = Random::new("test", &[7]);
        let values: Vec<f32> = (0..20_000).map(|_| random.unit()).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        let mean = values.iter().sum::<f32>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        let mut seen = [0u32; 5];
        (0..20_000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|&n| (3700..4300).contains(&n)), "{seen:?}");
    }
}
