//! The order of the samples of a pass, without a table of samples.
//!
//! Two keyed permutations: the shards of the source are permuted, then the samples inside each window of a
//! few consecutive permuted shards. A reader therefore works in a few shards at a time (object storage is
//! read in runs) and still mixes samples across shards. A folder or one tar is a single shard: a full shuffle.
//!
//! `sample(pass, position)` is a pure function of (seed, pass, position, samples per shard). Memory is
//! O(shards); nothing grows with the number of samples.

use std::sync::{Arc, Mutex, PoisonError};

use crate::data::random::key;

/// Shards of a window unless told otherwise.
pub const WINDOW_SHARDS: usize = 16;

/// The order of the samples of every pass.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    /// Index of the first sample of each shard, and the number of samples at the end.
    firsts: Vec<u64>,
    window: usize,
    latest: Mutex<Option<Arc<PassOrder>>>,
}

/// The shards of one pass in their order.
#[derive(Debug)]
struct PassOrder {
    pass: u64,
    /// Permuted shards.
    shards: Vec<usize>,
    /// Position of the first sample of each permuted shard, and the number of samples at the end.
    starts: Vec<u64>,
}

impl Order {
    /// The order under `seed` of a source with `samples_per_shard`, mixing `window_shards` shards at a time (at least 1).
    pub fn new(seed: u64, samples_per_shard: &[u64], window_shards: usize) -> Self {
        Self { seed, firsts: prefix_sums(samples_per_shard.iter().copied()), window: window_shards.max(1), latest: Mutex::new(None) }
    }

    /// Number of samples.
    pub fn len(&self) -> u64 {
        self.firsts.last().copied().unwrap_or(0)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `position` of a pass; each sample has exactly one position in `0..len`.
    ///
    /// # Panics
    /// If `position` is not below [`Order::len`].
    pub fn sample(&self, pass: u64, position: u64) -> u64 {
        assert!(position < self.len(), "position {position} of a pass of {} samples", self.len());
        let order = self.pass(pass);
        // The shard that holds the position if nothing were mixed decides the window.
        let shard = order.starts.partition_point(|&start| start <= position) - 1;
        let window = shard / self.window;
        let first = window * self.window;
        let last = (first + self.window).min(order.shards.len());
        let (start, end) = (order.starts[first], order.starts[last]);
        let mixed = start + Permutation::new(end - start, "order of samples", &[self.seed, pass, window as u64]).apply(position - start);
        let shard = order.starts.partition_point(|&start| start <= mixed) - 1;
        self.firsts[order.shards[shard]] + (mixed - order.starts[shard])
    }

    fn pass(&self, pass: u64) -> Arc<PassOrder> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = latest.as_ref().filter(|order| order.pass == pass) {
            return Arc::clone(order);
        }
        let count = self.firsts.len() as u64 - 1;
        let permutation = Permutation::new(count, "order of shards", &[self.seed, pass]);
        let shards: Vec<usize> = (0..count).map(|i| permutation.apply(i) as usize).collect();
        let starts = prefix_sums(shards.iter().map(|&shard| self.firsts[shard + 1] - self.firsts[shard]));
        let order = Arc::new(PassOrder { pass, shards, starts });
        *latest = Some(Arc::clone(&order));
        order
    }
}

fn prefix_sums(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sums = vec![0];
    let mut sum = 0u64;
    sums.extend(counts.map(|count| {
        sum += count;
        sum
    }));
    sums
}

const ROUNDS: usize = 6;

/// A keyed permutation of `0..n`: a balanced Feistel network over the next even number of bits; values at or
/// above `n` walk on along their cycle (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
#[derive(Debug, Clone)]
struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    fn new(n: u64, purpose: &str, numbers: &[u64]) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let digest = key(purpose, numbers);
        let word = u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"));
        let other = u64::from_le_bytes(*digest.as_bytes().last_chunk().expect("a digest has 32 bytes"));
        let keys = std::array::from_fn(|round| mix(word ^ mix(other.wrapping_add(round as u64))));
        Self { n, half_bits: bits.div_ceil(2).max(1), keys }
    }

    fn apply(&self, value: u64) -> u64 {
        debug_assert!(value < self.n);
        let mut value = value;
        loop {
            value = self.encrypt(value);
            if value < self.n {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in &self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits with full avalanche.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The data set is smaller than one global batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data has {samples} images, fewer than one global batch of {lanes} lanes × {images_per_lane} images; lower images_per_lane or lanes, or give more images"
)]
pub struct TooFewSamples {
    samples: u64,
    lanes: u32,
    images_per_lane: u32,
}

/// How steps and lanes cut a pass: the global batch of a step takes consecutive positions, its lanes consecutive
/// slices of them. The last incomplete batch of a pass is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    lanes: u32,
    images_per_lane: u32,
    steps_per_pass: u64,
}

impl Batches {
    /// The cut of a data set of `samples` into global batches of `lanes` × `images_per_lane`.
    ///
    /// # Errors
    /// When not even one batch is full.
    pub fn new(samples: u64, lanes: u32, images_per_lane: u32) -> Result<Self, TooFewSamples> {
        let batch = u64::from(lanes) * u64::from(images_per_lane);
        match samples.checked_div(batch) {
            Some(steps_per_pass) if steps_per_pass > 0 => Ok(Self { lanes, images_per_lane, steps_per_pass }),
            _ => Err(TooFewSamples { samples, lanes, images_per_lane }),
        }
    }

    /// Full global batches of a pass.
    pub fn steps_per_pass(&self) -> u64 {
        self.steps_per_pass
    }

    /// Images of one lane.
    pub fn images_per_lane(&self) -> u32 {
        self.images_per_lane
    }

    /// The pass and the position in it of a step's lane's image `slot`.
    pub fn position(&self, step: u64, lane: u32, slot: u32) -> (u64, u64) {
        debug_assert!(lane < self.lanes && slot < self.images_per_lane);
        let per_lane = u64::from(self.images_per_lane);
        let batch = per_lane * u64::from(self.lanes);
        let in_pass = step % self.steps_per_pass;
        (step / self.steps_per_pass, in_pass * batch + u64::from(lane) * per_lane + u64::from(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pass(order: &Order, pass: u64) -> Vec<u64> {
        (0..order.len()).map(|position| order.sample(pass, position)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_sample_has_one_position(seed: u64, number in 0..1000u64, window in 1..6usize, shards in prop::collection::vec(0..90u64, 1..12)) {
            let order = Order::new(seed, &shards, window);
            let mut samples = pass(&order, number);
            samples.sort_unstable();
            prop_assert!(samples.into_iter().eq(0..shards.iter().sum::<u64>()));
        }
    }

    #[test]
    fn the_order_is_pure_and_differs_by_seed_and_pass() {
        let order = Order::new(1, &[300, 200, 500], 2);
        let first = pass(&order, 0);
        let second = pass(&order, 1);
        assert_ne!(first, second);
        assert_eq!(pass(&order, 0), first, "asking for pass 1 must not change pass 0");
        assert_ne!(pass(&Order::new(2, &[300, 200, 500], 2), 0), first);
        // A single shard has no order of shards to tell passes apart.
        let single = Order::new(1, &[500], 1);
        assert_ne!(pass(&single, 0), pass(&single, 1));
    }

    #[test]
    fn samples_are_mixed_evenly() {
        let order = Order::new(5, &[4096], 16);
        let samples = pass(&order, 0);
        // The mean distance of two neighbours of a random order is n / 3.
        let distance = samples.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum::<u64>() as f64 / 4095.0;
        assert!((distance - 4096.0 / 3.0).abs() < 60.0, "mean distance of neighbours {distance}");
        let fixed = samples.iter().enumerate().filter(|&(i, &sample)| i as u64 == sample).count();
        assert!(fixed < 8, "{fixed} samples stayed in place, about 1 is expected");
        // Each sixteenth of the pass draws evenly from each sixteenth of the samples: χ² over 256 cells.
        let mut cells = [0f64; 256];
        samples.iter().enumerate().for_each(|(i, &sample)| cells[i / 256 * 16 + sample as usize / 256] += 1.0);
        let chi2: f64 = cells.iter().map(|n| (n - 16.0) * (n - 16.0) / 16.0).sum();
        assert!((140.0..320.0).contains(&chi2), "χ² {chi2} with about 225 degrees of freedom");
    }

    #[test]
    fn a_window_stays_in_its_shards() {
        let order = Order::new(9, &[100; 40], 4);
        let samples = pass(&order, 3);
        for window in samples.chunks(400) {
            let shards: std::collections::BTreeSet<u64> = window.iter().map(|sample| sample / 100).collect();
            assert_eq!(shards.len(), 4, "a window of four shards reads four shards");
        }
        let shards_of = |pass_number| -> Vec<u64> { pass(&order, pass_number).chunks(400).map(|w| w[0] / 100).collect() };
        assert_ne!(shards_of(3), shards_of(4), "shards are permuted anew in each pass");
    }

    #[test]
    fn batches_take_consecutive_positions_and_drop_the_rest() {
        let batches = Batches::new(29, 3, 4).unwrap();
        assert_eq!(batches.steps_per_pass(), 2);
        let positions = |step| -> Vec<(u64, u64)> {
            (0..3).flat_map(|lane| (0..4).map(move |slot| (lane, slot))).map(|(lane, slot)| batches.position(step, lane, slot)).collect()
        };
        assert_eq!(positions(0), (0..12).map(|p| (0, p)).collect::<Vec<_>>());
        assert_eq!(positions(1), (12..24).map(|p| (0, p)).collect::<Vec<_>>());
        assert_eq!(positions(2), (0..12).map(|p| (1, p)).collect::<Vec<_>>());
        let error = Batches::new(11, 3, 4).unwrap_err().to_string();
        assert!(error.contains("11 images") && error.contains("images_per_lane"), "{error}");
        assert!(Batches::new(11, 0, 4).is_err());
    }
}
