//! Draws from the one seeded stream of a simulation.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// A number below `n`; 0 where `n` is 0.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    // The bias of the remainder is below 2^-40 for all sizes used here.
    (rng.next_u64() % n.max(1) as u64) as usize
}

/// True with this probability.
pub(super) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    probability > 0.0 && (rng.next_u32() as f64) < probability * f64::from(u32::MAX)
}

/// A time from 0 up to `most`.
pub(super) fn up_to(rng: &mut ChaCha8Rng, most: Duration) -> Duration {
    Duration::from_nanos(rng.next_u64() % (most.as_nanos() as u64).max(1))
}
