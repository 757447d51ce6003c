//! What is computed in a simulation: each shard is one number that depends on everything that a real one depends on.
//!
//! With `x[k]` the content of shard `k` at step `s`, over all shards and lanes, in wrapping arithmetic:
//! `W = Σ mix(k, x[k])` (what ranks gather), `G = Σ mix(lane, s, W, first sample of the lane)` (the mean gradient),
//! `P = Σ mix(k, G)` (the partial sums), and `x'[k] = mix(x[k], G, P, k, s)`. Sums do not depend on placement and any lane
//! that is left out, run twice or run on other weights shows in the next state.

use std::collections::BTreeMap;

use everstep_actors::protocol::ids::{ShardId, UnitId};

/// Mixes two numbers into one (the finalizer of splitmix64).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.rotate_left(32).wrapping_add(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The digest of a shard's content.
pub(super) fn digest(content: u64) -> u64 {
    mix(content, 7)
}

/// The n-th shard.
pub(super) fn shard(n: u32) -> ShardId {
    ShardId { unit: UnitId(n / 4), index: n % 4 }
}

/// The place of a shard among all.
pub(super) fn number(shard: ShardId) -> u64 {
    u64::from(shard.unit.0) * 4 + u64::from(shard.index)
}

/// Whether a shard stands for buffers, of which the last of each unit has some.
pub(super) fn is_buffer(shard: ShardId) -> bool {
    shard.index == 3
}

/// A shard's content before the first step.
pub(super) fn seed(shard: ShardId) -> u64 {
    mix(number(shard), 1)
}

/// A shard's part of the digest of a state.
pub(super) fn of_state(shard: ShardId, digest: u64) -> u64 {
    mix(number(shard), digest)
}

/// A shard's part of the weights' sum.
pub(super) fn weight(shard: ShardId, content: u64) -> u64 {
    mix(number(shard), content)
}

/// A lane's gradient.
pub(super) fn gradient(lane: u64, step: u64, weights: u64, sample: u64) -> u64 {
    mix(mix(lane, step), mix(weights, sample))
}

/// A shard's part of the global sums.
pub(super) fn partial(shard: ShardId, gradient: u64) -> u64 {
    mix(number(shard), gradient)
}

/// A shard's new content.
pub(super) fn update(content: u64, gradient: u64, sums: u64, shard: ShardId, step: u64) -> u64 {
    mix(mix(content, gradient), mix(sums, mix(number(shard), step)))
}

/// The digest of the state after each number of steps up to `steps`, in a run in which nothing fails.
pub(super) fn undisturbed(shards: u32, lanes: u32, samples_per_lane: u32, steps: u64) -> BTreeMap<u64, u64> {
    let ids: Vec<ShardId> = (0..shards).map(shard).collect();
    let mut contents: Vec<u64> = ids.iter().map(|id| seed(*id)).collect();
    let sum = |contents: &[u64]| ids.iter().zip(contents).fold(0u64, |sum, (id, content)| sum.wrapping_add(weight(*id, *content)));
    let state =
        |contents: &[u64]| ids.iter().zip(contents).fold(0u64, |sum, (id, content)| sum.wrapping_add(of_state(*id, digest(*content))));
    let mut weights = sum(&contents);
    let mut digests = BTreeMap::from([(0, state(&contents))]);
    for step in 0..steps {
        let first = |lane: u64| (step * u64::from(lanes) + lane) * u64::from(samples_per_lane);
        let mean = (0..u64::from(lanes)).fold(0u64, |sum, lane| sum.wrapping_add(gradient(lane, step, weights, first(lane))));
        let sums = ids.iter().fold(0u64, |sum, id| sum.wrapping_add(partial(*id, mean)));
        ids.iter().zip(&mut contents).for_each(|(id, content)| *content = update(*content, mean, sums, *id, step));
        weights = sum(&contents);
        digests.insert(step + 1, state(&contents));
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_every_shard_shows_in_the_digest() {
        let digests = undisturbed(12, 8, 4, 20);
        let different: std::collections::BTreeSet<&u64> = digests.values().collect();
        assert_eq!(different.len(), 21);
        assert_ne!(undisturbed(12, 8, 4, 1)[&1], undisturbed(12, 9, 4, 1)[&1]);
        assert_ne!(undisturbed(12, 8, 4, 1)[&1], undisturbed(12, 8, 5, 1)[&1]);
        assert!((0..12).all(|n| number(shard(n)) == u64::from(n)));
    }
}
